"""`Hold`: the context manager that ``hold()`` of a lock returns."""

from __future__ import annotations

from operator import attrgetter
from typing import Generic, Protocol, Self, TypeVar

from .._core.interrupts import LeaveInC
from .._core.state import Named


class Holdable(Named, Protocol):
    """A lock that can be held; its ``__exit__`` is used too."""

    def _enter_within(self, timeout: float | None) -> Self:
        """Acquire the lock within this many seconds, or raise."""


_L = TypeVar("_L", bound=Holdable)


class Hold(Generic[_L]):
    """A ``with`` on a lock with its own timeout. It is as safe as the lock, because its ``__exit__`` is the lock's."""

    __slots__ = ("_lock", "timeout")

    def __init__(self, lock: _L, timeout: float | None) -> None:
        self._lock = lock
        self.timeout = timeout

    def __enter__(self) -> _L:
        return self._lock._enter_within(self.timeout)

    __exit__ = LeaveInC(attrgetter("_lock.__exit__"))

    def __repr__(self) -> str:
        return f"<{self._lock.name!r}, held within {self.timeout} s>"
