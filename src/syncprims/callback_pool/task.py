"""`Task`: the future that a pool returns; and `Job`: the pool's side of it, by which the pool drives it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from logging import ERROR
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar
from weakref import ref

from .._core.clock import monotonic
from .._core.deadline import Deadline, check_timeout
from .._core.deadlocks import wait_or_refuse, why_in_vain
from .._core.foreign import guarded, is_interrupt, log, words
from .._core.gates import open_all, pass_in_time, pass_through, put_up
from .._core.lazy import check_runs
from .._core.observing import Event, Observable
from ..errors import DeadlockError, ForkedError, PoolTimeoutError
from .cpython.condition_left_locked import ConditionInC
from .open_tasks import OpenTasks
from .own_threads import in_hook, role_in
from .travel.start_board import StartBoard
from .up_to import TaskDone, TaskSettled

if TYPE_CHECKING:
    from contextvars import Context

# Who settles a task? The first of result, timeout, cancel and abort to move the future out of its unfinished states,
# which Future's own condition arbitrates; losers get InvalidStateError and drop what they have. Whoever wins, the
# dispatcher gets a notice: the job, from `Job.finish` and `Job.fail`, or the task, from its first done-callback. Only
# the dispatcher takes tasks out of the open set, so a second notice does no harm, and a thread that was interrupted
# half-way, or came too late, sends one.
#
# A task is what its user holds: the outcome, and how far it has come. What the pool needs besides is in the job: what
# to call and whose the outcome is. A job refers to its task and never the other way round, and it is gone when the task
# has settled. So a task that is kept keeps neither callbacks nor the pool.
#
# An error that no code looks at is the pool's if the task is dropped before the pool has closed. So when a failed task
# has settled nothing of the pool may refer to it, be it a frame of the worker that is about to return: therefore a job
# sends its notice last of all, as itself, and then parts from its task.
#
# `_state`, `_condition` and `_done_callbacks` are Future's private names, unchanged since 3.2. They are used here
# because the public `set_running_or_notify_cancel` logs and raises for a task that was cancelled and has said so.

T = TypeVar("T")

_PENDING, _RUNNING, _FINISHED = "PENDING", "RUNNING", "FINISHED"
_CANCELLED, _NOTIFIED = "CANCELLED", "CANCELLED_AND_NOTIFIED"
_DONE = (_FINISHED, _NOTIFIED, _CANCELLED)
_WAIT_ON = "; wait again, or cancel it"
_MOST_SHOWN, _SHOWN = 5, 60  # how many arguments a message shows, and how many characters of each
Open = OpenTasks["Task[Any]", "Job[Any]"]


class Task(Future[T]):
    """The promise of one call's result, made by `CallbackPool.submit` and `CallbackPool.apply_async`.

    Use it as any `concurrent.futures.Future`: with `concurrent.futures.wait` and ``as_completed``, with
    ``asyncio.wrap_future``, or simply ``await`` it. `settled` and `wait_settled` also tell about its callback.

    Example:
        >>> from syncprims import CallbackPool
        >>> with CallbackPool(max_workers=1) as pool:
        ...     task = pool.submit(pow, 2, 10)
        ...     task.result(timeout=5)
        1024

    **Fairness**: those who wait for one task are all released when it is done, in no promised order.

    **Thread safety**: every method may be called from any thread, and from signal handlers.

    **Differences from concurrent.futures.Future**: a cancelled task tells `concurrent.futures.wait` at once, not when
    a worker comes across it; `running` is true only once the call really began, where the executor lets us know;
    `result` in a forked child raises `ForkedError` instead of waiting for workers that are not there; an error of a
    task that was dropped before any code looked at it is raised when the pool closes; and whatever a function given to
    `add_done_callback` raises is logged, and keeps no other one from being called.

    **Subclassing**: tasks are made by the pool, which has no hook to make another kind. Override
    `CallbackPool._on_settled` to act on each task.
    """

    # Defaults on the class: a task stores only what differs, since pools make very many of them.

    # Written by its job, on the thread that hands the call over or runs it:
    _inner: Future[Any] | None = None  # the future of an executor that was given the call
    _board: StartBoard | None = None  # where a worker process writes that the call began
    _slot = 0
    _began: float | None = None
    _job_tells = False  # the dispatcher gets its notice from the job

    # Written by the dispatcher, through its job:
    _settled = False
    _unseen: Unseen | None = None

    # Written by those who look at the outcome:
    _seen = False

    # What Future's own constructor stores, which is not called: its threading.Condition costs more than all the rest.
    _state = _PENDING
    _result: T | None = None
    _exception: BaseException | None = None

    def __init__(self, open_tasks: Open, label: str) -> None:
        self._condition = ConditionInC()
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[T]], object]] = [_notify]
        self._open_tasks = open_tasks
        self._label = label

    # -- what concurrent.futures has ---------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; its ``error_callback`` gets a `concurrent.futures.CancelledError`.

        Returns:
            False if it runs or is done, True if it is cancelled (now or before).
        """
        try:
            inner = self._inner
            if inner is None and self.running():  # it began before the executor had returned its future
                return False
            # `running` first: pebble's futures, unlike others, can be cancelled while they run, which kills the worker.
            if inner is not None and (_says(inner.running) or not _says(inner.cancel)) and not self.cancelled():
                return False
            return super().cancel()
        except BaseException:
            # An interrupt may have come between the change of state and the notice of it. The first call in the
            # handler is a C function, so the notice itself can't be interrupted.
            self._open_tasks.ended.put(self)
            raise

    # One look at the state needs no lock, and what takes none can't leave one taken.

    def done(self) -> bool:
        """True once the call has ended or is cancelled."""
        return self._state in _DONE

    def cancelled(self) -> bool:
        """True once the call is cancelled."""
        return self._state in (_CANCELLED, _NOTIFIED)

    def running(self) -> bool:
        """True while the call runs, as far as the executor lets us know."""
        return not self.done() and (self._state == _RUNNING or self._running_since() is not None)

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised.

        Args:
            timeout: How long to wait for it, in seconds; None waits for ever.

        Raises:
            PoolTimeoutError: It is not done, and the time is up. Nothing has changed; wait again if you like.
            concurrent.futures.CancelledError: It was cancelled.
            TaskTimeoutError: It ran for longer than the ``timeout`` it was started with.
            DeadlockError: No timeout is given, and it would never come: the thread that runs the task waits for this
                one, or all workers that could run it do.
            ForkedError: It is not done, and this is a forked child.
        """
        return self._result_or_raise(timeout, PoolTimeoutError)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; otherwise like `result`, which raises that instead."""
        error = self._await_error(timeout, PoolTimeoutError)
        self._look()
        return error

    def _result_or_raise(self, timeout: float | None, late: Callable[..., PoolTimeoutError]) -> T:
        error = self._await_error(timeout, late)
        if error is None:
            return self._result  # type: ignore[return-value]  # None where the call returned that
        self._look()
        # Not by Future.result: some versions of that ask whether an exception is true before they raise it.
        try:
            raise error
        finally:
            del self, error  # the error's traceback holds this frame: no cycle through it

    def _await_error(self, timeout: float | None, late: Callable[..., PoolTimeoutError]) -> BaseException | None:
        """Wait until the call is done; return what it raised."""
        if self._state == _FINISHED:
            return self._exception
        self._check_fork()
        deadline = None if timeout is None else Deadline(timeout)
        awaited = TaskDone(self._open_tasks, self, self._label)
        # On a lock of its own, as everywhere in this library, which the condition lets through with its own waiters.
        gate = put_up(self._condition._waiters)  # type: ignore[attr-defined]  # see `ConditionInC`
        try:
            if self._state not in _DONE:
                wait_or_refuse(awaited, timeout, pass_in_time, gate, deadline)
        except TimeoutError:
            pass  # it may have come in the very last moment
        if self._state == _FINISHED:
            return self._exception
        if self.cancelled():
            raise self._cancelled_error()
        waited = 0.0 if deadline is None else deadline.waited()
        why = why_in_vain(awaited) if timeout else ""
        raise late(
            f"waited {waited:.1f} s for the result of {self}" + (f". {why}" if why else _WAIT_ON),
            pending=1,
            timeout=timeout,
            waited=waited,
        )

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have ``fn(task)`` called once the call is done, on the thread that settles it; at once if it is done.

        What it raises is logged. Better give `CallbackPool.apply_async` a callback: that runs on the dispatcher, so
        it holds up no worker, and what it raises is not lost.

        Raises:
            TypeError: ``fn`` can't be called, or is a coroutine function, of which nothing would run.
        """
        check_runs(fn, "fn")
        super().add_done_callback(fn)

    def _invoke_callbacks(self) -> None:
        # As Future's own, which lets the first SystemExit keep the others from being called, and logs in its own way.
        if self._job_tells and self._state == _FINISHED and len(self._done_callbacks) == 1:
            return  # the one is `_notify`, which would do nothing
        fatal: BaseException | None = None
        for callback in self._done_callbacks:
            try:
                callback(self)
            except Exception as error:  # noqa: BLE001  as the comment says
                log(ERROR, f"a function given to add_done_callback() of {self} raised", error)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                fatal = error
        if fatal is not None:
            try:
                raise fatal
            finally:
                del fatal

    def _get_snapshot(self) -> Any:  # 3.15's asyncio looks through this private door
        self._look()
        return super()._get_snapshot()  # type: ignore[misc]  # not in older typesheds, and not called there

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result in a coroutine; cancelling the coroutine cancels a task that has not begun."""
        import asyncio  # only those who await pay for it

        return asyncio.wrap_future(self).__await__()

    # -- the callback ------------------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """True once the call is done and its callback, if it has one, has returned or raised."""
        return self._settled

    def wait_settled(self, timeout: float | None = None) -> None:
        """Block until the call is done and its callback has ended.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            PoolTimeoutError: The time was up. Nothing has changed; wait again if you like.
            DeadlockError: A callback of the same pool called it: callbacks run one at a time, so it would wait for
                itself. Or no timeout is given, and the task or a callback waits for this thread.
            ForkedError: It is not settled, and this is a forked child.
        """
        deadline = Deadline(timeout)
        if self._settled:
            return
        self._open_tasks.check_fork()
        if role_in(self._open_tasks) == "callback":
            raise DeadlockError(
                f"wait_settled() of {self} was called by a callback of {self._open_tasks.name!r}, which runs callbacks "
                "one at a time: it would wait for itself. Wait for result(), or give the task a callback"
            )
        if not self._await_settled(deadline):
            why = why_in_vain(TaskSettled(self._open_tasks, self, self._label)) if timeout else ""
            state = "its callback has not ended" if self.done() else "it is not done"
            raise PoolTimeoutError(
                f"waited {deadline.waited():.1f} s for {self}, which is not settled: {state}. {why}".rstrip(". "),
                pending=1,
                timeout=timeout,
                waited=deadline.waited(),
            )

    def _await_settled(self, deadline: Deadline) -> bool:
        gate = put_up(self.__dict__.setdefault("_gates", deque()))
        if not self._settled:
            awaited = TaskSettled(self._open_tasks, self, self._label)
            wait_or_refuse(awaited, deadline.timeout, pass_through, gate, deadline)
        return self._settled

    # -- multiprocessing's words -------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> T:
        """Return `result`, as `multiprocessing.pool.AsyncResult.get` does.

        Raises:
            PoolTimeoutError: As for `result`, and it is a `multiprocessing.TimeoutError` too.
            ValueError: ``timeout`` is negative or NaN.
        """
        return self._result_or_raise(check_timeout(timeout), _get_timeout_error)

    def wait(self, timeout: float | None = None) -> None:
        """Block until the call is done or the time is up; raises nothing that the call raised."""
        check_timeout(timeout)
        self._check_fork()
        from contextlib import suppress

        with suppress(CancelledError, TimeoutError):
            self._await_error(timeout, PoolTimeoutError)

    def ready(self) -> bool:
        """True once the call is done: `done` in multiprocessing's word."""
        return self.done()

    def successful(self) -> bool:
        """Tell whether the call returned normally.

        Raises:
            ValueError: It is not done.
        """
        if not self.done():
            raise ValueError(f"{self} is not ready")
        return not self.cancelled() and self._exception is None

    def __repr__(self) -> str:
        state = "settled" if self._settled else self._state.replace("_AND_NOTIFIED", "").lower()
        return f"<syncprims.Task {self._label} of {self._open_tasks.name!r}, {state}>"

    # -- what its job sees of it too ---------------------------------------------------------------------------------

    def _running_since(self) -> float | None:
        if self._began is None:
            if (board := self._board) is not None and board.reached is not False:
                self._began = board.read(self._slot)
            elif (inner := self._inner) is not None and _says(inner.running):
                self._began = monotonic()
        return self._began

    def _look(self) -> None:
        if not in_hook(self._open_tasks):
            self._count_as_seen()

    def _count_as_seen(self) -> None:
        self._seen = True
        if (unseen := self._unseen) is not None:
            unseen.error = None

    def _stand_in(self) -> Task[T]:
        """Return a failed task that takes this one's place in a job."""
        assert self._exception is not None
        other: Task[T] = failed_task(self._open_tasks, self._label, self._exception)
        other._inner, other._board, other._slot, other._began = self._inner, self._board, self._slot, self._began
        self._inner = self._board = None
        return other

    def _cancelled_error(self) -> CancelledError:
        return CancelledError(f"task {self._label} of {self._open_tasks.name!r} was cancelled")

    def _check_fork(self) -> None:
        if self._open_tasks.phase == "forked" and not self.done():
            raise ForkedError(
                f"{self} runs in the parent process; its result will not come to this forked child. "
                "Make a pool in the child"
            )


