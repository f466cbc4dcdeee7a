"""What `AtomicCounter` and `RedisCounter` have in common: their bounds, and being read as a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._core.integers import Bounds


class CounterSurface:
    """The part of a counter's surface that is the same wherever the number is kept."""

    __slots__ = ()

    if TYPE_CHECKING:
        _bounds: Bounds

        @property
        def value(self) -> int: ...

    @property
    def minimum(self) -> int | None:
        """The least value allowed, or None."""
        return self._bounds.minimum

    @property
    def maximum(self) -> int | None:
        """The greatest value allowed, or None."""
        return self._bounds.maximum

    def __int__(self) -> int:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)
