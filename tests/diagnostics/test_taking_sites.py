"""`record_sites`: errors and reports say where each lock was acquired, and which thread ended with one."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from threading import Barrier, Event
from typing import Any

import pytest

from syncprims import (
    DeadlockError,
    LockAdapter,
    LockTimeoutError,
    QueuedLock,
    TimedLock,
    TimedRLock,
    TimedRWLock,
    TimedSemaphore,
)
from syncprims._core import sites
from syncprims.diagnostics import record_sites, report
from syncprims.testing import Threads, assert_blocks, patience

OWN_WORDS = "this thread, or one that had its ident and ended without releasing it"
TRIES = 500


def in_a_thread(call: Callable[[], object], name: str | None = None) -> int:
    """Call it in a thread, whose ident is returned once the thread has ended."""
    thread = threading.Thread(target=call, name=name)
    thread.start()
    thread.join(patience(10.0))
    assert not thread.is_alive()
    assert thread.ident is not None
    return thread.ident


def left_behind(make: Callable[[], TimedLock], then: Callable[[TimedLock], object]) -> None:
    """Let a thread end with a lock, and another one with the same ident use that lock."""
    for _ in range(TRIES):
        lock = make()
        ident = in_a_thread(lock.acquire, "billing")
        met: list[object] = []

        def meet(lock: TimedLock = lock, ident: int = ident, met: list[object] = met) -> None:
            if threading.get_ident() == ident:
                met.append(then(lock))

        in_a_thread(meet, "audit")
        if met:
            return
    pytest.skip("the system gave no thread the ident of one that had ended")


def refusal(enter: Callable[[], object]) -> str:
    """The text of the error that refuses it."""
    with pytest.raises(DeadlockError) as caught:
        enter()
    return str(caught.value)


@pytest.mark.inverts
def test_a_deadlock_says_where_each_lock_was_taken() -> None:
    """This holds for both threads, each with its place in the program."""
    first, second = TimedLock(name="first"), TimedLock(name="second")
    both, errors = Barrier(2), []

    def take(mine: TimedLock, other: TimedLock) -> None:
        with mine:
            both.wait(patience(10.0))
            try:
                with other:
                    pass
            except DeadlockError as error:
                errors.append(str(error))

    with record_sites(), Threads() as threads:
        threads.start(take, first, second)
        threads.start(take, second, first)
    (said,) = errors
    place = f"took it at test_taking_sites.py:{take.__code__.co_firstlineno + 1} in take"
    assert re.search(rf"\('first': Thread '.+' {place}\)", said)
    assert re.search(rf"\('second': Thread '.+' {place}\)", said)


@pytest.mark.parametrize("make", [TimedLock, TimedRLock, lambda name: LockAdapter(threading.Lock(), name=name)])
def test_a_timeout_and_a_report_say_where_the_holder_took_the_lock(make: Callable[..., TimedLock]) -> None:
    """They do so while it holds the lock; nothing is kept afterwards."""
    lock = make(name="ledger")

    def charge() -> None:
        with lock:
            taken.set()
            assert done.wait(patience(10.0))

    taken, done = Event(), Event()
    place = f"took it at test_taking_sites.py:{charge.__code__.co_firstlineno + 1} in charge"
    with record_sites(), Threads() as threads:
        threads.start(charge)
        assert taken.wait(patience(10.0))
        with pytest.raises(LockTimeoutError, match="held by Thread") as caught, lock.hold(0):
            pass
        assert place in str(caught.value)
        assert place in report()
        done.set()
    assert sites.taking_of(lock, threading.get_ident()) is None
    with lock:
        assert "took it at" not in report()


class Rooms(QueuedLock):
    """Lets in threads of one kind together."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return all(each == kind for each in kinds)


SHARED: dict[str, Callable[[], tuple[Any, Any, Any]]] = {  # the lock, how two hold it, and how a third one can't
    "permits": lambda: (lock := TimedSemaphore(2, name="shared"), lock, lock.hold(0)),
    "board": lambda: (lock := TimedRWLock(name="shared"), lock.read(), lock.write(0)),
    "rooms": lambda: (lock := Rooms(name="shared"), lock.of(1), lock.of(2, 0)),
}


