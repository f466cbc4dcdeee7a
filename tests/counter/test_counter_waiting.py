"""Waiting for a counter: a waiter is woken, never misses its value, and leaves no trace."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from counter.cases import CHANGES, Change, Recording, each_kind
from locks.actors import eventually
from polling import sending
from syncprims import AtomicCounter, CounterTimeoutError, SyncTimeoutError
from syncprims._core import waits as _waits
from syncprims.testing import Running, Threads, assert_blocks, patience


@pytest.fixture(autouse=True)
def _no_ghosts() -> Iterator[None]:
    """After each test no thread is left in the wait-for graph."""
    before = set(_waits._innermost)  # threads that other tests have left hanging, such as those of broken locks
    yield
    assert set(_waits._innermost) <= before


def blocked(counter: AtomicCounter, wait: Callable[[], int], waiters: int = 1) -> Running[int]:
    """Run the wait in a thread, and return when it has registered."""
    return assert_blocks(wait, until=lambda: len(counter._waiters) == waiters)


def looks(seen: list[int], content: bool, value: int) -> bool:
    seen.append(value)
    return content


def odd(value: int) -> bool:
    return value % 2 == 1


# -- no need to wait --------------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("timeout", [None, 0, 10.0])
def test_what_is_there_already_is_not_waited_for(make: Callable[[], AtomicCounter], timeout: float | None) -> None:
    """A value that fits is returned at once, with any timeout."""
    counter = make()
    assert counter.wait_for(odd, timeout) == 7
    assert counter.wait_for(predicate=odd, timeout=timeout) == 7
    assert counter.wait_until(7, timeout) == 7
    assert counter.wait_until(value=-(10**40), timeout=timeout) == 7
    assert counter._waiters == {}


def test_the_predicate_sees_the_value_once_where_it_fits() -> None:
    """A predicate that has returned true is not called again."""
    seen: list[int] = []
    assert AtomicCounter(7).wait_for(partial(looks, seen, True)) == 7
    assert seen == [7]


def test_any_true_value_will_do() -> None:
    """The predicate's result counts by its truth, as in an ``if``."""
    counter = AtomicCounter(7)
    assert counter.wait_for(lambda value: "yes", timeout=0) == 7  # type: ignore[arg-type, return-value]
    with pytest.raises(CounterTimeoutError):
        counter.wait_for(lambda value: [], timeout=0)  # type: ignore[arg-type, return-value]


# -- timeouts ---------------------------------------------------------------------------------------------------


@each_kind
def test_timeout_zero_looks_once(make: Callable[[], AtomicCounter]) -> None:
    """With a timeout of 0 the predicate is called once, and nothing blocks."""
    seen: list[int] = []
    counter = make()
    with pytest.raises(CounterTimeoutError) as caught:
        counter.wait_for(partial(looks, seen, False), timeout=0)
    assert seen == [7]
    assert (caught.value.timeout, caught.value.value) == (0, 7)
    assert caught.value.waited < patience()
    assert counter._waiters == {}


@pytest.mark.parametrize(
    ("wait", "what"),
    [
        (lambda c, t: c.wait_until(10, t), "10 or more"),
        (lambda c, t: c.wait_for(odd, timeout=t), "a value that the predicate accepts"),
    ],
)
def test_a_timeout_carries_the_facts(wait: Callable[[AtomicCounter, float], int], what: str) -> None:
    """The error names counter, goal, value, limit and time, in its text and as attributes, and is a TimeoutError."""
    counter = AtomicCounter(8, name="arrivals")
    with pytest.raises(CounterTimeoutError) as caught:
        wait(counter, 0.02)
    error = caught.value
    assert isinstance(error, SyncTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.value, error.timeout) == (8, 0.02)
    assert 0.02 <= error.waited < patience()
    assert str(error) == f"waited {error.waited:.1f} s for 'arrivals' to be {what}, and it is 8"
    assert counter._waiters == {}
    assert counter.increment() == 9


def test_a_timeout_tells_the_value_at_its_end() -> None:
    """The value in the error is the last one, not the one at the start."""
    counter = AtomicCounter()
    waiting = blocked(counter, partial(counter.wait_until, 100, timeout=0.2))
    counter.increment(41)
    error = waiting.exception()
    assert isinstance(error, CounterTimeoutError)
    assert error.value == 41
    assert error.waited >= 0.2


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (-0.001, ValueError), (math.nan, ValueError), (math.inf, OverflowError), ("1", TypeError)],
)
def test_impossible_timeouts_are_refused(timeout: float, error: type[Exception]) -> None:
    """An invalid timeout is refused at once, even if the wait would end at once."""
    counter = AtomicCounter(7)
    for wait in (partial(counter.wait_for, odd), partial(counter.wait_until, 0)):
        with pytest.raises(error):
            wait(timeout=timeout)
    assert counter._waiters == {}


