"""The contract of a lock without waiters: acquiring it, releasing it, and its state."""

from __future__ import annotations

import copy
import math
import pickle
import threading
import weakref

from ..._locks.acquire_all import acquire_all
from ...errors import LockTimeoutError
from .contract import Contract
from .held_lock import Held, Lock, Make, expect_free, expect_taken
from .inside import acquire_forms
from .trial import aside, expect, expect_that, in_child, limit, moment, raises, settled, start

basics: Contract[Make] = Contract()


@basics.clause("a fresh lock is free", "asked a fresh lock for locked(), held_by_me(), holder and waiting")
def _fresh(make: Make) -> None:
    lock = make()
    expect("locked()", lock.locked(), False)
    expect("held_by_me()", lock.held_by_me(), False)
    expect("holder", lock.holder, None)
    expect("waiting", lock.waiting, 0)


@basics.clause("acquire() of a free lock takes it and returns True", "called acquire() in each of its forms")
def _acquire(make: Make) -> None:
    for how, arguments in acquire_forms():
        lock = make()
        expect(how, lock.acquire(**arguments), True)
        expect_taken(lock, f"after {how}")
        lock.release()


@basics.clause("release() frees the lock", "acquired the lock, released it, and let another thread try")
def _release(make: Make) -> None:
    lock = make()
    lock.acquire()
    expect_taken(lock, "before release()")
    expect("release()", lock.release(), None)
    expect_free(lock, "after release()")
    expect("locked()", lock.locked(), False)


@basics.clause("a with holds the lock for its body and gives the lock itself", "entered a with and let others try")
def _with(make: Make) -> None:
    lock = make()
    for _ in range(3):
        with lock as given:
            expect_that(given is lock, f"`with lock as given` gave {given!r}, not the lock")
            expect_taken(lock, "in the body of the with")
        expect_free(lock, "after the with")


@basics.clause("a with frees the lock when its body raises", "raised an exception in the body of a with")
def _with_error(make: Make) -> None:
    lock = make()
    _raise_in(lock, None)
    expect_free(lock, "after an exception in the body")


@basics.clause("an exception in the body of a with comes out of it", "raised exceptions in bodies of with and hold()")
def _with_raises(make: Make) -> None:
    lock = make()
    for timeout in (None, limit()):
        for error in (ValueError("in the body"), KeyboardInterrupt("in the body")):
            got = _raise_in(lock, timeout, error)
            expect_that(got is error, f"of {error!r} in the body came {got!r}")


def _raise_in(lock: Lock, timeout: float | None, error: BaseException | None = None) -> BaseException | None:
    """Raise in a ``with``, and return the exception that leaves it."""
    try:
        with lock if timeout is None else lock.hold(timeout):
            raise error or ValueError("in the body")
    except BaseException as got:  # noqa: BLE001  any exception is to come out
        return got
    return None  # type: ignore[unreachable]  # a broken __exit__ swallows it


@basics.clause("hold() holds the lock for the body, and can be kept and used again", "entered one hold(1) twice")
def _hold(make: Make) -> None:
    lock = make()
    token = lock.hold(limit())
    for _ in range(2):
        with token as given:
            expect_that(given is lock, f"`with lock.hold(1) as given` gave {given!r}, not the lock")
            expect_taken(lock, "in the body of the hold()")
        expect_free(lock, "after the hold()")
    with lock.hold(0):
        expect_taken(lock, "in the body of hold(0)")
    with lock.hold(None):
        expect_taken(lock, "in the body of hold(None)")
    expect_free(lock, "after the hold(None)")


@basics.clause("a hold() frees the lock when its body raises", "raised an exception in the body of a hold(1)")
def _hold_error(make: Make) -> None:
    lock = make()
    _raise_in(lock, limit())
    expect_free(lock, "after an exception in the body")


@basics.clause("release() of a free lock raises RuntimeError", "called release() of a free lock, then used the lock")
def _release_free(make: Make) -> None:
    lock = make()
    raises(RuntimeError, "release() of a fresh lock", lock.release)
    lock.acquire()
    lock.release()
    raises(RuntimeError, "a second release()", lock.release)
    with lock:
        expect_taken(lock, "in a with after the failed release()")


@basics.clause(
    "release() by a thread that does not hold it raises RuntimeError",
    "acquired the lock, and called release() in another thread",
)
def _stranger(make: Make) -> None:
    lock = make()
    with lock:
        aside(raises, RuntimeError, "the stranger's release()", lock.release)
        expect_taken(lock, "after the stranger's release()")


@basics.clause("locked() returns whether any thread holds the lock", "asked it with and without a holder elsewhere")
def _locked(make: Make) -> None:
    lock = make()
    with Held(lock):
        expect("locked() while another thread held it", lock.locked(), True)
    expect("locked() after that", lock.locked(), False)
    with lock:
        expect("locked() while this thread held it", lock.locked(), True)


@basics.clause("held_by_me() is true only in the holder", "asked it in the holder and in another thread")
def _mine(make: Make) -> None:
    lock = make()
    with lock:
        expect("held_by_me() of the holder", lock.held_by_me(), True)
        expect("held_by_me() of another thread", aside(lock.held_by_me), False)
    expect("held_by_me() after the release", lock.held_by_me(), False)


