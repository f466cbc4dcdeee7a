"""Deadlocks of living threads: exactly one of them notices, and nothing else counts as one."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from threading import Barrier, Event
from time import monotonic
from typing import Final

import pytest

from locks.actors import LIMIT, Actors, eventually, wait_for
from syncprims import DeadlockError, LockTimeoutError, SyncError, TimedLock, TimedRLock, Wait, acquire_all

both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])

pytestmark = pytest.mark.inverts  # each deadlock is an inversion

Enter = Callable[[TimedLock], AbstractContextManager[object]]


@contextmanager
def acquired(lock: TimedLock) -> Iterator[None]:
    """The lock, acquired by acquire() without a limit."""
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def plainly(lock: TimedLock) -> AbstractContextManager[object]:
    """The lock itself."""
    return lock


WAYS: Final[dict[str, Enter]] = {
    "with": plainly,
    "acquire": acquired,
    "hold forever": lambda lock: lock.hold(None),
    "hold within a time": lambda lock: lock.hold(LIMIT),
    "acquire_all": lambda lock: acquire_all(lock),
    "acquire_all within a time": lambda lock: acquire_all(lock, timeout=LIMIT),
}
each_way = pytest.mark.parametrize("enter", WAYS.values(), ids=WAYS)


# -- with oneself -------------------------------------------------------------------------------------------------


@each_way
def test_waiting_for_oneself_is_a_deadlock_at_once(enter: Enter) -> None:
    """The error comes without a wait, the lock stays with the holder, and one release frees it."""
    lock = TimedLock(name="accounts")
    with lock:
        with pytest.raises(DeadlockError) as caught, enter(lock):
            pytest.fail("the body ran without the lock")
        assert lock.held_by_me()
        assert lock.waiting == 0
    assert not lock.locked()
    me = threading.current_thread().name
    assert caught.value.cycle == (Wait(me, "accounts", me),)
    assert "'accounts'" in str(caught.value)
    assert isinstance(caught.value, (SyncError, RuntimeError))


@pytest.mark.parametrize("timeout", [0, 0.001, LIMIT])
def test_a_timed_with_waits_for_oneself_no_longer_than_an_untimed_one(timeout: float) -> None:
    """It is a deadlock at once, not a timeout."""
    lock = TimedLock(timeout)
    with lock, pytest.raises(DeadlockError), lock:
        pass
    assert not lock.locked()


@each_way
def test_a_reentrant_lock_is_no_deadlock_with_oneself(enter: Enter) -> None:
    """Its holder enters again."""
    lock = TimedRLock()
    with lock, enter(lock), enter(lock):
        assert lock.held_by_me()
    assert not lock.locked()


# -- with others --------------------------------------------------------------------------------------------------


def dine(locks: list[TimedLock], enter: Enter) -> list[BaseException | None]:
    """Let a thread for each lock acquire it and then wait for the next one's; return the outcome of each."""
    ready = Barrier(len(locks))

    def take(mine: TimedLock, next_one: TimedLock) -> None:
        with mine:
            ready.wait(LIMIT)
            with enter(next_one):
                assert mine.held_by_me()
                assert next_one.held_by_me()

    with Actors() as actors:
        jobs = [
            actors.start(partial(take, mine, next_one), f"diner {number}")
            for number, (mine, next_one) in enumerate(zip(locks, [*locks[1:], locks[0]], strict=True))
        ]
        return [job.error() for job in jobs]


@both
@each_way
@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_cycle_has_exactly_one_victim(kind: type[TimedLock], enter: Enter, size: int) -> None:
    """All others get their locks once it releases its own, and its error has the cycle."""
    for _ in range(3):
        locks = [kind(name=f"fork {number}") for number in range(size)]
        errors = dine(locks, enter)
        victims = [number for number, error in enumerate(errors) if error is not None]
        assert len(victims) == 1
        (victim,) = victims
        error = errors[victim]
        assert isinstance(error, DeadlockError)
        order = [(victim + step) % size for step in range(size)]
        assert error.cycle == tuple(
            Wait(f"diner {diner}", f"fork {(diner + 1) % size}", f"diner {(diner + 1) % size}") for diner in order
        )
        assert not any(lock.locked() or lock.waiting for lock in locks)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_cycle_closed_at_once_has_exactly_one_victim(size: int) -> None:
    """This holds for any interleaving of the threads that close it together."""
    for _ in range(25):
        errors = dine([TimedLock() for _ in range(size)], plainly)
        assert [type(error) for error in errors if error is not None] == [DeadlockError]


def test_a_cycle_goes_through_locks_of_both_kinds() -> None:
    """A TimedRLock that is held twice is an edge like a TimedLock."""
    for _ in range(5):
        plain, reentrant = TimedLock(), TimedRLock()
        with reentrant:  # and released again: only its present holder matters
            pass
        errors = dine([plain, reentrant, TimedLock()], plainly)
        assert [type(error) for error in errors if error is not None] == [DeadlockError]


