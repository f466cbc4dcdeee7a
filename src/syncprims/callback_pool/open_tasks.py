"""The open tasks of a pool: which tasks are open, which threads may add more, and when all of them have ended."""

from __future__ import annotations

from _queue import SimpleQueue
from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, TypeVar

from .._core.deadline import Deadline
from .._core.deadlocks import wait_or_refuse, why_in_vain
from .._core.gates import open_all, pass_through, put_up
from .._core.registry import InnerName
from .._core.state import RunningCall, State
from .._core.this_process import mark_of_this_process
from .._locks.timed_lock import TimedLock
from ..errors import ForkedError, PoolClosedError
from .own_threads import role_in
from .up_to import Idle, Job, Room, Staff

if TYPE_CHECKING:
    from _thread import LockType

# The open set is a dict: one store adds a task, one pop removes it, and it is empty exactly when no more can follow.
# Closing needs no mutex either. A submitter first stores its task and *then* reads the phase; a closing thread first
# stores the phase and *then* reads the open set. So at least one of them sees the other.
#
# Waiters wait on their own locks ("gates"), each in a deque, never on a Condition: an interrupted waiter leaves only a
# lock behind that no thread waits for. Each waiter checks again after it has added its gate.
#
# The threads that work for a pool refer to this object and not to the pool itself, so they don't keep the pool alive.
# Open tasks do: each job refers to its pool.
#
# Rejected: a count of pending tasks (an interrupt between counting and queueing loses a count permanently).

#   open      accepts tasks
#   closing   accepts tasks only from its own tasks and callbacks
#   shut      accepts none; the open ones run
#   aborted   accepts none; tasks that have not begun are cancelled, and the program's end does not wait for the rest
#   retired   has no tasks any more
#   forked    is in a forked child
Phase = Literal["open", "closing", "shut", "aborted", "retired", "forked"]
_MOMENT = 0.05  # seconds


class Pending(Job, Protocol):
    """The part of a task's job that the open tasks use."""

    @property
    def pid(self) -> int | None:
        """The id of the process that runs it, if it is another process and known."""

    def running(self) -> bool:
        """Whether it runs now, as far as that is known."""

    def has_callback(self) -> bool:
        """Whether a function has to be called when it is done."""

    def kill(self) -> bool:
        """End it if it runs in one of the pool's own processes; return whether it did."""

    def running_since(self) -> float | None:
        """When it began, by the library's clock; None if it did not, or if that is not known."""


class Fence:
    """A notice that releases the thread that sent it, once all earlier notices have been handled."""

    def __init__(self) -> None:
        self._gate = allocate_lock()
        self._gate.acquire()
        self.open: Final = self._gate.release

    def passed(self, deadline: Deadline) -> bool:
        """Wait a moment, but not past the deadline; True once it is open."""
        left = deadline.remaining()
        return self._gate.acquire(timeout=_MOMENT if left is None else min(left, _MOMENT))


K = TypeVar("K")
V = TypeVar("V", bound=Pending)


