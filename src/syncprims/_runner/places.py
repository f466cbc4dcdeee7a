"""The threads that have come to a runner: the steps that they came for, and the data kept for each thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final
from weakref import ref

from .._core.clock import sleep
from .._core.foreign import guarded, log, words
from .._core.interrupts import Leave
from .._core.thread_ends import at_end_of_this_thread, has_ended, this_thread
from .._core.waits import count_waits
from ..facts import nameless, say_thread
from .sequence import Seat, Sequence
from .turn import Turn

# A step may be due when every thread that ever came for it has ended. Even then no wait for its turn can be refused:
# another thread may come, perhaps one that does not exist yet. But the fact is reported in every way that interrupts no
# thread: in the error of a timeout, in reports, and by a warning, once for each turn. Some programs start a thread for
# each turn, so the warning comes only if no thread has come for some seconds. The last of those threads, when it ends,
# starts a thread that logs the warning; otherwise a thread that begins to wait starts it.
#
# A thread counts for a step once it has looked up the step's `__exit__`. A `with` does so before it waits.

_PATIENCE: float = 5.0  # seconds
_NAMES: Final = 3


class Place:
    """The data that a runner keeps for one thread: its seat, and the ``__exit__`` of its steps.

    Making that ``__exit__`` takes as long as calling it. So while the thread is in no step, it is kept here for the
    next one. A ``with`` takes it out, and puts it back when it has left a step of any name. If the ``with`` drops it
    instead, because memory was too short to call it, that breaks the sequence. Between two steps it refers only to the
    empty seat, so that a runner that is not needed any more goes away at once.
    """

    __slots__ = ("__weakref__", "_end", "last", "leave", "own", "seat", "steps", "thread")

    def __init__(self, ended: Callable[[object], object]) -> None:
        self.seat: Final = Seat()
        self.leave: Leave | None = None
        # A weak reference to that `__exit__`; the generator in it has it too, to put the `__exit__` back.
        self.own: ref[Leave] | None = None
        # The step that the thread came for last (the same object as in the context), and all steps that it came for.
        self.last: str | None = None
        self.steps: Final[dict[str, None]] = {}
        # None if the end of the thread can't be noticed.
        self.thread: Final = this_thread()
        self._end = at_end_of_this_thread(ended)

    def come_for(self, step: str) -> None:
        """Note that its thread has come for a different step than the last time."""
        self.steps[step] = None
        self.last = step


class _Gone:
    """The threads that came for a step and have ended: how many, and the names of the last ones."""

    __slots__ = ("names", "number")

    def __init__(self) -> None:
        self.number: int = 0
        self.names: list[str] = []


_Lost = tuple[Sequence, Turn, str]


class Places(dict[int, Place]):
    """The places of a runner, by the idents of the threads; of a thread that has ended, only the name is left."""

    __slots__ = ("__weakref__", "_gone", "_sequence", "_teller", "_told")

    def __init__(self, sequence: Callable[[], Sequence | None]) -> None:
        """Keep the places of the runner that has this sequence."""
        super().__init__()
        self._sequence = sequence
        self._gone: dict[str, _Gone] = {}
        self._teller: threading.Thread | None = None
        self._told: _Lost | None = None

    def __missing__(self, ident: int) -> Place:
        return self.setdefault(ident, Place(partial(_forget, ref(self), ident)))

    def why_nobody(self, step: str) -> str:
        """Say that all threads that came for the step have ended; ``""`` if one is alive, or if none came."""
        gone = self._gone.get(step)
        if gone is None or any(step in place.steps for place in list(self.values())):
            return ""
        names = [say_thread(name) for name in gone.names[-_NAMES:]]
        if gone.number == 1:
            return f"{names[0]}, the only thread that has come for it, has ended"
        before = f" and {gone.number - len(names)} before" if gone.number > len(names) else ""
        return f"all {gone.number} threads that have come for it have ended ({', '.join(names)}{before})"

    def mind(self) -> None:
        """Prepare the warning if the step whose turn it is has lost its threads."""
        if not self._gone or self._teller is not None:  # the usual case
            return
        lost = self._lost()
        if lost is not None and lost != self._told:
            self._teller = threading.Thread(target=self._tell, name="syncprims-runner-watch", daemon=True)
            try:
                self._teller.start()
            except RuntimeError:  # no thread can be started at present
                self._teller = None

    def _lost(self) -> _Lost | None:
        """The turn that is waited for although all threads that came for its step have ended, with words for that."""
        sequence = self._sequence()
        if sequence is None or sequence.ends or sequence.owner is not None or not count_waits(sequence):
            return None
        turn = sequence.turn
        why = "" if turn is None else self.why_nobody(turn.step)
        return None if turn is None or not why else (sequence, turn, why)

    def _tell(self) -> None:
        before, lost = None, self._lost()
        while lost is not None and lost != before:
            before = lost
            sleep(_PATIENCE)
            lost = self._lost()
        self._told, self._teller = lost, None
        if lost is None:
            self.mind()  # another thread may have ended just now
            return
        import logging  # here, so that the primitives are quick to import

        sequence, turn, why = lost
        log(
            logging.WARNING,
            f"it has been the turn of {turn.step!r} in {words(sequence.name)} for {_PATIENCE:g} s and more, and {why}: "
            f"let another thread enter it, or call abort()",
        )

    def forget(self, ident: int) -> None:
        """Remove the place of a thread that is ending."""
        place = self.get(ident)
        if place is None or place.thread is None or not has_ended(place.thread) or place.seat.sequence is not None:
            return  # it may come again; or it is in a step, and still needs its place
        del self[ident]
        name = guarded(None, getattr, place.thread, "name")
        name = str.__str__(name) if isinstance(name, str) and name else nameless(ident)
        for step in place.steps:
            gone = self._gone.setdefault(step, _Gone())
            gone.number += 1
            gone.names.append(name)
            del gone.names[:-_NAMES]
        self.mind()


def _forget(
    places: ref[Places], ident: int, _life: object, _finalizing: Callable[[], bool] = sys.is_finalizing
) -> None:
    found = places()
    if found is not None and not _finalizing():  # when the interpreter ends, a module's names may be gone
        found.forget(ident)
