"""Explore interleavings of two threads over the locks, run as a program: ``exploration.py SCENARIO BOUND SECONDS``.

frontrun schedules what is written in Python, so the C lock under `TimedLock` is replaced, before the library is
imported, by a model of it in Python. Everything above it is the library's own code: the two tries, the wait-for graph
with its publication, walk and confirmation, the undoing. Prints a JSON object on what was explored.
"""

from __future__ import annotations

import _thread
import json
import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from itertools import count
from threading import get_ident
from types import TracebackType
from typing import Any, ClassVar

import frontrun  # type: ignore[import-untyped]  # it has no types
from frontrun._cooperative import CooperativeLock, patch_locks  # type: ignore[import-untyped]


class ModelOfCLock:
    """What `_thread.RLock` does, over a lock at which frontrun can switch threads."""

    __slots__ = ("__weakref__", "c_count", "c_lock", "c_owner")

    c_lock: Any
    c_owner: int
    c_count: int

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Only `__new__` matters, as with the C type."""

    def __new__(cls, *args: object, **kwargs: object) -> ModelOfCLock:  # noqa: PYI034  subclasses call it untyped
        """Make a free lock."""
        self = object.__new__(cls)
        self.c_lock = CooperativeLock()
        self.c_owner = 0
        self.c_count = 0
        return self

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it once more where it is the caller's."""
        if self.c_owner == get_ident():
            self.c_count += 1
            return True
        if not self.c_lock.acquire(blocking, timeout):
            return False
        self.c_owner = get_ident()
        self.c_count = 1
        return True

    __enter__ = acquire

    def release(self) -> None:
        """Let go of it once."""
        if self.c_owner != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self.c_count -= 1
        if self.c_count == 0:
            self.c_owner = 0
            self.c_lock.release()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self.c_owner == get_ident()

    def __repr__(self) -> str:
        state = "locked" if self.c_owner else "unlocked"
        return f"<{state} model object owner={self.c_owner} count={self.c_count} at 0x0>"

    def _release_save(self) -> tuple[int, int]:
        raise NotImplementedError

    def _acquire_restore(self, state: tuple[int, int]) -> None:
        raise NotImplementedError

    def _at_fork_reinit(self) -> None:
        raise NotImplementedError


_thread.RLock = ModelOfCLock  # type: ignore[misc,assignment]  # before the library looks it up

from syncprims import DeadlockError, TimedLock, _waits  # noqa: E402  the model has to come first

# A thread that is not its turn stands in frontrun's code, which looks like a handler on top of its wait.
_waits._undisturbed = lambda circle: True


class Exclusion:
    """Two threads add to one counter under a lock, without anything else that would keep the sum right."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.lock = TimedLock(name="lock")
        self.total = 0

    def add(self) -> None:
        """What each thread does."""
        with self.lock:
            before = self.total
            self.total = before + 1

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (add, add)

    def holds(self) -> bool:
        """Nothing is lost, and the lock is free."""
        return self.total == 2 and not self.lock.locked() and not self.lock.waiting


class NoExclusion(Exclusion):
    """The same without the lock: an exploration that finds nothing here explores nothing."""

    def add(self) -> None:
        """What each thread does."""
        before = self.total
        self.total = before + 1

    workers = (add, add)


class Crossing:
    """Two threads take two locks in opposite order."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.one, self.other = TimedLock(name="one"), TimedLock(name="other")
        self.done: list[str] = []
        self.victims: list[int] = []

    def take(self, first: TimedLock, second: TimedLock, me: str) -> None:
        """Take both, or be the victim."""
        try:
            with first, second:
                self.done.append(me)
        except DeadlockError as error:
            self.victims.append(len(error.cycle))

    def forth(self) -> None:
        """What one thread does."""
        self.take(self.one, self.other, "forth")

    def back(self) -> None:
        """What the other does."""
        self.take(self.other, self.one, "back")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (forth, back)

    def holds(self) -> bool:
        """At most one was the victim, of a circle of two, and everybody else came through."""
        outcome = (len(self.done), self.victims)
        outcomes[str(outcome)] = outcomes.get(str(outcome), 0) + 1
        free = not any(lock.locked() or lock.waiting for lock in (self.one, self.other))
        return free and outcome in ((2, []), (1, [2]))


class Order(Crossing):
    """The same in one order: no interleaving is a deadlock."""

    def back(self) -> None:
        """What the other does."""
        self.take(self.one, self.other, "back")

    workers = (Crossing.forth, back)

    def holds(self) -> bool:
        """Both came through."""
        return super().holds() and len(self.done) == 2


class TwoVictims(Crossing):
    """A mutation: every thread that sees a circle gives way."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        _waits.Waiting._claims = lambda waiting, circle: True  # type: ignore[assignment,method-assign]


class NoVictim(Crossing):
    """A mutation: the record is published after the walk, so that two threads may miss each other."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        publish = _waits.Waiting.publish

        def walk_first(waiting: _waits.Waiting) -> None:
            circle = _waits.find_circle(waiting)
            waiting.takes_part = False
            publish(waiting)
            waiting.takes_part = True
            if circle is not None:
                raise _waits.deadlock(circle)

        _waits.Waiting.publish = walk_first  # type: ignore[assignment,method-assign]


class Serials(Crossing):
    """A mutation: the victim is who has the highest serial, which is drawn and stored in two steps."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        serials: dict[_waits.Waiting, int] = {}
        drawn = count()
        find_circle = _waits.find_circle

        def draw_and_find(
            start: _waits.Waiting, without: AbstractSet[_waits.Waiting] = frozenset()
        ) -> list[_waits.Waiting] | None:
            serial = next(drawn)
            serials[start] = serial
            return find_circle(start, without)

        def highest(waiting: _waits.Waiting, circle: list[_waits.Waiting]) -> bool:
            return all(serials[waiting] > serials.get(other, 1 << 62) for other in circle[1:])

        _waits.find_circle = draw_and_find
        _waits.Waiting._claims = highest  # type: ignore[assignment,method-assign]


outcomes: dict[str, int] = {}


def main(scenario: str, bound: str, seconds: str) -> None:
    """Explore, and print what came of it."""
    kind: Any = globals()[scenario]
    patch_locks()
    if hasattr(kind, "mutate"):
        kind.mutate()
    result = frontrun.explore(
        setup=kind,
        workers=kind.workers,
        invariant=kind.holds,
        preemption_bound=None if bound == "None" else int(bound),
        total_timeout=float(seconds),
        detect_io=False,
        trace_packages=["syncprims.*"],
        reproduce_on_failure=0,
    )
    report = {
        "holds": result.property_holds,
        "explored": result.num_explored,
        "exhausted": result.exhausted,
        "outcomes": outcomes,
        "explanation": result.explanation,
        "inconclusive": result.inconclusive_reason,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
