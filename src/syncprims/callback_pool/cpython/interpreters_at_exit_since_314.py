"""Ending a program while a thread is still in another interpreter, without waiting for the thread or crashing."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from _thread import get_ident
from threading import Thread, current_thread, main_thread
from types import CodeType
from typing import Any

from ..._core.deadline import Deadline
from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock
from ..at_exit import after_draining
from ..travel.envelope import flush_output

# At its end CPython destroys the interpreters that are left, even if a thread is running in one of them. Then it waits
# for other threads that were started in there (3.14 and 3.15), or crashes (3.15: about every second time). So a program
# that has abandoned such a thread leaves by `os._exit`, after all its exit handlers, with the status that it would have
# had. No function returns that status. So while there are such interpreters, we watch the exceptions that leave the
# main thread's last frame: `sys.monitoring` costs nothing until an exception leaves a frame, and 0.15 microseconds
# then.
#
# Rejected: daemon threads alone (see above); the standard executor, whose threads are not daemons, so that the exit
# waits for them; a fork that ends in the program's place.

_PATIENCE = 0.5  # seconds for workers that are about to end; to leave before they have ended does no harm
_UNKNOWN = 1  # the status if it could not be watched, because other tools have taken both ids
_TOOLS = (4, 3)  # ids that have no customary user

_mutex = TimedLock(name=InnerName("other interpreters"))  # acquired by workers, and at exit
# Guarded by _mutex:
_inhabited: set[Thread] = set()
_tool: int | None = None
# Written by the main thread, and by the thread that begins the watch:
_status: int = _UNKNOWN


def move_in() -> None:
    """Note that this thread is about to make its own interpreter."""
    after_draining(_prepare_to_leave)
    with _mutex:
        _inhabited.add(current_thread())
        if _tool is None:
            _begin_watch()


def move_out() -> None:
    """Note that this thread's interpreter is closed."""
    with _mutex:
        _inhabited.discard(current_thread())
        if not _inhabited:
            _end_watch()


def _begin_watch() -> None:
    global _status, _tool
    monitoring = _monitoring()
    free = [tool for tool in _TOOLS if monitoring.get_tool(tool) is None]
    if free:
        tool = free[0]
        monitoring.use_tool_id(tool, "syncprims")
        _tool, _status = tool, 0
        monitoring.register_callback(tool, monitoring.events.PY_UNWIND, _unwound)
        monitoring.set_events(tool, monitoring.events.PY_UNWIND)


def _end_watch() -> None:
    global _tool
    if _tool is not None:
        monitoring = _monitoring()
        monitoring.set_events(_tool, 0)
        monitoring.register_callback(_tool, monitoring.events.PY_UNWIND, None)
        monitoring.free_tool_id(_tool)
        _tool = None


def _monitoring() -> Any:
    return vars(sys)["monitoring"]  # it exists from 3.12 on, and this runs from 3.14 on


def _unwound(_code: CodeType, _offset: int, error: BaseException) -> None:
    global _status
    if sys._getframe(1).f_back is None and get_ident() == main_thread().ident:
        _status = _status_of(error)


def _status_of(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        return error.code if isinstance(error.code, int) else 1
    return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def _prepare_to_leave() -> None:
    """Give the workers a moment, and make `_leave` the first of the exit handlers: it calls all others itself."""
    deadline = Deadline(_PATIENCE)
    for thread in list(_inhabited):
        thread.join(deadline.remaining())
    with _mutex:
        _end_watch()  # an exception of an exit handler changes no status
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    if not _inhabited:
        return
    atexit.unregister(_leave)
    atexit._run_exitfuncs()
    flush_output()
    if _status == -signal.SIGINT:
        # The interpreter does the same, so that a shell sees that the program was interrupted.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    os._exit(_status & 0xFF)
