"""Running the bodies of a whole sequence: in our own threads, or in an executor's workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from .._core.deadline import Deadline
from .._core.foreign import error_words, note, words
from .._core.waits import wait_visibly
from ..errors import BrokenSequenceError, SequenceFinishedError
from .sequence import ABORTED, Sequence
from .steps import Runner, StepContext, begin
from .turn import Turn

if TYPE_CHECKING:
    from concurrent.futures import Executor

R = TypeVar("R")

# How long an interrupted run waits for its threads to end, in seconds. Threads that wait for a turn end at once. Only a
# thread in the middle of a body may take longer, and it can't be stopped.
_GRACE = 1.0

# How many failures that `_on_error` let pass are kept, to be raised at the end.
_MOST_FAILURES = 100


class _Served(StepContext):
    """A step of one sequence, even after `reset()`; it keeps the failures that `_on_error` let pass."""

    __slots__ = ("_passed", "failures")

    def __init__(
        self, runner: Runner, sequence: Sequence, step: str, timeout: float | None, failures: list[BaseException]
    ) -> None:
        super().__init__(runner, step, timeout, sequence)
        self.failures = failures
        self._passed: Exception | None = None

    def _on_error(self, turn: Turn, exc: Exception, /) -> bool:
        passed = super()._on_error(turn, exc)
        if passed:
            self._passed = exc
            if len(self.failures) < _MOST_FAILURES:
                self.failures.append(exc)
        return passed

    def serve_one(self, fn: Callable[[Turn], object]) -> bool:
        """Run `fn` in the next turn of the step; return False if the sequence is over."""
        turn = None
        try:
            with self as turn:
                fn(turn)
        except (BrokenSequenceError, SequenceFinishedError) as error:
            if turn is None:
                return False
            if error is not self._passed:
                raise
        except Exception as error:
            if error is not self._passed:
                raise
        return True


def serve(runner: Runner, sequence: Sequence, step: str, fn: Callable[[Turn], object], timeout: float | None) -> int:
    """Run `fn` in every remaining turn of the step; return how many there were."""
    failures: list[BaseException] = []
    context = _Served(runner, sequence, step, timeout, failures)
    served = 0
    while context.serve_one(fn):
        served += 1
    conclude(sequence, failures)
    return served


def conclude(sequence: Sequence, failures: list[BaseException]) -> None:
    """Raise the first failure, with the others as notes, if there is one; otherwise the error that broke the order."""
    if failures:
        first, *rest = failures
        for failure in rest:
            note(first, f"then also failed: {error_words(failure)}")
        raise first
    if sequence.state == "broken":
        raise sequence.over(None)


def run_in_threads(
    runner: Runner, sequence: Sequence, bodies: Mapping[str, Callable[[Turn], R]], deadline: Deadline
) -> list[R]:
    """Run each step's body in its own thread, and wait for all threads."""
    results: list[R] = []
    failures: list[BaseException] = []

    def serve_step(step: str, body: Callable[[Turn], R]) -> None:
        context = _Served(runner, sequence, step, None, failures)
        try:
            # One turn at a time, so the results come in the order of the sequence.
            while context.serve_one(lambda turn: results.append(body(turn))):
                pass
        except BaseException as error:  # noqa: BLE001  the caller of run() gets it
            failures.append(error)
            # This thread ended outside a turn, for example by an interrupt. The others would wait for its turns
            # forever.
            sequence.end("broken", ABORTED, error)

    threads = [
        Thread(target=serve_step, args=(step, bodies[step]), name=f"{sequence.name}:{step}", daemon=True)
        for step in sequence.gates
    ]
    try:
        for thread in threads:
            thread.start()
        in_time = sequence.watch(float("inf"), deadline)
        # The sequence has finished, or abort() was called. After an abort() a body may still be in progress.
        in_time = in_time and not _left(sequence, threads, deadline)
        if not in_time:
            raise sequence.timeout_error(f"{sequence.name!r} to finish", deadline)
    except BaseException as error:
        sequence.end("broken", ABORTED, error)
        for thread in _left(sequence, threads, Deadline(_GRACE)):
            note(error, f"the run was aborted, but Thread {thread.name!r} can't be killed: it ends with its body")
        for failure in failures:
            note(error, f"before, there failed: {error_words(failure)}")
        raise
    conclude(sequence, failures)
    return results


def _left(sequence: Sequence, threads: list[Thread], deadline: Deadline) -> list[Thread]:
    """Join the threads and return those that are still alive when the time is up."""
    if any(thread.is_alive() for thread in threads):
        wait_visibly(sequence, "the end of its threads", deadline.timeout, _join, threads, deadline)
    return [thread for thread in threads if thread.is_alive()]


def _join(threads: list[Thread], deadline: Deadline) -> None:
    for thread in threads:
        if thread.ident is not None:  # otherwise it was never started
            thread.join(deadline.remaining())


def run_in_executor(
    runner: Runner,
    sequence: Sequence,
    bodies: Mapping[str, Callable[[Turn], R]],
    deadline: Deadline,
    executor: Executor,
) -> list[R]:
    """Take every turn in this thread while the executor runs its body, one at a time."""
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor or have its submit(), not {words(executor)}")
    results: list[R] = []
    failures: list[BaseException] = []

    def delegate(turn: Turn) -> None:
        future = executor.submit(bodies[turn.step], turn)
        where = f"{turn.step!r} in {words(executor)}"
        try:
            left = deadline.remaining()
            results.append(wait_visibly(sequence, f"the end of {where}", left, future.result, left))
        except BaseException as error:
            if future.done() and not future.cancelled():
                raise
            future.cancel()
            if not isinstance(error, TimeoutError):
                raise
            late = sequence.timeout_error(f"{sequence.name!r} to finish, with {where}", deadline)
            # End the sequence here, so that no _on_error() can let the next step start while this one runs.
            sequence.end("broken", ABORTED, late)
            raise late from None

    try:
        while True:
            begin(runner, sequence)
            step = sequence.current
            if step is None or not _Served(runner, sequence, step, 0, failures).serve_one(delegate):
                break
    except BaseException as error:  # noqa: BLE001  raised by conclude()
        failures.append(error)
        sequence.end("broken", ABORTED, error)
    conclude(sequence, failures)
    return results
