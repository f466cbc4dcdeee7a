"""The function that leaves a step is kept for the next step, and never used while it is running."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from threading import Thread, get_ident
from typing import Any
from weakref import ref

import pytest

from syncprims import OrderedRunner
from syncprims.testing import patience


def turns(runner: OrderedRunner, number: int) -> list[int]:
    """Take so many turns of the step "a" in this thread."""
    taken = []
    for _ in range(number):
        with runner.step("a") as turn:
            taken.append(turn.index)
    return taken


def test_a_thread_leaves_all_its_steps_by_the_same() -> None:
    """Many turns, by any contexts, make only one generator for each thread."""
    runner = OrderedRunner("a", rounds=None)
    turns(runner, 1)
    (place,) = runner._places.values()
    leave = place.leave
    assert leave is not None
    assert turns(runner, 3) == [1, 2, 3]
    assert place.leave is leave

    leaves: list[object] = []

    def in_another_thread() -> None:
        for number in (1, 2):
            turns(runner, number)
            leaves.append(runner._places[get_ident()].leave)

    thread = Thread(target=in_another_thread)
    thread.start()
    thread.join(patience())
    assert list(runner._places.values()) == [place], "a thread that has ended leaves nothing behind"
    assert place.leave is leave
    first, second = leaves
    assert first is second
    assert first not in (leave, None)
    assert turns(runner, 1) == [7]


def test_a_with_that_comes_between_looking_up_and_entering_does_no_harm() -> None:
    """A handler that takes a turn there, or only looks up an `__exit__`, takes nothing from the ``with``."""
    runner = OrderedRunner("a", rounds=None)
    turns(runner, 1)
    context = runner.step("a")
    leave = context.__exit__
    assert callable(context.__exit__)
    turns(runner, 1)
    context.__enter__()
    leave(None, None, None)
    assert turns(runner, 2) == [3, 4]
    assert runner.state == "open"


class Odd:
    """A gate whose release calls a function of the test."""

    def __init__(self, gate: Any, release: Callable[[Any], object]) -> None:
        """Replace `gate`, which is passed to `release`."""
        self.acquire, self.locked = gate.acquire, gate.locked
        self.release = partial(release, gate)


def test_a_with_in_the_middle_of_a_leaving_gets_its_own() -> None:
    """A handler that takes a turn while its thread is leaving another one disturbs neither."""
    runner = OrderedRunner("a", "b", rounds=3)
    taken = []

    def open_and_take_b(gate: Any) -> None:
        gate.release()
        with runner.step("b") as turn:
            taken.append(turn.index)

    gates = runner._sequence.gates
    gates["b"] = Odd(gates["b"], open_and_take_b)  # type: ignore[assignment]  # it has the methods that are used
    assert turns(runner, 3) == [0, 2, 4]
    assert taken == [1, 3, 5]
    assert runner.state == "finished"


def test_a_leaving_that_is_interrupted_after_the_opening_still_looks_for_a_stop() -> None:
    """A stop() just before the next gate is opened, and an interrupt just after it, end the sequence."""
    runner = OrderedRunner("a", "b", rounds=None)
    gates = runner._sequence.gates

    def open_at_a_bad_moment(gate: Any) -> None:
        gates["b"] = gate
        runner.stop()
        assert runner.state == "open"
        gate.release()
        raise KeyboardInterrupt

    gates["b"] = Odd(gates["b"], open_at_a_bad_moment)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        turns(runner, 1)
    assert runner.state == "finished"


def test_a_leaving_that_failed_is_replaced() -> None:
    """After a step that broke the sequence, and a reset, the same thread takes and leaves turns as usual."""
    runner = OrderedRunner("a", rounds=None)
    turns(runner, 1)
    with pytest.raises(ZeroDivisionError), runner.step("a"):
        raise ZeroDivisionError
    runner.reset()
    context = runner.step("a")
    with pytest.raises(RuntimeError, match="in no step of this runner"):
        context.__exit__(None, None, None)
    assert turns(runner, 2) == [0, 1]


def test_nothing_is_kept_alive_between_two_steps() -> None:
    """A runner that is not needed any more, and an error that left a step, go away at once."""
    runner = OrderedRunner("a", rounds=None)
    error = ZeroDivisionError()
    seen = ref(runner)
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError), runner.step("a"):
            raise error
        runner.reset()
        turns(runner, 1)
        del runner
        assert seen() is None
        assert not [found for found in gc.get_referrers(error) if type(found).__name__ == "generator"]
    finally:
        gc.enable()
