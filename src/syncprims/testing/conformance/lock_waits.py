"""The contract of a lock that threads wait for: time limits, hand-off, and deadlocks."""

from __future__ import annotations

import threading

from ..._core.clock import monotonic
from ...errors import DeadlockError, LockTimeoutError
from .contract import Contract
from .held_lock import Held, Lock, Make, expect_free, expect_taken
from .inside import VISITS, cross, crowds, passes
from .trial import (
    BrokenError,
    aside,
    expect,
    expect_that,
    finish,
    limit,
    moment,
    raises,
    settled,
    start,
    still,
    told,
    until,
)

waits: Contract[Make] = Contract()
cycles: Contract[Make] = Contract()
plain_only: Contract[Make] = Contract()
reentrant_only: Contract[Make] = Contract()


# -- time limits ------------------------------------------------------------------------------------------------------


@waits.clause("acquire(False) of a held lock returns False at once", "tried it while another thread held the lock")
def _try(make: Make) -> None:
    lock = make()
    with Held(lock):
        expect("acquire(False)", aside(lock.acquire, False), False)
        expect("acquire(timeout=0)", aside(lock.acquire, timeout=0), False)
        raises(LockTimeoutError, "hold(0)", aside, lock.hold(0).__enter__)


@waits.clause("acquire(timeout) of a held lock returns False when the time is up", "let it run into its limit")
def _acquire_timeout(make: Make) -> None:
    lock = make()
    with Held(lock):
        started = monotonic()
        expect("acquire(timeout=...)", aside(lock.acquire, timeout=moment()), False)
        _expect_waited(monotonic() - started)


@waits.clause("hold(timeout) of a held lock raises LockTimeoutError when the time is up", "let it run into its limit")
def _hold_timeout(make: Make) -> None:
    lock = make()
    with Held(lock):
        started = monotonic()
        raises(LockTimeoutError, "entering hold(...)", aside, lock.hold(moment()).__enter__)
        _expect_waited(monotonic() - started)


def _expect_waited(waited: float) -> None:
    # A wait that is shorter by a clock tick is not a failure.
    expect_that(waited > 0.9 * moment(), f"it gave up after {waited:.4f} s, though its limit was {moment():g} s")


@waits.clause("a LockTimeoutError has the lock, the limit, the wait and the holder", "caught one and read it")
def _error(make: Make) -> None:
    lock = make()
    with Held(lock) as other:
        error = raises(LockTimeoutError, "entering hold(...)", aside, lock.hold(moment()).__enter__)
        expect("its lock_name", error.lock_name, lock.name)
        expect("its timeout", error.timeout, moment())
        expect_that(error.waited > 0.9 * moment(), f"its waited is {error.waited!r} of {moment():g} s")
        name = None if error.holder is None else error.holder.name
        expect("its holder's name", name, other.thread.name)
        for fact in (lock.name, other.thread.name):
            expect_that(fact in str(error), f"its message does not contain {fact!r}: {error}")


@waits.clause("a wait that times out changes nothing", "let waits time out, then let the holder go")
def _unchanged(make: Make) -> None:
    lock = make()
    with Held(lock):
        aside(lock.acquire, timeout=moment())
        raises(LockTimeoutError, "entering hold(...)", aside, lock.hold(moment()).__enter__)
        expect("locked() after the timeouts", lock.locked(), True)
        expect_taken(lock, "after the timeouts")
        expect("waiting after the timeouts", lock.waiting, 0)
    expect_free(lock, "after the holder's release()")


# -- hand-off ---------------------------------------------------------------------------------------------------------


def _take_turn(lock: Lock, how: str, inside: list[int], go: threading.Event) -> None:
    """Wait for the lock, note that this thread is in, and stay until another thread asks it to leave."""
    if how == "with":
        with lock.hold(limit()):
            _stay(inside, go)
    else:
        expect("acquire() of a waiter", lock.acquire() if how == "acquire" else lock.acquire(timeout=limit()), True)
        try:
            _stay(inside, go)
        finally:
            lock.release()


def _stay(inside: list[int], go: threading.Event) -> None:
    inside.append(threading.get_ident())
    go.wait(limit())


