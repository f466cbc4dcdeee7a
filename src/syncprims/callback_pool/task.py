"""`Task`: the future that a pool returns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from itertools import filterfalse
from logging import ERROR
from operator import is_
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .._core import foreign
from .._core.deadline import Deadline
from .._core.deadlocks import wait_or_refuse, why_in_vain
from .._core.foreign import is_interrupt, log, set_traceback, traceback_of
from .._core.gates import pass_in_time
from .._core.lazy import check_runs
from ..errors import DeadlockError, ForkedError, PoolTimeoutError
from .course import Course, says
from .open_tasks import OpenTasks
from .own_threads import in_hook, role_in
from .up_to import TaskDone, TaskSettled

# A task is settled by the first of result, timeout, cancel and abort that moves the future out of its unfinished
# states. Future's own condition decides which is first; the others drop their outcome. In each case the dispatcher gets
# a notice: the job, from `Job.finish` and `Job.fail`, or the task, before its done-callbacks run. Only the dispatcher
# removes tasks from the open set, so a second notice does no harm. A thread that was interrupted half-way, or came too
# late, sends one.
#
# The end of a task is announced to three kinds of waiters: threads in `concurrent.futures.wait` and ``as_completed``
# (`_waiters`), threads in `result` (those of the condition), and functions of `add_done_callback`, by which groups,
# mappings and event loops wait. If the thread that announces it is interrupted, it says so in `broken_off`, and the
# dispatcher goes on from there: no waiter after that point is left behind, and none hears it twice. The function that
# was interrupted is not called again, because it may have done its work.
#
# `_state`, `_condition` and `_done_callbacks` are Future's private names, unchanged since 3.2. They are used here
# because the public `set_running_or_notify_cancel` logs and raises for a task whose cancellation was announced already.

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

T = TypeVar("T")

_PENDING, _RUNNING, _FINISHED = "PENDING", "RUNNING", "FINISHED"
_CANCELLED, _NOTIFIED = "CANCELLED", "CANCELLED_AND_NOTIFIED"
_DONE = (_FINISHED, _NOTIFIED, _CANCELLED)
_CALLBACK_PATIENCE = 0.5  # seconds that `get` and `wait` wait for the callback
_WAIT_ON = "; wait again, or cancel it"
Outcome = tuple[Literal["done"], T] | tuple[Literal["failed", "cancelled"], BaseException]


class Task(Future[T]):
    """The future of one call, made by `CallbackPool.submit` and `CallbackPool.apply_async`.

    Use it like any `concurrent.futures.Future`: with `concurrent.futures.wait` and ``as_completed``, with
    ``asyncio.wrap_future``, or simply ``await`` it. `settled` and `wait_settled` also cover its callback.

    Example:
        >>> from syncprims import CallbackPool
        >>> with CallbackPool(max_workers=1) as pool:
        ...     task = pool.submit(pow, 2, 10)
        ...     task.result(timeout=5)
        1024

    **Fairness**: all threads that wait for a task are released when it is done, in no particular order.

    **Thread safety**: every method may be called from any thread, and from signal handlers.

    **Differences from concurrent.futures.Future**: `concurrent.futures.wait` sees at once that a task is cancelled, not
    only when a worker gets to it. `running` is true only once the call has really begun, if the executor reports that.
    `result` in a forked child raises `ForkedError` instead of waiting for workers that are not there. If a task is
    dropped before any code looked at its error, the pool raises that error when the pool closes. If a function given to
    `add_done_callback` raises, the exception is logged, and the other functions are still called.

    **Subclassing**: the pool makes the tasks, and there is no hook to make it use a subclass. Override
    `CallbackPool._on_settled` to act on each task.
    """

    # The fields that Future's own constructor stores. It is not called, because its threading.Condition costs more than
    # the rest.
    _state = _PENDING
    _result: T | None = None
    _exception: BaseException | None = None
    _done_callbacks: Sequence[Callable[[Future[T]], object]] = ()  # a list once a callback is added

    # The waiters and the done-callbacks that have yet to hear of the end; made when it comes.
    _untold: list[Any] | None = None
    _uncalled: deque[Callable[[Future[T]], object]]

    # The first thread that raised the error, and the traceback that it had then; see `_for_this_thread`.
    _raised: tuple[int, TracebackType | None] | None = None

    def __init__(self, open_tasks: OpenTasks[Any, Any], label: str, course: Course) -> None:
        self._condition = self._course = course  # type: ignore[assignment]  # see `ConditionInC`
        self._waiters: list[Any] = []
        self._open_tasks = open_tasks
        self._label = label

    # -- what concurrent.futures has ---------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; its ``error_callback`` gets a `concurrent.futures.CancelledError`.

        Returns:
            False if it runs or is done, True if it is cancelled (now or before).
        """
        try:
            inner = self._course.inner
            if inner is None and self.running():  # the call began before the executor returned its future
                return False
            # `running` first: pebble's futures can be cancelled while they run, which kills the worker; others can't.
            if inner is not None and (says(inner.running) or not says(inner.cancel)) and not self.cancelled():
                return False
            return super().cancel()
        except BaseException:
            # An interrupt may have come between the change of state and its notice. The first call in the handler is a
            # C function, so the notice itself can't be interrupted.
            self._open_tasks.ended.put(self)
            raise

    def kill(self) -> bool:
        """End the call now: cancel it if it has not begun, or kill the process of the pool that runs it.

        This blocks until the process is dead, for a few milliseconds. Then the task is cancelled. Other tasks go on: a
        process that has already begun another task is not killed. A lock, queue or file that the call was using stays
        as the call left it.

        Returns:
            True if it is cancelled (now or before). False if it is done, or if it can't be killed, because it runs in a
            thread, an interpreter, or an executor that you passed in. Then nothing has changed.
        """
        return self.cancel() or self._open_tasks.kill(self) or self.cancelled()  # another thread may have killed it

    # A single read of the state needs no lock, and a method without a lock can't leave one locked.

    def done(self) -> bool:
        """True once the call has ended or is cancelled."""
        return self._state in _DONE

    def cancelled(self) -> bool:
        """True once the call is cancelled."""
        return self._state in (_CANCELLED, _NOTIFIED)

    def running(self) -> bool:
        """True while the call runs, if the executor reports that."""
        return not self.done() and (self._state == _RUNNING or self._course.running_since() is not None)

    def result(self, timeout: float | None = None) -> T:
        """Return the call's result, or raise its exception.

        Args:
            timeout: How long to wait, in seconds; None waits forever.

        Raises:
            PoolTimeoutError: The task is not done, and the time is up. Nothing has changed; you may wait again.
            concurrent.futures.CancelledError: It was cancelled.
            TaskTimeoutError: It ran for longer than the ``timeout`` with which it was started.
            DeadlockError: No timeout is given, and the result would never come: the thread that runs the task, or every
                worker that could run it, waits for this thread.
            ForkedError: It is not done, and this is a forked child.
            BaseException: The call raised it. On Python 3.13 without the GIL, the first thread that asks gets this
                exception, and each other thread a copy.
        """
        return self._result_or_raise(timeout, PoolTimeoutError)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the call's exception, or None; otherwise like `result`, which raises the exception."""
        error = self._await_error(timeout, PoolTimeoutError)
        self._look()
        return error

    def _result_or_raise(self, timeout: float | None, late: Callable[..., PoolTimeoutError]) -> T:
        error = self._await_error(timeout, late)
        if error is None:
            return self._result  # type: ignore[return-value]  # None if the call returned None
        self._look()
        # Not by Future.result: some versions test the truth of an exception before they raise it.
        try:
            raise error if foreign.SEVERAL_MAY_RAISE else self._for_this_thread(error)
        finally:
            del self, error  # the error's traceback refers to this frame: avoid a reference cycle

    def _for_this_thread(self, error: BaseException) -> BaseException:
        """Return the error itself to the first thread that raises it, and a copy to each other thread."""
        with self._condition:
            if self._raised is None:
                self._raised = (get_ident(), traceback_of(error))
            first, traceback = self._raised
        return error if get_ident() == first else set_traceback(foreign.own_copy(error), traceback)

    def _await_error(self, timeout: float | None, late: Callable[..., PoolTimeoutError]) -> BaseException | None:
        """Wait until the call is done; return its exception."""
        if self._state == _FINISHED:
            return self._exception
        self._check_fork()
        deadline = None if timeout is None else Deadline(timeout)
        awaited = TaskDone(self._open_tasks, self, self._label)
        # The thread waits on its own lock, as everywhere in this library. The condition releases these locks together
        # with its own waiters.
        gate = self._course.put_up()
        try:
            if self._state not in _DONE:
                wait_or_refuse(awaited, timeout, pass_in_time, gate, deadline)
        except TimeoutError:
            pass  # the outcome may have come at the last moment
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
        """Call ``fn(task)`` once the call is done, on the thread that settles it; at once if it is done.

        Its exceptions are logged. A callback of `CallbackPool.apply_async` is better: it runs on the dispatcher, so it
        holds up no worker, and its exceptions are not lost.

        Raises:
            TypeError: ``fn`` can't be called, or is a coroutine function: a call would run none of its code.
        """
        check_runs(fn, "fn")
        if getattr(fn, "__module__", None) == "asyncio.tasks":
            # `asyncio.wait` treats any future as if it belonged to its loop: the function must be called in the thread
            # of the loop.
            import asyncio

            fn = partial(_call_in, asyncio.get_running_loop(), fn)
        with self._condition:
            if not self._done_callbacks:
                self._done_callbacks = []
        super().add_done_callback(fn)

    def remove_done_callback(self, fn: Callable[[Future[T]], object]) -> int:
        """Remove a function that was passed to `add_done_callback`, as in `asyncio.Future`; `asyncio.wait` needs this.

        Returns:
            How many times it was there.
        """
        with self._condition:
            before = list(self._done_callbacks)
            self._done_callbacks = list(filterfalse(partial(_means, fn), before))
            return len(before) - len(self._done_callbacks)

    def _invoke_callbacks(self) -> None:
        """Announce the end: to waiters for a cancelled task, the dispatcher, and the callbacks.

        It replaces Future's own method, which differs in three ways: the first SystemExit keeps it from calling the
        other callbacks, it logs in its own way, and it leaves waiters for a cancelled task to the executor.
        """
        try:
            if self._state == _CANCELLED and not self._tell_of_cancellation():
                return  # another thread does all of this
            self._open_tasks.ended.put(self)
            self._call_back()
        except BaseException:
            # A store, and then a call of C: a second interrupt can't come before the notice.
            self._course.broken_off = True
            self._open_tasks.ended.put(self)
            raise

    def _call_back(self) -> None:
        """Call the functions that were passed to `add_done_callback`, or those that an interrupted thread left."""
        fatal: BaseException | None = None
        uncalled = self.__dict__.setdefault("_uncalled", deque(self._done_callbacks))
        try:
            for callback in iter(uncalled.popleft, None):  # an interrupt must not lose one: see `serve`
                try:
                    callback(self)
                except Exception as error:  # noqa: BLE001  as the comment says
                    log(ERROR, f"a function given to add_done_callback() of {self} raised", error)
                except BaseException as error:
                    if is_interrupt(error):
                        raise
                    fatal = error
        except IndexError:  # none is left
            pass
        if fatal is not None:
            try:
                raise fatal
            finally:
                del fatal

    def _tell_of_cancellation(self) -> bool:
        with self._condition:
            if self._state != _CANCELLED:
                return False
            self._untold = list(self._waiters)
            self._state = _NOTIFIED
            self._tell_waiters_locked()
            return True

    def _tell_waiters_locked(self) -> None:
        """Report the end to threads in `concurrent.futures.wait` and ``as_completed`` that have not heard of it."""
        while self._untold:
            waiter = self._untold[-1]
            if self._state == _NOTIFIED:
                waiter.add_cancelled(self)
            elif self._exception is None:
                waiter.add_result(self)
            else:
                waiter.add_exception(self)
            del self._untold[-1]  # no interrupt comes between the return of a Python function and this

    def _announce_rest(self) -> None:
        """Go on with an announcement that was broken off."""
        with self._condition:
            if self._untold:
                # The other thread was interrupted while it called this one, which may have heard of the end; or half,
                # and then its `threading.Event` may be left locked, so that no thread can help it without blocking.
                waiter = self._untold.pop()
                if not any(map(partial(is_, self), list(waiter.finished_futures))) and _is_usable(waiter):
                    self._untold.append(waiter)
            self._tell_waiters_locked()
            self._condition.notify_all()
        self._call_back()

    def _get_snapshot(self) -> Any:  # asyncio in 3.15 uses this private method
        self._look()
        return super()._get_snapshot()  # type: ignore[misc]  # older typesheds lack it, and it is not called there

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result in a coroutine; cancelling the coroutine ends the task like `kill`.

        So the task is cancelled if it has not begun, its process is killed if that is one of the pool's own, and it
        goes on if it runs in a thread.
        """
        import asyncio  # imported only if a task is awaited

        future = asyncio.wrap_future(self)
        future.add_done_callback(self._end_if_cancelled)
        return future.__await__()

    def _end_if_cancelled(self, awaiting: Any) -> None:
        if awaiting.cancelled():
            self.kill()

    # -- the callback ------------------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """True once the call is done and its callback, if it has one, has returned or raised."""
        return self._course.settled

    def wait_settled(self, timeout: float | None = None) -> None:
        """Block until the call is done and its callback has ended.

        Args:
            timeout: Seconds; None waits forever.

        Raises:
            PoolTimeoutError: The time was up. Nothing has changed; you may wait again.
            DeadlockError: A callback of the same pool called it: callbacks run one at a time, so it would wait for
                itself. Or no timeout is given, and the task or a callback waits for this thread.
            ForkedError: It is not settled, and this is a forked child.
        """
        deadline = Deadline(timeout)
        if self._course.settled:
            return
        self._open_tasks.check_fork()
        if role_in(self._open_tasks) == "callback":
            raise DeadlockError(
                f"wait_settled() of {self} was called by a callback of {self._open_tasks.name!r}, which runs callbacks "
                "one at a time: it would wait for itself. Wait for result(), or give the task a callback"
            )
        awaited = TaskSettled(self._open_tasks, self, self._label)
        if not self._course.await_settled(awaited, deadline):
            why = why_in_vain(awaited) if timeout else ""
            state = "its callback has not ended" if self.done() else "it is not done"
            raise PoolTimeoutError(
                f"waited {deadline.waited():.1f} s for {self}, which is not settled: {state}. {why}".rstrip(". "),
                pending=1,
                timeout=timeout,
                waited=deadline.waited(),
            )

    # -- multiprocessing's names -------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> T:
        """Return the result like `result`, but after the callback has run, like `multiprocessing.pool.AsyncResult.get`.

        It waits for the callback at most half a second, because the callback may need a lock that this thread holds. In
        another callback of the pool it does not wait for the callback at all.

        Raises:
            PoolTimeoutError: As for `result`; it is also a `multiprocessing.TimeoutError`.
            ValueError: ``timeout`` is negative or NaN.
        """
        deadline = Deadline(timeout)
        try:
            return self._result_or_raise(deadline.timeout, _get_timeout_error)
        finally:
            self._await_callback(deadline)
            del self

    def wait(self, timeout: float | None = None) -> None:
        """Block until the call is done and its callback has run, as in `get`, or the time is up.

        It does not raise the call's exception.
        """
        deadline = Deadline(timeout)
        self._check_fork()
        with suppress(CancelledError, TimeoutError):
            self._await_error(deadline.timeout, PoolTimeoutError)
        self._await_callback(deadline)

    def _await_callback(self, deadline: Deadline) -> None:
        """Wait for the callback of a call that is done."""
        if self._course.settled or not self.done() or not self._open_tasks.has_callback(self):
            return
        if role_in(self._open_tasks) != "callback":
            left = deadline.remaining()
            patience = _CALLBACK_PATIENCE if left is None else min(left, _CALLBACK_PATIENCE)
            self._course.await_settled(TaskSettled(self._open_tasks, self, self._label), Deadline(patience))

    def ready(self) -> bool:
        """True once the call is done: multiprocessing's name for `done`."""
        return self.done()

    def successful(self) -> bool:
        """Return whether the call returned normally.

        Raises:
            ValueError: It is not done.
        """
        if not self.done():
            raise ValueError(f"{self} is not ready")
        return not self.cancelled() and self._exception is None

    def __repr__(self) -> str:
        state = "settled" if self._course.settled else self._state.replace("_AND_NOTIFIED", "").lower()
        return f"<syncprims.Task {self._label} of {self._open_tasks.name!r}, {state}>"

    # -- internal ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if not in_hook(self._open_tasks):
            self._course.count_as_seen()

    def _cancelled_error(self) -> CancelledError:
        return CancelledError(f"task {self._label} of {self._open_tasks.name!r} was cancelled")

    def _check_fork(self) -> None:
        if not self.done() and self._open_tasks.is_forked():
            raise ForkedError(
                f"{self} runs in the parent process; its result will not come to this forked child. "
                "Make a pool in the child"
            )


