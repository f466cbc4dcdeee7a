"""What happens to locks, for whoever observes it: `locks.add(observer)`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from .._core.clock import perf_counter_ns
from .._core.registry import InnerName
from .._locks.timed_lock import TimedLock, _c_release
from ..adapters import LockAdapter
from .exchange import Exchange

# Only the outermost acquisition and release of a re-entrant lock are told: "taken" is told where the thread did not
# own the lock before, "released" where it does not own it after.
#
# Times are read after the lock was taken and before it is released, so that the holds of two threads don't overlap.

Lock = TimedLock | LockAdapter
_R = TypeVar("_R")


class LockObserver(Protocol):
    """Hears of every lock, in the thread that takes or releases it, with no lock of the library held."""

    def asks(self, lock: Lock, endless: bool) -> None:
        """A thread that does not hold the lock is about to take it; if this raises, it does not.

        Args:
            lock: The lock.
            endless: Whether the wait could be part of a deadlock, which a try or a timed ``acquire`` can't.
        """

    def taken(self, lock: Lock, at: int) -> None:
        """It has taken it, at this `time.perf_counter_ns`."""

    def released(self, lock: Lock, at: int) -> None:
        """It has released it, at this `time.perf_counter_ns`."""


# -- TimedLock, TimedRLock ---------------------------------------------------------------------------------------------

_enter = TimedLock.__enter__
_enter_within = TimedLock._enter_within
_acquire = TimedLock.acquire
_exit = TimedLock.__exit__
_taking_back = TimedLock._taking_back


def _observe(lock: TimedLock, endless: bool, take: Callable[..., _R], *args: object) -> _R:
    if lock._is_owned() or isinstance(lock._name, InnerName):
        return take(lock, *args)
    observers = locks.observers
    for observer in observers:
        observer.asks(lock, endless)
    try:
        outcome = take(lock, *args)
        if outcome is not False:
            _tell_taken(observers, lock)
        return outcome
    except BaseException:
        try:
            _c_release(lock)
        except RuntimeError:
            pass
        raise


def _tell_taken(observers: tuple[LockObserver, ...], lock: Lock) -> None:
    at = perf_counter_ns()
    for observer in observers:
        observer.taken(lock, at)


def _tell_released(lock: Lock, at: int) -> None:
    for observer in locks.observers:
        observer.released(lock, at)


def _observed_enter(self: TimedLock) -> TimedLock:
    _observe(self, self._timeout != 0, _enter)
    return self


def _observed_enter_within(self: TimedLock, timeout: float | None) -> TimedLock:
    _observe(self, timeout != 0, _enter_within, timeout)
    return self


def _observed_acquire(self: TimedLock, blocking: bool = True, timeout: float | None = -1) -> bool:
    return _observe(self, blocking and (timeout is None or timeout == -1), _acquire, blocking, timeout)


def _observed_release(self: TimedLock) -> None:
    at = perf_counter_ns()
    _c_release(self)
    if not self._is_owned():
        _tell_released(self, at)


def _observed_exit(self: TimedLock, *exc_info: object) -> None:
    at = perf_counter_ns()
    _exit(self, *exc_info)
    if not self._is_owned():
        _tell_released(self, at)


def _observed_taking_back(self: TimedLock) -> Generator[None, None, None]:
    again = _taking_back(self)
    at = perf_counter_ns()
    next(again)
    _tell_released(self, at)
    yield
    next(again)
    _tell_taken(locks.observers, self)
    yield


# -- LockAdapter -------------------------------------------------------------------------------------------------------

_take = LockAdapter._take
_forget = LockAdapter._forget


def _observed_take(self: LockAdapter, limit: float | None, *, raises: bool) -> bool:
    if self.held_by_me():
        return _take(self, limit, raises=raises)
    observers = locks.observers
    for observer in observers:
        observer.asks(self, limit is None or (raises and limit != 0))
    taken = _take(self, limit, raises=raises)
    if taken:
        _tell_taken(observers, self)
    return taken


def _observed_forget(self: LockAdapter) -> None:
    held = self.held_by_me()
    at = perf_counter_ns()
    _forget(self)
    if held and not self.held_by_me():
        _tell_released(self, at)


# Releasing first: so there is no moment at which a lock's taking is seen and its release is not.
locks: Exchange[LockObserver] = Exchange(
    [
        (TimedLock, "release", _observed_release),
        (TimedLock, "_release", _observed_release),
        (TimedLock, "__exit__", _observed_exit),
        (TimedLock, "_taking_back", _observed_taking_back),
        (TimedLock, "__enter__", _observed_enter),
        (TimedLock, "_enter_within", _observed_enter_within),
        (TimedLock, "acquire", _observed_acquire),
        (LockAdapter, "_forget", _observed_forget),
        (LockAdapter, "_take", _observed_take),
    ]
)