def test_the_error_tells_every_edge_and_where_its_thread_stands() -> None:
    """Each wait and its holder appear once, the last line says what to do; everything survives pickling."""
    error = next(error for error in dine([TimedLock(name="salt"), TimedLock(name="pepper")], plainly) if error)
    assert isinstance(error, DeadlockError)
    lines = str(error).splitlines()
    for wait in error.cycle:
        edge = f"Thread {wait.thread!r} waits for {wait.lock_name!r} held by {wait.holder!r}"
        assert str(wait) == edge
        assert edge in lines[0]
        assert str(error).count(edge) == 1
    assert "does not wait for" in lines[-1]
    assert "release" in lines[-1]
    assert any(line.endswith(" in take") for line in lines)
    assert not [line for line in lines if "threading.py" in line]  # every thread begins there
    assert len(error.stacks) == 2
    # The victim's own stack ends at its call of the library, with and without the GIL.
    assert error.stacks[0][-1].name == "take"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


# -- what is none -------------------------------------------------------------------------------------------------


@both
def test_acquire_with_a_limit_is_never_an_edge(kind: type[TimedLock]) -> None:
    """Neither of two threads that wait for each other gets a DeadlockError if one waits by acquire(timeout=)."""
    one, other = kind(name="one"), kind(name="other")
    both_held = Barrier(2)
    give_up = Event()
    late: list[bool] = []

    def back_off() -> None:
        with one:
            both_held.wait(LIMIT)
            while not give_up.is_set():
                assert other.acquire(timeout=0.02) is False
            late.append(other.acquire(timeout=0.02))

    def insist() -> bool:
        with other:
            both_held.wait(LIMIT)
            with one:
                return True

    with Actors() as actors:
        actors.start(back_off)
        insisting = actors.start(insist)
        eventually(lambda: one.waiting == 1 and other.waiting == 1)
        give_up.set()
        assert insisting.result()
    assert late == [False]


@both
def test_acquire_with_a_limit_that_closes_a_cycle_returns_false(kind: type[TimedLock]) -> None:
    """It never raises a DeadlockError, even if every other wait of the cycle has no limit."""
    mine, theirs = kind(), kind()
    held = Event()

    def insist() -> None:
        with theirs:
            held.set()
            with mine:
                pass

    with Actors() as actors, mine:
        actors.start(insist)
        wait_for(held)
        eventually(lambda: mine.waiting == 1)
        started = monotonic()
        assert theirs.acquire(timeout=0.05) is False
        assert monotonic() - started >= 0.045
        assert theirs.acquire(False) is False


def test_a_timed_with_that_has_given_up_is_no_edge() -> None:
    """After its timeout the same threads may wait the other way round."""
    one, other = TimedLock(), TimedLock()
    gave_up, go_on = Event(), Event()

    def give_up_then_work() -> None:
        with one:
            with pytest.raises(LockTimeoutError), other.hold(0.01):
                pytest.fail("the body ran without the lock")
            gave_up.set()
            wait_for(go_on)

    def let_work() -> None:
        eventually(lambda: one.waiting == 1)
        go_on.set()

    with Actors() as actors, other:
        actors.start(give_up_then_work)
        wait_for(gave_up)
        actors.start(let_work)
        with one:
            pass


def test_a_chain_that_ends_is_no_deadlock() -> None:
    """Eight threads that each wait for the next all succeed when the last one releases its lock."""
    locks = [TimedLock() for _ in range(9)]

    def take(mine: TimedLock, next_one: TimedLock) -> None:
        with mine, next_one:
            pass

    def awaited(lock: TimedLock) -> bool:
        return lock.waiting == 1

    with Actors() as actors, locks[-1]:
        for mine, next_one in zip(locks[-2::-1], locks[:0:-1], strict=True):
            actors.start(partial(take, mine, next_one))
            eventually(partial(awaited, next_one))
    assert not any(lock.locked() for lock in locks)


@pytest.mark.usefixtures("restless")
def test_ordered_acquisition_is_never_called_a_deadlock() -> None:
    """In one second, six threads that acquire random locks in one order, in all ways, report no deadlock."""
    locks = [kind(name=f"{number}") for number, kind in enumerate([TimedLock, TimedRLock] * 3)]
    end = monotonic() + 1.0
    ways = [*WAYS.values()]

    def take(seed: int) -> int:
        random_numbers = random.Random(seed)
        rounds = 0
        while monotonic() < end:
            with ExitStack() as stack:
                for number in sorted(random_numbers.sample(range(len(locks)), random_numbers.randint(1, 4))):
                    stack.enter_context(random_numbers.choice(ways)(locks[number]))
            rounds += 1
        return rounds

    with Actors() as actors:
        rounds = [job.result() for job in [actors.start(partial(take, seed)) for seed in range(6)]]
    assert all(rounds)
    assert not any(lock.locked() or lock.waiting for lock in locks)
