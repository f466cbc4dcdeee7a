"""A web service that runs jobs in a pool, and shuts down gracefully.

``POST /jobs`` queues a job, ``GET /stats`` returns the pool's numbers. After SIGTERM or Ctrl-C it accepts no more jobs
(503), finishes the accepted ones within ten seconds, prints how many are left if that was not enough, and exits.

Run it: ``python web_worker.py`` sends itself a few jobs and then the signal; ``python web_worker.py 8000`` serves on
that port until you end it.
"""

from __future__ import annotations

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from syncprims import AtomicCounter, CallbackPool, PoolClosedError, PoolTimeoutError

PATIENCE = 10.0  # seconds that the jobs get at the end


def work(text: str) -> str:
    """The job: any function."""
    return text[::-1]


class Service:
    """The pool, the number of finished jobs, and the server in front."""

    def __init__(self, port: int) -> None:
        self.finished = AtomicCounter(name="finished jobs")
        self.pool = CallbackPool("thread", max_workers=4, max_pending=100, name="jobs")
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                try:
                    service.pool.apply_async(work, (text,), callback=lambda _result: service.finished.increment())
                except PoolClosedError:
                    self._answer(503, {"error": "shutting down"})
                else:
                    self._answer(202, {"queued": text})

            def do_GET(self) -> None:
                stats = service.pool.stats
                self._answer(200, {"pending": stats.pending, "done": stats.done, "failed": stats.failed})

            def _answer(self, status: int, facts: dict[str, object]) -> None:
                body = json.dumps(facts).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as above
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, name="server", daemon=True).start()

    def drain(self) -> bool:
        """Accept no more jobs, and finish the accepted ones; return whether there was time for all."""
        try:
            self.pool.close(timeout=PATIENCE)
        except PoolTimeoutError as error:
            print(error)
            left = self.pool.abort()
            print(f"{len(left)} jobs were still running")
            return False
        return True

    def stop(self) -> None:
        """Close the door."""
        self.server.shutdown()
        self.server.server_close()


def post(address: str, text: str) -> int:
    """Queue a job, and return the HTTP status."""
    try:
        with urlopen(Request(f"{address}/jobs", data=text.encode()), timeout=10.0) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def main() -> int:
    """Serve until a signal comes, then shut down."""
    demo = len(sys.argv) < 2
    end = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    service = Service(0 if demo else int(sys.argv[1]))
    try:
        if demo:
            statuses = {post(service.address, f"job {job}") for job in range(20)}
            assert statuses == {202}, statuses
            signal.raise_signal(signal.SIGTERM)
        else:
            print(f"serving at {service.address}; Ctrl-C ends it")
        while not end.wait(1.0):
            pass
        in_time = service.drain()
        if demo:
            print(f"a job that comes too late gets {post(service.address, 'late')}")
            assert service.finished.value == 20, service.finished
        print(f"{service.finished} jobs finished, {service.pool.stats.pending} lost")
        return 0 if in_time else 1
    finally:
        service.stop()


if __name__ == "__main__":
    sys.exit(main())
