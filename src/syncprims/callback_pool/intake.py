"""`Intake`: makes tasks of calls, and hands them to the pool's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from contextvars import copy_context as copy_of_context
from typing import Any, TypeVar

from .._core.deadline import check_timeout
from .._core.lazy import check_runs
from .arguments import by_keyword, label_of, positional
from .dispatcher import Dispatcher
from .job import Job, Open
from .task import Task
from .timeouts import Timer
from .travel.envelope import Dumps, pack
from .travel.envelope import flush_output as flush_own_output
from .workers.backend import Backend

T = TypeVar("T")


class Intake:
    """Makes the jobs of one pool, and starts them.

    **Thread safety**: all methods may be called from any thread.
    """

    def __init__(
        self,
        open_tasks: Open,
        backend: Backend,
        dispatcher: Dispatcher,
        timer: Timer,
        dumps: Dumps,
        flush_output: bool,
        copy_context: bool,
    ) -> None:
        self._open_tasks = open_tasks
        self._backend = backend
        self._dispatcher = dispatcher
        self._timer = timer
        self._dumps = dumps
        self._flush_output = flush_output
        self._copy_context = copy_context

    def make(
        self, pool: object, label: str | None, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job[T]:
        """Make the job of a call. An open job keeps the pool alive."""
        if self._open_tasks.phase != "open":
            self._open_tasks.check_open()
        check_runs(fn, "the function of a task", generators=True)
        carrier: bytes | Context | None = None
        if self._backend.packs:
            carrier = pack(self._dumps, fn, args, kwargs)
            if self._flush_output:
                flush_own_output()  # so that earlier output appears before that of the call
        elif self._copy_context:
            carrier = copy_of_context()
        return Job(pool, self._open_tasks, label or label_of(fn), (fn, args, kwargs), carrier)

    def prepare(
        self,
        pool: object,
        func: Callable[..., T],
        args: Iterable[Any],
        kwds: Mapping[str, Any] | None,
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        timeout: float | None,
    ) -> Job[T]:
        """Make the job of a call with callbacks, whose errors belong to the pool."""
        if self._open_tasks.phase != "open":  # this comes before the check of the arguments
            self._open_tasks.check_open()
        if callback is not None:
            check_runs(callback, "callback")
        if error_callback is not None:
            check_runs(error_callback, "error_callback")
        if timeout is not None:
            timeout = check_timeout(timeout)
        job = self.make(
            pool,
            None,
            func,
            args if type(args) is tuple else positional("args", args),
            {} if kwds is None else by_keyword("kwds", kwds),
        )
        if timeout is not None:
            job.timeout = timeout
            job.limited = True
        job.errors = "pool"
        if callback is not None or error_callback is not None:
            self._give_callbacks(job, callback, error_callback)
        return job

    def part(
        self, pool: object, label: str, fn: Callable[..., T], args: tuple[Any, ...], shown: tuple[Any, ...]
    ) -> Job[T]:
        """Make the job of a part of a map."""
        job = self.make(pool, label, fn, args, {})
        job.errors = "pool"
        job.shown = shown
        return job

    def whole(
        self,
        pool: object,
        label: str,
        shown: tuple[Any, ...],
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> Job[list[T]]:
        """Make a job that no worker runs: it is done when its parts are."""
        if not self._dispatcher.thread.started:
            self._dispatcher.ensure()
        if callback is not None:
            check_runs(callback, "callback")
        if error_callback is not None:
            check_runs(error_callback, "error_callback")
        job: Job[list[T]] = Job(pool, self._open_tasks, label, (list, (), {}), None)
        job.shown = shown
        job.errors = "pool"
        self._give_callbacks(job, callback, error_callback)
        return job

    def _give_callbacks(
        self,
        job: Job[T],
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        if callback is not None:
            job.callback = callback
        if error_callback is not None:
            job.error_callback = error_callback
        if self._copy_context and (callback is not None or error_callback is not None):
            # Not the task's own copy: an expired task may still run in that one, and it can't be entered twice.
            job.context = copy_of_context()

    def start(self, job: Job[T]) -> Task[T]:
        """Hand the job to a worker and return its task; block while there is no room."""
        if not self._dispatcher.thread.started:
            self._dispatcher.ensure()
        if job.timeout is not None:
            self._timer.prepare()
        task = job.task
        try:
            self._open_tasks.take_in(task, job)
            self._backend.start(job)
        except BaseException:
            # A store, and then a call of C: a second interrupt can't lose the task, because the dispatcher does the
            # rest.
            job.withdrawn = True
            self._open_tasks.ended.put(task)
            self._withdraw(job)
            raise
        return task

    def start_besides(self, job: Job[T]) -> None:
        """Add a job that no worker runs, whether there is room or not."""
        try:
            self._open_tasks.take_in_besides(job.task, job)
        except BaseException:
            job.withdrawn = True  # as in `start`
            self._open_tasks.ended.put(job.task)
            self._withdraw(job)
            raise

    def _withdraw(self, job: Job[Any]) -> None:
        job.cancel()
        self._dispatcher.drop(job.task)
