"""The contract of a reader-writer lock: readers side by side, writers alone, their turns, and interrupts."""

from __future__ import annotations

import copy
import math
import pickle
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import methodcaller
from typing import TypeAlias

from ..._core.clock import monotonic, sleep
from ..._locks.acquire_all import acquire_all
from ..._locks.rw_lock import TimedRWLock
from ...errors import DeadlockError, LockTimeoutError
from ..threads import Running
from .contract import Contract
from .inside import FAST_MODES, OtherInside, Swept, cross, passes
from .trial import (
    aside,
    expect,
    expect_that,
    finish,
    in_child,
    limit,
    moment,
    raises,
    settled,
    start,
    still,
    sweep,
    until,
)

Make: TypeAlias = Callable[[], TimedRWLock]

sides: Contract[Make] = Contract()
turns: Contract[Make] = Contract()
interrupted: Contract[Make] = Contract()


def _expect(lock: TimedRWLock, when: str, read: bool, written: bool) -> None:
    expect(f"read_locked() {when}", lock.read_locked(), read)
    expect(f"write_locked() {when}", lock.write_locked(), written)


def _queue(lock: TimedRWLock, entering: AbstractContextManager[object]) -> Running[bool]:
    """Let another thread wait behind those that already wait."""
    waiting = lock.waiting
    running = start(passes, entering)
    until("one more thread should wait", lambda: lock.waiting == waiting + 1)
    return running


# -- two sides ---------------------------------------------------------------------------------------------------------


@sides.clause("a fresh lock is free", "asked a fresh lock for all that it says of itself")
def _fresh(make: Make) -> None:
    lock = make()
    _expect(lock, "of a fresh lock", read=False, written=False)
    expect("held_by_me()", lock.held_by_me(), None)
    expect("holders", lock.holders, ())
    expect("waiting", lock.waiting, 0)


@sides.clause("read() lets in several readers at the same time", "read in three threads at once")
def _readers(make: Make) -> None:
    lock = make()
    with OtherInside(lock.read()), OtherInside(lock.read()), lock.read() as given:
        expect_that(given is lock, f"`with lock.read() as given` gave {given!r}, not the lock")
        expect("the number of holders", len(lock.holders), 3)
        expect("held_by_me()", lock.held_by_me(), "read")
        _expect(lock, "with three readers", read=True, written=False)
    _expect(lock, "after the readers", read=False, written=False)


@sides.clause("write() lets one writer in, alone", "wrote, and let others try to read and to write")
def _writer(make: Make) -> None:
    lock = make()
    with lock.write() as given:
        expect_that(given is lock, f"`with lock.write() as given` gave {given!r}, not the lock")
        expect("held_by_me()", lock.held_by_me(), "write")
        expect("held_by_me() of another thread", aside(lock.held_by_me), None)
        _expect(lock, "with a writer", read=False, written=True)
        raises(LockTimeoutError, "another thread's read(0)", aside, passes, lock.read(0))
        raises(LockTimeoutError, "another thread's write(0)", aside, passes, lock.write(0))
    aside(passes, lock.write(0))
    _expect(lock, "after the writers", read=False, written=False)


@sides.clause("a writer does not come in while a thread reads", "read, and let another thread try to write")
def _no_writer(make: Make) -> None:
    lock = make()
    with lock.read():
        raises(LockTimeoutError, "another thread's write(0)", aside, passes, lock.write(0))
    aside(passes, lock.write(0))


@sides.clause("the results of read() and write() can be kept and used again", "entered each twice, and in two threads")
def _kept(make: Make) -> None:
    lock = make()
    read, write = lock.read(), lock.write(limit())
    for _ in range(2):
        with read:
            expect("held_by_me()", lock.held_by_me(), "read")
            aside(passes, read)
        with write:
            expect("held_by_me()", lock.held_by_me(), "write")
        aside(passes, write)
    _expect(lock, "after all that", read=False, written=False)


@sides.clause("both release the lock when the body raises, and the exception comes out", "raised in bodies")
def _error_in_body(make: Make) -> None:
    lock = make()
    for entering in (lock.read(), lock.write(), lock.read(limit()), lock.write(None)):
        for error in (ValueError("in the body"), KeyboardInterrupt("in the body")):
            got: BaseException | None = None
            try:
                with entering:
                    raise error
            except BaseException as caught:  # noqa: BLE001  any exception is to come out
                got = caught
            expect_that(got is error, f"of {error!r} in the body came {got!r}")
            _expect(lock, "after that", read=False, written=False)


