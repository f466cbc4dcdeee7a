"""A lock of your own, which goes to the most urgent waiting thread: two methods, and tested by the kit."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from syncprims import QueuedLock
from syncprims.testing import check_lock, patience


class PriorityLock(QueuedLock):
    """A lock for one thread at a time, in which the lowest number goes first, and equals in order of arrival."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:  # noqa: ARG002  any two exclude each other
        return not kinds

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:
        return sum(each <= kind for each in kinds)

    def at(self, priority: int) -> AbstractContextManager[QueuedLock]:
        """Return what acquires the lock with this priority in a ``with``; plain ``with lock`` is the most urgent, 0."""
        return self.of(priority)


def main() -> None:
    """Let three threads wait while the lock is held, the least urgent one first, and then check the whole contract."""
    printer = PriorityLock(timeout=60.0, name="printer")
    printed: list[str] = []

    def wait_and_print(what: str, priority: int) -> None:
        with printer.at(priority):
            printed.append(what)

    threads = []
    with printer:
        for number, (what, priority) in enumerate([("report", 9), ("letter", 5), ("ticket", 1)], start=1):
            threads.append(threading.Thread(target=wait_and_print, args=(what, priority)))
            threads[-1].start()
            while printer.waiting < number:
                threading.Event().wait(0.001)
    for thread in threads:
        thread.join(patience(30.0))
    print("printed:", ", ".join(printed))
    report = check_lock(PriorityLock)
    print("broken clauses:", len(report.broken))


if __name__ == "__main__":
    main()