def _get_timeout_error(message: str, **facts: Any) -> PoolTimeoutError:
    from .get_timeout import GetTimeoutError  # here, since it imports multiprocessing

    return GetTimeoutError(message, **facts)


def _says(ask: Callable[[], object]) -> bool:
    """Ask a future of somebody else's; False if it raises, or answers what is neither true nor false."""
    return guarded(False, lambda: bool(ask()))


def _notify(task: Future[Any]) -> None:
    """Tell the waiters of a cancelled task, and hand every finished one to the dispatcher."""
    assert isinstance(task, Task)
    if task._state == _CANCELLED:
        task.set_running_or_notify_cancel()
    if not task._job_tells:
        task._open_tasks.ended.put(task)


class Job(Generic[T]):
    """The pool's side of a task: what to call, who gets the outcome, and the moves by which the task goes on.

    **Thread safety**: a job belongs to one thread after the other: who submits it, who runs it, the dispatcher.
    `finish`, `fail` and `cancel` may be called by any of them at any time, and by the timer; the first one settles it.

    Attributes:
        task: The future that its user holds.
        label: What messages call it.
        timeout: How long the call may run.
        errors: Whose an error is that no code looked at: its ``"holder"``'s, as long as the task is held (`submit`),
            or the ``"pool"``'s from the start (`apply_async` and `map`).
        shown: The arguments that messages show; None for all of them.
    """

    # Defaults on the class, as for tasks.

    # Written by who submits it:
    errors: Literal["holder", "pool"] = "holder"
    shown: tuple[Any, ...] | None = None
    callback: Callable[[T], object] | None = None
    error_callback: Callable[[BaseException], object] | None = None
    context: Context | None = None  # the callbacks'; the call has its own
    timeout: float | None = None
    withdrawn = False

    # Written by the thread that runs it, if it is of this process: since when, and its ident.
    begun: tuple[float, int] | None = None

    # Written by process workers: whether it was handed over to a second executor.
    retried = False

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
        self.pool = pool  # an open task keeps its pool alive
        self.label: str = label
        self.call: Final = call
        self.carrier: Final = carrier  # the packed call; or the context in which it runs here, if it has its own
        self.task: Task[T] = Task(open_tasks, label)

    @property
    def pool_name(self) -> str:
        """The name of its pool."""
        return self.task._open_tasks.name

    # -- on its way --------------------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Mark the task as running; False if it was cancelled or withdrawn."""
        task = self.task
        self.begun = monotonic(), get_ident()  # before the state, by which others know that it is there
        with task._condition:
            if task._state != _PENDING:
                return False
            task._state = _RUNNING
            return True

    def began_now(self) -> None:
        """Note that the call begins, or as good as, elsewhere; `Task.running` and the timer go by that."""
        self.task._began = monotonic()

    def running(self) -> bool:
        """Whether the call runs, as far as that can be known."""
        return self.task.running()

    def running_since(self) -> float | None:
        """Return when the call began, by `time.monotonic`; None if it did not, or if that can't be known."""
        return self.task._running_since() if self.begun is None else self.begun[0]

    @property
    def worker(self) -> int | None:
        """The ident of the thread that runs it, or ran it; None for none of this process."""
        return None if self.begun is None else self.begun[1]

    @property
    def pid(self) -> int | None:
        """The id of the process that runs it, if it is another one and that is known."""
        board, slot = self.task._board, self.task._slot
        return None if board is None else board.pid(slot)

    def hand_to(self, inner: Future[Any]) -> None:
        """Note the future of the executor that was given the call: cancelling the task cancels it first."""
        self.task._inner = inner

    def hand_back(self, inner: Future[Any]) -> None:
        """Forget that future, unless another one has taken its place.

        Its callback holds the job: what refers to itself waits for the garbage collector, and a task that is kept must
        not keep that.
        """
        if self.task._inner is inner:
            self.task._inner = None

    # -- its place on a start board ----------------------------------------------------------------------------------

    @property
    def slot(self) -> int:
        """Where the worker writes that the call began; 0 is nowhere."""
        return self.task._slot

    def take_slot(self, board: StartBoard) -> None:
        """Take a place on the board, if it has one left."""
        self.task._slot = slot = board.take()
        self.task._board = board if slot else None

    def is_on(self, board: StartBoard | None) -> bool:
        """Whether it has a place there."""
        return board is not None and self.task._board is board

    def tells_its_start(self) -> bool:
        """Whether the worker writes down when the call begins, so that a look at it later is never too late."""
        board = self.task._board
        return board is not None and board.reached is not False

    def give_slot_back(self) -> bool:
        """Leave the board; return whether the call had begun. Without a board that can't be known, and is False."""
        task = self.task
        if (board := task._board) is None:
            return False
        task._began = board.read(task._slot)
        task._board = None
        board.give_back(task._slot)
        return task._began is not None

    # -- its outcome -------------------------------------------------------------------------------------------------

    def finish(self, result: T) -> bool:
        """Set the result; False if it comes too late."""
        task = self.task
        task._job_tells = True
        try:
            task.set_result(result)
        except InvalidStateError:
            return False
        except BaseException as error:  # noqa: BLE001  it decides
            self._survive(error)
        finally:
            task._open_tasks.ended.put(self)
        return True

    def fail(self, error: BaseException) -> bool:
        """Set the error; False if it comes too late."""
        self.task._job_tells = True
        try:
            self.task.set_exception(error)
        except InvalidStateError:
            return False
        except BaseException as failure:  # noqa: BLE001  it decides
            self._survive(failure)
        finally:
            self.task._open_tasks.ended.put(self)  # no variable of this frame refers to the task: see the head
        return True

    def _survive(self, error: BaseException) -> None:
        """Log what a function given to add_done_callback raised; raise an interrupt, and what came before the end."""
        self.task._job_tells = False
        if is_interrupt(error) or not self.done():
            raise error
        # The task is done all the same, and this is the thread of a worker or of the timer, which others need.
        log(ERROR, f"a function given to add_done_callback() of {self.task} raised", error)

    def cancel(self) -> bool:
        """Cancel the task itself, without asking the executor that was given the call."""
        return Future.cancel(self.task)

    def done(self) -> bool:
        """True once the task is done."""
        return self.task._state in _DONE

    def cancelled(self) -> bool:
        """True once the task is cancelled."""
        return self.task._state in (_CANCELLED, _NOTIFIED)

    def is_over(self) -> bool:
        """Complete what a thread that was interrupted while it cancelled the task left undone; True if it is done."""
        task = self.task
        if task._state in (_FINISHED, _NOTIFIED):
            return True
        if not task.done():
            if task._inner is not None and _says(task._inner.cancelled):
                self.cancel()  # which sends a notice of its own
            return False
        with task._condition:
            task._condition.notify_all()
        task._invoke_callbacks()  # none has run, as the first changes the state
        return True

    def outcome(self) -> tuple[Literal["done"], T] | tuple[Literal["failed", "cancelled"], BaseException]:
        """Return how a task that is over has ended, with its result or its error."""
        task = self.task
        if task._state == _NOTIFIED:
            return "cancelled", task._cancelled_error()
        if task._exception is not None:
            return "failed", task._exception
        return "done", task._result  # type: ignore[return-value]  # None where the call returned that

    # -- its end -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Note that its callback has ended, and let through who waits for that."""
        self.task._settled = True
        if (gates := self.task.__dict__.get("_gates")) is not None:
            open_all(gates)  # who puts one up now looks at `settled` once more

    def is_of(self, open_tasks: object) -> bool:
        """Whether it is a task of the pool with these open tasks."""
        return self.task._open_tasks is open_tasks

    def settled(self) -> bool:
        """True once its callback has ended too."""
        return self.task._settled

    def await_settled(self, deadline: Deadline) -> bool:
        """Block until its callback has ended; False if the time is up."""
        return self.task._await_settled(deadline)

    def call_as_text(self) -> str:
        """Return the call as messages show it, with its arguments cut short."""
        _, args, kwargs = self.call
        given = [words(value, _SHOWN) for value in (args if self.shown is None else self.shown)[:_MOST_SHOWN]]
        given += [f"{key}={words(value, _SHOWN)}" for key, value in list(kwargs.items())[:_MOST_SHOWN]]
        if len(args if self.shown is None else self.shown) > _MOST_SHOWN or len(kwargs) > _MOST_SHOWN:
            given.append("…")
        return f"{self.label}({', '.join(given)})"

    def report_if_dropped(self, error: BaseException, report: Callable[[str, BaseException], object]) -> None:
        """Have ``report(call, error)`` called if the task is dropped before any code looks at it."""
        self.task._unseen = unseen = _watch(self.task, self.call_as_text(), error, report)
        if self.task._seen:  # while that was made
            unseen.error = None

    def part(self) -> None:
        """Refer to the task no more if it matters when it is dropped."""
        if self.task._unseen is not None:
            self.task = self.task._stand_in()

    _observable: ClassVar[Observable] = Observable(
        {"__init__": Event("makes"), "begin": Event("begins"), "finish": Event("ends"), "fail": Event("ends")}
    )


