"""Explore interleavings of threads at the locks, run as a program: ``explore_locks.py SCENARIO PREEMPTIONS SECONDS``.

frontrun schedules Python code, so a model in Python replaces the C lock under `TimedLock` before the library is
imported. Everything above it is the library's own code: the two tries, the wait-for graph with its publication, search
and confirmation, and the undoing.
"""

from __future__ import annotations

import _thread
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Any, ClassVar

from frontrun._cooperative import (  # type: ignore[import-untyped]  # it has no types
    CooperativeLock,
    CooperativeSemaphore,
    patch_locks,
)

from exploring import main


class ModelOfCLock:
    """The behaviour of `_thread.RLock`, with a lock at which frontrun can switch threads."""

    __slots__ = ("__weakref__", "c_count", "c_lock", "c_owner")

    c_lock: Any
    c_owner: int
    c_count: int

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Only `__new__` matters, as with the C type."""

    def __new__(cls, *args: object, **kwargs: object) -> ModelOfCLock:  # noqa: PYI034  subclasses call it untyped
        """Make a free lock."""
        self = object.__new__(cls)
        self.c_lock = CooperativeLock()
        self.c_owner = 0
        self.c_count = 0
        return self

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it again if the caller holds it."""
        if self.c_owner == get_ident():
            self.c_count += 1
            return True
        if not self.c_lock.acquire(blocking, timeout):
            return False
        self.c_owner = get_ident()
        self.c_count = 1
        return True

    __enter__ = acquire

    def release(self) -> None:
        """Release it once."""
        if self.c_owner != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self.c_count -= 1
        if self.c_count == 0:
            self.c_owner = 0
            self.c_lock.release()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self.c_owner == get_ident()

    def __repr__(self) -> str:
        state = "locked" if self.c_owner else "unlocked"
        return f"<{state} model object owner={self.c_owner} count={self.c_count} at 0x0>"

    def _release_save(self) -> tuple[int, int]:
        raise NotImplementedError

    def _acquire_restore(self, state: tuple[int, int]) -> None:
        raise NotImplementedError

    def _at_fork_reinit(self) -> None:
        raise NotImplementedError


_true, _thread.RLock = _thread.RLock, ModelOfCLock  # type: ignore[misc,assignment]  # before the library looks it up

from syncprims import DeadlockError, LockTimeoutError, TimedLock  # noqa: E402  the model came first
from syncprims._core import deadlocks as _deadlocks  # noqa: E402  the same
from syncprims._core import waits as _waits  # noqa: E402  the same
from syncprims._core.wait_graph import within  # noqa: E402  the same
from syncprims._locks import timed_lock  # noqa: E402  the same

_thread.RLock = _true  # type: ignore[misc]  # imports use it too, from 3.12 on
# They have imported the function; under frontrun's clock it is a different one.
_waits.monotonic = timed_lock.monotonic = lambda: time.monotonic()  # type: ignore[attr-defined]
_deadlocks.sleep = lambda seconds: time.sleep(seconds)  # type: ignore[attr-defined]
# A thread whose turn it is not runs frontrun's code, which looks like a handler on top of its wait.
_deadlocks._stands_in = lambda waiting, frame: True


class Exclusion:
    """Two threads add to one counter under a lock; nothing else keeps the sum right."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.lock = TimedLock(name="lock")
        self.total = 0

    def add(self) -> None:
        """The work of each thread."""
        with self.lock:
            before = self.total
            self.total = before + 1

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (add, add)

    def holds(self) -> bool:
        """No addition is lost, and the lock is free."""
        return self.total == 2 and not self.lock.locked() and not self.lock.waiting


class NoExclusion(Exclusion):
    """The same without the lock: an exploration that finds no fault here explores nothing."""

    def add(self) -> None:
        """The work of each thread."""
        before = self.total
        self.total = before + 1

    workers = (add, add)


class Crossing:
    """Two threads acquire two locks in opposite order."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.one, self.other = TimedLock(name="one"), TimedLock(name="other")
        self.done: list[str] = []
        self.victims: list[int] = []

    def take(self, first: TimedLock, second: TimedLock, me: str) -> None:
        """Acquire both, or be the victim."""
        try:
            with first, second:
                self.done.append(me)
        except DeadlockError as error:
            self.victims.append(len(error.cycle))

    def forth(self) -> None:
        """The work of one thread."""
        self.take(self.one, self.other, "forth")

    def back(self) -> None:
        """The work of the other."""
        self.take(self.other, self.one, "back")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (forth, back)

    def holds(self) -> bool:
        """At most one thread was the victim, of a cycle of two, and all others succeeded."""
        self.note()
        return self.are_free(self.one, self.other) and (len(self.done), self.victims) in ((2, []), (1, [2]))

    def note(self) -> None:
        """Note the outcome."""
        outcome = str((len(self.done), self.victims))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def are_free(self, *locks: TimedLock) -> bool:
        """Whether no thread has them or waits for them."""
        return not any(lock.locked() or lock.waiting for lock in locks)


