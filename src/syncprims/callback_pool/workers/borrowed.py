"""`Borrowed`: an executor that the user passed to the pool."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from threading import Thread, get_ident
from typing import Any

from ..._core.deadline import Deadline
from ..._core.foreign import guarded, type_name, words
from ...errors import PoolClosedError, TaskTimeoutError
from ..arguments import refuse_kind
from ..at_exit import drain_before, exit_has_begun
from ..cpython.forgotten_futures_before_312 import Custody
from ..cpython.lost_executors_before_3131 import keep_if_broken
from ..job import Job
from ..own_threads import enter, leave
from ..travel.envelope import portable, run_packed, unpack
from ..travel.start_board import StartBoard, can_reach, make_board
from .backend import Backend, BackendOptions
from .dask_bulk import DaskBulk, takes_bulk

# The task that each thread of such executors runs; each thread writes its own entry.
busy: dict[int, Job[Any]] = {}


class Borrowed(Backend):
    """An executor that the user passed to the pool.

    Args:
        executor: Used only through ``submit(callable, *args)``, and never shut down.
        packs: Whether calls are sent in the envelope.
        options: Those of the pool.
    """

    def __init__(self, executor: Executor, packs: bool, options: BackendOptions) -> None:
        super().__init__(options)
        self._executor = executor
        known = getattr(executor, "_max_workers", None)  # the standard executors and loky's have it
        self.max_workers: int | None = known if type(known) is int else None
        self._has_threads = has_threads(executor)
        self._dumps_blob = portable(options.dumps)
        self._flush = options.flush
        # Dask's futures never report that they run, so a task's timeout counts from its submission.
        self._never_says_running = type(executor).__module__.partition(".")[0] == "distributed"
        self._schedule: Callable[..., Future[Any]] | None = _pebble_schedule(executor)
        constant = (self._dumps_blob, None, 0, self._flush)
        self._bulk = DaskBulk(executor, run_packed, *constant) if takes_bulk(executor) else None
        self._custody = _custody(executor)
        reachable = packs and _on_this_machine(executor) and self._schedule is None
        self._board = make_board() if reachable else None
        self._asked = False
        self.packs = packs
        # Some executors' modules register an exit handler when they are imported, loky's with its first task.
        self._at_work = False
        drain_before(type(executor).__module__)
        self.fate = "its worker can't be stopped from here, its result will be dropped"

    def start(self, job: Job[Any]) -> None:
        """Submit the job to the executor."""
        if not self._at_work and _can_not_begin(self._executor):
            raise PoolClosedError(
                f"{self._name!r} can't give its first task to {type_name(self._executor)}, as the program ends, and it "
                "would leave a worker behind: submit one earlier, or call the function without a pool"
            )
        try:
            inner = self._submit(job)
        except Exception as error:
            if self._custody is not None:
                self._custody.refused(error)
            raise
        if not callable(getattr(inner, "add_done_callback", None)):
            raise TypeError(f"submit of {type_name(self._executor)} returned {words(inner)}, which is no Future")
        if self._custody is not None:
            self._custody.prepare(inner)
        job.course.hand_to(inner)
        if not self._at_work:
            self._at_work = True
            drain_before(f"{type(self._executor).__module__} at work")
        inner.add_done_callback(partial(self._done, job))
        if self._custody is not None:
            self._custody.take(inner)
        if job.cancelled():  # it was cancelled before it had an inner future
            guarded(False, inner.cancel)
        if job.timeout is not None and self._schedule is None and self.packs:
            if self._never_says_running:
                job.course.began_now()
            self._timer.watch(job, self)

    def _submit(self, job: Job[Any]) -> Future[Any]:
        if not self.packs:
            if self._schedule is not None:
                return self._schedule(self._run_here, args=(job,))
            return self._executor.submit(self._run_here, job)
        address = None
        if self._board is not None and job.timeout is not None:
            address = self._board.address
            if not self._asked:
                self._asked = True
                self._executor.submit(can_reach, address).add_done_callback(
                    partial(guarded, None, _note_answer, self._board)
                )
            job.course.take_slot(self._board)
        assert isinstance(job.carrier, bytes)
        if self._bulk is not None:
            return self._bulk.submit(job.carrier)
        call = (job.carrier, self._dumps_blob, address, job.course.slot, self._flush)
        if self._schedule is not None:
            return self._schedule(run_packed, args=call, timeout=job.timeout)
        return self._executor.submit(run_packed, *call)

    def _run_here(self, job: Job[Any]) -> None:
        """Run the job in a thread of the executor."""
        before = enter(self._open_tasks, "task")
        me = get_ident()
        outer = busy.get(me)
        busy[me] = job
        try:
            self.run(job)
        finally:
            if outer is None:
                busy.pop(me, None)
            else:
                busy[me] = outer
            leave(before)

    def takers(self) -> Collection[int | None]:
        """The executor's threads, if they are known and no more can be started; None for some.

        None means a thread that runs no task of a pool: it is free, or runs other code, which can go on.
        """
        if not self._has_threads:
            return (None,)
        threads = guarded(list[Thread](), _threads_of, self._executor)
        if self.max_workers is None or len(threads) < self.max_workers:
            return (None,)
        return [thread.ident if thread.ident in busy else None for thread in threads]

    def at_work(self) -> Collection[int]:
        """The executor's threads that run tasks of this pool without a limit."""
        return [
            ident
            for ident, job in list(busy.items())
            if job.is_of(self._open_tasks) and not job.limited and not job.done()
        ]

    def _done(self, job: Job[Any], inner: Future[Any]) -> None:
        if self._custody is not None:
            self._custody.give_back(inner)
        self._stuck.discard(job)
        job.course.give_slot_back()
        try:
            self._bring(job, inner)
        except BaseException as error:  # noqa: BLE001  a future of another library; whatever it raises fails its task
            job.fail(error)
        job.course.hand_back(inner)

    def _bring(self, job: Job[Any], inner: Future[Any]) -> None:
        error = deliver(job, inner)
        keep_if_broken(self._executor, error)
        if error is None and not job.done() and not job.task.running():
            error = RuntimeError(f"{type_name(self._executor)} says that {job.label} is done, and has not run it")
        if error is not None and not job.done():
            if self._schedule is not None and job.timeout is not None and issubclass(type(error), TimeoutError):
                error = TaskTimeoutError(
                    f"task {job.label} of {self._name!r} ran for its whole timeout of {job.timeout} s; "
                    "its worker was killed",
                    timeout=job.timeout,
                    waited=job.timeout,
                )
            job.fail(error)

    def stop(self) -> None:
        """Do nothing: the executor belongs to its owner."""

    def finish(self, deadline: Deadline) -> list[str]:  # noqa: ARG002  as the others
        """Do nothing: the executor belongs to its owner."""
        return []