def _is_usable(waiter: Any) -> bool:
    """False if an interrupt has left the lock of a waiter locked (gh-148874)."""
    lock = getattr(waiter, "lock", None)
    return lock is None or (lock.acquire(timeout=1.0) and lock.release() is None)


def _means(fn: object, callback: object) -> bool:
    """Whether a callback is this function, or calls it in its loop."""
    return callback is fn or (isinstance(callback, partial) and any(each is fn for each in callback.args))


def _call_in(loop: AbstractEventLoop, fn: Callable[[Future[T]], object], task: Future[T]) -> None:
    loop.call_soon_threadsafe(fn, task)


def _get_timeout_error(message: str, **facts: Any) -> PoolTimeoutError:
    from .get_timeout import GetTimeoutError  # here, because it imports multiprocessing

    return GetTimeoutError(message, **facts)


# -- for its job and the dispatcher ------------------------------------------------------------------------------------


def mark_running(task: Task[Any]) -> bool:
    """Mark the task as running; False if it was cancelled, or has failed already."""
    with task._condition:
        if task._state != _PENDING:
            return False
        task._state = _RUNNING
        return True


def complete(task: Task[T], result: T | None, error: BaseException | None) -> bool:
    """Set the outcome and announce it, but not to the dispatcher; False if the task is done."""
    course = task._course
    try:
        with course:
            if task._state in _DONE:
                return False
            if task._waiters:
                task._untold = list(task._waiters)  # before the state: `wait` adds itself to finished tasks too
            task._result, task._exception = result, error
            task._state = _FINISHED
            if task._waiters:
                task._tell_waiters_locked()
            course.notify_all()
        if task._done_callbacks:
            task._call_back()
    except BaseException:
        course.broken_off = True  # as in `_invoke_callbacks`
        task._open_tasks.ended.put(task)
        raise
    return True


