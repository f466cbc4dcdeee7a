"""The recorder: makes the notes of a recording, in the threads that it records."""

from __future__ import annotations

from _queue import Empty
from collections.abc import Callable
from operator import itemgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any

from .._core.clock import perf_counter_ns
from .._core.foreign import type_name
from .._core.holders import thread_name
from .._core.observing import ObservableLock, serial_of
from .._core.registry import InnerName
from .._core.sites import Site, say_site
from .._core.state import Named, name_of
from .._core.waits import Waiting
from ..errors import DeadlockError, SyncTimeoutError
from ..facts import nameless
from .call_sites import call_site
from .spans import FAILED, GAVE_UP, INTERRUPTED, NOT_OVER, REFUSED, Key, Span

if TYPE_CHECKING:
    from .._runner.sequence import Sequence
    from .._runner.turn import Turn
    from ..callback_pool.job import Job
    from .work_events import TaskNote

# Taking notes must disturb the program as little as possible, so there is no mutex. Notes are appended to a list, whose
# oldest notes are dropped from time to time. Spans in progress are in a dictionary under the thread's ident, where no
# other thread writes. Each thread counts its own notes, because one counter for all threads would lose some.


# A name, or the function that makes it when the recording is read.
Label = str | Callable[[], str]
# Kind, name, thread, ident, site, start, end, for how long it was queued, index, holder; and the key and the outcome.
# For a wait, the last two are in a list, because they are known only when the thread has got what it waited for or has
# given up.
_Fate = tuple[Key, str] | list[Any]
Note = tuple[str, Label, str, "int | None", "Site | None", int, int, int, int, str, _Fate]


