"""`Task`: the future that a pool returns; and `Job`: the pool's side of it, by which the pool drives it."""

from __future__ import annotations

import logging
import sys
from _thread import RLock
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from operator import attrgetter
from threading import Condition, get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from .._core.clock import monotonic
from .._core.deadline import Deadline, check_timeout
from .._core.gates import open_all, pass_through, put_up
from .._core.observing import Event, Observable
from .._core.waits import wait_visibly
from ..errors import DeadlockError, ForkedError, PoolTimeoutError
from .open_tasks import OpenTasks
from .own_threads import role_in
from .travel.start_board import StartBoard

if TYPE_CHECKING:
    from contextvars import Context

# Who settles a task? The first of result, timeout, cancel and abort to move the future out of its unfinished states,
# which Future's own condition arbitrates; losers get InvalidStateError and drop what they have. Whoever wins, the
# future's first done-callback puts the task into the dispatcher's inbox. Only the dispatcher takes tasks out of the
# open set, so a second notice of the same task does no harm, and a thread that was interrupted half-way may send one.
#
# A task is what its user holds: the outcome, and how far it has come. What the pool needs besides is in the job: what
# to call and whose the outcome is. A job refers to its task and never the other way round, and it is gone when the task
# has settled. So a task that is kept keeps neither callbacks nor the pool.
#
# `_state`, `_condition` and `_done_callbacks` are Future's private names, unchanged since 3.2. They are used here
# because the public `set_running_or_notify_cancel` logs and raises for a task that was cancelled and has said so.

T = TypeVar("T")
R = TypeVar("R")
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], "Context | None"]

_PENDING, _RUNNING, _FINISHED = "PENDING", "RUNNING", "FINISHED"
_CANCELLED, _NOTIFIED = "CANCELLED", "CANCELLED_AND_NOTIFIED"
_DONE = (_FINISHED, _NOTIFIED, _CANCELLED)
logger: logging.Logger = logging.getLogger("syncprims")
Open = OpenTasks["Task[Any]", "Job[Any]"]


class _CCondition(Condition):
    """A condition that no interrupt leaves locked: what ``with`` calls are the lock's own C functions.

    It finds them when they are called, where `threading.Condition` collects them all when it is made.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._waiters: deque[Any] = deque()

    if sys.version_info >= (3, 14):
        # What C returns to a `with` may be lost on 3.14 (gh-148874), and on 3.15 under a tracer. What Python returns is
        # not, and the outcome of an unpacking is stored before an interrupt can come.
        def __enter__(self) -> bool:
            taken = False
            try:
                (taken,) = map(self._lock.acquire, (True,))
                return taken
            except BaseException:
                if taken:
                    self._lock.release()
                raise

    else:
        __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))
    acquire = property(attrgetter("_lock.acquire"))
    release = property(attrgetter("_lock.release"))
    _release_save = property(attrgetter("_lock._release_save"))
    _acquire_restore = property(attrgetter("_lock._acquire_restore"))
    _is_owned = property(attrgetter("_lock._is_owned"))


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
    `result` in a forked child raises `ForkedError` instead of waiting for workers that are not there; and an error
    that nobody looks at is reported.

    **Subclassing**: tasks are made by the pool, which has no hook to make another kind. Override
    `CallbackPool._on_settled` to act on each task.
    """

    # Defaults on the class: a task stores only what differs, since pools make very many of them.

    # Written by its job, on the thread that hands the call over or runs it:
    _inner: Future[Any] | None = None  # the future of an executor that was given the call
    _board: StartBoard | None = None  # where a worker process writes that the call began
    _slot = 0
    _began: float | None = None

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
        self._condition = _CCondition()
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
            # `running` first: pebble's futures, unlike others, can be cancelled while they run, which kills the worker.
            if inner is not None and (inner.running() or not inner.cancel()) and not self.cancelled():
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
            ForkedError: It is not done, and this is a forked child.
        """
        if self._state == _FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]  # None where the call returned that
        self._check_fork()
        try:
            return self._wait(super().result, timeout)
        finally:
            if self._state == _FINISHED:
                self._look()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; in all else as `result`, which raises that instead."""
        self._check_fork()
        error = self._wait(super().exception, timeout)
        self._look()
        return error

    def _wait(self, wait: Callable[[float | None], R], timeout: float | None) -> R:
        started = monotonic()
        try:
            if self._state in _DONE:
                return wait(timeout)
            return wait_visibly(self._open_tasks, f"the result of {self._label}", timeout, wait, timeout)
        except CancelledError:
            if not self.cancelled():  # the call raised it
                raise
            raise self._cancelled_error() from None
        except TimeoutError:
            if self.done():  # the call raised it, or it was done in the very last moment
                return wait(0)
            waited = monotonic() - started
            raise PoolTimeoutError(
                f"waited {waited:.1f} s for the result of {self}; wait again, or cancel it",
                pending=1,
                timeout=timeout,
                waited=waited,
            ) from None

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
                itself.
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
            raise PoolTimeoutError(
                f"waited {deadline.waited():.1f} s for {self}, which is not settled: "
                + ("its callback has not ended" if self.done() else "it is not done"),
                pending=1,
                timeout=timeout,
                waited=deadline.waited(),
            )

    def _await_settled(self, deadline: Deadline) -> bool:
        gate = put_up(self.__dict__.setdefault("_gates", deque()))
        return (
            self._settled
            or wait_visibly(
                self._open_tasks, f"the callback of {self._label}", deadline.timeout, pass_through, gate, deadline
            )
            or self._settled
        )

    # -- multiprocessing's words -------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> T:
        """Return `result`, as `multiprocessing.pool.AsyncResult.get` does."""
        return self.result(check_timeout(timeout))

    def wait(self, timeout: float | None = None) -> None:
        """Block until the call is done or the time is up; raises nothing that the call raised."""
        check_timeout(timeout)
        self._check_fork()
        from contextlib import suppress

        with suppress(CancelledError, TimeoutError):
            self._wait(super().exception, timeout)

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
        return not self.cancelled() and super().exception() is None

    def __repr__(self) -> str:
        state = "settled" if self._settled else self._state.replace("_AND_NOTIFIED", "").lower()
        return f"<syncprims.Task {self._label} of {self._open_tasks.name!r}, {state}>"

    # -- what its job sees of it too ---------------------------------------------------------------------------------

    def _running_since(self) -> float | None:
        if self._began is None:
            if (board := self._board) is not None and board.reached is not False:
                self._began = board.read(self._slot)
            elif (inner := self._inner) is not None and inner.running():
                self._began = monotonic()
        return self._began

    def _look(self) -> None:
        self._seen = True
        if (unseen := self._unseen) is not None:
            unseen.error = None

    def _cancelled_error(self) -> CancelledError:
        return CancelledError(f"task {self._label} of {self._open_tasks.name!r} was cancelled")

    def _check_fork(self) -> None:
        if self._open_tasks.phase == "forked" and not self.done():
            raise ForkedError(
                f"{self} runs in the parent process; its result will not come to this forked child. "
                "Make a pool in the child"
            )


