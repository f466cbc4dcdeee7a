"""The timer: one lazy thread per pool that lets tasks expire, each counted from its own start."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any
from weakref import ref

from .._core.clock import monotonic
from ..errors import TaskTimeoutError
from .helper_thread import HelperThread
from .task import Task

# A task whose start is not known yet is looked at again after its whole timeout: if it began right after this look,
# that is exactly when it expires, and if it began later, the next look knows its start. So nothing is polled, except
# where a start is first seen by looking (a foreign executor's `running()`): there every _POLL seconds.

_POLL = 0.05
_LONGEST = 3600.0
_Entry = tuple[float, int, "ref[Task[Any]]"]


class Timer:
    """Watches tasks that have a timeout.

    **Thread safety**: `watch` and `stop` are single puts into a C queue, so no interrupt can split them.
    """

    def __init__(self, name: str) -> None:
        self._inbox: SimpleQueue[tuple[float, Task[Any]] | None] = SimpleQueue()
        self._thread = HelperThread(name, _keep_time, self._inbox)

    def prepare(self) -> None:
        """Start the thread while threads can still be started: not at 3.12's interpreter exit."""
        self._thread.ensure()

    def watch(self, task: Task[Any]) -> None:
        """Let the task expire when its time is up."""
        assert task._timeout is not None
        self._inbox.put((_next_look(task, monotonic()), task))

    def stop(self) -> None:
        """End the thread."""
        self._inbox.put(None)


def _next_look(task: Task[Any], now: float) -> float:
    timeout = task._timeout or 0.0
    since = task._running_since()
    if since is not None:
        return since + timeout
    return now + (timeout if task._board is not None else min(timeout, _POLL))


def _keep_time(inbox: SimpleQueue[tuple[float, Task[Any]] | None]) -> None:
    # Weak references: a heap must not keep finished tasks, their results and an abandoned pool alive for an hour.
    heap: list[_Entry] = []
    serials = count()
    purge_at = 1024
    while True:
        patience = min(max(heap[0][0] - monotonic(), 0.0), _LONGEST) if heap else None
        try:
            item = inbox.get(timeout=patience)
        except Empty:
            _look(heap, serials)
            continue
        if item is None:
            return
        when, task = item
        heappush(heap, (when, next(serials), ref(task)))
        del item, task
        if len(heap) > purge_at:
            heap = [entry for entry in heap if _is_open(entry[2]())]
            heapify(heap)
            purge_at = max(1024, 2 * len(heap))


def _is_open(task: Task[Any] | None) -> bool:
    return task is not None and not task.done()


def _look(heap: list[_Entry], serials: count[int]) -> None:
    now = monotonic()
    while heap and heap[0][0] <= now:
        task = heappop(heap)[2]()
        if task is None or task.done():
            continue
        when = _next_look(task, now)
        if when > now:
            heappush(heap, (when, next(serials), ref(task)))
        else:
            _expire(task, now)


def _expire(task: Task[Any], now: float) -> None:
    timeout, since = task._timeout, task._running_since()
    waited = now - (since or now)
    backend = task._pool._backend
    backend.abandon(task)
    error = TaskTimeoutError(
        f"task {task._label} of {task._pool.name!r} runs for {waited:.1f} s, its timeout is {timeout} s; "
        f"{backend.fate}",
        pending=1,
        timeout=timeout,
        waited=waited,
    )
    if not task._fail(error):
        backend.take_back(task)
