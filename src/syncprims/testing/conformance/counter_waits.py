"""The contract of waiting for a counter's value."""

from __future__ import annotations

import math
import threading

from ..._core.clock import monotonic
from ..._counter.atomic_counter import AtomicCounter
from ...errors import CounterTimeoutError
from .contract import Contract
from .counter_changes import Make
from .trial import aside, expect, expect_that, finish, limit, moment, raises, start, still, sweep

waits: Contract[Make] = Contract()


@waits.clause("wait_for() and wait_until() return at once if the value is there", "waited for the present value")
def _there(make: Make) -> None:
    counter = make(5)
    expect("wait_for(is odd)", aside(counter.wait_for, lambda value: value % 2 == 1), 5)
    expect("wait_until(5)", aside(counter.wait_until, 5), 5)
    expect("wait_until(4, timeout=0)", aside(counter.wait_until, 4, 0), 5)


@waits.clause(
    "a change wakes the threads that wait for its value, and no others", "waited in three threads, and counted on"
)
def _wake(make: Make) -> None:
    counter = make()
    even = start(counter.wait_for, lambda value: value > 0 and value % 2 == 0)
    two = start(counter.wait_until, 2)
    five = start(counter.wait_until, 5)
    for waiter in (even, two, five):
        still(waiter, "a wait for a value that has not come")
    counter.increment()
    for waiter in (even, two, five):
        still(waiter, "a wait for a value that has not come")
    counter.increment()
    expect("wait_for(is even)", finish(even, "wait_for(is even) at 2"), 2)
    expect("wait_until(2)", finish(two, "wait_until(2) at 2"), 2)
    still(five, "wait_until(5) at 2")
    counter.set(7)
    expect("wait_until(5)", finish(five, "wait_until(5) at 7"), 7)


@waits.clause("every kind of change wakes a thread that waits for it", "waited for a value, and brought it in each way")
def _every_change(make: Make) -> None:
    for what in ("increment", "add", "get_and_add", "set", "get_and_set", "compare_and_set", "update", "decrement"):
        counter = make()
        waiter = start(counter.wait_for, lambda value: value != 0)
        still(waiter, "a wait for a value that has not come")
        change = getattr(counter, what)
        if what == "update":
            change(lambda value: value + 1)
        elif what == "compare_and_set":
            change(0, 1)
        else:
            change(1)
        expect(f"wait_for() after {what}()", finish(waiter, f"wait_for() after {what}()"), counter.value)


@waits.clause("wait_until() sees a value that came and went", "waited for 5, went there and back at once")
def _went(make: Make) -> None:
    counter = make()
    waiter = start(counter.wait_until, 5)
    # No state shows from outside that the waiter is ready, so on a slow machine it gets more than one chance.
    for seconds in (moment(), 5 * moment(), limit()):
        still(waiter, "wait_until(5) at 0")
        counter.set(5)
        counter.set(0)
        waiter.thread.join(seconds)
        if waiter.done():
            break
    expect("wait_until(5)", finish(waiter, "wait_until(5) after 5 came and went"), 5)


@waits.clause("a wait that times out raises CounterTimeoutError, not before its time, and changes nothing", "let it")
def _timeout(make: Make) -> None:
    counter = make(5)
    for what, fn in (
        ("wait_until(6)", lambda: counter.wait_until(6, moment())),
        ("wait_for(never)", lambda: counter.wait_for(lambda _value: False, timeout=moment())),
    ):
        started = monotonic()
        error = aside(raises, CounterTimeoutError, what, fn)
        waited = monotonic() - started
        expect_that(waited > 0.9 * moment(), f"{what} gave up after {waited:.4f} s of {moment():g} s")
        expect(f"the value in the error of {what}", error.value, 5)
        expect(f"the timeout in the error of {what}", error.timeout, moment())
    raises(CounterTimeoutError, "wait_until(6, timeout=0)", aside, counter.wait_until, 6, 0)
    expect("value after that", counter.value, 5)
    expect("increment() after that", counter.increment(), 6)


@waits.clause("an exception of the predicate comes out of wait_for()", "raised in it, then used the counter")
def _predicate(make: Make) -> None:
    counter = make(5)
    error = LookupError("from the predicate")

    def fail(_value: int) -> bool:
        raise error

    got = raises(LookupError, "wait_for(fail)", aside, counter.wait_for, fail)
    expect_that(got is error, f"what came out was {got!r}, not the predicate's own exception")
    expect("increment() after that", aside(counter.increment), 6)


@waits.clause("a predicate runs under no lock", "changed the counter in the predicate and in another thread meanwhile")
def _no_lock(make: Make) -> None:
    counter = make()

    def look(value: int) -> bool:
        counter.increment()
        aside(counter.increment)
        return value >= 2

    expect("wait_for() with such a predicate", aside(counter.wait_for, look, limit()), 2)


@waits.clause("waits refuse an invalid timeout", "waited with a negative timeout and NaN")
def _arguments(make: Make) -> None:
    counter = make()
    for timeout in (-1, math.nan):
        raises(ValueError, f"wait_until(1, {timeout})", counter.wait_until, 1, timeout)
        raises(ValueError, f"wait_for(..., {timeout})", counter.wait_for, bool, timeout)
    raises(TypeError, "wait_for(None)", counter.wait_for, None)


class SweptCounter:
    """A counter with a waiter, and whether the waiter has looked at it."""

    def __init__(self, counter: AtomicCounter) -> None:
        self.counter = counter
        self.looked: threading.Event = threading.Event()

    def look(self, value: int) -> bool:
        """The predicate of the wait."""
        self.looked.set()
        return value > 0

    def problem(self) -> str | None:
        """Return the problem when the wait is over, or None."""
        waiter = start(self.counter.wait_until, self.counter.value + 1)
        self.counter.increment()
        waiter.thread.join(limit())
        return None if waiter.done() else "the counter does not wake waiters any more"


@waits.clause(
    "an interrupt while a thread waits leaves the counter usable",
    "interrupted a wait_for(), and everything before and after it",
    main_thread=True,
)
def _interrupts(make: Make) -> None:
    def scenario(subject: SweptCounter) -> None:
        subject.counter.wait_for(subject.look)

    def let_go(subject: SweptCounter) -> None:
        subject.counter.increment()

    sweep(
        lambda: SweptCounter(make()),
        scenario,
        SweptCounter.problem,
        "warm",
        when_blocked=lambda subject: subject.looked.is_set(),
        unblock=let_go,
    )
