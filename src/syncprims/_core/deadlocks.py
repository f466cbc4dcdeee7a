"""Deadlocks: whether a wait would close a circle of threads that wait for each other, and which circles there are."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from threading import get_ident
from types import FrameType
from typing import Final

from ..errors import DeadlockError
from ..facts import Wait
from . import foreign, stacks, waits
from .clock import sleep
from .holders import stack_at, stack_of, thread_name
from .stacks import FRAMES_ARE_SHARED, beneath, frames_of_threads, say_frame, whereabouts, without_ours, without_start
from .waits import Waiting, all_waits, innermost_of, waits_of

# The graph has a circle if a walk from a record (see `waits`) to the owner of its node, to that owner's records and so
# on comes back to the thread that walks. No mutex guards the graph. What holds instead:
#
# 1. A record is published with one store, and only then its thread walks. So of all threads in a circle, the one that
#    published last has every other record before its eyes: no circle is missed. Others may find it too; who is first
#    to claim it, by one `setdefault` in a dictionary that all of them agree on, is the victim: no circle has two.
# 2. A record stands for one uninterrupted wait. The walk reads each edge once and the confirmation once more; where
#    both find the same records and owners, every edge existed at the moment between the two: no circle is invented.
# 3. Edges that mean nothing are passed over: a node that its waiter has just got (it owns it), and a wait that is over,
#    by its deadline or because what it waits for has come (its thread is about to withdraw).
# 4. A thread that waits may run a signal handler or a finalizer on top, and what it has got there it will give back
#    without any end of that wait. No lock tells which it got there. So where a thread of the circle does not stand in
#    its wait, who found the circle looks again after a moment, until it does or the circle has gone. The look comes
#    between two readings of the edges; one handler that has the lock at the first and another, of the same thread, that
#    has it at the second would deceive it. To know would take a count of how often a lock was taken.
# 5. Who finds a circle that another has claimed looks for a second one, without the wait that will give way.
#
# Rejected: serials, the highest in the circle being the victim's. A thread can be interrupted between drawing a serial
# and storing it; each of two threads then takes the other's for the higher one, and both wait for ever.

# Seconds between two looks at a circle in which a thread is busy with a handler, at first and at most.
_SOON: Final = 0.0005
_LATER: Final = 0.05

_PUBLISHING: Final = (__file__, waits.__file__, stacks.__file__)


def refuse_deadlock(waiting: Waiting) -> None:
    """Look whether the wait, which its thread has just published, closes a circle.

    Raises:
        DeadlockError: It does, and this thread is the one to give way.
    """
    if innermost_of(waiting.node._owner()) is None:  # as nearly always: its owner waits for nothing
        return
    giving_way: set[Waiting] = set()
    pause = _SOON
    while (circle := find_circle(waiting, giving_way)) is not None:
        if not (_undisturbed(circle) and _confirmed(circle)):
            sleep(pause)
            pause = min(2 * pause, _LATER)
        elif (claimant := waiting.claimant(circle)) is not waiting:
            giving_way.add(claimant)
        elif waiting.victim:
            raise deadlock(circle)
        else:
            _log_unbreakable(circle)
            return


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
                if further not in reached_from and further not in without and further.counts():
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
        waiting.node._owner() == following.ident and waiting in waits_of(waiting.ident) and waiting.counts()
        for waiting, following in zip(circle, [*circle[1:], circle[0]], strict=True)
    )


def _undisturbed(circle: list[Waiting]) -> bool:
    """Whether every other thread of the circle stands in its wait, with no handler or finalizer of its own on top."""
    frames = frames_of_threads()
    return all(
        innermost_of(waiting.ident) is waiting and _stands_in(waiting, frames.get(waiting.ident))
        for waiting in circle[1:]
    )


def _stands_in(waiting: Waiting, frame: FrameType | None) -> bool:
    # It stands here as long as it publishes, as a handler on top of it may, too: then the frame below tells whose this
    # is, where it may be looked at. Where the thread has no frame nothing of it can be on top.
    if frame is None or id(frame) == waiting.frame_id:
        return True
    publishes = frame.f_code.co_filename in _PUBLISHING
    return publishes and (not FRAMES_ARE_SHARED or id(beneath(frame, _PUBLISHING)) == waiting.frame_id)


def deadlock(circle: list[Waiting]) -> DeadlockError:
    """Make the error that tells of the circle, beginning with the thread that gets it."""
    names = [_name(waiting.ident) for waiting in circle]
    cycle = [
        Wait(name, waiting.node.name, holder)
        for name, waiting, holder in zip(names, circle, [*names[1:], names[0]], strict=True)
    ]
    frames = frames_of_threads()  # once, since it stops the world for as long as there are threads to list
    stacks = [without_ours(stack_at(frames.get(waiting.ident), waiting.ident)) for waiting in circle]
    lines = [f"deadlock: {say_cycle(cycle)}"]
    for wait, stack in zip(cycle, stacks, strict=True):
        lines.append(f"  Thread {wait.thread!r} waits for {wait.lock_name!r} {whereabouts(stack)}:")
        lines.extend(f"    {say_frame(frame)}" for frame in without_start(stack))
    lines.append(
        f"{say_cycle(cycle)}; so Thread {names[0]!r} does not wait: let it release what it holds and try again, "
        f"or take the locks in one order everywhere, as acquire_all() does"
    )
    return DeadlockError("\n".join(lines), cycle=cycle, stacks=stacks)


def say_cycle(cycle: Sequence[Wait]) -> str:
    """Put a cycle into one line."""
    return ", ".join(f"Thread {wait.thread!r} waits for {wait.lock_name!r} held by {wait.holder!r}" for wait in cycle)


def _name(ident: int) -> str:
    return thread_name(ident) or f"ident {ident}"


def own_deadlock(name: str, advice: str) -> DeadlockError:
    """Make the error for a thread that would wait for itself."""
    me = _name(get_ident())
    return DeadlockError(
        f"Thread {me!r} already holds {name!r} and would wait for itself for ever; {advice}",
        cycle=[Wait(me, name, me)],
        stacks=[without_ours(stack_of(get_ident()))],
    )


def _log_unbreakable(circle: list[Waiting]) -> None:
    import logging  # importing the locks stays light

    foreign.log(
        logging.ERROR,
        f"Condition.wait() must take its lock back, and that closes a circle which it can't break: {deadlock(circle)}",
    )


_Edges = dict[int, list[tuple[Waiting, int]]]


def find_deadlocks() -> tuple[tuple[Wait, ...], ...]:
    """Return the circles of threads that wait for each other now, without end.

    The locks refuse to deadlock among themselves (`DeadlockError`), so what is left to be found here is what they
    can't know or prevent: locks of other kinds in a `LockAdapter`, and a `threading.Condition` that has to take its
    lock back. A wait of `acquire` with a timeout does not count, since it ends by itself. Blocks nobody.

    Returns:
        For each circle its edges, as in `DeadlockError.cycle`.

    Example:
        >>> from syncprims.diagnostics import find_deadlocks
        >>> find_deadlocks()
        ()
    """
    # A wait is one uninterrupted record, and who waits releases nothing: a circle that is found in two looks, with the
    # same records and owners, existed at the moment between the two.
    first, second = _edges(), _edges()
    confirmed = {ident: [edge for edge in edges if edge in second.get(ident, ())] for ident, edges in first.items()}
    found: dict[frozenset[int], tuple[Wait, ...]] = {}
    for ident in confirmed:
        circle = _circle_from(ident, confirmed)
        if circle:
            found.setdefault(frozenset(waiting.ident for waiting, _ in circle), tuple(map(_edge, circle)))
    return tuple(found.values())


def _edges() -> _Edges:
    """For each thread its endless waits, each with the ident of the thread that must act."""
    edges: _Edges = {}
    for waiting in all_waits():
        owner = waiting.node._owner()
        if owner is None or not (waiting.takes_part or waiting.deadline_at is None):
            continue
        if owner == waiting.ident and waiting.takes_part:
            continue  # it has just got it
        edges.setdefault(waiting.ident, []).append((waiting, owner))
    return edges


def _circle_from(start: int, edges: _Edges) -> list[tuple[Waiting, int]] | None:
    paths: list[list[tuple[Waiting, int]]] = [[edge] for edge in edges[start]]
    reached: set[int] = set()
    while paths:
        path = paths.pop()
        owner = path[-1][1]
        if owner == start:
            return path
        if owner not in reached:
            reached.add(owner)
            paths.extend([*path, edge] for edge in edges.get(owner, ()))
    return None


def _edge(edge: tuple[Waiting, int]) -> Wait:
    waiting, owner = edge
    return Wait(_name(waiting.ident), waiting.node.name, _name(owner))
