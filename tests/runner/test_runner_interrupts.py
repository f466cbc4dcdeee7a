"""An interrupt at any point of a step leaves no thread waiting forever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event, Thread

import pytest

from syncprims._core.waits import count_waits
from syncprims._runner.ordered_runner import OrderedRunner
from syncprims._runner.steps import StepContext
from syncprims.errors import SequenceFinishedError, SyncError
from syncprims.testing import MODES, Mode, interrupts, patience

pytestmark = pytest.mark.untraceable

# Every opcode of a worker takes long, so that mode is in the slow part.
MOST_MODES = [pytest.param(mode, marks=pytest.mark.slow) if mode == "worker" else mode for mode in MODES]


def wedged(runner: OrderedRunner) -> str | None:
    """Return a problem if the sequence is not over and can't be completed."""
    seats = {ident: place.seat for ident, place in runner._places.items()}
    taken = [ident for ident, seat in seats.items() if seat.sequence is not None or seat.context is not None]
    if taken or runner._sequence.owner is not None:
        return f"a thread still seems to be in a step: {taken}, {runner._sequence.owner}"
    if count_waits(runner._sequence) or runner._sequence.watchers:
        return "a wait was not withdrawn"
    try:
        while runner.state == "open":
            with runner.step(runner.current or "a", timeout=0):
                pass
    except SequenceFinishedError:  # the interrupt ended a stop() early, which the call above has completed
        pass
    except (SyncError, RuntimeError, StopIteration) as error:
        return f"{type(error).__name__}: {error}"
    for name in runner.steps:
        if not runner._sequence.gates[name].acquire(False):
            return f"the gate of {name!r} is shut after the end"
        runner._sequence.gates[name].release()
    return None


def two_rounds(runner: OrderedRunner) -> None:
    for _ in range(2):
        with runner.step("a"):
            pass
        with runner.step("b"):
            pass


def one_context(runner: OrderedRunner) -> None:
    step = runner.step("a")
    with step as turn:
        turn.index.bit_length()


def failing_step(runner: OrderedRunner) -> None:
    try:
        with runner.step("a"):
            raise ValueError("on purpose")
    except ValueError:
        pass


def stopped_step(runner: OrderedRunner) -> None:
    with runner.step("a"):
        runner.stop()


def steered(runner: OrderedRunner) -> None:
    runner.reset()
    runner.stop()
    runner.reset()
    runner.abort()


@pytest.mark.parametrize("mode", MOST_MODES)
@pytest.mark.parametrize("scenario", [two_rounds, one_context, failing_step, stopped_step, steered])
def test_interrupt_anywhere_never_wedges_the_sequence(scenario: Callable[[OrderedRunner], None], mode: Mode) -> None:
    """After an interrupt at any point the sequence is over or can be completed."""
    interrupts(partial(OrderedRunner, "a", "b", rounds=2), scenario, wedged, mode=mode).check()


class Occupied:
    """A runner with a thread in step "a" that leaves it on command, so that another has to wait for "b"."""

    def __init__(self) -> None:
        self.runner = OrderedRunner("a", "b", name="occupied")
        self.go, entered = Event(), Event()
        self.thread = Thread(target=self._be_in_a, args=(entered,), daemon=True)
        self.thread.start()
        assert entered.wait(patience())

    def _be_in_a(self, entered: Event) -> None:
        with self.runner.step("a"):
            entered.set()
            self.go.wait(patience())

    def blocked(self) -> bool:
        return self.runner.waiting == 1

    def let_go(self) -> None:
        self.go.set()
        self.thread.join(patience())

    def wedged(self) -> str | None:
        return "the thread in step a did not end" if self.thread.is_alive() else wedged(self.runner)


def wait_for_the_turn(occupied: Occupied) -> None:
    with occupied.runner.step("b"):
        pass


def wait_for_the_turn_with_a_limit(occupied: Occupied) -> None:
    with occupied.runner.step("b", timeout=60):
        pass


def wait_for_the_turn_and_be_told_to_stop(occupied: Occupied) -> None:
    occupied.runner.stop()
    try:
        with occupied.runner.step("b"):
            pass
    except SequenceFinishedError:
        pass


def wait_for_the_round(occupied: Occupied) -> None:
    try:
        occupied.runner.wait(rounds=1, timeout=60)
    except SequenceFinishedError:
        pass


def end_it(occupied: Occupied) -> None:
    occupied.let_go()
    occupied.runner.stop()


BLOCKING: list[tuple[Callable[[Occupied], None], Callable[[Occupied], None]]] = [
    (wait_for_the_turn, Occupied.let_go),
    (wait_for_the_turn_with_a_limit, Occupied.let_go),
    (wait_for_the_turn_and_be_told_to_stop, Occupied.let_go),
    (wait_for_the_round, end_it),
]


@pytest.mark.parametrize("mode", MOST_MODES)
@pytest.mark.parametrize(("scenario", "unblock"), BLOCKING, ids=lambda function: function.__name__)
def test_interrupt_of_a_waiting_thread_leaves_its_turn_untaken(
    scenario: Callable[[Occupied], None], unblock: Callable[[Occupied], None], mode: Mode
) -> None:
    """An interrupt before, in or after the wait withdraws it, and the others go on."""
    interrupts(Occupied, scenario, Occupied.wedged, mode=mode, when_blocked=Occupied.blocked, unblock=unblock).check()


class PythonExit(StepContext):
    """A step whose ``__exit__`` is a Python method."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)


@pytest.mark.parametrize("mode", ["warm", "cold", "storm", "cold storm"])
def test_the_sweep_finds_the_hole_of_a_python_exit(mode: Mode) -> None:
    """The control: if leaving is not a C function, other threads keep waiting after an interrupt at some point."""

    def scenario(runner: OrderedRunner) -> None:
        with PythonExit(runner, "a", None):
            pass

    assert interrupts(partial(OrderedRunner, "a", "b", rounds=2), scenario, wedged, mode=mode).leaks
