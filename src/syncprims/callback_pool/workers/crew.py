"""A crew: one standard process executor with all that its workers need, and how to end it even when one is stuck."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import _ThreadWakeup
from contextlib import suppress
from logging import WARNING
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._core.clock import monotonic
from ..._core.deadline import Deadline
from ..._core.foreign import log
from ..cpython.forgotten_futures_before_312 import Custody, end
from ..job import Job
from ..travel.arrival import Luggage, StartCall, prepare_worker, work
from ..travel.exceptions import Dumps, PackedError, unpack_error
from ..travel.main_module import Source
from ..travel.reports import Report, Reports
from ..travel.start_board import make_board
from ..travel.surroundings import Surroundings

if TYPE_CHECKING:
    from threading import Thread

    from .fork_server import OwnForkServer, WorkerContext

# Before 3.12 nothing keeps `submit` from starting a process while the executor breaks, out of pipes that are just being
# closed. That fails the task that was submitted, and a fork server in the midst of it dies. So there all processes
# start with the first task.
_ALL_AT_ONCE = sys.version_info < (3, 12)


class Plan(NamedTuple):
    """What all crews of one pool have in common.

    Attributes:
        name: The pool's.
        max_workers: How many processes.
        tasks: How many tasks a crew has at most.
        start_call: The initializer, if any, and its arguments.
        dumps: The pool's pickler.
        main: Where the main module comes from.
        around: The surroundings that the workers start in.
        grace: How many seconds a worker has to end; None is no limit.
    """

    name: str
    max_workers: int
    tasks: int
    start_call: StartCall
    dumps: Dumps
    main: Source
    around: Surroundings
    grace: float | None


class Crew:
    """An executor's life: hired, proved once any task began, broken when a worker died, dismissed in the end.

    **Thread safety**: `force`, `left` and `is_up` may be called from any thread; the rest belongs to the feeder and the
    executor's own thread.

    Attributes:
        address: What workers need to find the start board; None if they have inherited it.
        hired: When its first worker could start, by the library's clock.
        broken: Whether a worker has died, or could not start.
    """

    def __init__(self, plan: Plan) -> None:
        self._board = make_board(plan.tasks, named=os.name != "posix")  # else workers inherit it
        self._reports = _make_reports()
        self._context, self._server = _make_context(plan.around)
        self.address: str | None = None if self._board is None else self._board.address
        around = None if self._server is not None else plan.around
        luggage: Any = Luggage(self._board, self._reports, around, plan.main, plan.start_call, plan.dumps)
        self.executor: ProcessPoolExecutor = ProcessPoolExecutor(
            plan.max_workers, mp_context=self._context, initializer=prepare_worker, initargs=(luggage,)
        )
        if _ALL_AT_ONCE:
            self.executor._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]  # typeshed lacks it
        _start_feeding(self.executor)
        ring_once(self.executor)
        self._plan = plan
        self._manager: Thread | None = None
        self._patience = Deadline(None)
        self._proved = False
        self.hired: float = monotonic()
        self.broken: bool = False
        self.custody: Custody = Custody(self.executor)

    # -- its tasks ---------------------------------------------------------------------------------------------------

    def post(self, job: Job[Any]) -> None:
        """Give the job a place on the start board."""
        if self._board is not None:
            job.course.take_slot(self._board)

    def submit(self, call: Callable[..., bytes], *args: object) -> Future[bytes]:
        """Hand a call to the executor, which may start a worker for it."""
        workers = len(self._context.processes)
        inner = self.executor.submit(call, *args)
        if len(self._context.processes) != workers:
            # The executor's own thread was woken for the call before the worker was there to be watched. If that dies
            # at its start, nothing else may wake it.
            bell = self.executor._executor_manager_thread_wakeup
            with self.executor._shutdown_lock:
                bell.wakeup()
        return inner

    def withdraw(self, job: Job[Any]) -> bool | None:
        """Take the job off the board; return whether its call had begun, or None if that can't be known."""
        if not job.course.is_on(self._board):
            return None
        began = job.course.give_slot_back()
        self._proved = self._proved or began
        return began

    def proved(self, jobs: Iterable[Job[Any]]) -> bool:
        """Whether any task ever began in this crew, those included."""
        return self._proved or any(job.course.is_on(self._board) and job.running_since() is not None for job in jobs)

    def call_off(self) -> None:
        """Let no worker begin what it has been sent in advance."""
        if self._board is not None:
            self._board.call_off()

    # -- its workers -------------------------------------------------------------------------------------------------

    def is_up(self) -> bool:
        """Whether a worker has come through its start."""
        return self._proved or any(report.event == "ready" for report in self._heard())

    def failure(self) -> tuple[str, BaseException] | None:
        """Return what kept the last worker that reported it from starting, and the error of that."""
        for report in reversed(self._heard()):
            if report.event == "failed":
                what, packed = report.facts
                return what, unpack_error(PackedError(*packed))
        return None

    def began_its_initializer(self) -> bool:
        """Whether a worker got as far as that."""
        return any(report.event == "started" for report in self._heard())

    def left(self) -> list[str]:
        """Say which workers have not ended, and what a task has left in them."""
        heard = self._heard()
        return [_described(process, heard) for process in self._alive()] or ["the start of a worker process"]

    def _heard(self) -> list[Report]:
        return [] if self._reports is None else self._reports.read()

    def _alive(self) -> list[BaseProcess]:
        # By the sentinel: is_alive() reads the exit code away from the executor's own thread, which waits for it.
        return [each for each in list(self._context.processes) if each.pid is not None and not wait([each.sentinel], 0)]

    # -- its end -----------------------------------------------------------------------------------------------------

    def dismiss(self, *, kill: bool) -> None:
        """Shut the executor down without waiting; kill its processes if one of them would never end by itself."""
        if self._manager is None:  # the executor forgets it when it is shut down
            self._manager = getattr(self.executor, "_executor_manager_thread", None)
        self._patience = Deadline(self._plan.grace)
        if kill:
            self._kill()
            if not any(process.pid for process in self._context.processes):
                _give_up(self.executor)
        end(self.executor, kill=False)

    def see_out(self) -> None:
        """Wait for the dismissed crew's end, at most for its grace; log who is left then, and kill them."""
        if not self._join(self._patience):
            # First, as the program may be waiting for them to end.
            name, grace = self._plan.name, self._plan.grace
            log(WARNING, f"{name!r} kills {'; '.join(self.left())}: not over after its grace, {grace} s")
            self.force()
            self._join(Deadline(_DYING))
        if self._server is not None:
            self._server.stop()
        self._context.processes.clear()

    def gone(self) -> bool:
        """Whether the dismissed executor's processes have ended."""
        return self._join(Deadline(0))

    def _join(self, deadline: Deadline) -> bool:
        if self._manager is None:
            return True
        self._manager.join(deadline.remaining())
        return not self._manager.is_alive()

    def force(self) -> None:
        """Kill its processes and its server, whatever they are at."""
        self.call_off()
        self._kill()
        if self._server is not None:
            self._server.stop()  # a submission that waits for it fails

    def _kill(self) -> None:
        for process in self._alive():
            with suppress(OSError, ValueError):  # it ended by itself
                process.kill()

    def forget(self) -> None:
        """In a forked child: none of this is the child's to wait for or to end."""
        if self._server is not None:
            self._server.forget()
        from multiprocessing import process

        children: set[BaseProcess] = getattr(process, "_children", set())
        children.difference_update(self._context.processes)


