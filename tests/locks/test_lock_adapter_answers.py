"""Foreign locks with unusual answers, errors or code: how `LockAdapter` treats them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hostile import HostileObject, Touched
from locks.actors import LIMIT, Actors, condition_over, eventually, wait_for
from syncprims import LockAdapter, LockTimeoutError, TimedLock, TimedRLock, acquire_all


class Answering:
    """A lock whose `acquire` returns an unusual answer."""

    def __init__(self, yes: object, no: object) -> None:
        self.lock = threading.Lock()
        self._answers = {True: yes, False: no}

    def acquire(self, *, timeout: float = -1) -> Any:
        return self._answers[self.lock.acquire(timeout=timeout)]

    def release(self) -> None:
        self.lock.release()


class Thing:
    """True, like any object."""


class Empty:
    """False, like an empty container."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(("yes", "no"), [(1, 0), (Thing(), None), ("taken", ""), (Thing(), Empty())])
def test_an_answer_counts_by_its_truth(yes: object, no: object) -> None:
    """The same holds for `threading`'s own code."""
    inner = Answering(yes, no)
    lock = LockAdapter(inner)
    assert lock.acquire(False) is True
    assert inner.lock.locked()
    lock.release()
    inner.lock.acquire()
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.01) is False
    with pytest.raises(LockTimeoutError), lock.hold(0.01):
        pass
    assert not lock.held_by_me()


class Undecided:
    """Raises when its truth is tested."""

    def __bool__(self) -> bool:
        raise ValueError("I don't know")


@pytest.mark.parametrize("timeout", [0, 0.05, None])
def test_an_answer_that_is_neither_true_nor_false_is_an_error(timeout: float | None) -> None:
    """It names the lock whose answer it was, and the lock is not left acquired."""
    inner = Answering(Undecided(), False)
    lock = LockAdapter(inner, timeout)
    for attempt in (lock.__enter__, lock.hold(timeout).__enter__, acquire_all(lock, timeout=timeout).__enter__):
        with pytest.raises(TypeError, match=r"the acquire\(\) of <.*> returned a .*Undecided that is neither"):
            attempt()
        assert not inner.lock.locked()
        assert not lock.held_by_me()
    with pytest.raises(TypeError, match="neither true nor false"):
        lock.acquire(timeout=timeout)
    assert not inner.lock.locked()


def test_an_answer_that_ends_threads_leaves_nothing_taken() -> None:
    """An exception that is not an `Exception` propagates unchanged."""
    inner = Answering(HostileObject(), False)
    with pytest.raises(Touched):
        LockAdapter(inner).acquire()
    assert not inner.lock.locked()


def test_a_release_that_raises_something_odd_is_a_note_of_the_blocks_error() -> None:
    """An exception that can't be put into words hides no other one."""

    class WordlessError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    class Failing:
        def acquire(self, *, timeout: float = -1) -> bool:
            return True

        def release(self) -> None:
            raise WordlessError

    with pytest.raises(KeyError) as caught, LockAdapter(Failing(), name="theirs"):
        raise KeyError("mine")
    assert "then the release of 'theirs' failed too: " in caught.value.__notes__[0]
    assert "WordlessError (its text can't be shown" in caught.value.__notes__[0]


def test_a_strangers_release_is_told_who_holds_the_lock() -> None:
    """It gives the holder's name, and what that thread does."""
    lock = LockAdapter(threading.Lock(), name="ledger")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            wait_for(done)

    with Actors() as actors:
        actors.start(hold, name="bookkeeper")
        wait_for(held)
        with pytest.raises(RuntimeError, match=r"cannot release 'ledger': .*it is held by Thread 'bookkeeper' "):
            lock.release()
        done.set()
    with pytest.raises(RuntimeError, match=r"cannot release 'ledger': .* through this adapter$"):
        lock.release()


# -- under a threading.Condition -----------------------------------------------------------------------------------

INNER = [
    threading.Lock,
    threading.RLock,
    multiprocessing.get_context("spawn").Lock,
    multiprocessing.get_context("spawn").RLock,
    TimedLock,
    TimedRLock,
    threading.Semaphore,
]
NESTED = [threading.RLock, multiprocessing.get_context("spawn").RLock, TimedRLock]


@pytest.mark.parametrize("make", INNER)
@pytest.mark.parametrize("limit", [LIMIT, 0.01])
def test_a_condition_over_it_gives_it_up_and_gets_it_back(make: Callable[[], Any], limit: float) -> None:
    """This holds also for a reentrant lock, for which a Condition by itself does not know whether it is held."""
    lock = LockAdapter(make())
    condition = condition_over(lock)
    ready = threading.Event()

    def wait() -> bool:
        with condition:
            ready.set()
            notified = condition.wait(limit)
            assert lock.held_by_me()
            return notified

    with Actors() as actors:
        waiter = actors.start(wait)
        wait_for(ready)
        if limit == LIMIT:
            with condition:
                condition.notify()
        assert waiter.result() is (limit == LIMIT)
    assert not lock.held_by_me()
    assert lock.acquire(timeout=LIMIT)
    lock.release()


@pytest.mark.parametrize("make", INNER)
def test_a_condition_over_it_needs_the_lock(make: Callable[[], Any]) -> None:
    """Without it `wait` and `notify` raise a RuntimeError, and no lock is acquired or released."""
    lock = LockAdapter(make())
    condition = condition_over(lock)
    for attempt in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="un-acquired lock"):
            attempt()
    with pytest.raises(RuntimeError, match="has not acquired it through this adapter"):
        lock._release_save()
    with lock:
        pass


@pytest.mark.parametrize("make", NESTED)
def test_a_nested_lock_is_given_up_wholly_and_got_back_as_often(make: Callable[[], Any]) -> None:
    """However often the adapter acquired it, others can acquire it during the wait."""
    lock = LockAdapter(make())
    condition = condition_over(lock)
    ready = threading.Event()

    def wait() -> None:
        with condition, lock, lock.hold(1.0):
            ready.set()
            assert condition.wait(LIMIT)
            for _ in range(2):
                lock.release()
                assert lock.held_by_me()
            for _ in range(2):
                lock.acquire()

    with Actors() as actors:
        waiter = actors.start(wait)
        wait_for(ready)
        with lock.hold(LIMIT):
            condition.notify()
            eventually(lambda: lock.waiting == 1)  # reports show that it waits to acquire the lock again
        waiter.result()
    assert not lock.held_by_me()
    assert lock.acquire(False)


def test_a_release_that_fails_in_a_wait_leaves_the_lock_with_its_holder() -> None:
    """`wait` raises the error, and the block is left properly."""

    class FailsOnce:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.failed = False

        def acquire(self, *, timeout: float = -1) -> bool:
            return self.lock.acquire(timeout=timeout)

        def release(self) -> None:
            self.lock.release()
            if not self.failed:
                self.failed = True
                raise OSError("the line is dead")

    inner = FailsOnce()
    lock = LockAdapter(inner)
    condition = condition_over(lock)
    with condition:
        with pytest.raises(OSError, match="the line is dead"):
            condition.wait(LIMIT)
        assert lock.held_by_me()
        assert inner.lock.locked()
    assert not inner.lock.locked()
