"""Blocked: the record of one observed wait. The waiting thread keeps it up to date, and answers questions with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from math import inf
from types import FrameType
from typing import Final, Protocol
from weakref import ref

from .._core.clock import monotonic
from .._core.greenlets import refuse_greenlets
from .._core.state import State
from .._core.waits import UpTo, Waiting, all_waits
from ..errors import PatchedThreadsError
from .with_blocks import BlocksEntered, blocks_of

# Why a waiting thread wakes up from time to time
# -----------------------------------------------
# A plain lock does not know its owner. The thread that acquired it last is noted, but leaving a `with` is a function of
# C that notes nothing. So a note may be stale: the lock was released, and a waiter has acquired it, but has not yet had
# the GIL to note that. The record of its wait still exists. A look at that moment sees a thread that waits for a lock
# that it holds.
#
# So a thread waits in slices. Between two slices it runs, without the lock, and answers the watcher's question. Suppose
# that every thread that waits for a lock answers, and that the noted owner had begun to wait for something else before.
# Then none of the waiters has the lock, and the owner can't have released it since: the note is true.
#
# A thread can look at its own stack without harm, on every interpreter. So each thread finds out itself in which `with`
# blocks it is.

_FIRST_SLICE: Final = 0.25
_LONGEST_SLICE: Final = 1.0

_numbers = count(1)

# While the watcher sleeps, the next thread that begins to wait calls this; at most one function.
_to_wake: list[Callable[[], object]] = []


# A thread that answers calls this, with the answer and the things in the question.
_others: list[Callable[[BlocksEntered, Sequence[object]], object]] = []


def rouse() -> None:
    """Wake the watcher if it sleeps, because there is something to look at, or a wait without a record here begins."""
    for wake in _to_wake:
        wake()


# C code may fork without Python's hooks, as uWSGI does. The first observed wait in such a child notices that.
_process: dict[int, Callable[[], object]] = {}


def note_process(then: Callable[[], object] | None) -> None:
    """Call a function when a thread begins to wait in a process other than this one; None removes the function."""
    _process.clear()
    if then is not None:
        _process[os.getpid()] = then


def _note_process() -> None:
    then = list(_process.values())
    _process.clear()
    # This is the first wait in this process, so these waits are of threads that are gone, and would never answer.
    for wait in all_waits():
        if isinstance(wait, Blocked):
            wait.withdraw()
    for each in then:
        each()


def also_look_in(look: Callable[[BlocksEntered, Sequence[object]], object]) -> None:
    """Let threads that answer call a function, which adds to the answer."""
    _others[:] = [look]


def wake_by_next_wait(wake: Callable[[], object] | None) -> None:
    """Let the next thread that begins to wait call a function, or none."""
    _to_wake[:] = [] if wake is None else [wake]


class Question:
    """A question of the watcher to waiting threads."""

    __slots__ = ("_things",)

    def __init__(self, things: Iterable[object]) -> None:
        # Weak references: the question is kept until the next look, and by each thread until its wait ends.
        self._things = [ref(thing) for thing in things]

    @property
    def things(self) -> list[object]:
        """The locks; the answer says for each whether the thread is in a `with` block of it."""
        return [thing for each in self._things if (thing := each()) is not None]


class Awaitable(Protocol):
    """The thing that an observed wait is for."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def up_to(self, waiter: int) -> UpTo:
        """The threads that must act before `waiter` can go on, as far as they are known."""


class _Node:
    """The wait as the library's own search sees it: it is up to no thread, and in no snapshot.

    The search for the library's own locks refuses the deadlocks that it finds. The deadlocks found here are only
    reported.
    """

    __slots__ = ("target",)

    def __init__(self, target: Awaitable) -> None:
        self.target = target

    @property
    def name(self) -> str:
        return self.target.name

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  see above
        return None

    def _is_mine(self) -> bool:
        return False

    def _state(self) -> State | None:
        return None


class Blocked(Waiting):
    """One observed wait.

    Attributes:
        number: A number that no other wait has.
        target: The thing that it is for.
        is_endless: Whether it has no limit.
        by_with: Whether it may be refused: it is by `with`, or for a lock that only its holder can release.
        answers: Whether its thread wakes up from time to time, to answer.
        asked: The watcher's question; written by the watcher.
        answered: The question that was answered last; written by the thread.
        inside: The answer: the blocks in which the thread is.
        refusal: Makes the error to be raised in this wait; written by the watcher.
    """

    __slots__ = ("answered", "answers", "asked", "by_with", "inside", "is_endless", "number", "refusal", "target")

    def __init__(self, target: Awaitable, *, is_endless: bool, by_with: bool = False, answers: bool = True) -> None:
        # A limit that is never reached keeps it out of the library's own search.
        super().__init__(_Node(target), inf, takes_part=False)
        self.number: int = next(_numbers)
        self.target: Awaitable = target
        self.is_endless: bool = is_endless
        self.by_with: bool = by_with
        self.answers: bool = answers and is_endless
        self.asked: Question | None = None
        self.answered: Question | None = None
        self.inside: BlocksEntered = BlocksEntered()
        self.refusal: Callable[[], BaseException] | None = None

    def publish(self) -> None:
        """Register the wait; do nothing if greenlets have replaced threads."""
        try:
            refuse_greenlets()
        except PatchedThreadsError:
            return
        if _process and os.getpid() not in _process:
            _note_process()
        super().publish()
        rouse()

    def note_of(self, ident: int) -> None:
        """Assign the wait to that thread without registering it, because the watcher itself has found it."""
        self.ident = ident
        self.since: float = monotonic()

    @property
    def subject(self) -> Awaitable:
        """The object that the wait is for, as users know it."""
        return self.target

    def is_now_for(self, target: Awaitable) -> None:
        """Note that the same wait is now for another target."""
        self.target = target

    def note_since(self, since: float | None) -> None:
        """Note when the wait began, if that is now known more exactly."""
        if since is not None:
            self.since = since

    def answer(self, inside: Callable[[Sequence[object]], BlocksEntered]) -> None:
        """Answer a question for a wait whose thread does not answer itself, by a function of the locks in question."""
        asked = self.asked
        if asked is not None and asked is not self.answered:
            self.inside = inside(asked.things)
            self.answered = asked

    def up_to(self) -> UpTo:
        """The threads that must act before the wait can end."""
        return self.target.up_to(self.ident)

    def beat(self) -> None:
        """Note that the wait goes on, and answer the question. The waiting thread calls this while it is not blocked.

        Raises:
            DeadlockError: The watcher has decided to break a deadlock here.
        """
        rouse()
        asked = self.asked
        if asked is not None and asked is not self.answered:
            things = asked.things
            inside = blocks_of(_callers_frame(), things)
            for look in _others:
                look(inside, things)
            self.inside = inside
            self.answered = asked
        refusal = self.refusal
        if refusal is not None:
            raise refusal()

    def slices(self) -> Iterator[tuple[bool, float]]:
        """Yield the arguments of one `acquire` after the other, and call `beat` in between."""
        length = _FIRST_SLICE
        yield True, length
        while True:
            self.beat()
            length = min(length * 1.25, _LONGEST_SLICE)
            yield True, length


def _callers_frame() -> FrameType:
    return sys._getframe(1)


def age(waiting: Waiting, now: float | None = None) -> float:
    """How long a wait has lasted, in seconds."""
    return (monotonic() if now is None else now) - waiting.since
