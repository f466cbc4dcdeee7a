"""`dump_on_signal`: the report of a process that hangs, by a signal from outside."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from .._core.report import report


class SignalDump:
    """What `dump_on_signal` returns: it writes reports until `stop`, or until the end of its ``with``.

    Example:
        >>> import io, signal
        >>> from syncprims.diagnostics import dump_on_signal
        >>> text = io.StringIO()
        >>> with dump_on_signal(signal.SIGTERM, text):
        ...     signal.raise_signal(signal.SIGTERM)
        >>> text.getvalue().startswith("syncprims in process")
        True
    """

    def __init__(self, signum: int, file: TextIO | None) -> None:
        self._signum = signum
        self._file = file
        # What was in place is put back by stop(), and called after each report if it can be.
        self._before: Any = signal.signal(signum, self._dump)
        self._stopped = False

    def stop(self) -> None:
        """Put back what handled the signal before. Only the main thread may do so.

        Raises:
            ValueError: The calling thread is another one.
        """
        if not self._stopped:
            signal.signal(self._signum, signal.SIG_DFL if self._before is None else self._before)
            self._stopped = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _dump(self, signum: int, frame: FrameType | None) -> None:
        _write(report() + "\n", sys.stderr if self._file is None else self._file)
        if callable(self._before):
            self._before(signum, frame)


def _write(text: str, file: TextIO | None) -> None:
    if file is None:  # as sys.stderr is in a program without a console
        return
    try:
        # Past the file's buffer, which the main thread may be in the midst of writing to.
        left = text.encode("utf-8", "backslashreplace")
        number = file.fileno()
        while left:
            left = left[os.write(number, left) :]
    except (AttributeError, OSError, ValueError):  # no real file, like io.StringIO, or a closed one
        try:
            file.write(text)
        except (OSError, ValueError):  # a report that nobody can get must not end the program
            pass


def dump_on_signal(signum: int | None = None, file: TextIO | None = None) -> SignalDump:
    """Write the `report` whenever the process gets a signal, so that a hung one can be asked what it hangs on.

    Then ``kill -USR1 <pid>`` shows it. The handler runs in the main thread, also while that waits for a lock; what
    handled the signal before is called afterwards.

    Args:
        signum: The signal; None, the default, is ``SIGUSR1``.
        file: Where to write; None, the default, is what ``sys.stderr`` is when the signal comes.

    Returns:
        What stops it; it may be used in a ``with``, or ignored to go on to the end of the program.

    Raises:
        ValueError: This is not the main thread; or no signal is given, and this system has no ``SIGUSR1``.

    Example:
        >>> import signal
        >>> from syncprims.diagnostics import dump_on_signal
        >>> dumping = dump_on_signal(signal.SIGTERM)
        >>> dumping.stop()
    """
    if signum is None:
        signum = getattr(signal, "SIGUSR1", None)
        if signum is None:
            raise ValueError("this system has no SIGUSR1: say which signal to use, for example signal.SIGBREAK")
    return SignalDump(signum, file)
