"""The observed locks, which replace those of `threading`: they behave the same, but show their holders and waiters."""

from __future__ import annotations

import operator
import re
import sys
import threading
from _thread import TIMEOUT_MAX, LockType, allocate_lock, get_ident
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import repeat, starmap
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self, TypeGuard

from .._core.speedups import core, own, put
from .blocked import Blocked
from .origins import WATCH_FOLDER, Origin, name_made, origin_here

if TYPE_CHECKING:

    class _CRLock:
        """The C type behind `threading.RLock`, with the methods that are used here."""

        def __exit__(self, *exc_info: object) -> None: ...
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def _is_owned(self) -> bool: ...
        def _release_save(self) -> Any: ...
        def _acquire_restore(self, state: Any, /) -> None: ...
else:
    from _thread import RLock as _CRLock

# How a lock is taken and left
# ----------------------------
# An interrupt is delivered on entry to a Python function, after a call of C, and at a loop's jump back; nowhere else
# (see `_core.interrupts`). An interrupt must never leave a lock taken that a bare lock would leave free. So:
#
# - Taking is Python, but an iterator of C makes the call that takes the lock, and a `for` gets its result. From that
#   call to the store of the owner and to the `return` no interrupt is delivered, and under the GIL no other thread
#   runs. So no thread ever sees the lock taken without its owner, unless its taker had to wait.
# - `__exit__` is C. It is `lru_cache(0)(operator.call)`: a C object that binds like a function, and so keeps the lock
#   alive as long as the block lasts (as with a bare lock: a lock may live in a weak dictionary alone). It calls the
#   lock, and calling the lock calls the C lock's own `__exit__`.
# - `release` is Python, because it has to see which thread releases. An interrupt on entry to it leaves the lock taken;
#   a bare lock has no such point.
#
# The lock notes the thread that took it last. It does not note its release at the end of a `with`: `blocked` explains
# how the two cases are distinguished.
#
# With the compiled core all of this is in C, except for waiting. The lock is one word, the ident of its owner, so that
# no note is stale, and C notes which instruction of which code took it. Any thread may release it. As with a bare lock,
# an interrupt may come after an `acquire` in C. On 3.14 an interrupt could also come after an `__enter__` in C
# (gh-148874). So there `__enter__` is Python, and takes the lock by reading an attribute, after which no interrupt
# comes.
#
# Rejected: the C lock's own `__exit__` in a slot (a quarter faster, but keeps only the C lock alive); a lock on top of
# `_thread.RLock` (knows its owner, but no other thread can release it, as a plain lock allows); a `with` that notes its
# frame (twice the cost).

_TRIES: Final = repeat((False,))  # the arguments of each `acquire` that does not wait
_ENDLESS: Final[float] = -1

# Until 3.12 `threading.Lock` is a function in C, and locks are of a class that can't be called.
_IS_CLASS: Final = isinstance(threading.Lock, type)

_c_call: Callable[..., Any] = operator.call

# Until 3.11 calls of C count for the limit of recursion, and leaving a `with` takes two more of them than taking does.
# So taking is given the same depth: at the limit the lock is not taken, which is better than not being released.
_COUNTS_C: Final = sys.version_info < (3, 12)

NOTES_TAKER: Final = core is None
"""Whether Python has to note who took a lock, and that it was released."""


