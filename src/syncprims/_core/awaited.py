"""Waits that are no edges of deadlocks, yet have to be seen: `Awaited`, and `wait_visibly` around what blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .state import State, Stated
from .waits import Waiting

R = TypeVar("R")


class Awaited:
    """Something of a primitive that threads wait for and that nobody in particular has to hand out.

    Attributes:
        of: The primitive, or the part of it that snapshots know it by.
        sought: What is waited for, in words that follow "waited for".
        name: What recordings call it.
    """

    __slots__ = ("name", "of", "sought")

    def __init__(self, of: Stated, sought: str, name: str | None = None) -> None:
        self.of: Stated = of
        self.sought: str = sought
        self.name: str = f"{of.name}: {sought}" if name is None else name

    def _owner(self) -> None:
        """No one thread has to act before a waiter can go on."""

    def _state(self) -> State | None:
        return self.of._state()


def subject(waiting: Waiting) -> tuple[Stated, str]:
    """What a wait is for: the primitive or its part, and in words what of it, or ``""`` for simply that."""
    node = waiting.node
    return (node.of, node.sought) if isinstance(node, Awaited) else (node, "")


def wait_visibly(of: Stated, sought: str, limit: float | None, wait: Callable[..., R], *args: object) -> R:
    """Return ``wait(*args)``, which is registered as a wait of this thread meanwhile, unless its limit is 0."""
    if limit == 0:
        return wait(*args)
    waiting = Waiting(Awaited(of, sought), takes_part=False)
    try:
        waiting.publish()
        return wait(*args)
    finally:
        waiting.withdraw()
