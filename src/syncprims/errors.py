"""Every error of the library: each is a `SyncError` and the builtin that a program would already catch.

The facts in a message are attributes too, and they survive pickling. The message is the only positional argument; the
facts are keyword arguments with defaults, and live in the instance's ``__dict__``. That is all that
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
    """The base class of the errors about synchronization that this library raises."""


class SyncTimeoutError(SyncError, TimeoutError):
    """A wait reached its timeout.

    Attributes:
        timeout: The timeout, in seconds.
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
        holder: The thread that held it when the time was up, or None if that is not known.
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
    """A step's turn did not come in time, or a sequence did not get far enough in time.

    Attributes:
        step: The step that was waited for, or None if the wait was for the whole sequence.
        current: The step whose turn it was, or None if there was none.
        holder: The thread that was in that step, or None if no thread had come for it.
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
    """A counter did not reach the value in time.

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
    """A task ran for longer than its ``timeout``; a result that comes later is dropped."""


class DeadlockError(SyncError, RuntimeError):
    """The wait would never have ended, because the threads that could end it wait for this thread. It was not begun.

    Attributes:
        cycle: The waits of all stuck threads, each with one thread that could end it. The first wait is that of the
            thread that got the error, and the first waits form the cycle.
        stacks: For each of these waits the stack of its thread, outermost frame first.
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
    """Two locks were acquired in both orders. This did not deadlock now, but can deadlock one day.

    Attributes:
        first_seen: The stack trace of the first order, as text.
        now: The stack trace of the other order, as text.
    """

    def __init__(self, message: str = "", *, first_seen: str = "", now: str = "") -> None:
        super().__init__(message)
        self.first_seen = first_seen
        self.now = now


class BrokenSequenceError(SyncError, RuntimeError):
    """A step failed, or the sequence was aborted or reset, so its order can't be kept. The cause is the step's error.

    Attributes:
        step: The step whose turn it was when the sequence broke, or None if there was none.
    """

    def __init__(self, message: str = "", *, step: str | None = None) -> None:
        super().__init__(message)
        self.step = step


class SequenceFinishedError(SyncError, RuntimeError):
    """The sequence has finished: no more turns will come."""


class CounterBoundsError(SyncError, ValueError):
    """A change would have taken a counter out of its bounds. The change was not made.

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
    """A runner or a pool was used in a forked child, which does not have the threads that it needs."""


class PatchedThreadsError(SyncError, RuntimeError):
    """gevent or eventlet has replaced threads by greenlets, so locks can't tell one thread of control from another."""


class PoolClosedError(SyncError, RuntimeError, ValueError):
    """Work was submitted to a pool, or to a group of tasks, that accepts no more.

    It is a `RuntimeError`, as with the standard executors, and a `ValueError`, as with `multiprocessing.Pool`.
    """


class TransportError(SyncError, TypeError):
    """Something can't be pickled, so it can't travel to or from a worker process. The cause is the pickler's error."""


class CallbackExit(SyncError):  # noqa: N818  it wraps an exit, as SystemExit is named
    """A callback raised a SystemExit, a KeyboardInterrupt or the like, which is the cause of this error."""


class CallbackErrors(SyncError, ExceptionGroup[Exception]):  # noqa: N818  a group, as ExceptionGroup is
    """The exceptions of callbacks, and those exceptions of a pool's tasks that no code looked at."""

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]  # a group of the same kind
        """Return a group of the same type, for `split` and `subgroup`."""
        return type(self)(self.message, excs)