if TYPE_CHECKING or core is None:

    class _Lock:
        """A lock in Python alone: it takes and releases a bare lock, and notes the thread that took it last."""

        __slots__ = (
            "__call__",
            "__weakref__",
            "_acquirer",
            "_entries",
            "_inner",
            "_release",
            "_take",
            "_taker",
            "_tries",
        )

        __call__: Callable[..., Any]
        _inner: LockType
        _take: Callable[..., bool]
        _release: Callable[[], None]
        _tries: Iterator[bool]
        _entries: Iterator[bool]
        # The ident of the thread that took it last, or 0; and the same only if it was taken by `acquire`, not by
        # `with`.
        _taker: int
        _acquirer: int
        _origin: Origin
        # The instruction and the code that took it, if that is known.
        _place: ClassVar[tuple[CodeType, int] | None] = None

        def __new__(cls) -> Self:
            self = super().__new__(cls)
            inner = allocate_lock()
            self._inner = inner
            self._take = inner.acquire
            self._release = inner.release
            self.__call__ = inner.__exit__
            self._tries = self._entries = starmap(inner.acquire, _TRIES)
            if _COUNTS_C:
                self._entries = starmap(partial(_c_call, _c_call, inner.acquire), _TRIES)
            self._taker = self._acquirer = 0
            return self

        def __enter__(self) -> bool:
            """Take the lock."""
            me = get_ident()
            for taken in self._entries:
                if taken:
                    self._taker = me
                    return True
                break
            return _wait(self, None, by_with=True)

        if TYPE_CHECKING:

            def __exit__(self, *exc_info: object) -> None: ...
        else:
            __exit__ = lru_cache(maxsize=0)(_c_call)

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            """Acquire the lock, like a bare one."""
            me = get_ident()
            endless = timeout is _ENDLESS
            if blocking is True and (endless or (type(timeout) in (int, float) and 0 < timeout <= TIMEOUT_MAX)):
                for taken in self._tries:
                    if taken:
                        self._taker = self._acquirer = me
                        return True
                    break
                return _wait(self, None if endless else timeout, by_with=False)
            for taken in starmap(self._take, ((blocking, timeout),)):
                if taken:
                    self._taker = self._acquirer = me
                return taken
            raise AssertionError("unreachable")

        def release(self) -> None:
            """Release the lock, even if another thread has acquired it."""
            if self._taker != get_ident():
                self._note_foreign()
            self._taker = self._acquirer = 0
            self._release()

        def _note_foreign(self) -> None:
            if self._inner.locked():
                self._origin.note_release(get_ident())

        def locked(self) -> bool:
            """Whether any thread holds it."""
            return self._inner.locked()

        def _at_fork_reinit(self) -> None:
            self._inner._at_fork_reinit()  # type: ignore[attr-defined]  # it has this method
            self._taker = self._acquirer = 0

else:

    class _Lock(core.Observed):
        """The cases that the core leaves to Python: a taken lock, unusual arguments, and errors."""

        __slots__ = ()

        def __enter__(self) -> bool:
            """Take the lock."""
            return self._entered or _wait(self, None, by_with=True)

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            """Acquire the lock, like a bare one."""
            allocate_lock().acquire(blocking, timeout)  # raises the errors of a bare lock
            if not blocking or timeout == 0:
                return self._acquired
            return self._acquired or _wait(self, None if timeout < 0 else timeout, by_with=False)

        def release(self) -> None:
            """Release the lock, even if another thread has acquired it."""
            allocate_lock().release()  # raises the error of a bare lock: the core calls this if the lock is free

        def _note_foreign(self) -> None:
            self._origin.note_release(get_ident())


class _Like(type):
    """A class that counts as the C class that it replaces, for programs that check the class of an older lock."""

    _of: type

    def __instancecheck__(cls, instance: object) -> bool:
        return type(instance) is cls._of or super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass is cls._of or super().__subclasscheck__(subclass)


