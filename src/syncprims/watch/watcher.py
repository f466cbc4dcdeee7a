"""The watcher: a thread that looks for incidents in the program, and reports each."""

from __future__ import annotations

import _thread
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from .._core import foreign
from .._core.clock import monotonic, sleep
from .blocked import wake_by_next_wait
from .incident_facts import Incident
from .incidents import Search
from .options import WatchOptions
from .wording import as_object, as_text

# The thread is a raw one that `threading` does not know. So no program finds a thread that it has not started, or waits
# for it. The thread begins with the first observed wait: before that there is nothing to look at, and a server that
# forks in C, without Python's hooks, should have no thread until then. It ends before `os.fork`, which warns about
# threads (from 3.13 on after the last hook), and begins with the next wait in parent and child.
#
# An object of the program must end when it ends without the watch, and in the same thread. So between two looks the
# watch has only weak references to such objects. A record of a wait has a strong one, but goes away with the wait, and
# is in no reference cycle. Frames are held only while a report is made (see `codes_of_threads`).
# `tests/watch/test_lifetimes.py` tests this.

_SHORTEST: Final = 0.05
_LONGEST: Final = 0.5
# Seconds to wait for the system to end the thread: it takes some microseconds, if nothing else runs.
_PATIENCE: Final = 0.5


class IncidentWatcher:
    """Looks for incidents from time to time, in its own thread, and writes those that it finds.

    Attributes:
        options: The options.
        on_incident: Functions that get each incident with its text, before it is written. If one returns True, it is
            not written.
        bystanders: The idents of other threads that are not the program's.
    """

    def __init__(self, options: WatchOptions, others: Sequence[Callable[[], Iterable[Incident]]] = ()) -> None:
        self.options: WatchOptions = options
        self.on_incident: list[Callable[[Incident, str], object]] = []
        self.bystanders: set[int] = set()
        self._search = Search(breaks=options.breaks)
        self._others = tuple(others)
        self._mutex = _thread.allocate_lock()  # one look at a time
        # While the thread runs: the lock that it waits for, which is released to stop it, and the lock that it releases
        # when it ends.
        self._thread: dict[str, tuple[Any, Any]] = {}
        self._ident = 0
        self._native = 0
        self._has_failed = False

    # -- the thread -----------------------------------------------------------------------------------------------

    def start_with_next_wait(self) -> None:
        """Start it as soon as a thread waits."""
        wake_by_next_wait(self._start)

    def _start(self) -> None:
        """Start the thread, unless it runs; do nothing if the system has none.

        Several threads may call this at once.
        """
        stop, ended = mine = _thread.allocate_lock(), _thread.allocate_lock()
        stop.acquire()
        ended.acquire()
        try:
            if self._thread.setdefault("", mine) is mine:
                _thread.start_new_thread(self._run, mine)
        except RuntimeError:
            self._thread.clear()
        except BaseException:  # an interrupt of the program: if this thread runs it ends, and the next wait starts one
            if self._thread.get("") is mine:
                self._thread.clear()
                stop.release()
            raise
        wake_by_next_wait(None)

    def stop(self) -> None:
        """End the thread, and wait until it has ended."""
        wake_by_next_wait(None)
        stop, ended = self._thread.pop("", (None, None))
        if stop is None:
            return
        stop.release()
        if _thread.get_ident() == self._ident:
            return
        ended.acquire(True, _PATIENCE)
        task, until = f"/proc/self/task/{self._native}", monotonic() + _PATIENCE
        while os.path.exists(task) and monotonic() < until:
            sleep(0)

    def forget_thread(self) -> None:
        """Note in a forked child that the thread does not exist there, and that a look may have been interrupted."""
        self._thread = {}
        self._ident = 0
        self._mutex = _thread.allocate_lock()
        self._search = Search(breaks=self.options.breaks)

    def _run(self, stop: Any, ended: Any) -> None:
        try:
            self._ident = _thread.get_ident()
            self._native = _thread.get_native_id()
            pause = min(max(self.options.after / 4, _SHORTEST), _LONGEST)
            while not stop.acquire(True, pause):
                try:
                    self.look()
                except Exception as error:  # noqa: BLE001  this thread survives whatever it meets
                    if not self._has_failed:
                        self._has_failed = True
                        foreign.log(logging.ERROR, "syncprims.watch could not look at the threads", error)
        finally:
            if self._ident == _thread.get_ident():
                self._ident = 0
            ended.release()

    def is_running(self) -> bool:
        """Whether the thread runs."""
        return bool(self._thread)

    @property
    def ident(self) -> int:
        """The ident of the thread, or 0."""
        return self._ident

    def without_it(self, count: int) -> int:
        """Subtract the thread from a number of threads."""
        return count - (self._ident != 0)

    # -- looking --------------------------------------------------------------------------------------------------

    def look(self, after: float | None = None) -> list[Incident]:
        """Look once, write the new incidents, and return them."""
        options = self.options
        with self._mutex:
            found = list(
                self._search.look(
                    options.after if after is None else after,
                    options.asleep,
                    options.slow,
                    (self._ident, *self.bystanders),
                )
            )
            found += [incident for other in self._others for incident in other()]
        for incident in found:
            self.report(incident)
        return found

    def finish(self) -> None:
        """End the thread, and write the incidents since its last look."""
        self.stop()
        for incident in [incident for other in self._others for incident in other()]:
            self.report(incident)

    def has_questions(self) -> bool:
        """Whether threads that seemed stuck in the last look have not answered yet."""
        return self._search.has_questions()

    def report(self, incident: Incident) -> None:
        """Write an incident to the place in the options."""
        text = as_text(incident)
        taken = [foreign.guarded(None, each, incident, text) for each in list(self.on_incident)]
        if True in taken:
            return
        if self.options.json is not None:
            foreign.guarded(None, _append, self.options.json, json.dumps(as_object(incident)) + "\n")
        self.write(text)

    def write(self, text: str) -> None:
        """Write a report as text to the place in the options."""
        if self.options.file is not None:
            foreign.guarded(None, _append, self.options.file, text)
        else:
            foreign.guarded(None, _print, text)


def _append(path: str, text: str) -> None:
    # One system call, so that the lines of several processes do not mix.
    data = text.encode("utf-8", "backslashreplace")
    if path == "-":
        os.write(1, data)
        return
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(file, data)
    finally:
        os.close(file)


def _print(text: str) -> None:
    # Without using a lock of the program: its threads may hang at that stream.
    stream, is_first = sys.stderr, sys.stderr is sys.__stderr__
    if stream is None:
        return
    if is_first and (descriptor := foreign.guarded(None, stream.fileno)) is not None:
        os.write(descriptor, text.encode("utf-8", "backslashreplace"))
    else:
        stream.write(text)
        stream.flush()
