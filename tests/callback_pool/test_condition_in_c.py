"""The condition of a task: no interrupt leaves it locked, and it waits and wakes like `threading.Condition`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

from syncprims.callback_pool.cpython.condition_left_locked import ConditionInC
from syncprims.testing import MODES, Mode, Threads, assert_blocks, interrupts, patience

Either = ConditionInC | threading.Condition

sweeps = pytest.mark.untraceable
# On 3.15 a `with` whose entry is C shows a leak in this mode that comes from the tracing.
each_mode = pytest.mark.parametrize(
    "mode", [mode for mode in MODES if mode != "worker" or sys.version_info[:2] != (3, 15)]
)


def enter(condition: Either) -> None:
    with condition:
        len("work")


def enter_twice(condition: Either) -> None:
    with condition:
        with condition:
            len("work")
        len("work")


def wake(condition: Either) -> None:
    with condition:
        condition.notify_all()


def still_locked(condition: Either) -> str | None:
    """Try it in another thread, which is the only way to know."""
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(condition.acquire(False)), daemon=True)
    thread.start()
    thread.join(patience())
    return None if taken == [True] else "still locked"


@sweeps
@each_mode
@pytest.mark.parametrize("scenario", [enter, enter_twice, wake])
def test_no_interrupt_leaves_it_locked(scenario: Callable[[Either], None], mode: Mode) -> None:
    """Wherever it comes: one entry, an entry of the thread that is in it, and waking."""
    report = interrupts(ConditionInC, scenario, still_locked, mode=mode).check()
    assert report.points >= 2


@sweeps
def test_an_interrupt_leaves_that_of_threading_locked() -> None:
    """The control, and the reason for this class."""
    report = interrupts(threading.Condition, enter, still_locked, mode="storm")
    assert {leak.problem for leak in report.leaks} == {"still locked"}


def test_it_wakes_those_who_wait() -> None:
    """`wait`, `wait_for`, `notify` and `notify_all` are those of `threading.Condition`."""
    condition = ConditionInC()
    seen: list[int] = []

    def wait(number: int) -> None:
        with condition:
            assert condition.wait_for(lambda: bool(seen), patience())
            seen.append(number)

    waiting = [assert_blocks(lambda: wait(1)), assert_blocks(lambda: wait(2))]
    with condition:
        assert not condition.wait(0.001)
        seen.append(0)
        condition.notify_all()
    for each in waiting:
        each.result(patience())
    assert sorted(seen) == [0, 1, 2]


def test_a_gate_opens_with_the_next_notification() -> None:
    """A thread may also put up a gate, check again, and wait for the gate, without the lock."""
    condition = ConditionInC()
    gate = condition.put_up()
    passing = assert_blocks(lambda: gate.acquire(timeout=patience()))
    with condition:
        condition.notify_all()
    assert passing.result(patience())


def test_only_the_thread_that_is_in_it_may_wait_and_wake() -> None:
    """As in `threading.Condition`; and without waiters there is nothing to wake."""
    condition = ConditionInC()
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.wait(0)
    condition.put_up()
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.notify_all()
    with condition, condition:  # it is reentrant
        condition.notify_all()


def test_it_excludes_other_threads() -> None:
    """Two threads never are in it at once, however often they enter."""
    condition = ConditionInC()
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(2_000):
            with condition:
                inside.append(number)
                assert inside == [number]
                inside.pop()

    with Threads() as threads:
        for number in range(3):
            threads.start(work, number)
