"""The contract of a lock under interrupts: a body never runs without the lock, and no lock stays acquired."""

from __future__ import annotations

from .contract import Contract
from .held_lock import Held, Lock, Make
from .inside import FAST_MODES, Swept, holding
from .trial import aside, limit, sweep

interrupted: Contract[Make] = Contract()
reentrant_interrupted: Contract[Make] = Contract()


class SweptLock(Swept[Lock]):
    """A lock under interrupts."""

    def problem(self) -> str | None:
        """Return the problem when the scenario is over, or None."""
        if self.ran_without:
            return "the body ran without the lock"
        if self.lock.locked():
            return "the lock is still locked"
        if self.lock.held_by_me():
            return "held_by_me() is still true, though the lock is free"
        return None


def _with(subject: SweptLock) -> None:
    with subject.lock:
        subject.work(subject.lock.held_by_me())


def _acquire(subject: SweptLock) -> None:
    subject.lock.acquire()
    try:
        subject.work(subject.lock.held_by_me())
    finally:
        subject.lock.release()


@interrupted.clause(
    "an interrupt anywhere in a with leaves the lock free", "interrupted it at every point", main_thread=True
)
def _in_with(make: Make) -> None:
    sweep(lambda: SweptLock(make()), _with, SweptLock.problem, *FAST_MODES)


@interrupted.clause(
    "an interrupt anywhere in a hold() leaves the lock free", "interrupted it at every point", main_thread=True
)
def _in_hold(make: Make) -> None:
    sweep(lambda: SweptLock(make()), holding(), SweptLock.problem, *FAST_MODES)


@interrupted.clause(
    "an interrupt anywhere in acquire(); try: ... finally: release() leaves the lock free",
    "interrupted it at every point",
    main_thread=True,
)
def _in_acquire(make: Make) -> None:
    sweep(lambda: SweptLock(make()), _acquire, SweptLock.problem, *FAST_MODES)


def _held_elsewhere(make: Make) -> SweptLock:
    lock = make()
    return SweptLock(lock, Held(lock).let_go)


@interrupted.clause(
    "an interrupt while a thread waits leaves the lock with its holder, then free",
    "interrupted a with that waited, and everything before and after the wait",
    main_thread=True,
)
def _in_wait(make: Make) -> None:
    sweep(
        lambda: _held_elsewhere(make),
        holding(),
        SweptLock.problem,
        "warm",
        when_blocked=SweptLock.waits,
        unblock=SweptLock.let_go,
    )


@reentrant_interrupted.clause(
    "an interrupt never changes how often the lock is held",
    "interrupted an inner with at every point, then released the outer hold",
    main_thread=True,
)
def _count(make: Make) -> None:
    def held() -> SweptLock:
        lock = make()
        lock.acquire()
        return SweptLock(lock)

    def problem(subject: SweptLock) -> str | None:
        lock = subject.lock
        if not lock.held_by_me():
            return "the outer hold is gone"
        lock.release()
        if lock.held_by_me():
            return "the lock is held more often than before"
        return None if aside(lock.acquire, timeout=limit()) else "the lock is not free after the outer release"

    sweep(held, _with, problem, *FAST_MODES)
    sweep(held, _acquire, problem, *FAST_MODES)
