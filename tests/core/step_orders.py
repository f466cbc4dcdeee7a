"""A deterministic explorer: it runs some threads through every order of the steps that they do on shared things.

The threads are real ones and run the library's own code, one at a time. At each step that touches something shared they
say what it is and whether they change it, and stop until they are asked to go on. Two steps of different threads that
touch different things, or change nothing, come to the same in both orders, so one of the two orders is enough (sleep
sets). Apart from that, every order is tried: `Explorer.explore` has no bound but the number of runs.
"""

from __future__ import annotations

import threading
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

LIMIT: Final = 20.0  # seconds that no step takes unless it hangs
EVERYTHING: Final = "everything"


@dataclass(frozen=True)
class Step:
    """What a thread is about to do: with which thing, whether it changes that, and whether it can be done now."""

    thing: Hashable
    changes: bool
    ready: Callable[[], bool] = field(default=lambda: True, compare=False)

    def conflicts(self, other: Step) -> bool:
        """Whether the order of the two matters."""
        same = self.thing == other.thing or EVERYTHING in (self.thing, other.thing)
        return same and (self.changes or other.changes)


class Stopped(BaseException):
    """Ends a thread of a run that is given up."""


class Scenario(Protocol):
    """One run: what its threads do, and whether it came out right."""

    @property
    def actors(self) -> Sequence[Callable[[], object]]:
        """What each thread does."""

    def problem(self) -> str | None:
        """Say what is wrong at the end, if anything."""


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
        """Say what comes next, and do it when asked to."""
        self.next = step
        self.back.release()
        self.pause()

    def pause(self) -> None:
        """Wait until asked to go on."""
        self.go_on.acquire()
        if self.given_up:
            raise Stopped

    def step(self) -> None:
        """Have it do its next step, and wait until it is about to do another, or has ended."""
        self.go_on.release()
        assert self.back.acquire(timeout=LIMIT), "a step hangs"


class _Here(threading.local):
    actor: _Actor | None = None


_here = _Here()
_changes = [0]


def step(thing: Hashable, *, changes: bool = False, ready: Callable[[], bool] | None = None) -> None:
    """Be about to touch something shared; does nothing in a thread that is not explored, or is given up."""
    actor = _here.actor
    if actor is not None and not actor.given_up:
        actor.announce(Step(thing, changes) if ready is None else Step(thing, changes, ready))
        _changes[0] += changes


def until_something_changes() -> None:
    """Be about to look again, which makes sense only if something has changed since the last look began."""
    actor = _here.actor
    assert actor is not None
    step(EVERYTHING, ready=lambda: _changes[0] > actor.looked_at)
    actor.looked_at = _changes[0]


class _Choice:
    """A point in a run: who could go on, who has to be tried here, who was, and who need not be.

    Attributes:
        number: The actor that goes on.
        before: Which points of the run are ordered before its step, as bits.
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
        """Have an actor tried here; or all of them, if it could not go on here."""
        self.wanted |= {number} if number in self.steps else self.steps.keys()

    def choose(self) -> bool:
        """Choose the next one to try; False if there is none left."""
        for number in self.wanted:
            if number not in self.tried and number not in self.asleep:
                self.number = number
                self.tried[number] = self.steps[number]
                return True
        return False

    def asleep_after(self) -> dict[int, Step]:
        """Whom the next point need not try: that order was tried from here, and comes to the same."""
        return {
            number: found
            for number, found in {**self.asleep, **self.tried}.items()
            if number != self.number and not found.conflicts(self.step)
        }


class Explorer:
    """Runs a scenario in every order.

    Args:
        make: Makes the scenario, the same each time.
        most: After how many runs to give up.
    """

    def __init__(self, make: Callable[[], Scenario], most: int) -> None:
        """Begin with nothing explored."""
        self._make = make
        self._most = most
        self._path: list[_Choice] = []
        self.runs = 0
        self.complete = False
        self.problem: str | None = None
        self.outcomes: dict[str, int] = {}

    def explore(self) -> Explorer:
        """Go on until every order was tried, a problem was found, or there were too many."""
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
        """Run to the end; return a problem, or "" if this order need not be looked at."""
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
            if depth == len(self._path) - 1:  # the others are as they were in the run before
                self._order(depth)
            actors[self._path[depth].number].step()
            depth += 1
            if depth > 2000:
                return "it goes on and on"
        return None

    def _order(self, depth: int) -> None:
        """Find out what is ordered before a step, and where it has to be tried earlier than it came."""
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