class ObservedLock(_Lock, metaclass=_Like):
    """The `threading.Lock` of a watched program; it looks like a bare lock to all code."""

    __slots__ = ("_number", "_origin")

    _origin: Origin
    _number: int

    # The names of a bare lock, because programs may look at them.
    __module__ = "_thread"
    __qualname__ = "lock"
    _of = LockType

    def __new__(cls) -> Self:
        """Make a lock, if the class of locks can be called."""
        if not _IS_CLASS:
            raise TypeError("cannot create '_thread.lock' instances")
        return cls._make(origin_here())

    @classmethod
    def _make(cls, origin: Origin) -> Self:
        self = super().__new__(cls)
        self._origin = origin
        self._number = origin.next_number()
        return self

    def __init_subclass__(cls, *, ours: bool = False) -> None:
        if not ours:
            raise TypeError("type '_thread.lock' is not an acceptable base type")

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def __class__(self) -> type:
        # For `isinstance(lock, _thread.LockType)`; the lock's own class is found without this property.
        return LockType

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("__class__ assignment only supported for mutable types or ModuleType subclasses")

    def __repr__(self) -> str:
        return f"<{'locked' if self.locked() else 'unlocked'} _thread.lock object at {id(self):#x}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("cannot pickle '_thread.lock' object")

    # -- for the watch --------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name in reports."""
        return name_made(self._origin, self._number, "Lock")

    def up_to(self, waiter: int) -> int | None:  # noqa: ARG002  it may be the waiter itself
        """The thread that took it last, if it is taken; or the suspended task that this thread ran then."""
        if not self.locked():
            return None
        taker = self._taker
        return task_holders.get((id(self), taker), taker) or None

    def entered_at(self, ident: int) -> tuple[CodeType, int] | None:
        """The instruction and the code that took it, if that is known, and the thread has it by a `with`."""
        place = self._place
        return place if self._taker == ident and not self._acquirer else None


# This takes a lock, and no interrupt comes after it, so that its caller knows that the lock is taken.
enter_observed: Callable[[ObservedLock], bool] = ObservedLock.__enter__
acquire_observed: Callable[..., bool] = ObservedLock.acquire

own(ObservedLock, "__exit__", "locked")
put(ObservedLock, "acquire", "release", *(() if sys.version_info[:2] == (3, 14) else ("__enter__",)))
for _name in ("acquire", "release", "locked"):
    setattr(ObservedLock, f"{_name}_lock", getattr(ObservedLock, _name))
if core is not None:
    core.pass_over(WATCH_FOLDER)

ObservedLock.__name__ = "lock"
ObservedLock.__doc__ = LockType.__doc__


def factory_of(kind: type[ObservedLock]) -> Callable[[], ObservedLock]:
    """Return the replacement of `threading.Lock`: a class if that is one; else no Python function, which would bind."""
    if _IS_CLASS:
        return kind
    factory = _LockFactory(_make_lock, kind)
    vars(factory).update(__module__="_thread", __name__="allocate_lock", __qualname__="allocate_lock")
    return factory


