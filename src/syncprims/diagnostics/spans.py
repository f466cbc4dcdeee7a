"""`Span`: a stretch of time in which a thread waited, held or worked; and the arrows between spans."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from ..facts import Frozen

# The thing that a span belongs to: a lock by its serial, a sequence or a task by its identity at the time.
Key = tuple[object, ...]

_MOMENT: Final = 1e-9  # seconds: the shortest length of a span

# Outcomes; the type of an error follows the last one.
GAVE_UP: Final = "gave up"
REFUSED: Final = "deadlock refused"
INTERRUPTED: Final = "interrupted"
NOT_OVER: Final = "not over"
FAILED: Final = "failed: "


class Span(Frozen):
    """One stretch of time of a recording.

    Attributes:
        kind: ``"wait"`` for anything of this library or, under watch, of `threading`; ``"hold"`` of a lock, ``"turn"``
            of a runner's step, ``"task"`` or ``"callback"`` of a pool.
        name: What the span is about: the lock's name, ``runner[step]``, or ``pool: function``.
        thread: The name of the thread.
        ident: Its `threading.get_ident`, or None for a task in another process.
        site: Where in the program, like ``billing.py:41 in charge``; for a task, where it was submitted.
        start: When it began, in seconds after the beginning of the recording.
        end: When it ended, in the same way.
        waited: For a task, how long it was queued; for a callback, how long after the task it began; otherwise 0.
        outcome: How it ended. ``""`` if there is nothing to say; ``"gave up"`` for a wait whose time was up;
            ``"deadlock refused"`` for one that would have been part of a deadlock; ``"interrupted"`` for one that ended
            by a KeyboardInterrupt or the like; ``"failed: ValueError"``, with the type of the error, for a task, a
            callback or a turn that raised; ``"not over"`` if the recording ended first.
        key: A value that is the same for spans of the same lock, sequence or task.
        index: The number of the turn, for a turn.
        holder: For a wait, the name of the thread that held the lock or had the turn when the wait began; ``""`` if
            there was none.
    """

    __slots__ = (  # noqa: RUF023  the order of the arguments
        "kind",
        "name",
        "thread",
        "ident",
        "site",
        "start",
        "end",
        "waited",
        "outcome",
        "key",
        "index",
        "holder",
    )

    kind: str
    name: str
    thread: str
    ident: int | None
    site: str
    start: float
    end: float
    waited: float
    outcome: str
    key: Key
    index: int
    holder: str

    def __init__(
        self,
        kind: str,
        name: str,
        thread: str,
        ident: int | None,
        site: str,
        start: float,
        end: float,
        waited: float = 0.0,
        outcome: str = "",
        key: Key = (),
        index: int = 0,
        holder: str = "",
    ) -> None:
        self._set(kind, name, thread, ident, site, start, end, waited, outcome, key, index, holder)

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.start


def hand_offs(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Return the arrows between spans, as pairs of places in the list.

    A lock goes from the thread that releases it to the one that has waited for it, a runner from turn to turn, and a
    task to its callback.

    Args:
        spans: In the order of their starts.
    """
    pairs = []
    before: dict[Key, int] = {}
    waited: dict[tuple[Key, int | None], float] = {}
    for place, span in enumerate(spans):
        earlier = before.get(span.key)
        if span.kind == "wait":
            if not span.outcome:
                waited[span.key, span.ident] = span.end
            continue
        if span.kind == "hold":
            since = waited.pop((span.key, span.ident), None)
            handed_on = (
                earlier is not None
                and since is not None
                and spans[earlier].ident != span.ident
                and spans[earlier].start < since
            )
        elif span.kind == "turn":
            handed_on = earlier is not None and spans[earlier].index + 1 == span.index
        else:
            handed_on = span.kind == "callback" and earlier is not None
        if handed_on and earlier is not None:
            pairs.append((earlier, place))
        before[span.key] = place
    return pairs


def held_meanwhile(spans: Sequence[Span]) -> tuple[list[list[int]], dict[int, tuple[int, int, int]]]:
    """Return the holds that were in the way of each wait.

    Args:
        spans: In the order of their starts.

    Returns:
        The holds or turns of each lock or runner, as lists of places in `spans`. And, by the place of each wait that
            any of them overlaps: the number of its list, and the range in that list, as its first place and the one
            after its last. If a lock has several holders at a time, some holds in the range were over before the wait
            began.
    """
    keys: dict[Key, int] = {}
    holds: list[list[int]] = []
    for place, span in enumerate(spans):
        if span.kind in ("hold", "turn"):
            number = keys.setdefault(span.key, len(holds))
            if number == len(holds):
                holds.append([])
            holds[number].append(place)
    starts = [[spans[place].start for place in places] for places in holds]
    # The latest end so far, which ascends even if the ends don't.
    ends = [list(accumulate((spans[place].end for place in places), max)) for places in holds]
    behind = {}
    for place, span in enumerate(spans):
        found = keys.get(span.key) if span.kind == "wait" else None
        if found is not None:
            first = bisect_right(ends[found], span.start)
            after = bisect_left(starts[found], max(span.end, span.start + _MOMENT))
            if first < after:
                behind[place] = found, first, after
    return holds, behind


def in_lanes(spans: Sequence[Span]) -> dict[tuple[int | None, str], list[list[int]]]:
    """Distribute the spans of each thread over lanes. In a lane, any two spans are nested or apart, for pictures.

    Locks may be released in another order than they were acquired, and several remote tasks of a pool run at once.

    Args:
        spans: In the order of their starts.

    Returns:
        For each thread, by ident and name, its lanes: lists of places in `spans`. The main thread comes first, the
            others by their names.
    """
    lanes: dict[tuple[int | None, str], list[list[int]]] = {}
    # For each lane, the ends of the spans that are open at this point, outermost first.
    open_ends: dict[tuple[int | None, str], list[list[float]]] = {}
    order = sorted(range(len(spans)), key=lambda place: (spans[place].start, -spans[place].end))
    for place in order:
        span = spans[place]
        row = (span.ident, span.thread)
        ends_of_lanes = open_ends.setdefault(row, [])
        row_lanes = lanes.setdefault(row, [])
        for lane, ends in zip(row_lanes, ends_of_lanes, strict=True):
            while ends and ends[-1] <= span.start:
                ends.pop()
            if not ends or span.end <= ends[-1]:
                lane.append(place)
                ends.append(span.end)
                break
        else:
            row_lanes.append([place])
            ends_of_lanes.append([span.end])
    return dict(sorted(lanes.items(), key=lambda item: (item[0][1] != "MainThread", _numbers_as_such(item[0][1]))))


def micros(seconds: float) -> float:
    """Return seconds in microseconds, the unit of the files, rounded to nanoseconds."""
    return round(seconds * 1e6, 3)


def _numbers_as_such(name: str) -> list[str | tuple[int, str]]:
    """Return a sort key by which worker-2 comes before worker-10."""
    # Not as int: a number with more digits than the interpreter allows would raise.
    parts = re.split(r"([0-9]+)", name)
    return [(len(part.lstrip("0")), part.lstrip("0")) if place % 2 else part for place, part in enumerate(parts)]
