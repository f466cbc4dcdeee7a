"""No deadlock is reported if locks are taken in order, and in a cycle exactly one thread gives way, every time."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from threading import Barrier
from time import monotonic

import pytest

from syncprims import AtomicCounter, DeadlockError, OrderedRunner, TimedLock, TimedRLock, acquire_all
from syncprims.testing import Threads, patience

pytestmark = pytest.mark.usefixtures("restless")

Note = Callable[[str, object], None]
LONG = float(os.environ.get("SYNCPRIMS_EVIDENCE_SECONDS", "600"))
a_while = pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(LONG + 120)])


def take_some(locks: list[TimedLock], choice: random.Random) -> None:
    """Acquire some of the locks in their order, by one of the possible ways, and release them."""
    chosen = sorted(choice.sample(range(len(locks)), choice.randint(1, 4)))
    if choice.random() < 0.25:
        with acquire_all(*(locks[index] for index in chosen), timeout=patience()):
            return
    nest(locks, chosen, choice)


def nest(locks: list[TimedLock], chosen: list[int], choice: random.Random) -> None:
    if not chosen:
        return
    lock = locks[chosen[0]]
    way = choice.randrange(4)
    if way == 0:
        with lock:
            nest(locks, chosen[1:], choice)
    elif way == 1:
        with lock.hold(patience()):
            nest(locks, chosen[1:], choice)
    elif way == 2:
        lock.acquire()
        try:
            nest(locks, chosen[1:], choice)
        finally:
            lock.release()
    elif lock.acquire(timeout=patience()):
        try:
            nest(locks, chosen[1:], choice)
        finally:
            lock.release()


@pytest.mark.parametrize("seconds", [1.5, a_while])
def test_ordered_acquisition_is_never_reported(seconds: float, record_property: Note) -> None:
    """Eight threads take random locks out of thirty, always in order, in every possible way: no report."""
    locks: list[TimedLock] = [TimedLock() if number % 3 else TimedRLock() for number in range(30)]
    taken = AtomicCounter()
    end = monotonic() + seconds

    def roam(seed: int) -> None:
        choice = random.Random(seed)
        while monotonic() < end:
            take_some(locks, choice)
            taken.increment()

    with Threads(timeout=seconds + patience(30)) as threads:
        for seed in range(8):
            threads.start(roam, seed)
    assert taken.value > 100
    assert not any(lock.locked() for lock in locks)
    record_property("seconds of ordered acquisition", seconds)


def cycle(size: int, kind: Callable[[], TimedLock], rounds: int) -> None:
    """Let `size` threads close a cycle of locks, `rounds` times, and count the errors."""
    locks = [kind() for _ in range(size)]
    line = Barrier(size)

    def walk(number: int) -> list[int]:
        told = []
        for _ in range(rounds):
            mine, next_one = locks[number], locks[(number + 1) % size]
            with mine:
                line.wait(patience())
                try:
                    with next_one:
                        pass
                except DeadlockError as error:
                    told.append(len(error.cycle))
            line.wait(patience())
        return told

    with Threads(timeout=patience(120)) as threads:
        running = [threads.start(walk, number) for number in range(size)]
    assert [told for one in running for told in one.result()] == [size] * rounds


@pytest.mark.inverts
@pytest.mark.timeout(200)
@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("kind", [TimedLock, lambda: TimedLock(60.0), TimedRLock], ids=["lock", "timed", "rlock"])
def test_a_cycle_has_one_victim_every_time(
    size: int, kind: Callable[[], TimedLock], rounds: int, record_property: Note
) -> None:
    """Two, three and eight threads close a cycle at once, many times: one gets the error, all others succeed."""
    cycle(size, kind, rounds)
    record_property("cycles with one victim", rounds)


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_cycle_through_a_runner_has_one_victim_every_time(rounds: int, record_property: Note) -> None:
    """One thread is in a step and wants the lock; another has the lock and waits for its own step."""
    for _ in range(rounds):
        runner, lock, line = OrderedRunner("first", "second"), TimedLock(), Barrier(2)

        def in_step(runner: OrderedRunner = runner, lock: TimedLock = lock, line: Barrier = line) -> bool:
            with runner.step("first"):
                line.wait(patience())
                return deadlocks(lock)

        def with_lock(runner: OrderedRunner = runner, lock: TimedLock = lock, line: Barrier = line) -> bool:
            with lock:
                line.wait(patience())
                return deadlocks(runner.step("second"))

        with Threads() as threads:
            told = [threads.start(in_step), threads.start(with_lock)]
        assert sorted(one.result() for one in told) == [False, True]
    record_property("cycles with one victim", rounds)


@pytest.mark.inverts
@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_cycle_through_acquire_all_has_one_victim_every_time(rounds: int) -> None:
    """One thread takes both by acquire_all; another holds the later one and wants the earlier."""
    for _ in range(rounds):
        early, late, line = TimedLock(), TimedLock(), Barrier(2)

        def against(early: TimedLock = early, late: TimedLock = late, line: Barrier = line) -> bool:
            with late:
                line.wait(patience())
                return deadlocks(early)

        def together(early: TimedLock = early, late: TimedLock = late, line: Barrier = line) -> bool:
            line.wait(patience())
            return deadlocks(acquire_all(late, early))

        with Threads() as threads:
            told = [threads.start(against), threads.start(together)]
        # acquire_all may have been too late to take the early lock: then there is no cycle.
        assert [one.result() for one in told].count(True) <= 1
        assert not early.locked()
        assert not late.locked()


def deadlocks(thing: object) -> bool:
    """Enter and leave it; return whether that was refused."""
    try:
        with thing:  # type: ignore[attr-defined]
            return False
    except DeadlockError:
        return True