class Meeting(Crossing):
    """The same, and each waits until the other has its first lock: always a deadlock, with exactly one victim."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.has_come = {"forth": CooperativeSemaphore(0), "back": CooperativeSemaphore(0)}

    def take(self, first: TimedLock, second: TimedLock, me: str) -> None:
        """Acquire both, or be the victim."""
        (other,) = self.has_come.keys() - {me}
        try:
            with first:
                self.has_come[me].release()
                self.has_come[other].acquire()
                with second:
                    self.done.append(me)
        except DeadlockError as error:
            self.victims.append(len(error.cycle))


class Order(Crossing):
    """The same in one order: no interleaving is a deadlock."""

    def back(self) -> None:
        """The work of the other."""
        self.take(self.one, self.other, "back")

    workers = (Crossing.forth, back)

    def holds(self) -> bool:
        """Both succeeded."""
        return super().holds() and len(self.done) == 2


class OneAfterTheOther(Crossing):
    """One thread never has a lock while it wants another: no deadlock, though it may look like one."""

    def forth(self) -> None:
        """The work of one thread."""
        with self.one:
            pass
        with self.other:
            self.done.append("forth")

    workers = (forth, Crossing.back)

    def holds(self) -> bool:
        """Both succeeded."""
        return super().holds() and len(self.done) == 2


class BackingOff(Crossing):
    """One thread waits for its second lock with a limit, by a method that never raises a DeadlockError."""

    def forth(self) -> None:
        """The work of one thread."""
        with self.one:
            if self.other.acquire(timeout=1.0):
                self.other.release()
            self.done.append("forth")

    workers = (forth, Crossing.back)

    def holds(self) -> bool:
        """Both succeeded."""
        return super().holds() and len(self.done) == 2


class Expiring(Crossing):
    """The time of one thread may be up at any moment, even while the other searches for a cycle."""

    clock = "explored"

    def forth(self) -> None:
        """The work of one thread."""
        try:
            with self.one, self.other.hold(1.0):
                self.done.append("forth")
        except DeadlockError as error:
            self.victims.append(len(error.cycle))
        except LockTimeoutError:
            self.done.append("expired")

    workers = (forth, Crossing.back)


class Ring(Crossing):
    """Three threads acquire three locks, each the next one's second: a cycle of three, if all have their first."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.third = TimedLock(name="third")

    def first(self) -> None:
        """The work of one thread."""
        self.take(self.one, self.other, "first")

    def second(self) -> None:
        """The work of the next one."""
        self.take(self.other, self.third, "second")

    def last(self) -> None:
        """The work of the thread that closes the ring."""
        self.take(self.third, self.one, "last")

    workers = (first, second, last)

    def holds(self) -> bool:
        """At most one thread was the victim, of a cycle of three, and all others succeeded."""
        self.note()
        return self.are_free(self.one, self.other, self.third) and (len(self.done), self.victims) in ((3, []), (2, [3]))


class TwoVictims(Meeting):
    """A mutation: every thread that sees a deadlock gives way."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        _deadlocks.Knot.last = lambda knot: (knot.mine, knot.mine.serial)  # type: ignore[assignment,method-assign]


class NotConfirmed(OneAfterTheOther):
    """A mutation: each arrow is read once, by one search, without an earlier or later reading."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        _deadlocks._leads_on = lambda up_to: True
        _deadlocks._confirm = believe


def believe(first: _deadlocks._Reading, only: object) -> _deadlocks._Confirmed:
    """Take the first reading as the truth."""
    waits = {ident: found[0][0] for ident, found in first.waits.items() if found}
    return waits, {vertex: within(first.arrows[vertex], first.stuck) for vertex in first.stuck}


class OwnerClearedLate(Exclusion):
    """A mutation: a lock is free before its owner is cleared."""

    @staticmethod
    def mutate() -> None:
        """Break the model of the C lock."""

        def release(lock: ModelOfCLock) -> None:
            if lock.c_owner != get_ident():
                raise RuntimeError("cannot release un-acquired lock")
            lock.c_lock.release()
            lock.c_owner = lock.c_count = 0

        ModelOfCLock.release = release  # type: ignore[assignment,method-assign]


class WakeUpDropped(Exclusion):
    """A mutation: a release clears the owner, and wakes no waiter."""

    @staticmethod
    def mutate() -> None:
        """Break the model of the C lock."""

        def release(lock: ModelOfCLock) -> None:
            lock.c_owner = lock.c_count = 0

        ModelOfCLock.release = release  # type: ignore[assignment,method-assign]


class NoVictim(Meeting):
    """A mutation: the record is published after the search, so that two threads may miss each other."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        publish, refuse = _waits.Waiting.publish, _deadlocks.refuse_deadlock
        _waits.Waiting.publish = refuse  # type: ignore[assignment,method-assign]
        timed_lock.refuse_deadlock = publish  # type: ignore[assignment,attr-defined]


class Serials(Meeting):
    """A mutation: a thread that finds a serial not drawn yet takes it for the highest, and leaves it to that thread."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        _deadlocks.NOT_DRAWN = -5.0  # type: ignore[attr-defined]


outcomes: dict[str, int] = {}


if __name__ == "__main__":
    patch_locks()
    main(globals(), outcomes, *sys.argv[1:])
