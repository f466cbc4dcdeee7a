"""An interrupt at any point leaves a change made or not made, the counter free, and no waiter registered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from counter.cases import CHANGES, Change, Recording, nothing
from syncprims import AtomicCounter, CounterBoundsError, CounterTimeoutError, DeadlockError
from syncprims._core import waits as _waits
from syncprims._counter.waiting import ValueWaiter
from syncprims.testing import MODES, Mode, Running, WedgeError, assert_blocks, interrupts, patience

pytestmark = pytest.mark.untraceable

# Every opcode of a worker takes long, so that mode is in the slow part.
each_mode = pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=pytest.mark.slow) if mode == "worker" else mode for mode in MODES]
)


def broken(counter: AtomicCounter, *allowed: int) -> str | None:
    """Return the fault of the counter, whose value must be one of these, or None."""
    if counter._lock._is_owned():
        return "its lock is still taken"
    if counter.value not in allowed:
        return f"its value is {counter.value}"
    if counter._updating:
        return "its update is not over"
    if counter._waiters:
        return "a waiter is left in it"
    counter.set(counter.value)  # a change that finds no waiter
    if counter._special is not counter._ordinarily:
        return "it does not take its way again"
    if _waits.count_waits(counter):
        return "a wait is left in the graph"
    if not counter._lock.acquire(False):
        return "its lock is taken by a thread that is gone"
    counter._lock.release()
    waiter = ValueWaiter(bool, "anything", counter.value + 1)
    counter._admit(waiter)
    if counter.increment() != waiter.told.get_nowait() or counter._waiters:
        return "it does not work"
    return None


@each_mode
@pytest.mark.parametrize(
    "make",
    [
        lambda: AtomicCounter(7),
        pytest.param(lambda: AtomicCounter(7, minimum=-1000, maximum=1000), marks=pytest.mark.slow),
        pytest.param(lambda: Recording(7), marks=pytest.mark.slow),
    ],
    ids=["plain", "bounded", "hooked"],
)
@pytest.mark.parametrize(
    ("change", "left"),
    [(change, left) for name, change, _, left in CHANGES if " " not in name],
    ids=[case[0] for case in CHANGES if " " not in case[0]],
)
def test_changes_are_whole(make: Callable[[], AtomicCounter], change: Change, left: int, mode: Mode) -> None:
    """An interrupted change is made or not made."""
    interrupts(make, change, lambda counter: broken(counter, 7, left), mode=mode).check()


def to_and_fro(counter: AtomicCounter) -> None:
    counter.set(9)
    counter.reset()


def refused_by_bounds(counter: AtomicCounter) -> None:
    try:
        counter.increment(1000)
    except CounterBoundsError:
        pass
    try:
        counter.update(lambda value: value - 1000)
    except CounterBoundsError:
        pass


def refused_by_update(counter: AtomicCounter) -> None:
    try:
        counter.update(lambda value: counter.increment())
    except DeadlockError:
        pass


def times_out(counter: AtomicCounter) -> None:
    try:
        counter.wait_until(100, timeout=0)
    except CounterTimeoutError:
        pass
    try:
        counter.wait_for(lambda value: False, timeout=0.0001)
    except CounterTimeoutError:
        pass


def is_there(counter: AtomicCounter) -> None:
    counter.wait_until(7)
    counter.wait_for(lambda value: value == 7)


@each_mode
@pytest.mark.parametrize("scenario", [to_and_fro, refused_by_bounds, refused_by_update, times_out, is_there])
def test_what_changes_nothing_leaves_nothing(scenario: Change, mode: Mode) -> None:
    """Interrupted refusals, timeouts and waits that end at once leave a working counter."""
    interrupts(
        lambda: AtomicCounter(7, minimum=-100, maximum=100), scenario, lambda c: broken(c, 7, 9), mode=mode
    ).check()


class Waited(AtomicCounter):
    """A counter that records whether a thread waits for it, and what the wait returned."""

    def __init__(self) -> None:
        super().__init__()
        self.got: int | None = None

    def somebody_waits(self) -> bool:
        return _waits.count_waits(self) == 1 and len(self._waiters) == 1

    def let_go(self) -> None:
        self.increment(5)


def until(counter: Waited) -> None:
    counter.got = counter.wait_until(3)


def until_in_time(counter: Waited) -> None:
    counter.got = counter.wait_until(3, timeout=patience())


def by_predicate(counter: Waited) -> None:
    counter.got = counter.wait_for(lambda value: value == 5)


def by_predicate_in_time(counter: Waited) -> None:
    counter.got = counter.wait_for(lambda value: value == 5, timeout=patience())


@each_mode
@pytest.mark.parametrize(
    "scenario",
    [
        until,
        pytest.param(until_in_time, marks=pytest.mark.slow),
        pytest.param(by_predicate, marks=pytest.mark.slow),
        by_predicate_in_time,
    ],
)
def test_interrupted_waits_leave_nothing(scenario: Callable[[Waited], None], mode: Mode) -> None:
    """An interrupt before, in or after a wait, or on the way out of one, leaves no waiter registered."""

    def wrong(counter: Waited) -> str | None:
        if counter.got not in (None, 5):
            return f"the wait returned {counter.got}"
        return broken(counter, 5)

    interrupts(Waited, scenario, wrong, mode=mode, when_blocked=Waited.somebody_waits, unblock=Waited.let_go).check()


class Waker(Waited):
    """A counter that two threads wait for and a scenario has to wake: one notification is not enough."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Running[int]] = [
            assert_blocks(lambda: self.wait_until(1), until=lambda number=number: self.so_many_wait(number))  # type: ignore[misc]  # a lambda's default has no type
            for number in (1, 2)
        ]

    def so_many_wait(self, number: int) -> bool:
        return _waits.count_waits(self) == number and len(self._waiters) == number


