"""Deadlocks: the search for threads that can never go on, its confirmation, and the choice of the victim."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import count
from operator import attrgetter, methodcaller
from threading import get_ident
from types import FrameType
from typing import Final, Literal, TypeVar

from ..errors import DeadlockError
from ..facts import Wait, nameless, say_thread
from . import foreign, gates, mailbox, stacks, wait_graph, waits
from .clock import sleep
from .holders import stack_of, thread_name
from .sites import taking_of
from .stacks import (
    FRAMES_ARE_SHARED,
    file_of,
    programs_own,
    say_frame,
    stands_on,
    whereabouts,
    with_frames,
    without_ours,
)
from .wait_graph import Arrows, Vertex, components_of, each_once, members_of, reached_from, stuck_in, within
from .waits import NOT_DRAWN, SETTLED, Awaited, UpTo, Waiting, all_waits, innermost_of, waits_of

# The search begins at a thread's wait and reads everything that can be reached from it; `wait_graph` defines which
# threads of that are stuck. No mutex guards the graph. Instead, these rules hold:
#
# 1. A thread publishes its record with one store, then draws a serial, then searches. So of all threads that are stuck
#    together, the one that drew last sees every other record: no deadlock is missed. Exactly that thread gives way (or
#    the last of those that can). A record without a serial belongs to a thread that is about to search, so a search
#    that finds one looks again after a moment. (Otherwise, if a thread were interrupted between drawing a serial and
#    storing it, that thread and another one could each believe that the other has the higher serial.)
# 2. A record describes one uninterrupted wait. The search reads each arrow once, the confirmation reads it again, and
#    only the agreement counts. Of a group whose threads must all act, it has the members in both readings; of a group
#    of which any thread may act, the members in either. So the result was true at the moment between the readings: no
#    deadlock is invented.
# 3. Two cases are ignored: a lock that its waiter has just acquired, and a wait that is over because its deadline has
#    passed or its condition has come true (its thread is about to withdraw).
# 4. A waiting thread may run a signal handler or a finalizer on top of its wait, and will release the locks that it
#    acquired there before that wait ends. A lock does not show whether it was acquired there. So the first search
#    counts every wait of a thread; the confirmation counts only the innermost, and only if the thread is in it. If they
#    differ, the searcher looks again after a moment, until they agree. Between the two readings it looks where the
#    threads are. It is wrong only if one handler holds the lock at the first reading, and another handler of the same
#    thread holds it at the second. To exclude that, each lock would have to count how often it was acquired.
# 5. A stuck thread that is not the one to give way searches again without the thread that is: there may be a second
#    cycle.
# 6. A thread may be stuck without being a cause: it waits for threads that would be stuck without it. It leaves the
#    decision to them as long as one of them may still give way. If none will, its wait is refused as well, unless one
#    of their waits has a limit.

# Seconds between two looks at a wait that may be stuck: the first pause, and the longest.
_SOON: Final = 0.0005
_LATER: Final = 0.05

# After this many vertices a search asks whether any thread waits for the searcher at all.
_FAR: Final = 32

# The functions in which a thread is still in its wait: it publishes, searches, passes a gate, or reads a mailbox.
_OURS: Final = (sys._getframe().f_code.co_filename, *map(file_of, (waits, wait_graph, stacks, gates, mailbox)))

_ADVICE: Final = (
    "let it release what it holds and try again, or take the locks in one order everywhere, as acquire_all() does"
)

# A message shows so many threads of a deadlock, the first and the last ones.
_FIRST: Final = 6
_LAST: Final = 2

_serials = count()
_is_mine = methodcaller("_is_mine")
_node_of = attrgetter("node")

R = TypeVar("R")

# Not empty once a deadlock was found that no thread could break. From then on there may be stuck threads.
_unbroken: list[None] = []


# -- refusing ----------------------------------------------------------------------------------------------------------


def refuse_deadlock(waiting: Waiting) -> None:
    """Check whether the wait, which its thread has just published, could ever end.

    Raises:
        DeadlockError: It could not, and this thread is the one to give way.
    """
    if _leads_on(waiting.up_to()):  # rare: usually the thread that has to act waits for nothing
        waiting.serial = next(_serials)
        _search(waiting)
    waiting.serial = SETTLED


def wait_or_refuse(awaited: Awaited, limit: float | None, wait: Callable[..., R], *args: object) -> R:
    """Return ``wait(*args)``, which is registered as a wait of this thread while it lasts, unless its limit is 0.

    Args:
        awaited: The thing that is waited for.
        limit: The seconds after which the wait gives up by itself; None means never.
        wait: The function that blocks, of this library or in C.
        *args: Its arguments.

    Raises:
        DeadlockError: The wait has no limit, and would never end.
    """
    if limit == 0:
        return wait(*args)
    waiting = Waiting(awaited, takes_part=limit is None)
    try:
        waiting.publish()
        if limit is None:
            refuse_deadlock(waiting)
        return wait(*args)
    finally:
        waiting.withdraw()


def _leads_on(up_to: UpTo) -> bool:
    """Whether waiting threads might keep the wait from ending, as far as one step in the graph shows."""
    if up_to is None or isinstance(up_to, int):
        return innermost_of(up_to) is not None
    members = up_to.members()
    return bool(members) and (all if up_to.one_is_enough else any)(map(_leads_on, members))


def _search(mine: Waiting) -> None:
    giving_way: set[Waiting] = set()
    pause = _SOON
    while mine.counts():
        knot = look(mine, giving_way)
        if knot is FREE:
            return
        if knot is not UNSURE and knot.core:
            last, serial = knot.last()
            if last is mine:
                if mine.victim:
                    raise deadlock(knot)
                _log_unbreakable(knot)
                return
            if serial != NOT_DRAWN and last.victim == mine.victim:
                giving_way.add(last)
                continue
        elif knot is not UNSURE and knot.is_settled():
            if mine.victim and knot.is_endless():
                raise deadlock(knot)
            return
        sleep(pause)
        pause = min(2 * pause, _LATER)


# -- reading -----------------------------------------------------------------------------------------------------------


class _Reading:
    """The part of the graph that was read, each part once, and the vertices that are stuck according to it.

    Attributes:
        waits: The waits of each thread that count, each with the threads that it is up to.
        arrows: For each vertex the ones that it is up to, as far as they are known.
        stuck: The vertices that can't go on.
    """

    __slots__ = ("arrows", "stuck", "waits")

    def __init__(self) -> None:
        self.waits: dict[int, list[tuple[Waiting, UpTo]]] = {}
        self.arrows: Arrows = {}
        self.stuck: set[Vertex] = set()


def _read(roots: Iterable[int], select: Callable[[int], Iterable[Waiting]], *, far: bool = False) -> _Reading:
    """Read everything that can be reached from some threads, with the selected waits of each thread.

    With `far`, stop as soon as it is certain that no path leads back to the calling thread.
    """
    reading = _Reading()
    todo: list[Vertex] = [*roots]
    while todo:
        vertex = todo.pop()
        if vertex in reading.arrows:
            continue
        if isinstance(vertex, int):
            ups = [(wait, wait.up_to()) for wait in select(vertex)]
            reading.waits[vertex] = ups
            arrows = each_once(up_to for _, up_to in ups)
        else:
            arrows = members_of(vertex)
        reading.arrows[vertex] = arrows
        todo.extend(arrows)
        if far and len(reading.arrows) == _FAR and not _unbroken and not _is_waited_for():
            return reading
    reading.stuck = stuck_in(reading.arrows)
    return reading


def _selected(mine: Waiting, without: AbstractSet[Waiting], ident: int) -> list[Waiting]:
    """The waits of a thread that count for a search from `mine`; of the searching thread only `mine` counts."""
    if ident == mine.ident:
        return [mine]
    return [wait for wait in waits_of(ident) if wait not in without and wait.counts()]


def _is_waited_for() -> bool:
    """Whether any thread waits for something that may be up to the calling thread."""
    # The calling thread has published its wait. A thread that waits for it later finds that wait, and searches itself.
    return any(map(_is_mine, map(_node_of, all_waits())))


# -- confirming --------------------------------------------------------------------------------------------------------

# The wait of each stuck thread, and the stuck threads that must act for each thread and group.
_Confirmed = tuple[dict[int, Waiting], Arrows]


def _confirm(first: _Reading, only: Callable[[int], Waiting | None]) -> _Confirmed:
    """Read the stuck part again, with `only` one wait of each thread; return what is stuck in both readings."""
    waits: dict[int, Waiting] = {}
    arrows: Arrows = {}
    for vertex in first.stuck:
        before = first.arrows[vertex]
        if isinstance(vertex, int):
            wait = only(vertex)
            up_to = None if wait is None else wait.up_to()
            arrows[vertex] = ()
            if wait is not None and up_to is not None and (wait, up_to) in first.waits[vertex]:
                waits[vertex] = wait
                arrows[vertex] = (up_to,)
        elif vertex.one_is_enough:
            now = members_of(vertex)
            arrows[vertex] = each_once((*now, *before)) if now else ()
        else:
            arrows[vertex] = within(members_of(vertex), {*before})
    stuck = stuck_in(arrows)
    return waits, {vertex: within(ends, stuck) for vertex, ends in arrows.items() if vertex in stuck}


def _standing(mine: Waiting, frames: Mapping[int, FrameType], ident: int) -> Waiting | None:
    """The innermost wait of a thread, if it counts and the thread has no handler or finalizer on top of it."""
    wait = mine if ident == mine.ident else innermost_of(ident)
    if wait is None or not wait.counts():
        return None
    return wait if wait is mine or _stands_in(wait, frames.get(ident)) else None


def _stands_in(waiting: Waiting, frame: FrameType | None) -> bool:
    # On top of the waiting frame there may be functions of this library that publish, search and block. Any other frame
    # there is a handler or a finalizer of the program. A handler that publishes a wait of its own has this library's
    # functions on top as well: then the frame below them decides, if it may be read. If the thread has no frame,
    # nothing can be on top of its wait.
    try:
        if frame is None or id(frame) == waiting.frame_id:
            return True
        if FRAMES_ARE_SHARED:
            return stands_on(frame, waiting.frame_id)
        return frame.f_code.co_filename in _OURS
    finally:
        del frame


FREE: Final = None
UNSURE: Final = False


def look(mine: Waiting, without: AbstractSet[Waiting] = frozenset()) -> Knot | Literal[False] | None:
    """Check whether a wait of the calling thread is stuck, even without some other waits.

    Returns:
        The threads with which it is stuck; `FREE` if it is not stuck, and `UNSURE` if that is not known yet.
    """
    reading = _read([mine.ident], partial(_selected, mine, without), far=True)
    if mine.ident not in reading.stuck:
        return FREE
    waits, arrows = with_frames(lambda frames: _confirm(reading, partial(_standing, mine, frames)))
    return Knot(mine, waits, arrows) if mine.ident in arrows else UNSURE


class Knot:
    """Threads that can never go on, each with the one wait that counts, seen from one of them.

    Attributes:
        mine: The wait from which they are seen.
        waits: The wait of each thread, in the order in which they are reached from that one.
        arrows: For each one the stuck threads that must act.
        core: The threads and groups that are the reason: each waits, through others, for itself. Empty if `mine` is not
            one of them, but only waits for such threads.
    """

    __slots__ = ("arrows", "core", "mine", "waits")

    def __init__(self, mine: Waiting, waits: Mapping[int, Waiting], arrows: Arrows) -> None:
        self.mine = mine
        self.arrows = arrows
        order = reached_from(mine.ident, arrows)
        self.waits: dict[int, Waiting] = {each: waits[each] for each in order if isinstance(each, int)}
        backward: dict[Vertex, list[Vertex]] = {}
        for vertex in order:
            for end in arrows[vertex]:
                backward.setdefault(end, []).append(vertex)
        self.core: dict[Vertex, Vertex] = reached_from(mine.ident, backward) if mine.ident in backward else {}

    def last(self) -> tuple[Waiting, float]:
        """The last of the unsettled waits in the core, or of those that can be refused if there are any.

        A wait without a serial counts as the last: its thread is about to search itself. The serial is returned too,
        because it may have changed a moment later.
        """
        serials = [(wait, wait.serial) for ident, wait in self.waits.items() if ident in self.core]
        looking = [(wait, serial) for wait, serial in serials if serial != SETTLED]
        return max(looking, key=lambda each: (each[0].victim, each[1]))

    def is_settled(self) -> bool:
        """Whether there is no other thread that may still give way."""
        return all(wait.serial == SETTLED for wait in self.waits.values() if wait is not self.mine)

    def is_endless(self) -> bool:
        """Whether no other thread's wait has a limit."""
        return all(wait.deadline_at is None for wait in self.waits.values() if wait is not self.mine)

    def edges(self) -> list[tuple[Waiting, int]]:
        """The wait of each thread with one thread that it is up to; those of a cycle come first, if there is one."""
        start = self.mine.ident
        came_from = reached_from(start, self.arrows)
        closing = next((vertex for vertex in came_from if start in self.arrows[vertex]), start)
        way: list[Vertex] = [closing]
        while way[-1] != start:
            way.append(came_from[way[-1]])
        cycle = [vertex for vertex in reversed(way) if isinstance(vertex, int)]
        follows = dict(zip(cycle, [*cycle[1:], start], strict=True)) if self.core else {}
        others = [ident for ident in self.waits if ident not in follows]
        return [(self.waits[ident], follows.get(ident) or self._some_end(ident)) for ident in [*follows, *others]]

    def _some_end(self, vertex: Vertex) -> int:
        while True:
            vertex = next(iter(self.arrows[vertex]))
            if isinstance(vertex, int):
                return vertex


