"""Errors that no code has looked at yet, until `join` or `close` raises them, a function gets them or the log does."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections.abc import Callable
from logging import ERROR
from typing import Any, Literal, NamedTuple

from .._core.foreign import chain, error_words, is_interrupt, log, note, notes_of
from ..errors import CallbackErrors, CallbackExit
from .job import Job, Open
from .task import Task, failed_task, was_looked_at

# The one rule: what a task of the pool raised and no code looked at is raised when the pool closes. Who looks? An
# `error_callback`, and whoever calls `result()` or `exception()`, or awaits the task. Hooks don't: they see every task.
#
# `submit` gives the task to its caller, and with it the error. So that is the pool's only if the task is dropped before
# the pool has closed. A finalizer notices, which may come on any thread and in the middle of anything, this file's own
# code included. So all that it does here is a put into a C queue; or, after the close, a line in the log.
#
# What happens to be a user's here: the errors, and the function that may get them. `foreign` guards both.

KEPT = 256  # a pool that no one ever joins must not grow; what does not fit is logged

OnError = Literal["raise", "log"] | Callable[[Task[Any], BaseException], None]


class _Entry(NamedTuple):
    what: str  # the call, or which callback of it
    task: Task[Any]
    error: BaseException
    own: bool  # the task's own error, which counts only as long as no code has looked at it; else a callback's


class UnseenErrors:
    """Keeps what callbacks raised, and tasks that failed while no code was told.

    **Thread safety**: all methods may be called from any thread, `dropped` also by a finalizer in the middle of another
    one. Each entry is taken out of the queue once.

    Attributes:
        callback_errors: How many errors of callbacks and hooks there were; written by the dispatcher only.
        watched: Whether a failed task may still be dropped; written by the dispatcher, and by who settles.
    """

    def __init__(self, open_tasks: Open, on_error: OnError) -> None:
        self._open_tasks = open_tasks
        self._on_error = on_error
        self._raises = isinstance(on_error, str) and str.__str__(on_error) == "raise"
        self._entries: SimpleQueue[_Entry] = SimpleQueue()
        self._closed = False
        self.callback_errors: int = 0
        self.watched: bool = False

    # -- errors come in ----------------------------------------------------------------------------------------------

    def callback_failed(self, job: Job[Any], error: BaseException, which: str) -> None:
        """Note that a callback of the task raised."""
        self.callback_errors += 1
        call = job.call_as_text()
        note(error, f"raised by {which} of task {call} of {job.pool_name!r}")
        entry = _Entry(f"{which} of {call}", job.task, error, own=False)
        if self._raises:
            self._keep(entry)
        else:
            self._report(entry)

    def task_failed(self, job: Job[Any], error: BaseException) -> None:
        """Note that a task failed that has no ``error_callback``; looking at it later takes it off again."""
        if job.errors == "pool":
            self._keep(_Entry(job.call_as_text(), job.task, error, own=True))
        else:
            self.watched = True
            job.report_if_dropped(error, self.dropped)

    def dropped(self, call: str, error: BaseException) -> None:
        """Note that a failed task was dropped, and no code had looked at it."""
        entry = _Entry(call, failed_task(self._open_tasks, call, error), error, own=True)
        if self._closed:
            _log(entry)
        else:
            self._keep(entry)

    def _keep(self, entry: _Entry) -> None:
        if self._entries.qsize() >= KEPT:
            self._make_room()
        self._entries.put(entry)

    def _make_room(self) -> None:
        entries = self._take()
        for entry in entries[1:] if len(entries) >= KEPT else entries:
            self._entries.put(entry)
        if len(entries) >= KEPT:
            _log(entries[0])

    # -- and go out --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """From now on log the errors of tasks that are dropped: what is kept is about to be settled for good."""
        self._closed = True

    def _take(self) -> list[_Entry]:
        """Take out all entries that no code has looked at since."""
        taken: list[_Entry] = []
        try:
            while True:
                entry = self._entries.get_nowait()
                if not (entry.own and was_looked_at(entry.task)):
                    taken.append(entry)
        except Empty:
            return taken

    def settle(self) -> None:
        """Raise what is kept as one group, or report it, as the pool was told to.

        Raises:
            CallbackErrors: There is something, and errors are to be raised.
        """
        entries = self._take()
        if not self._raises:
            self._report_all(entries)
        elif entries:
            raise self._group(entries)

    def settle_as_note(self, onto: BaseException) -> None:
        """Add what is kept to an exception that is on its way already."""
        entries = self._take()
        if not self._raises:
            self._report_all(entries)
        elif entries:
            told = "; ".join(_say(entry) for entry in entries)
            if not note(onto, f"besides, {self._count(entries)}: {told}"):
                for entry in entries:
                    _log(entry)

    def settle_in_log(self) -> None:
        """Log what is kept, as no one will ever ask for it."""
        entries = self._take()
        if self._raises:
            for entry in entries:
                _log(entry)
        else:
            self._report_all(entries)

    def _group(self, entries: list[_Entry]) -> CallbackErrors:
        first = "" if len(entries) == 1 else ", the first one"
        return CallbackErrors(
            f"{self._count(entries)}{first}: {_say(entries[0])}", [self._as_exception(entry) for entry in entries]
        )

    def _count(self, entries: list[_Entry]) -> str:
        count = "an error" if len(entries) == 1 else f"{len(entries)} errors"
        return f"{count} that no code has looked at in {self._open_tasks.name!r}"

    def _as_exception(self, entry: _Entry) -> Exception:
        return as_exception(
            entry.error, f"raised by task {entry.what} of {self._open_tasks.name!r}" if entry.own else None
        )

    def _report_all(self, entries: list[_Entry]) -> None:
        for number, entry in enumerate(entries):
            try:
                self._report(entry)
            except BaseException:  # an interrupt: the others are still to be reported
                for left in entries[number + 1 :]:
                    self._entries.put(left)
                raise

    def _report(self, entry: _Entry) -> None:
        if not callable(self._on_error):
            _log(entry)
            return
        try:
            self._on_error(entry.task, entry.error)
        except BaseException as again:
            _log(entry)
            if is_interrupt(again):
                raise
            # Whatever else it is, the dispatcher must live, and there is no one left to tell.
            _log(entry._replace(what=f"on_callback_error for {entry.what}", error=again))


def as_exception(error: BaseException, said: str | None) -> Exception:
    """Return an error with that note as what can be in an `ExceptionGroup`: itself, or a `CallbackExit` around it."""
    if said is not None:
        note(error, said)
    if issubclass(type(error), Exception):
        return error  # type: ignore[return-value]  # its type says so, whatever its class says of itself
    notes = " ".join(notes_of(error))
    wrapped = CallbackExit(f"{error_words(error)} ({notes})" if notes else error_words(error))
    chain(wrapped, error)
    return wrapped


def say(what: str, error: BaseException) -> str:
    """Return the words for what raised an error."""
    return f"{what} raised {error_words(error)}"


def _say(entry: _Entry) -> str:
    return say(entry.what, entry.error)


def _log(entry: _Entry) -> None:
    log(ERROR, f"no code has looked at an error of {entry.task!r}: {_say(entry)}", entry.error)
