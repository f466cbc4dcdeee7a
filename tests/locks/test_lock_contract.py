"""What a `TimedLock` and a `TimedRLock` share with the locks of `threading`, and what they refuse."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from threading import TIMEOUT_MAX, get_ident
from time import monotonic
from typing import Any, Final

import pytest

from locks.crew import LIMIT, Crew, eventually, held_elsewhere, take_and_let_go
from syncprims import LockAdapter, LockTimeoutError, SyncError, SyncTimeoutError, TimedLock, TimedRLock, acquire_all

KINDS: Final = [TimedLock, TimedRLock]
both = pytest.mark.parametrize("kind", KINDS)
NAN: Final = float("nan")


def free(lock: TimedLock) -> bool:
    """Whether another thread can take the lock."""
    with Crew() as crew:
        taken = crew.start(lambda: take_and_let_go(lock, False)).result()
    return bool(taken)


# -- acquire and release ------------------------------------------------------------------------------------------


@both
def test_acquire_takes_and_release_frees(kind: type[TimedLock]) -> None:
    """A lock is free, taken, and free again."""
    lock = kind()
    assert free(lock)
    assert lock.acquire() is True
    assert not free(lock)
    lock.release()
    assert free(lock)


@both
@pytest.mark.parametrize("arguments", [(False,), (False, -1), (True, 0), (True, 0.01)])
def test_acquire_returns_false_where_it_fails(kind: type[TimedLock], arguments: tuple[Any, ...]) -> None:
    """A try, or a wait whose time is up, is False and no error."""
    lock = kind()
    with held_elsewhere(lock):
        assert lock.acquire(*arguments) is False
        assert not lock.held_by_me()


@both
def test_acquire_waits_no_shorter_than_its_timeout(kind: type[TimedLock]) -> None:
    """A wait that fails took its whole time."""
    lock = kind()
    with held_elsewhere(lock):
        started = monotonic()
        assert not lock.acquire(timeout=0.1)
        assert 0.095 <= monotonic() - started < LIMIT


@both
@pytest.mark.parametrize(
    "arguments", [(), (True,), (True, -1), (True, -1.0), (True, None), (1,), (True, LIMIT), (True, TIMEOUT_MAX)]
)
def test_acquire_waits_whatever_the_constructor_said(kind: type[TimedLock], arguments: tuple[Any, ...]) -> None:
    """The constructor's timeout, 0 here, has no part in acquire()."""
    lock = kind(timeout=0)
    with Crew() as crew, held_elsewhere(lock) as let_go:
        waiter = crew.start(lambda: lock.acquire(*arguments))
        eventually(lambda: lock.waiting == 1)
        let_go()
        assert waiter.result() is True


