"""The intake: which tasks are open, who may bring in more, and when nothing is left to wait for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from .._core.clock import monotonic
from .._core.deadline import Deadline
from .._core.gates import open_all, pass_through, put_up
from .._core.registry import InnerName
from .._core.report import attach_report
from .._core.state import State
from .._core.waits import wait_visibly
from .._locks.timed_lock import TimedLock
from ..errors import ForkedError, PoolClosedError, PoolTimeoutError
from .inside import Mark, is_inside
from .task import Task

if TYPE_CHECKING:
    from _thread import LockType

# The open set is a dict: one store takes a task in, one pop takes it out, and it is empty exactly when nothing can
# follow. Closing needs no mutex either: a submitter first stores its task and *then* reads the phase, whoever closes
# first stores the phase and *then* reads the open set, so at least one of them sees the other.
#
# Waiters wait on locks of their own ("gates"), each in a deque, never on a Condition: an interrupted waiter leaves
# nothing behind but a lock that nobody waits for. Each looks again after having put up its gate.
#
# Rejected: a count of pending tasks (an interrupt between counting and queueing loses one for ever).

Phase = Literal["open", "closing", "aborted", "retired", "forked"]


class Intake:
    """The open tasks of a pool, its phase, and those who wait for either.

    **Thread safety**: all methods may be called from any thread.
    """

    def __init__(self, pool_name: str, max_pending: int | None) -> None:
        self.name: str = pool_name
        self.max_pending = max_pending
        self.mark: Mark = Mark()
        self.phase: Phase = "open"
        self.tasks: dict[Task[Any], None] = {}
        self._idle_gates: deque[LockType] = deque()
        self._room_gates: deque[LockType] = deque()
        # With max_pending, submitters from outside enter one at a time:
        self._entrance = TimedLock(name=InnerName(f"{pool_name} entrance"))

    def take_in(self, task: Task[Any]) -> None:
        """Store the task; from outside, block until there is room.

        Raises:
            PoolClosedError: The pool takes no more. The task may be stored all the same: `drop` it.
            ForkedError: This is a forked child.
        """
        if self.max_pending is None or is_inside(self.mark):
            self.tasks[task] = None
        elif not self._entered(task):
            wait_visibly(self, "room for a task", None, self._enter, task)
        if self.phase != "open":  # read after the store: see the head of this module
            self.check_open()

    def _enter(self, task: Task[Any]) -> None:
        while not self._entered(task):
            self._wait_for_room()

    def _entered(self, task: Task[Any]) -> bool:
        with self._entrance:
            if not self._has_room():
                return False
            self.tasks[task] = None
            return True

    def _has_room(self) -> bool:
        return self.phase != "open" or self.max_pending is None or len(self.tasks) < self.max_pending

    def _wait_for_room(self) -> None:
        gate = put_up(self._room_gates)
        if not self._has_room():
            pass_through(gate, Deadline(None))

    def drop(self, task: Task[Any]) -> bool:
        """Take out a settled or withdrawn task and wake who waited for that; True if that retired the pool."""
        self.tasks.pop(task, None)
        open_all(self._room_gates)
        return not self.tasks and self.went_idle()

    def went_idle(self) -> bool:
        """Wake who waits for the pool to be idle; True if that retired the pool."""
        retired = self._retire()
        open_all(self._idle_gates)
        return retired

    def _retire(self) -> bool:
        before = self.phase
        if before not in ("closing", "aborted"):
            return False
        self.phase = "retired"
        if self.tasks:  # somebody inside slipped in before seeing that
            self.phase = before
            return False
        return True

    def close(self) -> None:
        """Refuse tasks from outside from now on."""
        if self.phase == "open":
            self.phase = "closing"
        open_all(self._room_gates)

    def abort(self) -> None:
        """Refuse all tasks from now on."""
        if self.phase != "retired":
            self.phase = "aborted"
        open_all(self._room_gates)

    def check_open(self) -> None:
        """Raise unless tasks are taken from this thread."""
        self.check_fork()
        if self.phase == "open" or (self.phase == "closing" and is_inside(self.mark)):
            return
        verb = "aborted" if self.phase == "aborted" else "closed"
        raise PoolClosedError(f"{self.name!r} was {verb} and takes no more tasks: make a new pool")

    def check_fork(self) -> None:
        """Raise in a forked child."""
        if self.phase == "forked":
            raise ForkedError(
                f"{self.name!r} was made before this process was forked, and its threads did not come along: "
                "make a new pool in the child"
            )

    def await_idle(self, deadline: Deadline) -> bool:
        """Block until no task is open; False if the time is up."""
        if not self.tasks:
            return True
        return wait_visibly(self, "the end of all tasks", deadline.timeout, self._await_idle, deadline)

    def _await_idle(self, deadline: Deadline) -> bool:
        while self.tasks:
            gate = put_up(self._idle_gates)
            if self.tasks and not pass_through(gate, deadline):
                return not self.tasks
        return True

    def _state(self, kind: str = "CallbackPool") -> State:
        tasks = list(self.tasks)
        running = tuple(
            (task._label, None if since is None else monotonic() - since)
            for task, since in ((task, task._running_since()) for task in tasks if task.running())
        )
        return State(self, kind, self.name, pending=len(tasks), running=running)

    def late(self, deadline: Deadline, settling: Task[Any] | None) -> PoolTimeoutError:
        """Return the error that says what is still open."""
        tasks = list(self.tasks)
        running = [task._label for task in tasks if task.running()]
        facts = [f"{len(tasks)} pending"]
        if running:
            facts.append(f"running: {', '.join(running[:3])}{', …' if len(running) > 3 else ''}")
        if settling is not None:
            facts.append(f"the callback of {settling._label} has not ended")
        error = PoolTimeoutError(
            f"waited {deadline.waited():.1f} s for {self.name!r}: {'; '.join(facts)}. Wait again, or abort()",
            pending=len(tasks),
            timeout=deadline.timeout,
            waited=deadline.waited(),
        )
        attach_report(error)
        return error
