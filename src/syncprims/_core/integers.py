"""Integers of any size, and the bounds of those that a counter may have."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from ..errors import CounterBoundsError
from .state import Named


def integer(number: SupportsIndex, what: str) -> int:
    """Return the number as an exact `int`, or raise a TypeError that calls it `what`; `bool` does not count as one."""
    if isinstance(number, bool) or not hasattr(type(number), "__index__"):
        raise TypeError(f"{what} must be an integer, not {number!r}")
    return int.__index__(number.__index__())


class Bounds:
    """The least and the greatest value allowed; None is no limit."""

    __slots__ = ("maximum", "minimum")

    def __init__(self, minimum: SupportsIndex | None, maximum: SupportsIndex | None) -> None:
        self.minimum = None if minimum is None else integer(minimum, "minimum")
        self.maximum = None if maximum is None else integer(maximum, "maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is greater than maximum {self.maximum}")

    def check(self, new: int, counter: Named, value: int) -> None:
        """Raise a CounterBoundsError if `new` is outside; it says that the counter stays at `value`."""
        if self.minimum is not None and new < self.minimum:
            self._refuse(new, f"less than its minimum {self.minimum}", counter, value)
        if self.maximum is not None and new > self.maximum:
            self._refuse(new, f"more than its maximum {self.maximum}", counter, value)

    def _refuse(self, new: int, why: str, counter: Named, value: int) -> NoReturn:
        stays = "" if new == value else f"; it stays at {value}"  # a new counter stays nowhere
        raise CounterBoundsError(
            f"{counter.name!r} can't become {new}, {why}{stays}",
            value=value,
            minimum=self.minimum,
            maximum=self.maximum,
        )
