"""`TimedRWLock`: many readers or one writer, with a timeout and known holders."""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import attrgetter
from threading import get_ident
from types import EllipsisType
from typing import Any, ClassVar, Final, Literal, Self, TypeVar

from .._core.deadline import check_timeout
from .._core.deadlocks import own_deadlock
from .._core.greenlets import refuse_greenlets
from .._core.holders import describe, holder_of
from .._core.interrupts import ONE_DEEP, OTHER_DEEP, Leave, LeaveInC
from .._core.observing import Event, Observable
from .._core.registry import register
from .._core.waits import UpTo
from ..facts import Holder
from .shared_lock import Queued, SharedHold, SharedLock

# A reader's token among the holds is the ident of its thread, and a writer's is the negative ident. Writers come first,
# so the first hold shows whether the lock is held for reading or writing. A writer that also reads is in the list
# twice.

_ADVICE: Final = (
    "leave read() before you enter write(), or enter write() from the start: a writer may read, and keeps reading if "
    "it leaves write() first"
)


class TimedRWLock(SharedLock):
    """A lock for many readers or one writer, with a timeout, which names its holders and refuses to deadlock.

    Use it for data that many threads read and few change, if reading takes a while: a configuration, a routing table,
    an index. Think of a notice board: any number of people can read it at the same time. A writer who wants to
    pin up a new notice waits until they have gone, and newcomers wait behind the writer.

    Args:
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        name: The lock's name in messages. The default is like ``TimedRWLock-7``.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number, or the name is not a string.

    Example:
        >>> from syncprims import TimedRWLock
        >>> routes = TimedRWLock(timeout=2.0, name="routes")
        >>> with routes.read():
        ...     routes.held_by_me()
        'read'
        >>> with routes.write():
        ...     routes.held_by_me()
        'write'

    A reader may read again, even while a writer waits. A writer may write again, and may also read. If it enters
    ``read()`` before it leaves ``write()``, it goes on as a reader, and no other writer comes in between. A reader that
    wants to write gets a `DeadlockError` at once, because two such readers would wait for each other.

    **Fairness.** First come, first served: new readers wait behind a waiting writer, and readers that wait next to each
    other go in together. So a stream of readers can't starve a writer, and a stream of writers can't starve a reader.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. The body of a
    ``with`` never runs without the lock, and an interrupt (Ctrl-C, or any asynchronous exception) never leaves the lock
    acquired.

    **Differences from threading.** `threading` has no such lock. A thread that would wait forever gets a
    `DeadlockError`. A writer waits for all readers, and a reader for the writer that writes or waits before it. Readers
    behind a writer that waits with a limit are not in a deadlock, because they go in when the writer gives up.

    **Subclassing.** The hooks are those of `TimedLock`: `_on_wait`, `_on_acquired` and `_on_timeout`, for readers and
    writers alike. In `_on_acquired`, `held_by_me` returns whether this thread reads or writes. You may override public
    methods too, but they don't call each other, and `acquire_all` does not call `read` and `write`.
    """

    __slots__ = ("_reading", "_reading_within", "_writing", "_writing_within")

    def __init__(self, timeout: float | None = None, *, name: str | None = None) -> None:
        super().__init__(timeout, name)
        # The results of `read` and `write`: without a timeout, and with the timeout that was given last.
        self._reading: Final[Reading[Any]] = Reading(self, self._timeout)
        self._writing: Final[Writing[Any]] = Writing(self, self._timeout)
        self._reading_within = self._reading
        self._writing_within = self._writing
        self._serial = register(self)

    # -- what it is ---------------------------------------------------------------------------------------------

    def read_locked(self) -> bool:
        """Return whether any thread reads right now; never blocks."""
        return any(token > 0 for token in self._inside())

    def write_locked(self) -> bool:
        """Return whether any thread writes right now; never blocks."""
        return any(token < 0 for token in self._held[:1])

    def held_by_me(self) -> Literal["read", "write"] | None:
        """Return how the calling thread holds the lock: ``"read"``, ``"write"`` (also if it reads too), or None.

        Example:
            >>> from syncprims import TimedRWLock
            >>> lock = TimedRWLock()
            >>> with lock.write(), lock.read():
            ...     lock.held_by_me()
            'write'
            >>> print(lock.held_by_me())
            None
        """
        me, held = get_ident(), self._held[:]
        return "write" if -me in held else "read" if me in held else None

    def _inside(self) -> list[int]:
        held = self._held[:]
        if not held or held[0] > 0:
            return [token for token in held if token > 0]
        return [token for token in held if abs(token) == -held[0]]

    def _go_in(self, token: int, /) -> bool:
        held = self._held
        if token > 0:
            if self.write_locked():
                return False
            held += (token,)
            if held[0] > 0:
                return True
        else:
            if held:
                return False
            held += (token,)
            if not held[1:]:
                return True
        try:
            held.remove(token)
        finally:
            self._ring()
        return False

    def _must_act(self, queued: Queued, /) -> Collection[UpTo]:
        writes = queued.token < 0
        holding = [abs(token) for token in self._held[:] if writes or token < 0]
        # A writer with a limit gives up by itself, so no thread waits forever because of it.
        ahead = [each.ident for each in self._ahead_of(queued) if each.endless and (writes or each.token < 0)]
        return [*holding, *ahead]

    def __repr__(self) -> str:
        kind = type(self)
        module = "syncprims" if kind.__module__ == __name__ else kind.__module__
        readers = len({token for token in self._held[:] if token > 0})
        state = "written" if self.write_locked() else f"read by {readers}" if readers else "unlocked"
        return f"<{state} {module}.{kind.__qualname__} object {self.name!r} at {id(self):#x}>"

    # -- acquiring it -------------------------------------------------------------------------------------------

    def read(self, timeout: float | EllipsisType | None = ...) -> Reading[Self]:
        """Return a context manager that acquires the lock for reading, beside other readers.

        You may keep it and use it again, even in several threads; ``as`` gives the lock.

        Args:
            timeout: How long to wait, in seconds; by default the constructor's timeout. None waits forever; 0 does not
                wait.

        Raises:
            LockTimeoutError: On entry: the lock was not free in time. The error names the thread that was writing, or
                was waiting to write.
            DeadlockError: On entry: the wait would never end.
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
            TypeError: The timeout is not a number.

        Example:
            >>> from syncprims import TimedRWLock
            >>> settings = TimedRWLock()
            >>> with settings.read(timeout=0.5):
            ...     print("at most half a second")
            at most half a second
        """
        if timeout is ...:
            return self._reading
        reading = self._reading_within
        if timeout is not reading.timeout:
            reading = self._reading_within = Reading(self, check_timeout(timeout))
        return reading

    def write(self, timeout: float | EllipsisType | None = ...) -> Writing[Self]:
        """Return a context manager that acquires the lock for writing, for this thread alone.

        You may keep it and use it again, even in several threads; ``as`` gives the lock.

        Args:
            timeout: How long to wait, in seconds; by default the constructor's timeout. None waits forever; 0 does not
                wait.

        Raises:
            LockTimeoutError: On entry: the lock was not free in time. The error names the threads that read or wrote.
            DeadlockError: On entry: this thread reads, or the wait would never end.
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
            TypeError: The timeout is not a number.
        """
        if timeout is ...:
            return self._writing
        writing = self._writing_within
        if timeout is not writing.timeout:
            writing = self._writing_within = Writing(self, check_timeout(timeout))
        return writing

    def _read_within(self, timeout: float | None) -> Self:
        me = get_ident()
        held = self._held
        if self._open and (timeout is None or timeout != 0.0):
            held += (me,)
            if held[0] > 0:
                return self
            try:
                held.remove(me)
            finally:
                self._ring()
        tokens = held[:]
        if me in tokens or -me in tokens:
            self._take_again(me, len(held))
        else:
            self._take(me, timeout, True)
        return self

    def _write_within(self, timeout: float | None) -> Self:
        me = get_ident()
        held = self._held
        if self._open and not held and (timeout is None or timeout != 0.0):  # not for a writer: its token stays first
            held += (-me,)
            match held:  # a pattern is no call, so no interrupt comes before it
                case [_]:
                    return self
            try:
                held.remove(-me)
            finally:
                self._ring()
        tokens = held[:]
        if -me in tokens:
            self._take_again(-me, 0)
        elif me in tokens:
            raise own_deadlock(self.name, _ADVICE, self)
        else:
            self._take(-me, timeout, True)
        return self

    def _take_again(self, token: int, place: int) -> None:
        """Add a hold beside another one of the same thread, at this place or behind it; it always fits."""
        refuse_greenlets()
        release = self._release_of(token)
        self._held[place:place] = (token,)
        try:
            self._on_acquired(0.0)
        except BaseException:
            release()
            raise

    def _say_holders(self, holders: tuple[Holder, ...], token: int) -> str:
        writers = [each.ident for each in self._waiters() if each.token < 0]
        if token > 0 and not self.write_locked() and writers:
            return f"held up by a writer that waits: {describe(holder_of(writers[0]), self)}"
        return super()._say_holders(holders, token)

    @LeaveInC
    def _leave_reading(self) -> Leave:
        _ = ONE_DEEP == OTHER_DEEP
        try:
            return self._leaves[get_ident()]
        except KeyError:
            return self._leave_of(get_ident())

    @LeaveInC
    def _leave_writing(self) -> Leave:
        _ = ONE_DEEP == OTHER_DEEP
        try:
            return self._leaves[-get_ident()]
        except KeyError:
            return self._leave_of(-get_ident())

    # The same without arguments.

    @LeaveInC
    def _release_reading(self) -> Callable[[], object]:
        _ = ONE_DEEP == OTHER_DEEP
        return self._release_of(get_ident())

    @LeaveInC
    def _release_writing(self) -> Callable[[], object]:
        _ = ONE_DEEP == OTHER_DEEP
        return self._release_of(-get_ident())

    _observable: ClassVar[Observable] = Observable(
        {
            "_read_within": Event("takes", lambda _, timeout: timeout != 0),
            "_write_within": Event("takes", lambda _, timeout: timeout != 0),
            "_leave_reading": Event("gives"),
            "_leave_writing": Event("gives"),
            "_release_reading": Event("gives"),
            "_release_writing": Event("gives"),
        },
        is_held=lambda lock: lock.held_by_me() is not None,
    )


_L_co = TypeVar("_L_co", bound=TimedRWLock, covariant=True)


class _Side(SharedHold[_L_co]):
    """A ``with`` on a reader-writer lock, to read or to write."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} within {self.timeout} s>"


class Reading(_Side[_L_co]):
    """The context manager that `TimedRWLock.read` returns."""

    __slots__ = ()

    def __enter__(self) -> _L_co:
        return self._lock._read_within(self.timeout)

    def _enter_within(self, timeout: float | None) -> _L_co:
        return self._lock._read_within(timeout)

    __exit__: LeaveInC = LeaveInC(attrgetter("_lock._leave_reading"))
    _release: LeaveInC = LeaveInC(attrgetter("_lock._release_reading"))


class Writing(_Side[_L_co]):
    """The context manager that `TimedRWLock.write` returns."""

    __slots__ = ()

    def __enter__(self) -> _L_co:
        return self._lock._write_within(self.timeout)

    def _enter_within(self, timeout: float | None) -> _L_co:
        return self._lock._write_within(timeout)

    __exit__: LeaveInC = LeaveInC(attrgetter("_lock._leave_writing"))
    _release: LeaveInC = LeaveInC(attrgetter("_lock._release_writing"))
