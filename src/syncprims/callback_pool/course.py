"""`Course`: how far a task has come, which its job and its place of work write, and the task shows."""

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

# A task and its job share this object, and nothing else: the job knows the task, and never the other way round. So
# what is in here must not lead to the job for longer than the call takes: see `hand_back`.


class Course(ConditionInC):
    """How far one task has come; it is the condition too by which `concurrent.futures.Future` guards the outcome.

    **Thread safety**: each field has one writer at a time. All may be read from any thread.

    Attributes:
        job_tells: Whether the dispatcher gets its notice from the job; written by that.
        settled: Whether its callback has ended too.
        seen: Whether any code has looked at the outcome.
        unseen: What reports an error of a task that is dropped before that.
    """

    # Defaults on the class: an object stores only what differs, since pools make very many of them.

    # Written by its place of work, on the thread that hands the call over:
    inner: Future[Any] | None = None  # the future of an executor that was given the call
    board: StartBoard | None = None  # where a worker process writes that the call began
    slot: int = 0  # in which place there; 0 is nowhere
    _began: float | None = None

    # Written by the job, on the thread that sets the outcome:
    job_tells: bool = False

    # Written by the dispatcher:
    settled: bool = False
    unseen: DropReport | None = None

    # Written by those who look at the outcome:
    seen: bool = False

    # Of those who wait until it is settled; made by the first:
    _gates: deque[LockType] | None = None

    # -- on its way --------------------------------------------------------------------------------------------------

    def began_now(self) -> None:
        """Note that the call begins, or as good as, elsewhere; `Task.running` and the timer go by that."""
        self._began = monotonic()

    def running_since(self) -> float | None:
        """Return when the call began elsewhere, by `time.monotonic`; None if it did not, or if that can't be known."""
        if self._began is None:
            if (board := self.board) is not None and board.reached is not False:
                self._began = board.read(self.slot)
            elif (inner := self.inner) is not None and says(inner.running):
                self._began = monotonic()
        return self._began

    def hand_to(self, inner: Future[Any]) -> None:
        """Note the future of the executor that was given the call: cancelling the task cancels it first."""
        self.inner = inner

    def hand_back(self, inner: Future[Any]) -> None:
        """Forget that future, unless another one has taken its place.

        Its callback holds the job: what refers to itself waits for the garbage collector, and a task that is kept must
        not keep that.
        """
        if self.inner is inner:
            self.inner = None

    # -- its place on a start board ----------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The id of the process that runs the call, if it is another one and that is known."""
        return None if self.board is None else self.board.pid(self.slot)

    def take_slot(self, board: StartBoard) -> None:
        """Take a place on the board, if it has one left."""
        self.slot = slot = board.take()
        self.board = board if slot else None

    def is_on(self, board: StartBoard | None) -> bool:
        """Whether it has a place there."""
        return board is not None and self.board is board

    def tells_its_start(self) -> bool:
        """Whether the worker writes down when the call begins, so that a look at it later is never too late."""
        return self.board is not None and self.board.reached is not False

    def give_slot_back(self) -> bool:
        """Leave the board; return whether the call had begun. Without a board that can't be known, and is False."""
        if (board := self.board) is None:
            return False
        self._began = board.read(self.slot)
        self.board = None
        board.give_back(self.slot)
        return self._began is not None

    # -- its end -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Note that the callback has ended, and let through who waits for that."""
        self.settled = True
        if self._gates is not None:
            open_all(self._gates)  # who puts one up now looks at `settled` once more

    def await_settled(self, awaited: Awaited, deadline: Deadline) -> bool:
        """Block until the callback has ended; False if the time is up."""
        gate = put_up(self.__dict__.setdefault("_gates", deque()))
        if not self.settled:
            wait_or_refuse(awaited, deadline.timeout, pass_through, gate, deadline)
        return self.settled

    # -- whether its outcome was looked at ---------------------------------------------------------------------------

    def count_as_seen(self) -> None:
        """Count the outcome as looked at, also if it has yet to come."""
        self.seen = True
        if (unseen := self.unseen) is not None:
            unseen.error = None

    def report_if_dropped(
        self, task: object, call: str, error: BaseException, report: Callable[[str, BaseException], object]
    ) -> None:
        """Have ``report(call, error)`` called if the task is dropped before any code looks at it."""
        self.unseen = unseen = _watch(task, call, error, report)
        if self.seen:  # while that was made
            unseen.error = None

    def copy(self) -> Course:
        """Return another one that has come as far, for a job that parts from its task."""
        other = Course()
        other.inner, other.board, other.slot, other._began = self.inner, self.board, self.slot, self._began
        other.settled = self.settled
        return other

    def forget_call(self) -> None:
        """Refer to the call no more: it may go on when the task has failed, and who keeps that must not keep it too."""
        self.inner = self.board = None


def says(ask: Callable[[], object]) -> bool:
    """Ask a future that is not the pool's; False if it raises, or answers what is neither true nor false."""
    return guarded(False, lambda: bool(ask()))


class DropReport(ref[Any]):
    """Reports an error of a task that was dropped before any code looked at it: `Task` itself stays free of __del__.

    `report` may be called on any thread and between any two instructions, like every finalizer. A weak reference, and
    no object with a __del__: without the GIL that would be called on the thread that made the object, whenever that
    thread has something to do.
    """

    __slots__ = ("call", "error", "report")

    call: str
    error: BaseException | None
    report: Callable[[str, BaseException], object]


_kept: dict[int, DropReport] = {}  # a weak reference that is garbage itself calls nothing back


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
