"""Waits: the record of one wait of a thread, and its registration while the wait lasts."""

from __future__ import annotations

import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import partial
from math import inf
from threading import get_ident
from typing import ClassVar, Final, Protocol, TypeVar

from .clock import monotonic
from .greenlets import refuse_greenlets
from .observing import Event, Observable
from .stacks import FRAMES_ARE_SHARED, Place, own_places
from .state import Named, State, Stated

# The wait-for graph is never stored as a whole. A thread that has to block publishes a record, "I wait for this node",
# in a dictionary under its ident. A node knows which threads must act before the wait can end. `deadlocks` walks from
# records to nodes to threads. No mutex guards the dictionary: a record is published with one store and withdrawn with
# one C call.
#
# Signal handlers and finalizers may wait inside a wait, so each thread has a stack of records, linked by `below`.

R = TypeVar("R")


class Group(Protocol):
    """Several threads that a wait is up to: all of them have to act, or any one is enough.

    Groups are compared by identity: as long as a wait lasts, the same object means the same group.
    """

    one_is_enough: bool
    """Whether any one of them is enough."""

    def members(self) -> Collection[UpTo]:
        """The present members. Other threads call this at any time, so it must not block.

        A None among them means an unknown thread, which may act at any time. No members at all means the same.
        """


UpTo = int | Group | None
"""Who must act before a wait can end: one thread, by its ident, or several; None if no thread that is known has to."""


class Node(Stated, Protocol):
    """Something that a thread can wait for."""

    def _up_to(self, waiter: int) -> UpTo:
        """The threads that must act before `waiter` can go on; None if there is none, or the wait is over."""

    def _is_mine(self) -> bool:
        """Whether a wait for it may be up to the calling thread: False only if that is certain."""


NOT_DRAWN: Final = inf
SETTLED: Final = -1.0

_innermost: dict[int, Waiting] = {}


class Waiting:
    """One wait of the calling thread, to be published before it blocks and withdrawn after.

    `withdraw` is always a C function: as the first call of a ``finally`` it runs before any interrupt. Before `publish`
    it does nothing.
    """

    __slots__ = (
        "below",
        "deadline_at",
        "frame_id",
        "ident",
        "node",
        "over",
        "places",
        "serial",
        "since",
        "takes_part",
        "victim",
        "withdraw",
    )

    withdraw: Callable[[], object]
    # Only `deadlocks` writes this, in the waiting thread: a number that it draws once the wait is published, and
    # SETTLED once the wait will not be refused any more.
    serial: float
    # The stack at which it was published, innermost place first; empty with the GIL.
    places: list[Place]

    def __init__(
        self,
        node: Node,
        deadline_at: float | None = None,
        *,
        takes_part: bool = True,
        victim: bool = True,
        over: Callable[[], bool] | None = None,
    ) -> None:
        """Prepare a wait for `node`. The function that blocks must call this itself.

        Args:
            node: The thing to wait for.
            deadline_at: The `time.monotonic` at which the wait gives up by itself, or None.
            takes_part: Whether it can be an edge of a deadlock; if not, it is only for monitoring.
            victim: Whether it may be the wait that gets the `DeadlockError`.
            over: Returns whether the wait's condition has come true, if a node without an owner does not mean that.
        """
        self.node: Node = node
        self.deadline_at: float | None = deadline_at
        self.takes_part: bool = takes_part
        self.victim: bool = victim
        self.over: Callable[[], bool] | None = over
        self.frame_id: int = id(sys._getframe(1))  # a frame has the same object as long as it lives
        self.ident: int = get_ident()
        self.serial = NOT_DRAWN
        self.withdraw = int

    def publish(self) -> None:
        """Register the wait. If it takes part, call `deadlocks.refuse_deadlock` next.

        Raises:
            PatchedThreadsError: Greenlets have replaced threads since the node was made.
        """
        refuse_greenlets()
        self.since: float = monotonic()
        self.places = [] if FRAMES_ARE_SHARED else own_places()
        self.below: Waiting | None = _innermost.get(self.ident)
        self._prepare_withdrawal()
        _innermost[self.ident] = self

    def _prepare_withdrawal(self) -> None:
        self.withdraw = (
            partial(_innermost.pop, self.ident, None)
            if self.below is None
            else partial(_innermost.__setitem__, self.ident, self.below)
        )

    def up_to(self) -> UpTo:
        """The threads that must act before the wait can end, as of now."""
        return self.node._up_to(self.ident)

    @property
    def subject(self) -> Named:
        """What the wait is for, as its users know it."""
        return self.node

    def owner(self) -> int | None:
        """The thread that must act, if there is only one and it is known."""
        up_to = self.up_to()
        return up_to if isinstance(up_to, int) else None

    def counts(self) -> bool:
        """Whether this wait is an edge now."""
        return (
            self.takes_part
            and (self.deadline_at is None or monotonic() < self.deadline_at)
            and (self.over is None or not self.over())
        )

    _observable: ClassVar[Observable] = Observable({"publish": Event("waits")})


