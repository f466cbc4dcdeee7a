"""What a `TimedLock` and a `TimedRLock` share with the locks of `threading`, and what they refuse."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from threading import TIMEOUT_MAX, get_ident
from typing import Any, Final

import pytest

from locks.actors import LIMIT, Actors, eventually, gets_it_in_the_end, held_elsewhere, held_in, take_and_let_go
from syncprims import LockAdapter, LockTimeoutError, SyncError, SyncTimeoutError, TimedLock, TimedRLock, acquire_all

KINDS: Final = [TimedLock, TimedRLock]
both = pytest.mark.parametrize("kind", KINDS)
NAN: Final = float("nan")


def free(lock: TimedLock) -> bool:
    """Whether another thread can take the lock."""
    with Actors() as actors:
        taken = actors.start(lambda: take_and_let_go(lock, False)).result()
    return bool(taken)


# -- acquire and release ------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("arguments", [(False,), (False, -1), (True, 0), (True, 0.01)])
def test_acquire_returns_false_where_it_fails(kind: type[TimedLock], arguments: tuple[Any, ...]) -> None:
    """A try that fails, or a wait whose time is up, returns False and raises nothing."""
    lock = kind()
    with held_elsewhere(lock):
        assert lock.acquire(*arguments) is False
        assert not lock.held_by_me()


@both
@pytest.mark.parametrize(
    "arguments", [(), (True,), (True, -1), (True, -1.0), (True, None), (1,), (True, LIMIT), (True, TIMEOUT_MAX)]
)
def test_acquire_waits_whatever_the_constructor_said(kind: type[TimedLock], arguments: tuple[Any, ...]) -> None:
    """acquire() does not use the constructor's timeout, which is 0 here."""
    lock = kind(timeout=0)
    assert gets_it_in_the_end(lock, lambda: lock.acquire(*arguments)) is True


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
    """They raise the same kind of error as with threading.Lock, in any state of the lock, and change nothing."""
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
    """Both calls work as in threading."""
    lock = kind()
    assert lock.acquire(blocking=False)
    lock.release()
    assert lock.acquire(True, 0.5)
    lock.release()
    assert lock.acquire(blocking=True, timeout=0.5)
    lock.release()


# -- with ---------------------------------------------------------------------------------------------------------


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
    """Without a timeout it gets the lock once the lock is free."""
    lock = kind()
    assert lock.timeout is None
    assert gets_it_in_the_end(lock, lambda: held_in(lock, lock))


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
    """It distinguishes acquired from free, for the holder and for others, and does not block."""
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
    """Its properties can't be changed from outside."""
    lock = kind(1.0)
    with pytest.raises(AttributeError):
        setattr(lock, attribute, 3)
    with pytest.raises(AttributeError):
        delattr(lock, attribute)


@both
def test_waiting_counts_those_who_wait(kind: type[TimedLock]) -> None:
    """All kinds of waits count, and none is left when they are over."""
    lock = kind()

    def enter(within: float | None) -> None:
        with lock.hold(within):
            pass

    def acquire(within: float) -> None:
        assert lock.acquire(timeout=within)
        lock.release()

    with Actors() as actors, held_elsewhere(lock):
        assert lock.waiting == 0
        for body in (lambda: enter(None), lambda: enter(LIMIT), lambda: acquire(-1), lambda: acquire(LIMIT)):
            actors.start(body)
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
    """The library keeps no lock alive."""
    lock = kind()
    reference = weakref.ref(lock)
    with lock:
        assert reference() is lock
    del lock
    assert reference() is None
    lock = kind()
    reference = weakref.ref(lock)
    with lock.hold(1.0):  # its token refers to the lock, and the lock to the token
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
    """As with `threading`, a lock from a weak dictionary stays the one for its key as long as the `with` lasts."""
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
    with Actors() as actors, held_elsewhere(lock):
        assert not actors.start(lambda: lock.acquire(timeout=0.01)).result()
        assert lock.waiting == 0
    assert lock.acquire(timeout=0)
    assert lock.holder is not None
    assert lock.holder.ident == get_ident()
    lock.release()
