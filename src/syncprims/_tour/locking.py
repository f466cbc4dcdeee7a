"""A lock that times out and names its holder; two threads that deadlock and get an error."""

from __future__ import annotations

import threading
from functools import partial
from textwrap import indent

from syncprims import DeadlockError, LockTimeoutError, TimedLock

from .stage import Stage, together


def play(stage: Stage) -> None:
    """Show both ways out of a wait that would never end."""
    _time_out(stage)
    _deadlock(stage)


def _time_out(stage: Stage) -> None:
    stage.scene(
        "A wait for a lock that ends",
        "Thread 'billing' holds the lock 'accounts' and does not release it. Another thread waits for at most 0.2 s.",
    )
    accounts = TimedLock(timeout=0.2, name="accounts")
    held, done = threading.Event(), threading.Event()
    caught: list[LockTimeoutError] = []

    def bill() -> None:
        with accounts:
            held.set()
            done.wait(30)

    def audit() -> None:
        held.wait(30)
        try:
            with accounts:
                pass
        except LockTimeoutError as error:
            caught.append(error)
        finally:
            done.set()

    _reraise(together(bill, audit, names=("billing", "audit")))
    stage.say(*map(_shown, caught))
    stage.check(len(caught) == 1, "the wait came to an end")
    holder = caught[0].holder if caught else None
    stage.check(holder is not None and holder.name == "billing", "the error names the holder")
    where = [frame.name for frame in holder.stack] if holder else []
    # Without the GIL the holder may run at the same time, so only its innermost frame is known.
    stage.check("bill" in where or len(where) == 1, "and where it is, at this moment")
    stage.check(not accounts.locked(), "the lock is free once the holder is done")


def _deadlock(stage: Stage) -> None:
    stage.scene(
        "Two threads that wait for each other",
        "Thread 'left' holds 'knife' and wants 'fork'; thread 'right' holds 'fork' and wants 'knife'. No timeout is",
        "set. One of them gets an error at once and releases its lock, and the other goes on.",
    )
    knife, fork = TimedLock(name="knife"), TimedLock(name="fork")
    both_hold_one = threading.Barrier(2, timeout=30)
    ate: list[str] = []

    def eat(first: TimedLock, second: TimedLock) -> None:
        with first:
            both_hold_one.wait()
            with second:
                ate.append(threading.current_thread().name)

    raised = together(partial(eat, knife, fork), partial(eat, fork, knife), names=("left", "right"))
    told = [error for error in raised if isinstance(error, DeadlockError)]
    _reraise([error for error in raised if error not in told])
    for error in told:
        stage.say(_shown(error), *(f"  {wait}" for wait in error.cycle))
    stage.check(len(told) == 1, "exactly one thread got the error of the deadlock")
    edges = {(wait.thread, wait.lock_name, wait.holder) for error in told for wait in error.cycle}
    stage.check(edges == {("left", "fork", "right"), ("right", "knife", "left")}, "the cycle names both threads")
    stage.check(len(ate) == 1, "the other thread got both locks and went on")


def _shown(error: Exception) -> str:
    return indent(f"{type(error).__name__}: {error}", "  ")


def _reraise(raised: list[Exception | None]) -> None:
    for error in raised:
        if error is not None:
            raise error
