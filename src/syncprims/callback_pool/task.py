"""`Task`: the future that a pool returns, and the few moves by which the pool drives it."""

from __future__ import annotations

import logging
import sys
from _thread import RLock
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from operator import attrgetter
from threading import Condition
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.clock import monotonic
from .._core.deadline import Deadline, check_timeout
from .._core.gates import pass_through, put_up
from .._core.waits import wait_visibly
from ..errors import DeadlockError, ForkedError, PoolTimeoutError

if TYPE_CHECKING:
    from contextvars import Context

    from .engine import Engine
    from .travel.start_board import StartBoard

# Who settles a task? The first of result, timeout, cancel and abort to move the future out of its unfinished states,
# which Future's own condition arbitrates; losers get InvalidStateError and drop what they have. Whoever wins, the
# future's first done-callback puts the task into the pool's inbox. Only the dispatcher takes tasks out of the pool's
# open set, so a second notice of the same task does no harm, and anyone who was interrupted half-way may send one.
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
    _callback: Callable[[T], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    _context: Context | None = None  # the callbacks'; the call has its own
    _timeout: float | None = None
    _kept = False  # an error that nobody looks at belongs to the pool's group (apply_async), not to the task's holder
    _quiet = False  # nobody need hear of an unseen error: the one that map raises stands for the rest
    _settled = False
    _seen = False
    _retried = False
    _inner: Future[Any] | None = None
    _started: float | None = None
    _board: StartBoard | None = None
    _slot = 0
    _unseen: _Unseen | None = None
    _call: Call | bytes | None

    # What Future's own constructor stores, which is not called: its threading.Condition costs more than all the rest.
    _state = _PENDING
    _result: T | None = None
    _exception: BaseException | None = None

    def __init__(self, pool: Engine, label: str, call: Call | bytes) -> None:
        self._condition = _CCondition()
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[T]], object]] = [_notify]
        self._pool = pool
        self._label = label
        self._call = call

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
            self._pool._inbox.put(self)
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
            return wait_visibly(self._pool._intake, f"the result of {self._label}", timeout, wait, timeout)
        except CancelledError:
            if not self.cancelled():  # the call raised it
                raise
            raise CancelledError(f"task {self._label} of {self._pool.name!r} was cancelled") from None
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
        self._pool._intake.check_fork()
        if self._pool._on_dispatcher():
            raise DeadlockError(
                f"wait_settled() of {self} was called by a callback of {self._pool.name!r}, which runs callbacks one "
                "at a time: it would wait for itself. Wait for result(), or give the task a callback"
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
                self._pool._intake, f"the callback of {self._label}", deadline.timeout, pass_through, gate, deadline
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
        return f"<syncprims.Task {self._label} of {self._pool.name!r}, {state}>"

    # -- for the pool ------------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Mark the task as running; False if it was cancelled or withdrawn."""
        with self._condition:
            if self._state != _PENDING:
                return False
            self._state = _RUNNING
            return True

    def _finish(self, result: T) -> bool:
        """Set the result; False if it comes too late."""
        try:
            self.set_result(result)
        except InvalidStateError:
            return False
        return True

    def _fail(self, error: BaseException) -> bool:
        """Set the error; False if it comes too late."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return False
        return True

    def _running_since(self) -> float | None:
        """When the call began, by `time.monotonic`; None if it did not, or if nobody can tell."""
        if self._started is None:
            if (board := self._board) is not None:
                self._started = board.read(self._slot)
            elif (inner := self._inner) is not None and inner.running():
                self._started = monotonic()
        return self._started

    def _look(self) -> None:
        self._seen = True
        if (unseen := self._unseen) is not None:
            unseen.error = None

    def _check_fork(self) -> None:
        if self._pool._intake.phase == "forked" and not self.done():
            raise ForkedError(
                f"{self} runs in the parent process; its result will not come to this forked child. "
                "Make a pool in the child"
            )


class _Unseen:
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


def _notify(task: Future[Any]) -> None:
    """Tell the waiters of a cancelled task, and hand every finished one to the dispatcher."""
    assert isinstance(task, Task)
    if task._state == _CANCELLED:
        task.set_running_or_notify_cancel()
    task._pool._inbox.put(task)
