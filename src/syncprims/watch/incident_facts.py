"""Incident facts: what a report is about, as data."""

from __future__ import annotations

from collections.abc import Sequence
from traceback import FrameSummary
from typing import Final

from .._core.foreign import guarded
from .._core.holders import thread_name
from .._core.waits import Awaited, Waiting
from .blocked import Blocked
from .parts import ended

DEADLOCK: Final = "DEADLOCK"
LIKELY: Final = "LIKELY DEADLOCK"
ASLEEP: Final = "ALL ASLEEP"
SLOW: Final = "SLOW"
ORDER: Final = "LOCK ORDER"

Place = tuple[str, int, str]


class Holding:
    """Which thread holds what another one waits for.

    Attributes:
        ident: Its ident.
        thread: Its name.
        is_alive: Whether it has not ended.
        taken: Where it took the lock, if that is known.
        words: Why it is up to it, if it is no holder of a lock.
    """

    __slots__ = ("ident", "is_alive", "taken", "thread", "words")

    def __init__(self, ident: int, is_alive: bool, taken: Place | None = None, words: str = "") -> None:
        self.ident: int = ident
        self.thread: str = thread_name(ident) if is_alive else ended.get(ident, "")
        self.is_alive: bool = is_alive
        self.taken: Place | None = taken
        self.words: str = words


class WaitingThread:
    """One thread of an incident.

    Attributes:
        ident: Its ident.
        thread: Its name.
        sought: What it waits for.
        seconds: For how long.
        holders: Which threads that is up to.
        stack: Where it is, outermost frame first.
    """

    __slots__ = ("holders", "ident", "seconds", "sought", "stack", "thread")

    def __init__(
        self, wait: Waiting, seconds: float, holders: Sequence[Holding], stack: tuple[FrameSummary, ...]
    ) -> None:
        self.ident: int = wait.ident
        self.thread: str = thread_name(wait.ident)
        self.sought: str = say_sought(wait)
        self.seconds: float = seconds
        self.holders: tuple[Holding, ...] = tuple(holders)
        self.stack: tuple[FrameSummary, ...] = stack


class Incident:
    """What one report is about.

    Attributes:
        heading: One of the five headings.
        summary: What it is, in a sentence without a full stop.
        threads: The threads that wait.
        doubts: What could end it nevertheless.
        advice: What to do.
        notes: More lines.
    """

    __slots__ = ("advice", "doubts", "heading", "notes", "summary", "threads")

    def __init__(
        self,
        heading: str,
        summary: str,
        threads: Sequence[WaitingThread],
        advice: str,
        doubts: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.heading: str = heading
        self.summary: str = summary
        self.threads: tuple[WaitingThread, ...] = tuple(threads)
        self.advice: str = advice
        self.doubts: tuple[str, ...] = tuple(dict.fromkeys(doubts))
        self.notes: tuple[str, ...] = tuple(notes)


def say_sought(wait: Waiting) -> str:
    """Put into words what a wait is for."""
    node = wait.node
    if isinstance(wait, Blocked):
        return guarded("something", lambda: wait.target.name)
    if isinstance(node, Awaited):
        return guarded("something", lambda: node.sought)
    return guarded("something", lambda: repr(node.name))