def _notify(task: Future[Any]) -> None:
    """Tell the waiters of a cancelled task, and hand every finished one to the dispatcher."""
    assert isinstance(task, Task)
    if task._state == _CANCELLED:
        task.set_running_or_notify_cancel()
    task._open_tasks.ended.put(task)


class Job(Generic[T]):
    """The pool's side of a task: what to call, who gets the outcome, and the moves by which the task goes on.

    **Thread safety**: a job belongs to one thread after the other: who submits it, who runs it, the dispatcher.
    `finish`, `fail` and `cancel` may be called by any of them at any time, and by the timer; the first one settles it.

    Attributes:
        task: The future that its user holds.
        label: What messages call it.
        timeout: How long the call may run.
        errors: Who hears of an error that was not looked at: its ``"holder"`` (`submit`), the ``"pool"``
            (`apply_async`), or no one, as another error stands for it.
    """

    # Defaults on the class, as for tasks.

    # Written by who submits it:
    errors: Literal["holder", "pool"] | None = "holder"
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

    def __init__(self, pool: object, open_tasks: Open, label: str, call: Call | bytes) -> None:
        self.pool = pool  # an open task keeps its pool alive
        self.label: str = label
        self.call: Call | bytes | None = call
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
        try:
            self.task.set_result(result)
        except InvalidStateError:
            return False
        return True

    def fail(self, error: BaseException) -> bool:
        """Set the error; False if it comes too late."""
        try:
            self.task.set_exception(error)
        except InvalidStateError:
            return False
        return True

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
            if task._inner is not None and task._inner.cancelled():
                self.cancel()  # which sends a notice of its own
            return False
        with task._condition:
            task._condition.notify_all()
        task._invoke_callbacks()  # type: ignore[attr-defined]  # private; none has run, as the first changes the state
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

    def settled(self) -> bool:
        """True once its callback has ended too."""
        return self.task._settled

    def await_settled(self, deadline: Deadline) -> bool:
        """Block until its callback has ended; False if the time is up."""
        return self.task._await_settled(deadline)

    def look(self) -> None:
        """Note that its outcome has reached somebody."""
        self.task._look()

    def report_if_dropped(self, error: BaseException) -> None:
        """Log the error if the task is dropped before anybody looks at it."""
        self.task._unseen = unseen = Unseen(self.label, self.task._open_tasks.name, error)
        if self.task._seen:  # while that was made
            unseen.error = None

    _observable: ClassVar[Observable] = Observable(
        {"__init__": Event("makes"), "begin": Event("begins"), "finish": Event("ends"), "fail": Event("ends")}
    )


def was_looked_at(task: Task[Any]) -> bool:
    """Whether anybody has looked at the outcome of the task."""
    return task._seen


class Unseen:
    """Reports an error of a task that was dropped before anybody looked at it: `Task` itself stays free of __del__."""

    def __init__(self, label: str, pool_name: str, error: BaseException) -> None:
        self.label = label
        self.pool_name = pool_name
        self.error: BaseException | None = error

    def __del__(self) -> None:
        if self.error is not None:
            logger.error(
                "task %s of %r failed and was dropped before anybody looked: %r",
                self.label,
                self.pool_name,
                self.error,
                exc_info=self.error,
            )
