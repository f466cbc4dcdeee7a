"""`Job`: the pool's side of a task."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from logging import ERROR
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from .._core.clock import monotonic
from .._core.deadline import Deadline
from .._core.foreign import is_interrupt, log, words
from .._core.observing import Event, Observable
from .._core.waits import Group
from .course import Course
from .open_tasks import OpenTasks
from .task import Outcome, Task, cancel_running, complete, mark_running, outcome_of, stand_in_for
from .up_to import TaskSettled

if TYPE_CHECKING:
    from contextvars import Context

# The user holds the task: the outcome, and its progress. The other data of the pool is in the job: the call, and the
# owner of its outcome. A job refers to its task and never the other way round, and the job is gone when the task has
# settled. So a task that is kept alive keeps neither callbacks nor the pool alive. Both refer to the task's course.
#
# An error that no code looks at belongs to the pool if the task is dropped before the pool has closed. So when a failed
# task has settled, no part of the pool may refer to it, not even a frame of the worker that is about to return.
# Therefore the last act of a job is to send itself as the notice, and then it drops its reference to the task.

T = TypeVar("T")


class Killable(Protocol):
    """A process that runs a call."""

    @property
    def pid(self) -> int | None:
        """Its id."""

    def kill(self, job: Job[Any], outcome: Callable[[], object]) -> bool:
        """Kill it if it runs the call of that job, and then call `outcome`; block until it is dead."""


_MOST_SHOWN, _SHOWN = 5, 60  # how many arguments a message shows, and how many characters of each


class Job(Generic[T]):
    """The pool's side of a task: the call, the owner of the outcome, and the steps of its progress.

    **Thread safety**: a job belongs to one thread after the other: the submitter, the worker, the dispatcher. `finish`,
    `fail` and `cancel` may be called by any of them at any time, and by the timer; the first one settles it.

    Attributes:
        pool: Open tasks keep it alive by this.
        open_tasks: Those of the pool.
        task: The future that its user holds.
        course: The progress of the task.
        label: Its name in messages.
        timeout: How long the call may run.
        limited: Whether it will end in time: by its own timeout, or by that of its group.
        errors: The owner of an error that no code looked at: the ``"holder"``, as long as the task is held (`submit`),
            or the ``"pool"`` from the start (`apply_async` and `map`).
        parts: The tasks that it is up to, if no worker runs it.
        shown: The arguments that messages show; None for all of them.
    """

    # Defaults are on the class, as in `Course`.

    # Written by the submitter:
    errors: Literal["holder", "pool"] = "holder"
    shown: tuple[Any, ...] | None = None
    callback: Callable[[T], object] | None = None
    error_callback: Callable[[BaseException], object] | None = None
    context: Context | None = None  # for the callbacks; the call has its own
    timeout: float | None = None
    limited: bool = False
    parts: Group | None = None
    withdrawn = False

    # Written by the thread of this process that runs it, or unpickles its outcome: when that began, and the thread's
    # ident.
    began: float | None = None
    worker: int | None = None
    process: Killable | None = None  # the process that runs it, if it is another process and can be killed

    # Written by the thread that unpickles its outcome here, if it ran elsewhere: whether it has begun to.
    arrives: bool = False

    # Written by `diagnostics.record`: when and where it was submitted and ran.
    noted: object = None

    def __init__(
        self,
        pool: object,
        open_tasks: Open,
        label: str,
        call: tuple[Callable[..., T], tuple[Any, ...], dict[str, Any]],
        carrier: bytes | Context | None,
    ) -> None:
        self.pool: Final = pool
        self.open_tasks: Final = open_tasks
        self.label: str = label
        self.call: Final = call
        self.carrier: Final = carrier  # the packed call; or the context that it runs in here, if it has its own
        self.course: Course = Course()
        self.task: Task[T] = Task(open_tasks, label, self.course)

    @property
    def pool_name(self) -> str:
        """The name of its pool."""
        return self.open_tasks.name

    # -- on its way --------------------------------------------------------------------------------------------------

    def begin(self, process: Killable | None = None, now: float | None = None) -> bool:
        """Mark the task as running, here or in that process; False if it was cancelled or withdrawn."""
        if process is not None:
            self.process = process
        self.began = monotonic() if now is None else now
        self.worker = get_ident() if process is None else None  # before the state, which other threads check first
        return mark_running(self.task)

    def arrive(self) -> None:
        """Note that its outcome has come, and that this thread will unpickle it, which may run the user's code."""
        since = self.running_since()
        self.arrives = True
        self.began = monotonic() if since is None else since
        self.worker = get_ident()

    def running(self) -> bool:
        """Whether the call runs, as far as that is known."""
        return self.task.running()

    def running_since(self) -> float | None:
        """Return when the call began, by `time.monotonic`; None if it did not, or if that is not known."""
        return self.course.running_since() if self.began is None else self.began

    def has_callback(self) -> bool:
        """Whether a function has to be called when it is done."""
        return self.callback is not None or self.error_callback is not None

    @property
    def pid(self) -> int | None:
        """The id of the process that runs it, if it is another process and known."""
        process = self.process
        return self.course.pid if process is None else process.pid

    # -- its outcome -------------------------------------------------------------------------------------------------

    def finish(self, result: T) -> bool:
        """Set the result; False if it comes too late."""
        try:
            return complete(self.task, result, None)
        except BaseException as error:  # noqa: BLE001  it decides
            self._survive(error)
        finally:
            self.open_tasks.ended.put(self)
        return True

    def fail(self, error: BaseException) -> bool:
        """Set the error; False if it comes too late."""
        try:
            return complete(self.task, None, error)
        except BaseException as failure:  # noqa: BLE001  it decides
            self._survive(failure)
        finally:
            self.open_tasks.ended.put(self)  # no variable of this frame refers to the task: see the top
        return True

    def _survive(self, error: BaseException) -> None:
        """Log the error of a function given to add_done_callback; raise an interrupt, or an error before the end."""
        if is_interrupt(error) or not self.done():
            raise error
        # The task is done anyway, and this is the thread of a worker or of the timer, which other tasks need.
        log(ERROR, f"a function given to add_done_callback() of {self.task} raised", error)

    def cancel(self) -> bool:
        """Cancel the task itself, without asking the executor that got the call."""
        try:
            return Future.cancel(self.task)
        except BaseException:
            self.open_tasks.ended.put(self.task)  # as in `Task.cancel`
            raise

    def cancel_running(self) -> bool:
        """Cancel the task even if it runs, because its process is dead; False if it is done."""
        return cancel_running(self.task)

    def kill(self) -> bool:
        """Kill the process that runs the call, and cancel the task; False if no process of the pool's own runs it."""
        process = self.process
        return process is not None and process.kill(self, self.cancel_running) and self.cancelled()

    def done(self) -> bool:
        """True once the task is done."""
        return self.task.done()

    def cancelled(self) -> bool:
        """True once the task is cancelled."""
        return self.task.cancelled()

    def outcome(self) -> Outcome[T]:
        """Return how a finished task has ended, with its result or its error."""
        return outcome_of(self.task)

    # -- its end -----------------------------------------------------------------------------------------------------

    def is_of(self, open_tasks: object) -> bool:
        """Whether it is a task of the pool with these open tasks."""
        return self.open_tasks is open_tasks

    def await_settled(self, deadline: Deadline) -> bool:
        """Block until its callback has ended; False if the time is up."""
        return self.course.await_settled(TaskSettled(self.open_tasks, self.task, self.label), deadline)

    def call_as_text(self) -> str:
        """Return the call for messages, with shortened arguments."""
        _, args, kwargs = self.call
        given = [words(value, _SHOWN) for value in (args if self.shown is None else self.shown)[:_MOST_SHOWN]]
        given += [f"{key}={words(value, _SHOWN)}" for key, value in list(kwargs.items())[:_MOST_SHOWN]]
        if len(args if self.shown is None else self.shown) > _MOST_SHOWN or len(kwargs) > _MOST_SHOWN:
            given.append("…")
        return f"{self.label}({', '.join(given)})"

    def report_if_dropped(self, error: BaseException, report: Callable[[str, BaseException], object]) -> None:
        """Call ``report(call, error)`` if the task is dropped before any code looks at its error."""
        self.course.report_if_dropped(self.task, self.call_as_text(), error, report)

    def part(self) -> None:
        """Drop the reference to the task if the pool needs to notice when the task is dropped."""
        before = self.course
        if before.unseen is not None:
            self.course = before.copy()
            self.task = stand_in_for(self.task, self.course)
            before.forget_call()  # last: the worker's side may read the course at any time

    _observable: ClassVar[Observable] = Observable(
        {
            "__init__": Event("makes"),
            "begin": Event("begins"),
            "finish": Event("ends"),
            "fail": Event("ends"),
            "cancel_running": Event("ends"),
        }
    )


Open = OpenTasks[Task[Any], Job[Any]]
