"""`dump_on_signal`: the report of a process that hangs, by a signal from outside."""

from __future__ import annotations

import os
import signal
import sys
import threading
from io import BufferedIOBase, RawIOBase
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from .._core.foreign import guarded, words
from .._core.report import report
from .c_handlers import Action, Faulthandler, action_of, unregister_faulthandler


class SignalDump:
    """The object that `dump_on_signal` returns. It writes reports until `stop` is called or its ``with`` ends.

    Example:
        >>> import io, signal
        >>> from syncprims.diagnostics import dump_on_signal
        >>> text = io.StringIO()
        >>> with dump_on_signal(signal.SIGTERM, text):
        ...     signal.raise_signal(signal.SIGTERM)
        ...
        >>> text.getvalue().startswith("syncprims in process")
        True
    """

    def __init__(self, signum: int, file: TextIO | None) -> None:
        self._signum = signum
        self._file = file
        self._stopped = False
        self._calls_c = False
        # One bound method, which is compared by identity.
        self._handler = self._dump
        # The earlier handlers of the signal: the one that Python knows, and one in C.
        self._before: Any = signal.getsignal(signum)
        self._before_in_c: Action | None = None
        self._faulthandler: Faulthandler | None = None
        was = action_of(signum)
        signal.signal(signum, self._handler)
        # Python has one C function for all of its handlers; this record contains it.
        self._python: Action | None = action_of(signum)
        if was is not None and self._python is not None and was.is_code_other_than(self._python):
            self._keep(was)

    def _keep(self, in_c: Action) -> None:
        """Keep a handler in C working."""
        self._faulthandler = unregister_faulthandler(self._signum)
        if self._faulthandler is None:
            self._before_in_c = in_c
        else:
            # `faulthandler` goes above our handler, not below: there it works even while the main thread is in C code.
            # Unregistering it has restored the handler that it was chained to, in place of ours, so ours is installed
            # again.
            signal.signal(self._signum, self._handler)
            self._faulthandler.register(self._signum, self._file, chain=True)

    def stop(self) -> None:
        """Stop writing reports, and restore the handler that the signal had before; for the main thread only.

        If another handler was installed since then, it stays. Several dumps for one signal may be stopped in any order.

        Raises:
            ValueError: The calling thread is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("only the main thread can stop the reports, since no other may change handlers of signals")
        if not self._stopped:
            self._stopped = True
            self._put_back()

    def _put_back(self) -> bool:
        """Restore the earlier handlers; return False if that is not possible, because another handler is on top."""
        faulthandler = None if self._faulthandler is None else unregister_faulthandler(self._signum)
        on_top = signal.getsignal(self._signum) is self._handler and not self._is_below_c()
        before: Any = self._handler
        if on_top:
            lowest = self
            # Skip the dumps below that were stopped earlier.
            while isinstance(below := getattr(lowest._before, "__self__", None), SignalDump) and below._stopped:
                lowest = below
            before = signal.SIG_DFL if lowest._before is None else lowest._before
            signal.signal(self._signum, before)
            if lowest._before_in_c is not None:
                lowest._before_in_c.put_back()
        if faulthandler is not None:
            faulthandler.register(self._signum, self._file, chain=callable(before))
        return on_top

    def _is_below_c(self) -> bool:
        now = action_of(self._signum)
        return now is not None and self._python is not None and now.is_code_other_than(self._python)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _dump(self, signum: int, frame: FrameType | None) -> None:
        if self._stopped and self._put_back():
            signal.raise_signal(signum)  # for the handler that is installed now
            return
        try:
            if not self._stopped and not self._calls_c:
                guarded(
                    None, _write, guarded(_FAILED, _report) + "\n", sys.stderr if self._file is None else self._file
                )
        finally:
            self._call_what_was_before(signum, frame)

    def _call_what_was_before(self, signum: int, frame: FrameType | None) -> None:
        if self._before_in_c is not None and not self._calls_c:
            self._calls_c = True
            try:
                self._before_in_c.call()
            finally:
                self._calls_c = False
        elif callable(self._before):
            # Also while the earlier C handler is called: it passes the signal on to the Python handler that was below
            # it.
            self._before(signum, frame)


_FAILED = "syncprims could not make its report"


def _report() -> str:
    return report(all_threads=True)


def _takes_text(file: object) -> bool:
    return hasattr(file, "write") and not isinstance(file, RawIOBase | BufferedIOBase)


def _write(text: str, file: TextIO | None) -> None:
    if file is None:  # sys.stderr is None in a program without a console
        return
    try:
        number = file.fileno()
    except Exception:  # noqa: BLE001  no real file, like io.StringIO, or a closed one
        file.write(text)
        return
    # Bypass the file's buffer: the main thread may be in the middle of writing to it.
    left = text.encode("utf-8", "backslashreplace")
    while left:
        left = left[os.write(number, left) :]


def dump_on_signal(signum: int | None = None, file: TextIO | None = None) -> SignalDump:
    """Write the `report` of all threads whenever the process gets a signal, to see why it hangs.

    After that, ``kill -USR1 <pid>`` shows the report. The main thread writes it, even while it waits for a lock. Then
    it calls the handler that was installed before, even one in C (on systems with ``sigaction``). The default action of
    the signal, which would end the process, is not taken.

    A main thread that hangs in C code runs no signal handlers, so it writes no report. `faulthandler` works there. The
    two work together, in any order:

    .. code-block:: python

       diagnostics.dump_on_signal()
       faulthandler.register(signal.SIGUSR1, chain=True)

    Then the signal shows the stack traces of all threads at once, written by C code, and the report as soon as the main
    thread can write it. (If `faulthandler` was registered first, it is registered again with ``chain=True``. From 3.14
    on its file can't be found out, so it then writes to the file of the report.) If you register `faulthandler` later
    and without ``chain=True``, you get only its stack traces.

    Args:
        signum: The signal. The default, None, is ``SIGUSR1``.
        file: Where to write. The default, None, is the ``sys.stderr`` of the time when the signal comes. A report that
            can't be written is dropped.

    Returns:
        An object that stops it. Use it in a ``with``, or ignore it to go on until the program ends.

    Raises:
        ValueError: The calling thread is not the main thread, or the number is not a signal, or no signal is given and
            this system has no ``SIGUSR1``.
        OSError: The system lets no program handle this signal, for example ``SIGKILL``.
        TypeError: The file is not a text file.

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
    if file is not None and not _takes_text(file):
        raise TypeError(f"file must be a text file that is open for writing, not {words(file)}")
    return SignalDump(signum, file)
