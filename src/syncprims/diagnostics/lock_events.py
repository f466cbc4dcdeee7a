"""Events of locks, for observers: `locks.add(observer)`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

from .._core.clock import perf_counter_ns
from .._core.observing import Observable, ObservableLock
from ..errors import DeadlockError
from .exchange import Exchange

# The observed methods are those that the classes of locks declare (see `_core.observing`), for classes of any kind.
#
# For a reentrant lock, "taken" is the outermost acquisition and "released" the outermost release: the thread did not
# own the lock before the one and does not own it after the other. An acquisition in between is "taken_again".
#
# Times are read after the lock was taken and before it is released, so that the holds of two threads don't overlap.


class LockObserver(Protocol):
    """An observer of every lock, called in the thread that acquires or releases it, with no lock of the library."""

    def asks(self, lock: ObservableLock, endless: bool) -> None:
        """A thread that does not hold the lock is about to acquire it. If this raises, the thread does not acquire it.

        Args:
            lock: The lock.
            endless: Whether the wait could be part of a deadlock. A try or a timed ``acquire`` could not.
        """

    def taken(self, lock: ObservableLock, at: int) -> None:
        """The thread has acquired the lock, at this `time.perf_counter_ns`."""

    def taken_again(self, lock: ObservableLock) -> None:
        """The thread has acquired a lock that it seemed to hold already. If this raises, it releases the lock again."""

    def refused(self, lock: ObservableLock, error: BaseException | None) -> None:
        """The thread did not get the lock: its time was up, or the error was raised. `asks` may be missing."""

    def released(self, lock: ObservableLock, at: int) -> None:
        """The thread has released the lock, at this `time.perf_counter_ns`."""


def _taking(take: Callable[..., object], is_endless: Callable[..., bool], observable: Observable) -> object:
    is_held, is_inner, undo = observable.is_held, observable.is_inner, observable.undo

    def observed(lock: ObservableLock, *args: Any, **kwargs: Any) -> object:
        if is_inner is not None and is_inner(lock):
            return take(lock, *args, **kwargs)
        if is_held(lock):
            try:
                outcome = take(lock, *args, **kwargs)
            except DeadlockError as error:
                _tell_refused(locks.observers, lock, error)
                raise
            if outcome is not False:
                _tell_taken_again(lock, undo)
            return outcome
        observers = locks.observers
        endless = is_endless(lock, *args, **kwargs)
        for observer in observers:
            observer.asks(lock, endless)
        try:
            outcome = take(lock, *args, **kwargs)
            if outcome is False:
                _tell_refused(observers, lock, None)
            else:
                _tell_taken(observers, lock)
            return outcome
        except BaseException as error:
            try:
                if undo is not None:
                    undo(lock)
            except RuntimeError:
                pass
            _tell_refused(observers, lock, error)
            raise

    return observed


def _giving(give: Callable[..., object], _: object, observable: Observable) -> object:
    is_held = observable.is_held

    def observed(lock: ObservableLock, *args: Any, **kwargs: Any) -> None:
        held = is_held(lock)
        at = perf_counter_ns()
        try:
            give(lock, *args, **kwargs)
        finally:  # a wrapped lock may be released by a release that raises
            if held and not is_held(lock):
                _tell_released(lock, at)

    return observed


def _lending(lend: Callable[..., Generator[None, None, None]], *_: object) -> object:
    def observed(lock: ObservableLock, *args: Any, **kwargs: Any) -> Generator[None, None, None]:
        again = lend(lock, *args, **kwargs)
        at = perf_counter_ns()
        next(again)
        _tell_released(lock, at)
        yield
        next(again)
        _tell_taken(locks.observers, lock)
        yield

    return observed


def _tell_taken(observers: tuple[LockObserver, ...], lock: ObservableLock) -> None:
    at = perf_counter_ns()
    for observer in observers:
        observer.taken(lock, at)


def _tell_taken_again(lock: ObservableLock, undo: Callable[[Any], object] | None) -> None:
    try:
        for observer in locks.observers:
            observer.taken_again(lock)
    except BaseException:
        if undo is not None:
            undo(lock)
        raise


def _tell_refused(observers: tuple[LockObserver, ...], lock: ObservableLock, error: BaseException | None) -> None:
    for observer in observers:
        observer.refused(lock, error)


def _tell_released(lock: ObservableLock, at: int) -> None:
    for observer in locks.observers:
        observer.released(lock, at)


# The releasing methods come first, so that there is no moment at which a lock's acquisition is seen but not its
# release.
locks: Exchange[LockObserver] = Exchange({"gives": _giving, "lends": _lending, "takes": _taking})
