"""A web service that does not use syncprims, and deadlocks: under the watch it reports this and goes on.

The service is an ordinary WSGI application. Two of its requests acquire the same two locks in opposite orders. In
production you would run it like this, and collect the reports from the file::

    python -m syncprims.watch --json hangs.jsonl --break -m waitress --listen=127.0.0.1:8080 watched_service:app
    SYNCPRIMS_WATCH="--json hangs.jsonl --break" gunicorn --threads 4 --preload watched_service:app

(gunicorn reads the variable if its configuration file, or the application, imports syncprims first.)

Run it: ``python watched_service.py`` serves on a free port, sends itself both requests at once, and prints the report.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import syncprims.watch

REPORTS = Path(tempfile.mkdtemp()) / "hangs.jsonl"

# Before the locks below are made. With `breaks` one request fails, instead of all that come after it.
watching = syncprims.watch.install(after=0.3, json=REPORTS, file="/dev/null", breaks=True)

stock = threading.Lock()
orders = threading.Lock()
# So that the bad moment always comes.
both_hold_one = threading.Barrier(2)


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """``/ship`` acquires the stock's lock and then that of the orders; ``/cancel`` does the opposite."""
    first, second = (stock, orders) if environ["PATH_INFO"] == "/ship" else (orders, stock)
    status = "200 OK"
    try:
        with first:
            both_hold_one.wait(10)
            with second:
                pass
    except syncprims.DeadlockError:
        status = "503 Service Unavailable"
    start_response(status, [("Content-Type", "text/plain")])
    return [b"done\n" if status.startswith("200") else b"try again\n"]


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, like waitress and gunicorn."""


class Quiet(WSGIRequestHandler):
    """It logs no requests."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the standard library
        """Log nothing."""


def ask(port: int, path: str) -> int:
    """Send a request and return its status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def main() -> None:
    """Serve, send both requests, and print the result."""
    with make_server("127.0.0.1", 0, app, Server, Quiet) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        with ThreadPoolExecutor(2) as clients:
            statuses = sorted(clients.map(lambda path: ask(server.server_port, path), ["/ship", "/cancel"]))
        server.shutdown()
        serving.join()
    watching.uninstall()
    print("the two requests got", statuses)
    for line in REPORTS.read_text().splitlines():
        report = json.loads(line)
        print(f"{report['heading']}: {report['summary']}")
        for thread in report["threads"]:
            (holder,) = thread["up_to"]
            taken = holder["taken_at"]
            print(f"  {thread['name']} waits for {thread['waits_for']}", end="")
            print(f", held by {holder['name']} since line {taken['line']}")
        print(f"  {report['advice']}")


if __name__ == "__main__":
    main()