@sides.clause("a reader may read again, and a writer may write again and read", "nested them in one thread")
def _again(make: Make) -> None:
    lock = make()

    def nest() -> None:
        with lock.read(), lock.read(0):
            expect("held_by_me()", lock.held_by_me(), "read")
        with lock.write():
            with lock.write(0), lock.read(0):
                expect("held_by_me()", lock.held_by_me(), "write")
            _expect(lock, "in the outer write()", read=False, written=True)

    aside(nest)
    aside(passes, lock.write(0))


@sides.clause("a writer that enters read() and leaves write() goes on as a reader", "left them in that order")
def _downgrade(make: Make) -> None:
    lock = make()
    write, read = lock.write(), lock.read()
    write.__enter__()
    read.__enter__()
    write.__exit__(None, None, None)
    expect("held_by_me()", lock.held_by_me(), "read")
    _expect(lock, "after leaving write()", read=True, written=False)
    aside(passes, lock.read(0))
    raises(LockTimeoutError, "another thread's write(0)", aside, passes, lock.write(0))
    read.__exit__(None, None, None)
    aside(passes, lock.write(0))


@sides.clause("a reader that wants to write gets DeadlockError at once", "entered write() in read()")
def _upgrade(make: Make) -> None:
    lock = make()

    def upgrade() -> None:
        with lock.read():
            for how, entering in (("write()", lock.write()), ("write(1)", lock.write(limit()))):
                raises(DeadlockError, f"{how} by a reader", entering.__enter__)
                expect("held_by_me() after that", lock.held_by_me(), "read")

    aside(upgrade)
    aside(passes, lock.write(0))


@sides.clause("it refuses an invalid timeout", "called read() and write() with each")
def _arguments(make: Make) -> None:
    lock = make()
    for method in (lock.read, lock.write):
        raises(ValueError, "a timeout of -1", method, -1)
        raises(ValueError, "a timeout of nan", method, math.nan)
        raises(OverflowError, "a timeout of 1e300", method, 1e300)
        raises(TypeError, "a timeout of '1'", method, "1")


@sides.clause("repr() shows the name and never blocks; name and timeout are read-only", "called it, and tried to set")
def _repr(make: Make) -> None:
    lock = make()
    with OtherInside(lock.write()):
        text = aside(repr, lock)
    expect_that(lock.name in text, f"repr() of {lock.name!r} gave {text!r}")
    raises(AttributeError, "lock.name = 'other'", setattr, lock, "name", "other")
    raises(AttributeError, "lock.timeout = 1", setattr, lock, "timeout", 1)


@sides.clause("it can be weakly referenced, and neither pickled nor copied", "tried each")
def _identity(make: Make) -> None:
    lock = make()
    expect_that(weakref.ref(lock)() is lock, "the weak reference did not lead to it")
    raises(TypeError, "pickle.dumps(lock)", pickle.dumps, lock)
    raises(TypeError, "copy.copy(lock)", copy.copy, lock)


@sides.clause("acquire_all() takes either side together with others, and all or none", "entered it, free and not")
def _all(make: Make) -> None:
    one, other = make(), make()
    with acquire_all(other.read(), one.write(), timeout=limit()):
        expect("what this thread does", (one.held_by_me(), other.held_by_me()), ("write", "read"))
    _expect(one, "after acquire_all()", read=False, written=False)
    with OtherInside(other.read()):
        raises(LockTimeoutError, "entering", acquire_all(one.read(), other.write(), timeout=moment()).__enter__)
        _expect(one, "after that", read=False, written=False)
    raises(ValueError, "both sides of one lock", acquire_all, one.read(), one.write())


@sides.clause("a lock that another thread held at a fork is free in the child", "read and wrote elsewhere, and forked")
def _fork(make: Make) -> None:
    written, read, mine = make(), make(), make()

    def child() -> None:
        passes(written.write(moment()))
        passes(read.write(moment()))
        expect("held_by_me() of what the forking thread reads", mine.held_by_me(), "read")

    with OtherInside(written.write()), OtherInside(read.read()), OtherInside(mine.read()), mine.read():
        in_child(child)


# -- turns -------------------------------------------------------------------------------------------------------------


