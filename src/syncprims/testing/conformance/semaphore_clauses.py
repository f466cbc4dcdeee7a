"""The contract of a semaphore: permits, the queue of the threads that wait for one, and interrupts."""

from __future__ import annotations

import copy
import math
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias

from ..._core.clock import monotonic
from ..._locks.acquire_all import acquire_all
from ..._locks.semaphore import TimedSemaphore
from ...errors import DeadlockError, LockTimeoutError
from .contract import Contract
from .inside import FAST_MODES, VISITS, OtherInside, Swept, acquire_forms, cross, crowds, holding, passes
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

Make: TypeAlias = Callable[[int], TimedSemaphore]

permits: Contract[Make] = Contract()
line: Contract[Make] = Contract()
interrupted: Contract[Make] = Contract()


# -- permits -----------------------------------------------------------------------------------------------------------


@permits.clause("a fresh semaphore has all its permits free", "asked one with three permits")
def _fresh(make: Make) -> None:
    semaphore = make(3)
    expect("value", semaphore.value, 3)
    expect("holders", semaphore.holders, ())
    expect("waiting", semaphore.waiting, 0)
    expect("held_by_me()", semaphore.held_by_me(), False)


@permits.clause("a with has a permit for its body and gives the semaphore itself", "entered a with three times")
def _with(make: Make) -> None:
    semaphore = make(2)
    for _ in range(3):
        with semaphore as given:
            expect_that(given is semaphore, f"`with semaphore as given` gave {given!r}, not the semaphore")
            expect("value in the body", semaphore.value, 1)
            expect("held_by_me() in the body", semaphore.held_by_me(), True)
            expect("held_by_me() in another thread", aside(semaphore.held_by_me), False)
        expect("value after the with", semaphore.value, 2)
    expect("held_by_me() after the with", semaphore.held_by_me(), False)


@permits.clause("a with gives its permit back when its body raises, and the exception comes out", "raised in bodies")
def _with_error(make: Make) -> None:
    semaphore = make(1)
    for entering in (semaphore, semaphore.hold(limit())):
        for error in (ValueError("in the body"), KeyboardInterrupt("in the body")):
            got: BaseException | None = None
            try:
                with entering:
                    raise error
            except BaseException as caught:  # noqa: BLE001  any exception is to come out
                got = caught
            expect_that(got is error, f"of {error!r} in the body came {got!r}")
            expect("value after that", semaphore.value, 1)


@permits.clause("hold() has a permit for the body, and can be kept and used again", "entered one hold(1) twice")
def _hold(make: Make) -> None:
    semaphore = make(1)
    token = semaphore.hold(limit())
    for _ in range(2):
        with token as given:
            expect_that(given is semaphore, f"`with semaphore.hold(1) as given` gave {given!r}, not the semaphore")
            expect("value in the body", semaphore.value, 0)
        expect("value after the hold()", semaphore.value, 1)
    for timeout in (0, None):
        with semaphore.hold(timeout):
            expect("value in the body", semaphore.value, 0)
    expect("value after the hold(None)", semaphore.value, 1)


@permits.clause("acquire() of a free permit takes it and returns True", "called acquire() in each of its forms")
def _acquire(make: Make) -> None:
    for how, arguments in acquire_forms():
        semaphore = make(2)
        expect(how, semaphore.acquire(**arguments), True)
        expect(f"value after {how}", semaphore.value, 1)
        semaphore.release()
        expect("value after the release()", semaphore.value, 2)


@permits.clause("any thread may release what acquire() took", "acquired here, and released in another thread")
def _any_thread(make: Make) -> None:
    semaphore = make(2)
    semaphore.acquire()
    semaphore.acquire()
    aside(semaphore.release)
    expect("value after a release() in another thread", semaphore.value, 1)
    semaphore.release()
    expect("value after both", semaphore.value, 2)


@permits.clause("release(n) gives n permits back", "acquired three, and released two and one")
def _several(make: Make) -> None:
    semaphore = make(3)
    for _ in range(3):
        semaphore.acquire()
    semaphore.release(2)
    expect("value after release(2)", semaphore.value, 2)
    semaphore.release(n=1)
    expect("value after release(n=1)", semaphore.value, 3)


