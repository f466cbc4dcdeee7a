"""What leaves a step is kept for the next time, and never shared by two ``with`` statements."""

from __future__ import annotations

import gc
from threading import Thread
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
    """Many turns, by whatever contexts, make one generator for each thread."""
    runner = OrderedRunner("a", rounds=None)
    turns(runner, 1)
    ((generator, _, _),) = runner._leaves.values()
    assert turns(runner, 3) == [1, 2, 3]
    assert [kept[0] for kept in runner._leaves.values()] == [generator]

    def in_another_thread() -> None:
        turns(runner, 2)

    thread = Thread(target=in_another_thread)
    thread.start()
    thread.join(patience())
    assert runner._leaves.popitem()[1][0] is not generator
    assert turns(runner, 1) == [6]


def test_a_with_that_comes_between_looking_up_and_entering_gets_its_own() -> None:
    """A signal handler that takes a turn there, or looks and does not enter, takes nothing from the ``with``."""
    runner = OrderedRunner("a", rounds=None)
    turns(runner, 1)
    context = runner.step("a")
    leave = context.__exit__
    assert context.__exit__ is not leave
    turns(runner, 1)
    context.__enter__()
    leave(None, None, None)
    assert turns(runner, 2) == [3, 4]
    assert runner.state == "open"


def test_a_leaving_that_failed_is_replaced() -> None:
    """After a step that broke the sequence, and a reset, the same thread takes and leaves turns as ever."""
    runner = OrderedRunner("a", rounds=None)
    turns(runner, 1)
    with pytest.raises(ZeroDivisionError), runner.step("a"):
        raise ZeroDivisionError
    runner.reset()
    context = runner.step("a")
    with pytest.raises(RuntimeError, match="not in step 'a'"):
        context.__exit__(None, None, None)
    assert turns(runner, 2) == [0, 1]


def test_nothing_is_kept_alive_between_two_steps() -> None:
    """A runner that nobody needs any more, and an error that left a step, are gone at once."""
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
