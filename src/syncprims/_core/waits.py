"""The wait-for graph: which thread waits for what, and whether a new wait would close a circle."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import partial
from threading import get_ident
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import DeadlockError
from ..facts import Holder, Wait
from . import stacks as _stacks
from .clock import monotonic, sleep
from .stacks import (
    FRAMES_ARE_SHARED,
    Place,
    beneath,
    frames_of_threads,
    own_places,
    places,
    summaries,
    whereabouts,
    without_ours,
    without_start,
)
from .state import Stated

if TYPE_CHECKING:
    from traceback import FrameSummary

# The graph is never stored as one. A thread that has to block publishes a record, "I wait for this node", in a
# dictionary under its ident; a node, when asked, tells its present owner. A walk goes from record to owner to that
# owner's records, and the graph has a circle if it comes back to the thread that walks.
#
# No mutex guards it. What holds instead:
#
# 1. A record is published with one store, and only then its thread walks. So of all threads in a circle, the one that
#    published last has every other record before its eyes: no circle is missed. Others may find it too; who is first
#    to claim it, by one `setdefault` in a dictionary that all of them agree on, is the victim: no circle has two.
# 2. A record stands for one uninterrupted wait. The walk reads each edge once and the confirmation once more; where
#    both find the same records and owners, every edge existed at the moment between the two: no circle is invented.
# 3. Signal handlers and finalizers may wait inside a wait, so each thread has a stack of records, linked by `below`.
# 4. Edges that mean nothing are passed over: a node that its waiter has just got (it owns it), and a wait that is over,
#    by its deadline or because what it waits for has come (its thread is about to withdraw).
# 5. A thread that waits may run a signal handler or a finalizer on top, and what it has got there it will give back
#    without any end of that wait. No lock tells which it got there. So where a thread of the circle does not stand in
#    its wait, who found the circle looks again after a moment, until it does or the circle has gone. The look comes
#    between two readings of the edges; one handler that has the lock at the first and another, of the same thread, that
#    has it at the second would deceive it. To know would take a count of how often a lock was taken.
# 6. Who finds a circle that another has claimed looks for a second one, without the wait that will give way.
#
# Rejected: serials, the highest in the circle being the victim's. A thread can be interrupted between drawing a serial
# and storing it; each of two threads then takes the other's for the higher one, and both wait for ever.


class Node(Stated, Protocol):
    """What a thread can wait for."""

    def _owner(self) -> int | None:
        """The ident of the thread that must act before a waiter can go on, or None where nobody has to."""


_innermost: dict[int, Waiting] = {}

# Seconds between two looks at a circle in which a thread is busy with a handler, at first and at most.
_SOON: Final = 0.0005
_LATER: Final = 0.05

_PUBLISHING: Final = (__file__, _stacks.__file__)


class Waiting:
    """One wait of the calling thread, to be published before it blocks and withdrawn after.

    `withdraw` is a C function, whatever its value: as the first call of a ``finally`` no interrupt gets in before it.
    It does nothing before `publish`.
    """

    __slots__ = (
        "below",
        "claims",
        "deadline_at",
        "frame_id",
        "ident",
        "node",
        "over",
        "places",
        "since",
        "takes_part",
        "victim",
        "withdraw",
    )

    withdraw: Callable[[], object]
    # Where it was published, innermost first, without the GIL; empty with it.
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
        """Prepare a wait for `node`; to be called by the function that blocks.

        Args:
            node: What is waited for.
            deadline_at: The `time.monotonic` at which the wait gives up by itself, or None.
            takes_part: Whether it can be an edge of a deadlock; if not, it is there for monitoring alone.
            victim: Whether it may be the one that gets the `DeadlockError`.
            over: Tells whether what is waited for has come, where the node's having no owner does not tell it.
        """
        self.node: Node = node
        self.deadline_at: float | None = deadline_at
        self.takes_part: bool = takes_part
        self.victim: bool = victim
        self.over: Callable[[], bool] | None = over
        self.frame_id: int = id(sys._getframe(1))  # a frame has one object as long as it lives
        self.ident: int = get_ident()
        self.claims: dict[tuple[bool, frozenset[Waiting]], Waiting] = {}
        self.withdraw = int

    def publish(self) -> None:
        """Enter the graph.

        Raises:
            DeadlockError: The wait would close a circle, and this thread is the one to give way.
        """
        self.since: float = monotonic()
        self.places = [] if FRAMES_ARE_SHARED else own_places()
        self.below: Waiting | None = _innermost.get(self.ident)
        self._prepare_withdrawal()
        _innermost[self.ident] = self
        if not self.takes_part:
            return
        if self.node._owner() not in _innermost:  # as nearly always: its owner waits for nothing
            return
        giving_way: set[Waiting] = set()
        pause = _SOON
        while (circle := find_circle(self, giving_way)) is not None:
            if not (_undisturbed(circle) and _confirmed(circle)):
                sleep(pause)
                pause = min(2 * pause, _LATER)
            elif not self._claims(circle):
                giving_way.add(self._claimant(circle))
            elif self.victim:
                raise deadlock(circle)
            else:
                _log_unbreakable(circle)
                return

    def _prepare_withdrawal(self) -> None:
        self.withdraw = (
            partial(_innermost.pop, self.ident, None)
            if self.below is None
            else partial(_innermost.__setitem__, self.ident, self.below)
        )

    def _claims(self, circle: list[Waiting]) -> bool:
        """Whether this is the first, of those in the circle that can give way, or of those that can't, to claim it."""
        return self._claimant(circle) is self

    def _claimant(self, circle: list[Waiting]) -> Waiting:
        """Who is that first: this one, if there was none before."""
        return min(circle, key=id).claims.setdefault((self.victim, frozenset(circle)), self)

    def _counts(self) -> bool:
        """Whether this wait is an edge now."""
        return (
            self.takes_part
            and (self.deadline_at is None or monotonic() < self.deadline_at)
            and (self.over is None or not self.over())
        )


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
    return [waiting for ident in list(_innermost) for waiting in waits_of(ident)]