@turns.clause("a wait with a limit ends when its time is up, not before, and changes nothing", "let waits run out")
def _timeout(make: Make) -> None:
    lock = make()
    with OtherInside(lock.write()):
        for entering in (lock.read(moment()), lock.write(moment())):
            started = monotonic()
            raises(LockTimeoutError, "entering", aside, entering.__enter__)
            waited = monotonic() - started
            expect_that(waited > 0.9 * moment(), f"it gave up after {waited:.4f} s, its limit was {moment():g} s")
        expect("waiting after that", lock.waiting, 0)
        _expect(lock, "after that", read=False, written=True)
    aside(passes, lock.write(0))


@turns.clause("a LockTimeoutError has the name, the limit, the wait and the holders", "caught one and read it")
def _error(make: Make) -> None:
    lock = make()
    with OtherInside(lock.read()) as one, OtherInside(lock.read()) as other:
        error = raises(LockTimeoutError, "entering write()", aside, lock.write(moment()).__enter__)
    expect("its lock_name", error.lock_name, lock.name)
    expect("its timeout", error.timeout, moment())
    idents = {one.thread.ident, other.thread.ident}
    expect("the idents of its holders", {holder.ident for holder in error.holders}, idents)
    for fact in (lock.name, one.thread.name, *map(str, idents)):
        expect_that(fact in str(error), f"its message does not contain {fact!r}: {error}")


@turns.clause("a waiting writer holds up new readers, and comes before them", "queued a writer and a reader")
def _writer_first(make: Make) -> None:
    lock = make()
    order: list[str] = []

    def note(entering: AbstractContextManager[object], what: str) -> None:
        with entering:
            order.append(what)

    with OtherInside(lock.read()):
        threads = [start(note, lock.write(), "writer")]
        until("the writer should wait", lambda: lock.waiting == 1)
        raises(LockTimeoutError, "read(0) while a writer waits", aside, passes, lock.read(0))
        threads.append(start(note, lock.read(), "reader"))
        until("the reader should wait too", lambda: lock.waiting == 2)
    for thread in threads:
        finish(thread, "a thread that waited")
    expect("who came in", order, ["writer", "reader"])


@turns.clause("a reader may read again while a writer waits", "queued a writer, and read again")
def _again_while_waiting(make: Make) -> None:
    lock = make()
    with lock.read():
        writer = _queue(lock, lock.write())
        with lock.read(limit()):
            still(writer, "the writer")
        still(writer, "the writer")
    finish(writer, "the writer")


@turns.clause("readers that wait come in together", "queued two readers behind a writer that writes")
def _together(make: Make) -> None:
    lock = make()
    meet = threading.Barrier(2)

    def read() -> None:
        with lock.read():
            meet.wait(limit())

    with OtherInside(lock.write()):
        readers = [start(read) for _ in range(2)]
        until("both readers should wait", lambda: lock.waiting == 2)
    for reader in readers:
        finish(reader, "a reader that meets the other one inside")


@turns.clause(
    "a writer that gives up lets in the readers that it held up", "queued a writer with a limit, and a reader"
)
def _gives_up(make: Make) -> None:
    lock = make()
    with OtherInside(lock.read()):
        writer = start(raises, LockTimeoutError, "write(...)", lock.write(2 * moment()).__enter__)
        reader = start(passes, lock.read())
        finish(reader, "the reader")
        finish(writer, "the writer")


@turns.clause("no stream of readers keeps a writer out", "read again and again in two threads, and wrote")
def _no_starving(make: Make) -> None:
    lock = make()
    stop, mutex = threading.Event(), threading.Lock()
    inside: list[int] = []

    def may_leave() -> bool:
        with mutex:
            if len(inside) < 2 and not stop.is_set():
                return False
            inside.pop()
            return True

    def read() -> None:
        while not stop.is_set():
            with lock.read(limit()):
                with mutex:
                    inside.append(1)
                # One of the two is always inside, unless the other one can't get in.
                if not settled(may_leave, 5 * moment()):
                    with mutex:
                        inside.pop()

    readers = [start(read) for _ in range(2)]
    until("a reader should be inside", lambda: lock.read_locked())
    try:
        for _ in range(2):
            aside(passes, lock.write(limit()))
    finally:
        stop.set()
    for reader in readers:
        finish(reader, "a reader")