class OpenTasks(Generic[K, V]):
    """The open tasks of one pool with their jobs, the pool's phase, and the threads that wait for either.

    **Thread safety**: all methods may be called from any thread.

    Attributes:
        name: The name of the pool.
        max_pending: With this many open tasks, a submitter from outside has to wait; None means no limit.
        phase: Written only here.
        jobs: The open tasks, each with its job.
        staff: The threads that work for the pool; written by the pool when it is made.
        ended: The dispatcher's inbox: tasks or jobs that are done or withdrawn, maybe the same one twice, and fences;
            None ends it.
    """

    def __init__(self, pool_kind: str, pool_name: str, max_pending: int | None) -> None:
        self._kind = pool_kind
        self.name: str = pool_name
        self.max_pending: int | None = max_pending
        self.phase: Phase = "open"
        self._mark = mark_of_this_process()  # because C may fork without running Python's hooks
        self.jobs: dict[K, V] = {}
        self.staff: Final = Staff()
        self.ended: SimpleQueue[K | V | Fence | None] = SimpleQueue()
        self._idle_gates: deque[LockType] = deque()
        self._room_gates: deque[LockType] = deque()
        # With max_pending, submitters from outside enter one at a time:
        self._entrance = TimedLock(name=InnerName(f"{pool_name} entrance"))

    # -- in and out --------------------------------------------------------------------------------------------------

    def take_in(self, task: K, job: V) -> None:
        """Store the task; from outside, block until there is room.

        Raises:
            PoolClosedError: The pool accepts no more tasks. The task may be stored anyway: `drop` it.
            ForkedError: This is a forked child.
        """
        if self.max_pending is None or role_in(self) is not None:
            self.jobs[task] = job
        elif not self._entered(task, job):
            wait_or_refuse(Room(self), None, self._enter, task, job)
        # The phase is read after the store: see the top of this module.
        if self.phase != "open" or not self._mark[0]:
            self.check_open()

    def take_in_besides(self, task: K, job: V) -> None:
        """Store a task that needs no worker, and therefore no room."""
        self.jobs[task] = job
        if self.phase != "open" or not self._mark[0]:
            self.check_open()

    def _enter(self, task: K, job: V) -> None:
        while not self._entered(task, job):
            self._wait_for_room()

    def _entered(self, task: K, job: V) -> bool:
        with self._entrance:
            if not self._has_room():
                return False
            self.jobs[task] = job
            return True

    def _has_room(self) -> bool:
        return self.phase != "open" or self.max_pending is None or len(self.jobs) < self.max_pending

    def _wait_for_room(self) -> None:
        gate = put_up(self._room_gates)
        if not self._has_room():
            pass_through(gate, Deadline(None))

    def drop(self, task: K) -> bool:
        """Drop a settled or withdrawn task and wake threads that waited for it; True if that retired the pool."""
        self.jobs.pop(task, None)
        if self._room_gates:
            open_all(self._room_gates)
        return not self.jobs and self.went_idle()

    def has_callback(self, task: K) -> bool:
        """Whether the task is open, and a function has to be called when it is done."""
        job = self.jobs.get(task)
        return job is not None and job.has_callback()

    def kill(self, task: K) -> bool:
        """End an open task that runs in one of the pool's own processes; return whether it did."""
        job = self.jobs.get(task)
        return job is not None and job.kill()

    # -- the phases --------------------------------------------------------------------------------------------------

    def went_idle(self) -> bool:
        """Wake the threads that wait for the pool to be idle; return True if that retired the pool."""
        retired = self._retire()
        open_all(self._idle_gates)
        return retired

    def _retire(self) -> bool:
        before = self.phase
        if before in ("open", "retired", "forked"):
            return False
        self.phase = "retired"
        if self.jobs:  # a task from inside came in before its thread saw the new phase
            self.phase = before
            return False
        return True

    def close(self) -> None:
        """Refuse tasks from outside from now on."""
        if self.phase == "open":
            self.phase = "closing"
        open_all(self._room_gates)

    def shut(self) -> None:
        """Refuse all tasks from now on, also from inside."""
        if self.phase in ("open", "closing"):
            self.phase = "shut"
        open_all(self._room_gates)

    def abort(self) -> None:
        """Refuse all tasks from now on, and don't wait for the open ones."""
        if self.phase != "retired":
            self.phase = "aborted"
        open_all(self._room_gates)

    def fork(self) -> None:
        """Refuse everything: this is a forked child, and its parent has the workers."""
        self.phase = "forked"

    def check_open(self) -> None:
        """Raise unless tasks are accepted from this thread."""
        self.check_fork()
        if self.phase == "open" or (self.phase == "closing" and role_in(self) is not None):
            return
        verb = {"aborted": "aborted", "shut": "shut down"}.get(self.phase, "closed")
        raise PoolClosedError(f"{self.name!r} was {verb} and takes no more tasks: make a new pool")

    def is_forked(self) -> bool:
        """Whether this is a forked child of the process that made the pool."""
        if not self._mark[0]:
            self.fork()
        return self.phase == "forked"

    def check_fork(self) -> None:
        """Raise in a forked child."""
        if self.is_forked():
            raise ForkedError(
                f"{self.name!r} was made before this process was forked, and its threads did not come along: "
                "make a new pool in the child"
            )

    # -- waiting for the end -----------------------------------------------------------------------------------------

    def await_idle(self, deadline: Deadline) -> bool:
        """Block until no task is open; return False if the time is up."""
        if not self.jobs:
            return True
        return wait_or_refuse(Idle(self), deadline.timeout, self._await_idle, deadline)

    def why_not_idle(self) -> str:
        """Say why a wait for `await_idle` could not succeed, if that is so."""
        return why_in_vain(Idle(self))

    def _await_idle(self, deadline: Deadline) -> bool:
        while self.jobs:
            gate = put_up(self._idle_gates)
            if self.jobs and not pass_through(gate, deadline):
                return not self.jobs
        return True

    # -- for reports -------------------------------------------------------------------------------------------------

    def state(self, *further: RunningCall) -> State:
        """Return the pending and the running tasks, without blocking; `further` runs too."""
        jobs = list(self.jobs.values())
        running = [
            RunningCall(job.label, True, job.running_since(), job.worker, job.pid) for job in jobs if job.running()
        ]
        return State(self, self._kind, self.name, pending=len(jobs), running=(*running, *further))

    def _state(self) -> State:
        return self.state()