# -- woken ------------------------------------------------------------------------------------------------------

WAKING: list[tuple[str, Change, int]] = [(name, change, left) for name, change, _, left in CHANGES]


@each_kind
@pytest.mark.parametrize(("change", "left"), [case[1:] for case in WAKING], ids=[case[0] for case in WAKING])
def test_every_change_wakes_who_waits(make: Callable[[], AtomicCounter], change: Change, left: int) -> None:
    """Whichever method changes the value, a thread that waits for the new value gets it."""
    counter = make()
    waiting = blocked(counter, partial(counter.wait_for, lambda value: value != 7))
    change(counter)
    assert waiting.result() == left
    assert counter._waiters == {}


@each_kind
def test_a_reset_wakes_who_waits(make: Callable[[], AtomicCounter]) -> None:
    """A reset is a change like others: both kinds of waiters are woken."""
    counter = make()
    counter.set(1)
    by_predicate = blocked(counter, partial(counter.wait_for, lambda value: value == 7))
    by_goal = blocked(counter, partial(counter.wait_until, 7), waiters=2)
    counter.reset()
    assert (by_predicate.result(), by_goal.result()) == (7, 7)


@each_kind
def test_a_latch_that_is_passed_and_left_is_not_missed(make: Callable[[], AtomicCounter]) -> None:
    """A value that reached the goal counts, even if it was gone before the waiter could look."""
    counter = make()
    for _ in range(20):
        waiting = blocked(counter, partial(counter.wait_until, 50))
        counter.set(60)
        counter.set(55)
        counter.reset()
        assert waiting.result() in (60, 55)


@pytest.mark.parametrize("timeout", [0, 0.0001, None])
def test_a_latch_is_not_missed_before_the_first_look(timeout: float | None) -> None:
    """A goal that is reached and left between registering and looking counts, even if the time is up by then."""

    class Passing(AtomicCounter):
        def _admit(self, waiter: object) -> None:
            super()._admit(waiter)  # type: ignore[arg-type]
            self.set(5)
            self.set(0)

    assert Passing().wait_until(5, timeout) == 5


def test_a_predicate_is_asked_again_until_it_is_content() -> None:
    """Each call gets the value of that moment, and never the same change twice without need."""
    counter = AtomicCounter()
    seen: list[int] = []
    looked = threading.Semaphore(0)

    def third(value: int) -> bool:
        seen.append(value)
        looked.release()
        return value == 3

    with Threads() as threads:
        waiting = threads.start(counter.wait_for, third)
        for _ in range(3):
            assert looked.acquire(timeout=patience())
            counter.increment()
        assert waiting.result() == 3
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert seen == sorted(seen)
    assert len(seen) <= 7


def test_many_waiters_with_goals_of_their_own() -> None:
    """Each of many waiters is woken by the value that it waits for, not before, and all together by a jump."""
    counter = AtomicCounter()
    waiting = []
    for goal in range(1, 21):
        waiting.append(blocked(counter, partial(counter.wait_until, goal), waiters=goal))
    for goal in range(1, 11):
        counter.increment()
        assert waiting[goal - 1].result() >= goal
        assert len(counter._waiters) == 20 - goal
    assert not any(one.done() for one in waiting[10:])
    counter.set(20)
    assert [one.result() for one in waiting[10:]] == [20] * 10
    assert counter._waiters == {}


def test_a_signal_handler_wakes_the_thread_that_it_interrupts() -> None:
    """If a handler changes the counter that its own thread waits for, that wait ends."""
    counter = AtomicCounter()
    main, woken = threading.get_ident(), threading.Event()

    def send() -> None:
        while not counter._waiters:
            pass
        with sending(signal.pthread_kill, main, signal.SIGUSR1):
            woken.wait(patience())

    before = signal.signal(signal.SIGUSR1, lambda signum, frame: counter.increment())
    try:
        with Threads() as threads:
            threads.start(send)
            try:
                assert counter.wait_until(1, timeout=patience()) == 1
            finally:
                woken.set()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_hook_can_be_waited_for() -> None:
    """The hook runs after the waiting threads are woken, so it may itself wait for them."""
    done = AtomicCounter()

    class Patient(AtomicCounter):
        def _on_change(self, old: int, new: int) -> None:
            assert done.wait_until(1, timeout=patience()) == 1

    counter = Patient()

    def follow() -> int:
        counter.wait_until(1)
        return done.increment()

    waiting = blocked(counter, follow)
    assert counter.increment() == 1
    assert waiting.result() == 1


