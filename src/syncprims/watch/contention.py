"""Contention: the recording of a program under watch, with a table of the locks that threads waited for most."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from textwrap import indent
from typing import Final

from .._core.report import date, interpreter
from .._core.sites import Site
from .._core.state import Named, name_of
from ..diagnostics.recorder import Label, Recorder
from ..diagnostics.recording import Recording
from ..diagnostics.table import Durations, LockUse, uses_as_text
from .children import complain
from .exact import ExactLock, ExactRLock
from .observed import number_of, origin_of
from .origins import Origin, frame_of_program, name_made

_CAPACITY: Final = 100_000
_MOST_SHOWN: Final = 20


class _MadeLabel:
    """The name of a lock, made when the recording is read: by then it is known whether the place made others."""

    __slots__ = ("kind", "number", "origin")

    def __init__(self, origin: Origin, number: int, kind: str) -> None:
        self.origin = origin
        self.number = number
        self.kind = kind

    def __call__(self) -> str:
        return name_made(self.origin, self.number, self.kind)


class _ProgramRecorder(Recorder):
    """Notes the line of the program, and names locks by the place that made them."""

    def label(self, thing: Named) -> Label:
        if isinstance(thing, ExactLock):
            return _MadeLabel(origin_of(thing), number_of(thing), "Lock")
        if isinstance(thing, ExactRLock):
            return _MadeLabel(origin_of(thing), number_of(thing), "RLock")
        return name_of(thing)

    def site(self) -> Site | None:
        frame = frame_of_program()
        return None if frame is None else (frame.f_code, frame.f_lineno)

    def uses(self) -> list[LockUse]:
        """The use of the observed locks by the place that made them, the longest total wait first."""
        serials: dict[tuple[Origin, str], set[object]] = defaultdict(set)
        waits: dict[tuple[Origin, str], list[float]] = defaultdict(list)
        holds: dict[tuple[Origin, str], list[float]] = defaultdict(list)
        for kind, label, _, _, _, start, end, _, _, _, (key, _) in self.notes():
            if isinstance(label, _MadeLabel) and key[0] == "lock":
                made = label.origin, label.kind
                serials[made].add(key)
                (waits if kind == "wait" else holds)[made].append(max(0, end - start) / 1e9)
        found = [
            LockUse(
                name_made(origin, 0, kind),
                origin.filename,
                origin.line,
                len(each),
                len(holds[origin, kind]),
                len(waits[origin, kind]),
                Durations.of(waits[origin, kind]),
                Durations.of(holds[origin, kind]),
            )
            for (origin, kind), each in serials.items()
        ]
        return sorted(found, key=lambda use: (-use.wait.total, -use.hold.total, use.name))


class WatchRecording(Recording):
    """The recording of a watch with ``record``: `Watching.recording`.

    It has everything that a recording of `syncprims.diagnostics.record` has: spans, a table of them, and files with a
    timeline. It also has a table of the locks by the lines that made them. You may read it at any time, even before the
    watch ends.

    Example:
        >>> import threading
        >>> from syncprims.watch import install
        >>> watching = install(record=True)
        >>> lock = threading.Lock()
        >>> with lock:
        ...     pass
        ...
        >>> watching.uninstall()
        >>> [span.kind for span in watching.recording.spans if span.name.startswith("lock (<doctest")]
        ['hold']
        >>> uses = [use for use in watching.recording.contention() if use.name.startswith("lock (<doctest")]
        >>> [(use.locks, use.taken, use.waited) for use in uses]
        [(1, 1, 0)]
    """

    def __init__(self, path: str | None = None, *, in_child: bool = False, follows: bool = False) -> None:
        super().__init__(_CAPACITY)
        self._path = path
        self._in_child = in_child
        self._follows = follows
        self._is_over = False

    def _new_recorder(self, capacity: int) -> Recorder:
        return _ProgramRecorder(capacity)

    def recorder(self) -> Recorder:
        """The recorder, which takes the notes."""
        return self._recorded()

    def contention(self) -> list[LockUse]:
        """How the observed locks were used, by the lines that made them, the longest total wait first.

        Each entry is a `LockUse`. Waits without success count as well.
        """
        recorder = self._recorded()
        return recorder.uses() if isinstance(recorder, _ProgramRecorder) else []

    def contention_table(self) -> str:
        """Return the twenty locks with the longest total wait as a text table."""
        uses = [use for use in self.contention() if use.waited][:_MOST_SHOWN]
        return uses_as_text(uses) if uses else "no thread waited for a lock"

    def _uses(self) -> Sequence[LockUse]:
        return self.contention()

    # -- the file --------------------------------------------------------------------------------------------------

    def go_on_in_child(self) -> None:
        """Begin again in a forked child, or end there if children are not recorded."""
        if self._is_over:
            return
        self._in_child = True
        self._about = f"{date()}, process {os.getpid()}, {interpreter()}"
        self._recorded().begin_again()
        if not self._follows:
            self._path = None

    def finish(self) -> str:
        """End the recording, write its file if it has one, and return the report about it; "" if there is none."""
        if self._is_over:
            return ""
        self._is_over = True
        self.__exit__(None, None, None)
        path = self._path
        if path is None:
            return ""
        count = len(self.spans)
        if self._in_child:
            if not count:
                return ""  # a helper of multiprocessing, for example
            stem, suffix = os.path.splitext(path)
            path = f"{stem}-{os.getpid()}{suffix}"
        try:
            self.save(path)
        except OSError as error:
            complain(f"the recording could not be written: {error}")
            return ""
        dropped = f"; {self.dropped} older ones were dropped" if self.dropped else ""
        return (
            f"==== syncprims.watch: RECORDING of process {os.getpid()}; {date()}, {interpreter()}\n"
            f"the locks that threads waited for most, by where they were made:\n"
            f"{indent(self.contention_table(), '  ')}\n"
            f"==== what to do: look at {path}, which has {count} span{'' if count == 1 else 's'}{dropped}\n"
        )