def cancel_running(task: Task[Any]) -> bool:
    """Cancel the task even if it runs; False if it is done."""
    try:
        with task._condition:
            if task._state not in (_PENDING, _RUNNING):
                return False
            task._state = _CANCELLED
            task._condition.notify_all()
        task._invoke_callbacks()
    except BaseException:
        task._open_tasks.ended.put(task)  # as in `Task.cancel`
        raise
    return True


def is_over(task: Task[Any]) -> bool:
    """Complete the work of a thread that was interrupted while it ended the task; True if the task is done."""
    state = task._state
    if state in (_FINISHED, _NOTIFIED):
        if task._course.broken_off:
            task._announce_rest()
        return True
    if state == _CANCELLED:
        with task._condition:
            task._condition.notify_all()
        task._invoke_callbacks()  # no callback has run, because this changes the state first
        return True
    if (inner := task._course.inner) is not None and says(inner.cancelled):
        Future.cancel(task)  # this sends its own notice
    return False


def outcome_of(task: Task[T]) -> Outcome[T]:
    """Return how a finished task has ended, with its result or its error."""
    if task._state == _NOTIFIED:
        return "cancelled", task._cancelled_error()
    if task._exception is not None:
        return "failed", task._exception
    return "done", task._result  # type: ignore[return-value]  # None if the call returned None


def was_looked_at(task: Task[Any]) -> bool:
    """Whether any code has looked at the outcome of the task."""
    return task._course.seen


def count_as_seen(task: Task[Any]) -> None:
    """Count the outcome of the task as looked at, even if it has yet to come."""
    task._course.count_as_seen()


def failed_task(open_tasks: OpenTasks[Any, Any], label: str, error: BaseException) -> Task[Any]:
    """Return a failed and settled task, for the report of a dropped one."""
    course = Course()
    course.settled = True
    task: Task[Any] = Task(open_tasks, label, course)
    task._state, task._exception = _FINISHED, error
    return task


def stand_in_for(task: Task[T], course: Course) -> Task[T]:
    """Return a failed task that takes this one's place in a job."""
    other: Task[T] = Task(task._open_tasks, task._label, course)
    other._state, other._exception = _FINISHED, task._exception
    return other
