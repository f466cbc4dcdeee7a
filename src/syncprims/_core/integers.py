"""Integers of any size, and the bounds of a counter."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from ..errors import CounterBoundsError
from .foreign import words
from .state import Named


def integer(number: SupportsIndex, what: str) -> int:
    """Return the number as an exact `int`, or raise a TypeError that calls it `what`; `bool` does not count as one.

    An exact integer is compared and printed without running a method of the user's object.
    """
    kind = type(number)
    if kind is int:
        return number  # type: ignore[return-value]  # its type is int
    if kind is bool or not hasattr(kind, "__index__"):
        raise TypeError(f"{what} must be an integer, not {words(number)}")
    return int.__int__(number if isinstance(number, int) else number.__index__())


def shown(number: int) -> str:
    """Return the number as text for a message; only its size if it is so huge that Python may refuse to print it."""
    return str(number) if number.bit_length() <= 256 else f"<an integer of {number.bit_length()} bits>"


class Bounds:
    """The least and the greatest value allowed; None means no limit."""

    __slots__ = ("maximum", "minimum")

    def __init__(self, minimum: SupportsIndex | None, maximum: SupportsIndex | None) -> None:
        self.minimum = None if minimum is None else integer(minimum, "minimum")
        self.maximum = None if maximum is None else integer(maximum, "maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {shown(self.minimum)} is greater than maximum {shown(self.maximum)}")

    def check(self, new: int, counter: Named, value: int) -> None:
        """Raise a CounterBoundsError if `new` is outside; it says that the counter stays at `value`."""
        if self.minimum is not None and new < self.minimum:
            self._refuse(new, f"less than its minimum {shown(self.minimum)}", counter, value)
        if self.maximum is not None and new > self.maximum:
            self._refuse(new, f"more than its maximum {shown(self.maximum)}", counter, value)

    def _refuse(self, new: int, why: str, counter: Named, value: int) -> NoReturn:
        stays = "" if new == value else f"; it stays at {shown(value)}"  # a new counter has no value to stay at
        raise CounterBoundsError(
            f"{counter.name!r} can't become {shown(new)}, {why}{stays}",
            value=value,
            minimum=self.minimum,
            maximum=self.maximum,
        )
