"""`acquire_all`: several locks in one order, under one deadline, all or none."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import permutations
from threading import Barrier, Event
from time import monotonic
from typing import Any

import pytest

from locks.actors import LIMIT, Actors, eventually, gets_it_in_the_end, held_elsewhere, held_in, wait_for
from syncprims import DeadlockError, LockAdapter, LockTimeoutError, TimedLock, TimedRLock, acquire_all


def recording(kind: type[TimedLock], taken: list[str], name: str) -> TimedLock:
    """A lock that records when it is acquired."""

    class Recording(kind):  # type: ignore[misc,valid-type]  # a parameter
        def _on_acquired(self, waited: float) -> None:
            taken.append(self.name)

    return Recording(name=name)


@pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
def test_locks_are_taken_in_the_order_of_their_creation(kind: type[TimedLock]) -> None:
    """The order in the call does not matter."""
    taken: list[str] = []
    locks = [recording(kind, taken, name) for name in "abc"]
    for listed in permutations(locks):
        taken.clear()
        with acquire_all(*listed):
            assert all(lock.held_by_me() for lock in locks)
        assert taken == ["a", "b", "c"]
        assert not any(lock.locked() for lock in locks)


def test_none_is_taken_before_entering() -> None:
    """acquire_all() itself takes nothing."""
    lock = TimedLock()
    acquire_all(lock)
    assert not lock.locked()


def test_no_locks_at_all_are_taken_at_once() -> None:
    """Without locks, the body simply runs."""
    with acquire_all() as got:
        assert got is None


def test_a_lock_given_twice_is_an_error() -> None:
    """The ValueError names it, and comes before any lock is acquired."""
    lock, other = TimedLock(name="accounts"), TimedLock()
    for listed in ((lock, lock), (lock, other, lock)):
        with pytest.raises(ValueError, match="'accounts'"):
            acquire_all(*listed)
    again = TimedRLock(name="accounts")
    with pytest.raises(ValueError, match="'accounts'"):
        acquire_all(again, again)
    assert not lock.locked()


def test_what_is_no_lock_of_ours_is_an_error() -> None:
    """A foreign lock is a TypeError that says how to wrap it."""
    foreign: Any = threading.Lock()
    with pytest.raises(TypeError, match="LockAdapter"):
        acquire_all(TimedLock(), foreign)


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), (1e100, OverflowError), ("1", TypeError)]
)
def test_impossible_timeouts_are_errors(timeout: Any, error: type[Exception]) -> None:
    """They are the errors of every wait."""
    with pytest.raises(error):
        acquire_all(TimedLock(), timeout=timeout)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_timeout_releases_what_was_taken(place: int, timeout: float) -> None:
    """Whichever lock was not free in time, none is held, and the error names that lock and its holder."""
    locks = [TimedLock(name=name) for name in "abc"]
    with held_elsewhere(locks[place], "owner"):
        with pytest.raises(LockTimeoutError) as caught, acquire_all(*locks, timeout=timeout):
            pytest.fail("the body ran without the locks")
        assert not any(lock.held_by_me() for lock in locks)
        assert [lock.locked() for lock in locks] == [number == place for number in range(3)]
    assert caught.value.lock_name == "abc"[place]
    assert caught.value.holder is not None
    assert caught.value.holder.name == "owner"
    with acquire_all(*locks, timeout=0):
        assert all(lock.held_by_me() for lock in locks)


def test_one_deadline_is_for_all_locks_together() -> None:
    """The time that the first one takes is not available for the second."""
    first, second = TimedLock(), TimedLock()
    with Actors() as actors, held_elsewhere(first) as free_first, held_elsewhere(second):

        def let_go_late() -> None:
            eventually(lambda: first.waiting == 1)
            pause = Event()
            pause.wait(0.2)  # this uses up a part of the time
            free_first()

        actors.start(let_go_late)
        started = monotonic()
        with pytest.raises(LockTimeoutError) as caught, acquire_all(first, second, timeout=0.4):
            pytest.fail("the body ran without the locks")
        assert monotonic() - started >= 0.39
    assert caught.value.lock_name == second.name
    assert caught.value.waited < 0.3
    assert caught.value.timeout == 0.4  # the given timeout, of which the first lock has used a part
    assert caught.value.__notes__ == ["acquire_all() had 0.4 s for all 2 locks together"]


@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_the_locks_own_timeouts_have_no_part(timeout: float | None) -> None:
    """A lock whose own timeout is 0 is waited for."""
    lock = TimedLock(0)
    assert gets_it_in_the_end(lock, lambda: held_in(acquire_all(lock, timeout=timeout), lock))


def test_a_lock_that_is_held_already_is_a_deadlock() -> None:
    """The outer block keeps its lock, and the others are released."""
    one, held, third = (TimedLock(name=name) for name in ("one", "held", "third"))
    with held:
        with pytest.raises(DeadlockError, match="'held'"), acquire_all(one, held, third):
            pytest.fail("the body ran")
        assert held.held_by_me()
        assert not one.locked()
        assert not third.locked()


def test_a_reentrant_lock_may_be_held_already() -> None:
    """It is acquired once more, and released once."""
    lock = TimedRLock()
    with lock:
        with acquire_all(lock, TimedLock()):
            assert lock.held_by_me()
        assert lock.held_by_me()
    assert not lock.locked()


def test_what_it_returns_nests_and_is_used_again() -> None:
    """One token may be entered again inside itself if the locks are reentrant, and again afterwards."""
    one, other = TimedRLock(), TimedRLock()
    both = acquire_all(one, other)
    for _ in range(2):
        with both:
            with both:
                pass
            assert one.held_by_me()
            assert other.held_by_me()
        assert not one.locked()
        assert not other.locked()


def test_threads_share_what_it_returns() -> None:
    """Each thread releases its own holds, and they exclude each other."""
    one, other = TimedLock(), TimedLock()
    both = acquire_all(one, other, timeout=LIMIT)
    start = Barrier(4)
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        start.wait(LIMIT)
        for _ in range(100):
            with both:
                inside += 1
                most = max(most, inside)
                inside -= 1

    with Actors() as actors:
        for _ in range(4):
            actors.start(enter)
    assert most == 1
    assert not one.locked()
    assert not other.locked()


def test_leaving_by_an_exception_lets_go_of_all() -> None:
    """The exception propagates, also through an ExitStack."""
    locks = [TimedLock() for _ in range(3)]
    with pytest.raises(ZeroDivisionError), acquire_all(*locks):
        raise ZeroDivisionError
    assert not any(lock.locked() for lock in locks)
    with pytest.raises(ZeroDivisionError), ExitStack() as stack:  # noqa: PT012  what is inside is tested
        stack.enter_context(acquire_all(*locks))
        assert all(lock.held_by_me() for lock in locks)
        raise ZeroDivisionError
    assert not any(lock.locked() for lock in locks)


@pytest.mark.usefixtures("restless")
def test_threads_that_list_locks_in_every_order_come_through() -> None:
    """There is never a cycle, whatever subset each thread acquires in whatever order."""
    locks: list[TimedLock | LockAdapter] = [TimedLock(), TimedRLock(), LockAdapter(threading.Lock()), TimedLock()]
    start = Barrier(4)

    def take(seed: int) -> None:
        random_numbers = random.Random(seed)
        start.wait(LIMIT)
        for _ in range(100):
            with acquire_all(*random_numbers.sample(locks, random_numbers.randint(1, 4)), timeout=LIMIT):
                pass

    with Actors() as actors:
        for seed in range(4):
            actors.start(partial(take, seed))
    assert not any(lock.locked() for lock in locks)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_release_that_fails_keeps_no_other_lock(broken: int) -> None:
    """If the release of a foreign lock raises, the others are released nevertheless, and the error is raised."""

    class Broken:
        def acquire(self, *, timeout: float = -1) -> bool:
            return True

        def release(self) -> None:
            raise ConnectionError("gone")

    makers: list[Callable[[], TimedLock | LockAdapter]] = [TimedLock, TimedLock, TimedLock]
    makers[broken] = lambda: LockAdapter(Broken())
    locks = [make() for make in makers]
    with pytest.raises(ConnectionError), acquire_all(*locks):
        pass
    assert not any(lock.locked() for lock in locks)
    with held_elsewhere(next(lock for lock in locks if isinstance(lock, TimedLock))) as let_go:
        let_go()


def test_a_thread_that_waits_keeps_the_earlier_locks() -> None:
    """While it waits for a later lock it holds the earlier ones, which is why the order matters."""
    first, second = TimedLock(), TimedLock()
    entered = Event()

    def enter() -> None:
        with acquire_all(second, first):
            entered.set()

    with Actors() as actors, held_elsewhere(second) as let_go:
        actors.start(enter)
        eventually(lambda: second.waiting == 1)
        assert first.locked()
        assert not entered.is_set()
        let_go()
        wait_for(entered)


def test_the_repr_names_the_locks() -> None:
    """They appear in the order in which they are acquired."""
    one, other = TimedLock(name="one"), TimedLock(name="other")
    assert repr(acquire_all(other, one, timeout=2.0)) == "acquire_all('one', 'other', timeout=2.0)"