@basics.clause("holder names the thread that holds the lock", "asked for the holder while another thread was it")
def _holder(make: Make) -> None:
    lock = make()
    with Held(lock) as other:
        holder = lock.holder
        if holder is None:
            expect("holder", holder, other.thread.name)
        else:
            told = holder.name, holder.ident, holder.alive
            expect("the holder's name, ident and alive", told, (other.thread.name, other.thread.ident, True))
    expect("holder after the release", lock.holder, None)


@basics.clause("acquire() refuses the arguments that threading's refuses", "called acquire() with each of them")
def _arguments(make: Make) -> None:
    lock = make()
    raises(ValueError, "acquire(False, 1)", lock.acquire, False, 1)
    raises(ValueError, "acquire(timeout=-2)", lock.acquire, timeout=-2)
    raises(ValueError, "acquire(timeout=nan)", lock.acquire, timeout=math.nan)
    raises(OverflowError, "acquire(timeout=1e300)", lock.acquire, timeout=1e300)
    expect_free(lock, "after that")


@basics.clause("hold() refuses an invalid timeout", "called hold() with a negative timeout, NaN and 1e300")
def _hold_arguments(make: Make) -> None:
    lock = make()
    raises(ValueError, "hold(-1)", lock.hold, -1)
    raises(ValueError, "hold(nan)", lock.hold, math.nan)
    raises(OverflowError, "hold(1e300)", lock.hold, 1e300)


@basics.clause("repr() shows the lock's name and state and never blocks", "called repr() of a free and of a held lock")
def _repr(make: Make) -> None:
    lock = make()
    free = repr(lock)
    with Held(lock):
        held = aside(repr, lock)
    expect_that("unlocked" in free and lock.name in free, f"repr() of the free lock {lock.name!r} gave {free!r}")
    plainly = "locked" in held.replace("unlocked", "") and lock.name in held
    expect_that(plainly, f"repr() of the held lock {lock.name!r} gave {held!r}")


@basics.clause("name and timeout are read-only", "looked at the two and tried to set them")
def _read_only(make: Make) -> None:
    lock = make()
    expect_that(lock.name and type(lock.name) is str, f"name gave {lock.name!r}")
    expect_that(lock.timeout is None or lock.timeout >= 0, f"timeout gave {lock.timeout!r}")
    raises(AttributeError, "lock.name = 'other'", setattr, lock, "name", "other")
    raises(AttributeError, "lock.timeout = 1", setattr, lock, "timeout", 1)


@basics.clause("a lock can be neither pickled nor copied", "called pickle.dumps() and copy.copy()")
def _pickle(make: Make) -> None:
    lock = make()
    raises(TypeError, "pickle.dumps(lock)", pickle.dumps, lock)
    raises(TypeError, "copy.copy(lock)", copy.copy, lock)


@basics.clause("a lock can be weakly referenced", "made a weakref.ref of it")
def _weak(make: Make) -> None:
    lock = make()
    expect_that(weakref.ref(lock)() is lock, "the weak reference did not lead to the lock")


@basics.clause("acquire_all() takes it together with others, and frees all", "entered acquire_all() of two locks")
def _all(make: Make) -> None:
    one, two = make(), make()
    with acquire_all(two, one, timeout=limit()):
        expect_taken(one, "in acquire_all()")
        expect_taken(two, "in acquire_all()")
    expect_free(one, "after acquire_all()")
    expect_free(two, "after acquire_all()")


@basics.clause("acquire_all() takes none if one is not free", "entered acquire_all() of a free and of a held lock")
def _all_or_none(make: Make) -> None:
    one, two, three = make(), make(), make()
    with Held(two):
        raises(LockTimeoutError, "acquire_all()", acquire_all(one, two, three, timeout=moment()).__enter__)
        expect_free(one, "after that")
        expect_free(three, "after that")


@basics.clause("a threading.Condition works with it", "waited in a Condition and notified it in another thread")
def _condition(make: Make) -> None:
    lock = make()
    condition = threading.Condition(lock)  # type: ignore[arg-type]  # it takes any lock
    ready: list[bool] = []

    def wait() -> bool:
        with condition:
            got = condition.wait_for(lambda: ready, limit())
            expect_taken(lock, "after Condition.wait()")
            return bool(got)

    waiter = start(wait)
    settled(lambda: waiter.done() or condition._waiters)  # type: ignore[attr-defined]  # it exists on all versions
    with condition:
        ready.append(True)
        condition.notify()
    waiter.thread.join(limit())
    expect_that(waiter.done(), "the thread that waited in the Condition did not wake")
    expect("Condition.wait_for()", waiter.result(0), True)
    expect_free(lock, "after the Condition")


@basics.clause(
    "a lock that another thread held at a fork is free in the child", "held it in another thread, and forked"
)
def _fork(make: Make) -> None:
    lock, mine = make(), make()

    def child() -> None:
        expect("acquire() of what another thread had held", lock.acquire(timeout=moment()), True)
        lock.release()
        expect("held_by_me() of what the forking thread held", mine.held_by_me(), True)
        mine.release()

    with Held(lock), mine:
        in_child(child)