@waits.clause("a waiter gets the lock when its holder releases it", "waited in each way, then let the holder go")
def _handed_on(make: Make) -> None:
    for how in ("acquire", "acquire with a timeout", "with"):
        lock, inside, go = make(), list[int](), threading.Event()
        with Held(lock):
            waiter = start(_take_turn, lock, how, inside, go)
            still(waiter, f"a thread that came to the held lock by {how}")
            expect("the threads that got in meanwhile", inside, [])
        until(f"{how} should get the lock when its holder releases it", lambda inside=inside: inside)  # type: ignore[misc]  # bound in the loop
        expect_taken(lock, f"while the waiter by {how} had it")
        go.set()
        finish(waiter, "the waiter")
        expect_free(lock, "after the waiter's release()")


@waits.clause("one release lets one waiter in", "let three threads wait, and let the lock go from one to the next")
def _one_at_a_time(make: Make) -> None:
    lock, inside = make(), list[int]()
    goes = [threading.Event() for _ in range(3)]
    turns = iter(goes)

    def take() -> None:
        lock.acquire()
        try:
            go = next(turns)
            _stay(inside, go)
        finally:
            lock.release()

    with Held(lock):
        waiters = [start(take) for _ in goes]
        settled(lambda: lock.waiting == len(goes))
        expect("the threads inside before the release", inside, [])
    for number, go in enumerate(goes, start=1):
        until(f"release() number {number} should let a waiter in", lambda number=number: len(inside) >= number)  # type: ignore[misc]  # bound in the loop
        settled(lambda number=number: len(inside) > number)  # type: ignore[misc]  # a moment for a thread that comes too early
        expect(f"the number of threads let in by {number} releases", len(inside), number)
        go.set()
    for waiter in waiters:
        finish(waiter, "a waiter")
    expect_free(lock, "after all had been in")


@waits.clause("no two threads are ever inside together", "took the lock in four threads, again and again, in all ways")
def _exclusion(make: Make) -> None:
    seen = crowds(make())
    expect("the largest number of threads inside together", max(seen), 1)
    expect("the number of visits", len(seen), VISITS)


@waits.clause("waiting counts the threads that wait", "asked it before, while and after two threads waited")
def _waiting(make: Make) -> None:
    lock, inside, go = make(), list[int](), threading.Event()
    go.set()
    with Held(lock):
        expect("waiting without a waiter", lock.waiting, 0)
        waiters = [start(_take_turn, lock, how, inside, go) for how in ("with", "acquire")]
        until("waiting should become 2 with two waiters", lambda: lock.waiting == 2)
    for waiter in waiters:
        finish(waiter, "a waiter")
    expect("waiting after they had been in", lock.waiting, 0)


# -- deadlocks --------------------------------------------------------------------------------------------------------


def _cross(make: Make, *, timed_acquire: bool = False) -> tuple[list[object], tuple[Lock, Lock]]:
    """Let two threads each hold a lock and wait for the other's; return the outcome of each, and the locks."""
    locks = make(), make()

    def take(theirs: Lock) -> bool:
        if not timed_acquire:
            return passes(theirs.hold(limit()))
        if not theirs.acquire(timeout=2 * moment()):
            return False
        theirs.release()
        return True

    return cross(locks, _itself, take), locks


def _itself(lock: Lock) -> Lock:
    return lock


def _in_words(outcomes: list[object]) -> str:
    return " and ".join(told(one) if isinstance(one, BaseException) else repr(one) for one in outcomes)


@cycles.clause(
    "of two threads that wait for each other's lock exactly one gets DeadlockError",
    "let two threads hold a lock each, and enter the other's",
)
def _deadlock(make: Make) -> None:
    outcomes, locks = _cross(make)
    victims = [one for one in outcomes if isinstance(one, DeadlockError)]
    well = len(victims) == 1 and True in outcomes
    expect_that(well, f"one should get DeadlockError and the other the lock, but it came to {_in_words(outcomes)}")
    for lock in locks:
        expect_free(lock, "after the deadlock was resolved")


