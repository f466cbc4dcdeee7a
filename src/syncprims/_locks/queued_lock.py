"""`QueuedLock`: the base for a lock of your own, with a rule for which threads may hold it together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import repeat
from operator import attrgetter, call, contains, index, is_not
from threading import get_ident
from types import EllipsisType
from typing import ClassVar, Final, NoReturn, Self, TypeVar

from .._core.clock import sleep
from .._core.deadline import check_acquire, check_timeout
from .._core.deadlocks import own_deadlock
from .._core.holders import describe
from .._core.integers import integer, shown
from .._core.interrupts import ONE_DEEP, OTHER_DEEP, Leave, LeaveInC, leave_at_once
from .._core.observing import Event, Observable
from .._core.registry import register
from .._core.waits import UpTo, wait_visibly
from .hold import Hold
from .shared_lock import Queued, SharedHold, SharedLock

_ADVICE: Final = "release it first: a thread has one hold at most"

# A thread has one hold at most, so its token among the holds is its ident, and one call of C releases a hold of any
# kind. The kind is noted separately, just before the token is added, and the note stays after the release. While a
# thread waits, its token contains the kind, above the ident.
#
# Everything takes the slow path of `SharedLock`. The subclass's rule runs under `_guard`, so no other hold is added
# between its answer and the hold that it admits; holds can only go. That is why `_fits` must stay true if some holds
# go. This is the one exception from the rule that no code of the user runs under a lock of the library.

_IDENT_BITS: Final = 64


class QueuedLock(SharedLock):
    """The base for a lock of your own: you write the rule that says who fits in, and this class does the rest.

    Use it for a lock that `threading` and this library don't have, such as a lock with priorities or for groups. The
    class does the queue of waiters, time limits, holders, `DeadlockError`, hooks, interrupts, forks, reports,
    recordings and `acquire_all`. Think of an usher with a list: you write the rule, and the usher lets people in.

    A hold has a *kind*, an integer with a meaning of your choice. ``with lock``, `hold` and `acquire` use kind 0, and
    ``of(kind)`` uses any other. A subclass overrides `_fits`. If threads should not wait in order of arrival, it also
    overrides `_place`.

    Args:
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        name: The lock's name in messages; by default the name of the class with a number.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number, or the name is not a string.

    Example:
        >>> from syncprims import QueuedLock
        >>> class Rooms(QueuedLock):
        ...     '''Any number of threads may be in, if all of them are in the same room.'''
        ...     def _fits(self, kind: int, kinds: tuple[int, ...]) -> bool:
        ...         return all(each == kind for each in kinds)
        ...
        >>> rooms = Rooms(timeout=2.0)
        >>> with rooms.of(1):
        ...     len(rooms.holders)
        1

    **Fairness.** Waiting threads form a queue, in order of arrival unless `_place` says otherwise. Only the first in
    the queue can go in, and no newcomer overtakes it.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. The body of a
    ``with`` never runs without the lock, and an interrupt (Ctrl-C, or any asynchronous exception) never leaves the lock
    acquired.

    **Differences from threading.** A thread has one hold at most, and only that thread may release it; any other thread
    gets a `RuntimeError`. A thread that would wait forever gets a `DeadlockError`, because it holds the lock already,
    or because all holders wait for it. If only some holders wait for it, no deadlock is reported, because the library
    does not know the rule. A `threading.Condition` works over a `QueuedLock` for one thread at a time. There is one
    gap: if an interrupt or a deadlock ends the wait in which the condition acquires the lock again, the block goes on
    without the lock, and leaving it raises `RuntimeError`. This can't happen over a `TimedLock`.

    **Subclassing.** Override `_fits` and `_place`. They are called while a mutex of the lock is held, so they must be
    short, must not block, and must not use the lock. If they raise an exception, the thread that wants the lock gets
    it, and does not acquire the lock. The hooks of `TimedLock` work too: `_on_wait`, `_on_acquired` and `_on_timeout`.
    You may override public methods, but they don't call each other. ``with`` calls `__enter__` and `__exit__`, but not
    `acquire` and `release`. `hold` and `of` call only `__exit__`, and `acquire_all` none of them.
    """

    __slots__ = ("_give_back", "_holders", "_kinds", "_leaving", "_token")

    def __init__(self, timeout: float | None = None, *, name: str | None = None) -> None:
        super().__init__(timeout, name)
        self._token: Hold[Self] | None = None
        self._holders: Final = _Holders(self._held)
        self._kinds: Final[dict[int, int]] = {}
        # This releases, in C alone. If this thread is among the holds, its hold is removed; otherwise the release is
        # refused. Then the bell is rung. Without the GIL, the thread may be missed among the holds, but not in a copy
        # of them. `max` returns its first argument, which is None.
        copies: Iterator[list[int]] = map(call, repeat(self._held.copy))
        in_a_copy = self._removing_mine(copies, self._refuse_release)
        mine = self._removing_mine(repeat(self._held), partial(next, in_a_copy))
        self._give_back: Final[Callable[[], None]] = partial(
            max, (None,), key=partial(next, map(is_not, mine, self._ringing()))
        )
        self._leaving: Final = leave_at_once(self._give_back)
        self._serial = register(self)

    # -- to be overridden ---------------------------------------------------------------------------------------

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        """Return whether one more hold fits; override this.

        Args:
            kind: The kind of the new hold.
            kinds: The kinds of the present holds, the oldest first.

        Returns:
            Whether the new hold may be added. If it fits now, it must also fit after some of the present holds have
            ended.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has to define _fits(kind, kinds)")

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:  # noqa: ARG002  for those that override it
        """Return the place of a new waiter in the queue; you may override this.

        Args:
            kind: The kind of the hold that the thread waits for.
            kinds: The kinds of the threads that wait already, the first in the queue first.

        Returns:
            Behind how many of these threads it waits; by default behind all.
        """
        return len(kinds)

    # -- what it is ---------------------------------------------------------------------------------------------

    def locked(self) -> bool:
        """Return whether any thread holds the lock right now; never blocks."""
        return bool(self._held)

    def held_by_me(self) -> bool:
        """Return whether the calling thread holds the lock; never blocks."""
        return get_ident() in self._held[:]

    def _inside(self) -> list[int]:
        return self._held[:]

    def _go_in(self, token: int, /) -> bool:
        me, kind, held = get_ident(), _kind_of(token), self._held
        if not self._fits(kind, tuple(map(self._kinds.__getitem__, held[:]))):
            return False
        self._kinds[me] = kind
        held += (me,)
        return True

    def _overtakes(self, token: int, /) -> list[Queued]:
        waiting = self._waiters()
        place = index(self._place(_kind_of(token), tuple(_kind_of(each.token) for each in waiting)))
        return waiting[max(place, 0) :]

    def _holds_like(self, queued: Queued) -> int:
        return self._inside().count(queued.ident)

    def _up_to(self, waiter: int) -> UpTo:
        return None if super()._up_to(waiter) is None else self._holders

    def _must_act(self, queued: Queued, /) -> Collection[UpTo]:  # noqa: ARG002  the same for all
        return self._holders.members()

    def __repr__(self) -> str:
        kind = type(self)
        state = "locked" if self._held else "unlocked"
        return f"<{state} {kind.__module__}.{kind.__qualname__} object {self.name!r} at {id(self):#x}>"

    # -- acquiring and releasing --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Acquire the lock with kind 0; wait at most the constructor's timeout.

        Raises:
            LockTimeoutError: It was not free in time. The error names the holders.
            DeadlockError: This thread holds it already, or all holders wait for this thread.
        """
        if get_ident() in self._held[:]:
            raise own_deadlock(self.name, _ADVICE, self)
        self._take(get_ident(), self._timeout, True)
        return self

    def _enter_within(self, timeout: float | None) -> Self:
        return self._enter_by(0, timeout)

    def _enter_by(self, kind: int, timeout: float | None) -> Self:
        me = get_ident()
        if me in self._held[:]:
            raise own_deadlock(self.name, _ADVICE, self)
        self._take(kind << _IDENT_BITS | me, timeout, True)
        return self

    def _leave(self) -> Leave:
        _ = ONE_DEEP == OTHER_DEEP
        return self._leaving

    __exit__: LeaveInC = LeaveInC(_leave)

    def hold(self, timeout: float | None) -> Hold[Self]:
        """Return a context manager that acquires the lock with kind 0, with this timeout instead of the constructor's.

        Args:
            timeout: How long ``with`` waits, in seconds. None waits forever; 0 does not wait.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        """
        token = self._token
        if token is None or token.timeout is not timeout:
            token = self._token = Hold(self, check_timeout(timeout))
        return token

    def of(self, kind: int, timeout: float | EllipsisType | None = ...) -> KindOfHold[Self]:
        """Return a context manager that acquires the lock with this kind; you may keep it and use it again.

        Args:
            kind: 0 or more.
            timeout: How long ``with`` waits, in seconds; by default the constructor's timeout. None waits forever; 0
                does not wait.

        Raises:
            ValueError: The kind or the timeout is negative, or the timeout is NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
            TypeError: The kind is not an integer, or the timeout is not a number.
        """
        exact = integer(kind, "the kind of a hold")
        if exact < 0:
            raise ValueError(f"the kind of a hold must be 0 or more, not {shown(exact)}")
        return KindOfHold(self, exact, self._timeout if timeout is ... else check_timeout(timeout))

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Acquire the lock with kind 0, like `threading.Lock.acquire`; the constructor's timeout is not used.

        Args:
            blocking: False tries once and does not wait.
            timeout: How long to wait, in seconds. -1, the default, and None wait forever.

        Returns:
            Whether the lock was acquired.

        Raises:
            DeadlockError: The wait has no limit, and this thread holds the lock, or all holders wait for this thread.
            TypeError: ``blocking`` is neither a `bool` nor 0 or 1.
            ValueError: A timeout was given with ``blocking=False``, or it is NaN or a negative number other than -1.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        """
        limit = check_acquire(blocking, timeout)
        if get_ident() not in self._held[:]:
            return self._take(get_ident(), limit, False)
        if limit is None:
            raise own_deadlock(self.name, _ADVICE, self)
        wait_visibly(self, "this thread's own release()", limit, sleep, limit)
        return False

    release: LeaveInC = LeaveInC(
        attrgetter("_give_back"),
        doc="""Release the lock; a C function.

        Raises:
            RuntimeError: The calling thread does not hold it.
        """,
    )
    _release: LeaveInC = LeaveInC(attrgetter("_give_back"))

    def _removing_mine(self, holds: Iterator[list[int]], otherwise: Callable[[int], object]) -> Iterator[object]:
        """Make an iterator that removes this thread's hold with each `next`, or calls `otherwise` if it has none."""
        me: Iterator[int] = map(call, repeat(get_ident))
        ways: tuple[Callable[[int], object], ...] = (otherwise, self._held.remove)
        return map(call, map(ways.__getitem__, map(contains, holds, me)), me)

    def _refuse_release(self, _: int) -> NoReturn:
        holder = self.holder
        why = f"it is held by {describe(holder, self)}, and only its holder may release it" if holder else "it is free"
        raise RuntimeError(f"cannot release un-acquired lock {self.name!r}: {why}")

    def _release_of(self, token: int) -> Callable[[], object]:  # noqa: ARG002  a thread has one hold at most
        return self._give_back

    _in_python: ClassVar[bool] = False

    _observable: ClassVar[Observable] = Observable(
        {
            "__enter__": Event("takes", lambda lock: lock.timeout != 0),
            "_enter_within": Event("takes", lambda _, timeout: timeout != 0),
            "_enter_by": Event("takes", lambda _, __, timeout: timeout != 0),
            "acquire": Event(
                "takes", lambda _, blocking=True, timeout=-1: blocking and (timeout is None or timeout == -1)
            ),
            "release": Event("gives"),
            "_release": Event("gives"),
            "__exit__": Event("gives"),
        },
        is_held=held_by_me,
        undo=lambda lock: lock._give_back(),
    )


