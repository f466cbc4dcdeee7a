"""`warn_slow`: logs a warning while a wait takes too long."""

from __future__ import annotations

import logging
from _thread import allocate_lock
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from threading import TIMEOUT_MAX, Thread
from types import TracebackType
from typing import Self

from .._core.clock import monotonic
from .._core.deadline import check_timeout
from .._core.foreign import guarded, log, printable, words
from .._core.holders import holder_of, thread_name
from .._core.report import report, say_holder
from .._core.state import name_of, state_of
from .._core.waits import Waiting, all_waits, subject, waits_of

# Its own thread looks at all waits from time to time. It sleeps for half of `after`, or less if a wait that it knows
# reaches `after` earlier. So it misses none, and is late only by the time that it takes to wake up.
#
# A jam begins with the first wait for a thing that gets too long, and lasts as long as one such wait lasts. Every long
# wait for the same thing belongs to the jam. So does a wait for a thing whose holder is in a jam, as long as the holder
# is: fifty accounts whose holders all wait for the database are one jam, not fifty. Only the beginning of a jam is
# logged.

_LINES = 10  # lines of one message, one for each jam; the report has all


class SlowWaits:
    """The object that `warn_slow` returns. It warns until `stop` is called or its ``with`` ends.

    Example:
        >>> from syncprims.diagnostics import warn_slow
        >>> with warn_slow(after=30.0) as watching:
        ...     pass
        ...
        >>> watching.stop()  # stopping again does nothing
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._gate = allocate_lock()
        self._gate.acquire()
        # Used by the thread alone:
        self._jams: dict[_Key, set[Waiting]] = {}
        self._thread = Thread(target=self._watch, name="syncprims-slow-waits", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop warning. Does not block."""
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
        while not self._gate.acquire(True, guarded(min(self._after / 2, TIMEOUT_MAX), self._look)):
            pass
        try:
            self._gate.release()  # so that a second stop() gets the error that it expects
        except RuntimeError:  # it was just stopped again
            pass

    def _look(self) -> float:
        """Warn of the jams that have begun; return in how many seconds to look again."""
        waits = sorted(all_waits(), key=lambda waiting: waiting.since)
        self._forget(set(waits))
        begun, pause = [], self._after / 2
        for waiting in waits:
            left = waiting.since + self._after - monotonic()
            if left > 0:
                pause = min(pause, left)
            elif (key := _key(waiting)) in self._jams:
                self._jams[key].add(waiting)
            elif not self._is_in_a_jam(_owner(waiting)):
                self._jams[key] = {waiting}
                begun.append(waiting)
        if begun:
            lines = [guarded("a wait is long", _say, waiting, waits) for waiting in begun[:_LINES]]
            if len(begun) > _LINES:
                lines.append(f"and so have threads for {len(begun) - _LINES} other things")
            log(logging.WARNING, "\n".join([*lines, guarded("(the report of it failed)", report)]))
        return min(pause, TIMEOUT_MAX)

    def _forget(self, waits: AbstractSet[Waiting]) -> None:
        """Forget the jams whose waits are all over."""
        for key, jam in list(self._jams.items()):
            jam &= waits
            if not jam:
                del self._jams[key]

    def _is_in_a_jam(self, ident: int | None) -> bool:
        return ident is not None and any(waiting in self._jams.get(_key(waiting), ()) for waiting in waits_of(ident))


# The thing that a jam is about, by its identity, and what of it is awaited. The waits of a jam keep the thing alive.
_Key = tuple[int, str]


def _key(waiting: Waiting) -> _Key:
    thing, sought = subject(waiting)
    return id(thing), sought


def _owner(waiting: Waiting) -> int | None:
    return guarded(None, waiting.owner)


def _say(waiting: Waiting, waits: Sequence[Waiting]) -> str:
    thing, sought = subject(waiting)
    name = words(name_of(thing))
    what, holder = (f"{name}, {printable(sought)},", "") if sought else (name, "")
    state = None if sought else state_of(thing)
    if state is not None and (state.owner is not None or state.is_lock):
        holder = f"; it is held by {say_holder(holder_of(state.owner))}"
    others = sum(_key(each) == _key(waiting) for each in waits) - 1
    more = f"; {others} more {'thread waits' if others == 1 else 'threads wait'} for it" if others else ""
    waiter = thread_name(waiting.ident)
    who = f"Thread {words(waiter)}" if waiter else "A thread without a name"
    return (
        f"{who} (ident {waiting.ident}) has waited "
        f"{monotonic() - waiting.since:.1f} s for {what} and still waits{holder}{more}"
    )


def warn_slow(after: float = 5.0) -> SlowWaits:
    """Log a warning with the `report` when a wait lasts longer than this, while the thread still waits.

    Use it in production, to learn of a problem before anything fails. Long waits for the same object are one incident,
    and so are long waits for objects that its waiters hold. An incident is logged once, when it begins. It ends when
    none of its waits is that long any more. A later wait is a new incident.

    The warning goes to the logger ``syncprims``. A daemon thread looks at the waits every ``after / 2`` seconds, so the
    locks themselves don't get slower. After a fork, call this again in the child.

    Args:
        after: Seconds, more than 0.

    Returns:
        An object that stops it. Use it in a ``with``, or ignore it to go on until the program ends.

    Raises:
        ValueError: The time is not positive, or NaN.
        TypeError: The time is not a number.

    Example:
        >>> from syncprims.diagnostics import warn_slow
        >>> watching = warn_slow(after=10.0)
        >>> watching.stop()
    """
    if check_timeout(after) in (None, 0):
        raise ValueError(f"after must be a positive number of seconds, not {after!r}")
    return SlowWaits(after)