@both
@pytest.mark.parametrize(
    "arguments",
    [(False, 1), (False, 0), (False, 0.5), (True, -2), (True, -0.5), (True, NAN), (True, 1e100),
     (True, TIMEOUT_MAX + 1), (True, float("inf")), (True, "1"), (True, [])],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("state", ["free", "mine", "another's"])
def test_wrong_arguments_of_acquire_are_wrong_to_threading_too(
    kind: type[TimedLock], arguments: tuple[Any, ...], state: str
) -> None:
    """They are the same kind of error as with threading.Lock, in whatever state the lock is, and change nothing."""
    with pytest.raises((ValueError, OverflowError, TypeError)) as theirs:
        threading.Lock().acquire(*arguments)
    lock = kind()
    with ExitStack() as stack:
        if state != "free":
            stack.enter_context(lock if state == "mine" else held_elsewhere(lock))
        with pytest.raises(theirs.type):
            lock.acquire(*arguments)
        assert lock.locked() == (state != "free")
        assert lock.held_by_me() == (state == "mine")
    assert free(lock)


@both
def test_acquire_takes_its_arguments_by_position_and_by_name(kind: type[TimedLock]) -> None:
    """Both are called as in threading."""
    lock = kind()
    assert lock.acquire(blocking=False)
    lock.release()
    assert lock.acquire(True, 0.5)
    lock.release()
    assert lock.acquire(blocking=True, timeout=0.5)
    lock.release()


@both
def test_release_by_a_stranger_is_an_error_and_changes_nothing(kind: type[TimedLock]) -> None:
    """Only the holder may release, as with threading.RLock."""
    lock = kind()
    with held_elsewhere(lock, "owner"):
        with pytest.raises(RuntimeError):
            lock.release()
        holder = lock.holder
        assert holder is not None
        assert holder.name == "owner"
    assert free(lock)


@both
def test_release_of_a_free_lock_is_an_error(kind: type[TimedLock]) -> None:
    """One release too many is a RuntimeError, and the lock still works."""
    lock = kind()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()
    assert lock.acquire(False)
    lock.release()


def test_a_timed_lock_is_not_taken_twice() -> None:
    """A second try of the holder fails, and one release is enough."""
    lock = TimedLock()
    with lock:
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(timeout=0.01) is False
    assert free(lock)


def test_a_timed_rlock_is_free_after_as_many_releases() -> None:
    """Every way in counts one, and every way out too."""
    lock = TimedRLock()
    lock.acquire()
    with lock, lock.hold(1.0), lock.hold(None):
        assert lock.acquire(False)
        assert lock.acquire(timeout=0.1)
        assert not free(lock)
        lock.release()
        lock.release()
    assert lock.held_by_me()
    assert not free(lock)
    lock.release()
    assert free(lock)
    with pytest.raises(RuntimeError):
        lock.release()


@both
def test_threads_exclude_each_other(kind: type[TimedLock]) -> None:
    """An unguarded read-modify-write under the lock loses nothing."""
    lock = kind()
    total = 0

    def add() -> None:
        nonlocal total
        for _ in range(300):
            with lock:
                before = total
                for _ in range(5):
                    pass
                total = before + 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Crew() as crew:
            for _ in range(4):
                crew.start(add)
    finally:
        sys.setswitchinterval(interval)
    assert total == 1200


# -- with ---------------------------------------------------------------------------------------------------------


@both
def test_with_gives_the_lock_and_frees_it_however_it_is_left(kind: type[TimedLock]) -> None:
    """Leaving by an exception frees the lock too, and the exception goes on."""
    lock = kind(timeout=1.0)
    with lock as got:
        assert got is lock
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert free(lock)


@both
@pytest.mark.parametrize("timeout", [0, 0.02])
def test_with_waits_for_the_constructors_timeout(kind: type[TimedLock], timeout: float) -> None:
    """When the time is up the body does not run; the same lock can be entered later."""
    lock = kind(timeout)
    ran = False
    with held_elsewhere(lock):
        with pytest.raises(LockTimeoutError) as caught, lock:
            ran = True
        assert not ran
        assert caught.value.timeout == timeout
        assert caught.value.waited >= timeout * 0.95
        assert isinstance(caught.value, (SyncTimeoutError, SyncError))
        assert isinstance(caught.value, TimeoutError)
    with lock:
        assert lock.held_by_me()


@both
def test_with_waits_for_ever_by_default(kind: type[TimedLock]) -> None:
    """Without a timeout it gets the lock once that is free."""
    lock = kind()
    assert lock.timeout is None

    def enter() -> bool:
        with lock:
            return lock.held_by_me()

    with Crew() as crew, held_elsewhere(lock) as let_go:
        waiter = crew.start(enter)
        eventually(lambda: lock.waiting == 1)
        let_go()
        assert waiter.result()


@both
def test_exit_stack_enters_and_leaves_the_lock(kind: type[TimedLock]) -> None:
    """A lock and its hold token can be entered through an ExitStack."""
    one, other = kind(), kind()
    with ExitStack() as stack:
        assert stack.enter_context(one) is one
        assert stack.enter_context(other.hold(1.0)) is other
        assert not free(one)
        assert not free(other)
    assert free(one)
    assert free(other)


@both
def test_a_lock_works_as_an_attribute_of_a_class(kind: type[TimedLock]) -> None:
    """All instances share it, and it is bound to none."""

    class Account:
        guard = kind(name="guard")

        def inside(self) -> bool:
            with self.guard, Account.guard.hold(1.0) if kind is TimedRLock else ExitStack():
                return Account.guard.held_by_me()

    assert Account().inside()
    assert Account().guard is Account().guard
    assert free(Account.guard)


# -- what it is ---------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (NAN, ValueError),
        (1e100, OverflowError),
        ("2", TypeError),
        ([], TypeError),
    ],
    ids=repr,
)
def test_no_lock_has_an_impossible_timeout(kind: type[TimedLock], timeout: Any, error: type[Exception]) -> None:
    """Constructor and hold() refuse it."""
    with pytest.raises(error):
        kind(timeout)
    with pytest.raises(error):
        kind(timeout=timeout)
    with pytest.raises(error):
        kind().hold(timeout)


@both
def test_a_name_is_a_string(kind: type[TimedLock]) -> None:
    """Any other name is a TypeError, and so is a name by position."""
    bad: Any = 7
    with pytest.raises(TypeError):
        kind(name=bad)
    with pytest.raises(TypeError):
        kind(1.0, "accounts")  # type: ignore[call-arg]  # the point of the test


