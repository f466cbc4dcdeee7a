"""Other events, for recordings: waits, turns of runners, tasks and callbacks of pools."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .._core.clock import monotonic, perf_counter_ns
from .._core.sites import Site
from .._core.waits import Waiting
from .call_sites import call_site
from .exchange import Exchange

if TYPE_CHECKING:  # recording a program without pools must not import them
    from .._runner.sequence import Sequence
    from .._runner.turn import Turn
    from ..callback_pool.job import Job

# The observed methods are those that the parts of runners and pools declare (see `_core.observing`), and the one that
# registers every wait of every primitive. Every time here is a `time.perf_counter_ns`.


class WorkObserver(Protocol):
    """An observer of work. Each method except `task_done` is called in the thread that does the work."""

    def wait_begins(self, waiting: Waiting, at: int) -> None:
        """The thread is about to block."""

    def wait_ends(self, waiting: Waiting, at: int, error: BaseException | None) -> None:
        """The thread goes on, with or without success. If an error was raised in the wait, this gets it."""

    def step_sought(self, sequence: Sequence, step: str | None) -> None:
        """The thread wants this step of the sequence. None means that it has the step or has given it up."""

    def turn_begins(self, sequence: Sequence, turn: Turn, at: int) -> None:
        """The thread is in a step."""

    def step_refused(self, sequence: Sequence, step: str, error: BaseException) -> None:
        """The thread did not get the step."""

    def turn_ends(self, sequence: Sequence, at: int, error: BaseException | None) -> None:
        """The thread has left its step, with this error or without one."""

    def task_done(self, job: Job[Any], note: TaskNote) -> None:
        """A task has run; the note is complete."""

    def callback_ended(
        self, job: Job[Any], note: TaskNote | None, which: str, begun: int, at: int, error: BaseException | None
    ) -> None:
        """A callback has ended, with this error or without one; the note is that of its task."""


class TaskNote:
    """When and where a task was submitted and run; kept in its job while it is observed.

    Attributes:
        site: Where it was submitted.
        submitted: When.
        begun: When its call began, or None if that is not known.
        ended: When it was done, or None.
        ident: The thread that ran it, or None if it was in another process.
        error: The exception that it raised or failed by; None if it did not fail.
    """

    __slots__ = ("begun", "ended", "error", "ident", "site", "submitted")

    def __init__(self) -> None:
        self.site: Site | None = call_site()
        self.submitted: int = perf_counter_ns()
        self.begun: int | None = None
        self.ended: int | None = None
        self.ident: int | None = None
        self.error: BaseException | None = None


def _waiting(publish: Callable[[Waiting], None], *_: object) -> object:
    def observed(waiting: Waiting) -> None:
        at = perf_counter_ns()
        for observer in works.observers:
            observer.wait_begins(waiting, at)
        try:
            publish(waiting)
        finally:
            waiting.withdraw = partial(_withdrawing, waiting, waiting.withdraw, sys.exception())

    return observed


def _withdrawing(waiting: Waiting, withdraw: Callable[[], object], handled: BaseException | None) -> None:
    withdraw()
    waiting.withdraw = withdraw  # otherwise this would complete a reference cycle, and keep the awaited thing alive
    at = perf_counter_ns()
    # This is called in a `finally`. An exception that is being handled around the wait was not raised by it.
    error = sys.exception()
    for observer in works.observers:
        observer.wait_ends(waiting, at, None if error is handled else error)


def _entering(enter: Callable[..., Turn], about: Callable[..., tuple[Sequence, str]], *_: object) -> object:
    def observed(context: object, *args: object, **kwargs: object) -> Turn:
        observers = works.observers
        sequence, step = about(context, *args, **kwargs)
        for observer in observers:
            observer.step_sought(sequence, step)
        try:
            turn = enter(context, *args, **kwargs)
            at = perf_counter_ns()
            for observer in observers:
                observer.turn_begins(sequence, turn, at)
        except BaseException as error:
            for observer in observers:
                observer.step_refused(sequence, step, error)
            raise
        finally:
            for observer in observers:
                observer.step_sought(sequence, None)
        return turn

    return observed


def _leaving(advance: Callable[..., object], *_: object) -> object:
    def observed(sequence: Sequence, error: BaseException | None, *args: object, **kwargs: object) -> object:
        at = perf_counter_ns()
        for observer in works.observers:
            observer.turn_ends(sequence, at, error)
        return advance(sequence, error, *args, **kwargs)

    return observed


def _making(make: Callable[..., None], *_: object) -> object:
    def observed(job: Job[Any], *args: Any, **kwargs: Any) -> None:
        make(job, *args, **kwargs)
        job.noted = TaskNote()

    return observed


def _beginning(begin: Callable[..., bool], *_: object) -> object:
    def observed(job: Job[Any], *args: Any, **kwargs: Any) -> bool:
        begun = begin(job, *args, **kwargs)
        note = _note_of(job)
        if begun and note is not None:
            note.ident = job.worker
            note.begun = perf_counter_ns()
        return begun

    return observed


def _ending(end: Callable[..., bool], *_: object) -> object:
    def observed(job: Job[Any], *args: Any, **kwargs: Any) -> bool:
        note = _note_of(job)
        if note is None or note.ended is not None:
            return end(job, *args, **kwargs)
        # Before the end: after it the callback may begin at once in another thread.
        note.ended = perf_counter_ns()
        if note.begun is None:
            since = job.running_since()
            note.begun = None if since is None else note.ended - int((monotonic() - since) * 1e9)
        in_time = end(job, *args, **kwargs)
        if in_time:
            outcome, value = job.outcome()
            note.error = None if outcome == "done" else value
            for observer in works.observers:
                observer.task_done(job, note)
        return in_time

    return observed


def _calling(run: Callable[..., None], *_: object) -> object:
    def observed(dispatcher: object, job: Job[Any], which: str, call: Callable[..., object], *args: object) -> None:
        if which not in ("callback", "error_callback"):
            return run(dispatcher, job, which, call, *args)
        raised: list[BaseException] = []

        def noting(*args: object) -> object:
            try:
                return call(*args)
            except BaseException as error:
                raised.append(error)
                raise

        begun = perf_counter_ns()
        run(dispatcher, job, which, noting, *args)
        at, error = perf_counter_ns(), raised[0] if raised else None
        for observer in works.observers:
            observer.callback_ended(job, _note_of(job), which, begun, at, error)
        return None

    return observed


def _note_of(job: Job[Any]) -> TaskNote | None:
    return job.noted if isinstance(job.noted, TaskNote) else None


works: Exchange[WorkObserver] = Exchange(
    {
        "waits": _waiting,
        "leaves": _leaving,
        "enters": _entering,
        "makes": _making,
        "begins": _beginning,
        "ends": _ending,
        "calls": _calling,
    }
)
