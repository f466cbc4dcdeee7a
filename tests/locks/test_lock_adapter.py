"""`LockAdapter`: the methods of a `TimedLock` over locks that are not ours."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import TIMEOUT_MAX, Event, get_ident
from time import monotonic
from typing import Any, Final

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, take_and_let_go, wait_for
from syncprims import DeadlockError, Holder, LockAdapter, LockTimeoutError, TimedLock, acquire_all
from syncprims.adapters import LockLike


class Strict:
    """A lock in Python that accepts only the protocol's arguments, and records its calls."""

    def __init__(self) -> None:
        """Make it free."""
        self.lock = threading.Lock()
        self.calls: list[dict[str, Any]] = []

    def acquire(self, **options: Any) -> bool:
        """Acquire it."""
        self.calls.append(options)
        assert set(options) <= {"timeout"}
        if "timeout" not in options:
            return self.lock.acquire()
        timeout = options["timeout"]
        assert isinstance(timeout, (int, float))
        assert 0 <= timeout <= TIMEOUT_MAX
        return self.lock.acquire(timeout=timeout)

    def release(self) -> str:
        """Release it; the result does not matter."""
        self.lock.release()
        return "released"


MAKERS: Final[dict[str, Callable[[], Any]]] = {
    "threading.Lock": threading.Lock,
    "threading.RLock": threading.RLock,
    "multiprocessing.Lock": multiprocessing.get_context("spawn").Lock,
    "multiprocessing.RLock": multiprocessing.get_context("spawn").RLock,
    "Python": Strict,
    "TimedLock": TimedLock,
}
over_each = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@over_each
def test_with_and_hold_take_the_lock_inside(make: Callable[[], LockLike]) -> None:
    """In the block it is acquired, after it free, however the block is left."""
    inside = make()
    lock = LockAdapter(inside, timeout=1.0)
    for manager in (lock, lock.hold(0.5), lock.hold(None), lock.hold(0)):
        with manager as got:
            assert got is lock
            assert lock.locked()
            assert lock.held_by_me()
            with Actors() as actors:
                assert actors.start(lambda: inside.acquire(timeout=0)).result() is False
        assert not lock.held_by_me()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert inside.acquire(timeout=0)
    inside.release()


@over_each
def test_acquire_and_release_are_those_of_threading(make: Callable[[], LockLike]) -> None:
    """Acquire returns a bool and waits no longer than its timeout; the constructor's timeout is not used."""
    lock = LockAdapter(make(), timeout=0)
    assert lock.acquire() is True
    lock.release()
    assert lock.acquire(False) is True
    lock.release()
    with Actors() as actors, held_elsewhere(lock) as let_go:
        assert lock.acquire(False) is False
        started = monotonic()
        assert lock.acquire(timeout=0.05) is False
        assert monotonic() - started >= 0.045
        jobs = [
            actors.start(lambda: take_and_let_go(lock)),
            actors.start(lambda: take_and_let_go(lock, True, LIMIT)),
        ]
        eventually(lambda: lock.waiting == 2)
        let_go()
        assert [job.result() for job in jobs] == [True, True]
    assert lock.waiting == 0
    assert not lock.locked()


@over_each
def test_release_by_a_stranger_is_an_error_and_changes_nothing(make: Callable[[], LockLike]) -> None:
    """Only a thread that acquired it through the adapter may release it through the adapter."""
    lock = LockAdapter(make())
    with pytest.raises(RuntimeError):
        lock.release()
    with held_elsewhere(lock):
        with pytest.raises(RuntimeError):
            lock.release()
        assert lock.acquire(False) is False
    assert not lock.locked()


@over_each
def test_a_timeout_names_the_holder(make: Callable[[], LockLike]) -> None:
    """The error is the same as that of a TimedLock, and can be pickled."""
    lock = LockAdapter(make(), timeout=0.02, name="theirs")
    with held_elsewhere(lock, "billing"):
        for manager, timeout in ((lock, 0.02), (lock.hold(0.01), 0.01), (lock.hold(0), 0)):
            with pytest.raises(LockTimeoutError) as caught, manager:
                pytest.fail("the body ran without the lock")
            error = caught.value
            assert (error.lock_name, error.timeout) == ("theirs", timeout)
            assert error.holder is not None
            assert error.holder.name == "billing"
            assert "'theirs', held by Thread 'billing'" in str(error)
            assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


