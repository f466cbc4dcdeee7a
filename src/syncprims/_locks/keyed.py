"""`KeyedLock`: a lock for each key, made when it is asked for, and gone when no thread uses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from contextlib import AbstractContextManager
from itertools import repeat
from operator import call
from typing import ClassVar, Final, NoReturn, Self

from .._core.deadline import check_timeout
from .._core.foreign import words
from .._core.registry import check_name, default_name, new_serial
from .._core.state import State
from .hold import Hold
from .in_use import InUse
from .timed_lock import TimedLock

# A lock is alive as long as it is referred to. A `with` refers to it from before the lock is taken until it is free
# again: by the object on the stack, then by the bound `__exit__`, which is the lock's own. A thread that waits refers
# to it by the frame that does. Only what `acquire()` took may be held without any reference, so each such acquisition
# is noted, and the note refers to the lock.
#
# `release` is a C function, which drops no note. So later calls look at the oldest notes and drop those whose lock is
# free. A note is made by the holder once it has the lock. So if the lock of a note is free, the acquisition that
# made the note is over; if another one has begun since, it has a note of its own. Nothing else has to be locked.

_LOOKED_AT: Final = 2  # notes, by each call that may make one: so there are never many of locks that are free


class KeyedLock(InUse[Hashable, TimedLock]):
    """A `TimedLock` for each key, so that threads exclude each other only if they are about the same thing.

    Use it where one lock would be too coarse and the things to lock are not known beforehand: accounts, files, users.
    It is a hotel's key board: there is a hook for a room as long as its key is out, and none for all the rooms of the
    world.

    ``keyed[key]`` is a real `TimedLock`, with all that this means: ``with``, ``hold(timeout)``, ``acquire``, holders,
    `DeadlockError`, `acquire_all`. Its name is made of both: ``accounts['alice']``. It is the same lock for all who ask
    for an equal key, as long as a thread holds it or waits for it, or any code refers to it. When none does, the lock
    is gone, so that a million keys over a day leave nothing behind.

    Args:
        timeout: How long ``with`` of each lock waits, in seconds; None, the default, is forever and 0 is not at all.
        name: What messages call it; by default ``KeyedLock-7`` or the like.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: It is larger than `threading.TIMEOUT_MAX`.
        TypeError: It is not a number, or the name is not a string.

    Example:
        >>> from syncprims import KeyedLock
        >>> accounts = KeyedLock(timeout=2.0, name="accounts")
        >>> with accounts["alice"]:
        ...     len(accounts)
        1
        >>> len(accounts)
        0
        >>> accounts["alice"].name
        "accounts['alice']"

    To take several keys at once without a deadlock, whatever the order in which other threads list them:

        >>> from syncprims import acquire_all
        >>> with acquire_all(accounts["alice"], accounts["bob"], timeout=2.0):
        ...     print("transfer")
        transfer

    **Fairness.** None, as with `TimedLock`.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. An interrupt
    at any point leaves no lock taken, and no lock or key behind. Of the keys' methods only ``__hash__`` and ``__eq__``
    are called, with no lock held, in the thread that asks for a key, and what they raise comes out there. A key itself
    is dropped when the next lock is made, or by `len`.

    **Differences from threading.** `threading` has nothing like it. What is written by hand, a dictionary of locks,
    grows forever; one that deletes locks after use lets two threads in at once. Between ``keyed[key].acquire()`` and
    ``keyed[key].release()`` no variable has to keep the lock. After such a release it is gone with the next lock that
    is made or acquired, or with `len`.

    A `KeyedLock` is no collection: it can't be iterated over or searched, and it is true also when it is empty. In a
    forked child the locks are as `TimedLock` says: those of other threads are free.

    **Subclassing.** Each lock is of a subclass of `TimedLock` that is internal, so hooks can't be overridden here.
    """

    __slots__ = ("_acquired", "_name", "_serial", "_timeout")

    # Else Python would try 0, 1, 2, …, of which there is no end.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __init__(self, timeout: float | None = None, *, name: str | None = None) -> None:
        super().__init__()
        self._timeout = check_timeout(timeout)
        self._name = check_name(name)
        self._serial = new_serial()
        self._acquired: deque[TimedLock] = deque()

    @property
    def name(self) -> str:
        """What messages call it."""
        return default_name(self, self._serial) if self._name is None else self._name

    @property
    def timeout(self) -> float | None:
        """How long ``with`` of each lock waits, in seconds; None is forever."""
        return self._timeout

    def __getitem__(self, key: Hashable) -> TimedLock:
        """Return the lock of a key; never blocks.

        Args:
            key: Anything that can be the key of a dictionary. Equal keys have the same lock, as ``1`` and ``1.0`` do.

        Raises:
            TypeError: It can't be hashed.
            Exception: What its ``__hash__`` or ``__eq__`` raises.
        """
        # As inherited, in place: a call would cost as much as the rest.
        found = self._refs.get(key)
        lock = None if found is None else found()
        return self._add(key) if lock is None else lock

    def __len__(self) -> int:
        """Return how many locks are in use at this moment: held, waited for or referred to."""
        self._look_at_acquired(len(self._acquired))
        return super().__len__()

    def __bool__(self) -> bool:
        """Return True: whether locks are in use is no reason to take another `KeyedLock`."""
        return True

    def __repr__(self) -> str:
        return f"<syncprims.{type(self).__name__} {self.name!r}, {len(self._refs)} keys>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {self!r}: its locks belong to one process; make one where it is needed")

    def _make(self, key: Hashable) -> TimedLock:
        self._look_at_acquired(_LOOKED_AT)
        return LockOfKey(self, key)

    def _note_acquired(self, lock: TimedLock) -> None:
        self._look_at_acquired(_LOOKED_AT)
        self._acquired.append(lock)

    def _look_at_acquired(self, most: int) -> None:
        """Drop some notes of locks that are free now."""
        try:
            for lock in map(call, repeat(self._acquired.popleft, most)):
                try:
                    if lock.locked():
                        self._acquired.append(lock)
                except BaseException:  # an interrupt
                    self._acquired.append(lock)
                    raise
        except IndexError:  # there is none left
            pass


class LockOfKey(TimedLock):
    """The lock of one key."""

    __slots__ = ("_key", "_keyed")

    def __init__(self, keyed: KeyedLock, key: Hashable) -> None:
        self._keyed = keyed
        self._key = key
        super().__init__(keyed.timeout)

    @property
    def name(self) -> str:
        """What messages call the lock; put together only if one is written."""
        return f"{self._keyed.name}[{words(self._key)}]"

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Take the lock as `TimedLock.acquire` does; it is kept as long as it is held."""
        taken = TimedLock.acquire(self, blocking, timeout)
        if taken:
            try:
                self._keyed._note_acquired(self)
            except BaseException:
                self.release()
                raise
        return taken

    def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
        """Return what `TimedLock.hold` does; it is not kept here, as the two would keep each other alive."""
        return Hold(self, check_timeout(timeout))

    def _state(self) -> State:
        return State(self, type(self._keyed).__name__, self.name, self._owner(), is_lock=True)
