"""The timer: one thread per pool, started on demand, in which tasks (each from its own start) and groups expire."""

from __future__ import annotations

from _queue import Empty
from heapq import heapify, heappop, heappush
from itertools import count
from logging import ERROR
from typing import Any, Protocol
from weakref import ref

from .._core.clock import monotonic
from .._core.foreign import log, words
from .._core.mailbox import Mailbox
from ..errors import TaskTimeoutError
from .job import Job
from .own_threads import HelperThread

# If the start of a task is not known yet, the timer checks again after the task's whole timeout. If the task began
# right after the first check, it expires exactly then; if it began later, the next check knows its start. So nothing is
# polled, except starts that only a check reveals (another executor's `running()`), every _POLL seconds.

_POLL = 0.05
_LONGEST = 3600.0


class Workplace(Protocol):
    """The place where a task runs, with the methods that the timer uses."""

    @property
    def fate(self) -> str:
        """What happens to the worker of a task that expired."""

    def abandon(self, job: Job[Any]) -> None:
        """Count the worker of a task that is about to expire as lost."""

    def take_back(self, job: Job[Any]) -> None:
        """Undo `abandon`: the task was done before it could expire."""


class Expiring(Protocol):
    """An object that expires at a point in time."""

    def done(self) -> bool:
        """Whether its end no longer matters."""

    def expire(self) -> None:
        """Act on the end of the time."""


_Entry = tuple[float, int, "ref[Job[Any] | Expiring]", Workplace | None]
_Inbox = Mailbox[tuple[float, Job[Any] | Expiring, Workplace | None] | None]


class Timer:
    """Watches tasks that have a timeout.

    **Thread safety**: `watch` and `stop` are single calls of C, so no interrupt can split them.
    """

    def __init__(self, name: str) -> None:
        self._inbox: _Inbox = Mailbox()
        self._thread = HelperThread(name)

    def prepare(self) -> None:
        """Start the thread while threads can still be started, which they can't at 3.12's interpreter exit."""
        self._thread.ensure(_keep_time, self._inbox)

    def watch(self, job: Job[Any], place: Workplace) -> None:
        """Let a task in that place expire when its time is up."""
        self._inbox.put((_next_look(job, monotonic()), job, place))

    def watch_until(self, when: float, expiring: Expiring) -> None:
        """Let an object expire at that time."""
        self._inbox.put((when, expiring, None))

    def stop(self) -> None:
        """End the thread."""
        self._inbox.put(None)


def _next_look(job: Job[Any], now: float) -> float:
    timeout = job.timeout or 0.0
    since = job.running_since()
    if since is not None:
        return since + timeout
    return now + (timeout if job.course.tells_its_start() else min(timeout, _POLL))


def _keep_time(inbox: _Inbox) -> None:
    # Weak references: the heap must not keep finished tasks, their results and an abandoned pool alive for an hour.
    heap: list[_Entry] = []
    serials = count()
    purge_at = 1024
    while True:
        patience = min(max(heap[0][0] - monotonic(), 0.0), _LONGEST) if heap else None
        try:
            item = inbox.get(patience)
        except Empty:
            _look(heap, serials)
            continue
        if item is None:
            return
        when, watched, place = item
        heappush(heap, (when, next(serials), ref(watched), place))
        del item, watched, place
        if len(heap) > purge_at:
            heap = [entry for entry in heap if _is_open(entry[2]())]
            heapify(heap)
            purge_at = max(1024, 2 * len(heap))


def _is_open(watched: Job[Any] | Expiring | None) -> bool:
    return watched is not None and not watched.done()


def _look(heap: list[_Entry], serials: count[int]) -> None:
    now = monotonic()
    while heap and heap[0][0] <= now:
        _, _, reference, place = heappop(heap)
        job = reference()
        if job is None or job.done():
            continue
        if not isinstance(job, Job) or place is None:
            _let_expire(job)
            continue
        try:
            when = _next_look(job, now)
            if when > now:
                heappush(heap, (when, next(serials), reference, place))
            else:
                _expire(job, place, now)
        except BaseException as error:  # noqa: BLE001  only this task must fail; others wait for their own timeouts
            job.fail(error)


def _let_expire(watched: Any) -> None:
    try:
        watched.expire()
    except BaseException as error:  # noqa: BLE001  others wait for their own timeouts
        log(ERROR, f"{words(watched)} could not expire", error)


def _expire(job: Job[Any], place: Workplace, now: float) -> None:
    since = job.running_since()
    waited = 0.0 if since is None else now - since
    place.abandon(job)
    error = TaskTimeoutError(
        f"task {job.label} of {job.pool_name!r} runs for {waited:.1f} s, its timeout is {job.timeout} s; {place.fate}",
        pending=1,
        timeout=job.timeout,
        waited=waited,
    )
    if not job.fail(error):
        place.take_back(job)
