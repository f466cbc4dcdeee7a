"""`record`: measures which threads waited for and held each lock, where and for how long, and draws it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from .._core.clock import perf_counter_ns
from .._core.report import date, interpreter
from .lock_events import locks
from .recorder import Recorder
from .spans import Span
from .table import LockUse, as_text, rows
from .work_events import works


class Recording:
    """The context manager that `record` returns. It records what happens inside its ``with``, in all threads.

    You may read the recording while it goes on and after its end.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import record
        >>> lock = TimedLock(name="accounts")
        >>> with record() as recording:
        ...     with lock:
        ...         pass
        ...
        >>> [(span.kind, span.outcome) for span in recording.spans if span.name == "accounts"]
        [('hold', '')]

    **Thread safety.** All methods may be called from any thread.
    """

    def __init__(self, capacity: int) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise TypeError(f"capacity must be an integer, not {capacity!r}")
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity!r}")
        self._capacity = capacity
        self._about = ""
        self._recorder: Recorder | None = None

    def __enter__(self) -> Self:
        """Begin to record.

        Raises:
            RuntimeError: It has already been used; call `record` again.
        """
        if self._recorder is not None:
            raise RuntimeError("a recording can't be used again: call record() for another one")
        self._about = f"{date()}, process {os.getpid()}, {interpreter()}"
        self._recorder = recorder = self._new_recorder(self._capacity)
        try:
            works.add(recorder)
            locks.add(recorder)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        recorder = self._recorded()
        recorder.stopped = perf_counter_ns()
        try:
            locks.remove(recorder)
        finally:
            works.remove(recorder)

    def _new_recorder(self, capacity: int) -> Recorder:
        return Recorder(capacity)

    def _recorded(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("nothing is recorded yet: use `with record() as recording:`")
        return self._recorder

    @property
    def spans(self) -> list[Span]:
        """The recorded spans, in the order of their beginnings. A span that has not ended yet ends now."""
        return self._recorded().spans()

    @property
    def dropped(self) -> int:
        """How many spans were dropped, oldest first, because there were more than the capacity."""
        return self._recorded().dropped

    def table(self) -> str:
        """Return a text table of waits and holds by lock and call site, the longest total wait first.

        Each row shows how often the lock was acquired there. It also shows the sum, mean, 99th percentile and maximum
        of the time until it was acquired, and of the time for which it was then held. Turns of runners, and tasks and
        callbacks of pools, are rows too. For a task, the wait is its time in the queue.

        Example:
            >>> from syncprims import TimedLock
            >>> from syncprims.diagnostics import record
            >>> with record() as recording, TimedLock(name="accounts"):
            ...     pass
            ...
            >>> print(recording.table())
            lock      call site     count  wait sum  mean  p99  max  hold sum  mean  p99  max
            accounts  ...               1         0     0    0    0  ...
        """
        spans = self.spans
        note = f"\n{self._say_dropped(len(spans))}" if self.dropped else ""
        return as_text(rows(spans)) + note

    def _say_dropped(self, left: int) -> str:
        return (
            f"these are the latest {left} spans; {self.dropped} older ones were dropped, and record(capacity=...) "
            f"would keep more"
        )

    def _uses(self) -> Sequence[LockUse]:
        """The use of locks by where they were made, as far as that is known."""
        return ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file. The end of its name decides the format.

        ``.json`` is for https://ui.perfetto.dev, chrome://tracing and other readers of Chrome's trace events. It has a
        track for each thread, and arrows from a release to the acquisition that it allowed. ``.html`` is a page that
        shows the same in a browser, without other files and without a network.

        Args:
            path: The path of the file. An existing file is replaced.

        Raises:
            ValueError: The name ends with something else.
            OSError: The file can't be written.
        """
        name = os.fsdecode(path)
        spans, dropped = self.spans, self.dropped
        if name.endswith(".json"):
            from .trace_file import trace

            text = trace(spans, dropped, self._about, self._uses())
        elif name.endswith(".html"):
            from .page import page

            text = page(spans, self._say_dropped(len(spans)) if dropped else "", self._about, self._uses())
        else:
            raise ValueError(f"a recording is saved as .json or .html, not as {name!r}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def record(*, capacity: int = 100_000) -> Recording:
    """Record waits for locks and how long they are held, turns of runners, and tasks and callbacks of pools.

    Use it as a context manager when a program is slow and you want to find lock contention. It costs nothing while it
    is off. While it is on, each use of a lock takes some microseconds longer, and an interrupt may leak a lock. A lock
    that was acquired before the recording began is not seen until it is acquired again. Recordings may overlap.

    Args:
        capacity: How many spans to keep. If there are more, the oldest are dropped and counted. 100,000 spans take some
            30 MB.

    Raises:
        ValueError: The capacity is less than 1.
        TypeError: It is not an integer.

    Example:
        >>> from syncprims import OrderedRunner
        >>> from syncprims.diagnostics import record
        >>> with record() as recording:
        ...     results = OrderedRunner("ping", "pong", name="game").run({"ping": str, "pong": str}, timeout=10.0)
        ...
        >>> [span.name for span in recording.spans if span.kind == "turn"]
        ['game[ping]', 'game[pong]']
    """
    return Recording(capacity)
