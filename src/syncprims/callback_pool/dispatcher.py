"""The dispatcher: the one thread of a pool that runs its callbacks, one at a time, in the order of completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import ref

from .._core.clock import monotonic, sleep
from .._core.deadline import Deadline
from .._core.foreign import words
from .._core.observing import Event, Observable
from .._core.state import RunningCall
from .job import Job, Open
from .open_tasks import Fence
from .own_threads import HelperThread, enter, leave, serve
from .task import Task, count_as_seen, is_over, outcome_of, was_looked_at
from .timeouts import Timer
from .unseen_errors import UnseenErrors
from .workers.backend import Backend

# The dispatcher's inbox holds tasks that are done or withdrawn (maybe the same one twice: see task.py), and None for
# the end. Only the dispatcher settles tasks, and it removes a task from the open ones *after* its callback. If the
# callback submits another task, that one is in the set before the callback's own task leaves it. So the set is empty
# only when no more can follow. The dispatcher also notices that a closed pool has become idle, and then ends the pool's
# threads.
#
# Its thread must not keep the pool alive, nor the objects that users have given to the pool. So while it is idle it
# refers only to the inbox and a weak reference. An open task refers to the pool, and the pool to the rest.
#
# Waking a thread for each of many small tasks costs more than settling them. So with some backends, and while many
# tasks are open, the dispatcher rests for a moment when its inbox is empty. A callback is late by this moment at most,
# and no worker runs out of tasks, because so many tasks, even empty ones, take longer.

_MANY = 16


class Dispatcher:
    """Settles the tasks of a pool.

    **Thread safety**: `ensure`, `drop` and `stop_if_over` may be called from any thread. The dispatcher's own thread
    does everything else.

    Attributes:
        tally: How many tasks have ended in which way.
        thread: Its own thread.
    """

    def __init__(
        self,
        open_tasks: Open,
        backend: Backend,
        timer: Timer,
        unseen: UnseenErrors,
        on_settled: Callable[[Task[Any]], None] | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._open_tasks = open_tasks
        self._backend = backend
        self._timer = timer
        self._unseen = unseen
        self._on_settled = on_settled
        self._on_progress = on_progress
        self.thread: HelperThread = HelperThread(f"{open_tasks.name}-dispatcher")
        # Written only by its own thread:
        self.tally: dict[str, int] = {"done": 0, "failed": 0, "cancelled": 0}
        # The callback or hook that runs, its job, and when it began:
        self._calling: tuple[str, Job[Any], float] | None = None

    def ensure(self) -> None:
        """Start the thread unless it runs; raise `RuntimeError` if the system has no more threads."""
        self.thread.ensure(_settle_all, self._open_tasks, ref(self))

    def catch_up(self, deadline: Deadline) -> None:
        """Block until the thread has handled all items that are now in its inbox, and refers to none of them."""
        if self._open_tasks.phase == "retired":
            self.thread.await_end(deadline)
        elif self.thread.started:
            fence = Fence()
            self._open_tasks.ended.put(fence)
            while not fence.passed(deadline):
                if self.thread.over() or deadline.remaining() == 0:
                    return

    # -- the end of a task, and of the pool --------------------------------------------------------------------------

    def drop(self, task: Task[Any]) -> None:
        """Remove the task from the open ones; end the pool's threads if it was the last one of a closed pool."""
        if self._open_tasks.drop(task):
            self._stop()

    def stop_if_over(self) -> None:
        """End the pool's threads if it is closed, and no task is open."""
        if not self._open_tasks.jobs:
            self._open_tasks.went_idle()
            if self._open_tasks.phase == "retired":  # maybe earlier: an interrupt may have come in between
                self._stop()

    def _stop(self) -> None:
        self._backend.stop()
        self._timer.stop()
        self._open_tasks.ended.put(None)

    @property
    def settling(self) -> str | None:
        """The name of the task whose callback or hook runs now, for messages."""
        calling = self._calling
        return None if calling is None else calling[1].label

    # -- settling ----------------------------------------------------------------------------------------------------

    def settle(self, notice: Task[Any] | Job[Any]) -> None:
        """Settle the task that is done, or remove the one that was withdrawn."""
        task = notice.task if isinstance(notice, Job) else notice
        job = self._open_tasks.jobs.get(task)
        if job is None:  # a second notice, maybe of a thread that was interrupted while it announced the end
            is_over(task)
            return
        if job.withdrawn:
            job.cancel()  # a worker that gets to it skips it
            self.drop(task)
        elif is_over(task):
            outcome, value = outcome_of(task)
            try:
                try:
                    if outcome != "done" or job.callback is not None:
                        self._call_back(job, outcome, value)
                finally:
                    self.tally[outcome] += 1
                    job.course.settle()
                if self._on_settled is not None or self._on_progress is not None:
                    self._run_hooks(job, task)
            finally:
                self._calling = None
                if outcome == "failed":
                    job.part()
                if self._open_tasks.drop(task):
                    self._stop()
            if self._backend.rest and self._open_tasks.ended.empty() and len(self._open_tasks.jobs) >= _MANY:
                sleep(self._backend.rest)

    def _call_back(self, job: Job[Any], outcome: str, value: Any) -> None:
        """Run the job's callback, or ensure that its error is not lost."""
        which, callback = ("callback", job.callback) if outcome == "done" else ("error_callback", job.error_callback)
        if outcome != "done":
            if callback is not None:
                count_as_seen(job.task)
            elif outcome == "failed" and not was_looked_at(job.task):
                self._unseen.task_failed(job, value)
        if callback is not None:
            if job.context is None:
                self.run(job, which, callback, value)
            else:
                self.run(job, which, job.context.run, callback, value)

    def _run_hooks(self, job: Job[Any], task: Task[Any]) -> None:
        """Run the hooks, which see every task: reading an error there does not count as looking at it."""
        before = enter(self._open_tasks, "hook")
        try:
            if self._on_settled is not None:
                self.run(job, "_on_settled", self._on_settled, task)
            if self._on_progress is not None:
                settled = sum(self.tally.values())
                self.run(job, "on_progress", self._on_progress, settled, settled + len(self._open_tasks.jobs) - 1)
        finally:
            leave(before)

    def run(self, job: Job[Any], which: str, call: Callable[..., object], *args: object) -> None:
        """Call the user's code; any exception, even SystemExit, is kept and does not end the thread."""
        self._calling = which, job, monotonic()
        try:
            call(*args)
        except BaseException as error:  # noqa: BLE001  see above
            self._unseen.callback_failed(job, error, which)

    def calling(self) -> tuple[int, str] | None:
        """Return its thread and the callback or hook that it runs, if it runs one."""
        calling, thread = self._calling, self.thread.thread
        if calling is None or thread is None or thread.ident is None:
            return None
        return thread.ident, f"{calling[0]} of {words(calling[1].label)}"

    def running(self) -> tuple[RunningCall, ...]:
        """Record which callback or hook of the user runs on the thread now."""
        calling, thread = self._calling, self.thread.thread
        if calling is None or thread is None:
            return ()
        which, job, since = calling
        return (RunningCall(f"{which} of {job.label}", False, since, thread.ident),)

    _observable: ClassVar[Observable] = Observable({"run": Event("calls")})


def _settle_all(open_tasks: Open, dispatcher: ref[Dispatcher]) -> None:
    def settle(notice: Task[Any] | Job[Any] | Fence) -> None:
        if isinstance(notice, Fence):
            notice.open()
        elif (alive := dispatcher()) is not None:
            alive.settle(notice)

    enter(open_tasks, "callback")
    serve(open_tasks.ended, settle)
