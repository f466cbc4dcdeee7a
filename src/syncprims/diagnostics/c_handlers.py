"""Handlers of signals that C code has installed, and that Python's `signal` module does not know."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from .._core.foreign import guarded

# `signal.getsignal` reads Python's own table. C code, above all `faulthandler`, installs its handlers without that
# table. The system's own record of a signal (`struct sigaction`) has a different layout on every system. So it is
# copied and put back as a whole; for the one field that matters, the interpreter has a function.

_MORE_THAN_ENOUGH: Final = 1024  # bytes; the record has 152 on Linux, 16 on macOS

_STDERR: Final = 2  # the number of the standard error file

_DEFAULT_AND_IGNORE: Final = (0, 1)  # SIG_DFL and SIG_IGN, on every system that has sigaction()


class Action:
    """The system's action for a signal: a copy of its record.

    Attributes:
        handler: The address of the handler's code.
    """

    __slots__ = ("_record", "_sigaction", "_signum", "handler")

    def __init__(self, signum: int, sigaction: Any, handler: int, record: Any) -> None:
        self._signum = signum
        self._sigaction = sigaction
        self._record = record
        self.handler: int = handler

    def is_code_other_than(self, other: Action) -> bool:
        """Whether this action calls a handler (it is neither the default nor ignored) that differs from `other`'s."""
        return self.handler not in _DEFAULT_AND_IGNORE and self.handler != other.handler

    def put_back(self) -> None:
        """Restore this action."""
        self._sigaction(self._signum, self._record, None)

    def call(self) -> None:
        """Call the handler like the system, in this thread, with its own flags; then restore everything."""
        now = action_of(self._signum)
        assert now is not None  # it exists, because this action is of the same system
        sigaction, signum, record = now._sigaction, now._signum, now._record
        try:
            self.put_back()
            signal.raise_signal(signum)
        finally:
            sigaction(signum, record, None)  # C code, so no interrupt comes before it


def action_of(signum: int) -> Action | None:
    """Return the system's present action for a signal, or None on a system that can't report it."""
    try:
        import ctypes

        handler_of = ctypes.pythonapi.PyOS_getsig
        sigaction = ctypes.CDLL(None).sigaction
    except (ImportError, AttributeError, TypeError, OSError):  # for example on Windows, or a Python without ctypes
        return None
    handler_of.restype = ctypes.c_void_p
    record = ctypes.create_string_buffer(_MORE_THAN_ENOUGH)
    if sigaction(signum, None, record) != 0:
        return None
    return Action(signum, sigaction, handler_of(signum) or 0, record)


class Faulthandler:
    """A registration of `faulthandler` for a signal, as far as it is known, so that it can be made again."""

    def __init__(self, file: object) -> None:
        self._file = file

    def register(self, signum: int, file: object, *, chain: bool) -> None:
        """Register it for the file that it wrote to; if that is not known, or closed, for this file or `sys.stderr`."""
        for each in (self._file, file, sys.stderr, _STDERR):
            if each is not None and guarded(False, _register, signum, each, chain):
                return


def _register(signum: int, file: Any, chain: bool) -> bool:
    import faulthandler

    faulthandler.register(signum, file, chain=chain)  # raises if the file is closed or has no number
    return True


def unregister_faulthandler(signum: int) -> Faulthandler | None:
    """Unregister `faulthandler` from a signal, and return its registration; None if there was none."""
    import faulthandler
    from gc import get_referents

    # `faulthandler` can't be asked for its file. But its references show the file: before 3.14 it refers to the files
    # of all its signals, and after the call it refers to one file less.
    before = get_referents(faulthandler)
    unregister: Callable[[int], bool] = faulthandler.unregister  # type: ignore[assignment]  # typeshed says None
    if not unregister(signum):
        return None
    after = list(map(id, get_referents(faulthandler)))
    for file in before:
        if id(file) not in after:
            return Faulthandler(file)
        after.remove(id(file))
    return Faulthandler(None)
