"""The holder of a lock: the `Holder` snapshot, and the error of a failed wait that has one."""

from __future__ import annotations

import _thread
import os
import pickle
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, get_ident
from traceback import FrameSummary

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, wait_for
from syncprims import Holder, LockTimeoutError, TimedLock, TimedRLock
from syncprims._core.stacks import FRAMES_ARE_SHARED

both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
FILE = os.path.basename(__file__)


def timeout_of(entering: AbstractContextManager[object]) -> LockTimeoutError:
    """The error that entering raises."""
    with pytest.raises(LockTimeoutError) as caught, entering:
        pytest.fail("the body ran without the lock")
    return caught.value


@both
def test_the_holder_is_who_took_it(kind: type[TimedLock]) -> None:
    """It has its name, its ident and whether it is alive, from inside and from outside."""
    lock = kind()
    with lock:
        mine = lock.holder
        assert mine is not None
        assert (mine.name, mine.ident, mine.alive) == (threading.current_thread().name, get_ident(), True)
    with held_elsewhere(lock, "billing"):
        theirs = lock.holder
        assert theirs is not None
        assert (theirs.name, theirs.alive) == ("billing", True)
        assert theirs.ident != get_ident()


@both
def test_a_holder_is_a_frozen_snapshot(kind: type[TimedLock]) -> None:
    """It can't be changed, and stays the same when the lock is released."""
    lock = kind()
    with held_elsewhere(lock, "billing"):
        holder = lock.holder
        assert holder is not None
        with pytest.raises(AttributeError):
            holder.name = "somebody"
    assert lock.holder is None
    assert holder.name == "billing"
    assert holder == Holder(holder.name, holder.ident, holder.alive, holder.stack)


def charge(lock: TimedLock, entered: Event, leave: Event) -> None:
    """The work of a thread that holds a lock for a while."""
    with lock:
        entered.set()
        leave.wait(LIMIT)  # here it is


@both
def test_the_error_says_who_holds_the_lock_and_where_it_is(kind: type[TimedLock]) -> None:
    """The text names the lock, the holder, its ident and the line that it runs; the attributes say the same."""
    lock = kind(timeout=0.02, name="accounts")
    entered, leave = Event(), Event()
    with Actors() as actors:
        actors.start(lambda: charge(lock, entered, leave), "billing")
        wait_for(entered)
        here = charge.__code__.co_firstlineno + 4
        # The holder may have come only to the `set` of the event by now.
        error = timeout_of(lock)
        leave.set()
    holder = error.holder
    assert holder is not None
    assert (error.lock_name, holder.name, holder.alive) == ("accounts", "billing", True)
    assert (error.timeout, error.waited >= 0.019) == (0.02, True)
    # If frames aren't shared, only the innermost one is known, because the thread waits for nothing of this library. If
    # that frame is one of threading's, the place is unknown.
    ours = [frame for frame in holder.stack if frame.name == "charge"]
    assert all(isinstance(frame, FrameSummary) for frame in holder.stack)
    assert [os.path.basename(frame.filename) for frame in ours] == [FILE] or not FRAMES_ARE_SHARED
    elsewhere = "" if FRAMES_ARE_SHARED else "|[a-z_]+.py:[0-9]+ in [a-z_]+"
    pattern = (
        rf"waited 0\.\d s for 'accounts', held by Thread 'billing' \(ident {holder.ident}, alive\) "
        rf"which is at ({re.escape(FILE)}:({here - 1}|{here}) in charge{elsewhere})"
    )
    assert re.fullmatch(pattern, str(error).splitlines()[-1])


@both
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_error_survives_pickling(kind: type[TimedLock], protocol: int) -> None:
    """The text and every attribute, including the stack, are the same after unpickling."""
    lock = kind(name="accounts")
    with held_elsewhere(lock, "billing"):
        error = timeout_of(lock.hold(0.01))
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is LockTimeoutError
    assert copy.holder is not None
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert error.holder is not None
    assert copy.holder.stack == error.holder.stack


@both
@pytest.mark.parametrize("start", [threading.Thread, None])
def test_a_holder_that_ended_is_said_to_have_ended(kind: type[TimedLock], start: Callable[..., object] | None) -> None:
    """The error says so, admits that it may be wrong, and advises a remedy; the lock stays acquired."""
    lock = kind(name="accounts")
    ended = Event()

    def take_and_end() -> None:
        lock.acquire()
        ended.set()

    if start is None:
        _thread.start_new_thread(take_and_end, ())
        wait_for(ended)
        eventually(lambda: lock.holder and not lock.holder.alive)
    else:
        with Actors() as actors:
            actors.start(take_and_end)
    # No thread may start here: the system might give it the ident of the thread that ended.
    error = timeout_of(lock.hold(0.01))
    assert error.holder is not None
    assert not error.holder.alive
    assert (error.holder.name, error.holder.stack) == ("", ())
    assert re.search(r"ended without releasing", str(error))
    assert re.search(r"as far as its ident shows", str(error))
    assert re.search(r"`with`", str(error))
    assert lock.locked()


def test_a_holder_that_threading_does_not_know_is_alive() -> None:
    """A thread that threading did not start has no name, but an ident and a place."""
    lock = TimedLock()
    entered, leave, left = Event(), Event(), Event()

    def hold() -> None:
        with lock:
            entered.set()
            leave.wait(LIMIT)
        left.set()

    _thread.start_new_thread(hold, ())
    wait_for(entered)
    holder = lock.holder
    text = str(timeout_of(lock.hold(0)))
    leave.set()
    wait_for(left)
    assert holder is not None
    assert holder.alive
    assert f"(ident {holder.ident}, alive)" in text


def test_a_holder_that_waits_for_another_lock_is_shown_where_it_called() -> None:
    """A holder that waits inside the library is shown at its call of the library."""
    outer, inner = TimedLock(name="outer"), TimedLock(name="inner")

    def nested() -> None:
        with outer, inner:
            pass

    with Actors() as actors, held_elsewhere(inner):
        actors.start(nested, "nested")
        eventually(lambda: inner.waiting == 1)
        text = str(timeout_of(outer.hold(0)))
    assert re.search(rf"at {re.escape(FILE)}:{nested.__code__.co_firstlineno + 1} in nested", text)


@both
def test_nobody_is_named_where_the_holder_is_gone(kind: type[TimedLock]) -> None:
    """If the holder releases the lock just when the time is up, the error has no holder and says so."""

    class Vanishing(kind):  # type: ignore[misc,valid-type]  # a parameter
        def _owner(self) -> int | None:
            return None

    lock = Vanishing(name="accounts")
    with held_elsewhere(lock):
        error = timeout_of(lock.hold(0))
    assert error.holder is None
    assert "'accounts'" in str(error)


def test_a_holder_without_a_name_is_called_that() -> None:
    """A thread that `threading` does not know has an ident, and no name to quote."""
    lock = TimedLock(name="ledger")
    held, done, ended = Event(), Event(), Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(LIMIT)
        ended.set()

    _thread.start_new_thread(hold, ())
    assert held.wait(LIMIT)
    with pytest.raises(LockTimeoutError, match=r"'ledger', held by a thread without a name \(ident \d+, alive\)"):
        lock.hold(0).__enter__()
    done.set()
    assert ended.wait(LIMIT)
