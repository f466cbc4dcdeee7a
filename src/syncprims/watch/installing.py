"""Installing: putting the observed locks in the place of `threading`'s, and back."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from .._core.foreign import guarded
from .children import watch_children
from .incident_facts import Incident
from .lock_pairs import LockOrders, lock_classes
from .observed import ObservedLock, ObservedRLock, factory_of
from .options import WatchOptions
from .parts import Replacement, replacements, threads_of_parent
from .watcher import IncidentWatcher

_ABSENT: Final = object()


class Watching:
    """A watch that is on: what `install` returns.

    Attributes:
        options: What was asked for.
        watcher: Its thread.
        orders: The orders of locks, if they are watched.

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

    def __init__(self, options: WatchOptions) -> None:
        self.options: WatchOptions = options
        self.orders: LockOrders | None = LockOrders(options.ignored) if options.order else None
        self.watcher: IncidentWatcher = IncidentWatcher(options, () if self.orders is None else (self.orders.found,))
        self._undo: list[Replacement] = []

    def look(self) -> list[Incident]:
        """Look at once for threads that can't go on, without regard to how long they have waited; report what is new.

        What is found may have to be confirmed by the threads that wait, so that it comes with one of the next looks.
        """
        return self.watcher.look(0.0)

    def uninstall(self) -> None:
        """End the watch. Locks that were made in the meantime stay usable; nothing more is reported."""
        global _current
        if _current is self:
            _current = None
            self.watcher.finish()
            for owner, name, value in reversed(self._undo):
                if value is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, value)
            self._undo.clear()

    def begin(self) -> None:
        """Replace everything, and start to look."""
        original = threading.Lock
        kind, again = (ObservedLock, ObservedRLock) if self.orders is None else lock_classes(self.orders)
        factory = factory_of(kind)
        for owner, name, value in [
            (threading, "Lock", factory),
            (threading, "_CRLock", again),
            *replacements(),
        ]:
            self._replace(owner, name, value)
        for module in list(sys.modules.values()):
            entries = guarded(None, lambda: vars(module))  # noqa: B023  called at once
            if type(entries) is dict and module is not threading and entries.get("Lock") is original:
                self._replace(module, "Lock", factory)
        if len(sys._current_frames()) == 1:
            self._renew_locks_of_logging()
        self.watcher.start()
        if self.options.children:
            watch_children(self.options)

    def _replace(self, owner: Any, name: str, value: object) -> None:
        self._undo.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def _renew_locks_of_logging(self) -> None:
        # Only where no other thread runs, as one might have taken the lock that it would release.
        plain = ObservedRLock.__mro__[1]
        if type(logging._lock) is plain:  # type: ignore[attr-defined]  # it is there
            self._replace(logging, "_lock", threading.RLock())
        for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # it is there
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
) -> Watching:
    """Watch the locks, conditions, queues, threads and futures that the program makes from now on.

    What `threading` makes is replaced by observed locks that do the same. A thread of its own looks at who waits for
    whom, and writes a report when threads can't go on; the program is not changed by it. Call it before the modules
    are imported that make the locks: locks that exist already are not seen. ``python -m syncprims.watch PROGRAM`` does
    that for a whole program.

    Args:
        after: For how many seconds threads have to have waited for each other before it is reported.
        asleep: For how many seconds all threads have to have waited without a limit; None reports no such thing.
        order: Whether to report two locks that are taken in both orders. Slower: for tests.
        slow: Report each wait that lasts longer than that many seconds; None reports none.
        breaks: Whether to raise `syncprims.DeadlockError` in one of the waits of a certain deadlock: the last to begin
            that is for an `RLock`, or a ``with`` of a `Lock`.
        children: Whether to watch processes that the program starts as well.
        json: A file to which each report is added as one line of JSON; ``"-"`` is the standard output stream.
        file: A file to which the text of reports is added, instead of the standard error stream.
        ignore: Lock orders that are not reported: places like ``"bank.py:12"``, where a lock was made or taken, or
            pairs of them, ``"bank.py:12,audit.py:30"``. The comment ``# syncprims: any order`` on a line that takes a
            lock does the same.

    Returns:
        The watch. If one is on already, that one, as it is.

    Raises:
        TypeError: A number of seconds is not a number.
        ValueError: It is not positive and finite.

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
        )
    )


def install_with(options: WatchOptions) -> Watching:
    """Do the same with options that were read elsewhere."""
    global _current
    if _current is None:
        _current = Watching(options)
        _current.begin()
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
        _current.watcher.start_after_fork()


def _after_fork_in_child() -> None:
    if _current is not None:
        _current.watcher.forget_thread()
        if _current.orders is not None:
            _current.orders.forget_threads()
        _current.watcher.start_after_fork()


def _at_exit() -> None:
    if _current is not None:
        _current.watcher.finish()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
