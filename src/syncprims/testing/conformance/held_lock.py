"""The common part of the clauses about locks: the kind of factory, and another thread that holds a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from ..._locks.queued_lock import QueuedLock
from ..._locks.timed_lock import TimedLock
from ...adapters import LockAdapter
from ...facts import Holder
from ..threads import patience
from .trial import aside, expect, expect_that, finish, limit, start, wait

Lock: TypeAlias = TimedLock | LockAdapter | QueuedLock
Make: TypeAlias = Callable[[], Lock]


class Held:
    """Another thread that holds the lock, from the making of this object to `let_go` or the end of the ``with``."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._taken = threading.Event()
        self._go = threading.Event()
        self._running = start(self._hold)
        self.thread: threading.Thread = self._running.thread
        try:
            wait(self._taken, "another thread's acquire(timeout=...) of the free lock")
        except BaseException:
            self._go.set()
            if self._running.done():
                finish(self._running)  # the thread's own exception says more
            raise

    def _hold(self) -> None:
        expect("acquire(timeout=...) of the free lock", self._lock.acquire(timeout=limit()), True)
        self._taken.set()
        self._go.wait(patience(5.0))
        self._lock.release()

    def let_go(self) -> None:
        """Make the thread release the lock and end."""
        self._go.set()
        finish(self._running, "the holder's release()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._go.set()
        if error is None:
            self.let_go()


def expect_free(lock: Lock, when: str) -> None:
    """Break the clause unless another thread can acquire the lock at once, and release it again."""
    expect_that(aside(_try, lock), f"{when}, the lock was still held by {_name(lock.holder)}")


def expect_taken(lock: Lock, when: str) -> None:
    """Break the clause unless a try of another thread fails."""
    expect_that(not aside(_try, lock), f"{when}, another thread could take the lock")


def _try(lock: Lock) -> bool:
    if not lock.acquire(False):
        return False
    lock.release()
    return True


def _name(holder: Holder | None) -> str:
    if holder is None:
        return "a holder that is not known"
    return repr(holder.name) if holder.name else "a thread without a name"