def _note_answer(board: StartBoard, answer: Future[bool]) -> None:
    """Note whether a worker can write on the board; if not, timeouts count from when ``running()`` is first true."""
    if not answer.cancelled() and answer.exception() is None and answer.result() is False:
        board.reached = False


def deliver(job: Job[Any], inner: Future[Any]) -> BaseException | None:
    """Set the job's outcome from its inner future; return an error of the executor itself, or of its future."""
    try:
        return _deliver(job, inner)
    except BaseException as error:  # noqa: BLE001  whatever it is, only this task shall fail
        return error


def _deliver(job: Job[Any], inner: Future[Any]) -> BaseException | None:
    # Not by `result`, which raises: a broken executor gives one error to many futures, and each would add to its
    # traceback.
    error = CancelledError() if inner.cancelled() else inner.exception()
    kind = type(error)
    if issubclass(kind, CancelledError):
        job.cancel()
        return None
    if error is not None:
        if not issubclass(kind, BaseException):
            raise TypeError(f"the exception() of a {type_name(inner)} is {words(error)}, which is no exception")
        return error
    outcome = inner.result()
    if outcome is not None:  # a call that ran in this process has set its outcome itself
        job.arrive()
        result, failure = unpack(outcome)
        if failure is None:
            job.finish(result)
        else:
            job.fail(failure)
    return None


def crosses_processes(executor: Executor) -> bool:
    """Return whether calls should be sent to the executor as bytes: yes, unless it is known to run threads."""
    kinds = _kinds(executor)
    if ("concurrent.futures.interpreter", "InterpreterPoolExecutor") in kinds:
        return True
    return not has_threads(executor) and ("pebble.pool.thread", "ThreadPool") not in kinds


def has_threads(executor: Executor) -> bool:
    """Whether the executor runs standard threads."""
    return ("concurrent.futures.thread", "ThreadPoolExecutor") in _kinds(executor)


def _kinds(executor: object) -> set[tuple[str, str]]:
    """The names of the object's classes; this does not need to import their modules."""
    return {(kind.__module__, kind.__qualname__) for kind in type(executor).__mro__}


def refuse_unsuitable(executor: object) -> None:
    """Raise if an object can't be used as an executor.

    Raises:
        TypeError: It has no ``submit``.
        ValueError: It is Dask's without ``pure=False``, and would run equal calls only once.
    """
    if not callable(getattr(executor, "submit", None)):
        refuse_kind(executor)
    if type(executor).__module__.startswith("distributed.") and getattr(executor, "_kwargs", {}).get("pure", True):
        raise ValueError("Dask runs equal calls only once unless told otherwise: pass client.get_executor(pure=False)")


def _threads_of(executor: Any) -> list[Thread]:
    """The threads of a standard executor, which keeps them under this private name in all versions."""
    return list(executor._threads)


def _custody(executor: Any) -> Custody | None:
    needed = sys.version_info < (3, 12) and ("concurrent.futures.process", "ProcessPoolExecutor") in _kinds(executor)
    return Custody(executor) if needed else None


def _can_not_begin(executor: Any) -> bool:
    """Whether a loky executor would start a worker for its first task, and then refuse the task and forget the worker.

    This happens when the program ends, because the executor registers an exit handler after starting the worker. That
    worker never ends, and in later releases of 3.13 the program waits for it, because
    `multiprocessing.resource_tracker` does.
    """
    if not _is_of_loky(executor):
        return False
    return getattr(executor, "_executor_manager_thread", executor) is None and exit_has_begun()


def _on_this_machine(executor: Executor) -> bool:
    return _is_of_loky(executor) or any(module == "concurrent.futures.process" for module, _ in _kinds(executor))


def _is_of_loky(executor: Executor) -> bool:
    return any(module.partition(".")[0] == "loky" for module, _ in _kinds(executor))


def _pebble_schedule(executor: Executor) -> Callable[..., Future[Any]] | None:
    return getattr(executor, "schedule", None) if type(executor).__module__.startswith("pebble.") else None