class Recorder:
    """Keeps the latest notes.

    Args:
        capacity: How many.
    """

    def __init__(self, capacity: int) -> None:
        self.began: int = perf_counter_ns()
        self.stopped: int | None = None
        # Not a deque: without the GIL, a deque that other threads extend can't be copied. Many of the oldest are
        # dropped at once.
        self._notes: list[Note] = []
        self._capacity = capacity
        self._most = capacity + capacity // 8
        self._written: dict[int, int] = {}
        # The spans in progress, by thread and key: site, start, kind, name, index and holder.
        self._open: dict[tuple[int, Key], tuple[Site | None, int, str, Label, int, str]] = {}
        self._steps: dict[int, str] = {}
        # For each thread that acquires a lock, its last wait and the identity of the thing that it waited for.
        self._waited: dict[int, tuple[int, list[Any]]] = {}

    @property
    def dropped(self) -> int:
        """How many notes were dropped, because there were more than the capacity."""
        return max(0, sum(self._written.copy().values()) - min(len(self._notes), self._capacity))

    def label(self, thing: Named) -> Label:
        """The name of a lock, or of something else that threads wait for."""
        return name_of(thing)

    def site(self) -> Site | None:
        """The place of the calling thread in the program."""
        return call_site()

    def begin_again(self) -> None:
        """In a forked child, forget everything except the holds of the calling thread, which is the only one there."""
        me, now = get_ident(), perf_counter_ns()
        mine = {key: (site, now, *rest) for key, (site, _, *rest) in self._open.items() if key[0] == me}
        self._notes.clear()
        self._written.clear()
        self._waited.clear()
        self._open.clear()
        self._open.update(mine)  # type: ignore[arg-type]  # as they were
        self.began = now

    def spans(self) -> list[Span]:
        """The spans that have ended and those that have not, in the order of their starts."""
        return [self._span(*note) for note in self.notes()]

    def notes(self) -> list[Note]:
        """The spans as notes, in the same order."""
        now = perf_counter_ns() if self.stopped is None else self.stopped
        # Copies in C, which other threads can't disturb.
        notes = self._notes[-self._capacity :]
        for (ident, key), (site, start, kind, name, index, holder) in self._open.copy().items():
            if start <= now:
                fate = key, NOT_OVER
                notes.append((kind, name, _thread(ident), ident, site, start, now, 0, index, holder, fate))
        notes.sort(key=itemgetter(5))
        return notes

    def _span(
        self,
        kind: str,
        name: Label,
        thread: str,
        ident: int | None,
        site: Site | None,
        start: int,
        end: int,
        waited: int,
        index: int,
        holder: str,
        fate: _Fate,
    ) -> Span:
        begun, ended = ((at - self.began) / 1e9 for at in (start, max(start, end)))
        key, outcome = fate
        name = name if isinstance(name, str) else name()
        return Span(kind, name, thread, ident, say_site(site), begun, ended, waited / 1e9, outcome, key, index, holder)

    def _note(
        self,
        kind: str,
        name: Label,
        ident: int | None,
        site: Site | None,
        start: int,
        end: int,
        fate: _Fate,
        *,
        index: int = 0,
        waited: int = 0,
        thread: str = "",
        holder: str = "",
    ) -> None:
        me = get_ident()
        if ident is not None:
            thread = _thread(ident)
        notes = self._notes
        notes.append((kind, name, thread, ident, site, start, end, waited, index, holder, fate))
        if len(notes) > self._most:
            del notes[: -self._capacity]
        try:
            self._written[me] += 1
        except KeyError:
            self._written[me] = 1

    def _close(self, key: Key, end: int, error: BaseException | None = None, ident: int | None = None) -> None:
        if ident is None:
            ident = get_ident()
        begun = self._open.pop((ident, key), None)
        if begun is not None:
            site, start, kind, name, index, _ = begun
            self._note(kind, name, ident, site, start, end, (key, _failure(error)), index=index)

    # -- locks ------------------------------------------------------------------------------------------------------

    def asks(self, lock: ObservableLock, endless: bool) -> None:  # noqa: ARG002  it will be told again
        """A thread is about to acquire a lock; if it has to wait, that is noted as well."""
        if self._waited:
            self._waited.pop(get_ident(), None)

    def taken(self, lock: ObservableLock, at: int) -> None:
        """A thread has acquired a lock."""
        self._open[get_ident(), self._key_after_wait(lock, "")] = (self.site(), at, "hold", self.label(lock), 0, "")

    def taken_again(self, lock: ObservableLock) -> None:
        """Do nothing: a lock that is acquired again counts as one hold."""

    def refused(self, lock: ObservableLock, error: BaseException | None) -> None:
        """A thread did not get a lock."""
        me = get_ident()
        if isinstance(error, DeadlockError) and (not self._waited or self._waited.get(me, (0,))[0] != id(lock)):
            # The thread did not even begin to wait.
            self._note_refusal(self.label(lock), ("lock", serial_of(lock)))
        else:
            self._open.pop((me, self._key_after_wait(lock, GAVE_UP)), None)

    def released(self, lock: ObservableLock, at: int, by: int | None = None) -> None:
        """The thread has released its lock, or a lock that the thread `by` had acquired."""
        self._close(("lock", serial_of(lock)), at, ident=by)

    def _key_after_wait(self, lock: ObservableLock, outcome: str) -> Key:
        """Return the lock's key; if the thread has just waited for the lock, store both with that wait."""
        key = "lock", serial_of(lock)
        self._settle_wait(lock, key, outcome)
        return key

    def _settle_wait(self, thing: object, key: Key, outcome: str) -> bool:
        """Store a key and an outcome with the thread's last wait if it was for this thing; return whether it was."""
        last = self._waited.pop(get_ident(), None) if self._waited else None
        if last is None or last[0] != id(thing):
            return False
        last[1][:] = key, last[1][1] or outcome
        return True

    def _note_refusal(self, name: Label, key: Key) -> None:
        me, at = get_ident(), perf_counter_ns()
        self._note("wait", name, me, self.site(), at, at, (key, REFUSED), holder=_thread(me))

    # -- waits ------------------------------------------------------------------------------------------------------

    def wait_begins(self, waiting: Waiting, at: int) -> None:
        """A thread is about to block."""
        name = self._steps.get(waiting.ident) or self.label(waiting.subject)
        if isinstance(name, InnerName):
            return
        owner = waiting.owner()
        holder = "" if owner is None else _thread(owner)
        self._open[waiting.ident, ("wait", id(waiting))] = (self.site(), at, "wait", name, 0, holder)

    def wait_ends(self, waiting: Waiting, at: int, error: BaseException | None) -> None:
        """A thread goes on after a wait."""
        begun = self._open.pop((waiting.ident, ("wait", id(waiting))), None)
        if begun is not None:
            site, start, kind, name, _, holder = begun
            thing = id(waiting.subject)
            fate = [("wait", thing), _end_of_wait(error)]
            self._waited[waiting.ident] = thing, fate
            self._note(kind, name, waiting.ident, site, start, at, fate, holder=holder)

    # -- runners ----------------------------------------------------------------------------------------------------

    def step_sought(self, sequence: Sequence, step: str | None) -> None:
        """A thread wants a step, so its next wait is for that step."""
        if step is None:
            self._steps.pop(get_ident(), None)
        else:
            self._steps[get_ident()] = f"{name_of(sequence)}[{step}]"

    def step_refused(self, sequence: Sequence, step: str, error: BaseException) -> None:
        """A thread did not get a step."""
        key = "sequence", id(sequence)
        waited = self._settle_wait(sequence, key, _end_of_wait(error))
        if not waited and isinstance(error, DeadlockError):
            self._note_refusal(f"{name_of(sequence)}[{step}]", key)

    def turn_begins(self, sequence: Sequence, turn: Turn, at: int) -> None:
        """A thread's turn begins."""
        name, key = f"{name_of(sequence)}[{turn.step}]", ("sequence", id(sequence))
        self._settle_wait(sequence, key, "")
        self._open[get_ident(), key] = (self.site(), at, "turn", name, turn.index, "")

    def turn_ends(self, sequence: Sequence, at: int, error: BaseException | None) -> None:
        """A thread's turn is over."""
        self._close(("sequence", id(sequence)), at, error)

    # -- pools ------------------------------------------------------------------------------------------------------

    def task_done(self, job: Job[Any], note: TaskNote) -> None:
        """A task has run."""
        begun, ended = note.begun, note.ended
        if begun is None and note.error is not None:
            begun = ended  # it failed before it ran
        if begun is None or ended is None:  # it is not known when it began
            return
        name = f"{job.pool_name}: {job.label}"
        key, waited = ("task", id(job), note.submitted), max(0, begun - note.submitted)
        workers, fate = f"workers of {job.pool_name}", (key, _failure(note.error))
        self._note("task", name, note.ident, note.site, begun, ended, fate, waited=waited, thread=workers)

    def callback_ended(
        self, job: Job[Any], note: TaskNote | None, which: str, begun: int, at: int, error: BaseException | None
    ) -> None:
        """A callback has ended."""
        name = f"{job.pool_name}: {which} of {job.label}"
        site, key, waited = None, (), 0
        if note is not None:
            site, key = note.site, ("task", id(job), note.submitted)  # type: ignore[assignment]
            waited = 0 if note.ended is None else max(0, begun - note.ended)
        self._note("callback", name, get_ident(), site, begun, at, (key, _failure(error)), waited=waited)


def _thread(ident: int) -> str:
    return thread_name(ident) or nameless(ident)


def _failure(error: BaseException | None) -> str:
    return "" if error is None else f"{FAILED}{type_name(error)}"


def _end_of_wait(error: BaseException | None) -> str:
    """The outcome of a wait that raised this error."""
    if isinstance(error, DeadlockError):
        # The error may be that of the task that was waited for; then the wait itself was not refused.
        return REFUSED if error.cycle and error.cycle[0].thread == _thread(get_ident()) else ""
    if isinstance(error, SyncTimeoutError) or type(error) in (TimeoutError, Empty):  # from futures, queues
        return GAVE_UP
    return "" if error is None or isinstance(error, Exception) else INTERRUPTED
