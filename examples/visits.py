"""Who visits our pages? Counts the visits in a folder of web-server logs: the application that the tutorial ends with.

A task of a pool reads each file. The tasks add their visits to one table, under a lock that names its holder if it is
held too long. They count lines in a counter, and give up if there are too many unreadable lines. At the end three
threads write the parts of a report in order.

Run it: ``python visits.py [FOLDER]``; without a folder it makes one with sample logs.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from syncprims import AtomicCounter, CallbackErrors, CallbackPool, CounterBoundsError, OrderedRunner, TimedLock, Turn

SAMPLE = {
    "monday.log": "GET / 200\nGET /about 200\nGET / 200\nGET /nowhere 404\n",
    "tuesday.log": "GET / 200\nGET /blog 200\n%%%\nGET /blog 200\n",
    "wednesday.log": "GET /blog 200\nGET / 304\nGET /about 200\n",
}


class Visits:
    """The table that all tasks share."""

    def __init__(self, most_unreadable: int = 10) -> None:
        self.lines = AtomicCounter(name="lines")
        self.unreadable = AtomicCounter(maximum=most_unreadable, name="unreadable lines")
        self._lock = TimedLock(timeout=5.0, name="visits")
        # Guarded by _lock:
        self.pages: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()

    def read(self, path: Path) -> str:
        """Count the visits in one file, and return its name; a task of the pool."""
        pages: Counter[str] = Counter()
        problems: Counter[str] = Counter()
        for line in path.read_text().splitlines():
            self.lines.increment()
            match line.split():
                case ["GET", page, "200" | "304"]:
                    pages[page] += 1
                case ["GET", page, _status]:
                    problems[page] += 1
                case _:
                    self.unreadable.increment()
        with self._lock:  # once for each file, not for each line
            self.pages += pages
            self.problems += problems
        return path.name


def report(visits: Visits) -> str:
    """Let three threads write the parts of the report, each in its turn."""
    parts: list[str] = []

    def head(_turn: Turn) -> None:
        parts.append(f"{visits.lines} lines, {visits.unreadable} of them unreadable")

    def pages(_turn: Turn) -> None:
        parts.extend(f"{count:5} {page}" for page, count in visits.pages.most_common())

    def problems(_turn: Turn) -> None:
        parts.extend(f"not found: {page}" for page in sorted(visits.problems))

    OrderedRunner("head", "pages", "problems", timeout=5.0, name="report").run(
        {"head": head, "pages": pages, "problems": problems}
    )
    return "\n".join(parts)


def count_visits(folder: Path, most_unreadable: int = 10) -> Visits:
    """Read every log in the folder."""
    visits = Visits(most_unreadable)
    finished: list[str] = []
    with CallbackPool("thread", max_workers=4, name="readers") as pool:
        for path in sorted(folder.glob("*.log")):
            pool.apply_async(visits.read, (path,), callback=finished.append)
    print(f"read {', '.join(sorted(finished))}")
    return visits


def main() -> int:
    """Print the report; the exit code is 1 if the logs can't be read."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch)
        if len(sys.argv) < 2:
            for name, text in SAMPLE.items():
                (folder / name).write_text(text)
        try:
            print(report(count_visits(folder)))
        except CallbackErrors as errors:
            bounds, rest = errors.split(CounterBoundsError)
            print("these are not logs: too many lines can't be read" if bounds else rest, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
