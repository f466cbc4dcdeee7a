"""Two threads add to one counter: without a lock, with a coarse one, with a fine one, and with `AtomicCounter`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from syncprims import AtomicCounter, TimedLock

from .stage import Stage, together

ADDITIONS = 50_000  # by each of the two threads
ATTEMPTS = 200  # to lose an update; each takes some ms, and every second one loses one


class Tally:
    """A number that nothing guards."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        """Read, compute, write: the other thread may run in between."""
        value = self.value
        self.value = self._successor(value)

    def add_many(self) -> None:
        """Add one, ``ADDITIONS`` times."""
        for _ in range(ADDITIONS):
            self.add()

    # The interpreter may switch threads on entry to a function. Without a call between read and write, CPython from
    # 3.10 on loses an update very rarely, which is worse: such a program passes every test.
    @staticmethod
    def _successor(value: int) -> int:
        return value + 1


@contextmanager
def hasty_switching() -> Iterator[None]:
    """Let threads switch every microsecond, and restore the former setting."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _time_two_threads(add_many: Callable[[], object]) -> float:
    line = threading.Barrier(2, timeout=30)

    def racer() -> None:
        line.wait()
        add_many()

    begun = perf_counter()
    for error in together(racer, racer):
        if error is not None:
            raise error
    return perf_counter() - begun


def _without_lock() -> tuple[int, float]:
    tally = Tally()
    seconds = _time_two_threads(tally.add_many)
    return tally.value, seconds


def _with_coarse_lock() -> tuple[int, float]:
    tally, lock = Tally(), TimedLock(timeout=30, name="coarse")

    def add_many() -> None:
        with lock:
            tally.add_many()

    seconds = _time_two_threads(add_many)
    return tally.value, seconds


def _with_fine_lock() -> tuple[int, float]:
    tally, lock = Tally(), TimedLock(timeout=30, name="fine")

    def add_many() -> None:
        for _ in range(ADDITIONS):
            with lock:
                tally.add()

    seconds = _time_two_threads(add_many)
    return tally.value, seconds


def _with_counter() -> tuple[int, float]:
    counter = AtomicCounter()

    def add_many() -> None:
        for _ in range(ADDITIONS):
            counter.increment()

    seconds = _time_two_threads(add_many)
    return counter.value, seconds


def play(stage: Stage) -> None:
    """Show that updates are lost without a lock but not with one, and what each way costs."""
    expected = 2 * ADDITIONS
    stage.scene(
        "Two threads, one counter",
        f"Each of two threads adds one {ADDITIONS:,} times. Without a lock a thread may read the old value while",
        "the other is about to write the new one, and an addition is lost.",
    )
    with hasty_switching():
        for _ in range(ATTEMPTS):
            unlocked, seconds = _without_lock()
            if unlocked < expected:
                break
        rows = [
            ("no lock", unlocked, seconds),
            ("TimedLock around the loop", *_with_coarse_lock()),
            ("TimedLock around each addition", *_with_fine_lock()),
            ("AtomicCounter.increment()", *_with_counter()),
        ]
    for name, value, seconds in rows:
        stage.say(f"  {name:<32}{value:>8,} of {expected:,}   {seconds * 1000:>8.1f} ms")
    stage.check(unlocked < expected, f"without a lock, updates were lost ({expected - unlocked:,} of {expected:,})")
    for name, value, _ in rows[1:]:
        stage.check(value == expected, f"{name}: none was lost")