def count_waits(node: Node) -> int:
    """How many waits there are for the node."""
    return sum(waiting.node is node for waiting in all_waits())


def find_circle(start: Waiting, without: AbstractSet[Waiting] = frozenset()) -> list[Waiting] | None:
    """Return the waits of a circle that `start` is part of, beginning with it and `without` some waits, or None."""
    reached_from: dict[Waiting, Waiting | None] = {start: None}
    todo = [start]
    while todo:
        waiting = todo.pop()
        owner = waiting.node._owner()
        if owner == start.ident and waiting is not start:
            circle = _trace(waiting, reached_from)
            if _confirmed(circle):
                return circle
        elif owner is not None and owner != waiting.ident:
            for further in waits_of(owner):
                if further not in reached_from and further not in without and further._counts():
                    reached_from[further] = waiting
                    todo.append(further)
    return None


def _trace(last: Waiting, reached_from: dict[Waiting, Waiting | None]) -> list[Waiting]:
    path = []
    waiting: Waiting | None = last
    while waiting is not None:
        path.append(waiting)
        waiting = reached_from[waiting]
    return path[::-1]


def _confirmed(circle: list[Waiting]) -> bool:
    """Whether every edge of the circle is still there, after the walk has seen each of them."""
    return all(
        waiting.node._owner() == following.ident and waiting in waits_of(waiting.ident) and waiting._counts()
        for waiting, following in zip(circle, [*circle[1:], circle[0]], strict=True)
    )


def _undisturbed(circle: list[Waiting]) -> bool:
    """Whether every other thread of the circle stands in its wait, with no handler or finalizer of its own on top."""
    frames = frames_of_threads()
    return all(
        _innermost.get(waiting.ident) is waiting and _stands_in(waiting, frames.get(waiting.ident))
        for waiting in circle[1:]
    )


def _stands_in(waiting: Waiting, frame: FrameType | None) -> bool:
    # It stands here as long as it publishes, as a handler on top of it may, too: then the frame below tells whose this
    # is, where it may be looked at. Where the thread has no frame nothing of it can be on top.
    if frame is None or id(frame) == waiting.frame_id:
        return True
    publishes = frame.f_code.co_filename in _PUBLISHING
    return publishes and (not FRAMES_ARE_SHARED or id(beneath(frame, _PUBLISHING)) == waiting.frame_id)


