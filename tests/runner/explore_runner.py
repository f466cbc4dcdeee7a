"""Explore interleavings of threads at a runner, run as a program: ``explore_runner.py SCENARIO PREEMPTIONS SECONDS``.

The gates are locks that frontrun can see; everything else is the library's own code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import repeat
from threading import get_ident
from typing import Any, ClassVar

from frontrun._cooperative import (  # type: ignore[import-untyped]  # it has no types
    CooperativeBoundedSemaphore,
    patch_locks,
)

from exploring import main
from syncprims import OrderedRunner, SyncError, Turn
from syncprims._core import deadlocks as _deadlocks
from syncprims._runner import sequence as _sequence
from syncprims._runner.sequence import Comers, End, Sequence, go_on


class Gate:
    """A lock at which frontrun can switch threads, without assuming that the thread which took it will release it."""

    def __init__(self) -> None:
        """Make it free."""
        self._free = CooperativeBoundedSemaphore(1)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it."""
        took: bool = self._free.acquire(blocking, None if timeout == -1 else timeout)
        return took

    def release(self) -> None:
        """Release it, whichever thread acquired it."""
        try:
            self._free.release()
        except ValueError:
            raise RuntimeError("release unlocked lock") from None


class SeenEnds(list[End]):
    """The ends, with reads and changes that frontrun sees, because it does not look into a list."""

    def __init__(self) -> None:
        """Make it empty."""
        super().__init__()
        self.seen: object = None

    def append(self, end: End) -> None:
        """Add one."""
        self.seen = end
        super().append(end)

    def __bool__(self) -> bool:
        return self.seen is not None and len(self) > 0


class Lenient(OrderedRunner):
    """A runner that lets every failure pass."""

    def _on_error(self, turn: Turn, exc: Exception) -> bool:
        return True


def make_seen(sequence: Sequence, name: str, steps: tuple[str, ...], comers: Comers) -> None:
    """Make a sequence as usual, with ends that frontrun sees."""
    make(sequence, name, steps, comers)
    sequence.ends = SeenEnds()
    sequence.opening = sequence.prepare_opening(sequence.breaking)


make, Sequence.__init__ = Sequence.__init__, make_seen  # type: ignore[assignment,method-assign]
# A thread whose turn it is not runs frontrun's code, which looks like a handler on top of its wait.
_deadlocks._stands_in = lambda waiting, frame: True
_sequence.allocate_lock = Gate  # type: ignore[assignment,attr-defined]  # it has the methods that are used

outcomes: dict[str, int] = {}


class OwnError(Exception):
    """The failure of a step."""


class Scene:
    """A runner, and the observations of its threads, in order."""

    steps: ClassVar[tuple[str, ...]] = ("a", "b")
    kind: ClassVar[type[OrderedRunner]] = OrderedRunner
    ends: ClassVar[tuple[str, ...]] = ("finished",)
    logs: ClassVar[tuple[str, ...]]
    workers: ClassVar[tuple[Callable[[Any], object], ...]]

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.log: list[str] = []
        self.wrong: list[str] = []
        self.runner = self.kind(*self.steps)

    def take(self, step: str, *, fail: bool = False) -> None:
        """Take a turn of the step, which may fail; note that, or why there was none."""
        runner, before = self.runner, self.runner._sequence
        try:
            with runner.step(step):
                self.log.append(step)
                if runner._sequence is before and before.owner != get_ident():
                    self.wrong.append(f"the sequence does not say that {step} is taken")
                if fail:
                    raise OwnError
        except SyncError as error:
            self.log.append(type(error).__name__.removesuffix("SequenceError").removeprefix("Sequence"))
        except OwnError:
            self.log.append("failed")

    def holds(self) -> bool:
        """The end and the observations are among the allowed ones, and nothing is left behind."""
        runner = self.runner
        outcome = f"{runner.state}: {' '.join(self.log)}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        clean = not self.wrong and runner.waiting == 0 and runner._sequence.owner is None
        return clean and runner.state in self.ends and " ".join(self.log) in self.logs


def a(scene: Scene) -> None:
    """Take a turn of a."""
    scene.take("a")


def b(scene: Scene) -> None:
    """Take a turn of b."""
    scene.take("b")


def c(scene: Scene) -> None:
    """Take a turn of c."""
    scene.take("c")


def a_fails(scene: Scene) -> None:
    """Take a turn of a, and fail."""
    scene.take("a", fail=True)


def stops(scene: Scene) -> None:
    """Stop the sequence."""
    scene.runner.stop()


def aborts(scene: Scene) -> None:
    """Abort the sequence."""
    scene.runner.abort()


def resets(scene: Scene) -> None:
    """Reset the sequence."""
    scene.runner.reset()


def resets_and_begins(scene: Scene) -> None:
    """Reset the sequence, and take the first turn of the new one."""
    scene.runner.reset()
    scene.take("a")


