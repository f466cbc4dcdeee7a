"""`ProcessWorkers`: the pool's own threads, each with its own process that runs its calls."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor
from functools import partial
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import BaseContext, SpawnProcess
from multiprocessing.process import BaseProcess
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any, Final

from ..._core.clock import monotonic, sleep
from ..._core.deadline import Deadline
from ..._core.foreign import chain, type_name, words
from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock
from ..cpython.tracker_unblocks_signals_before_314 import signal_mask_kept
from ..job import Job
from ..travel.arrival import WORD_OF_THE_POOL, Luggage, work
from ..travel.envelope import portable, unpack
from ..travel.main_module import GUARD, check_frozen, check_guard, main_source
from ..travel.surroundings import Surroundings, keep_streams_apart
from .backend import BackendOptions, not_up
from .executable import check_executable, is_it_python
from .station import (
    DiedError,
    NoServerError,
    NotArrivedError,
    NotBegunError,
    NotStartedError,
    Station,
    not_started,
)
from .threads import ThreadWorkers

if TYPE_CHECKING:
    from .fork_server import OwnForkServer

# Each worker has one thread and one pipe, and a task passes through two threads. Rejected: several executors of the
# standard library with one worker each. They have two more threads and twice as many descriptors, a task passes through
# four threads, and half of the throughput is gone: docs/explanation/worker-processes.rst has the figures.
#
# While a thread works between two calls, its process is idle: no call is sent in advance. So a process that dies takes
# only one call with it, and a call that has not begun is still in the queue. With very small calls the processes are
# idle half of the time, and still faster than with an executor; with larger calls it does not matter.

_TRIES: Final = 2  # how often a process is started before all tasks that wait for one fail
_KILLING: Final = 2.0  # seconds that `kill` gives the threads to wait for the end of their processes, twice
_LOOK: Final = 0.02  # seconds between two looks of a thread that holds off


class ProcessWorkers(ThreadWorkers):
    """Daemon threads like those of `ThreadWorkers`, which run packed calls in their own processes.

    **Thread safety**: all methods may be called from any thread.
    """

    packs = True
    fate = "its process is killed"
    rest: float = 0.001

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        check_frozen(self._name)
        self._dumps = options.dumps
        self._dumps_blob = portable(options.dumps)
        self._flush = options.flush
        self._start_call = (options.initializer, options.initargs)
        self._context, self._method = _context_of(options.mp_context)
        self._most_calls = options.max_tasks_per_child
        self._around = Surroundings()
        self._main = main_source()
        self._starts = TimedLock(name=InnerName(f"{self._name} starts"))
        # Guarded by _starts:
        self._server: OwnForkServer | None = None
        # Written by each worker for itself:
        self._stations: dict[Thread, Station] = {}
        self._waiting: dict[Thread, Job[Any]] = {}  # the task that waits for the thread's process to start
        self._stopped = False
        self._killed = False

    def start(self, job: Job[Any]) -> None:
        """Queue the task, and start a worker for it if none is idle."""
        if not self._threads:
            check_guard(self._name)
            if self._method != "fork":
                check_executable(self._name)
        super().start(job)

    # -- in a worker -------------------------------------------------------------------------------------------------

    def _employ(self) -> BaseException | None:
        station = Station(self._name, self._start_process, self._most_calls, self._grace)
        me = current_thread()
        self._stations[me] = station
        try:
            if self._killed:
                station.condemn(_cancel)
            # Before the thread takes a task, so that a process that hangs at its start blocks no task that others could
            # run.
            broken = self._bring_up(station)
            if broken is None:
                self._serve(partial(self._run, station))
            return broken
        finally:
            try:
                station.see_out()
            finally:
                self._stations.pop(me, None)
                self._clear_if_over()

    def _bring_up(self, station: Station) -> BaseException | None:
        """Start a process for the next call if needed; return an error if no worker has one or is likely to get one."""
        try:
            self._come_up(station)
        except (DiedError, NotStartedError) as error:
            return self._broken_start(error)
        except BaseException as error:  # noqa: BLE001  no process can be started now; the thread must live
            return None if self._others_are_up() else error
        return None

    def _others_are_up(self) -> bool:
        return bool(self._stations.keys() - self._starting.keys() - {current_thread()})

    def _run(self, station: Station, job: Job[Any]) -> bool:
        """Run the job in the process and set its outcome; return False if the job expired before that."""
        if job.done():
            return True
        me = current_thread()
        self._waiting[me] = job
        self._starting[me] = monotonic()
        try:
            self._come_up(station)
        except (DiedError, NotStartedError) as error:
            broken = self._broken_start(error)
            job.fail(broken)
            self._fail_queued(broken)
            return True
        except BaseException as error:  # noqa: BLE001  no process can be started now; the thread must live
            job.fail(error)
            return True
        finally:
            self._starting.pop(me, None)
            self._waiting.pop(me, None)
        if not job.begin(station):
            return True
        if job.limited:
            self.watch(job)
        try:
            outcome = self._outcome(station, job)
        except BaseException as error:  # noqa: BLE001  another process can't be started; the thread must live
            return job.fail(self._obituary(job, error) if isinstance(error, DiedError) else error)
        finally:
            job.process = None
        if outcome is None:
            return True
        job.arrive()  # unpickling it may run code of the program
        result, failure = unpack(outcome)
        del outcome
        try:
            return job.finish(result) if failure is None else job.fail(failure)
        finally:
            del failure, result, job  # the error's traceback may hold this frame: avoid a cycle
            if station.interrupted:
                station.interrupted = False
                self._hold_off()
            if station.is_down() and not self._stopped and not self._jobs.empty():
                self._bring_up(station)  # if that fails, the next task gets the error

    def _outcome(self, station: Station, job: Job[Any]) -> bytes | None:
        assert isinstance(job.carrier, bytes)
        for again in range(_TRIES, 0, -1):
            try:
                return station.run(job, job.carrier)
            except NotBegunError:
                if again == 1 or job.done():
                    raise
                self._come_up(station)  # the process was killed while it was idle
        return None

    def _come_up(self, station: Station) -> None:
        for again in range(_TRIES, 0, -1):
            try:
                station.come_up()
            except (DiedError, OSError, EOFError) as error:
                # If the server has died, it is replaced. Otherwise it stays, because other workers' processes belong to
                # it.
                server = self._server
                told = isinstance(error, DiedError) and station.end_is_known  # the server reported the end
                died = server is not None and not told and server.has_died()
                if died:
                    self._drop_server(server)
                if self._stopped:  # the pool itself may have killed the server
                    raise
                if again == 1:
                    if died and server is not None and not isinstance(error, DiedError):
                        raise NoServerError(f"the server that starts them {server.described_end()}") from error
                    raise
            else:
                return

    def _broken_start(self, error: DiedError | NotStartedError) -> BrokenExecutor:
        if isinstance(error, NotStartedError):
            what, cause = not_started(self._name, error)
            broken = _broken(what)
            chain(broken, cause)
            return broken
        if isinstance(error, NoServerError):
            return _broken(f"no worker process of {self._name!r} could start: {error}, twice. {is_it_python()}")
        why = "Were they killed, or does that end the process?"
        if isinstance(error, NotArrivedError) and not self._is_own_way() and self._method != "fork":
            why = (
                "multiprocessing imports the main module in them before all else, and what that raises is on stderr: "
                f"does it start work without its guard, {GUARD}, or come from standard input? {is_it_python()}"
            )
        return _broken(f"the worker processes of {self._name!r} died twice before a task could begin: {error}. {why}")

    def _obituary(self, job: Job[Any], died: DiedError) -> BrokenExecutor:
        return _broken(
            f"a worker process of {self._name!r} died while {job.label} ran: {died}. Other tasks go on, and a new "
            "process takes its place"
        )

    def _hold_off(self) -> None:
        """Begin no task for a moment after Ctrl-C: the pool may have got it too, and has to cancel the tasks."""
        until = monotonic() + WORD_OF_THE_POOL
        while monotonic() < until and self._open_tasks.phase == "open":
            sleep(_LOOK)

    # -- starting processes ------------------------------------------------------------------------------------------

    def _start_process(self) -> tuple[BaseProcess, Connection]:
        with self._starts, signal_mask_kept(), keep_streams_apart():
            ours, theirs = Pipe()
            try:
                return self._started(theirs), ours
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()

    def _is_own_way(self) -> bool:
        """Whether processes come from a fork server of the pool's own, and get the main module with their luggage."""
        return self._context is None and self._method == "forkserver"

    def _started(self, pipe: Connection) -> BaseProcess:
        own = self._is_own_way()
        luggage = Luggage(
            pipe,
            None if own or self._method == "fork" else self._around,
            None if self._method == "fork" else self._main,
            self._start_call,
            self._dumps,
            self._dumps_blob,
            self._flush,
        )
        process: Any
        if own:
            from .fork_server import OwnForkServer, WorkerOfServer

            if self._server is None:
                self._server = OwnForkServer(self._around)
            process = WorkerOfServer(target=work, args=(luggage,))
            process.server = self._server
        elif self._context is None:
            process = SpawnProcess(target=work, args=(luggage,))
        else:
            if self._method == "forkserver" and isinstance(self._context, BaseContext):
                from .fork_server import start_common_server

                start_common_server()
            process = self._context.Process(target=work, args=(luggage,))  # type: ignore[attr-defined]  # typeshed lacks it
        process.start()
        started: BaseProcess = process
        return started

    def _drop_server(self, server: OwnForkServer | None) -> None:
        with self._starts:
            if server is not None and server is self._server:
                self._server = None
                server.stop()

    def _clear_if_over(self) -> None:
        """Drop the resources that no worker needs any more."""
        if self._stopped and not self._stations:
            self._drop_server(self._server)
            self._around.forget()

    # -- killing -----------------------------------------------------------------------------------------------------

    def abandon(self, job: Job[Any]) -> None:
        """Kill the process of a task that is about to expire; count it as lost if that is not possible."""
        process = job.process
        if process is not None and not process.kill(job, _nothing) and job.process is not None and not job.done():
            super().abandon(job)

    def kill(self) -> None:
        """Cancel the running tasks, and kill all processes."""
        self._killed = True
        self.stop()
        for station in list(self._stations.values()):
            station.condemn(_cancel)
        if not self.finish(Deadline(_KILLING)):
            return
        # A start may hang in the server. The server has to report the end of all other processes, so it is stopped
        # last. It is not stopped under the mutex, which that start holds.
        server = self._server
        if server is not None:
            server.stop()
        self.finish(Deadline(_KILLING))

    def give_up_start(self, patience: float) -> float:
        """Fail the tasks that wait for workers if none has started in that time."""
        waiting = dict(self._waiting)
        again = super().give_up_start(patience)
        starting = dict(self._starting)
        for thread, job in waiting.items():
            since = starting.get(thread)
            if since is not None and monotonic() - since >= patience:
                job.fail(BrokenExecutor(not_up(self._name, monotonic() - since)))
                station = self._stations.get(thread)
                if station is not None:
                    station.condemn(_cancel)
        return again

    # -- the end -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let each worker end when it finds the queue empty, and its process with it."""
        self._stopped = True
        for station in list(self._stations.values()):
            if station.leaving is None:
                station.leaving = Deadline(self._grace)
        super().stop()

    def finish(self, deadline: Deadline) -> list[str]:
        """Wait for the workers, which end or kill their processes in time; return those that have not ended."""
        with self._mutex:
            threads = list(self._threads)
        for thread in threads:
            thread.join(deadline.remaining())
        late = [self._described(thread) for thread in threads if thread.is_alive()]
        if not late:
            self._clear_if_over()
        return late

    def _described(self, thread: Thread) -> str:
        station = self._stations.get(thread)
        return f"thread {thread.name!r}" if station is None else station.described()

    def after_fork(self) -> None:
        """In a forked child: drop the parent's resources."""
        self._around.forget()
        if self._server is not None:
            self._server.forget()
        from multiprocessing import process

        children: set[BaseProcess] = getattr(process, "_children", set())
        for station in self._stations.values():
            station.forget(children)


