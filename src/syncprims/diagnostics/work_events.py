"""What happens besides the taking of locks, for recordings: waits, turns of runners, tasks and callbacks of pools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from .._core.clock import monotonic, perf_counter_ns
from .._core.waits import Waiting
from .._runner.sequence import Sequence
from .._runner.steps import StepContext
from .._runner.turn import Turn
from ..callback_pool.dispatcher import Dispatcher
from ..callback_pool.task import Job
from .call_sites import Site, call_site
from .exchange import Exchange

# Every wait of every primitive goes through `Waiting.publish` and the `withdraw` that this makes, so that one exchange
# sees them all. Every time here is a `time.perf_counter_ns`.


class WorkObserver(Protocol):
    """Hears of work; each method is called in the thread that does it, but for `task_done`."""

    def wait_begins(self, waiting: Waiting, at: int) -> None:
        """The thread is about to block."""

    def wait_ends(self, waiting: Waiting, at: int) -> None:
        """It goes on, with or without what it waited for."""

    def step_sought(self, sequence: Sequence, step: str | None) -> None:
        """It wants this step of the sequence; with None, it has it or has given it up."""

    def turn_begins(self, sequence: Sequence, turn: Turn, at: int) -> None:
        """It is in a step."""

    def turn_ends(self, sequence: Sequence, at: int) -> None:
        """It has left the step that it was in."""

    def task_done(self, job: Job[Any], note: TaskNote) -> None:
        """A task has run; the note is complete."""

    def callback_ended(self, job: Job[Any], note: TaskNote | None, which: str, begun: int, at: int) -> None:
        """A callback has ended; the note is of its task."""


class TaskNote:
    """When and where a task was submitted and run; kept in its job while somebody observes.

    Attributes:
        site: Where it was submitted.
        submitted: When.
        begun: When its call began, or None where that is not known.
        ended: When it was done, or None.
        ident: The thread that ran it, or None where it was in another process.
    """

    __slots__ = ("begun", "ended", "ident", "site", "submitted")

    def __init__(self) -> None:
        self.site: Site | None = call_site()
        self.submitted: int = perf_counter_ns()
        self.begun: int | None = None
        self.ended: int | None = None
        self.ident: int | None = None


_NOTE = "_diagnostics_note"

_publish = Waiting.publish
_enter_step = StepContext._enter
_advance = Sequence.advance
_init_job = Job.__init__
_begin = Job.begin
_finish = Job.finish
_fail = Job.fail
_run = Dispatcher.run


def _observed_publish(self: Waiting) -> None:
    at = perf_counter_ns()
    for observer in works.observers:
        observer.wait_begins(self, at)
    try:
        _publish(self)
    finally:
        self.withdraw = partial(_observed_withdraw, self, self.withdraw)


def _observed_withdraw(waiting: Waiting, withdraw: Callable[[], object]) -> None:
    withdraw()
    at = perf_counter_ns()
    for observer in works.observers:
        observer.wait_ends(waiting, at)


def _observed_enter_step(self: StepContext, sequence: Sequence) -> Turn:
    observers = works.observers
    for observer in observers:
        observer.step_sought(sequence, self._step)
    try:
        turn = _enter_step(self, sequence)
        at = perf_counter_ns()
        for observer in observers:
            observer.turn_begins(sequence, turn, at)
    finally:
        for observer in observers:
            observer.step_sought(sequence, None)
    return turn


def _observed_advance(self: Sequence, *args: Any) -> Any:
    at = perf_counter_ns()
    for observer in works.observers:
        observer.turn_ends(self, at)
    return _advance(self, *args)


def _observed_init_job(self: Job[Any], *args: Any) -> None:
    _init_job(self, *args)
    self.__dict__[_NOTE] = TaskNote()


def _note_of(job: Job[Any]) -> TaskNote | None:
    note: TaskNote | None = job.__dict__.get(_NOTE)
    return note


def _observed_begin(self: Job[Any]) -> bool:
    begun = _begin(self)
    note = _note_of(self)
    if begun and note is not None:
        note.ident = get_ident()
        note.begun = perf_counter_ns()
    return begun


def _observed_finish(self: Job[Any], result: object) -> bool:
    return _observe_end(self, partial(_finish, self, result))


def _observed_fail(self: Job[Any], error: BaseException) -> bool:
    return _observe_end(self, partial(_fail, self, error))


def _observe_end(job: Job[Any], end: Callable[[], bool]) -> bool:
    note = _note_of(job)
    if note is None or note.ended is not None:
        return end()
    # Before the end, since after it the callback may begin in another thread at once.
    note.ended = perf_counter_ns()
    if note.begun is None:
        since = job.running_since()
        note.begun = None if since is None else note.ended - int((monotonic() - since) * 1e9)
    in_time = end()
    if in_time:
        for observer in works.observers:
            observer.task_done(job, note)
    return in_time


def _observed_run(self: Dispatcher, job: Job[Any], which: str, call: Callable[..., object], *args: object) -> None:
    begun = perf_counter_ns()
    _run(self, job, which, call, *args)
    if which in ("callback", "error_callback"):
        at = perf_counter_ns()
        for observer in works.observers:
            observer.callback_ended(job, _note_of(job), which, begun, at)


works: Exchange[WorkObserver] = Exchange(
    [
        (Waiting, "publish", _observed_publish),
        (Sequence, "advance", _observed_advance),
        (StepContext, "_enter", _observed_enter_step),
        (Job, "__init__", _observed_init_job),
        (Job, "begin", _observed_begin),
        (Job, "finish", _observed_finish),
        (Job, "fail", _observed_fail),
        (Dispatcher, "run", _observed_run),
    ]
)
