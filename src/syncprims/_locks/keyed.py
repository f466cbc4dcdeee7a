"""`KeyedLock`: a lock for each key, made on request, and dropped when no thread uses it."""

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

# A lock is alive as long as code refers to it. A `with` refers to it from before the lock is acquired until it is free
# again: by the object on the stack, then by the bound `__exit__`, which is the lock's own. The frame of a waiting
# thread refers to it too. Only a lock that `acquire()` acquired may be held without any reference. So each such
# acquisition is noted, and the note refers to the lock.
#
# `release` is a C function and drops no note. So later calls look at the oldest notes, and drop those whose lock is
# free. The holder makes the note once it has the lock. So if the lock of a note is free, the acquisition that the note
# belongs to is over; a later acquisition has its own note. Nothing else has to be locked.

_LOOKED_AT: Final = 2  # notes, by each call that may make one, so that few notes belong to free locks


class KeyedLock(InUse[Hashable, TimedLock]):
    """A `TimedLock` for each key, so that threads wait for each other only if they use the same key.

    Use it if one lock would be too coarse, and you don't know beforehand which things need a lock: accounts, files,
    users. Think of the key board of a hotel that has a hook only for rooms whose key is out.

    ``keyed[key]`` is a real `TimedLock` with all its methods and guarantees. Its name contains the key, for example
    ``accounts['alice']``. You get the same lock for an equal key as long as a thread holds it or waits for it, or any
    code refers to it. After that the lock is gone, so a million keys in a day leave nothing behind.

    Args:
        timeout: How long ``with`` of each lock waits, in seconds. None, the default, waits forever; 0 does not wait.
        name: The name in messages. The default is like ``KeyedLock-7``.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number, or the name is not a string.

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

    To lock several keys at once without a deadlock, even if other threads list them in a different order:

        >>> from syncprims import acquire_all
        >>> with acquire_all(accounts["alice"], accounts["bob"], timeout=2.0):
        ...     print("transfer")
        transfer

    **Fairness.** None, as with `TimedLock`.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. An interrupt
    at any point leaves no lock acquired, and no lock or key behind. Only ``__hash__`` and ``__eq__`` of a key are
    called, in the thread that asks for the key, with no lock held; that thread gets what they raise. A key is dropped
    when the next lock is made, or by `len`.

    **Differences from threading.** `threading` has nothing like it. A hand-written dictionary of locks grows forever;
    if it deletes locks after use, it may let in two threads at once. You may call ``keyed[key].acquire()`` and later
    ``keyed[key].release()``, and need not keep the lock in a variable. After such a release, the lock is dropped when
    the next one is made or acquired, or by `len`. Without the GIL, a lock may count as in use until the thread that
    made it runs next.

    A `KeyedLock` is not a collection: you can't iterate over it or search it, and it is true even when it is empty. In
    a forked child, as with `TimedLock`, the locks that other threads held are free.

    **Subclassing.** The locks are of an internal subclass of `TimedLock`, so hooks can't be overridden here.
    """

    __slots__ = ("_acquired", "_name", "_serial", "_timeout")

    # Without this, iteration would try the keys 0, 1, 2, … and never end.
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
        """The name in messages."""
        return default_name(self, self._serial) if self._name is None else self._name

    @property
    def timeout(self) -> float | None:
        """How long ``with`` of each lock waits, in seconds; None waits forever."""
        return self._timeout

    def __getitem__(self, key: Hashable) -> TimedLock:
        """Return the lock of a key; never blocks.

        Args:
            key: Anything that can be a dictionary's key. Equal keys have the same lock, for example ``1`` and ``1.0``.

        Raises:
            TypeError: It can't be hashed.
            Exception: What its ``__hash__`` or ``__eq__`` raises.
        """
        # The inherited method, inlined: a call would cost as much as the rest.
        found = self._refs.get(key)
        lock = None if found is None else found()
        return self._add(key) if lock is None else lock

    def __len__(self) -> int:
        """Return how many locks are in use right now: held, waited for or referred to.

        Without the GIL, a lock may count as in use until the thread that made it runs next.
        """
        self._look_at_acquired(len(self._acquired))
        return super().__len__()

    def __bool__(self) -> bool:
        """Return True even when no lock is in use, so that ``keyed or KeyedLock()`` keeps this one."""
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
        except IndexError:  # no note is left
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
        """The lock's name in messages, which is made only when it is needed."""
        return f"{self._keyed.name}[{words(self._key)}]"

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Acquire the lock like `TimedLock.acquire`; it stays alive as long as it is held."""
        taken = TimedLock.acquire(self, blocking, timeout)
        if taken:
            try:
                self._keyed._note_acquired(self)
            except BaseException:
                self.release()
                raise
        return taken

    def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
        """Return the same as `TimedLock.hold`. The lock does not store it, because each would keep the other alive."""
        return Hold(self, check_timeout(timeout))

    def _state(self) -> State:
        return State(self, type(self._keyed).__name__, self.name, self._owner(), is_lock=True)
