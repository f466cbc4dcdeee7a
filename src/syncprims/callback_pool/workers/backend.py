"""`Backend`: what the pool asks of the place where its tasks run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..._core.deadline import Deadline
from ..task import Task


class Backend(ABC):
    """Runs tasks, and counts those that expired and still occupy a worker.

    **Thread safety**: all methods may be called from any thread.

    Attributes:
        packs: Whether calls travel as bytes.
        fate: What becomes of the worker of a task that expired, for its error.
        rest: How many seconds the dispatcher may let results gather while many tasks are open.
    """

    packs: bool
    fate: str
    rest: float = 0.0

    def __init__(self) -> None:
        self._stuck: set[Task[Any]] = set()

    @abstractmethod
    def start(self, task: Task[Any]) -> None:
        """Take the task; an exception means that it was not taken."""

    def abandon(self, task: Task[Any]) -> None:
        """Count the worker of a task that is about to expire as lost."""
        self._stuck.add(task)

    def take_back(self, task: Task[Any]) -> None:
        """Undo `abandon`: the task was done before it could expire."""
        self._stuck.discard(task)

    def abandoned(self) -> int:
        """Return how many expired tasks still occupy a worker."""
        return len(self._stuck)

    @abstractmethod
    def stop(self) -> None:
        """Let the workers end once the tasks that they have are done; blocks on nothing."""

    @abstractmethod
    def finish(self, deadline: Deadline) -> None:
        """After `stop`: kill what is stuck where that is possible, and wait for the rest at most that long."""