@permits.clause("a release too many raises ValueError and changes nothing", "released more than acquire() had taken")
def _too_many(make: Make) -> None:
    semaphore = make(2)
    raises(ValueError, "release() of a fresh semaphore", semaphore.release)
    semaphore.acquire()
    raises(ValueError, "release(2) of one permit", semaphore.release, 2)
    expect("value after that", semaphore.value, 1)
    semaphore.release()
    raises(ValueError, "a second release()", semaphore.release)
    expect("value after that", semaphore.value, 2)
    with semaphore:
        raises(ValueError, "release() of the permit of a with", semaphore.release)
        expect("value after that", semaphore.value, 1)


@permits.clause("it refuses arguments that mean nothing", "called it with each of them")
def _arguments(make: Make) -> None:
    semaphore = make(2)
    raises(ValueError, "acquire(False, 1)", semaphore.acquire, False, 1)
    raises(ValueError, "acquire(timeout=-2)", semaphore.acquire, timeout=-2)
    raises(OverflowError, "acquire(timeout=1e300)", semaphore.acquire, timeout=1e300)
    raises(ValueError, "hold(-1)", semaphore.hold, -1)
    raises(ValueError, "hold(nan)", semaphore.hold, math.nan)
    semaphore.acquire()
    raises(ValueError, "release(0)", semaphore.release, 0)
    raises(ValueError, "release(-1)", semaphore.release, -1)
    raises(TypeError, "release('1')", semaphore.release, "1")
    expect("value after that", semaphore.value, 1)
    semaphore.release()


@permits.clause("repr() shows the name and never blocks; name and timeout are read-only", "called it, and tried to set")
def _repr(make: Make) -> None:
    semaphore = make(1)
    with OtherInside(semaphore):
        text = aside(repr, semaphore)
    expect_that(semaphore.name in text, f"repr() of {semaphore.name!r} gave {text!r}")
    raises(AttributeError, "semaphore.name = 'other'", setattr, semaphore, "name", "other")
    raises(AttributeError, "semaphore.timeout = 1", setattr, semaphore, "timeout", 1)


@permits.clause("it can be weakly referenced, and neither pickled nor copied", "tried each")
def _identity(make: Make) -> None:
    semaphore = make(1)
    expect_that(weakref.ref(semaphore)() is semaphore, "the weak reference did not lead to it")
    raises(TypeError, "pickle.dumps(semaphore)", pickle.dumps, semaphore)
    raises(TypeError, "copy.copy(semaphore)", copy.copy, semaphore)


@permits.clause("acquire_all() takes a permit together with others, and all or none", "entered it, free and not")
def _all(make: Make) -> None:
    one, other = make(1), make(1)
    with acquire_all(other, one, timeout=limit()):
        expect("the values inside", (one.value, other.value), (0, 0))
    expect("the values after that", (one.value, other.value), (1, 1))
    with OtherInside(other):
        raises(LockTimeoutError, "acquire_all()", acquire_all(one, other, timeout=moment()).__enter__)
        expect("the value of the free one after that", one.value, 1)


@permits.clause("a permit that another thread had at a fork is free in the child", "held one in another thread, forked")
def _fork(make: Make) -> None:
    semaphore = make(2)

    def child() -> None:
        expect("value in the child, which has one permit itself", semaphore.value, 1)
        with semaphore.hold(moment()):
            expect("value with both", semaphore.value, 0)

    with OtherInside(semaphore), semaphore:
        in_child(child)


# -- the queue ---------------------------------------------------------------------------------------------------------


@line.clause("a try fails at once if all permits are taken", "tried it while another thread had the permit")
def _try(make: Make) -> None:
    semaphore = make(1)
    with OtherInside(semaphore):
        expect("acquire(False)", aside(semaphore.acquire, False), False)
        expect("acquire(timeout=0)", aside(semaphore.acquire, timeout=0), False)
        raises(LockTimeoutError, "hold(0)", aside, semaphore.hold(0).__enter__)


