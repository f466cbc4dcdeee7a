"""Waiting for the value of a counter: who waits, and how a change wakes them."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterable
from functools import partial
from operator import call
from threading import get_ident
from typing import Protocol

from .._core.deadline import Deadline
from .._core.integers import shown
from .._core.lazy import refuse_lazy
from .._core.waits import Node, Waiting
from ..errors import CounterTimeoutError

# Who waits registers under the counter's lock, and only then looks at the value. Who changes the value prepares, before
# the change, what tells those who are registered; telling them is then one C call right after the store, and no
# interrupt can lose a wake-up. Being told strikes a waiter off; if it has to wait on, it registers anew. So a slow
# predicate is told once, however many changes there are meanwhile, and they cost next to nothing.
#
# Rejected: a lock as a gate, opened by `acquire(False)` and `release()`. On 3.11 to 3.13 a thread that has just got a
# lock marks it as taken only once it has the GIL again; until then the first says that it is taken and the second that
# it is not, by a RuntimeError.


class Watched(Node, Protocol):
    """What a waiter needs of its counter."""

    _value: int
    _waiters: dict[ValueWaiter, None]

    def _admit(self, waiter: ValueWaiter) -> None:
        """Register the waiter under the lock."""


class ValueWaiter:
    """One call of `AtomicCounter.wait_for` or `wait_until`."""

    __slots__ = ("_goal", "_predicate", "_what", "ident", "told")

    def __init__(self, predicate: Callable[[int], bool], what: str, goal: int | None = None) -> None:
        """Prepare a wait in the calling thread.

        Args:
            predicate: Says of a value whether it is the one.
            what: What the timeout's message calls such a value.
            goal: The least such value, where that is what they are; None where the predicate alone decides.
        """
        self.ident = get_ident()
        self.told: SimpleQueue[int] = SimpleQueue()
        self._predicate = predicate
        self._what = what
        self._goal = goal

    def hears(self, value: int) -> bool:
        """Whether there is something in this value for the waiter to look at."""
        return self._goal is None or value >= self._goal

    def wait(self, counter: Watched, timeout: float | None) -> int:
        """Block until a value is the one, and return it; at most `timeout` seconds."""
        deadline = Deadline(timeout)
        waiting = Waiting(counter, deadline.at, takes_part=False)
        try:
            return self._look(counter, deadline, waiting)
        finally:
            # Two C functions: no interrupt comes before the first, and one that comes after it is past the second.
            try:
                counter._waiters.pop(self, None)
            finally:
                waiting.withdraw()

    def _look(self, counter: Watched, deadline: Deadline, waiting: Waiting) -> int:
        counter._admit(self)
        if says_yes(self._predicate(value := counter._value)):
            return value
        if deadline.timeout != 0:
            waiting.publish()
        while True:
            left = deadline.remaining()
            told = self._listen(left)
            if told is not None and self._goal is not None:
                return told  # it reached the goal, even if it did not stay
            if left == 0:
                waited = deadline.waited()
                raise CounterTimeoutError(
                    f"waited {waited:.1f} s for {counter.name!r} to be {self._what}, and it is {shown(value)}",
                    value=value,
                    timeout=deadline.timeout,
                    waited=waited,
                )
            counter._admit(self)
            if says_yes(self._predicate(value := counter._value)):
                return value

    def _listen(self, seconds: float | None) -> int | None:
        try:
            return self.told.get(True, seconds)
        except Empty:
            return None


def says_yes(answer: object) -> bool:
    """Whether a predicate's answer is true; a coroutine or the like is none."""
    if answer is True or answer is False:
        return answer
    refuse_lazy(answer, "the predicate")
    return bool(answer)


def telling(waiters: dict[ValueWaiter, None], value: int) -> Iterable[object]:
    """Prepare what tells the waiters of this value, for `exhaust`."""
    # list() of a dictionary is one step without the GIL too, where waiters may leave meanwhile; tuple() is not.
    hearing = [waiter for waiter in list(waiters) if waiter.hears(value)]
    return map(
        call,
        [step for waiter in hearing for step in (partial(waiter.told.put, value), partial(waiters.pop, waiter, None))],
    )


def forget_others(waiters: dict[ValueWaiter, None]) -> None:
    """Take out, in a forked child, those who wait in threads that did not come along."""
    me = get_ident()
    for waiter in list(waiters):
        if waiter.ident != me:
            del waiters[waiter]
