"""`Borrowed`: the executors that are handed in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Any

from ..._core.clock import monotonic
from ..._core.deadline import Deadline
from ...errors import TaskTimeoutError
from ..at_exit import drain_before
from ..cpython.forgotten_futures_before_312 import Custody
from ..inside import enter, leave
from ..task import Task
from ..travel.envelope import run_packed, unpack
from ..travel.start_board import StartBoard
from .backend import Backend


class Borrowed(Backend):
    """An executor that somebody handed in.

    Args:
        executor: Used through ``submit(callable, *args)`` only, and never shut down.
        packs: Whether calls travel in the envelope.
        dumps_blob: The pickler for results, pickled (see `envelope.portable`).
        flush: Whether workers flush their output after each task.
    """

    def __init__(self, executor: Executor, *, packs: bool, dumps_blob: bytes | None, flush: bool) -> None:
        super().__init__()
        self._executor = executor
        self._dumps_blob = dumps_blob
        self._flush = flush
        # Dask's futures never tell that they run: there a task's timeout counts from its submission.
        self._never_says_running = type(executor).__module__.partition(".")[0] == "distributed"
        self._schedule: Callable[..., Future[Any]] | None = _pebble_schedule(executor)
        self._custody = _custody(executor)
        self._board = make_board() if packs and _on_this_machine(executor) and self._schedule is None else None
        self.packs = packs
        # Some register a handler when they are imported, others (loky) with the first task that they get.
        self._at_work = False
        drain_before(type(executor).__module__)
        self.fate = "its worker can't be stopped from here, its result will be dropped"

    def start(self, task: Task[Any]) -> None:
        """Submit the task to the executor."""
        try:
            inner = self._submit(task)
        except Exception as error:
            if self._custody is not None:
                self._custody.refused(error)
            raise
        if self._custody is not None:
            self._custody.prepare(inner)
        task._inner = inner
        if not self._at_work:
            self._at_work = True
            drain_before(f"{type(self._executor).__module__} at work")
        inner.add_done_callback(partial(self._done, task))
        if self._custody is not None:
            self._custody.take(inner)
        if task.cancelled():  # while it had no inner future to cancel
            inner.cancel()
        if task._timeout is not None and self._schedule is None and self.packs:
            if self._never_says_running:
                task._started = monotonic()
            task._pool._timer.watch(task)

    def _submit(self, task: Task[Any]) -> Future[Any]:
        if not self.packs:
            if self._schedule is not None:
                return self._schedule(run_here, args=(task,))
            return self._executor.submit(run_here, task)
        if self._board is not None and task._timeout is not None:
            task._slot = self._board.take()
            task._board = self._board
        assert isinstance(task._call, bytes)
        path = None if self._board is None else self._board.path
        call = (task._call, self._dumps_blob, path, task._slot, self._flush)
        if self._schedule is not None:
            return self._schedule(run_packed, args=call, timeout=task._timeout)
        return self._executor.submit(run_packed, *call)

    def _done(self, task: Task[Any], inner: Future[Any]) -> None:
        if self._custody is not None:
            self._custody.give_back(inner)
        self._stuck.discard(task)
        if task._board is not None:
            task._started = task._running_since()
            task._board.give_back(task._slot)
            task._board = None
        error = deliver(task, inner)
        if error is not None and not task.done():
            if self._schedule is not None and task._timeout is not None and isinstance(error, TimeoutError):
                error = TaskTimeoutError(
                    f"task {task._label} of {task._pool.name!r} ran for its whole timeout of {task._timeout} s; "
                    "its worker was killed",
                    timeout=task._timeout,
                    waited=task._timeout,
                )
            task._fail(error)
        task._inner = None  # whose callback holds the task: what refers to itself waits for the garbage collector

    def stop(self) -> None:
        """Do nothing: the executor is its owner's."""

    def finish(self, deadline: Deadline) -> None:
        """Do nothing: the executor is its owner's."""


def deliver(task: Task[Any], inner: Future[Any]) -> BaseException | None:
    """Bring the outcome of an inner future to the task; return an error of the executor itself."""
    # Not by `result`, which raises: a broken executor gives one error to many futures, each adding to its traceback.
    error = CancelledError() if inner.cancelled() else inner.exception()
    if isinstance(error, CancelledError):
        Future.cancel(task)
        return None
    if error is not None:
        return error
    outcome = inner.result()
    if outcome is not None:  # run_here has brought its own
        result, failure = unpack(outcome)
        if failure is None:
            task._finish(result)
        else:
            task._fail(failure)
    return None


def run_here(task: Task[Any]) -> None:
    """Run the task in a thread that belongs to somebody else."""
    before = enter(task._pool._intake.mark)
    try:
        run_task(task)
    finally:
        leave(before)


def run_task(task: Task[Any]) -> bool:
    """Run the task in this thread and set its outcome; False if that came too late, because it had expired."""
    if not task._begin():
        return True
    assert isinstance(task._call, tuple)
    fn, args, kwargs, context = task._call
    task._call = None
    try:
        if task._timeout is not None:
            task._started = monotonic()
            task._pool._timer.watch(task)
        result = fn(*args, **kwargs) if context is None else context.run(fn, *args, **kwargs)
    except BaseException as error:  # noqa: BLE001  a task may raise anything, SystemExit too, and only it shall fail
        return task._fail(error)
    else:
        return task._finish(result)
    finally:
        del fn, args, kwargs, context, task  # the error's traceback holds this frame: no cycle through it


def make_board() -> StartBoard | None:
    """Return a start board, or None where no temporary file can be made."""
    try:
        return StartBoard()
    except OSError:
        return None


def crosses_processes(executor: Executor) -> bool:
    """Tell whether calls should travel to the executor as bytes: yes, unless it is known to run threads."""
    kinds = {(kind.__module__, kind.__qualname__) for kind in type(executor).__mro__}
    if ("concurrent.futures.interpreter", "InterpreterPoolExecutor") in kinds:
        return True
    return not kinds & {
        ("concurrent.futures.thread", "ThreadPoolExecutor"),
        ("pebble.pool.thread", "ThreadPool"),
    }


def refuse_unsuitable(executor: object) -> None:
    """Raise for what can't be used as an executor.

    Raises:
        TypeError: It has no ``submit``.
        ValueError: It is Dask's with ``pure`` left on, which would run equal calls once only.
    """
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}")
    if type(executor).__module__.startswith("distributed.") and getattr(executor, "_kwargs", {}).get("pure", True):
        raise ValueError("Dask runs equal calls only once unless told otherwise: pass client.get_executor(pure=False)")


def _custody(executor: Any) -> Custody | None:
    kinds = {(kind.__module__, kind.__qualname__) for kind in type(executor).__mro__}
    needed = sys.version_info < (3, 12) and ("concurrent.futures.process", "ProcessPoolExecutor") in kinds
    return Custody(executor) if needed else None


def _on_this_machine(executor: Executor) -> bool:
    modules = [kind.__module__ for kind in type(executor).__mro__]
    return any(module == "concurrent.futures.process" or module.split(".")[0] == "loky" for module in modules)


def _pebble_schedule(executor: Executor) -> Callable[..., Future[Any]] | None:
    return getattr(executor, "schedule", None) if type(executor).__module__.startswith("pebble.") else None
