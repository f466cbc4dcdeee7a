"""Errors that nobody has heard of yet, until `join` raises them, a function gets them or the log does."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ..errors import CallbackErrors, CallbackExit
from .task import Job, Task, logger, was_looked_at

KEPT = 256  # a pool that nobody ever joins must not grow; what does not fit is logged

OnError = Literal["raise", "log"] | Callable[[Task[Any], BaseException], None]


class _Entry(NamedTuple):
    label: str
    task: Task[Any]
    error: BaseException
    own: bool  # the task's own error, which counts only as long as it was not looked at; else one of its callbacks


class UnseenErrors:
    """Keeps callbacks' errors, and tasks that failed while nobody was told.

    Written by the dispatcher alone, emptied by any thread: a C queue in between, so each entry is taken once.
    """

    def __init__(self, pool_name: str, on_error: OnError) -> None:
        self._pool_name = pool_name
        self._on_error = on_error
        self._entries: SimpleQueue[_Entry] = SimpleQueue()
        self.callback_errors: int = 0  # written by the dispatcher only

    def callback_failed(self, job: Job[Any], error: BaseException, which: str) -> None:
        """Note that a callback of the task raised."""
        self.callback_errors += 1
        note = f"raised by {which} of task {job.label} of {self._pool_name!r}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        entry = _Entry(job.label, job.task, error, own=False)
        if self._on_error == "raise":
            self._keep(entry)
        else:
            self._report(entry)

    def task_failed(self, job: Job[Any], error: BaseException) -> None:
        """Note that a task failed that has no ``error_callback``; looking at it later takes it off again."""
        if job.errors == "pool":
            self._keep(_Entry(job.label, job.task, error, own=True))
        elif job.errors == "holder":
            job.report_if_dropped(error)

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

    def _take(self) -> list[_Entry]:
        """Take out all entries that have not been looked at since."""
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
        if self._on_error != "raise":
            for entry in entries:
                self._report(entry)
        elif entries:
            raise self._group(entries)

    def settle_as_note(self, onto: BaseException) -> None:
        """Add what is kept to an exception that is on its way already."""
        entries = self._take()
        if self._on_error != "raise":
            for entry in entries:
                self._report(entry)
        elif entries:
            onto.add_note(
                f"besides, {self._group(entries).message}: " + "; ".join(repr(each.error) for each in entries)
            )

    def settle_in_log(self) -> None:
        """Log what is kept: no one will ever ask for it."""
        for entry in self._take():
            if self._on_error == "raise":
                _log(entry)
            else:
                self._report(entry)

    def _group(self, entries: list[_Entry]) -> CallbackErrors:
        first = entries[0].error
        what = "errors that nobody was told of" if len(entries) > 1 else "an error that nobody was told of"
        return CallbackErrors(
            f"{what} in {self._pool_name!r}, first of task {entries[0].label}: {type(first).__name__}: {first}",
            [_as_exception(entry) for entry in entries],
        )

    def _report(self, entry: _Entry) -> None:
        if not callable(self._on_error):
            _log(entry)
            return
        try:
            self._on_error(entry.task, entry.error)
        except BaseException as again:  # noqa: BLE001  the dispatcher must live, and there is nobody left to tell
            _log(entry)
            _log(entry._replace(error=again))


def _as_exception(entry: _Entry) -> Exception:
    error = entry.error
    if isinstance(error, Exception):
        return error
    notes = " ".join(getattr(error, "__notes__", ())) or repr(entry.task)
    wrapped = CallbackExit(f"{type(error).__name__}: {error} ({notes})")
    wrapped.__cause__ = error
    return wrapped


def _log(entry: _Entry) -> None:
    logger.error("nobody was told of an error of %r: %r", entry.task, entry.error, exc_info=entry.error)