@over_each
def test_a_holder_outside_the_adapter_is_not_known(make: Callable[[], LockLike]) -> None:
    """The error says so and names no thread."""
    inside = make()
    lock = LockAdapter(inside, name="theirs")
    taken, leave = Event(), Event()

    def take_directly() -> None:
        inside.acquire()
        taken.set()
        wait_for(leave)
        inside.release()

    with Actors() as actors:
        actors.start(take_directly)
        wait_for(taken)
        with (
            pytest.raises(LockTimeoutError, match="did not acquire it through this adapter") as caught,
            lock.hold(0.01),
        ):
            pytest.fail("the body ran without the lock")
        leave.set()
    assert caught.value.holder is None
    assert lock.holder is None


def test_the_lock_inside_is_called_as_the_protocol_says() -> None:
    """The calls are only acquire() and acquire(timeout=seconds), however the adapter is used."""
    inside = Strict()
    lock = LockAdapter(inside, timeout=5.0)
    with lock, pytest.raises(LockTimeoutError), lock.hold(0.01):
        pass
    with lock.hold(None), acquire_all(TimedLock(), timeout=1.0):
        pass
    with acquire_all(lock), acquire_all(TimedLock()):
        pass
    with acquire_all(lock, timeout=1.0):
        pass
    for arguments in ((), (False,), (True, 0.5), (True, -1), (True, None), (True, TIMEOUT_MAX)):
        with Actors() as actors, held_elsewhere(lock) as let_go:
            job = actors.start(partial(take_and_let_go, lock, *arguments))
            if arguments != (False,):
                eventually(lambda: lock.waiting == 1)
            else:
                assert job.result() is False
            let_go()
    assert {} in inside.calls
    assert any(call.get("timeout", 0) > 1 for call in inside.calls)  # Strict asserts that they were right


def test_over_a_reentrant_lock_it_is_reentrant() -> None:
    """Whether a thread may acquire it twice depends on the lock inside."""
    lock = LockAdapter(threading.RLock())
    with lock, lock, lock.hold(0):
        assert lock.acquire(False)
        lock.release()
        assert lock.held_by_me()
    assert not lock.held_by_me()
    with pytest.raises(RuntimeError):
        lock.release()


@pytest.mark.parametrize("timeout", [None, 0.01, LIMIT])
def test_over_a_plain_lock_waiting_for_oneself_is_noticed(timeout: float | None) -> None:
    """A `with` on a threading.Lock that the thread holds is a deadlock at once; acquire with a limit returns False."""
    lock = LockAdapter(threading.Lock(), timeout, name="theirs")
    with lock:
        with pytest.raises(DeadlockError, match="'theirs'"), lock:
            pytest.fail("the body ran twice")
        with pytest.raises(DeadlockError):
            lock.acquire()
        assert lock.acquire(timeout=0.01) is False
        assert lock.acquire(False) is False
        assert lock.held_by_me()
    assert not lock.locked()


@pytest.mark.parametrize("thing", [None, 3, object(), Event()])
def test_what_is_no_lock_is_refused(thing: Any) -> None:
    """The TypeError says what is needed."""
    with pytest.raises(TypeError, match=r"acquire.*release"):
        LockAdapter(thing)


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), (1e100, OverflowError), ("1", TypeError)]
)
def test_impossible_timeouts_are_refused(timeout: Any, error: type[Exception]) -> None:
    """They are the errors of every wait."""
    with pytest.raises(error):
        LockAdapter(threading.Lock(), timeout)
    with pytest.raises(error):
        LockAdapter(threading.Lock()).hold(timeout)


@pytest.mark.parametrize(
    "arguments", [(False, 1), (False, 0), (True, -2), (True, float("nan")), (True, 1e100), (True, "1")], ids=repr
)
def test_wrong_arguments_of_acquire_are_wrong_to_threading_too(arguments: tuple[Any, ...]) -> None:
    """They never reach the lock inside."""
    inside = Strict()
    with pytest.raises((ValueError, OverflowError, TypeError)) as theirs:
        threading.Lock().acquire(*arguments)
    with pytest.raises(theirs.type):
        LockAdapter(inside).acquire(*arguments)
    assert inside.calls == []