# -- reporting ---------------------------------------------------------------------------------------------------------


def deadlock(knot: Knot) -> DeadlockError:
    """Make the error that describes it, beginning with the thread that gets it."""
    edges = knot.edges()
    cycle = [_say(wait, holder) for wait, holder in edges]
    stacks = with_frames(lambda frames: [without_ours(stack_of(wait.ident, frames)) for wait, _ in edges])
    lines = [f"deadlock: {say_cycle(cycle)}"]
    lines += _summary(
        [
            "\n".join(
                [
                    f"  {say_thread(wait.thread)} is {whereabouts(stack)}:",
                    *(f"    {say_frame(frame)}" for frame in programs_own(stack)),
                    *_say_taking(node, wait, holder),
                ]
            )
            for wait, stack, (node, holder) in zip(
                cycle, stacks, ((wait.node, holder) for wait, holder in edges), strict=True
            )
        ],
        "\n",
    ).split("\n")
    what = cycle[0].lock_name if cycle[0].words else repr(cycle[0].lock_name)
    lines.append(f"so {say_thread(cycle[0].thread)} does not wait for {what}: {_advice(wait for wait, _ in edges)}")
    return DeadlockError("\n".join(lines), cycle=cycle, stacks=stacks)


def _say_taking(thing: object, wait: Wait, holder: int) -> list[str]:
    taking = taking_of(thing, holder)
    return [] if taking is None else [f"    ({wait.lock_name!r}: {taking.who()} took it at {taking.where()})"]