@turns.clause("no reader or writer is ever inside beside a writer", "read and wrote in four threads")
def _exclusion(make: Make) -> None:
    lock = make()
    inside: list[str] = []
    faults: list[list[str]] = []
    begin = threading.Barrier(4)

    def visit(what: str) -> None:
        inside.append(what)
        sleep(0)
        seen = list(inside)
        if "writes" in seen and len(seen) > 1:
            faults.append(seen)
        inside.remove(what)

    def work(number: int) -> None:
        begin.wait(limit())
        for turn in range(40):
            if (turn + number) % 4:
                with lock.read(limit()):
                    visit("reads")
            else:
                with lock.write(limit()):
                    visit("writes")

    for worker in [start(work, number) for number in range(4)]:
        finish(worker, "a thread that reads and writes")
    expect("who was inside beside a writer", faults[:3], [])
    _expect(lock, "after all that", read=False, written=False)


@turns.clause("of two threads that wait for each other exactly one gets DeadlockError", "let them cross, either way")
def _deadlock(make: Make) -> None:
    for first in ("read", "write"):
        locks = make(), make()
        outcomes = cross(locks, methodcaller(first), lambda theirs: passes(theirs.write(limit())))
        victims = [one for one in outcomes if isinstance(one, DeadlockError)]
        expect_that(len(victims) == 1 and True in outcomes, f"with {first}() first, it came to {outcomes!r}")
        names = sorted(wait.lock_name for wait in victims[0].cycle)
        expect("the locks of its cycle", names, sorted(lock.name for lock in locks))
        for lock in locks:
            _expect(lock, "after that", read=False, written=False)


@turns.clause("a wait that some thread can end never gets DeadlockError", "waited behind readers and a writer")
def _no_deadlock(make: Make) -> None:
    lock, other = make(), make()

    def read_both() -> None:
        with lock.read(), other.read(limit()):
            pass

    with OtherInside(other.write()):
        first = start(read_both)
        until("a thread should wait for the other lock", lambda: other.waiting == 1)
        second = _queue(lock, lock.write(limit()))
        third = _queue(lock, lock.read(limit()))
        for waiter in (first, second, third):
            still(waiter, "a thread that has to wait")
    for waiter in (first, second, third):
        finish(waiter, "a thread that waited")


# -- interrupts --------------------------------------------------------------------------------------------------------


class SweptRWLock(Swept[TimedRWLock]):
    """A lock under interrupts."""

    def problem(self) -> str | None:
        """Return the problem when the scenario is over, or None."""
        if self.ran_without:
            return "a body ran without the lock"
        if self.lock.read_locked() or self.lock.write_locked():
            return "the lock is still taken"
        return "a thread still waits" if self.lock.waiting else None


def _reads(subject: SweptRWLock) -> None:
    with subject.lock.read():
        subject.work(subject.lock.held_by_me() == "read")


def _writing() -> Callable[[SweptRWLock], None]:
    seconds = limit()  # here, so that it adds no point

    def write(subject: SweptRWLock) -> None:
        with subject.lock.write(seconds):
            subject.work(subject.lock.held_by_me() == "write")

    return write


@interrupted.clause(
    "an interrupt anywhere in a with on read() leaves the lock free", "interrupted it at every point", main_thread=True
)
def _interrupted_reader(make: Make) -> None:
    sweep(lambda: SweptRWLock(make()), _reads, SweptRWLock.problem, *FAST_MODES)


@interrupted.clause(
    "an interrupt anywhere in a with on write() leaves the lock free", "interrupted it at every point", main_thread=True
)
def _interrupted_writer(make: Make) -> None:
    sweep(lambda: SweptRWLock(make()), _writing(), SweptRWLock.problem, *FAST_MODES)


def _read_elsewhere(make: Make) -> SweptRWLock:
    lock = make()
    return SweptRWLock(lock, OtherInside(lock.read()).leave)


@interrupted.clause(
    "an interrupt while a thread waits leaves the lock with its holders, then free",
    "interrupted a writer that waited, and everything before and after the wait",
    main_thread=True,
)
def _interrupted_wait(make: Make) -> None:
    sweep(
        lambda: _read_elsewhere(make),
        _writing(),
        SweptRWLock.problem,
        "warm",
        when_blocked=SweptRWLock.waits,
        unblock=SweptRWLock.let_go,
    )
