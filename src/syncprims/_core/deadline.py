"""Time: what a timeout may be, and how much of it is left."""

from __future__ import annotations

from operator import index
from threading import TIMEOUT_MAX
from typing import SupportsIndex

from .clock import monotonic


def check_timeout(timeout: float | SupportsIndex | None) -> float | None:
    """Return the timeout, or raise for one that no wait can have.

    Args:
        timeout: Seconds; ``None`` is for ever and ``0`` is not at all.

    Raises:
        ValueError: It is negative or NaN.
        OverflowError: It is larger than `threading.TIMEOUT_MAX`.
        TypeError: It is not a number.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        if not isinstance(timeout, SupportsIndex):
            raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
        timeout = index(timeout)
    if not timeout >= 0:  # so that NaN fails too
        raise ValueError(f"timeout must be None, 0 or a positive number of seconds, not {timeout!r}")
    if timeout > TIMEOUT_MAX:
        raise OverflowError(f"timeout must be at most {TIMEOUT_MAX:.0f} s, not {timeout!r}; None waits for ever")
    return timeout


def check_acquire(blocking: bool, timeout: float | None) -> float | None:
    """Turn the arguments of an ``acquire`` like `threading`'s into a timeout, or raise as `threading` does."""
    if not blocking:
        if timeout is not None and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0
    return None if timeout == -1 else check_timeout(timeout)


class Deadline:
    """A point in time that a wait, or several waits in a row, must not pass.

    Example:
        >>> Deadline(None).remaining() is None, Deadline(0).remaining()
        (True, 0.0)
    """

    __slots__ = ("at", "started", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout: float | None = check_timeout(timeout)
        self.started: float = monotonic()
        self.at: float | None = None if timeout is None else self.started + timeout

    def remaining(self) -> float | None:
        """Seconds that are left, never below zero; ``None`` for ever."""
        return None if self.at is None else max(0.0, self.at - monotonic())

    def waited(self) -> float:
        """Seconds since the start."""
        return monotonic() - self.started


def lock_seconds(remaining: float | None) -> float:
    """Turn seconds that are left into what `threading.Lock.acquire` takes, where for ever is ``-1``."""
    return -1 if remaining is None else remaining
