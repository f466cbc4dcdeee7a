"""A pool of connections: a semaphore limits them, and names their holders if none is free in time.

Run it: ``python connection_pool.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Barrier, Event

from syncprims import AtomicCounter, CallbackPool, LockTimeoutError, TimedSemaphore


class Connection:
    """A connection: expensive to make, and a server allows only a few."""

    made = AtomicCounter(name="connections made")

    def __init__(self) -> None:
        self.number = self.made.increment()

    def query(self, text: str) -> str:
        """Answer, as a server would."""
        return f"{text!r} answered by connection {self.number}"


class Connections:
    """A limited number of connections, made on demand and used again."""

    def __init__(self, most: int, timeout: float) -> None:
        self._permits = TimedSemaphore(most, timeout=timeout, name="connections")
        self._idle: deque[Connection] = deque()

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """Give a block a connection; raise LockTimeoutError if none is free in time."""
        with self._permits:
            connection = self._idle.pop() if self._idle else Connection()
            try:
                yield connection
            finally:
                self._idle.append(connection)


def main() -> None:
    """Let twelve threads share three connections; then hold all of them, and read the holders' names."""
    connections = Connections(most=3, timeout=10.0)

    def ask(number: int) -> str:
        with connections.use() as connection:
            return connection.query(f"question {number}")

    with CallbackPool("thread", max_workers=12, name="askers") as pool:
        answers = list(pool.map(ask, range(60)))
    print(f"{len(answers)} questions, the last one {answers[-1].partition(' by ')[0]}")
    print(f"connections made: {Connection.made}, at most 3: {Connection.made.value <= 3}")

    greedy = Connections(most=3, timeout=0.1)
    all_held, enough = Barrier(4), Event()

    def hog() -> None:
        with greedy.use():
            all_held.wait(10.0)
            enough.wait(10.0)

    with CallbackPool("thread", max_workers=3, name="hogs") as pool:
        for _ in range(3):
            pool.submit(hog)
        all_held.wait(10.0)
        try:
            with greedy.use():
                pass
        except LockTimeoutError as error:
            print(f"none came in time: {', '.join(sorted(holder.name for holder in error.holders))} have them")
        enough.set()


if __name__ == "__main__":
    main()