class _LockFactory(partial[ObservedLock]):
    """It behaves like the replaced function: a copy is itself, and a pickle loads the function of the other process."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return max, ((allocate_lock,),)  # yields the function itself, with builtins alone


def _make_lock(kind: type[ObservedLock]) -> ObservedLock:
    return kind._make(origin_here())


class ObservedRLock(_CRLock, metaclass=_Like):
    """The locks that `threading.RLock` makes while a program is watched. It knows its owner, so nothing is noted."""

    __slots__ = ("_number", "_origin")

    # Pickle finds it under this name, and in another process the class in C.
    __module__ = "threading"
    __qualname__ = "_CRLock"
    _of = _CRLock

    _origin: Origin
    _number: int

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Make a lock, with the arguments that the C class takes."""
        self = super().__new__(cls, *args, **kwargs)
        self._origin = origin_here()
        self._number = self._origin.next_number()
        return self

    def __enter__(self) -> bool:
        """Take the lock."""
        if self._is_owned():
            return self._take_again()
        try:
            if _c_acquire(self, False):
                return True
        except BaseException:
            try:
                _c_release(self)
            except RuntimeError:
                pass
            raise
        return _wait_again(self, None)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, like the one in C."""
        if timeout is _ENDLESS and blocking is True:
            return ObservedRLock.__enter__(self)  # no interrupt comes between the two returns
        if blocking is True and type(timeout) in (int, float) and 0 < timeout <= TIMEOUT_MAX and not self._is_owned():
            return _wait_again(self, timeout)
        for taken in starmap(_c_acquire, ((self, blocking, timeout),)):
            return taken
        raise AssertionError("unreachable")

    def _take_again(self) -> bool:
        """Take a lock that the thread has. This never waits; an iterator makes the call, as in `attempt` of `_core`."""
        for taken in starmap(_c_acquire, ((self,),)):
            return taken
        raise AssertionError("unreachable")

    def _acquire_restore(self, state: Any) -> None:
        """Acquire the lock again, for a condition after its wait."""
        record = Blocked(self, is_endless=True, answers=False)
        try:
            record.publish()
            return _c_acquire_restore(self, state)
        finally:
            record.withdraw()

    def __repr__(self) -> str:
        # Like the C class, which shows the name of a subclass.
        return _c_repr(self).replace(f" {type(self).__name__} object", " _thread.RLock object", 1)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("cannot pickle '_thread.RLock' object")

    @property
    def name(self) -> str:
        """Its name in reports."""
        return name_made(self._origin, self._number, "RLock")

    def entered_at(self, ident: int) -> None:
        """Return None: only the owner can release it, however it was taken."""

    def up_to(self, waiter: int) -> int | None:
        """Its owner."""
        found = _owner_in(_c_repr(self))
        owner = int(found[1]) if found else 0
        return None if owner in (0, waiter) else task_holders.get((id(self), owner), owner)


ObservedRLock.__name__ = "RLock"
ObservedRLock.__doc__ = _CRLock.__doc__

_c_acquire: Callable[..., bool] = _CRLock.acquire
_c_acquire_restore: Callable[..., None] = _CRLock._acquire_restore
_c_release: Callable[..., None] = _CRLock.release
_c_repr: Callable[[_CRLock], str] = _CRLock.__repr__
_owner_in = re.compile(r" owner=(\d+) ").search

# -- waiting -----------------------------------------------------------------------------------------------------------


def _tries_of(record: Blocked, limit: float | None) -> Iterable[tuple[bool, float]]:
    return record.slices() if limit is None else ((True, limit),)


def _wait(lock: Any, limit: float | None, *, by_with: bool) -> bool:
    """Wait for an `ObservedLock` that was not free a moment ago."""
    record = Blocked(lock, is_endless=limit is None, by_with=by_with)
    me, got = get_ident(), False
    take = lock._take if core is None else partial(lock._take, by_with)
    try:
        try:
            record.publish()
            for got in starmap(take, _tries_of(record, limit)):
                if got:
                    if core is None:
                        lock._taker = me
                        lock._acquirer = 0 if by_with else me
                    break
        finally:
            record.withdraw()
    except BaseException:
        if got:
            lock._release()
        raise
    return got


def _wait_again(lock: ObservedRLock, limit: float | None) -> bool:
    """Do the same for a lock that its owner may take again."""
    record = Blocked(lock, is_endless=limit is None, by_with=True)
    got = False
    try:
        try:
            record.publish()
            for got in starmap(partial(_c_acquire, lock), _tries_of(record, limit)):
                if got:
                    break
        finally:
            record.withdraw()
    except BaseException:
        if got:
            _c_release(lock)
        raise
    return got


# -- for the watch -----------------------------------------------------------------------------------------------------

task_holders: dict[tuple[int, int], int] = {}
"""By the id of a lock and the thread that took it: the number of the suspended task of its event loop in whose block of
a `with` the lock is. Written by `suspended`."""


def taker_of(lock: ObservedLock | ObservedRLock) -> int:
    """The thread that took it, even if a task of that thread has it; 0 if the lock is free."""
    if isinstance(lock, ObservedRLock):
        found = _owner_in(_c_repr(lock))
        return int(found[1]) if found else 0
    return lock._taker if lock.locked() else 0


def took_by_acquire(lock: ObservedLock) -> bool:
    """Whether it was last taken by `acquire`, and not by `with`."""
    return lock._taker == lock._acquirer


def is_observed(lock: object) -> TypeGuard[ObservedLock | ObservedRLock]:
    """Whether it is a lock of the watch; `isinstance` would also accept the bare locks that these replace."""
    kind = type(lock)
    return type.__subclasscheck__(ObservedLock, kind) or type.__subclasscheck__(ObservedRLock, kind)


def origin_of(lock: ObservedLock | ObservedRLock) -> Origin:
    """The place that made a lock."""
    return lock._origin


def number_of(lock: ObservedLock | ObservedRLock) -> int:
    """The number of a lock among those that were made at the same place."""
    return lock._number
