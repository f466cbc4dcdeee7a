"""Real signals at random moments, thousands of them, under contention: nothing leaks, and no thread waits forever."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from syncprims import AtomicCounter, BrokenSequenceError, OrderedRunner, TimedLock, TimedRLock, acquire_all
from syncprims._core import waits as _waits
from syncprims.testing import Threads

pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no setitimer on Windows"),
    # An interrupt in the callback of a weak reference, of which threading has some, can only be printed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


Note = Callable[[str, object], None]


class Signals:
    """Raises one KeyboardInterrupt in each round, at a random moment."""

    def __init__(self) -> None:
        self.armed = False
        self.delivered = 0
        self._random = random.Random(20)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            self.delivered += 1
            raise KeyboardInterrupt

    def during(self, work: Callable[[], object]) -> None:
        """Do the work, which a signal may end early."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-5, 4e-4))
            self._repeat(work)
        except KeyboardInterrupt:
            pass

    # A separate function: on 3.13 and 3.14 a loop's jump back may lie outside the `try` around it (gh-130279).
    def _repeat(self, work: Callable[[], object]) -> None:
        while self.armed:
            work()


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Signals that come only during a round."""
    signals = Signals()
    before = signal.signal(signal.SIGALRM, signals.handle)
    yield signals
    signals.armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def contenders(work: Callable[[], object]) -> Iterator[None]:
    """Two threads that do the same, as long as the ``with`` lasts; they must be alive at its end."""
    over = threading.Event()

    def contend() -> int:
        times = 0
        while not over.is_set():
            work()
            times += 1
        return times

    with Threads() as threads:
        running = [threads.start(contend) for _ in range(2)]
        try:
            yield
        finally:
            over.set()
        assert all(one.result() > 0 for one in running)


many = pytest.mark.parametrize("rounds", [300, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])


class Exclusive:
    """A section for one thread at a time, with a count of violations."""

    def __init__(self) -> None:
        self.inside = 0
        self.clashes = 0

    def visit(self) -> None:
        self.inside += 1
        self.clashes += self.inside != 1
        self.inside = 0


def nested(lock: TimedLock, exclusive: Exclusive) -> None:
    with lock, lock:
        exclusive.visit()


def by_with(lock: TimedLock, exclusive: Exclusive) -> None:
    with lock:
        exclusive.visit()


def by_hold(lock: TimedLock, exclusive: Exclusive) -> None:
    with lock.hold(30.0):
        exclusive.visit()


def by_acquire(lock: TimedLock, exclusive: Exclusive) -> None:
    lock.acquire()
    try:
        exclusive.visit()
    finally:
        lock.release()


def by_acquire_all(lock: TimedLock, exclusive: Exclusive) -> None:
    with acquire_all(lock, TimedLock(), timeout=30.0):
        exclusive.visit()


WAYS = [
    (by_with, TimedLock),
    (by_hold, TimedLock),
    (by_acquire, TimedLock),
    (by_acquire_all, TimedLock),
    (by_with, TimedRLock),
    (nested, TimedRLock),
]


@many
@pytest.mark.parametrize(("way", "kind"), WAYS, ids=[f"{kind.__name__}-{way.__name__}" for way, kind in WAYS])
def test_locks_survive_random_signals(
    signals: Signals,
    way: Callable[[TimedLock, Exclusive], None],
    kind: type[TimedLock],
    rounds: int,
    record_property: Note,
) -> None:
    """After each interrupted round this thread has no lock and no wait; no two threads were inside."""
    lock, exclusive = kind(), Exclusive()
    with contenders(lambda: by_with(lock, exclusive)):
        for _ in range(rounds):
            signals.during(lambda: way(lock, exclusive))
            assert not lock.held_by_me()
            assert _waits.waits_of(threading.get_ident()) == []
    assert not lock.locked()
    assert exclusive.clashes == 0
    assert signals.delivered == rounds
    record_property("signals survived", rounds)


@many
def test_counter_survives_random_signals(signals: Signals, rounds: int, record_property: Note) -> None:
    """Every change that returned is in the value, and each interrupted one is in it or not."""
    counter = AtomicCounter()
    returned = cut_off = 0
    others = AtomicCounter()

    def add() -> None:
        nonlocal returned
        counter.increment()
        returned += 1

    def contend() -> None:
        counter.increment()
        others.increment()

    with contenders(contend):
        for _ in range(rounds):
            signals.during(add)
            cut_off += 1
    assert 0 <= counter.value - others.value - returned <= cut_off
    assert signals.delivered == rounds
    record_property("signals survived", rounds)


@many
def test_runner_survives_random_signals(signals: Signals, rounds: int, record_property: Note) -> None:
    """After each interrupt the sequence is intact or broken with it as the cause; reset() makes it work again."""
    runner = OrderedRunner("ours", "theirs", rounds=None)
    broken = AtomicCounter()

    def ours() -> None:
        with runner.step("ours", timeout=30.0):
            pass

    def theirs() -> None:
        try:
            with runner.step("theirs", timeout=30.0):
                pass
        except BrokenSequenceError:
            broken.increment()

    with contenders(theirs):
        for _ in range(rounds):
            signals.during(ours)
            if runner.state == "broken":
                runner.reset()
            ours()
        runner.abort()
    assert signals.delivered == rounds
    record_property("signals survived", rounds)
