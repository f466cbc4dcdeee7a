"""`QueuedLock`, the base for locks of the user's own: its rule, its line, and faulty subclasses."""

from __future__ import annotations

import pickle
from threading import Barrier, Condition, Event
from typing import Any

import pytest

from locks.actors import LIMIT, Actors, eventually, stuck_on, wait_for
from syncprims import DeadlockError, LockTimeoutError, QueuedLock, TimedLock, acquire_all
from syncprims.diagnostics import find_deadlocks, record, report
from syncprims.testing import check_lock


class Urgent(QueuedLock):
    """Lets in one thread at a time, the lowest kind first."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:
        return sum(each <= kind for each in kinds)


class Rooms(QueuedLock):
    """Lets in threads of one kind together."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return all(each == kind for each in kinds)


class Weighed(QueuedLock):
    """Kinds are weights, with a sum of at most ten."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return sum(kinds) + kind <= 10


def order_of(lock: QueuedLock, kinds: list[int]) -> list[int]:
    """Let threads wait one after another while the lock is held; return the order in which they came in."""
    came: list[int] = []

    def come(kind: int) -> None:
        with lock.of(kind, LIMIT):
            came.append(kind)

    with Actors() as actors, lock.of(10):
        for number, kind in enumerate(kinds, start=1):
            actors.start(lambda kind=kind: come(kind))  # type: ignore[misc]  # bound now
            eventually(lambda number=number: lock.waiting == number)  # type: ignore[misc]  # the same
        lock.release()
        eventually(lambda: len(came) == len(kinds))
        lock.acquire()
    return came


def test_those_who_wait_come_in_in_the_order_of_the_line() -> None:
    """The order is that of `_place`, and otherwise the order of arrival."""
    assert order_of(Urgent(), [5, 9, 1, 5, 3]) == [1, 3, 5, 5, 9]
    assert order_of(Naughty(), [5, 9, 1, 5, 3]) == [5, 9, 1, 5, 3]


def test_those_who_fit_are_in_together_and_others_wait() -> None:
    """`_fits` decides this, and each is a holder."""
    rooms, together, go = Rooms(), Barrier(3), Event()

    def stay() -> None:
        with rooms.of(1, LIMIT):
            together.wait(LIMIT)
            wait_for(go)

    with Actors() as actors:
        for number in (1, 2):
            actors.start(stay, f"guest {number}")
        with rooms.of(1):
            together.wait(LIMIT)
            assert {holder.name for holder in rooms.holders} >= {"guest 1", "guest 2"}
        with pytest.raises(LockTimeoutError, match="held by Thread 'guest"), rooms.of(2, 0.01):
            pass
        go.set()
    assert not rooms.locked()


def test_weights_add_up() -> None:
    """A rule may compute with the kinds."""
    lock = Weighed()
    with lock.of(7), Actors() as actors:
        with pytest.raises(LockTimeoutError):
            raise actors.start(lambda: lock.of(4, 0).__enter__()).error() or AssertionError
        assert actors.start(lambda: lock.of(3, 0).__enter__().release()).result() is None


def test_a_second_hold_of_the_same_thread_is_refused() -> None:
    """It is refused even if it would fit, and nothing is changed."""
    rooms = Rooms()
    with rooms.of(1):
        for attempt in (rooms.of(1).__enter__, rooms.__enter__, rooms.acquire):
            with pytest.raises(DeadlockError, match="release it first"):
                attempt()
        assert rooms.acquire(False) is False
        assert rooms.acquire(timeout=0.001) is False
        assert len(rooms.holders) == 1


def test_a_cycle_with_other_locks_is_refused() -> None:
    """The lock takes part in the wait-for graph."""
    lock, other, both = Urgent(name="printer"), TimedLock(), Barrier(2)

    def take_other_first() -> None:
        with other:
            both.wait(LIMIT)
            with lock.of(3, LIMIT):
                pass

    with Actors() as actors, lock:
        waiter = actors.start(take_other_first)
        both.wait(LIMIT)
        eventually(lambda: stuck_on(lock))
        assert "printer" in report()
        with pytest.raises(DeadlockError):
            other.acquire()
        assert find_deadlocks() == ()
        lock.release()
        waiter.result()
        lock.acquire()


def test_it_is_taken_together_with_others_and_recorded() -> None:
    """This holds for any kind; a recording shows its acquisition and release."""
    lock, other = Urgent(name="urgent"), TimedLock()
    with record() as recording, acquire_all(lock.of(4), other, timeout=LIMIT):
        assert lock.held_by_me()
        assert other.held_by_me()
    assert not lock.locked()
    assert "urgent" in recording.table()


class Naughty(QueuedLock):
    """Returns the answers that it was given."""

    fits: Any = staticmethod(lambda kind, kinds: not kinds)
    place: Any = staticmethod(lambda kind, kinds: len(kinds))

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return self.fits(kind, kinds)  # type: ignore[no-any-return]  # anything

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:
        return self.place(kind, kinds)  # type: ignore[no-any-return]  # anything


def raising(*_: object) -> Any:
    raise LookupError("no rule today")


@pytest.mark.parametrize("hook", ["fits", "place"])
def test_what_a_rule_raises_is_raised_in_the_thread_that_acquires(hook: str) -> None:
    """It does not have the lock then, no thread is left in the line, and the lock works."""
    lock = Naughty()
    with Actors() as actors, lock:
        setattr(lock, hook, raising) if hook == "place" else None
        failing = actors.start(lambda: lock.acquire(timeout=LIMIT))
        if hook == "fits":
            eventually(lambda: lock.waiting == 1)
            lock.fits = raising
            lock.release()
        assert isinstance(failing.error(), LookupError)
        lock.fits = lambda kind, kinds: not kinds
        if hook == "fits":
            lock.acquire()
    assert (lock.locked(), lock.waiting) == (False, 0)


@pytest.mark.parametrize("place", [-5, 10**30, True])
def test_a_place_beyond_the_line_is_its_end(place: int) -> None:
    """A waiting thread is never lost."""
    lock = Naughty()
    lock.place = lambda kind, kinds: place
    assert sorted(order_of(lock, [1, 2])) == [1, 2]


def test_a_place_that_is_no_integer_is_an_error() -> None:
    """The error is raised in the thread that wanted to wait."""
    lock = Naughty()
    lock.place = lambda kind, kinds: "first"
    with lock, Actors() as actors:
        assert isinstance(actors.start(lambda: lock.acquire(timeout=LIMIT)).error(), TypeError)
    assert lock.waiting == 0


@pytest.mark.parametrize(("kind", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_a_kind_is_an_integer_that_is_not_negative(kind: Any, error: type[Exception]) -> None:
    """Any other kind is an error at once."""
    with pytest.raises(error, match="the kind of a hold"):
        Urgent().of(kind)


def test_a_subclass_without_a_rule_says_what_is_missing() -> None:
    """The error comes at the first acquisition."""
    with pytest.raises(NotImplementedError, match=r"QueuedLock has to define _fits\(kind, kinds\)"):
        QueuedLock().acquire()


def test_it_can_be_neither_pickled_nor_copied() -> None:
    """This is the same for all locks."""
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(Urgent())


def test_a_condition_over_a_lock_for_one_at_a_time_waits_and_is_notified() -> None:
    """A rule that lets one thread in makes a lock for `threading.Condition`."""
    lock = Urgent()
    condition = Condition(lock)  # type: ignore[arg-type]  # typeshed names the classes that it takes
    ready = Event()

    def wait() -> bool:
        with condition:
            ready.set()
            return condition.wait(LIMIT) and lock.held_by_me()

    with Actors() as actors:
        waiter = actors.start(wait)
        wait_for(ready)
        with condition:
            condition.notify()
        assert waiter.result()
    assert not lock.locked()


@pytest.mark.untraceable
@pytest.mark.timeout(300)
def test_the_kit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes all clauses of a lock. In turns, threads take longer than with a lock that any thread may grab next."""
    monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", "5")
    assert check_lock(Urgent).broken == ()