def was_looked_at(task: Task[Any]) -> bool:
    """Whether any code has looked at the outcome of the task."""
    return task._seen


def count_as_seen(task: Task[Any]) -> None:
    """Count the outcome of the task as looked at, also if it has yet to come."""
    task._count_as_seen()


def failed_task(open_tasks: Open, label: str, error: BaseException) -> Task[Any]:
    """Return a task that has failed and settled: for who is told of one that was dropped."""
    task: Task[Any] = Task(open_tasks, label)
    task._state, task._exception, task._settled = _FINISHED, error, True
    return task


class Unseen(ref[Task[Any]]):
    """Reports an error of a task that was dropped before any code looked at it: `Task` itself stays free of __del__.

    `report` may be called on any thread and between any two instructions, like every finalizer. A weak reference, and
    no object with a __del__: without the GIL that would be called on the thread that made the object, whenever that
    thread has something to do.
    """

    __slots__ = ("call", "error", "report")

    call: str
    error: BaseException | None
    report: Callable[[str, BaseException], object]


_kept: dict[int, Unseen] = {}  # a weak reference that is garbage itself calls nothing back


def _watch(task: Task[Any], call: str, error: BaseException, report: Callable[[str, BaseException], object]) -> Unseen:
    unseen = Unseen(task, _dropped)
    unseen.call, unseen.error, unseen.report = call, error, report
    _kept[id(unseen)] = unseen
    return unseen


def _dropped(unseen: ref[Task[Any]]) -> None:
    assert isinstance(unseen, Unseen)
    _kept.pop(id(unseen), None)
    if unseen.error is not None:
        unseen.report(unseen.call, unseen.error)
