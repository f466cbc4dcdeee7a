"""`Turn`: the place of a step in the order."""

from __future__ import annotations

from operator import itemgetter
from typing import Self

from ..facts import Frozen

new_tuple = tuple.__new__


class Turn(Frozen, tuple[str, int, int]):
    """One turn of one step; a step's ``with`` gives it, and a body gets it as its argument.

    Attributes:
        step: The name of the step.
        index: How many turns of any step came before this one in the sequence.
        round: How many full rounds came before; a round has as many turns as the runner's order has steps.

    Example:
        >>> from syncprims import OrderedRunner
        >>> with OrderedRunner("load", "store").step("load") as turn:
        ...     turn
        Turn(step='load', index=0, round=0)
    """

    # A turn is made at every hand-off, while the next thread waits, and a tuple is the fastest frozen object to make.
    __slots__ = ()
    __match_args__ = ("step", "index", "round")

    step: str = property(itemgetter(0))  # type: ignore[assignment]  # the type of a getter in C is not known
    index: int = property(itemgetter(1))  # type: ignore[assignment]
    round: int = property(itemgetter(2))  # type: ignore[assignment]

    def __new__(cls, step: str, index: int, round: int) -> Self:  # noqa: A002  the field's name
        return new_tuple(cls, (step, index, round))

    def _values(self) -> tuple[object, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(step={self.step!r}, index={self.index!r}, round={self.round!r})"
