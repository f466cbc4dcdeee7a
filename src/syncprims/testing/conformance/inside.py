"""The common part of the clauses about all kinds of locks: threads that are inside, that cross, or are interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Self, TypeVar

from ..._core.clock import sleep
from ..._locks.rw_lock import TimedRWLock
from ..._locks.semaphore import TimedSemaphore
from ...diagnostics import ignore_lock_order
from ..interrupts import Mode
from ..threads import Running
from .held_lock import Lock
from .trial import finish, limit, moment, start

T = TypeVar("T")
L = TypeVar("L", bound=Lock | TimedSemaphore | TimedRWLock)

FAST_MODES: Final[tuple[Mode, ...]] = ("warm", "cold", "storm", "cold storm")

_THREADS = 4
_TIMES = 25
VISITS: Final = 3 * _THREADS * _TIMES


class OtherInside:
    """Another thread that is inside a ``with``, from the making of this to `leave` or the end of this ``with``."""

    def __init__(self, entering: AbstractContextManager[object]) -> None:
        self._entering = entering
        self._entered, self._leave = threading.Event(), threading.Event()
        self.running: Running[None] = start(self._stay)
        self.thread: threading.Thread = self.running.thread
        if not self._entered.wait(limit()):
            self._leave.set()
            finish(self.running, "another thread's way in")

    def _stay(self) -> None:
        with self._entering:
            self._entered.set()
            self._leave.wait(2 * limit())

    def leave(self) -> None:
        """Make the thread leave, and wait for its end."""
        self._leave.set()
        finish(self.running, "another thread's way out")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leave.set()
        if exc_info[0] is None:
            self.leave()


def acquire_forms() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Each form of ``acquire`` that takes a free lock: its description, and its arguments."""
    return (
        ("acquire()", {}),
        ("acquire(False)", {"blocking": False}),
        ("acquire(timeout=1)", {"timeout": limit()}),
        ("acquire(timeout=0)", {"timeout": 0}),
        ("acquire(timeout=-1)", {"timeout": -1}),
        ("acquire(timeout=None)", {"timeout": None}),
    )


def crowds(lock: Lock | TimedSemaphore) -> list[int]:
    """Let several threads acquire it repeatedly, in all forms; return for each hold how many threads were inside."""
    inside: list[int] = []
    seen: list[int] = []
    begin = threading.Barrier(_THREADS)

    def visit() -> None:
        inside.append(1)
        sleep(0)
        seen.append(len(inside))
        inside.pop()

    def work() -> None:
        begin.wait(limit())
        for _ in range(_TIMES):
            with lock:
                visit()
            with lock.hold(limit()):
                visit()
            if lock.acquire(timeout=limit()):
                try:
                    visit()
                finally:
                    lock.release()

    for worker in [start(work) for _ in range(_THREADS)]:
        finish(worker, "a thread that goes in again and again")
    return seen


def cross(
    things: tuple[T, T], first: Callable[[T], AbstractContextManager[object]], then: Callable[[T], bool]
) -> list[object]:
    """Let two threads each enter one lock, and then the other one; return the outcome of each."""
    meet = threading.Barrier(2)

    def go(mine: T, theirs: T) -> bool:
        with first(mine):
            meet.wait(limit())
            return then(theirs)

    with ignore_lock_order():  # the test suite may run under the check
        pair = [start(go, *things), start(go, *reversed(things))]
        for one in pair:
            one.thread.join(limit() + moment())
    return [_outcome(one) for one in pair]


def _outcome(running: Running[bool]) -> object:
    if not running.done():
        return "hung"
    error = running.exception(0)
    return running.result(0) if error is None else error


def passes(entering: AbstractContextManager[object]) -> bool:
    """Enter and leave it."""
    with entering:
        return True


class Swept(Generic[L]):
    """The state of a scenario with interrupts, with whether a body has run without the lock.

    Args:
        lock: The lock, or a similar object.
        let_go: Ends the hold of another thread that is in the way.
    """

    def __init__(self, lock: L, let_go: Callable[[], object] | None = None) -> None:
        self.lock = lock
        self.ran_without: bool = False
        self._let_go = let_go

    def work(self, has: bool) -> None:
        """The body; `has` says whether its thread has the lock."""
        if not has:
            self.ran_without = True

    def waits(self) -> bool:
        """Whether a thread waits for the lock."""
        return self.lock.waiting == 1

    def let_go(self) -> None:
        """Make the other thread release the lock."""
        assert self._let_go is not None
        self._let_go()


def holding() -> Callable[[Swept[Any]], None]:
    """Make the scenario that holds the lock by ``hold()``."""
    seconds = limit()  # here, so that it adds no point

    def hold(subject: Swept[Any]) -> None:
        with subject.lock.hold(seconds):
            subject.work(subject.lock.held_by_me())

    return hold