FINISHED, BROKEN = "FinishedError", "Broken"

# -- two threads --------------------------------------------------------------------------------------------------


class HandOff(Scene):
    """Whichever thread comes first, a comes before b."""

    workers = (b, a)
    logs = ("a b",)


class Stop(Scene):
    """A stop comes before the turn, or the turn is the last."""

    workers = (a, stops)
    logs = ("a", FINISHED)


class StopAndWaiter(Scene):
    """A thread that waits for a turn that is not next is notified of the stop."""

    workers = (b, stops)
    logs = (FINISHED,)


class Abort(Scene):
    """An abort comes before the turn, in it or after it."""

    workers = (a, aborts)
    ends = ("broken",)
    logs = ("a", BROKEN)


class AbortAndWaiter(Scene):
    """A thread that waits for a turn that is not next is notified of the abort."""

    workers = (b, aborts)
    ends = ("broken",)
    logs = (BROKEN,)


class StopAndAbort(Scene):
    """The first end is the end."""

    workers = (stops, aborts)
    ends = ("finished", "broken")
    logs = ("",)


class Failure(Scene):
    """A thread that waits behind a step that fails gets the error, whenever it comes."""

    workers = (b, a_fails)
    ends = ("broken",)
    logs = (f"a failed {BROKEN}", f"a {BROKEN} failed")


class LetPass(Scene):
    """If a failure is let pass, the turn goes on to the next step."""

    workers = (b, a_fails)
    logs = ("a failed b", "a b failed")

    kind = Lenient


class Reset(Scene):
    """A turn belongs to the sequence before the reset or to the one after it."""

    workers = (a, resets)
    ends = ("open",)
    logs = ("a", BROKEN)


class ResetAndWaiter(Scene):
    """A waiting thread that came before the reset gets the error; one that came after it gets its turn."""

    workers = (b, resets_and_begins)
    ends = ("open", "finished")
    logs = ("a b", f"a {BROKEN}", f"{BROKEN} a")


# -- three threads ------------------------------------------------------------------------------------------------


class Chain(Scene):
    """Three threads, whichever comes first, take their turns in order."""

    steps = ("a", "b", "c")
    workers = (c, b, a)
    logs = ("a b c",)


class AbortedHandOff(Scene):
    """An abort comes anywhere in a hand-off."""

    workers = (b, a, aborts)
    ends = ("broken", "finished")
    logs = (f"{BROKEN} {BROKEN}", f"a {BROKEN}", f"{BROKEN} a", "a b")


class StoppedHandOff(Scene):
    """A stop comes anywhere in a hand-off."""

    workers = (b, a, stops)
    logs = (f"{FINISHED} {FINISHED}", f"a {FINISHED}", f"{FINISHED} a", "a b")


class TwoWaiters(Scene):
    """Of two threads that wait for the same turn one gets it, and the other gets the error of the end."""

    workers = (b, b, a)
    logs = (f"a b {FINISHED}",)


# -- mutations ----------------------------------------------------------------------------------------------------


class DropsWakeUp(HandOff):
    """A mutation: leaving a step does not open the next gate."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        advance = Sequence.advance

        def open_nothing(*arguments: Any) -> None:
            advance(*arguments)

        Sequence.advance = open_nothing  # type: ignore[assignment,method-assign]


class ClearsOwnerLate(HandOff):
    """A mutation: a gate is opened before the owner of the previous turn is cleared."""

    def __init__(self) -> None:
        """Make gates that do so."""
        super().__init__()
        sequence = self.runner._sequence

        class LateGate(Gate):
            def release(self) -> None:
                super().release()
                sequence.owner = None

        for name in sequence.gates:
            gate = LateGate()
            gate.acquire()
            sequence.gates[name] = gate  # type: ignore[assignment]  # it has the methods that are used
            sequence.tries[name] = map(gate.acquire, repeat(False))


class MarksAfterTrying(Stop):
    """A mutation: a stop tries the gate before it sets its mark for the thread that opens the gate."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        end = Sequence.end

        def try_and_mark(sequence: Sequence, *arguments: Any, only_if_idle: bool = False, **options: Any) -> None:
            if not only_if_idle or sequence.gate.acquire(False):
                end(sequence, *arguments, **options)
            else:
                sequence.stopping = True

        Sequence.end = try_and_mark  # type: ignore[assignment,method-assign]


class OpensBeforeTheEnd(AbortAndWaiter):
    """A mutation: an abort opens the gates before it announces the end."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        end = Sequence.end

        def open_and_end(sequence: Sequence, *arguments: Any, **options: Any) -> None:
            go_on(sequence.prepare_opening())
            end(sequence, *arguments, **options)

        Sequence.end = open_and_end  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    patch_locks()
    main(globals(), outcomes, *sys.argv[1:])