@line.clause("a wait with a limit ends when its time is up, not before, and changes nothing", "let waits run out")
def _timeout(make: Make) -> None:
    semaphore = make(1)
    with OtherInside(semaphore):
        started = monotonic()
        expect("acquire(timeout=...)", aside(semaphore.acquire, timeout=moment()), False)
        waited = monotonic() - started
        expect_that(waited > 0.9 * moment(), f"it gave up after {waited:.4f} s, though its limit was {moment():g} s")
        raises(LockTimeoutError, "entering hold(...)", aside, semaphore.hold(moment()).__enter__)
        expect("value after that", semaphore.value, 0)
        expect("waiting after that", semaphore.waiting, 0)
    expect("value after the holder has left", semaphore.value, 1)


@line.clause("a LockTimeoutError has the name, the limit, the wait and the holders", "caught one and read it")
def _error(make: Make) -> None:
    semaphore = make(2)
    with OtherInside(semaphore) as one, OtherInside(semaphore) as other:
        error = raises(LockTimeoutError, "entering hold(...)", aside, semaphore.hold(moment()).__enter__)
    expect("its lock_name", error.lock_name, semaphore.name)
    expect("its timeout", error.timeout, moment())
    idents = {one.thread.ident, other.thread.ident}
    expect("the idents of its holders", {holder.ident for holder in error.holders}, idents)
    for fact in (semaphore.name, one.thread.name, *map(str, idents)):
        expect_that(fact in str(error), f"its message does not contain {fact!r}: {error}")


@line.clause("holders names the threads that have a permit, and waiting counts the waiters", "asked for both")
def _holders(make: Make) -> None:
    semaphore = make(2)
    with OtherInside(semaphore) as one, OtherInside(semaphore) as other:
        idents = {holder.ident for holder in semaphore.holders}
        expect("the idents of the holders", idents, {one.thread.ident, other.thread.ident})
        expect("the name of the first one", semaphore.holders[0].name, one.thread.name)
        waiters = [start(passes, semaphore.hold(limit())) for _ in range(2)]
        until("waiting should become 2 with two waiters", lambda: semaphore.waiting == 2)
    for waiter in waiters:
        finish(waiter, "a waiter")
    expect("holders after all have left", semaphore.holders, ())
    expect("waiting after all have left", semaphore.waiting, 0)


@line.clause("no more threads than permits are ever inside together", "took them in four threads, in all ways")
def _exclusion(make: Make) -> None:
    semaphore = make(2)
    seen = crowds(semaphore)
    expect("the largest number of threads inside together", max(seen), 2)
    expect("the number of visits", len(seen), VISITS)
    expect("value after all that", semaphore.value, 2)


@line.clause("each permit that is given back lets one waiter in, the first that came", "let three threads wait in turn")
def _in_order(make: Make) -> None:
    semaphore, order = make(1), list[int]()
    goes = [threading.Event() for _ in range(3)]

    def stay(number: int) -> None:
        with semaphore:
            order.append(number)
            goes[number].wait(limit())

    waiters = []
    with OtherInside(semaphore):
        for number in range(3):
            waiters.append(start(stay, number))
            until("one more thread should wait", lambda number=number: semaphore.waiting == number + 1)  # type: ignore[misc]  # bound in the loop
    for number, go in enumerate(goes):
        until("the next waiter should get in", lambda number=number: len(order) > number)  # type: ignore[misc]  # bound in the loop
        settled(lambda number=number: len(order) > number + 1)  # type: ignore[misc]  # a moment for a thread that comes too early
        expect("the threads let in so far", order, list(range(number + 1)))
        go.set()
    for waiter in waiters:
        finish(waiter, "a waiter")


@line.clause("release(n) lets n waiters in", "let two threads wait, and released two permits at once")
def _lets_several_in(make: Make) -> None:
    semaphore, go = make(2), threading.Event()
    inside: list[int] = []

    def stay() -> None:
        with semaphore:
            inside.append(1)
            go.wait(limit())

    semaphore.acquire()
    semaphore.acquire()
    waiters = [start(stay) for _ in range(2)]
    until("two threads should wait", lambda: semaphore.waiting == 2)
    semaphore.release(2)
    until("both waiters should get in", lambda: len(inside) == 2)
    go.set()
    for waiter in waiters:
        finish(waiter, "a waiter")


