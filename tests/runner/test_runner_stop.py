"""`stop` has taken effect when it returns, whatever other threads are about to do."""

from __future__ import annotations

import threading
from itertools import repeat
from threading import Event

import pytest

from syncprims import OrderedRunner, SequenceFinishedError
from syncprims.testing import Threads, patience


class Gate:
    """A gate at which the thread that has just opened or acquired it can be made to wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.opened, self.taken, self.go_on = Event(), Event(), Event()
        self.holds_up: Event | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it."""
        took = self._lock.acquire(blocking, timeout)
        if took:
            self._pass(self.taken)
        return took

    def release(self) -> None:
        """Open it."""
        self._lock.release()
        self._pass(self.opened)

    def _pass(self, where: Event) -> None:
        where.set()
        if self.holds_up is where:
            self.holds_up = None  # the next thread goes on
            assert self.go_on.wait(patience())


def with_gate(*steps: str) -> tuple[OrderedRunner, Gate]:
    """Make a runner whose first step has such a gate."""
    runner, gate = OrderedRunner(*steps, rounds=None), Gate()
    runner._sequence.gates[steps[0]] = gate  # type: ignore[assignment]  # it has the methods that are used
    runner._sequence.tries[steps[0]] = map(gate.acquire, repeat(False))
    return runner, gate


@pytest.mark.parametrize("opener", ["who comes first", "who leaves a step"])
def test_no_turn_begins_after_stop(opener: str) -> None:
    """A gate that another thread has opened, without checking yet whether to stop, lets no thread in."""
    runner, gate = with_gate("a", "b")

    def open_it() -> None:
        if opener == "who comes first":
            with pytest.raises(SequenceFinishedError), runner.step("b"):
                pass
        else:
            with runner.step("b"):
                gate.holds_up = gate.opened

    if opener == "who comes first":
        gate.holds_up = gate.opened
    else:
        with runner.step("a"):
            pass
        gate.opened.clear()
    with Threads() as threads:
        threads.start(open_it)
        assert gate.opened.wait(patience())
        # stop() before the gate is opened: it can't acquire the gate, and leaves the end to the opener.
        runner._sequence.stopping = True
        with pytest.raises(SequenceFinishedError), runner.step("a"):
            pytest.fail("a turn began")
        assert runner.state == "finished"
        gate.go_on.set()


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_after_the_end_nobody_times_out(timeout: float) -> None:
    """If another thread has a gate for a moment, to see that it is over, no later thread waits for it."""
    runner, gate = with_gate("a")
    runner.stop()
    gate.holds_up = gate.taken

    def come() -> None:
        with pytest.raises(SequenceFinishedError), runner.step("a"):
            pass

    with Threads() as threads:
        gate.taken.clear()
        threads.start(come)
        assert gate.taken.wait(patience())
        with pytest.raises(SequenceFinishedError), runner.step("a", timeout=timeout):
            pass
        gate.go_on.set()