@pytest.mark.parametrize("name", SHARED)
def test_each_of_several_holders_is_shown_with_its_own_place(name: str) -> None:
    """This holds even after another one has released it; nothing is kept afterwards."""
    lock, entering, refused = SHARED[name]()
    both, leave, left = Barrier(3), Event(), Event()

    def bill() -> None:
        with entering:
            both.wait(patience(10.0))
            assert leave.wait(patience(10.0))
        left.set()

    def ship() -> None:
        with entering:
            both.wait(patience(10.0))
            assert done.wait(patience(10.0))

    def error() -> str:
        with pytest.raises(LockTimeoutError) as caught, refused:
            pass
        return str(caught.value)

    done = Event()
    billed, shipped = (
        f"took it at test_taking_sites.py:{each.__code__.co_firstlineno + 1} in" for each in (bill, ship)
    )
    with record_sites(), Threads() as threads:
        threads.start(bill)
        threads.start(ship)
        both.wait(patience(10.0))
        said = error()
        assert f"{billed} bill" in said
        assert f"{shipped} ship" in said
        assert f"{billed} bill" in report()
        assert f"{shipped} ship" in report()
        leave.set()
        assert left.wait(patience(10.0))
        assert f"{shipped} ship" in report()
        assert f"{billed} bill" not in report()
        done.set()
        threads.join()
        assert not sites._takings
    assert lock.holders == ()


@pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
def test_a_holder_that_ended_is_known_by_name(kind: type[TimedLock]) -> None:
    """It makes no difference whether another thread has its ident now."""
    with record_sites():
        lock = kind(name="mail")
        in_a_thread(lock.acquire, "billing")
        with pytest.raises(LockTimeoutError, match=r"Thread 'billing' .* ended without releasing it"), lock.hold(0):
            pass
        assert "Thread 'billing' (ident " in report()
        said: list[str] = []
        left_behind(lambda: kind(name="left"), lambda left: said.append(refusal(left.__enter__)))
    assert said[0].startswith("'left' is still held by Thread 'billing', which took it at ")
    assert "had the ident of this thread, so Thread 'audit' would wait for itself" in said[0]
    assert said[0].endswith("use `with`, which always does")


def test_a_refused_re_entry_changes_nothing() -> None:
    """The lock that was left behind is held as often as before; without recording, nothing is refused."""

    def count(left: TimedLock) -> str:
        refusal(left.acquire)
        return repr(left)

    found: list[str] = []
    with record_sites():
        left_behind(lambda: TimedRLock(name="left"), lambda left: found.append(count(left)))
        left_behind(lambda: TimedRLock(name="left"), lambda left: found.append(repr(left)))
    assert found[0].split(" at ")[0] == found[1].split(" at ")[0]
    left_behind(lambda: TimedRLock(name="left"), lambda left: found.append(str(left.acquire())))
    assert found[2] == "True"


def test_who_holds_a_lock_may_take_it_again() -> None:
    """This holds for a living thread; and a timed acquire of one's own lock waits and returns False, as without it."""
    lock, plain, adapted = (
        TimedRLock(name="again"),
        TimedLock(name="plain"),
        LockAdapter(threading.RLock(), name="theirs"),
    )
    with record_sites():
        with lock, lock, adapted, adapted:
            assert lock.acquire(timeout=0)
            lock.release()
            assert sites.taking_of(lock, threading.get_ident()) is not None
        assert not lock.locked()
        assert not adapted.locked()
        with plain:
            assert not plain.acquire(timeout=0.001)
            line = refusal(plain.__enter__)
    assert "already held by this thread, which took it at test_taking_sites.py:" in line


def test_without_it_the_words_admit_what_can_not_be_known() -> None:
    """In errors and reports, the holder is this thread, or one that ended with the same ident."""
    lock = TimedLock(name="own")
    with lock:
        assert OWN_WORDS in refusal(lock.__enter__)
        assert OWN_WORDS in refusal(lock.acquire)
    said: list[str] = []
    left_behind(lambda: TimedLock(name="left"), lambda left: said.append(refusal(left.__enter__)))
    assert OWN_WORDS in said[0]

    def hold_and_wait() -> None:
        with lock:
            assert not lock.acquire(timeout=patience(0.5))

    blocked = assert_blocks(hold_and_wait, until=lambda: lock.waiting == 1)
    assert OWN_WORDS in report()
    blocked.result()


def test_it_costs_nothing_when_it_is_off_and_keeps_no_lock() -> None:
    """The methods are the same afterwards; an entry goes away with its lock, even without a release."""
    before = {name: vars(TimedLock).get(name) for name in ("__enter__", "acquire", "__exit__", "release")}
    with record_sites() as outer:
        with record_sites():
            pass
        lock = TimedLock(name="lost")
        in_a_thread(lock.acquire)
        permits = TimedSemaphore(2, name="lost, too")
        in_a_thread(permits.__enter__)
        assert {key for key, _ in sites._takings} == {id(lock), id(permits)}
        del lock, permits
        gc.collect()
        assert not sites._takings
        kept = TimedLock()
        kept.acquire()
    assert not sites._takings
    outer.stop()
    kept.release()
    assert before == {name: vars(TimedLock).get(name) for name in before}
