"""Tasks for the clauses about pools: they run in threads, processes and interpreters, and block until released."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from ..._core.clock import monotonic, sleep
from ..threads import patience
from .trial import until

# A task in another process shares no Event with this one. But a file that appears is a signal to every process of the
# machine.

_POLL = 0.002


class Gate:
    """A gate at which a task waits, in a worker of any kind: `linger` with `arguments` is the task."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="syncprims-"))
        self.arguments: tuple[str, float] = (str(self._folder), patience())

    def wait_reached(self) -> None:
        """Wait until the task has come to the gate; break the clause if it does not."""
        until("a worker should have begun the task", (self._folder / "reached").exists, pool_limit())

    def open(self) -> None:
        """Let the task go on."""
        (self._folder / "open").touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def linger(folder: str, seconds: float) -> str:
    """A task that reports that it has begun, and waits until the gate opens or goes away."""
    gate = Path(folder)
    ends = monotonic() + seconds
    try:
        (gate / "reached").touch()
    except FileNotFoundError:
        return "too late"
    while gate.exists() and not (gate / "open").exists() and monotonic() < ends:
        sleep(_POLL)
    return "through"


def fail(message: str) -> None:
    """A task that raises a ValueError."""
    raise ValueError(message)


def fail_at(item: int, bad: int) -> int:
    """A task that raises for one of its items."""
    if item == bad:
        raise ValueError(f"cannot do {item}")
    return item


def double(item: int) -> int:
    """A task for a map."""
    return 2 * item


def keywords(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """A task that returns its arguments."""
    return args, kwargs


def pool_limit() -> float:
    """Seconds after which a task counts as never done: workers may have to be started first."""
    return patience(5.0)