def _say(waiting: Waiting, holder: int) -> Wait:
    """Describe one wait, and the thread that it is up to."""
    node = waiting.node
    if not isinstance(node, Awaited):
        return Wait(_name(waiting.ident), node.name, _name(holder))
    words = f"waits for {node.sought}, {node.why(_thread)}"
    return Wait(_name(waiting.ident), node.sought, _name(holder), words)


def _advice(waits: Iterable[Waiting]) -> str:
    said = [wait.node.advice for wait in waits if isinstance(wait.node, Awaited)]
    return "; or ".join(dict.fromkeys(said)) or _ADVICE


def _summary(parts: list[str], between: str) -> str:
    """Join the parts; if there are very many, the first and the last ones."""
    left_out = len(parts) - _FIRST - _LAST
    if left_out > 1:
        parts = [*parts[:_FIRST], f"  ... and {left_out} more threads, all of them in .cycle ...", *parts[-_LAST:]]
    return between.join(parts)


def say_cycle(cycle: Sequence[Wait]) -> str:
    """Describe the waits of a deadlock on one line; if there are very many, the first and the last ones."""
    return _summary(list(map(str, cycle)), ", ")


def _name(ident: int) -> str:
    return thread_name(ident) or nameless(ident)


def _thread(ident: int) -> str:
    return say_thread(_name(ident))