@line.clause("a thread that would wait for its own permits gets DeadlockError at once", "entered it once too often")
def _own(make: Make) -> None:
    semaphore = make(2)

    def enter() -> None:
        with semaphore, semaphore:
            for how, way in (("with", semaphore.__enter__), ("acquire()", semaphore.acquire)):
                error = raises(DeadlockError, f"{how} by the thread that has all permits", way)
                expect("the lock of its cycle", error.cycle[0].lock_name, semaphore.name)
            expect("acquire(timeout=...)", semaphore.acquire(timeout=moment()), False)
            expect("value after that", semaphore.value, 0)

    aside(enter)
    expect("value after both withs", semaphore.value, 2)


@line.clause("of two threads that wait for each other's permit exactly one gets DeadlockError", "let them cross")
def _deadlock(make: Make) -> None:
    semaphores = make(1), make(1)
    outcomes = cross(semaphores, lambda mine: mine, lambda theirs: passes(theirs.hold(limit())))
    victims = [one for one in outcomes if isinstance(one, DeadlockError)]
    expect_that(len(victims) == 1 and True in outcomes, f"it came to {outcomes!r}")
    names = sorted(wait.lock_name for wait in victims[0].cycle)
    expect("the locks of its cycle", names, sorted(semaphore.name for semaphore in semaphores))
    expect("the values after that", [semaphore.value for semaphore in semaphores], [1, 1])


@line.clause(
    "a wait that some thread can end never gets DeadlockError",
    "waited while another thread had a permit, and while one was taken by acquire()",
)
def _no_deadlock(make: Make) -> None:
    semaphore = make(2)

    def enter_again() -> None:
        with semaphore, semaphore.hold(limit()):
            pass

    with OtherInside(semaphore):
        waiter = start(enter_again)
        until("the thread should wait", lambda: semaphore.waiting == 1)
        still(waiter, "a thread that waits for a permit of another thread")
    finish(waiter, "the waiter")
    semaphore.acquire()
    waiter = start(enter_again)
    until("the thread should wait", lambda: semaphore.waiting == 1)
    still(waiter, "a thread that waits for a permit that any thread may give back")
    semaphore.release()
    finish(waiter, "the waiter")


# -- interrupts --------------------------------------------------------------------------------------------------------


class SweptSemaphore(Swept[TimedSemaphore]):
    """A semaphore with one permit, under interrupts."""

    def problem(self) -> str | None:
        """Return the problem when the scenario is over, or None."""
        if self.ran_without:
            return "the body ran without a permit"
        if self.lock.value != 1:
            return "the permit is not free"
        return "a thread still waits" if self.lock.waiting else None


def _in_a_with(subject: SweptSemaphore) -> None:
    with subject.lock:
        subject.work(subject.lock.held_by_me())


@interrupted.clause(
    "an interrupt anywhere in a with loses no permit", "interrupted it at every point", main_thread=True
)
def _interrupted_with(make: Make) -> None:
    sweep(lambda: SweptSemaphore(make(1)), _in_a_with, SweptSemaphore.problem, *FAST_MODES)


@interrupted.clause(
    "an interrupt anywhere in a hold() loses no permit", "interrupted it at every point", main_thread=True
)
def _interrupted_hold(make: Make) -> None:
    sweep(lambda: SweptSemaphore(make(1)), holding(), SweptSemaphore.problem, *FAST_MODES)


def _held_elsewhere(make: Make) -> SweptSemaphore:
    semaphore = make(1)
    return SweptSemaphore(semaphore, OtherInside(semaphore).leave)


@interrupted.clause(
    "an interrupt while a thread waits loses no permit",
    "interrupted a with that waited, and everything before and after the wait",
    main_thread=True,
)
def _interrupted_wait(make: Make) -> None:
    sweep(
        lambda: _held_elsewhere(make),
        holding(),
        SweptSemaphore.problem,
        "warm",
        when_blocked=SweptSemaphore.waits,
        unblock=SweptSemaphore.let_go,
    )
