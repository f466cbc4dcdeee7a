"""Waiting for the value of a counter: the waiters, and how a change wakes them."""

from __future__ import annotations

from _queue import Empty
from collections.abc import Callable, Iterable
from functools import partial
from operator import call
from threading import get_ident
from typing import Protocol

from .._core.deadline import Deadline
from .._core.integers import shown
from .._core.lazy import refuse_lazy
from .._core.mailbox import Mailbox
from .._core.waits import Node, Waiting
from ..errors import CounterTimeoutError

# A waiter registers under the counter's lock, and only then reads the value. A thread that changes the value first
# prepares the notification of the registered waiters. The notification is then one C call right after the store, so no
# interrupt can lose a wakeup. It also removes the waiter from the register; a waiter that goes on waiting registers
# again. So a waiter with a slow predicate is notified once, however many changes there are while the predicate runs,
# and these changes cost next to nothing.
#
# Rejected: a lock as a gate, opened by `acquire(False)` and `release()`. On 3.11 to 3.13 a thread that has just
# acquired a lock marks it as locked only once it has the GIL again. Until then the first call reports that the lock is
# locked, and the second one raises a RuntimeError because the lock is not marked.


class Watched(Node, Protocol):
    """The part of a counter that its waiters use."""

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
            predicate: Returns whether a value ends the wait.
            what: The name of such a value in the message of a timeout.
            goal: The least such value, if all greater ones end the wait too; None if only the predicate decides.
        """
        self.ident = get_ident()
        self.told: Mailbox[int] = Mailbox()
        self._predicate = predicate
        self._what = what
        self._goal = goal

    def hears(self, value: int) -> bool:
        """Whether the waiter has to examine this value."""
        return self._goal is None or value >= self._goal

    def wait(self, counter: Watched, timeout: float | None) -> int:
        """Block until a value ends the wait, at most `timeout` seconds, and return the value."""
        deadline = Deadline(timeout)
        waiting = Waiting(counter, deadline.at, takes_part=False)
        try:
            return self._look(counter, deadline, waiting)
        finally:
            # Both are C functions: no interrupt comes before the first, and one that comes after it comes after the
            # second too.
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
                return told  # the counter reached the goal, even if it did not stay there
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
            return self.told.get(seconds)
        except Empty:
            return None


def says_yes(answer: object) -> bool:
    """Whether a predicate's answer is true; a coroutine or the like is not an answer."""
    if answer is True or answer is False:
        return answer
    refuse_lazy(answer, "the predicate")
    return bool(answer)


def telling(waiters: dict[ValueWaiter, None], value: int) -> Iterable[object]:
    """Prepare the notification of the waiters of this value, for `exhaust`."""
    # Without the GIL, waiters may leave at the same time: list() of a dictionary is one step there too, tuple() is not.
    hearing = [waiter for waiter in list(waiters) if waiter.hears(value)]
    return map(
        call,
        [step for waiter in hearing for step in (waiter.told.putting(value), partial(waiters.pop, waiter, None))],
    )


def forget_others(waiters: dict[ValueWaiter, None]) -> None:
    """In a forked child, remove the waiters of the parent's other threads."""
    me = get_ident()
    for waiter in list(waiters):
        if waiter.ident != me:
            del waiters[waiter]
