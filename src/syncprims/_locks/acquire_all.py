"""`acquire_all`: acquires several locks, in the same order everywhere, so that they can't deadlock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter, call
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from .._core.deadline import Deadline, check_timeout
from .._core.foreign import error_words, note, words
from .._core.interrupts import Entered, Leave, LeaveInC, exhaust, finish, leave_by, leaving
from .._core.state import Named
from ..errors import LockTimeoutError
from .surface import rank_of, whole_of
from .timed_lock import TimedLock, TimedRLock

if TYPE_CHECKING:
    from .lock_adapter import LockAdapter
    from .queued_lock import KindOfHold, QueuedLock
    from .rw_lock import Reading, TimedRWLock, Writing
    from .semaphore import TimedSemaphore


class Part(Named, Protocol):
    """A lock that can be acquired together with others, by methods that no subclass overrides."""

    @property
    def _in_python(self) -> bool:
        """Whether its release runs Python code."""

    @property
    def _release(self) -> Callable[[], object]:
        """The C function that releases it."""

    def _enter_within(self, timeout: float | None, /) -> object:
        """Acquire it within this many seconds, or raise."""


def acquire_all(
    *locks: TimedLock
    | LockAdapter
    | TimedSemaphore
    | QueuedLock
    | KindOfHold[QueuedLock]
    | Reading[TimedRWLock]
    | Writing[TimedRWLock],
    timeout: float | None = None,
) -> AbstractContextManager[None]:
    """Return a context manager that acquires all the locks in one global order, and releases them at the end.

    Threads that acquire the same locks through this function can't deadlock with each other, even if they list the
    locks in different orders. The locks are acquired in the order of their creation, and released in the reverse order.
    Locks on a server come after the others, in the order of their names. You may use the context manager again, even in
    several threads.

    Args:
        *locks: Any number of `TimedLock`, `TimedRLock`, `LockAdapter`, `TimedSemaphore`, and results of
            `TimedRWLock.read` and `TimedRWLock.write`; no lock twice.
        timeout: How long to wait for all of them together, in seconds. None, the default, waits forever; 0 does not
            wait. The locks' own timeouts are not used.

    Raises:
        ValueError: A lock is given twice, or the timeout is negative or NaN.
        TypeError: An argument is not a lock of these kinds. Wrap other locks in a ``LockAdapter``; pass the ``read()``
            or ``write()`` of a `TimedRWLock`.
        LockTimeoutError: On entry: a lock was not free in time. None of them is held.
        DeadlockError: On entry: this thread holds one of them already, or the wait for one would complete a cycle. The
            thread holds what it held before.

    An interrupt while entering or leaving leaves no lock acquired.

    Example:
        >>> from syncprims import TimedLock, acquire_all
        >>> mine, yours = TimedLock(name="mine"), TimedLock(name="yours")
        >>> with acquire_all(yours, mine, timeout=1.0):
        ...     mine.held_by_me() and yours.held_by_me()
        True
    """
    are_plain = True
    for lock in locks:
        if type(lock) is TimedLock or type(lock) is TimedRLock:
            continue
        are_plain = False
        if not hasattr(type(lock), "_enter_within"):
            advice = "give them one by one" if isinstance(lock, (list, tuple)) else "wrap it in a LockAdapter"
            if hasattr(lock, "_read_within"):
                advice = "give its read() or its write()"
            raise TypeError(f"acquire_all takes locks of this library, not {words(lock)}; {advice}")
    wholes: Sequence[object] = locks if are_plain else [whole_of(lock) for lock in locks]
    if len(set(map(id, wholes))) < len(locks):
        twice = next(
            lock for lock, whole in zip(locks, wholes, strict=True) if sum(whole is each for each in wholes) > 1
        )
        raise ValueError(f"acquire_all got {twice.name!r} more than once; give it each lock once")
    in_order = sorted(locks, key=_serial_of if are_plain else rank_of)  # of plain locks, both give the same order
    in_python = not are_plain and any(lock._in_python for lock in locks)
    return _All(in_order, check_timeout(timeout), in_python)


_serial_of = attrgetter("_serial")


class _Mine(Entered):
    """The holds of one thread: for each entry its token, then the functions that release the locks, the latest last.

    Attributes:
        letting_go: An iterator that releases everything from the entry of the expected token on.
    """

    __slots__ = ("letting_go",)

    letting_go: Iterator[object] | None

    def __init__(self) -> None:
        super().__init__()
        self.letting_go = None


class _All:
    """The context manager that `acquire_all` returns."""

    __slots__ = ("_entered", "_in_python", "_locks", "_timeout")

    def __init__(self, locks: Sequence[Part], timeout: float | None, in_python: bool) -> None:
        self._locks = locks
        self._timeout = timeout
        self._in_python = in_python  # whether the release of at least one lock runs Python code
        # One item for each thread that uses it.
        self._entered: dict[int, _Mine] = {}

    def __enter__(self) -> None:
        mine = self._entered.get(get_ident())
        if mine is None:
            mine = self._mine()
        token, letting_go = mine.expected, mine.letting_go
        mine.expected = mine.letting_go = None
        if letting_go is None:  # entered without a `with`
            token = object()
            letting_go = map(call, iter(mine.pop, token))
        deadline = None if self._timeout is None else Deadline(self._timeout)
        mine.append(token)
        try:
            for lock in self._locks:
                left = None if deadline is None else deadline.remaining()
                release: Callable[[], object] = lock._release
                # No interrupt comes between the return of this Python function and the append.
                lock._enter_within(left)
                mine.append(release)
        except BaseException as error:
            try:
                exhaust(letting_go)
            except BaseException as failure:  # noqa: BLE001  raised, or noted
                try:
                    exhaust(letting_go)  # release the rest first
                except BaseException as another:  # noqa: BLE001  raised, or noted
                    finish(letting_go, [failure, another], error, self)
                else:
                    finish(letting_go, [failure], error, self)
            if deadline is not None and isinstance(error, LockTimeoutError):
                # The lock was given only the time that the locks before it had left.
                error.timeout = self._timeout
                note(error, f"acquire_all() had {self._timeout} s for all {len(self._locks)} locks together")
            raise

    def _leave(self) -> Leave:
        mine = self._entered.get(get_ident())
        if mine is None:
            mine = self._mine()
        token = mine.expected = object()
        letting_go = mine.letting_go = map(call, iter(mine.pop, token))
        generator = leaving(self, mine, token, letting_go)
        return leave_by(generator, in_python=True) if self._in_python else leave_by(generator)

    __exit__ = LeaveInC(_leave)

    def _mine(self) -> _Mine:
        me = get_ident()
        mine = self._entered.get(me)
        return self._entered.setdefault(me, _Mine()) if mine is None else mine

    def _letting_go(self) -> Iterator[object]:
        """Return an iterator that releases everything from the last entry on."""
        mine = self._mine()
        if not mine:
            raise RuntimeError(f"cannot leave {self!r}: this thread has not entered it")
        token = next(each for each in reversed(mine) if type(each) is object)
        return map(call, iter(mine.pop, token))

    def _note(self, error: BaseException, failure: BaseException) -> None:
        """Note a failed release on the exception that is being raised, without replacing that exception."""
        note(error, f"then the release of a lock failed too: {error_words(failure)}")

    def __repr__(self) -> str:
        return f"acquire_all({', '.join(repr(lock.name) for lock in self._locks)}, timeout={self._timeout})"