@both
def test_a_lock_without_a_name_is_called_by_kind_and_serial(kind: type[TimedLock]) -> None:
    """The serial grows with each lock."""

    class Ledger(kind):  # type: ignore[misc,valid-type]  # a parameter
        pass

    names = [kind().name, kind().name, Ledger().name]
    serials = [int(name.rpartition("-")[2]) for name in names]
    assert [name.rpartition("-")[0] for name in names] == [kind.__name__, kind.__name__, "Ledger"]
    assert serials == sorted(set(serials))
    assert kind(name="accounts").name == "accounts"
    assert kind(name="").name == ""


@both
def test_repr_shows_state_and_name(kind: type[TimedLock]) -> None:
    """It tells taken from free, for the holder and for others, and does not block."""
    lock = kind(name="accounts")
    pattern = rf"<%s syncprims\.{kind.__name__} object 'accounts' at {id(lock):#x}>"
    assert re.fullmatch(pattern % "unlocked", repr(lock))
    with lock:
        assert re.fullmatch(pattern % "locked", repr(lock))
    with held_elsewhere(lock):
        assert re.fullmatch(pattern % "locked", repr(lock))


@both
@pytest.mark.parametrize("attribute", ["name", "timeout", "holder", "waiting"])
def test_attributes_are_read_only(kind: type[TimedLock], attribute: str) -> None:
    """What a lock is can't be changed from outside."""
    lock = kind(1.0)
    with pytest.raises(AttributeError):
        setattr(lock, attribute, 3)
    with pytest.raises(AttributeError):
        delattr(lock, attribute)


@both
def test_locked_and_held_by_me(kind: type[TimedLock]) -> None:
    """locked() is for anybody's holding, held_by_me() for one's own."""
    lock = kind()
    assert (lock.locked(), lock.held_by_me()) == (False, False)
    with lock:
        assert (lock.locked(), lock.held_by_me()) == (True, True)
    with held_elsewhere(lock):
        assert (lock.locked(), lock.held_by_me()) == (True, False)
    assert (lock.locked(), lock.held_by_me()) == (False, False)


@both
def test_waiting_counts_those_who_wait(kind: type[TimedLock]) -> None:
    """All ways of waiting count, and none is left when they are over."""
    lock = kind()

    def enter(within: float | None) -> None:
        with lock.hold(within):
            pass

    def acquire(within: float) -> None:
        assert lock.acquire(timeout=within)
        lock.release()

    with Crew() as crew, held_elsewhere(lock):
        assert lock.waiting == 0
        for body in (lambda: enter(None), lambda: enter(LIMIT), lambda: acquire(-1), lambda: acquire(LIMIT)):
            crew.start(body)
        eventually(lambda: lock.waiting == 4)
    assert lock.waiting == 0


@both
@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_lock_is_neither_pickled_nor_copied(kind: type[TimedLock], send: Any) -> None:
    """The error names the lock and says what to do instead."""
    with pytest.raises(TypeError, match=r"'accounts'.*LockAdapter"):
        send(kind(name="accounts"))


@both
@pytest.mark.usefixtures("small_heap")
def test_a_lock_can_be_referred_to_weakly(kind: type[TimedLock]) -> None:
    """Nothing in the library keeps a lock alive."""
    lock = kind()
    reference = weakref.ref(lock)
    with lock:
        assert reference() is lock
    del lock
    assert reference() is None
    lock = kind()
    reference = weakref.ref(lock)
    with lock.hold(1.0):  # its token refers to the lock, which keeps the token
        pass
    del lock
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    "enter",
    [
        lambda lock: lock,
        lambda lock: lock.hold(1.0),
        acquire_all,
        lambda lock: LockAdapter(lock, name="outer"),
        lambda lock: LockAdapter(lock, name="outer").hold(1.0),
    ],
    ids=["with", "hold", "acquire_all", "LockAdapter", "LockAdapter.hold"],
)
@both
@pytest.mark.usefixtures("small_heap")
def test_a_with_keeps_its_lock_alive(kind: type[TimedLock], enter: Callable[[TimedLock], Any]) -> None:
    """A lock out of a weak dictionary is the one for its key as long as the `with` lasts, as `threading`'s is."""
    locks: weakref.WeakValueDictionary[str, TimedLock] = weakref.WeakValueDictionary()
    with enter(locks.setdefault("key", kind())):
        gc.collect()
        assert locks["key"].held_by_me()
    gc.collect()
    assert not locks


@both
def test_the_lock_outlives_a_thread_that_waits(kind: type[TimedLock]) -> None:
    """A waiter that has given up leaves nothing behind."""
    lock = kind()
    with Crew() as crew, held_elsewhere(lock):
        assert not crew.start(lambda: lock.acquire(timeout=0.01)).result()
        assert lock.waiting == 0
    assert lock.acquire(timeout=0)
    assert lock.holder is not None
    assert lock.holder.ident == get_ident()
    lock.release()
