"""A deterministic explorer: it runs some threads through every order of their steps on shared objects.

The threads are real ones and run the library's own code, one at a time. Before each step on a shared object, a thread
announces the object and whether it changes it, and stops until it is asked to go on. If two steps of different threads
are on different objects, or change nothing, both orders have the same result, so one of the two orders is enough (sleep
sets). Apart from that, every order is tried: the only bound of `Explorer.explore` is the number of runs.
"""

from __future__ import annotations

import threading
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

LIMIT: Final = 60.0  # seconds; a step that takes longer hangs
EVERYTHING: Final = "everything"


@dataclass(frozen=True)
class Step:
    """The next step of a thread: on which object, whether it changes the object, and whether it can be done now."""

    thing: Hashable
    changes: bool
    ready: Callable[[], bool] = field(default=lambda: True, compare=False)

    def conflicts(self, other: Step) -> bool:
        """Whether the order of the two matters."""
        same = self.thing == other.thing or EVERYTHING in (self.thing, other.thing)
        return same and (self.changes or other.changes)


class Stopped(BaseException):
    """Ends a thread of a run that is abandoned."""


class Scenario(Protocol):
    """One run: the functions of its threads, and the check of the result."""

    @property
    def actors(self) -> Sequence[Callable[[], object]]:
        """The function of each thread."""

    def problem(self) -> str | None:
        """Describe the fault at the end, if there is one."""


class _Actor:
    """A thread that does one step whenever it is asked to."""

    def __init__(self, number: int, run: Callable[[], object], back: LockType) -> None:
        self.number = number
        self.go_on = allocate_lock()
        self.go_on.acquire()
        self.back = back
        self.next: Step | None = Step(("start", number), False)
        self.given_up = False
        self.looked_at = 0
        self.error: BaseException | None = None
        self._run = run
        start_new_thread(self._live, ())

    def _live(self) -> None:
        _here.actor = self
        try:
            self.pause()
            self._run()
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        self.next = None
        self.back.release()

    def announce(self, step: Step) -> None:
        """Announce the next step, and do it when asked to."""
        self.next = step
        self.back.release()
        self.pause()

    def pause(self) -> None:
        """Wait until asked to go on."""
        self.go_on.acquire()
        if self.given_up:
            raise Stopped

    def step(self) -> None:
        """Let the thread do its next step, and wait until it is about to do another, or has ended."""
        self.go_on.release()
        assert self.back.acquire(timeout=LIMIT), "a step hangs"


class _Here(threading.local):
    actor: _Actor | None = None


_here = _Here()
_changes = [0]


def step(thing: Hashable, *, changes: bool = False, ready: Callable[[], bool] | None = None) -> None:
    """Announce a step on a shared object; do nothing in a thread that is not explored, or is abandoned."""
    actor = _here.actor
    if actor is not None and not actor.given_up:
        actor.announce(Step(thing, changes) if ready is None else Step(thing, changes, ready))
        _changes[0] += changes


def until_something_changes() -> None:
    """Announce another look, which makes sense only if something has changed since the last look began."""
    actor = _here.actor
    assert actor is not None
    step(EVERYTHING, ready=lambda: _changes[0] > actor.looked_at)
    actor.looked_at = _changes[0]


class _Choice:
    """A point in a run: which actors could go on, must be tried here, were tried here, and need not be tried.

    Attributes:
        number: The actor that goes on.
        before: The points of the run that are ordered before its step, as bits.
    """

    def __init__(self, steps: dict[int, Step], asleep: dict[int, Step]) -> None:
        self.steps = steps
        self.asleep = asleep
        self.wanted: set[int] = set()
        self.tried: dict[int, Step] = {}
        self.number = -1
        self.before = 0
        if (first := next((number for number in steps if number not in asleep), None)) is not None:
            self.wanted.add(first)

    @property
    def step(self) -> Step:
        """The step that is done here."""
        return self.steps[self.number]

    def want(self, number: int) -> None:
        """Mark an actor to be tried here; or all of them, if it could not go on here."""
        self.wanted |= {number} if number in self.steps else self.steps.keys()

    def choose(self) -> bool:
        """Choose the next actor to try; return False if none is left."""
        for number in self.wanted:
            if number not in self.tried and number not in self.asleep:
                self.number = number
                self.tried[number] = self.steps[number]
                return True
        return False

    def asleep_after(self) -> dict[int, Step]:
        """The actors that the next point need not try: that order was tried from here, and has the same result."""
        return {
            number: found
            for number, found in {**self.asleep, **self.tried}.items()
            if number != self.number and not found.conflicts(self.step)
        }


class Explorer:
    """Runs a scenario in every order.

    Args:
        make: Makes the scenario, the same each time.
        most: The number of runs after which to give up.
    """

    def __init__(self, make: Callable[[], Scenario], most: int) -> None:
        """Begin without any explored order."""
        self._make = make
        self._most = most
        self._path: list[_Choice] = []
        self.runs = 0
        self.complete = False
        self.problem: str | None = None
        self.outcomes: dict[str, int] = {}

    def explore(self) -> Explorer:
        """Go on until every order was tried, a problem was found, or there were too many runs."""
        while self.runs < self._most and self.problem is None:
            self.runs += 1
            self.problem = self._run_once()
            while self._path and not self._path[-1].choose():
                self._path.pop()
            if not self._path:
                self.complete = self.problem is None
                break
        return self

    def _run_once(self) -> str | None:
        scenario = self._make()
        _changes[0] = 0
        back = allocate_lock()
        back.acquire()
        actors = [_Actor(number, run, back) for number, run in enumerate(scenario.actors)]
        try:
            redundant = self._follow(actors)
        finally:
            for actor in actors:
                if actor.next is not None:
                    actor.given_up = True
                    actor.step()
        errors = [actor.error for actor in actors if actor.error is not None]
        if errors:
            raise errors[0]
        if redundant is not None:
            return redundant or None
        return scenario.problem()

    def _follow(self, actors: list[_Actor]) -> str | None:
        """Run to the end; return a problem, or "" if this order need not be checked."""
        depth = 0
        while any(actor.next is not None for actor in actors):
            steps = {actor.number: actor.next for actor in actors if actor.next is not None and actor.next.ready()}
            if not steps:
                return "all threads that have not ended are blocked"
            if depth == len(self._path):
                choice = _Choice(steps, self._path[-1].asleep_after() if self._path else {})
                if not choice.choose():
                    return ""
                self._path.append(choice)
            if depth == len(self._path) - 1:  # the others are the same as in the previous run
                self._order(depth)
            actors[self._path[depth].number].step()
            depth += 1
            if depth > 2000:
                return "it goes on and on"
        return None

    def _order(self, depth: int) -> None:
        """Find out which points are ordered before a step, and where the step has to be tried earlier."""
        mine = self._path[depth]
        mine.before = 0
        for earlier in range(depth - 1, -1, -1):
            other = self._path[earlier]
            ordered = mine.before >> earlier & 1
            if other.number == mine.number:
                mine.before |= other.before | 1 << earlier
            elif not ordered and other.step.conflicts(mine.step):
                other.want(mine.number)
                mine.before |= other.before | 1 << earlier
