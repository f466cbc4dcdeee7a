"""A cache without a stampede: readers that miss the same page at once share one request to the slow server."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from syncprims import AtomicCounter, Guarded, SingleFlight, once
from syncprims.testing import Threads


class Cache:
    """Pages by their address; expired ones are fetched again."""

    def __init__(self) -> None:
        self._pages: Guarded[dict[str, str]] = Guarded({}, timeout=5.0, name="pages")
        self._flight: SingleFlight[str, str] = SingleFlight(timeout=10.0, name="fetches")

    def get(self, address: str) -> str:
        """Return a page; fetch it if it is missing."""
        with self._pages as pages:
            page = pages.get(address)
        return self._flight.do(address, lambda: self._fetch(address)) if page is None else page

    def expire(self) -> None:
        """Forget all pages."""
        with self._pages as pages:
            pages.clear()

    def _fetch(self, address: str) -> str:
        with self._pages as pages:
            page = pages.get(address)
        if page is None:  # otherwise another reader's call has ended since this one looked
            page = server().get(address)
            with self._pages as pages:
                pages[address] = page
        return page


@dataclass
class Server:
    """A slow server: it answers when all the readers have come, so that they come at the same time."""

    requests: AtomicCounter
    readers: AtomicCounter

    def get(self, address: str) -> str:
        """Answer."""
        self.requests.increment()
        self.readers.wait_until(READERS, timeout=10.0)
        return f"page {address}"


@once
def server() -> Server:
    """Connect when the first page is requested."""
    print("connecting")
    return Server(AtomicCounter(), AtomicCounter())


READERS = 20


def main() -> None:
    """Let many readers want the same two pages at once."""
    cache = Cache()
    start = threading.Barrier(READERS)

    def read(address: str) -> str:
        start.wait(10.0)
        server().readers.increment()
        return cache.get(address)

    with Threads() as threads:
        readers = [threads.start(read, f"/{number % 2}") for number in range(READERS)]
    pages = sorted({reader.result() for reader in readers})
    print(f"{READERS} readers have {pages}, by {server().requests} requests")
    cache.expire()
    cache.get("/0")
    print(f"after the pages expired, by {server().requests}")


if __name__ == "__main__":
    main()
