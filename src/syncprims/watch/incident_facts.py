"""Incident facts: the content of a report, as data."""

from __future__ import annotations

from collections.abc import Sequence
from traceback import FrameSummary
from typing import Final

from .._core.foreign import guarded
from .._core.holders import thread_name
from .._core.waits import Awaited, Waiting
from .blocked import Blocked
from .event_loops import running_loops, say_task, task_of
from .parts import ended
from .suspended import TaskWait

DEADLOCK: Final = "DEADLOCK"
LIKELY: Final = "LIKELY DEADLOCK"
ASLEEP: Final = "ALL ASLEEP"
SLOW: Final = "SLOW"
LOOP: Final = "LOOP BLOCKED"
ORDER: Final = "LOCK ORDER"

Place = tuple[str, int, str]


class Holding:
    """A thread, or a task of an event loop, that another one waits for.

    Attributes:
        ident: Its ident; for a task its number, which is negative.
        thread: Its name, or "" for a task.
        task: The name of the task, if it is one, or if a task of the thread has the lock.
        is_alive: Whether it is alive.
        taken: Where it acquired the lock, if that is known.
        words: Why the other one waits for it, if it is not the holder of a lock.
    """

    __slots__ = ("ident", "is_alive", "taken", "task", "thread", "words")

    def __init__(self, ident: int, is_alive: bool, taken: Place | None = None, words: str = "") -> None:
        self.ident: int = ident
        self.thread: str = thread_name(ident) if is_alive else ended.get(ident, "")
        self.task: str = say_task(ident) if ident < 0 else ""
        self.is_alive: bool = is_alive
        self.taken: Place | None = taken
        self.words: str = words


class WaitingThread:
    """One thread of an incident, or one task of an event loop.

    Attributes:
        ident: Its ident; for a task its number, which is negative.
        thread: Its name, or the name of the thread that runs the loop of the task.
        task: The name of the task, if it is one, or if the thread runs one.
        runs: The ident of the thread.
        sought: The thing that it waits for.
        seconds: How long it has waited.
        holders: The threads that could end the wait.
        stack: Where it is, outermost frame first.
    """

    __slots__ = ("holders", "ident", "runs", "seconds", "sought", "stack", "task", "thread")

    def __init__(
        self, wait: Waiting, seconds: float, holders: Sequence[Holding], stack: tuple[FrameSummary, ...]
    ) -> None:
        self.ident: int = wait.ident
        self.runs: int = wait.thread if isinstance(wait, TaskWait) else wait.ident
        self.thread: str = thread_name(self.runs)
        self.task: str = wait.task.words() if isinstance(wait, TaskWait) else _task_in(wait.ident)
        self.sought: str = say_sought(wait)
        self.seconds: float = seconds
        self.holders: tuple[Holding, ...] = tuple(holders)
        self.stack: tuple[FrameSummary, ...] = stack


class Incident:
    """The content of one report.

    Attributes:
        heading: One of the six headings.
        summary: A sentence that describes it, without a full stop.
        threads: The waiting threads.
        doubts: Events that could still end it.
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


def _task_in(ident: int) -> str:
    loop = running_loops().get(ident)
    task = None if loop is None else task_of(loop)
    return "" if task is None else task.words()


def say_sought(wait: Waiting) -> str:
    """Describe the thing that a wait is for."""
    node = wait.node
    if isinstance(wait, Blocked):
        return guarded("something", lambda: wait.target.name)
    if isinstance(node, Awaited):
        return guarded("something", lambda: node.sought)
    return guarded("something", lambda: repr(node.name))
