"""A crawler with a rate limit: it visits every page of a local server once, with a maximum of requests a second.

The threads of a pool fetch the pages. A callback decides which pages are new: callbacks run one at a time, so this
needs no lock. The callback submits the new pages, and the pool is done when nothing is left, including the links on the
last page. A pacer limits the rate; its lock names the thread that holds it.

Run it: ``python polite_crawler.py``. It starts its own server, on this machine only.
"""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic, sleep
from urllib.error import HTTPError
from urllib.request import urlopen

from syncprims import AtomicCounter, CallbackPool, TimedLock

SITE = {
    "/": ["/about", "/blog"],
    "/about": ["/", "/team"],
    "/blog": ["/blog/1", "/blog/2", "/missing"],
    "/blog/1": ["/blog", "/blog/2"],
    "/blog/2": ["/blog", "/blog/1"],
    "/team": ["/about"],
}
PER_SECOND = 50


class Site(BaseHTTPRequestHandler):
    """Serves the pages of `SITE`, which consist of links."""

    def do_GET(self) -> None:
        """Answer with the links of the page, or with 404."""
        links = SITE.get(self.path)
        body = "".join(f'<a href="{link}">' for link in links or ()).encode()
        self.send_response(200 if links else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as above
        """Keep quiet."""


class Pacer:
    """Lets callers through one after the other, at a limited rate."""

    def __init__(self, per_second: float) -> None:
        self._pause = 1 / per_second
        self._lock = TimedLock(timeout=10.0, name="pacer")
        # Guarded by _lock:
        self._next = monotonic()

    def wait(self) -> None:
        """Return when it is this caller's time."""
        with self._lock:
            mine = max(self._next, monotonic())
            self._next = mine + self._pause
        sleep(max(0.0, mine - monotonic()))  # not under the lock, so that others can take their numbers


class Crawler:
    """Visits all pages that can be reached from the first one."""

    def __init__(self, site: str, pool: CallbackPool) -> None:
        self.site = site
        self.pool = pool
        self.pacer = Pacer(PER_SECOND)
        self.fetched = AtomicCounter(name="fetched")
        self.known: set[str] = set()  # used only by callbacks, once the first page has been submitted
        self.missing: list[str] = []

    def visit(self, path: str) -> None:
        """Fetch a page, unless it is known, and all pages that it links to."""
        if path not in self.known:
            self.known.add(path)
            self.pool.apply_async(
                self.fetch, (path,), callback=self.follow, error_callback=lambda error: self.give_up(path, error)
            )

    def fetch(self, path: str) -> list[str]:
        """Return the links of a page, in a thread of the pool."""
        self.pacer.wait()
        with urlopen(self.site + path, timeout=10.0) as answer:
            text: str = answer.read().decode()
        self.fetched.increment()
        return re.findall(r'href="([^"]+)"', text)

    def follow(self, links: list[str]) -> None:
        """Visit the links; the callback of `fetch`."""
        for link in links:
            self.visit(link)

    def give_up(self, path: str, error: BaseException) -> None:
        """Note a missing page; the pool reports any other error."""
        if not isinstance(error, HTTPError):
            raise error
        error.close()
        self.missing.append(path)


def main() -> None:
    """Crawl the little site and print what was found."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with CallbackPool("thread", max_workers=4) as pool:
            crawler = Crawler(f"http://127.0.0.1:{server.server_port}", pool)
            started = monotonic()
            crawler.visit("/")
            pool.join(timeout=30.0)
        seconds = monotonic() - started
    finally:
        server.shutdown()
        server.server_close()
    assert crawler.fetched.value == len(SITE), crawler.fetched
    assert seconds >= (len(crawler.known) - 1) / PER_SECOND, seconds
    print(f"fetched {crawler.fetched} pages, each once, at no more than {PER_SECOND} a second")
    print(f"not there: {', '.join(crawler.missing)}")


if __name__ == "__main__":
    main()