def thread_name(ident: int) -> str:
    """Name of the thread with this ident, or ``""`` where `threading` knows none."""
    # threading.enumerate() would take a lock of its own, and on 3.14 an interrupt in there would leave it taken.
    active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    thread = active.get(ident)
    return "" if thread is None else thread.name


def stack_of(ident: int) -> tuple[FrameSummary, ...]:
    """Where the thread is now, outermost frame first; empty where there is no such thread."""
    return _stack(frames_of_threads().get(ident), ident)


def _stack(frame: FrameType | None, ident: int) -> tuple[FrameSummary, ...]:
    if frame is None:
        return ()
    if ident == get_ident() or getattr(sys, "_is_gil_enabled", lambda: True)():
        return summaries(places(frame))
    # One frame can be had safely; the others are known where the thread waits.
    found = [(frame.f_code, frame.f_lineno)]
    for waiting in waits_of(ident)[:1]:
        noted = [code for code, _ in waiting.places]
        found += waiting.places[noted.index(frame.f_code) + 1 if frame.f_code in noted else 0 :]
    return summaries(found)


def holder_of(ident: int | None) -> Holder | None:
    """A snapshot of the thread with this ident; None for None."""
    if ident is None:
        return None
    frame = frames_of_threads().get(ident)
    return Holder(thread_name(ident), ident, frame is not None, _stack(frame, ident))


def describe(holder: Holder | None) -> str:
    """Say who a holder is and where it stands."""
    if holder is None:
        return "a holder that is not known"
    if not holder.alive:
        return (
            f"a thread (ident {holder.ident}) that ended without releasing it, as far as can be told from an ident; "
            f"use `with`, which always releases"
        )
    return f"Thread {holder.name!r} (ident {holder.ident}, alive) which is {whereabouts(holder.stack)}"


def deadlock(circle: list[Waiting]) -> DeadlockError:
    """Make the error that tells of the circle, beginning with the thread that gets it."""
    names = [thread_name(waiting.ident) or f"ident {waiting.ident}" for waiting in circle]
    cycle = [
        Wait(name, waiting.node.name, holder)
        for name, waiting, holder in zip(names, circle, [*names[1:], names[0]], strict=True)
    ]
    frames = frames_of_threads()  # once, since it stops the world for as long as there are threads to list
    stacks = [without_ours(_stack(frames.get(waiting.ident), waiting.ident)) for waiting in circle]
    lines = [f"deadlock: {_say(cycle)}"]
    for wait, stack in zip(cycle, stacks, strict=True):
        lines.append(f"  Thread {wait.thread!r} waits for {wait.lock_name!r} {whereabouts(stack)}:")
        lines.extend(f"    {frame.filename}:{frame.lineno} in {frame.name}" for frame in without_start(stack))
    lines.append(
        f"{_say(cycle)}; so Thread {names[0]!r} does not wait: let it release what it holds and try again, "
        f"or take the locks in one order everywhere, as acquire_all() does"
    )
    return DeadlockError("\n".join(lines), cycle=cycle, stacks=stacks)


def _say(cycle: list[Wait]) -> str:
    return ", ".join(f"Thread {wait.thread!r} waits for {wait.lock_name!r} held by {wait.holder!r}" for wait in cycle)


def own_deadlock(name: str, advice: str) -> DeadlockError:
    """Make the error for a thread that would wait for itself."""
    me = thread_name(get_ident()) or f"ident {get_ident()}"
    return DeadlockError(
        f"Thread {me!r} already holds {name!r} and would wait for itself for ever; {advice}",
        cycle=[Wait(me, name, me)],
        stacks=[without_ours(stack_of(get_ident()))],
    )


def _log_unbreakable(circle: list[Waiting]) -> None:
    import logging  # here, since it is needed once in a blue moon

    logging.getLogger("syncprims").error(
        "Condition.wait() must take its lock back, and that closes a circle which it can't break: %s", deadlock(circle)
    )


_forking = threading.local()


def _before_fork() -> None:
    _forking.innermost = _innermost.get(get_ident())


def _after_fork_in_child() -> None:
    # Without the GIL a dictionary has a mutex, and a thread that vanished may have it, or have just been handed it.
    # So the child never touches the old one.
    global _innermost
    me = get_ident()
    mine = _forking.innermost
    _innermost = {} if mine is None else {me: mine}
    for waiting in waits_of(me):
        waiting._prepare_withdrawal()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