def test_names_reprs_and_attributes() -> None:
    """They are like those of a TimedLock."""
    lock = LockAdapter(threading.Lock(), 2.0, name="theirs")
    assert (lock.name, lock.timeout, lock.waiting, lock.holder) == ("theirs", 2.0, 0, None)
    assert repr(lock).startswith("<unlocked syncprims.LockAdapter object 'theirs' over ")
    with lock:
        assert repr(lock).startswith("<locked ")
        assert isinstance(lock.holder, Holder)
        assert lock.holder.ident == get_ident()
    assert LockAdapter(threading.Lock()).name.startswith("LockAdapter-")
    for attribute in ("name", "timeout", "holder", "waiting"):
        with pytest.raises(AttributeError):
            setattr(lock, attribute, 1)
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="wrap it"):
            send(lock)
    with pytest.raises(TypeError):
        LockAdapter(threading.Lock(), name=3)  # type: ignore[arg-type]  # the point of the test
    reference = weakref.ref(lock)
    del lock
    gc.collect()  # the tracebacks of the errors above refer to it
    assert reference() is None


def test_an_exit_stack_enters_and_leaves_it() -> None:
    """This works directly, and by hold()."""
    one, other = LockAdapter(threading.Lock()), LockAdapter(Strict())
    with ExitStack() as stack:
        assert stack.enter_context(one) is one
        assert stack.enter_context(other.hold(1.0)) is other
        assert one.locked()
        assert other.locked()
    assert not one.locked()
    assert not other.locked()


def test_acquire_all_takes_locks_of_all_kinds_together() -> None:
    """It acquires all or none, ours and others."""
    locks = [LockAdapter(make()) for make in MAKERS.values()]
    ours = TimedLock()
    with acquire_all(ours, *locks, timeout=1.0):
        assert ours.held_by_me()
        assert all(lock.held_by_me() for lock in locks)
    with held_elsewhere(ours):
        with pytest.raises(LockTimeoutError), acquire_all(ours, *locks, timeout=0.01):
            pytest.fail("the body ran without the locks")
        assert not any(lock.locked() for lock in locks)


def test_its_hooks_are_those_of_the_timed_lock() -> None:
    """They are called in the same situations, and if one raises, the lock is not acquired."""
    calls: list[tuple[str, object]] = []

    class Observed(LockAdapter):
        fails = False

        def _on_wait(self, holder: Holder | None) -> None:
            calls.append(("wait", holder and holder.name))

        def _on_acquired(self, waited: float) -> None:
            if self.fails:
                raise ValueError("hook")
            calls.append(("acquired", waited))

        def _on_timeout(self, error: LockTimeoutError) -> None:
            calls.append(("timeout", error))

    lock = Observed(threading.Lock())
    with lock:
        pass
    assert calls == [("acquired", 0.0)]
    with held_elsewhere(lock, "owner"):
        calls.clear()
        with pytest.raises(LockTimeoutError) as caught, lock.hold(0.01):
            pytest.fail("the body ran without the lock")
        assert calls == [("wait", "owner"), ("timeout", caught.value)]
        calls.clear()
        assert not lock.acquire(timeout=0.01)
        assert calls == [("wait", "owner")]
    lock.fails = True
    for attempt in (lock.__enter__, lock.acquire, lock.hold(1.0).__enter__):
        with pytest.raises(ValueError, match="hook"):
            attempt()
        assert not lock.locked()
        assert not lock.held_by_me()


def test_an_error_of_the_lock_inside_is_the_callers() -> None:
    """If acquire raises, the lock does not count as held; if release raises, it does not count as held either."""

    class Failing:
        def acquire(self, *, timeout: float = -1) -> bool:
            if broken:
                raise ConnectionError("no server")
            return True

        def release(self) -> None:
            raise ConnectionError("no server")

    broken = True
    lock = LockAdapter(Failing())
    with pytest.raises(ConnectionError), lock:
        pytest.fail("the body ran without the lock")
    assert not lock.held_by_me()
    broken = False
    with pytest.raises(ConnectionError), lock:
        pass
    assert not lock.held_by_me()
    assert lock.waiting == 0
