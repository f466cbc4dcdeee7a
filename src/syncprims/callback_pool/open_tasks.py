"""The open tasks of a pool: which they are, who may bring in more, and when nothing is left to wait for."""

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
from .._locks.timed_lock import TimedLock
from ..errors import ForkedError, PoolClosedError
from .own_threads import role_in
from .up_to import Idle, Job, Room, Staff

if TYPE_CHECKING:
    from _thread import LockType

# The open set is a dict: one store takes a task in, one pop takes it out, and it is empty exactly when nothing can
# follow. Closing needs no mutex either: a submitter first stores its task and *then* reads the phase; who closes
# first stores the phase and *then* reads the open set; so at least one of them sees the other.
#
# Waiters wait on locks of their own ("gates"), each in a deque, never on a Condition: an interrupted waiter leaves
# nothing behind but a lock that no thread waits for. Each looks again after having put up its gate.
#
# The threads that work for a pool know this object and not the pool itself, so they don't keep it alive. Open tasks do:
# each job holds its pool.
#
# Rejected: a count of pending tasks (an interrupt between counting and queueing loses one forever).

#   open      takes tasks
#   closing   from its own tasks and callbacks only
#   shut      from no one; what it has runs
#   aborted   from no one; what has not begun is cancelled, and the program's end does not wait for the rest
#   retired   has none any more
#   forked    is in a forked child
Phase = Literal["open", "closing", "shut", "aborted", "retired", "forked"]
_MOMENT = 0.05  # seconds


class Pending(Job, Protocol):
    """What is to be done for a task, as far as its being open goes."""

    @property
    def pid(self) -> int | None:
        """The id of the process that runs it, if it is another one and that is known."""

    def running(self) -> bool:
        """Whether it runs now, as far as that can be known."""

    def has_callback(self) -> bool:
        """Whether anything is to be called when it is done."""

    def kill(self) -> bool:
        """End it if it runs in a process of the pool's own; whether it did."""

    def running_since(self) -> float | None:
        """When it began, by the library's clock; None if it did not, or if that can't be known."""


class Fence:
    """A notice that lets its maker through once all notices before it are dealt with."""

    def __init__(self) -> None:
        self._gate = allocate_lock()
        self._gate.acquire()
        self.open: Final = self._gate.release

    def passed(self, deadline: Deadline) -> bool:
        """Wait a moment, and not past the deadline; True once it is open."""
        left = deadline.remaining()
        return self._gate.acquire(timeout=_MOMENT if left is None else min(left, _MOMENT))


K = TypeVar("K")
V = TypeVar("V", bound=Pending)


class OpenTasks(Generic[K, V]):
    """The open tasks of one pool with the job that each stands for, the pool's phase, and those who wait for either.

    **Thread safety**: all methods may be called from any thread.

    Attributes:
        name: The pool's.
        max_pending: With so many open tasks, a submitter from outside has to wait; None is no limit.
        phase: Written here alone.
        jobs: The open tasks, and what is to be done for each.
        staff: Who works for the pool; written by the pool when it is made.
        ended: The dispatcher's inbox: tasks or jobs that are done or withdrawn, maybe the same one twice, and fences;
            None ends it.
    """

    def __init__(self, pool_kind: str, pool_name: str, max_pending: int | None) -> None:
        self._kind = pool_kind
        self.name: str = pool_name
        self.max_pending: int | None = max_pending
        self.phase: Phase = "open"
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
            PoolClosedError: The pool takes no more. The task may be stored all the same: `drop` it.
            ForkedError: This is a forked child.
        """
        if self.max_pending is None or role_in(self) is not None:
            self.jobs[task] = job
        elif not self._entered(task, job):
            wait_or_refuse(Room(self), None, self._enter, task, job)
        if self.phase != "open":  # read after the store: see the head of this module
            self.check_open()

    def take_in_besides(self, task: K, job: V) -> None:
        """Store a task that takes no worker, so that there need not be room for it."""
        self.jobs[task] = job
        if self.phase != "open":
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
        """Take out a settled or withdrawn task and wake who waited for that; True if that retired the pool."""
        self.jobs.pop(task, None)
        if self._room_gates:
            open_all(self._room_gates)
        return not self.jobs and self.went_idle()

    def has_callback(self, task: K) -> bool:
        """Whether the task is open, and anything is to be called when it is done."""
        job = self.jobs.get(task)
        return job is not None and job.has_callback()

    def kill(self, task: K) -> bool:
        """End an open task that runs in a process of the pool's own; whether it did."""
        job = self.jobs.get(task)
        return job is not None and job.kill()

    # -- the phases --------------------------------------------------------------------------------------------------

    def went_idle(self) -> bool:
        """Wake who waits for the pool to be idle; True if that retired the pool."""
        retired = self._retire()
        open_all(self._idle_gates)
        return retired

    def _retire(self) -> bool:
        before = self.phase
        if before in ("open", "retired", "forked"):
            return False
        self.phase = "retired"
        if self.jobs:  # one from inside slipped in before seeing that
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
        """Refuse all tasks from now on, and do not count on those that there are."""
        if self.phase != "retired":
            self.phase = "aborted"
        open_all(self._room_gates)

    def fork(self) -> None:
        """Refuse everything: this is a forked child, and its parent has the workers."""
        self.phase = "forked"

    def check_open(self) -> None:
        """Raise unless tasks are taken from this thread."""
        self.check_fork()
        if self.phase == "open" or (self.phase == "closing" and role_in(self) is not None):
            return
        verb = {"aborted": "aborted", "shut": "shut down"}.get(self.phase, "closed")
        raise PoolClosedError(f"{self.name!r} was {verb} and takes no more tasks: make a new pool")

    def check_fork(self) -> None:
        """Raise in a forked child."""
        if self.phase == "forked":
            raise ForkedError(
                f"{self.name!r} was made before this process was forked, and its threads did not come along: "
                "make a new pool in the child"
            )

    # -- waiting for the end -----------------------------------------------------------------------------------------

    def await_idle(self, deadline: Deadline) -> bool:
        """Block until no task is open; False if the time is up."""
        if not self.jobs:
            return True
        return wait_or_refuse(Idle(self), deadline.timeout, self._await_idle, deadline)

    def why_not_idle(self) -> str:
        """Say why a wait for that was without success, if it had to be."""
        return why_in_vain(Idle(self))

    def _await_idle(self, deadline: Deadline) -> bool:
        while self.jobs:
            gate = put_up(self._idle_gates)
            if self.jobs and not pass_through(gate, deadline):
                return not self.jobs
        return True

    # -- for who looks -----------------------------------------------------------------------------------------------

    def state(self, *further: RunningCall) -> State:
        """Say what is pending and what of it runs, without blocking; `further` runs too."""
        jobs = list(self.jobs.values())
        running = [
            RunningCall(job.label, True, job.running_since(), job.worker, job.pid) for job in jobs if job.running()
        ]
        return State(self, self._kind, self.name, pending=len(jobs), running=(*running, *further))

    def _state(self) -> State:
        return self.state()
