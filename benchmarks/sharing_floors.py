"""Floors of the locks that several threads hold at once: the cost of each guarantee beyond a free permit."""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable, Iterator
from itertools import repeat
from operator import call, is_not
from typing import Final, Self

from syncprims import TimedRWLock, TimedSemaphore
from syncprims._core.interrupts import ONE_DEEP, OTHER_DEEP, Leave, LeaveInC, leave_at_once

from .measuring import OURS, STDLIB, Case, Group
from .sharing import alone

_nobody: Final = list[object]().clear


class Nothing:
    """Enters and leaves in Python, and does nothing: the cost of a ``with`` on a class."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class LeftInC:
    """The same, left by a function of C, so that an interrupt can't come before the function's work."""

    __slots__ = ("_leaving",)

    def __init__(self) -> None:
        self._leaving = leave_at_once(_nobody)

    def __enter__(self) -> Self:
        return self

    def _leave(self) -> Leave:
        return self._leaving

    __exit__ = LeaveInC(_leave)


class Named:
    """Its holders are known: each adds its ident to a list, and C removes it. Any number of threads may hold it."""

    __slots__ = ("_held", "_leaves", "_line")

    def __init__(self) -> None:
        self._held: list[int] = []
        self._line: list[Callable[[], None]] = [_nobody]
        self._leaves: dict[int, Leave] = {}

    def __enter__(self) -> Self:
        held = self._held
        held += (get_ident(),)
        return self

    def _leave(self) -> Leave:
        try:
            return self._leaves[get_ident()]
        except KeyError:
            return self._leaves.setdefault(get_ident(), leave_at_once(self._releasing(repeat(get_ident())).__next__))

    __exit__ = LeaveInC(_leave)

    def _releasing(self, mine: Iterator[int]) -> Iterator[object]:
        return map(self._held.remove, mine)


class Limited(Named):
    """There are two permits. A thread without one would wait, but here one is always free."""

    __slots__ = ("_permits",)

    def __init__(self) -> None:
        super().__init__()
        self._permits = 2

    def __enter__(self) -> Self:
        held = self._held
        held += (get_ident(),)
        match held:
            case [_]:
                return self
        if held[self._permits :]:
            raise AssertionError("one is free here")
        return self


class Ringing(Limited):
    """The release also wakes the first waiter, in the same call of C, so that no interrupt can lose the wakeup."""

    __slots__ = ()

    def _releasing(self, mine: Iterator[int]) -> Iterator[object]:
        first: Iterator[Callable[[], None]] = map(self._line.__getitem__, repeat(0))
        return map(is_not, map(self._held.remove, mine), map(call, first))


class Deep(Ringing):
    """It is not entered if the stack is too small to leave it."""

    __slots__ = ()

    def _leave(self) -> Leave:
        _ = ONE_DEEP == OTHER_DEEP
        try:
            return self._leaves[get_ident()]
        except KeyError:
            return super()._leave()

    __exit__ = LeaveInC(_leave)


GROUPS = (
    Group(
        "floor-shared",
        "What each guarantee adds to a free permit",
        (
            Case("threading.Lock", STDLIB, alone(threading.Lock)),
            Case("a with in Python that does nothing", STDLIB, alone(Nothing)),
            Case("+ left through C", STDLIB, alone(LeftInC)),
            Case("+ its holders are known", STDLIB, alone(Named)),
            Case("+ a limit", STDLIB, alone(Limited)),
            Case("+ a release wakes a waiter", STDLIB, alone(Ringing)),
            Case("+ room on the stack for leaving", STDLIB, alone(Deep)),
            Case("+ a line in order, and undoing: TimedSemaphore", OURS, alone(lambda: TimedSemaphore(2))),
            Case("+ two sides, each kept: TimedRWLock.read()", OURS, alone(lambda: TimedRWLock().read())),
            Case("+ the call of read()", OURS, alone(TimedRWLock, "with lock.read(): pass")),
        ),
    ),
)
