"""`Course`: the progress of a task, which its job and its worker write, and the task shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from weakref import ref

from .._core.clock import monotonic
from .._core.deadline import Deadline
from .._core.deadlocks import wait_or_refuse
from .._core.foreign import guarded
from .._core.gates import open_all, pass_through, put_up
from .._core.waits import Awaited
from .cpython.condition_left_locked import ConditionInC
from .travel.start_board import StartBoard

if TYPE_CHECKING:
    from _thread import LockType

# A task and its job share this object, and nothing else: the job refers to the task, and the task never refers to the
# job. So this object must not refer to the job for longer than the call takes: see `hand_back`.


class Course(ConditionInC):
    """The progress of one task; also the condition that guards the outcome in `concurrent.futures.Future`.

    **Thread safety**: each field has one writer at a time. All may be read from any thread.

    Attributes:
        broken_off: Whether the dispatcher has to finish the announcement of its end; written by an interrupted thread.
        settled: Whether its callback has ended too.
        seen: Whether any code has looked at the outcome.
        unseen: Reports the error of a task that is dropped before any code has looked at it.
    """

    # Defaults are on the class, and an object stores only the differences, because pools make very many of them.

    # Written by the worker's side, on the thread that hands the call over:
    inner: Future[Any] | None = None  # the future of an executor that got the call
    board: StartBoard | None = None  # where a worker process records that the call began
    slot: int = 0  # the place on the board; 0 means none
    _began: float | None = None

    # Written by a thread that was interrupted while it announced the end of the task:
    broken_off: bool = False

    # Written by the dispatcher:
    settled: bool = False
    unseen: DropReport | None = None

    # Written by code that looks at the outcome:
    seen: bool = False

    # For threads that wait until it is settled; made by the first such thread:
    _gates: deque[LockType] | None = None

    # -- in progress -------------------------------------------------------------------------------------------------

    def began_now(self) -> None:
        """Note that the call begins, or is about to, elsewhere; `Task.running` and the timer use this."""
        self._began = monotonic()

    def running_since(self) -> float | None:
        """Return when the call began elsewhere, by `time.monotonic`; None if it did not, or if that is not known."""
        if self._began is None:
            if (board := self.board) is not None and board.reached is not False:
                self._began = board.read(self.slot)
            elif (inner := self.inner) is not None and says(inner.running):
                self._began = monotonic()
        return self._began

    def hand_to(self, inner: Future[Any]) -> None:
        """Note the future of the executor that got the call: cancelling the task cancels that future first."""
        self.inner = inner

    def hand_back(self, inner: Future[Any]) -> None:
        """Forget that future, unless another one has taken its place.

        The future's callback refers to the job. If this object kept the future, that reference cycle would wait for the
        garbage collector, and a task that is kept alive would keep the job alive.
        """
        if self.inner is inner:
            self.inner = None

    # -- its place on a start board ----------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The id of the process that runs the call, if it is another process and known."""
        return None if self.board is None else self.board.pid(self.slot)

    def take_slot(self, board: StartBoard) -> None:
        """Take a place on the board, if one is left."""
        self.slot = slot = board.take()
        self.board = board if slot else None

    def is_on(self, board: StartBoard | None) -> bool:
        """Whether it has a place on that board."""
        return board is not None and self.board is board

    def tells_its_start(self) -> bool:
        """Whether the worker records when the call begins. If it does, no look at the record comes too late."""
        return self.board is not None and self.board.reached is not False

    def give_slot_back(self) -> bool:
        """Leave the board; return whether the call had begun; False if that is not known, because there is no board."""
        if (board := self.board) is None:
            return False
        self._began = board.read(self.slot)
        self.board = None
        board.give_back(self.slot)
        return self._began is not None

    # -- its end -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Note that the callback has ended, and release the threads that wait for that."""
        self.settled = True
        if self._gates is not None:
            open_all(self._gates)  # a thread that adds a gate now checks `settled` once more

    def await_settled(self, awaited: Awaited, deadline: Deadline) -> bool:
        """Block until the callback has ended; False if the time is up."""
        gate = put_up(self.__dict__.setdefault("_gates", deque()))
        if not self.settled:
            wait_or_refuse(awaited, deadline.timeout, pass_through, gate, deadline)
        return self.settled

    # -- whether its outcome was looked at ---------------------------------------------------------------------------

    def count_as_seen(self) -> None:
        """Count the outcome as looked at, even if it has yet to come."""
        self.seen = True
        if (unseen := self.unseen) is not None:
            unseen.error = None

    def report_if_dropped(
        self, task: object, call: str, error: BaseException, report: Callable[[str, BaseException], object]
    ) -> None:
        """Call ``report(call, error)`` if the task is dropped before any code looks at it."""
        self.unseen = unseen = _watch(task, call, error, report)
        if self.seen:  # code has looked at it since
            unseen.error = None

    def copy(self) -> Course:
        """Return a copy of the progress, for a job that separates from its task."""
        other = Course()
        other.inner, other.board, other.slot, other._began = self.inner, self.board, self.slot, self._began
        other.settled = self.settled
        return other

    def forget_call(self) -> None:
        """Drop the reference to the call, which may outlive the failed task: a task that is kept must not keep it."""
        self.inner = self.board = None


def says(ask: Callable[[], object]) -> bool:
    """Ask a future that is not the pool's; return False if it raises, or if its answer is neither true nor false."""
    return guarded(False, lambda: bool(ask()))


class DropReport(ref[Any]):
    """Reports the error of a task that was dropped before any code looked at it. So `Task` itself needs no __del__.

    `report` may be called on any thread and between any two instructions, like every finalizer. This is a weak
    reference, not an object with a __del__: without the GIL, __del__ would be called on the thread that made the
    object, whenever that thread runs next.
    """

    __slots__ = ("call", "error", "report")

    call: str
    error: BaseException | None
    report: Callable[[str, BaseException], object]


_kept: dict[int, DropReport] = {}  # the callback of a weak reference that is garbage itself is not called


def _watch(task: object, call: str, error: BaseException, report: Callable[[str, BaseException], object]) -> DropReport:
    unseen = DropReport(task, _dropped)
    unseen.call, unseen.error, unseen.report = call, error, report
    _kept[id(unseen)] = unseen
    return unseen


def _dropped(unseen: ref[Any]) -> None:
    assert isinstance(unseen, DropReport)
    _kept.pop(id(unseen), None)
    if unseen.error is not None:
        unseen.report(unseen.call, unseen.error)
