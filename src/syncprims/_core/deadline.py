"""Timeouts: which values are allowed, and how much time is left."""

from __future__ import annotations

from operator import index
from threading import TIMEOUT_MAX
from typing import SupportsIndex

from .clock import monotonic
from .foreign import words


def check_timeout(timeout: float | SupportsIndex | None) -> float | None:
    """Return the timeout as an exact `int` or `float`, or raise if it is not a valid timeout.

    An exact number is compared and printed without running a method of the user's object.

    Args:
        timeout: Seconds; ``None`` means forever and ``0`` means not to wait.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number.
    """
    if timeout is None:
        return None
    seconds = _seconds(timeout)
    if 0 <= seconds <= TIMEOUT_MAX:
        return seconds
    if seconds > TIMEOUT_MAX:
        raise OverflowError(f"timeout must be at most {TIMEOUT_MAX:.0f} s, not {words(seconds)}; None waits forever")
    raise ValueError(f"timeout must be None, 0 or a positive number of seconds, not {words(seconds)}")  # or NaN


def _seconds(timeout: float | SupportsIndex) -> float:
    if type(timeout) is float or type(timeout) is int:
        return timeout
    if isinstance(timeout, float):
        return float.__float__(timeout)
    if not hasattr(type(timeout), "__index__"):
        raise TypeError(f"timeout must be a number of seconds or None, not {words(timeout)}")
    return int.__int__(index(timeout))


def check_acquire(blocking: object, timeout: float | None) -> float | None:
    """Turn the arguments of an ``acquire`` like `threading`'s into a timeout, or raise as `threading` does.

    Raises:
        TypeError: `blocking` is neither a `bool` nor 0 or 1. It is usually meant as a timeout, but would be an endless
            wait.
        ValueError: A timeout was given with ``blocking=False``, or it is NaN or a negative number other than -1.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
    """
    if blocking is True and (type(timeout) is float or type(timeout) is int) and 0 <= timeout <= TIMEOUT_MAX:
        return timeout  # the usual case
    seconds = None if timeout is None else _seconds(timeout)
    if seconds == -1:
        seconds = None
    if blocking is True or (type(blocking) is int and blocking == 1):
        return check_timeout(seconds)
    if blocking is False or (type(blocking) is int and blocking == 0):
        if seconds is not None:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0
    meant = words(blocking) if type(blocking) in (int, float) else "5"
    raise TypeError(
        f"the first argument of acquire() is blocking, True or False, not {words(blocking)}; "
        f"to wait for at most {meant} s write acquire(timeout={meant})"
    )


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
        self.at: float | None = None if self.timeout is None else self.started + self.timeout

    def remaining(self) -> float | None:
        """The seconds left, never below zero; ``None`` means forever."""
        return None if self.at is None else max(0.0, self.at - monotonic())

    def waited(self) -> float:
        """Seconds since the start."""
        return monotonic() - self.started


def lock_seconds(remaining: float | None) -> float:
    """Turn the seconds left into the timeout of `threading.Lock.acquire`, for which ``-1`` means forever."""
    return -1 if remaining is None else remaining