@each_mode
@pytest.mark.parametrize("change", [lambda c: c.increment(), lambda c: c.update(lambda value: value + 1)])
def test_an_interrupted_change_never_loses_a_wake_up(change: Change, mode: Mode) -> None:
    """A thread that waits for a value is woken by the change that makes it, even if an interrupt comes right after."""

    def wrong(counter: Waker) -> str | None:
        if counter.value == 0:
            counter.increment()
        try:
            got = [waiting.result() for waiting in counter.waiting]
        except WedgeError:
            counter.increment()  # so that the wait ends
            return "a waiter was not woken"
        return broken(counter, 1) if got == [1, 1] else f"the waiters got {got}"

    interrupts(Waker, change, wrong, mode=mode).check()


class Leaky(AtomicCounter):
    """The control: it acquires its lock and releases it by hand, without a `finally`."""

    def increment(self, n: int = 1) -> int:
        self._lock.acquire()
        nothing()
        self._value += n
        self._lock.release()
        return self._value


@pytest.mark.parametrize("mode", ["warm", "cold", "storm", "cold storm"])
def test_a_careless_counter_is_caught(mode: Mode) -> None:
    """The sweep finds a counter that an interrupt leaves locked."""
    report = interrupts(
        lambda: Leaky(7),
        lambda counter: counter.increment(),
        lambda c: "taken" if c._lock._is_owned() else None,
        mode=mode,
    )
    assert report.leaks


def test_hooks_are_told_of_no_change_that_was_not_made() -> None:
    """Every call of a hook reports a real change, wherever an interrupt came."""

    def wrong(counter: Recording) -> str | None:
        return f"told {counter.told} at {counter.value}" if counter.told not in ([], [(7, counter.value)]) else None

    for change in (lambda c: c.increment(), lambda c: c.update(lambda value: value + 1), lambda c: c.get_and_set(9)):
        interrupts(lambda: Recording(7), change, wrong).check()
