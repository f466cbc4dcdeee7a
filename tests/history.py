"""Histories of concurrent calls of several threads, and whether one thread after another could have made them.

A history is linearizable if its calls can be put into one order in which each has an outcome of the model, and in which
none comes before a call that had ended when it began. Wing and Gong's search tries those orders, depth first. It does
not repeat what it has tried: the same calls that are left, with the same state of the model.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter_ns, sleep
from types import FrameType
from typing import Any, Generic, TypeVar

from syncprims.testing import Threads, patience

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Call(Generic[S]):
    """A call of a thread: its time and its outcome."""

    thread: int
    what: Hashable
    outcome: Hashable
    began: int
    ended: int
    then: tuple[Hashable, ...] = ()
    """Further parts of the call, which come one after the other later within the same time, with the same outcome."""


def linearizable(history: Sequence[Call[S]], start: S, model: Callable[[S, Call[S]], S | None]) -> bool:
    """Whether one thread after another could have made the history.

    Args:
        history: The calls of all threads.
        start: The model's state before them.
        model: Returns the state after a call, or None if the call can't have that outcome in this state.
    """
    parts, before = _parts(history)
    tried: set[tuple[frozenset[int], S]] = set()

    def search(left: frozenset[int], state: S) -> bool:
        if not left:
            return True
        if (left, state) in tried:
            return False
        tried.add((left, state))
        soonest_end = min(parts[index].ended for index in left)
        for index in sorted(left):
            part = parts[index]
            if part.began <= soonest_end and before[index] not in left:
                after = model(state, part)
                if after is not None and search(left - {index}, after):
                    return True
        return False

    return search(frozenset(range(len(parts))), start)


def _parts(history: Sequence[Call[S]]) -> tuple[list[Call[S]], list[int | None]]:
    """All parts of all calls, and for each the index of the part of the same call that has to come before it."""
    parts: list[Call[S]] = []
    before: list[int | None] = []
    for call in history:
        for number, what in enumerate((call.what, *call.then)):
            before.append(len(parts) - 1 if number else None)
            parts.append(Call(call.thread, what, call.outcome, call.began, call.ended))
    return parts, before


Act = Callable[[], Hashable]
"""Does something to what is tested, and returns how that came out."""


class Recorder(Generic[S]):
    """Makes calls, one after the other, in one thread of several, and notes the times and outcomes."""

    def __init__(self, thread: int, history: list[Call[S]]) -> None:
        self.thread = thread
        self._history = history

    def __call__(self, what: Hashable, act: Act, then: tuple[Hashable, ...] = ()) -> object:
        """Make the call, note it, and return its outcome."""
        began = perf_counter_ns()
        outcome = act()
        self._history.append(Call(self.thread, what, outcome, began, perf_counter_ns(), then))
        return outcome


def record(bodies: Sequence[Callable[[Recorder[S]], object]], random: Random) -> list[Call[S]]:
    """Run each body in its own thread, all at once, and return their notes.

    Before every line of Python a thread may let another one go on, so that calls overlap.
    """

    def restless(frame: FrameType, event: str, arg: object) -> Any:
        if random.random() < 0.3:
            sleep(0)
        return restless

    history: list[Call[S]] = []
    start = threading.Barrier(len(bodies))

    def work(number: int) -> None:
        start.wait(patience())
        sys.settrace(restless)
        try:
            bodies[number](Recorder(number, history))
        finally:
            sys.settrace(None)

    with Threads() as threads:
        for number in range(len(bodies)):
            threads.start(work, number)
    return history


def overlaps(history: Sequence[Call[S]]) -> bool:
    """Whether any two calls overlapped."""
    return any(one.began < other.began < one.ended for one in history for other in history if one is not other)
