"""`CallbackPool` itself: its public methods and their guarantees."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Never, NoReturn, ParamSpec, Self, TypeVar
from weakref import ref

from .._core.deadline import Deadline, check_timeout
from .._core.foreign import words
from .._core.interrupts import Leave, LeaveInC, leave_by
from .._core.lazy import check_runs
from .._core.observing import Observable
from .._core.registry import check_name, default_name, new_serial, register
from .._core.state import State
from ..errors import SyncError
from ..facts import PoolStats
from .arguments import ShownArguments, check_optional_function, count, label_of, positional, refuse_unknown
from .at_exit import drain_at_exit, refuse_when_over
from .dispatcher import Dispatcher
from .ending import Ending
from .group import TaskGroup
from .intake import Intake
from .job import Open
from .lazy_results import LazyResults
from .mapping import MapAtOnce, MapOfChunks, call_with_all, call_with_each, chunk_for, chunks_of
from .open_tasks import OpenTasks
from .task import Task
from .timeouts import Timer
from .unseen_errors import OnError, UnseenErrors
from .workers.backend import BackendOptions
from .workers.choice import cpus, make_backend

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

P = ParamSpec("P")
T = TypeVar("T")


class CallbackPool(Executor):
    """A pool that makes calls in threads, processes or any executor, and runs a callback when each call is done.

    Use it instead of `multiprocessing.Pool.apply_async` or an executor's ``add_done_callback``: every callback runs
    exactly once, in order of completion, and no failure is lost or causes a hang.

    Args:
        executor: ``"thread"`` for daemon threads, ``"process"`` for processes (see ``mp_context``), ``"interpreter"``
            for daemon threads that each have their own interpreter (from Python 3.14), or any
            `concurrent.futures.Executor`, which the pool never shuts down.
        max_workers: The number of workers, if you don't pass an executor. None means the default of the standard
            executors.
        max_pending: While this many tasks are pending (their call or their callback has not ended), `submit` from
            outside the pool blocks. None means no limit.
        flush_output: Flush ``stdout`` and ``stderr`` so that lines appear in the order of events: in the worker after
            each task and before its callback, and in this process before each submission to another process or
            interpreter.
        copy_context: Run thread tasks, and the callbacks of all tasks, in copies of the submitter's `contextvars`
            context.
        dumps: Pickles calls and results for processes. None, the default, means `pickle.dumps`; ``cloudpickle.dumps``
            also pickles lambdas.
        on_callback_error: What to do with the exceptions of callbacks, and with the exceptions of tasks that no code
            looked at: ``"raise"`` them at `join` or `close`, ``"log"`` them, or call a function with the task and the
            error.
        on_progress: Called after each task, on the dispatcher thread, with the number of settled tasks and the number
            of submitted tasks. If this function reads the error of a task, that does not count as looking at it.
        initializer: Called in each worker at its start, with ``initargs``.
        initargs: See ``initializer``.
        mp_context: How the pool's processes start: ``"spawn"``, ``"forkserver"``, ``"fork"`` or a context of
            `multiprocessing`. None means the pool's own fork server, or ``spawn`` on systems without one. With
            ``"fork"``, a lock that another thread holds at the moment of the fork stays locked in the worker.
        max_tasks_per_child: A process is replaced by a new one after this many tasks; None means never.
        envelope: For an executor that you pass in: whether the pool pickles calls. None means yes, unless the executor
            is known to run threads.
        grace: How many seconds a worker has to end by itself after its tasks are done, at `close`, the end of ``with``,
            `shutdown` or the program's exit. Then its process is killed, or its thread is left behind, and a warning in
            the log names the reason: a thread or a child process that a task has left there. None means no limit.
            Programs that tasks have started, for example by `subprocess`, are not killed with a worker. At the
            program's exit, a worker that is still in its initializer has four times the ``grace``; then the tasks that
            wait for it fail. A `join` or `close` without a timeout logs a warning and goes on waiting.
        name: The pool's name in messages. The default is like ``CallbackPool-7``.

    Raises:
        ValueError: An unknown kind of executor, ``max_workers`` or ``max_pending`` below 1, or an argument that does
            not go with the executor.
        TypeError: A function can't be called or is a coroutine function, an executor has no ``submit``, or an argument
            is unknown.
        PoolClosedError: The program is ending, and no thread would run the callbacks of a new pool.

    Example:
        >>> from syncprims import CallbackPool
        >>> lengths = []
        >>> with CallbackPool(max_workers=2) as pool:
        ...     task = pool.apply_async(len, ("abc",), callback=lengths.append)
        ...
        >>> lengths
        [3]

    **Fairness**: tasks begin in the order of submission; callbacks run in the order of completion. Threads blocked by
    ``max_pending`` go on in no particular order. If you pass in a `concurrent.futures.ThreadPoolExecutor` that has
    other users, the pool runs short tasks for about a millisecond in one of the executor's threads and then lets other
    calls run; each longer task waits in the executor's queue like any other call.

    **Thread safety**: every method may be called from any thread. `join`, `close` and ``shutdown(wait=True)`` raise
    `DeadlockError` in a callback or a task of the pool itself.

    **Differences from concurrent.futures and multiprocessing.Pool**: callbacks run on one thread of the pool, not on
    the submitter's or a worker's. An exception in the ``with`` block cancels the queued tasks. `join`, `close` or the
    end of the ``with`` block raises the exceptions of callbacks. When the pool closes, it also raises the exceptions of
    its tasks that no code looked at. Each of these counts as looking at an exception: an ``error_callback``,
    `Task.result` or `Task.exception` (except in a hook), and awaiting the task.

    A task's ``timeout`` counts from its start, in the pool's own workers and in process executors of this machine
    (standard, loky). In other executors it counts from when ``running()`` is first true. Dask's futures never report
    that they run, so there it counts from the submission. If a task in a thread or interpreter does not end in time,
    another worker takes its place, and nothing waits for it, not even the program's exit. A process of the pool's own,
    or of pebble, is killed at once.

    **Subclassing**: override `_on_settled`. You may override public methods too. ``with`` calls ``close`` and
    ``abort``, ``terminate`` calls ``abort``, and `submit`, `apply_async` and `map` don't call each other.
    """

    __signature__: ClassVar[ShownArguments] = ShownArguments()

    def __init__(
        self,
        executor: Executor | Literal["thread", "process", "interpreter"] = "thread",
        *,
        max_workers: int | None = None,
        max_pending: int | None = None,
        flush_output: bool = True,
        copy_context: bool = True,
        dumps: Callable[[Any], bytes] | None = None,
        on_callback_error: OnError = "raise",
        on_progress: Callable[[int, int], None] | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        mp_context: BaseContext | Literal["spawn", "forkserver", "fork"] | None = None,
        max_tasks_per_child: int | None = None,
        envelope: bool | None = None,
        grace: float | None = 5.0,
        name: str | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown)
        max_workers, max_pending = count("max_workers", max_workers), count("max_pending", max_pending)
        dumps = pickle.dumps if dumps is None else dumps
        check_runs(dumps, "dumps")
        check_optional_function("on_progress", on_progress)
        check_optional_function("initializer", initializer)
        check_runs(self._on_settled, "_on_settled")
        if not isinstance(on_callback_error, str):
            check_runs(on_callback_error, "on_callback_error, unless it is 'raise' or 'log',")
        elif str.__str__(on_callback_error) not in ("raise", "log"):
            raise ValueError(f"on_callback_error must be 'raise', 'log' or a function, not {words(on_callback_error)}")
        grace = check_timeout(grace)
        name = check_name(name)
        serial = new_serial()
        self.name: str = default_name(self, serial) if name is None else name
        refuse_when_over(self.name)
        # All parts of the pool are built on the open tasks, and none refers to the pool. So a pool that is dropped goes
        # away at once, and its threads end.
        self._open_tasks: Open = OpenTasks(type(self).__name__, self.name, max_pending)
        self._timer = Timer(f"{self.name}-timer")
        self._unseen = UnseenErrors(self._open_tasks, on_callback_error)
        self._backend = make_backend(
            executor,
            envelope,
            BackendOptions(
                self._open_tasks,
                self._timer,
                max_workers or 0,
                initializer,
                positional("initargs", initargs),
                dumps,
                flush_output,
                grace,
                mp_context,
                count("max_tasks_per_child", max_tasks_per_child),
            ),
        )
        if self._backend.max_workers is not None:
            self._max_workers = self._backend.max_workers  # the standard executors have it too, and Dask reads it
        self._dispatcher = Dispatcher(
            self._open_tasks,
            self._backend,
            self._timer,
            self._unseen,
            self._hook(),
            on_progress,
        )
        self._open_tasks.staff.hire(self._backend, self._dispatcher)
        self._intake = Intake(
            self._open_tasks, self._backend, self._dispatcher, self._timer, dumps, flush_output, copy_context
        )
        self._grace = grace
        self._ending = Ending(self._open_tasks, self._backend, self._dispatcher, self._timer, self._unseen, grace)
        register(self, serial)
        drain_at_exit(self._ending)

    # -- submitting --------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start ``fn(*args, **kwargs)`` and return its task, which belongs to the caller like any executor's future.

        It blocks while ``max_pending`` tasks are pending, unless a callback or a task of this pool calls it. As long as
        you keep the task, you have to handle its exception. If you drop the task before any code has looked at its
        exception, the pool raises it when it closes, or logs it if it has closed already.

        Raises:
            PoolClosedError: The pool accepts no more tasks.
            DeadlockError: With ``max_pending``: there would never be room, because the tasks wait for this thread.
            TransportError: The executor needs pickled calls, and this call can't be pickled.
            ForkedError: This is a forked child of the process that made the pool.
            TypeError: ``fn`` can't be called, or is a coroutine function: a call would run none of its code.
        """
        intake = self._intake
        return intake.start(intake.make(self, None, fn, args, kwargs))

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> Task[T]:
        """Start ``func(*args, **kwds)``; its callback gets the result, or its error callback the exception.

        It blocks like `submit`. If no code looked at the task's exception, the pool raises it when it closes.

        Args:
            func: The function to call.
            args: Its positional arguments.
            kwds: Its keyword arguments.
            callback: Called with the result, on the pool's dispatcher thread.
            error_callback: Called instead with an exception if the call raised it, took too long (`TaskTimeoutError`),
                lost its worker, or was cancelled (`concurrent.futures.CancelledError`).
            timeout: How many seconds the call may run; None means no limit. `CallbackPool` describes when the time
                starts, and what happens to the worker.

        Raises:
            ValueError: ``timeout`` is negative or NaN.
            TypeError: A function can't be called, or is a coroutine function; or ``args`` is not an iterable, or is a
                string (write a single argument as a tuple); or ``kwds`` is not a mapping.
            PoolClosedError: See `submit`, also for `TransportError` and `ForkedError`.
        """
        intake = self._intake
        return intake.start(intake.prepare(self, func, args, kwds, callback, error_callback, timeout))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator over the results of calling ``fn`` with each item, in the order of the items.

        The call submits everything. With ``buffersize`` (by default ``max_pending``), it submits this many chunks, and
        then one more for each chunk that you have taken. Taking a result blocks until it is there.

        When the pool closes, it raises the exceptions of the calls that no code looked at. If you never read the
        results, it raises all of them; after a ``break``, it raises those of the results that you did not read. Once
        you have got one exception, the others count as seen.

        Args:
            fn: Called with one item of each iterable, up to the end of the shortest.
            *iterables: The items.
            timeout: Seconds from this call until the last result must be there; None waits forever.
            chunksize: How many items make one task. For quick calls, large chunks are much faster, even in threads.
            buffersize: How many chunks to submit ahead.

        Raises:
            PoolTimeoutError: While iterating: the time was up. Tasks that have not begun are cancelled.
            ValueError: ``chunksize`` or ``buffersize`` is below 1, or ``timeout`` is negative or NaN.
            PoolClosedError: See `submit`, also for `TransportError` and `ForkedError`.
        """
        return self._map(fn, iterables, timeout, chunksize).start(buffersize, in_order=True)

    def map_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator like `map`, over the results in the order in which their chunks are done."""
        return self._map(fn, iterables, timeout, chunksize).start(buffersize, in_order=False)

    def group(self, timeout: float | None = None) -> TaskGroup:
        """Return a group of tasks for a ``with`` block: none outlives the block, and they fail together.

        `TaskGroup` describes it, with an example.

        Args:
            timeout: How many seconds the tasks may take, counted from entering the block. If some have not ended by
                then, the group fails with a `PoolTimeoutError`. None means no limit.

        Raises:
            ValueError: ``timeout`` is negative or NaN.
        """
        return TaskGroup(self._open_tasks, self._timer, self._backend, self._intake, self, timeout, self._grace)

    def _map(
        self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...], timeout: float | None, chunksize: int
    ) -> MapOfChunks[T]:
        return MapOfChunks(self._open_tasks, self._submit_chunk, fn, iterables, timeout, chunksize)

    def _submit_chunk(self, label: str, fn: Callable[..., T], args: tuple[Any, ...], shown: tuple[Any, ...]) -> Task[T]:
        return self._intake.start(self._intake.part(self, label, fn, args, shown))

    # -- multiprocessing's names -------------------------------------------------------------------------------------

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> T:
        """Call ``func(*args, **kwds)`` in a worker, and return its result; blocks until the result is there.

        Raises:
            DeadlockError: The result would never come; see `Task.result`.
            PoolClosedError: See `apply_async`, also for `TypeError`, `TransportError` and `ForkedError`. If the call
                raises an exception, this method raises it too.
        """
        return self.apply_async(func, args, kwds).result()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Task[list[T]]:
        """Start ``func`` for each item, and return a task whose result is the list of all results, in order.

        All items are read and submitted at the call; with ``max_pending`` it blocks like `submit`. If calls raise, the
        task fails with the first exception, once all calls have ended.

        Args:
            func: The function to call.
            iterable: The items.
            chunksize: How many items a worker gets at a time; None makes four chunks for each worker.
            callback: Called with the list of results, on the pool's dispatcher thread.
            error_callback: Called instead with the exception.

        Raises:
            ValueError: ``chunksize`` is below 1.
            PoolClosedError: See `apply_async`, also for `TypeError`, `TransportError` and `ForkedError`.
        """
        return self._map_at_once("map", call_with_each, func, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """Call ``func(*item)`` for each item, and return the list of results, in order; blocks until all are there.

        Raises:
            DeadlockError: The results would never come; see `Task.result`.
            ValueError: See `map_async`, also for the other errors. If a call raises an exception, this method raises it
                too.
        """
        return self.starmap_async(func, iterable, chunksize).result()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Task[list[T]]:
        """Do the same as `map_async`, but call ``func(*item)`` for each item."""
        return self._map_at_once("starmap", call_with_all, func, iterable, chunksize, callback, error_callback)

    def _map_at_once(
        self,
        word: str,
        call: Callable[..., list[T]],
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> Task[list[T]]:
        self._open_tasks.check_open()
        check_runs(func, "the function of a map", generators=True)
        size = count("chunksize", chunksize)
        items = tuple(iterable)
        chunks = chunks_of(items, size or chunk_for(len(items), self._width()))
        whole = self._intake.whole(self, f"{word} of {label_of(func)}", items, callback, error_callback)
        mapping = MapAtOnce(self._open_tasks, whole)
        return mapping.start(self._submit_chunk, self._intake.start_besides, call, func, chunks)

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> LazyResults[T]:
        """Return an iterator over the results of ``func`` for each item, in order. It reads items as you take results.

        Use it for slow, large or endless sources: see `LazyResults`. `map` submits everything at the call.

        Args:
            func: The function to call.
            iterable: The items; none is read before the first result is requested.
            chunksize: How many items make one task.

        Raises:
            ValueError: ``chunksize`` is below 1.
            TypeError: ``func`` can't be called, or ``iterable`` is not an iterable.
            PoolClosedError: See `submit`, also for `TransportError` and `ForkedError`. These may be raised while
                iterating, too.
        """
        return self._imap(func, iterable, chunksize, in_order=True)

    def imap_unordered(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> LazyResults[T]:
        """Return an iterator like `imap`, over the results in the order in which their tasks are done."""
        return self._imap(func, iterable, chunksize, in_order=False)

    def _imap(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int, *, in_order: bool
    ) -> LazyResults[T]:
        self._open_tasks.check_open()
        check_runs(func, "the function of imap", generators=True)
        size = count("chunksize", chunksize) or 1
        most = self._width() + 1
        if self._open_tasks.max_pending is not None:
            most = min(most, self._open_tasks.max_pending)
        label = f"imap of {label_of(func)}"
        return LazyResults(self._open_tasks, self._submit_chunk, func, label, iterable, size, most, in_order=in_order)

    def _width(self) -> int:
        """The number of workers; for an executor that does not report it, the number that is likely."""
        return self._backend.max_workers or cpus()

    # -- waiting and ending ------------------------------------------------------------------------------------------

    def join(self, timeout: float | None = None) -> None:
        """Block until nothing is pending: no task and no callback, including tasks that callbacks submit.

        The pool stays open. If other threads keep submitting, this waits for a moment when the pool is idle. An
        interrupt (Ctrl-C) while waiting aborts the pool.

        Args:
            timeout: Seconds; None waits forever.

        Raises:
            CallbackErrors: The exceptions of callbacks, and the exceptions of tasks that no code looked at.
            PoolTimeoutError: The time was up. Nothing has changed.
            DeadlockError: A callback or a task of the pool called it; or no timeout is given, and one of them waits for
                this thread, for example for a lock that this thread holds. Nothing has changed.
            ForkedError: As for `submit`.
        """
        deadline = Deadline(timeout)
        self._ending.refuse_inside("join")
        self._ending.await_idle(deadline)
        self._ending.collect_unseen(deadline, for_good=False).settle()

    def close(self, timeout: float | None = None) -> None:
        """Accept no more tasks from outside, wait like `join`, and let the workers end. It may be called again.

        Callbacks and tasks may go on submitting until nothing is pending. If they never stop, for example because a
        task submits itself again, this never returns. Then give it a timeout, or end it by `shutdown`, `abort` or
        `terminate` from another thread or a callback.

        Args:
            timeout: Seconds; None means no limit.

        Raises:
            CallbackErrors: As for `join`, which also lists `DeadlockError` and `ForkedError`.
            PoolTimeoutError: The time was up. The pool is closed; call this again to go on waiting. The message names
                the running tasks, or the worker that has not ended and the reason.
        """
        deadline = Deadline(timeout)
        self._ending.refuse_inside("close")
        self._open_tasks.close()
        self._ending.await_end(deadline)
        self._ending.collect_unseen(deadline, for_good=True).settle()

    def abort(self) -> list[Task[Any]]:
        """Cancel the queued tasks, call their callbacks, and let the workers end after their running tasks.

        It waits for the callbacks of the cancelled tasks, at most 2 seconds, and not at all in a callback. Running
        tasks go on, and their callbacks still run. The interpreter's exit does not wait for them.

        Returns:
            The tasks that are still running, and those that an executor you passed in has already fetched.

        Raises:
            ForkedError: As for `submit`.
        """
        return self._ending.abort()

    def terminate(self) -> list[Task[Any]]:
        """Call `abort`, and kill the pool's own processes: their tasks are cancelled, and no process is left.

        It waits for the callbacks of the cancelled tasks, at most a few seconds. A lock or a queue that a killed
        process was using may stay locked forever, and programs that it has started go on. Threads can't be killed, nor
        can an executor that you passed in.

        Returns:
            The tasks that are still running; none if it is a process pool.

        Raises:
            ForkedError: As for `submit`.
        """
        self.abort()
        return self._ending.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool as any executor does: accept no more tasks, not even from callbacks, and raise no errors.

        The errors that `close` would raise are logged. The pool ends as soon as all submitted tasks are done, even if a
        task tries to submit itself again.

        Args:
            wait: Block until everything is settled; False returns at once, and the pool ends by itself.
            cancel_futures: Cancel the tasks that have not begun; their error callbacks are called.

        Raises:
            DeadlockError: ``wait`` is true, and a callback or a task of the pool called it.
            ForkedError: As for `submit`.
        """
        self._open_tasks.check_fork()
        if wait:
            self._ending.refuse_inside("shutdown(wait=True)")
        self._open_tasks.shut()
        if cancel_futures:
            for task in list(self._open_tasks.jobs):
                task.cancel()
        self._dispatcher.stop_if_over()
        if wait:
            self._ending.await_end(Deadline(None))
            self._ending.collect_unseen(Deadline(None), for_good=True).settle_in_log()

    def __enter__(self) -> Self:
        """Return the pool.

        Raises:
            PoolClosedError: It was closed or aborted.
            ForkedError: As for `submit`.
        """
        self._open_tasks.check_open()
        return self

    @LeaveInC
    def __exit__(self) -> Leave:  # noqa: PYI036  a property whose value takes the arguments
        """Close the pool; if the block raises an exception, abort the pool, and note other errors on the exception."""
        return leave_by(self._leaving())

    def _leaving(self) -> Generator[int, Any, None]:
        try:
            yield 0
            yield 0
            error: BaseException | None = yield 0
            if error is None:
                self.close()
            else:
                self.abort()
                self._ending.collect_unseen(Deadline(0), for_good=False).settle_as_note(error)
        except (SyncError, GeneratorExit):  # the errors of close(); or the block was never entered
            raise
        except BaseException:  # an interrupt, at any point of leaving
            self.abort()
            raise
        while True:
            yield 0

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self.name!r} can't be pickled: its workers belong to this process. Make a pool over there")

    @property
    def stats(self) -> PoolStats:
        """The pool's current numbers. While tasks run, they may be from slightly different moments."""
        self._open_tasks.check_fork()
        # A task leaves the open ones a little after it has been settled, and by then the tally has counted it.
        tasks = [task for task in list(self._open_tasks.jobs) if not task.settled()]
        tally = dict(self._dispatcher.tally)
        return PoolStats(
            submitted=sum(tally.values()) + len(tasks),
            pending=len(tasks),
            running=sum(task.running() for task in tasks),
            abandoned=self._backend.abandoned(),
            callback_errors=self._unseen.callback_errors,
            **tally,
        )

    def _on_settled(self, task: Task[Any], /) -> None:
        """Do nothing. This hook for subclasses is called on the dispatcher thread after each task's callback.

        It should be short, because it holds up other callbacks. The pool keeps its exceptions like those of a callback,
        and `join` and `close` wait for it. If it reads the error of a task, that does not count as looking at it.
        """

    def __repr__(self) -> str:
        state = "closed" if self._open_tasks.phase == "retired" else self._open_tasks.phase
        return f"<{state} syncprims.{type(self).__name__} {self.name!r}, {len(self._open_tasks.jobs)} pending>"

    _observable: ClassVar[Observable] = Observable({})  # its waits, jobs and dispatcher declare the observable methods

    def _hook(self) -> Callable[[Task[Any]], None] | None:
        """Return a function that calls `_on_settled` if a subclass has one; it does not keep the pool alive."""
        if type(self)._on_settled is CallbackPool._on_settled:
            return None
        this = ref(self)

        def on_settled(task: Task[Any]) -> None:
            pool = this()
            if pool is not None:
                pool._on_settled(task)

        return on_settled

    @staticmethod
    def _after_fork(pools: Collection[CallbackPool]) -> None:
        for pool in pools:
            pool._ending.fork()

    def _state(self) -> State:
        return self._open_tasks.state(*self._dispatcher.running())

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Open tasks keep their pool alive, so none is pending. At the interpreter's end there is nothing to do, and the
        # names of modules may be gone.
        ending = getattr(self, "_ending", None)
        if ending is not None and not _finalizing():
            ending.forget()
