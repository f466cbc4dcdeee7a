"""The common part of `AtomicCounter` and `RedisCounter`: their bounds, and their use as a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from .._core.foreign import words

if TYPE_CHECKING:
    from .._core.integers import Bounds


class CounterSurface:
    """The methods of a counter that are the same wherever its number is kept."""

    __slots__ = ()

    if TYPE_CHECKING:
        _bounds: Bounds

        @property
        def value(self) -> int: ...

        @property
        def name(self) -> str: ...

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

    # A counter is not its value: a test of the counter instead of the value would always have the same result.

    def __bool__(self) -> NoReturn:
        raise TypeError(f"the counter {self.name!r} is neither true nor false; write `if counter.value:`")

    def __eq__(self, other: object) -> bool:
        self._refuse_number("==", other)
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        self._refuse_number("!=", other)
        return NotImplemented

    def _refuse_number(self, operator: str, other: object) -> None:
        if isinstance(other, (int, float)):
            raise TypeError(
                f"the counter {self.name!r} is compared with a number; write `counter.value {operator} {words(other)}`"
            )

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...

    else:
        __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)