@cycles.clause("a DeadlockError names the cycle", "read the error of two threads that waited for each other")
def _cycle(make: Make) -> None:
    outcomes, locks = _cross(make)
    for victim in outcomes:
        if isinstance(victim, DeadlockError):
            names = sorted(edge.lock_name for edge in victim.cycle)
            expect("the locks of its cycle", names, sorted(lock.name for lock in locks))
            edges = victim.cycle
            for edge, following in zip(edges, (*edges[1:], *edges[:1]), strict=True):
                expect("the holder of an edge, who waits in the next,", edge.holder, following.thread)
            return
    raise BrokenError(f"no thread got a DeadlockError: {_in_words(outcomes)}")


@waits.clause(
    "acquire(timeout) in a cycle of waiting threads returns False",
    "let two threads hold a lock each, and acquire the other's with a timeout",
)
def _timed_cross(make: Make) -> None:
    outcomes, locks = _cross(make, timed_acquire=True)
    well = False in outcomes and all(isinstance(one, bool) for one in outcomes)
    expect_that(well, f"one or both should get False, but it came to {_in_words(outcomes)}")
    for lock in locks:
        expect_free(lock, "after both gave up")


@waits.clause(
    "a wait that completes no cycle never gets DeadlockError",
    "let a holder of one lock wait for another, whose holder waits for nothing, with a third thread behind",
)
def _no_deadlock(make: Make) -> None:
    first, second = make(), make()
    got_first = threading.Event()

    def middle() -> None:
        with first:
            got_first.set()
            with second.hold(limit()):
                pass

    def last() -> None:
        with first.hold(limit()):
            pass

    with Held(second):
        chain = [start(middle)]
        got_first.wait(limit())
        chain += [start(last), start(last)]
        settled(lambda: second.waiting == 1 and first.waiting == 2)
        for waiter in chain:
            still(waiter, "a thread that has to wait")
    for waiter in chain:
        finish(waiter, "a thread in the chain")


# -- differences between a plain lock and a reentrant one -------------------------------------------------------------


@plain_only.clause(
    "a thread that enters a lock which it holds gets DeadlockError at once",
    "entered with and hold() and called acquire() in the holder",
)
def _own(make: Make) -> None:
    lock = make()
    ways = (
        ("with", lock.__enter__),
        ("hold(None)", lock.hold(None).__enter__),
        ("hold(1)", lock.hold(limit()).__enter__),
        ("acquire()", lock.acquire),
    )

    def hold() -> None:
        with lock:
            for how, enter in ways:
                raises(DeadlockError, f"{how} in the holder", enter)
                expect(f"held_by_me() after {how}", lock.held_by_me(), True)
                expect_taken(lock, f"after {how}")

    aside(hold)
    expect_free(lock, "after the one release")


@plain_only.clause(
    "acquire(timeout) of a lock that the thread holds returns False", "called it, and acquire(False), in the holder"
)
def _own_timed(make: Make) -> None:
    lock = make()

    def hold() -> None:
        with lock:
            expect("acquire(False)", lock.acquire(False), False)
            started = monotonic()
            expect("acquire(timeout=...)", lock.acquire(timeout=moment()), False)
            _expect_waited(monotonic() - started)
            expect_taken(lock, "after that")

    aside(hold)
    expect_free(lock, "after the one release")


@reentrant_only.clause(
    "its holder may take it again, and it is free after as many releases", "took it five times in one thread"
)
def _reentrant(make: Make) -> None:
    lock = make()

    def hold() -> None:
        with lock, lock, lock.hold(limit()):
            expect("acquire() in the holder", lock.acquire(), True)
            expect("acquire(False) in the holder", lock.acquire(False), True)
            lock.release()
            lock.release()
            expect("held_by_me() inside", lock.held_by_me(), True)
            expect_taken(lock, "inside")
        raises(RuntimeError, "a release too many", lock.release)

    aside(hold)
    expect_free(lock, "after as many releases")


@reentrant_only.clause(
    "releases of inner holds keep it taken for the outer one", "left inner holds, normally and by an exception"
)
def _outer(make: Make) -> None:
    lock = make()
    with lock:
        with lock:
            pass
        expect_taken(lock, "after an inner with")
        try:
            with lock:
                raise ValueError("in the body")
        except ValueError:
            expect_taken(lock, "after an inner with that raised")
    expect_free(lock, "after the outer with")