def why_in_vain(awaited: Awaited) -> str:
    """Say why a wait that reached its limit could not have ended before; ``""`` if it could have."""
    knot = look(Waiting(awaited))
    if not isinstance(knot, Knot):
        return ""
    edges = knot.edges()
    cycle = [_say(*edge) for edge in edges]
    return f"It could not have ended: {say_cycle(cycle)}; {_advice(wait for wait, _ in edges)}"


def own_deadlock(name: str, advice: str, of: object = None) -> DeadlockError:
    """Make the error for a thread that would wait for itself, or for a thread that had the same ident.

    Args:
        name: The name of the thing that it would wait for.
        advice: How to avoid the deadlock.
        of: The lock, if the place where it was acquired may have been recorded.
    """
    ident = get_ident()
    me = _name(ident)
    taking = None if of is None else taking_of(of, ident)
    if taking is None:
        holder = "already held by this thread, or one that had its ident and ended without releasing it,"
    elif taking.has_ended():
        holder = (
            f"still held by {taking.who()}, which took it at {taking.where()}, ended without releasing it and had the "
            f"ident of this thread,"
        )
        advice = "release it in the thread that took it: use `with`, which always does"
    else:
        holder = f"already held by this thread, which took it at {taking.where()},"
    return DeadlockError(
        f"{name!r} is {holder} so {say_thread(me)} would wait for itself and never go on; {advice}",
        cycle=[Wait(me, name, me)],
        stacks=[without_ours(stack_of(ident))],
    )


