"""`Engine`: what stands behind a pool's methods: how tasks come in and go out, and how it all ends."""

from __future__ import annotations

import sys
from _queue import SimpleQueue
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from threading import current_thread
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.deadline import Deadline
from .._core.waits import wait_visibly
from ..errors import DeadlockError, PoolClosedError
from .dispatcher import Notice, serve
from .helper_thread import HelperThread
from .inside import is_inside
from .task import Task
from .timeouts import Timer
from .travel.envelope import flush_output, pack

if TYPE_CHECKING:
    from .open_tasks import Intake
    from .travel.envelope import Dumps
    from .unseen_errors import Ledger
    from .workers.backend import Backend

T = TypeVar("T")

ABORT_PATIENCE = 2.0  # seconds that `abort` gives the callbacks of what it cancelled
_EXIT_PATIENCE = 5.0  # seconds that the interpreter's exit gives workers that were told to end


class Engine(Executor):
    """The works of `CallbackPool`, which alone derives from it; tasks, dispatcher and timer know this part only.

    **Thread safety**: all methods may be called from any thread.
    """

    name: str
    _copy_context: bool
    _dumps: Dumps
    _flush_output: bool
    _hooked: bool
    _ledger: Ledger
    _on_progress: Callable[[int, int], None] | None
    _on_settled: Callable[[Task[Any]], None]

    def _set_up(self, intake: Intake, backend: Backend) -> None:
        self._backend = backend
        self._timer = Timer(f"{self.name}-timer")
        self._inbox: SimpleQueue[Notice] = SimpleQueue()
        self._dispatcher = HelperThread(f"{self.name}-dispatcher", serve, self._inbox, intake.mark, backend.rest)
        # Written by the dispatcher only:
        self._tally = {"done": 0, "failed": 0, "cancelled": 0}
        self._settling: Task[Any] | None = None
        self._intake = intake  # last, so that __del__ knows a pool that was never made

    # -- tasks come in and go out ------------------------------------------------------------------------------------

    def _submit_quietly(self, label: str, fn: Callable[..., T], *args: Any) -> Task[T]:
        task = self._make(fn, args, {}, label)
        task._quiet = True
        return self._start(task)

    def _make(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], label: str | None = None
    ) -> Task[T]:
        if self._intake.phase != "open":
            self._intake.check_open()
        if not callable(fn):
            raise TypeError(f"a task needs a function to call, not {type(fn).__name__}")
        if label is None:
            label = name_of(fn)
        if self._backend.packs:
            call = pack(self._dumps, fn, args, kwargs)
            if self._flush_output:
                flush_output()  # what was printed before the call was made comes before what the call prints
            return Task(self, label, call)
        return Task(self, label, (fn, args, kwargs, copy_context() if self._copy_context else None))

    def _start(self, task: Task[T]) -> Task[T]:
        if not self._dispatcher.started:
            self._dispatcher.ensure()
        if task._timeout is not None:
            self._timer.prepare()
        try:
            self._intake.take_in(task)
            self._backend.start(task)
        except BaseException:
            self._inbox.put((task,))  # C, and first: a second interrupt can't lose the task
            self._drop(task)
            raise
        return task

    def _drop(self, task: Task[Any]) -> None:
        if self._intake.drop(task):
            self._stop_threads()

    def _stop_threads(self) -> None:
        self._backend.stop()
        self._timer.stop()
        self._inbox.put(None)

    def _if_idle(self) -> None:
        if not self._intake.tasks:
            self._intake.went_idle()
            if self._intake.phase == "retired":  # also long since: an interrupt may have come in between
                self._stop_threads()

    # -- who may wait, and the end -----------------------------------------------------------------------------------

    def _refuse_inside(self, method: str) -> None:
        self._intake.check_fork()
        if is_inside(self._intake.mark):
            where = "callback" if self._on_dispatcher() else "task"
            raise DeadlockError(
                f"{method} of {self.name!r} was called by a {where} of the same pool, so it would wait for itself; "
                "call it outside"
            )

    def _on_dispatcher(self) -> bool:
        return self._dispatcher.thread is current_thread()

    def _must_drain(self) -> bool:
        return self._intake.phase in ("open", "closing") and bool(self._intake.tasks)

    def _drain(self) -> None:
        if self._must_drain():
            self._intake.await_idle(Deadline(None))

    def _finish(self, deadline: Deadline) -> None:
        wait_visibly(self._intake, "the end of its workers", deadline.timeout, self._backend.finish, deadline)

    def _end(self) -> None:
        """End with the interpreter: what an abort left running is told so, and nothing is waited for in vain."""
        if self._intake.phase == "forked":
            return
        self._intake.close()
        deadline = Deadline(ABORT_PATIENCE)
        left = list(self._intake.tasks)
        for task in left:
            self._backend.abandon(task)
            task._fail(PoolClosedError(f"{self.name!r} was aborted, and the program ends while {task._label} runs"))
        for task in left:
            task._await_settled(deadline)
        self._if_idle()
        self._finish(Deadline(_EXIT_PATIENCE))
        self._ledger.settle_in_log()

    def _after_fork(self) -> None:
        self._intake.phase = "forked"

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Nothing is pending: open tasks keep their pool alive. All of these are puts into C queues.
        intake = getattr(self, "_intake", None)
        # At the interpreter's end there is nobody left to tell, and modules may have lost their names already.
        if intake is not None and intake.phase != "forked" and not _finalizing():
            self._intake.close()
            self._if_idle()
            self._ledger.settle_in_log()


def name_of(fn: object) -> str:
    """Return what messages call a function."""
    name: str | None = getattr(fn, "__qualname__", None)
    if name:
        return name
    inner = getattr(fn, "func", fn)  # a partial's
    return str(getattr(inner, "__qualname__", type(inner).__name__))