def innermost_of(ident: int | None) -> Waiting | None:
    """The wait that the thread is in now, if it waits; None for None."""
    return _innermost.get(ident)  # type: ignore[arg-type]  # no key is None


def waits_of(ident: int) -> list[Waiting]:
    """The waits of a thread, innermost first."""
    waits = []
    waiting = _innermost.get(ident)
    while waiting is not None:
        waits.append(waiting)
        waiting = waiting.below
    return waits


def all_waits() -> list[Waiting]:
    """The waits of all threads, as they are at about this moment."""
    waits = list(_innermost.values())
    for waiting in waits:  # the loop also finds waits that are added while it runs
        if waiting.below is not None:
            waits.append(waiting.below)
    return waits


def count_waits(node: Stated) -> int:
    """How many waits there are for the node."""
    return sum(waiting.node is node for waiting in all_waits())


class Awaited(ABC):
    """Something of a primitive that threads wait for, other than to hold the primitive.

    One is made for each wait, and its text is made only for a report, or if the wait is refused.

    Attributes:
        of: The primitive, or the part of it that snapshots list.
    """

    __slots__ = ("of",)

    of: Stated

    @property
    @abstractmethod
    def sought(self) -> str:
        """What is waited for, in words that follow "waits for"."""

    @property
    def name(self) -> str:
        """Its name in recordings."""
        return f"{self.of.name}: {self.sought}"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  for those that know
        return None

    def why(self, thread: Callable[[int], str]) -> str:  # noqa: ARG002  the same
        """Return a relative clause with the thread that must act, if any; `thread` turns an ident into text."""
        return "which no thread is known to bring"

    @property
    def advice(self) -> str:
        """How to get out of a deadlock with such a wait: an imperative without a full stop."""
        return "do not wait for it"

    def _is_mine(self) -> bool:
        return True  # no cheap check could exclude it

    def _state(self) -> State | None:
        return self.of._state()


class Sought(Awaited):
    """A wait that is up to no known thread."""

    __slots__ = ("_name", "_sought")

    def __init__(self, of: Stated, sought: str, name: str | None = None) -> None:
        self.of = of
        self._sought = sought
        self._name = name

    @property
    def sought(self) -> str:
        """What is waited for."""
        return self._sought

    @property
    def name(self) -> str:
        """Its name in recordings."""
        return super().name if self._name is None else self._name

    def _is_mine(self) -> bool:
        return False


def subject(waiting: Waiting) -> tuple[Stated, str]:
    """The subject of a wait: the primitive or its part, and a text that says what of it is awaited, or ``""``."""
    node = waiting.node
    return (node.of, node.sought) if isinstance(node, Awaited) else (node, "")


def wait_visibly(of: Stated, sought: str, limit: float | None, wait: Callable[..., R], *args: object) -> R:
    """Return ``wait(*args)``, which is registered as a wait of this thread while it lasts, unless its limit is 0."""
    if limit == 0:
        return wait(*args)
    waiting = Waiting(Sought(of, sought), takes_part=False)
    try:
        waiting.publish()
        return wait(*args)
    finally:
        waiting.withdraw()


class _Forking(threading.local):
    """The wait in which a thread forks: only a signal handler or a finalizer can fork during a wait."""

    innermost: Waiting | None = None


_forking = _Forking()


def _before_fork() -> None:
    _forking.innermost = _innermost.get(get_ident())


def _after_fork_in_parent() -> None:
    _forking.innermost = None


def _after_fork_in_child() -> None:
    # Without the GIL a dictionary has a mutex, which a vanished thread may hold. So the child never touches the old
    # one. C code may fork by itself and call only the hooks of the child, as uWSGI does with --py-call-osafterfork.
    global _innermost
    me = get_ident()
    mine, _forking.innermost = _forking.innermost, None
    _innermost = {} if mine is None else {me: mine}
    for waiting in waits_of(me):
        waiting._prepare_withdrawal()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
