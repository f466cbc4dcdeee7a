"""Every error of the library: each is a `SyncError` and the builtin that a program would already catch.

The facts behind a message are attributes as well, and they survive pickling: a message is the only positional
argument, the facts are keyword arguments with defaults and live in the instance's ``__dict__``, which is all that
`BaseException.__reduce__` needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from .facts import Holder, Wait

if TYPE_CHECKING:
    from traceback import FrameSummary

__all__ = [
    "BrokenSequenceError",
    "CallbackErrors",
    "CallbackExit",
    "CounterBoundsError",
    "CounterTimeoutError",
    "DeadlockError",
    "ForkedError",
    "LockOrderError",
    "LockTimeoutError",
    "PatchedThreadsError",
    "PoolClosedError",
    "PoolTimeoutError",
    "SequenceFinishedError",
    "StepTimeoutError",
    "SyncError",
    "SyncTimeoutError",
    "TaskTimeoutError",
    "TransportError",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


class SyncError(Exception):
    """Base of every error about synchronization that this library raises."""


class SyncTimeoutError(SyncError, TimeoutError):
    """A wait came to its limit.

    Attributes:
        timeout: The limit, in seconds.
        waited: How long the wait really took, in seconds.
    """

    def __init__(self, message: str = "", *, timeout: float | None = None, waited: float = 0.0) -> None:
        super().__init__(message)
        self.timeout = timeout
        self.waited = waited


class LockTimeoutError(SyncTimeoutError):
    """A lock was not free in time.

    Attributes:
        lock_name: The lock's name.
        holder: The thread that held it when the time was up, or None where that is not known.
        holders: All threads that held it then, as far as they are known, the longest hold first.
    """

    def __init__(
        self,
        message: str = "",
        *,
        lock_name: str = "",
        holder: Holder | None = None,
        timeout: float | None = None,
        waited: float = 0.0,
        holders: Sequence[Holder] = (),
    ) -> None:
        super().__init__(message, timeout=timeout, waited=waited)
        self.lock_name = lock_name
        self.holder = holder
        self.holders: tuple[Holder, ...] = tuple(holders) or (() if holder is None else (holder,))


class StepTimeoutError(SyncTimeoutError):
    """A step's turn did not come in time, or a sequence did not get as far as was waited for.

    Attributes:
        step: The step that was waited for, or None where the whole sequence was.
        current: The step whose turn it was, or None where it was nobody's.
        holder: The thread that was in that step, or None where nobody had come for it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        step: str | None = None,
        current: str | None = None,
        holder: Holder | None = None,
        timeout: float | None = None,
        waited: float = 0.0,
    ) -> None:
        super().__init__(message, timeout=timeout, waited=waited)
        self.step = step
        self.current = current
        self.holder = holder


class CounterTimeoutError(SyncTimeoutError):
    """A counter did not get to the value that was waited for in time.

    Attributes:
        value: Its value when the time was up.
    """

    def __init__(self, message: str = "", *, value: int = 0, timeout: float | None = None, waited: float = 0.0) -> None:
        super().__init__(message, timeout=timeout, waited=waited)
        self.value = value


class PoolTimeoutError(SyncTimeoutError):
    """Tasks, or their callbacks, were not finished in time.

    Attributes:
        pending: How many tasks were not settled when the time was up.
    """

    def __init__(
        self, message: str = "", *, pending: int = 0, timeout: float | None = None, waited: float = 0.0
    ) -> None:
        super().__init__(message, timeout=timeout, waited=waited)
        self.pending = pending


class TaskTimeoutError(PoolTimeoutError):
    """A task ran for longer than the ``timeout`` that it was given; what it returns later is dropped."""


class DeadlockError(SyncError, RuntimeError):
    """The wait would never have ended, since the threads that it is up to wait for this one; so it was not begun.

    Attributes:
        cycle: The waits of all threads that are stuck, each with one thread that it is up to. It begins with the thread
            that got the error; the first ones make the cycle.
        stacks: For each of these waits where its thread is, outermost frame first.
    """

    def __init__(
        self,
        message: str = "",
        *,
        cycle: Sequence[Wait] = (),
        stacks: Sequence[tuple[FrameSummary, ...]] = (),
    ) -> None:
        super().__init__(message)
        self.cycle: tuple[Wait, ...] = tuple(cycle)
        self.stacks: tuple[tuple[FrameSummary, ...], ...] = tuple(stacks)


class LockOrderError(SyncError, RuntimeError):
    """Two locks were taken in both orders, which can deadlock one day, though it did not now.

    Attributes:
        first_seen: The stack that took them in the first order, as text.
        now: The stack that takes them in the other order, as text.
    """

    def __init__(self, message: str = "", *, first_seen: str = "", now: str = "") -> None:
        super().__init__(message)
        self.first_seen = first_seen
        self.now = now


class BrokenSequenceError(SyncError, RuntimeError):
    """A step failed, or the sequence was aborted or reset: its order can't be kept. The cause is the original.

    Attributes:
        step: The step whose turn it was when it broke, or None where it was nobody's.
    """

    def __init__(self, message: str = "", *, step: str | None = None) -> None:
        super().__init__(message)
        self.step = step


class SequenceFinishedError(SyncError, RuntimeError):
    """The sequence is over: no further turn of any step will come."""


class CounterBoundsError(SyncError, ValueError):
    """A change would have taken a counter out of its bounds; it was not made.

    Attributes:
        value: The counter's value, unchanged.
        minimum: Its lower bound, or None.
        maximum: Its upper bound, or None.
    """

    def __init__(
        self, message: str = "", *, value: int = 0, minimum: int | None = None, maximum: int | None = None
    ) -> None:
        super().__init__(message)
        self.value = value
        self.minimum = minimum
        self.maximum = maximum


class ForkedError(SyncError, RuntimeError):
    """A runner or a pool was used in a forked child: the threads that its work needs did not come along."""


class PatchedThreadsError(SyncError, RuntimeError):
    """Greenlets are in the place of threads, by gevent's or eventlet's monkey-patching, and can't be told apart."""


class PoolClosedError(SyncError, RuntimeError, ValueError):
    """Work was handed to a pool, or to a group of tasks, that takes no more.

    It is a `RuntimeError`, as of the standard executors, and a `ValueError`, as of `multiprocessing.Pool`.
    """


class TransportError(SyncError, TypeError):
    """Something can't be pickled, so it can't travel to or from a worker process. The cause is the pickler's error."""


class CallbackExit(SyncError):  # noqa: N818  it wraps an exit, as SystemExit is named
    """A callback raised a SystemExit, a KeyboardInterrupt or another exception that is no `Exception`: the cause."""


class CallbackErrors(SyncError, ExceptionGroup[Exception]):  # noqa: N818  a group, as ExceptionGroup is
    """What callbacks raised, and what tasks of a pool raised and no code looked at."""

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]  # a group of the same kind
        """Return a group of the same type, for `split` and `subgroup`."""
        return type(self)(self.message, excs)
