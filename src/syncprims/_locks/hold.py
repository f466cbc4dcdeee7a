"""`Hold` and `LockHold`: the context managers that ``hold()`` of the locks returns."""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from .._core.interrupts import LeaveInC
from .._core.speedups import core, own, put
from .._core.state import Named


class Holdable(Named, Protocol):
    """A lock that `hold()` can serve; its ``__exit__`` is used too."""

    def _enter_within(self, timeout: float | None) -> Self:
        """Acquire the lock within this many seconds, or raise."""


_L = TypeVar("_L", bound=Holdable)


class _Holding(Generic[_L]):
    """The methods that both classes below share. Those classes store the lock and the timeout."""

    __slots__ = ()

    if TYPE_CHECKING:
        _lock: _L
        timeout: float | None

    def __enter__(self) -> _L:
        return self._lock._enter_within(self.timeout)

    __exit__: LeaveInC = LeaveInC(attrgetter("_lock.__exit__"))

    def __repr__(self) -> str:
        return f"<{self._lock.name!r}, held within {self.timeout} s>"

    def __reduce__(self) -> tuple[object, ...]:
        # Pickling fails because of the lock, whose error says why.
        return type(self), (self._lock, self.timeout)


class Hold(_Holding[_L]):
    """A ``with`` on a lock with its own timeout. It is as safe as the lock, because its ``__exit__`` is the lock's."""

    __slots__ = ("_lock", "timeout")

    def __init__(self, lock: _L, timeout: float | None) -> None:
        self._lock = lock
        self.timeout: float | None = timeout


if TYPE_CHECKING or core is None:
    LockHold = Hold
else:

    class LockHold(_Holding[Any], core.Hold):
        """The same for a lock of the compiled core, which can acquire and release the lock by itself."""

        __slots__ = ()

    # As with the lock: on 3.14 an interrupt may come between the return of an `__enter__` in C and the block
    # (gh-148874).
    if sys.version_info[:2] != (3, 14):
        put(LockHold, "__enter__")
    own(LockHold, "__exit__")