_DYING = 5.0  # seconds that processes which were killed have to end


def _give_up(executor: ProcessPoolExecutor) -> None:
    # No worker could be started, and the executor's thread would wait for its first call. A call that can be cancelled
    # has not been looked at: that thread drops it when it looks. It never looks again at one that it has sent.
    for number, item in list(executor._pending_work_items.items()):
        if not item.future.cancel():
            executor._pending_work_items.pop(number, None)


def _make_reports() -> Reports | None:
    with suppress(OSError, ImportError):  # no room; or Windows
        return Reports()
    return None


def _described(process: BaseProcess, heard: list[Report]) -> str:
    for report in heard:
        if report.pid == process.pid and report.event == "left":
            return f"worker process {process.pid}, in which a task has left {', '.join(report.facts)}"
    events = {report.event for report in heard if report.pid == process.pid}
    if "started" in events and "ready" not in events:
        return f"worker process {process.pid}, whose initializer has not returned"
    return f"worker process {process.pid}"


def _make_context(around: Surroundings) -> tuple[WorkerContext | SpawnedContext, OwnForkServer | None]:
    if not has_fork_server():
        return SpawnedContext(), None
    from .fork_server import OwnForkServer, WorkerContext

    server = OwnForkServer(around)
    return WorkerContext(server), server


def has_fork_server() -> bool:
    """Whether workers come from a fork server."""
    import multiprocessing

    # The guard of a frozen program knows no other command lines than the standard ones.
    return "forkserver" in multiprocessing.get_all_start_methods() and not getattr(sys, "frozen", False)


class SpawnedContext(SpawnContext):
    """The context by which an executor makes workers where there is no fork server.

    Attributes:
        processes: All that it has made.
    """

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []

    def Process(self, target: Callable[..., object], args: tuple[object, ...]) -> SpawnProcess:  # type: ignore[override]  # noqa: N802  an executor calls it so
        """Make a worker."""
        process = SpawnProcess(target=work, args=(target, *args))
        self.processes.append(process)
        return process


# Each `submit` wakes the executor's own thread through a pipe, busy or not, and before each look at its work that
# thread asks the pipe whether there is more in it, with a new selector each time. Together they are a fifth of what a
# small task costs. Nothing is lost by ringing once: work is put down before the bell, and looked for after `clear`.
#
# The reader must be drained before the flag falls. A bell that rings in between finds the flag up, and its work is
# seen by the look that follows; one that has put the flag up and not written yet is heard a round later.


class _Doorbell(_ThreadWakeup):
    _rung = False

    def wakeup(self) -> None:
        if not self._rung:
            self._rung = True
            super().wakeup()

    def clear(self) -> None:
        try:
            os.read(self._reader.fileno(), 4096)
        except BlockingIOError:  # a result woke the thread
            pass
        self._rung = False


def ring_once(executor: ProcessPoolExecutor) -> None:
    """Spare the executor needless wakeups; to be called before its first task."""
    if os.name == "posix":
        bell = executor._executor_manager_thread_wakeup
        os.set_blocking(bell._reader.fileno(), False)
        bell.__class__ = _Doorbell


def _start_feeding(executor: ProcessPoolExecutor) -> None:
    # The queue to the processes starts a thread when something is put into it for the first time, which the executor's
    # own thread does. If the system has no more threads that one dies (before 3.12.1), and every task waits forever.
    # Here the error is one of the task that was to be handed over.
    queue: Any = executor._call_queue  # type: ignore[attr-defined]  # typeshed lacks it
    with queue._notempty:
        if queue._thread is None:
            queue._start_thread()