def _kind_of(token: int) -> int:
    return token >> _IDENT_BITS


class _Holders:
    """The threads that hold a lock: as far as is known, any of them may let a waiter go on."""

    __slots__ = ("_held", "one_is_enough")

    def __init__(self, held: list[int]) -> None:
        self.one_is_enough: bool = True
        self._held = held

    def members(self) -> Collection[UpTo]:
        """Their idents."""
        return self._held[:]


_L_co = TypeVar("_L_co", bound=QueuedLock, covariant=True)


class KindOfHold(SharedHold[_L_co]):
    """What `QueuedLock.of` returns: a ``with`` on a lock, by a hold of one kind."""

    __slots__ = ("_kind",)

    def __init__(self, lock: _L_co, kind: int, timeout: float | None) -> None:
        super().__init__(lock, timeout)
        self._kind = kind

    def __enter__(self) -> _L_co:
        return self._lock._enter_by(self._kind, self.timeout)

    def _enter_within(self, timeout: float | None) -> _L_co:
        return self._lock._enter_by(self._kind, timeout)

    __exit__: LeaveInC = LeaveInC(attrgetter("_lock.__exit__"))
    _release: LeaveInC = LeaveInC(attrgetter("_lock._release"))

    def __repr__(self) -> str:
        return f"<{self.name!r}, by kind {self._kind} within {self.timeout} s>"
