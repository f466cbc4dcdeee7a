"""`TimedSemaphore`: a semaphore with a timeout, whose holders are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from itertools import repeat
from operator import call, neg
from threading import get_ident
from typing import ClassVar, Final, Self, SupportsIndex

from .._core.deadline import check_acquire, check_timeout
from .._core.integers import integer, shown
from .._core.interrupts import ONE_DEEP, OTHER_DEEP, Leave, LeaveInC
from .._core.observing import Event, Observable
from .._core.registry import register
from .._core.waits import UpTo
from .hold import Hold
from .shared_lock import Queued, SharedLock

# A hold by `with` has the thread's ident as its token among the holds. A permit from `acquire` has the negative ident,
# because any thread may give it back: the search for deadlocks tells the two apart by the sign, and messages and forks
# use the ident.

# `n` is nearly always this object, and a comparison with it costs less than a check of its type.
_ONE: Final = 1


class TimedSemaphore(SharedLock):
    """A `threading.BoundedSemaphore` with a timeout, which names the threads that have its permits.

    Use it to limit how many threads do something at the same time, for example download, or use a database connection.
    Think of a cloakroom with five hooks: when all are taken, guests wait in the order of arrival, and can ask whose
    coats hang there.

    Args:
        permits: The number of permits; 1 or more.
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        name: The semaphore's name in messages. The default is like ``TimedSemaphore-7``.

    Raises:
        ValueError: ``permits`` is less than 1, or the timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: ``permits`` is not an integer, the timeout is not a number, or the name is not a string.

    Example:
        >>> from syncprims import TimedSemaphore
        >>> connections = TimedSemaphore(5, timeout=2.0, name="connections")
        >>> with connections:
        ...     connections.value
        4

    **Fairness.** First come, first served: threads get permits in the order in which they began to wait, and no
    newcomer overtakes them. A try that does not wait (``acquire(False)``, ``hold(0)``) fails while others wait.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. The body of a
    ``with`` never runs without a permit, and an interrupt (Ctrl-C, or any asynchronous exception) never loses one. But
    `release` is written in Python, so an interrupt on entry to it leaves the permit taken.

    **Differences from threading.** A permit from ``with`` or `hold` belongs to its thread, which gives it back by
    leaving the block. `release` gives back a permit from `acquire`, from any thread. It never raises the number of
    permits: one release too many raises `ValueError`, as with `threading.BoundedSemaphore`. A thread gets a
    `DeadlockError` if all permits belong to threads that wait for it. If one permit is from `acquire`, there is no
    deadlock, because any thread may give the permit back. An `acquire` with a finite timeout never raises the error; it
    returns False when the time is up. A `threading.Condition` does not work over a `TimedSemaphore`; put a
    `LockAdapter` around it, or use a `TimedLock`.

    **Subclassing.** The hooks are those of `TimedLock`: `_on_wait`, `_on_acquired` and `_on_timeout`. You may override
    public methods too, but they don't call each other. ``with`` calls `__enter__` and `__exit__`, but not `acquire` and
    `release`. `hold` calls only `__exit__`, and `acquire_all` none of them.
    """

    __slots__ = ("_give_back", "_last", "_permits", "_takers", "_token")

    def __init__(self, permits: SupportsIndex, timeout: float | None = None, *, name: str | None = None) -> None:
        super().__init__(timeout, name)
        self._permits: Final = _at_least_one(permits, "permits")
        self._last: Final = self._permits - 1
        # `release` calls this first: it gives back a permit that this thread took by `acquire`. It looks up the thread
        # in C, because no Python code may run before it.
        mine: Iterator[int] = map(neg, map(call, repeat(get_ident)))
        self._give_back: Final = self._removing(self._held, mine)
        self._takers: Final = _Takers(self._held, self._permits)
        self._token: Hold[Self] | None = None
        self._serial = register(self)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def permits(self) -> int:
        """The number of permits, free and taken."""
        return self._permits

    @property
    def value(self) -> int:
        """How many permits are free right now; never blocks."""
        return max(0, self._permits - len(self._held))

    def held_by_me(self) -> bool:
        """Return whether the calling thread has a permit by ``with`` or `hold`; never blocks.

        Example:
            >>> from syncprims import TimedSemaphore
            >>> TimedSemaphore(3).held_by_me()
            False
        """
        return get_ident() in self._held[:]

    def _inside(self) -> list[int]:
        return self._held[: self._permits]

    def _go_in(self, token: int, /) -> bool:
        held = self._held
        if held[self._last :]:
            return False
        held += (token,)
        if not held[self._permits :]:  # not decided by its place: `remove` takes the first of equal tokens
            return True
        try:
            held.remove(token)
        finally:
            self._ring()
        return False

    def _up_to(self, waiter: int) -> UpTo:
        return None if super()._up_to(waiter) is None else self._takers

    def _must_act(self, queued: Queued, /) -> Collection[UpTo]:  # noqa: ARG002  the same for all
        return self._takers.members()

    def __repr__(self) -> str:
        kind = type(self)
        module = "syncprims" if kind.__module__ == __name__ else kind.__module__
        free = f"{self.value} of {self._permits} free"
        return f"<{module}.{kind.__qualname__} object {self.name!r}, {free}, at {id(self):#x}>"

    # -- taking a permit ---------------------------------------------------------------------------------------- Each
    # of these methods repeats the fast path, because a call costs as much as the rest. A pattern checks the length
    # without a call, and costs less than a slice.

    def __enter__(self) -> Self:
        """Take a permit; wait at most the constructor's timeout.

        Returns:
            The semaphore.

        Raises:
            LockTimeoutError: No permit was free in time. The error names the threads that had them.
            DeadlockError: All permits belong to threads that wait for this one.
        """
        me = get_ident()
        if self._open:
            held = self._held
            held += (me,)
            match held:
                case [_]:
                    return self
            if not held[self._permits :]:
                return self
            try:
                held.remove(me)
            finally:
                self._ring()
        self._take(me, self._timeout, True)
        return self

    def _enter_within(self, timeout: float | None) -> Self:
        me = get_ident()
        if self._open and timeout != 0:
            held = self._held
            held += (me,)
            match held:
                case [_]:
                    return self
            if not held[self._permits :]:
                return self
            try:
                held.remove(me)
            finally:
                self._ring()
        self._take(me, timeout, True)
        return self

    def _leave(self) -> Leave:
        _ = ONE_DEEP == OTHER_DEEP
        try:
            return self._leaves[get_ident()]
        except KeyError:
            return self._leave_of(get_ident())

    __exit__: LeaveInC = LeaveInC(_leave)

    def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
        """Return a context manager that takes a permit with this timeout instead of the constructor's.

        You may keep it and use it again, even in several threads. The semaphore itself keeps the last one that was
        made.

        Args:
            timeout: How long ``with`` waits, in seconds. None waits forever; 0 does not wait.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.

        Example:
            >>> from syncprims import TimedSemaphore
            >>> downloads = TimedSemaphore(2)
            >>> with downloads.hold(0.5):
            ...     print("at most half a second")
            at most half a second
        """
        token = self._token
        if token is None or (token.timeout is not timeout and token.timeout != (timeout := check_timeout(timeout))):
            token = self._token = Hold(self, check_timeout(timeout))
        return token

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Take a permit that any thread may give back by `release`; the constructor's timeout is not used.

        Args:
            blocking: False tries once and does not wait.
            timeout: How long to wait, in seconds. -1, the default, and None wait forever.

        Returns:
            Whether a permit was taken. False means that the try failed or the time was up.

        Raises:
            DeadlockError: The wait has no limit, and all permits belong to threads that wait for this one. A wait with
                a limit never raises it.
            TypeError: ``blocking`` is neither a `bool` nor 0 or 1.
            ValueError: A timeout was given with ``blocking=False``, or it is NaN or a negative number other than -1.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.

        Example:
            >>> from syncprims import TimedSemaphore
            >>> slots = TimedSemaphore(1)
            >>> slots.acquire(), slots.acquire(False)
            (True, False)
            >>> slots.release()
        """
        return self._take(-get_ident(), check_acquire(blocking, timeout), False)

    def release(self, n: int = 1) -> None:
        """Give back permits that `acquire` took, in this thread or another.

        Args:
            n: How many; 1 or more.

        Raises:
            ValueError: Fewer than `n` permits are taken by `acquire`, or `n` is less than 1. Nothing is changed.
            TypeError: `n` is not an integer.
        """
        if n is _ONE:
            try:
                self._give_back()  # a permit of this thread first, so that messages name the right holders
            except ValueError:
                self._give_back_others(1)
        else:
            self._give_back_others(_at_least_one(n, "n"))

    def _give_back_others(self, number: int) -> None:
        left = number
        while left:
            left -= self._give_back_some(left, number)

    def _give_back_some(self, left: int, number: int) -> int:
        with self._guard:
            taken = sorted((token for token in self._held[:] if token < 0), key=(-get_ident()).__ne__)
            if left > len(taken):
                raise self._too_many(number, len(taken))
            removing = [self._removing(self._held, repeat(token)) for token in taken[:left]]
            given_back: deque[object] = deque()
            try:
                given_back.extend(map(call, removing))
            except ValueError:
                pass  # the thread of that permit gave it back at the same time; look for another one
            return len(given_back)

    def _too_many(self, number: int, taken: int) -> ValueError:
        held = len(self._held) - taken
        by_with = f", and {held} by `with` or hold(), which give back their own" if held > 0 else ""
        return ValueError(
            f"cannot release {number} of {self.name!r}: {taken} of its {self._permits} permits "
            f"{'is' if taken == 1 else 'are'} taken by acquire(){by_with}"
        )

    @LeaveInC
    def _release(self) -> Callable[[], object]:
        """The C function that gives back a permit of this thread."""
        _ = ONE_DEEP == OTHER_DEEP
        return self._release_of(get_ident())

    _in_python: ClassVar[bool] = False

    def _undo(self) -> None:
        if self.held_by_me():
            self._release_of(get_ident())()

    _observable: ClassVar[Observable] = Observable(
        {
            "__enter__": Event("takes", lambda semaphore: semaphore.timeout != 0),
            "_enter_within": Event("takes", lambda _, timeout: timeout != 0),
            "_release": Event("gives"),
            "__exit__": Event("gives"),
        },
        is_held=held_by_me,
        undo=_undo,
    )


class _Takers:
    """The threads that have the permits: any of them can let a waiter go on."""

    __slots__ = ("_held", "_permits", "one_is_enough")

    def __init__(self, held: list[int], permits: int) -> None:
        self.one_is_enough: bool = True
        self._held = held
        self._permits = permits

    def members(self) -> Collection[UpTo]:
        """Their idents, with None for a permit that any thread may give back; empty if a permit is free."""
        held = self._held[: self._permits]
        return [token if token > 0 else None for token in held] if len(held) == self._permits else ()


def _at_least_one(number: SupportsIndex, what: str) -> int:
    exact = integer(number, what)
    if exact < 1:
        raise ValueError(f"{what} must be 1 or more, not {shown(exact)}")
    return exact