# -- the predicate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), SystemExit(1)])
def test_what_a_predicate_raises_comes_out(error: BaseException) -> None:
    """An exception of the predicate, at the first look or a later one, ends the wait and leaves nothing behind."""
    counter = AtomicCounter()

    def fails_at(value: int, bad: int) -> bool:
        if value == bad:
            raise error
        return False

    with pytest.raises(type(error)) as caught:
        counter.wait_for(lambda value: fails_at(value, 0))
    assert caught.value is error
    assert counter._waiters == {}
    waiting = blocked(counter, lambda: counter.wait_for(lambda value: fails_at(value, 1)))
    counter.increment()
    assert waiting.exception() is error
    assert counter._waiters == {}
    assert counter.increment() == 2


def test_waits_within_waits() -> None:
    """A predicate may wait for another counter; each thread's waits are a stack, and every level is left."""
    outer, inner = AtomicCounter(name="outer"), AtomicCounter(name="inner")

    def predicate(value: int) -> bool:
        return value > 0 and inner.wait_until(value) > 0

    waiting = blocked(outer, partial(outer.wait_for, predicate))
    assert waiting.thread.ident is not None
    outer.increment()
    eventually(lambda: _waits.count_waits(inner))
    assert [wait.node for wait in _waits.waits_of(waiting.thread.ident)] == [inner, outer]
    inner.increment(5)
    assert waiting.result() == 1
    assert (outer._waiters, inner._waiters) == ({}, {})


# -- no trace ---------------------------------------------------------------------------------------------------


def test_waits_are_seen_while_they_last() -> None:
    """From its start to its end, a wait is in the wait-for graph, for reports, and never part of a deadlock."""
    counter = AtomicCounter()
    waiting = assert_blocks(partial(counter.wait_until, 1), until=lambda: _waits.count_waits(counter) == 1)
    (wait,) = [wait for wait in _waits.all_waits() if wait.node is counter]
    assert (wait.ident, wait.takes_part) == (waiting.thread.ident, False)
    counter.increment()
    assert waiting.result() == 1
    assert _waits.count_waits(counter) == 0


def test_what_need_not_wait_enters_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for a value that is there, or with a timeout of 0, is not a wait that others can see."""
    published: list[_waits.Waiting] = []
    monkeypatch.setattr(_waits.Waiting, "publish", published.append)
    counter = AtomicCounter(3)
    assert counter.wait_until(3) == 3
    with pytest.raises(CounterTimeoutError):
        counter.wait_until(4, timeout=0)
    assert published == []


def test_waiting_costs_only_while_somebody_waits() -> None:
    """A change that finds no waiter, or has notified the last one, puts the next ones on the fast path again."""
    counter = AtomicCounter()
    assert not counter._special
    waiting = blocked(counter, partial(counter.wait_until, 1))
    assert counter._special
    counter.increment()
    waiting.result()
    assert not counter._special
    with pytest.raises(CounterTimeoutError):
        counter.wait_for(lambda value: False, timeout=0)
    counter.increment()
    assert not counter._special


def test_an_update_while_somebody_waits_puts_everything_back() -> None:
    """An update wakes a waiter, and an update that fails does not end the waiter's wait."""
    counter = Recording()
    waiting = blocked(counter, partial(counter.wait_until, 1))
    with pytest.raises(ZeroDivisionError):
        counter.update(lambda value: 1 // value)
    assert not waiting.done()
    assert counter.update(lambda value: value + 1) == 1
    assert waiting.result() == 1
    assert counter.told == [(0, 1)]


@pytest.mark.usefixtures("restless")
def test_waiters_come_and_go_while_others_change() -> None:
    """Waits that begin and end at any moment disturb and lose no change, and see no value that never existed."""
    counter = AtomicCounter()
    rounds = 300
    start = threading.Barrier(6)

    def change() -> None:
        start.wait(patience())
        for _ in range(rounds):
            counter.increment()

    def wait() -> None:
        start.wait(patience())
        for goal in range(rounds):
            assert counter.wait_until(goal, timeout=patience()) >= goal
            with pytest.raises(CounterTimeoutError):
                counter.wait_until(10 * rounds, timeout=0)

    with Threads() as threads:
        for work in [change] * 3 + [wait] * 3:
            threads.start(work)
    assert counter.value == 3 * rounds
    assert counter._waiters == {}