def _cancel(job: Job[Any]) -> None:
    job.cancel_running()


def _nothing() -> None:
    """Leave the outcome to the caller."""


def _broken(what: str) -> BrokenExecutor:
    try:
        from concurrent.futures.process import BrokenProcessPool  # late: it imports much
    except RuntimeError:  # the interpreter is ending, and the module can't register its exit handler any more
        return BrokenExecutor(what)
    return BrokenProcessPool(what)


def has_fork_server() -> bool:
    """Whether workers come from a fork server."""
    import multiprocessing

    # In a frozen program, freeze_support() recognizes only the standard command lines.
    return "forkserver" in multiprocessing.get_all_start_methods() and not getattr(sys, "frozen", False)


def _context_of(given: BaseContext | str | None) -> tuple[BaseContext | None, str]:
    """Return the context that starts processes, if it is not the pool's own way, and the start method."""
    if given is None:
        return None, "forkserver" if has_fork_server() else "spawn"
    import multiprocessing

    if isinstance(given, str):
        method = str.__str__(given)
        methods = multiprocessing.get_all_start_methods()
        if method not in methods:
            raise ValueError(
                f"mp_context must be None, a context, or one of {', '.join(map(repr, methods))}, not {words(given)}"
            )
        if method == "fork":
            return multiprocessing.get_context("fork"), "fork"
        return None, method
    if not callable(getattr(given, "Process", None)) or not callable(getattr(given, "get_start_method", None)):
        raise TypeError(
            f"mp_context must be None, a start method or a context of multiprocessing, not a {type_name(given)}"
        )
    return given, str(given.get_start_method())
