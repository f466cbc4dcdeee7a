"""`wait` returns when the sequence, or some rounds of it, are done, and otherwise says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncprims._runner.ordered_runner import OrderedRunner
from syncprims._runner.sequence import Watch
from syncprims.errors import BrokenSequenceError, SequenceFinishedError, StepTimeoutError
from syncprims.testing import Threads, assert_blocks


def test_wait_counts_rounds() -> None:
    """It returns when so many are done, even if the sequence breaks after that; otherwise it says why not."""
    runner = OrderedRunner("a", "b", rounds=3)
    runner.wait(rounds=0)
    with pytest.raises(StepTimeoutError) as caught:
        runner.wait(rounds=1, timeout=0)
    assert (caught.value.step, caught.value.current, caught.value.timeout) == (None, None, 0)
    one = assert_blocks(lambda: runner.wait(rounds=1), until=lambda: runner.waiting == 1)
    two = assert_blocks(lambda: runner.wait(rounds=2), until=lambda: runner.waiting == 2)
    with runner.step("a"):
        pass
    assert runner.waiting == 2
    with runner.step("b"):
        pass
    one.result()
    assert runner.waiting == 1
    runner.stop()
    assert isinstance(two.exception(), SequenceFinishedError)
    runner.wait(rounds=1)
    runner.wait()


class Intruding(list[Watch | None]):
    """The list of waiting threads; something else happens just before or just after a thread is added."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def append(self, watch: Watch | None) -> None:
        self.before()
        super().append(watch)
        self.after()


@pytest.mark.parametrize("rounds", [None, 1])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["stop", "abort", "turn"])
def test_wait_misses_no_end(how: str, when: str, rounds: int | None) -> None:
    """An end, or the end of the round, at the moment at which a thread begins to wait for it is not missed."""
    runner = OrderedRunner("a", rounds=rounds or 1)

    def turn() -> None:
        with runner.step("a"):
            pass

    moments: dict[str, Callable[[], None]] = {"before": lambda: None, "after": lambda: None}
    moments[when] = turn if how == "turn" else getattr(runner, how)
    runner._sequence.watchers = Intruding(**moments)
    with Threads() as threads:
        error = threads.start(runner.wait, rounds=rounds, timeout=None).exception()
    finished = SequenceFinishedError if rounds else type(None)
    assert type(error) is {"stop": finished, "abort": BrokenSequenceError, "turn": type(None)}[how]


def test_a_wait_that_times_out_names_the_holder_and_changes_nothing() -> None:
    """A thread that waits for the end learns which thread is in the step."""
    runner = OrderedRunner("a", name="order", timeout=0.01)
    with runner.step("a"):
        error = Threads().start(runner.wait).exception()
    assert isinstance(error, StepTimeoutError)
    assert (error.step, error.current) == (None, "a")
    assert "for 'order' to finish: it is the turn of 'a', held by Thread 'MainThread'" in str(error)
    assert runner.state == "finished"
    assert not runner._sequence.watchers
