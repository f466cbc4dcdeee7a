"""Exact locks: observed locks that notify observers of every acquisition and every release, at once."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final, Protocol, Self

from .._core.clock import perf_counter_ns
from .._core.observing import Observable
from .._core.registry import new_serial
from .observed import NOTES_TAKER, ObservedLock, ObservedRLock, acquire_observed, enter_observed, origin_of
from .origins import Origin

# The locks of `observed` don't note that they are released. Lock orders, recordings and metrics need that. There the
# release of a `with` has to be Python, which costs more, and an interrupt on the very entry to it leaves the lock
# taken. (From there to the release no other interrupt is delivered: an iterator reads the clock.) Observers are
# notified when the release is done, so that their errors and interrupts leak nothing.


class ExactObserver(Protocol):
    """An observer of every such lock, called in the thread that takes or releases it; like `LockObserver`."""

    def asks(self, lock: ExactLock | ExactRLock, endless: bool) -> None:
        """A thread that does not hold the lock is about to take it; `endless` if it will wait without a limit."""

    def taken(self, lock: ExactLock | ExactRLock, at: int) -> None:
        """The thread has taken the lock, at this `time.perf_counter_ns`."""

    def refused(self, lock: ExactLock | ExactRLock, error: BaseException | None) -> None:
        """The thread did not get the lock: its time was up, or this error was raised."""

    def released(self, lock: ExactLock | ExactRLock, at: int, by: int) -> None:
        """A thread has released the lock at this time; the thread `by` had taken it."""


_clock: Final[Iterator[int]] = iter(perf_counter_ns, -1)


class ExactLock(ObservedLock, ours=True):
    """The `threading.Lock` of a program in which every release must be known."""

    __slots__ = ("_serial",)
    __module__ = "_thread"
    __qualname__ = "lock"

    _observable: ClassVar[Observable] = Observable({})
    _observers: ClassVar[Sequence[ExactObserver]] = ()
    _serial: int

    @classmethod
    def _make(cls, origin: Origin) -> Self:
        self = super()._make(origin)
        self._serial = new_serial()
        return self

    def __enter__(self) -> bool:
        """Take the lock."""
        return _take(self, enter_observed, True)

    def __exit__(self, *exc_info: object) -> None:
        """Release the lock."""
        self.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as a bare one does."""
        endless = blocking is True and type(timeout) is int and timeout == -1
        return _take(self, lambda lock: acquire_observed(lock, blocking, timeout), endless)

    def release(self) -> None:
        """Release the lock, even if another thread has taken it."""
        for at in _clock:  # noqa: B007  used below
            break
        by = self._taker
        if NOTES_TAKER:
            self._taker = self._acquirer = 0
        try:
            self._release()
        finally:
            _tell_released(self, at, by)

    acquire_lock = acquire
    release_lock = release

    def _let_go(self) -> None:
        if NOTES_TAKER:
            self._taker = self._acquirer = 0
        self._release()

    def _at_fork_reinit(self) -> None:
        by = self._taker
        super()._at_fork_reinit()
        _tell_released(self, perf_counter_ns(), by)


ExactLock.__name__ = "lock"


class ExactRLock(ObservedRLock):
    """The class of the locks that `threading.RLock` makes while every release must be known."""

    __slots__ = ("_serial",)
    __module__ = "threading"
    __qualname__ = "_CRLock"

    _observable: ClassVar[Observable] = Observable({})
    _observers: ClassVar[Sequence[ExactObserver]] = ()
    _serial: int

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Make a lock, with the arguments that the C class takes."""
        self = super().__new__(cls, *args, **kwargs)
        self._serial = new_serial()
        return self

    def __enter__(self) -> bool:
        """Take the lock."""
        return ObservedRLock.__enter__(self) if self._is_owned() else _take(self, ObservedRLock.__enter__, True)

    def __exit__(self, *exc_info: object) -> None:
        """Release the lock."""
        self.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, like the C class."""
        if self._is_owned():
            return ObservedRLock.acquire(self, blocking, timeout)
        endless = blocking is True and type(timeout) is int and timeout == -1
        return _take(self, lambda lock: ObservedRLock.acquire(lock, blocking, timeout), endless)

    def release(self) -> None:
        """Release the lock."""
        for at in _clock:  # noqa: B007  used below
            break
        try:
            ObservedRLock.release(self)
        except RuntimeError:
            at = 0  # the thread did not have it
            raise
        finally:
            if at and not self._is_owned():
                _tell_released(self, at, get_ident())

    def _let_go(self) -> None:
        ObservedRLock.release(self)

    def _release_save(self) -> Any:
        at = perf_counter_ns()
        state = super()._release_save()
        _tell_released(self, at, get_ident())
        return state

    def _acquire_restore(self, state: Any) -> None:
        for each in self._observers:
            each.asks(self, True)
        ObservedRLock._acquire_restore(self, state)
        _tell_taken(self)

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()  # type: ignore[misc]  # the base has this method
        _tell_released(self, perf_counter_ns(), get_ident())


ExactRLock.__name__ = "RLock"

Exact = ExactLock | ExactRLock


def _take(lock: Any, take: Callable[[Any], bool], endless: bool) -> bool:
    """Take a lock that the thread does not have; release it again after an interrupt or an observer's error."""
    taken = False
    try:
        for each in lock._observers:
            each.asks(lock, endless)
        taken = take(lock)
        if taken:
            _tell_taken(lock)
        else:
            _tell_refused(lock, None)
    except BaseException as error:
        if taken:
            lock._let_go()
        _tell_refused(lock, error)
        raise
    return taken


def _tell_taken(lock: Exact) -> None:
    at = perf_counter_ns()
    for each in lock._observers:
        each.taken(lock, at)


def _tell_refused(lock: Exact, error: BaseException | None) -> None:
    for each in lock._observers:
        each.refused(lock, error)


def _tell_released(lock: Exact, at: int, by: int) -> None:
    if by:
        if by != get_ident():
            origin_of(lock).note_release(get_ident())
        for each in lock._observers:
            each.released(lock, at, by)


def exact_classes(observers: Sequence[ExactObserver]) -> tuple[type[ExactLock], type[ExactRLock]]:
    """Make classes of locks that notify these observers."""

    class lock(ExactLock, ours=True):  # noqa: N801  the name of a bare one
        __slots__ = ()
        __module__ = "_thread"
        __qualname__ = "lock"
        _observers = observers

    class RLock(ExactRLock):
        __slots__ = ()
        __module__ = "threading"
        __qualname__ = "_CRLock"
        _observers = observers

    return lock, RLock


def silence(classes: tuple[type[Exact], ...]) -> None:
    """Make the locks of these classes notify no observer any more."""
    for each in classes:
        each._observers = ()


def serial_of_exact(lock: Exact) -> int:
    """Return a number that no other lock has."""
    return lock._serial
