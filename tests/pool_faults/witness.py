"""`Witness`: counts the calls of each task's callbacks, so that none is lost and none comes twice."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from syncprims import CallbackPool, Task

LIMIT = 40.0  # seconds for any wait in a cell; the cell's own limit is longer

E = TypeVar("E", bound=BaseException)


class Witness:
    """Starts tasks, and records the calls of their callbacks."""

    def __init__(self, pool: CallbackPool) -> None:
        self.pool = pool
        self.tasks: list[Task[Any]] = []
        self.told: list[list[Any]] = []  # guarded by the dispatcher, which alone writes it

    def send(self, fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Task[Any]:
        """Start a task."""
        heard: list[Any] = []
        self.told.append(heard)
        task = self.pool.apply_async(fn, args, callback=heard.append, error_callback=heard.append, timeout=timeout)
        self.tasks.append(task)
        return task

    def send_unless_broken(self, fn: Callable[..., Any], *args: Any) -> None:
        """Start a task; if the executor already knows of its end and raises, there is nothing to record."""
        try:
            self.send(fn, *args)
        except RuntimeError:
            self.told.pop()

    def heard(self) -> list[Any]:
        """Wait until every task is settled; return the one call of each."""
        for task in self.tasks:
            task.wait_settled(LIMIT)
        return self.so_far()

    def so_far(self) -> list[Any]:
        """Return the calls of each task; each has one."""
        assert all(len(heard) == 1 for heard in self.told), self.told
        return [heard[0] for heard in self.told]


def finish(pool: CallbackPool) -> None:
    """Close the pool, and check that all its records agree."""
    pool.close(LIMIT)
    check_accounts(pool)


def check_accounts(pool: CallbackPool) -> None:
    """Check that every task was settled, each counted once, and that no worker is marked as lost."""
    stats = pool.stats
    assert stats.pending == stats.running == 0, stats
    assert stats.done + stats.failed + stats.cancelled == stats.submitted, stats


def still_works(witness: Witness) -> None:
    """Check that the pool runs tasks as usual."""
    task = witness.send(len, "abc")
    assert task.result(LIMIT) == 3
    task.wait_settled(LIMIT)


def wait_for(event: threading.Event) -> None:
    """Wait for it; fail if it does not come."""
    assert event.wait(LIMIT)


class Raised(Generic[E]):
    """Checks that its block raises; importing pytest's own takes longer than most cells run."""

    value: E

    def __init__(self, kind: type[E], match: str) -> None:
        self._kind, self._match = kind, match

    def __enter__(self) -> Raised[E]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        assert error is not None, f"did not raise {self._kind.__name__}"
        if not isinstance(error, self._kind):
            return False
        self.value = error
        assert re.search(self._match, str(error)), error
        return True


def raises(kind: type[E], match: str = "") -> Raised[E]:
    """Check that the block raises such an error, and keep it as `value`."""
    return Raised(kind, match)