def _log_unbreakable(knot: Knot) -> None:
    import logging  # here, so that the locks are quick to import

    _unbroken.append(None)
    foreign.log(
        logging.ERROR,
        f"Condition.wait() must acquire its lock again, which completes a cycle that it can't break: {deadlock(knot)}",
    )


# -- finding -----------------------------------------------------------------------------------------------------------


def find_deadlocks() -> tuple[tuple[Wait, ...], ...]:
    """Return the present deadlocks: threads that wait for each other without end.

    The waits of this library refuse to deadlock among themselves (`DeadlockError`). So this finds what they can't know
    or prevent: locks of other kinds in a `LockAdapter`, and a `threading.Condition` that has to acquire its lock again.
    A wait of `acquire` with a timeout does not count, because it ends by itself. It blocks no thread.

    Returns:
        For each deadlock its waits, as in `DeadlockError.cycle`.

    Example:
        >>> from syncprims.diagnostics import find_deadlocks
        >>> find_deadlocks()
        ()
    """
    found = knots((wait.ident for wait in all_waits()), _endless, _innermost_endless)
    return tuple(tuple(_say(wait, holder) for wait, holder in knot.edges()) for knot in found)


def knots(
    idents: Iterable[int], select: Callable[[int], Iterable[Waiting]], innermost: Callable[[int], Waiting | None]
) -> list[Knot]:
    """Return each set of threads that wait, through others, for themselves, if two readings agree.

    Args:
        idents: The threads to begin with.
        select: The waits of a thread that count.
        innermost: The one of them in which the thread is now, or None.
    """
    waits, arrows = _confirm(_read(dict.fromkeys(idents), select), innermost)
    found = []
    for component in components_of(arrows):
        first = next((vertex for vertex in component if isinstance(vertex, int)), None)
        if first is not None:
            inside = {vertex: within(arrows[vertex], component) for vertex in component}
            knot = Knot(waits[first], waits, inside)
            if knot.core:
                found.append(knot)
    return found


def _endless(ident: int) -> list[Waiting]:
    return [wait for wait in waits_of(ident) if _is_endless(wait)]


def _innermost_endless(ident: int) -> Waiting | None:
    wait = innermost_of(ident)
    return wait if wait is not None and _is_endless(wait) else None


def _is_endless(wait: Waiting) -> bool:
    """Whether the wait counts for `find_deadlocks`, which also counts waits that would never be refused."""
    return wait.counts() or (not wait.takes_part and wait.deadline_at is None)
