"""Errors that no code has looked at yet: `join` or `close` raises them, a function gets them, or the log does."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections.abc import Callable
from logging import ERROR
from typing import Any, Literal, NamedTuple

from .._core.foreign import chain, error_words, is_interrupt, log, note, notes_of
from ..errors import CallbackErrors, CallbackExit
from .job import Job, Open
from .task import Task, failed_task, was_looked_at

# The rule: if no code looked at the exception of a task, the pool raises it when it closes. Code looks at it with an
# `error_callback`, with `result()` or `exception()`, or by awaiting the task. Hooks don't count: they see every task.
#
# `submit` gives the task to its caller, and with it the error. So the error belongs to the pool only if the task is
# dropped before the pool has closed. A finalizer notices this. It may run on any thread and in the middle of any code,
# including this file's. So it only puts the error into a C queue, or writes a line to the log after the close.
#
# The errors, and the function that may get them, are the user's. `foreign` guards both.

KEPT = 256  # a pool that is never joined must not grow; further errors are logged

OnError = Literal["raise", "log"] | Callable[[Task[Any], BaseException], None]


class _Entry(NamedTuple):
    what: str  # names the call, or the callback of it that raised
    task: Task[Any]
    error: BaseException
    own: bool  # whether it is the task's own error, which counts only until code looks at it; else a callback's


class UnseenErrors:
    """Keeps the exceptions of callbacks, and the tasks whose errors no code has seen.

    **Thread safety**: all methods may be called from any thread, `dropped` also by a finalizer in the middle of another
    one. Each entry is removed from the queue once.

    Attributes:
        callback_errors: How many errors of callbacks and hooks there were; written by the dispatcher only.
        watched: Whether a failed task may still be dropped; written by the dispatcher, and by the thread that settles
            the task.
    """

    def __init__(self, open_tasks: Open, on_error: OnError) -> None:
        self._open_tasks = open_tasks
        self._on_error = on_error
        self._raises = isinstance(on_error, str) and str.__str__(on_error) == "raise"
        self._entries: SimpleQueue[_Entry] = SimpleQueue()
        self._closed = False
        self.callback_errors: int = 0
        self.watched: bool = False

    # -- errors that come in -----------------------------------------------------------------------------------------

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
        """Note that a task without an ``error_callback`` failed; it is dropped if code looks at the error later."""
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

    # -- errors that go out ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """From now on log the errors of dropped tasks: the kept ones are about to be reported for the last time."""
        self._closed = True

    def _take(self) -> list[_Entry]:
        """Remove and return all entries that no code has looked at since."""
        taken: list[_Entry] = []
        try:
            while True:
                entry = self._entries.get_nowait()
                if not (entry.own and was_looked_at(entry.task)):
                    taken.append(entry)
        except Empty:
            return taken

    def settle(self) -> None:
        """Raise the kept errors as one group, or report them, as the pool's options say.

        Raises:
            CallbackErrors: There are errors, and the option is to raise them.
        """
        entries = self._take()
        if not self._raises:
            self._report_all(entries)
        elif entries:
            raise self._group(entries)

    def settle_as_note(self, onto: BaseException) -> None:
        """Add the kept errors to an exception that is being raised already."""
        entries = self._take()
        if not self._raises:
            self._report_all(entries)
        elif entries:
            told = "; ".join(_say(entry) for entry in entries)
            if not note(onto, f"besides, {self._count(entries)}: {told}"):
                for entry in entries:
                    _log(entry)

    def settle_in_log(self) -> None:
        """Log the kept errors, because no code will ask for them."""
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
            except BaseException:  # an interrupt: the other errors must still be reported
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
            # Even if this is not an `Exception`, the dispatcher must go on, and no other code could get the error.
            _log(entry._replace(what=f"on_callback_error for {entry.what}", error=again))


def as_exception(error: BaseException, said: str | None) -> Exception:
    """Return an error with a note, in a form for an `ExceptionGroup`: itself, or a `CallbackExit` around it."""
    if said is not None:
        note(error, said)
    if issubclass(type(error), Exception):
        return error  # type: ignore[return-value]  # its type is an Exception, whatever its class pretends
    notes = " ".join(notes_of(error))
    wrapped = CallbackExit(f"{error_words(error)} ({notes})" if notes else error_words(error))
    chain(wrapped, error)
    return wrapped


def say(what: str, error: BaseException) -> str:
    """Say in words that this call raised this error."""
    return f"{what} raised {error_words(error)}"


def _say(entry: _Entry) -> str:
    return say(entry.what, entry.error)


def _log(entry: _Entry) -> None:
    log(ERROR, f"no code has looked at an error of {entry.task!r}: {_say(entry)}", entry.error)
