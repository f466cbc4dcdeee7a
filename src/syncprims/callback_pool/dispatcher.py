"""The dispatcher: the one thread of a pool that runs its callbacks, one at a time, in the order of completion."""

from __future__ import annotations

from _queue import SimpleQueue
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from .._core.clock import sleep
from .._core.gates import open_all
from .inside import Mark, enter
from .task import _CANCELLED, _FINISHED, _NOTIFIED, Task, _Unseen

if TYPE_CHECKING:
    from .engine import Engine

# The inbox holds tasks that are done (maybe the same one twice: see task.py), 1-tuples of tasks that were withdrawn
# because their submission failed, and None for the end. The dispatcher alone takes tasks out of the pool's open set,
# and does so *after* the callback: what a callback submits is in the set before its own task leaves it, so the set is
# empty only when nothing can follow.
#
# To wake a thread for each of many small tasks costs more than to settle them. So behind backends where it pays, and
# while many tasks are open, the dispatcher rests a moment when it has settled what there was. A callback is late by
# that at most; and no worker starves meanwhile, as so many tasks, even empty ones, take longer than that.

_MANY = 16
_ENDED = (_FINISHED, _NOTIFIED)
Notice = Task[Any] | tuple[Task[Any]] | None


def serve(inbox: SimpleQueue[Notice], mark: Mark, rest: float) -> None:
    """Settle what comes in until None does; while idle, hold no reference to the pool."""
    enter(mark)
    while (notice := inbox.get()) is not None:
        if isinstance(notice, tuple):
            _withdraw(notice[0])
        else:
            _settle(notice)
            if rest and inbox.empty() and len(notice._pool._intake.tasks) >= _MANY:
                sleep(rest)
        del notice


def _withdraw(task: Task[Any]) -> None:
    task._quiet = True
    task._pool._drop(task)
    Future.cancel(task)  # a worker that comes across it passes on


def _settle(task: Task[Any]) -> None:
    pool = task._pool
    if task not in pool._intake.tasks or not (task._state in _ENDED or _is_done(task)):
        return
    pool._settling = task
    try:
        outcome = _call_back(pool, task)
        pool._tally[outcome] += 1
        task._settled = True
        if (gates := task.__dict__.get("_gates")) is not None:
            open_all(gates)  # who puts one up now looks at `settled` once more
        if pool._hooked:
            _guard(pool, task, "_on_settled", pool._on_settled, task)
        if pool._on_progress is not None:
            settled = sum(pool._tally.values())
            _guard(pool, task, "on_progress", pool._on_progress, settled, settled + len(pool._intake.tasks) - 1)
    finally:
        pool._settling = None
        pool._drop(task)


def _is_done(task: Task[Any]) -> bool:
    """Complete what somebody who was interrupted while cancelling the task left undone; True if it is done."""
    if not task.done():
        inner = task._inner
        if inner is not None and inner.cancelled():
            Future.cancel(task)  # which sends a notice of its own
        return False
    if task._state == _CANCELLED:
        with task._condition:
            task._condition.notify_all()
        task._invoke_callbacks()  # type: ignore[attr-defined]  # private; none has run, as the first changes the state
    return True


def _call_back(pool: Engine, task: Task[Any]) -> str:
    """Run the task's callback, or see to it that its error is not lost; return how the task ended."""
    outcome: str
    error: BaseException
    if task._state == _NOTIFIED:
        outcome, error = "cancelled", CancelledError(f"task {task._label} of {task._pool.name!r} was cancelled")
    elif (failure := task._exception) is not None:
        outcome, error = "failed", failure
    else:
        if task._callback is not None:
            _tell(pool, task, "callback", task._callback, task._result)
        return "done"
    if task._error_callback is not None:
        task._look()
        _tell(pool, task, "error_callback", task._error_callback, error)
    elif outcome == "failed" and not task._seen and not task._quiet:
        if task._kept:
            pool._ledger.task_failed(task)
        else:
            _watch_unseen(pool, task, error)
    return outcome


def _tell(pool: Engine, task: Task[Any], which: str, callback: Callable[[Any], object], value: object) -> None:
    if task._context is None:
        _guard(pool, task, which, callback, value)
    else:
        _guard(pool, task, which, task._context.run, callback, value)


def _watch_unseen(pool: Engine, task: Task[Any], error: BaseException) -> None:
    task._unseen = unseen = _Unseen(task._label, pool.name, error)
    if task._seen:  # meanwhile
        unseen.error = None


def _guard(pool: Engine, task: Task[Any], which: str, call: Callable[..., object], *args: object) -> None:
    """Call user code; whatever it raises, SystemExit too, is kept and kills nothing."""
    try:
        call(*args)
    except BaseException as error:  # noqa: BLE001  see above
        pool._ledger.callback_failed(task, error, which)
