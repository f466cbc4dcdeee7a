"""`warn_slow`: says that a wait is long while it still is."""

from __future__ import annotations

import logging
from _thread import allocate_lock
from threading import TIMEOUT_MAX, Thread
from types import TracebackType
from typing import Self

from .._core.clock import monotonic
from .._core.deadline import check_timeout
from .._core.holders import holder_of, thread_name
from .._core.report import report, say_holder
from .._core.waits import Waiting, all_waits, subject

# A thread of its own looks at all waits now and then. It sleeps for half of `after`, or less where a wait that it knows
# comes of age earlier; so it misses none and is never late by more than it takes to wake up.


class SlowWaits:
    """What `warn_slow` returns: it warns until `stop`, or until the end of its ``with``.

    Example:
        >>> from syncprims.diagnostics import warn_slow
        >>> with warn_slow(after=30.0) as watching:
        ...     pass
        >>> watching.stop()  # once more does no harm
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._gate = allocate_lock()
        self._gate.acquire()
        self._warned: set[Waiting] = set()
        self._thread = Thread(target=self._watch, name="syncprims-slow-waits", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Warn no more. Does not block."""
        try:
            self._gate.release()
        except RuntimeError:  # it is stopped already
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._gate.acquire(True, self._look()):
            pass
        try:
            self._gate.release()  # so that stopping again stays an error that stop() knows
        except RuntimeError:  # somebody stopped it again just now
            pass

    def _look(self) -> float:
        """Warn of what is slow by now; return in how many seconds to look again."""
        waits = all_waits()
        self._warned.intersection_update(waits)
        pause = self._after / 2
        slow = []
        for waiting in waits:
            if waiting not in self._warned:
                left = waiting.since + self._after - monotonic()
                if left > 0:
                    pause = min(pause, left)
                else:
                    slow.append(waiting)
        if slow:
            self._warned.update(slow)
            # In one message, as those of a jam come of age together and have one report.
            logging.getLogger("syncprims").warning("%s\n%s", "\n".join(map(_say, slow)), report())
        return min(pause, TIMEOUT_MAX)


def _say(waiting: Waiting) -> str:
    thing, sought = subject(waiting)
    what, holder = (f"{thing.name!r}, {sought},", "") if sought else (repr(thing.name), "")
    state = None if sought else thing._state()
    if state is not None and (state.owner is not None or state.is_lock):
        holder = f"; it is held by {say_holder(holder_of(state.owner))}"
    return (
        f"Thread {thread_name(waiting.ident)!r} (ident {waiting.ident}) has waited {monotonic() - waiting.since:.1f} s "
        f"for {what} and still waits{holder}"
    )


def warn_slow(after: float = 5.0) -> SlowWaits:
    """Log a warning, with the `report`, of each wait that lasts longer than this: once, while it is still on.

    Use it in production, to learn of a jam before anything fails. It goes to the logger ``syncprims``. It takes a
    daemon thread that looks at the waits twice in that time; the locks themselves don't get slower. After a fork, call
    it again in the child.

    Args:
        after: In seconds, more than 0.

    Returns:
        What stops it; it may be used in a ``with``, or ignored to go on to the end of the program.

    Raises:
        ValueError: The time is not positive, or NaN.
        TypeError: It is not a number.

    Example:
        >>> from syncprims.diagnostics import warn_slow
        >>> watching = warn_slow(after=10.0)
        >>> watching.stop()
    """
    if check_timeout(after) in (None, 0):
        raise ValueError(f"after must be a positive number of seconds, not {after!r}")
    return SlowWaits(after)
