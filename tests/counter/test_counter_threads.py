"""Threads lose no change; and a counter that does lose changes is detected."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from counter.cases import EXACT, Change, Recording, each_exact, each_zero, nothing
from syncprims import AtomicCounter, CounterBoundsError
from syncprims.testing import Threads, patience

pytestmark = pytest.mark.usefixtures("restless")

THREADS = 6
ROUNDS = 400


def race(work: Callable[[], object], threads: int = THREADS, rounds: int = ROUNDS) -> None:
    """Run the work repeatedly in several threads that begin at the same time."""
    start = threading.Barrier(threads)

    def run() -> None:
        start.wait(patience())
        for _ in range(rounds):
            work()

    with Threads(patience(30)) as running:
        for _ in range(threads):
            running.start(run)


class Losing:
    """The control: a counter without its lock."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        value = self.value
        nothing()
        self.value = value + 1


def test_a_counter_without_a_lock_loses_here() -> None:
    """The control: a counter that reads and writes without a lock loses changes in the race of these tests."""
    for _ in range(5000):  # on an idle machine threads seldom meet in the middle
        control = Losing()
        race(control.increment)
        if control.value < THREADS * ROUNDS:
            return
    pytest.fail("the unguarded counter lost nothing, so the tests here prove nothing")


@each_zero
@each_exact
def test_threads_lose_no_change(make: Callable[[], AtomicCounter], change: Change) -> None:
    """However threads interleave, every change is in the value."""
    counter = make()
    race(lambda: change(counter))
    assert counter.value == THREADS * ROUNDS


def test_threads_lose_no_change_while_others_wait() -> None:
    """With waiters the changes take the slow path, and are as exact."""
    counter = AtomicCounter()
    with Threads() as threads:
        waiting = threads.start(counter.wait_until, THREADS * ROUNDS, patience(30))
        race(counter.increment)
        assert waiting.result() == THREADS * ROUNDS
    assert counter.value == THREADS * ROUNDS


def test_all_changes_together() -> None:
    """Changes of all kinds at once add up."""
    counter = AtomicCounter()

    def work() -> None:
        for _, change in EXACT:
            change(counter)
        counter.decrement(3)

    race(work, rounds=100)
    assert counter.value == THREADS * 100 * (len(EXACT) - 3)


def test_tickets_are_unique() -> None:
    """No two calls get the same old value, nor the same new one."""
    counter = AtomicCounter()
    old: list[int] = []
    new: list[int] = []

    def work() -> None:
        old.append(counter.get_and_add())
        new.append(counter.increment())

    race(work)
    assert sorted(old + [value - 1 for value in new]) == list(range(2 * THREADS * ROUNDS))


def test_exchanged_values_go_round() -> None:
    """Each value that a thread sets, another gets exactly once: `get_and_set` neither loses nor doubles one."""
    counter, tickets = AtomicCounter(), AtomicCounter()
    got: list[int] = []
    race(lambda: got.append(counter.get_and_set(tickets.increment())))
    assert sorted([*got, counter.value]) == list(range(THREADS * ROUNDS + 1))


def test_bounds_hold_at_every_moment() -> None:
    """Threads that add and subtract never see or make a value out of bounds, and refused changes change nothing."""
    counter = AtomicCounter(minimum=0, maximum=3)
    taken = AtomicCounter()

    def work() -> None:
        with suppress(CounterBoundsError):
            assert 1 <= counter.increment() <= 3
            assert 1 <= taken.increment() <= 3
            taken.decrement()
            assert 0 <= counter.decrement() <= 2
        assert 0 <= counter.value <= 3

    race(work)
    assert counter.value == 0


def test_hooks_are_told_of_every_change_once() -> None:
    """Each change of each thread is reported once; put in order, the hooks' pairs are the counter's history."""
    counter = Recording()
    race(counter.increment)
    assert sorted(counter.told) == [(value, value + 1) for value in range(THREADS * ROUNDS)]


def test_an_update_is_alone() -> None:
    """No other thread changes the counter while an update's function runs."""
    counter = AtomicCounter()

    def slowly(value: int) -> int:
        for _ in range(3):
            nothing()
            assert counter.value == value
        return value + 1

    race(lambda: (counter.update(slowly), counter.increment()), rounds=100)
    assert counter.value == 2 * THREADS * 100
