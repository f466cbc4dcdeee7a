"""Threads that begin at one moment, and the time until the last is done."""

from __future__ import annotations

from threading import Barrier, Thread
from time import perf_counter

from .measuring import Work

LIMIT = 60.0  # seconds that anything here may take


def together(works: list[Work], operations: int) -> float:
    """Run the works in a thread each, and return the seconds from the start of the first to the end of the last."""
    barrier = Barrier(len(works))
    spans: list[tuple[float, float]] = []

    def run(work: Work) -> None:
        barrier.wait(LIMIT)
        started = perf_counter()
        work(operations)
        spans.append((started, perf_counter()))

    threads = [Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    if len(spans) < len(works):
        raise TimeoutError(f"{len(works) - len(spans)} of {len(works)} threads failed or were not done in {LIMIT} s")
    return max(ended for _, ended in spans) - min(started for started, _ in spans)
