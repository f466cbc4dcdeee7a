"""Installing: replacing the locks of `threading` by observed ones, and restoring them."""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import update_wrapper
from types import ModuleType
from typing import Any, Final, NoReturn
from weakref import ref

from .._core.foreign import guarded
from .blocked import note_process, wake_by_next_wait
from .children import complain, watch_children
from .contention import WatchRecording
from .event_loops import forget_loops, run_observed
from .event_loops import replacements as replacements_in_asyncio
from .exact import ExactLock, ExactObserver, ExactRLock, exact_classes, silence
from .incident_facts import Incident
from .late_import import LateImport
from .lock_pairs import LockOrders
from .metrics import LockMetrics
from .observed import ObservedLock, ObservedRLock, factory_of
from .options import WatchOptions
from .parts import replacements, threads_of_parent
from .watcher import IncidentWatcher

_ABSENT: Final = object()
# Until 3.12 the links to the frames of a thread are on its C stack, which another thread of a child may get.
_FRAMES_OUTLIVE_FORKS: Final = sys.version_info >= (3, 13)


class Watching:
    """A watch that is on. `install` returns it.

    Attributes:
        options: Its options.
        watcher: Its thread.
        orders: The orders of locks, if they are watched.
        recording: The recording, a `WatchRecording`, or None.
        metrics: The counts for `prometheus_client`, or None.

    Example:
        >>> import threading
        >>> from syncprims.watch import install
        >>> watching = install(after=2.0)
        >>> lock = threading.Lock()
        >>> with lock:
        ...     print("observed")
        observed
        >>> watching.uninstall()
    """

    def __init__(self, options: WatchOptions, *, by_environment: bool = False) -> None:
        self.options: WatchOptions = options
        self.metrics: LockMetrics | None = None if options.metrics is False else LockMetrics()
        self.recording: WatchRecording | None = (
            WatchRecording(
                options.record if isinstance(options.record, str) else None,
                in_child=by_environment,
                follows=options.children,
            )
            if options.record
            else None
        )
        self.orders: LockOrders | None = LockOrders(options.ignored) if options.order else None
        self.watcher: IncidentWatcher = IncidentWatcher(options, () if self.orders is None else (self.orders.found,))
        self._undo: list[tuple[Callable[[], Any], str, object]] = []
        self._exact: tuple[type[ExactLock | ExactRLock], ...] = ()
        self._late: LateImport = LateImport()

    def look(self) -> list[Incident]:
        """Look now for threads that can't go on, even if they have not waited for long; report what is new.

        The waiting threads may have to confirm that they are stuck, so the report may come from a later look.
        """
        return self.watcher.look(0.0)

    def uninstall(self) -> None:
        """End the watch. Observed locks stay usable; nothing more is reported.

        A recording ends, and its file is written.
        """
        global _current
        if _current is self:
            _current = None
            note_process(None)
            self.finish()
            self._late.forget()
            silence(self._exact)
            for owned, name, value in reversed(self._undo):
                owner = owned()
                if owner is None:
                    continue  # the module is gone
                if value is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, value)
            self._undo.clear()

    def finish(self) -> None:
        """Write the last reports, at the end of the watch or of the program."""
        self.watcher.finish()
        if self.metrics is not None:
            guarded(None, self.metrics.unregister)
        self.finish_recording()

    def finish_recording(self) -> None:
        """Write the recording, if there is one that was not written yet."""
        text: str = "" if self.recording is None else guarded("", self.recording.finish)
        if text:
            self.watcher.write(text)

    def after_fork_in_child(self) -> None:
        """Begin again in a forked child."""
        note_process(self._after_other_fork)
        self.watcher.forget_thread()
        forget_loops()
        if self.orders is not None:
            self.orders.forget_threads()
        if self.metrics is not None:
            self.metrics.forget_threads()
        if self.recording is not None:
            self.recording.go_on_in_child()
        self.watcher.start_with_next_wait()

    def _after_other_fork(self) -> None:
        """Begin again in a child that C code forked without the hooks; the first wait in the child calls this."""
        if self.watcher.is_running() and not _FRAMES_OUTLIVE_FORKS:
            wake_by_next_wait(None)
            complain(
                f"process {os.getpid()} is not watched: it was forked in C, without Python's hooks, when there were "
                "threads already, and Python can't tell these from its own; start no thread before the fork, and wait "
                "for nothing, or import the program after it (uWSGI: --lazy-apps)"
            )
        else:
            self.after_fork_in_child()

    def begin(self) -> None:
        """Replace everything, and begin to look."""
        original = threading.Lock
        kind, again = self._kinds()
        factory = factory_of(kind)
        for owner, name, value in [
            (threading, "Lock", factory),
            (threading, "_CRLock", again),
            *replacements(),
        ]:
            self._replace(owner, name, value)
        if hasattr(_thread, "lock"):  # from 3.13 on, the name that pickles the class
            self._replace(_thread, "lock", factory)
        self._replace_elsewhere("Lock", original, factory)
        self._replace(_thread, "_count", self._count_observed())
        self._late.after("asyncio", self._observe_asyncio)
        self._late.after("uvloop", self._observe_uvloop)
        if len(sys._current_frames()) == 1:
            self._renew_locks_of_logging()
        note_process(self._after_other_fork)
        self.watcher.start_with_next_wait()
        if self.options.children:
            watch_children(self.options)

    def _kinds(self) -> tuple[type[ObservedLock], type[ObservedRLock]]:
        """Begin to record and to count, if the options say so; return the classes of locks that this needs."""
        observers: list[ExactObserver] = [] if self.orders is None else [self.orders]
        if self.metrics is not None:
            served = self.metrics.register(None if self.options.metrics is True else self.options.metrics)
            self.watcher.bystanders.add(served)
            observers.append(self.metrics)
        if self.recording is not None:
            self.recording.__enter__()
            observers.append(self.recording.recorder())
            if isinstance(self.options.record, str):
                self._replace(os, "_exit", self._exit_observed())
        if not observers:
            return ObservedLock, ObservedRLock
        self._exact = exact_classes(observers)
        return self._exact

    def _count_observed(self) -> Any:
        """Return the replacement of `_thread._count`, with which tests check that all their threads have ended."""
        count = _thread._count

        def other_threads() -> int:
            return self.watcher.without_it(count())

        return update_wrapper(other_threads, count)

    def _exit_observed(self) -> Any:
        """Return the replacement of `os._exit`, which ends forked children: it writes the recording first."""
        leave = os._exit

        def exit_at_once(status: int) -> NoReturn:
            guarded(None, self.finish_recording)
            leave(status)

        return update_wrapper(exit_at_once, leave)

    def _observe_asyncio(self, asyncio: ModuleType) -> None:
        found = replacements_in_asyncio(asyncio)
        for owner, name, value in found:
            original = vars(owner)[name]
            self._replace(owner, name, value)
            if isinstance(owner, ModuleType):
                self._replace_elsewhere(name, original, value)

    def _observe_uvloop(self, uvloop: ModuleType) -> None:
        self._replace(*run_observed(vars(uvloop)["Loop"]))

    def _replace_elsewhere(self, name: str, original: object, value: object) -> None:
        for module in list(sys.modules.values()):
            entries = guarded(None, lambda: vars(module))  # noqa: B023  called at once
            if type(entries) is dict and entries.get(name) is original:
                self._replace(module, name, value)

    def _replace(self, owner: Any, name: str, value: object) -> None:
        owned: Callable[[], Any] = guarded(lambda: owner, ref, owner)  # a weak reference, if that is possible
        self._undo.append((owned, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def _renew_locks_of_logging(self) -> None:
        # Only if no other thread runs: it might have acquired the old lock, and would release the new one.
        plain = ObservedRLock.__mro__[1]
        if type(logging._lock) is plain:  # type: ignore[attr-defined]  # it exists
            self._replace(logging, "_lock", threading.RLock())
        for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # it exists
            handler = reference()
            if handler is not None and type(guarded(None, getattr, handler, "lock", None)) is plain:
                handler.lock = threading.RLock()


_current: Watching | None = None


def install(
    *,
    after: float = 1.0,
    asleep: float | None = 5.0,
    order: bool = False,
    slow: float | None = None,
    breaks: bool = False,
    children: bool = False,
    json: str | os.PathLike[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    ignore: Sequence[str] = (),
    record: str | os.PathLike[str] | bool = False,
    metrics: bool | int = False,
) -> Watching:
    """Watch the locks, conditions, queues, threads and futures that the program makes from now on.

    Observed locks replace those of `threading`, and behave in the same way. A separate thread looks for threads that
    wait for each other, and writes a report when they can't go on. The program itself goes on as without the watch.
    Call this before you import the modules that make locks, because locks that exist already are not seen. ``python -m
    syncprims.watch PROGRAM`` does that for a whole program.

    Args:
        after: Report a deadlock when its threads have waited for this many seconds, or a wait that has stopped an event
            loop for as long.
        asleep: Report when all threads have waited without a limit for this many seconds; None turns this off.
        order: Whether to report two locks that are acquired in both orders. This is slower: for tests.
        slow: Report each wait that lasts longer than this many seconds; None reports none.
        breaks: Whether to raise `syncprims.DeadlockError` in one thread of a certain deadlock: the last that has begun
            to wait for an `RLock`, or in the ``with`` of a `Lock`.
        children: Whether to also watch processes that the program starts.
        json: A file to which each report is added as one line of JSON; ``"-"`` is the standard output stream.
        file: A file to which the text of reports is added, instead of the standard error stream.
        ignore: Lock orders that are not reported: places like ``"bank.py:12"``, where a lock was made or acquired, or
            pairs of them, ``"bank.py:12,audit.py:30"``. The comment ``# syncprims: any order`` on a line that acquires
            a lock does the same.
        record: Record which threads hold and wait for which locks. With True, read `Watching.recording`. With the path
            of a file (``.html`` or ``.json``, as for `syncprims.diagnostics.Recording.save`), the file is written at
            the end of the watch or of the program, and a report lists the locks with the longest waits. Every use of a
            lock takes some microseconds longer.
        metrics: Count in the default registry of `prometheus_client` how long threads wait for locks and hold them: the
            histograms ``lock_wait_seconds`` and ``lock_held_seconds``, whose label ``name`` says where the locks were
            made. With a number, the metrics are also served at that port.

    Returns:
        The watch. If one is on already, that one, unchanged.

    Raises:
        TypeError: A number of seconds is not a number, or another argument is of a wrong type.
        ValueError: A number of seconds is not positive and finite, a recording can't have that path, or the port is not
            valid.
        ImportError: ``metrics`` was asked for, and prometheus_client is not installed.
        OSError: The port can't be used.

    Example:
        >>> from syncprims.watch import install
        >>> install().uninstall()
    """
    return install_with(
        WatchOptions(
            after=after,
            asleep=asleep,
            order=order,
            slow=slow,
            breaks=breaks,
            children=children,
            json=None if json is None else os.fspath(json),
            file=None if file is None else os.fspath(file),
            ignored=ignore,
            record=record,
            metrics=metrics,
        )
    )


def install_with(options: WatchOptions, *, by_environment: bool = False) -> Watching:
    """Do the same with options that were read elsewhere, such as the environment, which several processes share."""
    global _current
    if _current is None:
        watching = Watching(options, by_environment=by_environment)
        watching.begin()
        _current = watching
    return _current


def current() -> Watching | None:
    """The watch that is on, or None."""
    return _current


# -- forks and the end -------------------------------------------------------------------------------------------------


def _before_fork() -> None:
    if _current is not None:
        _current.watcher.stop()
        threads_of_parent()


def _after_fork_in_parent() -> None:
    if _current is not None:
        _current.watcher.start_with_next_wait()


def _after_fork_in_child() -> None:
    if _current is not None:
        _current.after_fork_in_child()


def _at_exit() -> None:
    if _current is not None:
        _current.finish()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
