"""The ledger: errors that nobody has heard of yet, until `join` raises them, a function gets them or the log does."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections.abc import Callable
from typing import Any, Literal

from ..errors import CallbackErrors, CallbackExit
from .task import Task, logger

KEPT = 256  # a pool that nobody ever joins must not grow; what does not fit is logged

OnError = Literal["raise", "log"] | Callable[[Task[Any], BaseException], None]


class Ledger:
    """Keeps callbacks' errors, and tasks that failed while nobody was told.

    Written by the dispatcher alone, emptied by any thread: a C queue in between, so each entry is taken once.
    """

    def __init__(self, pool_name: str, on_error: OnError) -> None:
        self._pool_name = pool_name
        self._on_error = on_error
        self._entries: SimpleQueue[tuple[Task[Any], BaseException | None]] = SimpleQueue()
        self.callback_errors: int = 0  # written by the dispatcher only

    def callback_failed(self, task: Task[Any], error: BaseException, which: str) -> None:
        """Note that a callback of the task raised."""
        self.callback_errors += 1
        note = f"raised by {which} of task {task._label} of {self._pool_name!r}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        if self._on_error == "raise":
            self._keep(task, error)
        else:
            self._report(task, error)

    def task_failed(self, task: Task[Any]) -> None:
        """Note that a task failed that has no ``error_callback``; looking at it later takes it off again."""
        self._keep(task, None)

    def _keep(self, task: Task[Any], error: BaseException | None) -> None:
        if self._entries.qsize() >= KEPT:
            self._make_room()
        self._entries.put((task, error))

    def _make_room(self) -> None:
        entries = self._take()
        for task, error in entries[1:] if len(entries) >= KEPT else entries:
            self._entries.put((task, error))
        if len(entries) >= KEPT:
            _log(*entries[0])

    def _take(self) -> list[tuple[Task[Any], BaseException]]:
        """Take out all entries that nobody has looked at since."""
        taken: list[tuple[Task[Any], BaseException]] = []
        try:
            while True:
                task, error = self._entries.get_nowait()
                if error is None and not task._seen:
                    error = task._exception
                if error is not None:
                    taken.append((task, error))
        except Empty:
            return taken

    def settle(self) -> None:
        """Raise what is kept as one group, or report it, as the pool was told to.

        Raises:
            CallbackErrors: There is something, and errors are to be raised.
        """
        entries = self._take()
        if self._on_error != "raise":
            for task, error in entries:
                self._report(task, error)
        elif entries:
            raise self._group(entries)

    def settle_as_note(self, onto: BaseException) -> None:
        """Add what is kept to an exception that is on its way already."""
        entries = self._take()
        if self._on_error != "raise":
            for task, error in entries:
                self._report(task, error)
        elif entries:
            onto.add_note(f"besides, {self._group(entries).message}: " + "; ".join(repr(error) for _, error in entries))

    def settle_in_log(self) -> None:
        """Log what is kept: nobody will ever ask for it."""
        for task, error in self._take():
            if self._on_error == "raise":
                _log(task, error)
            else:
                self._report(task, error)

    def _group(self, entries: list[tuple[Task[Any], BaseException]]) -> CallbackErrors:
        task, first = entries[0]
        what = "errors that nobody was told of" if len(entries) > 1 else "an error that nobody was told of"
        return CallbackErrors(
            f"{what} in {self._pool_name!r}, first of task {task._label}: {type(first).__name__}: {first}",
            [_as_exception(task, error) for task, error in entries],
        )

    def _report(self, task: Task[Any], error: BaseException) -> None:
        if not callable(self._on_error):
            _log(task, error)
            return
        try:
            self._on_error(task, error)
        except BaseException as again:  # noqa: BLE001  the dispatcher must live, and there is nobody left to tell
            _log(task, error)
            _log(task, again)


def _as_exception(task: Task[Any], error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    wrapped = CallbackExit(f"{type(error).__name__}: {error} ({' '.join(getattr(error, '__notes__', ())) or task!r})")
    wrapped.__cause__ = error
    return wrapped


def _log(task: Task[Any], error: BaseException) -> None:
    logger.error("nobody was told of an error of %r: %r", task, error, exc_info=error)
