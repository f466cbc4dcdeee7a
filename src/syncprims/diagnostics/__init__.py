"""Diagnostics: find out which thread waits for which, and where the time goes.

- A program hangs: `report` shows which thread holds what and which threads wait for it. `snapshot` returns the same as
  data, and `find_deadlocks` returns the deadlocks. `dump_on_signal` prints the report when the process gets a signal,
  and `warn_slow` logs it while a wait takes too long. With `record_sites`, all of them show where each lock was
  acquired.
- A program is slow: `record` measures lock contention by lock and call site, and draws a timeline.
- A program may deadlock one day: `check_lock_order` finds that out without a deadlock.

None of it costs anything until you use it.
"""

from __future__ import annotations

from .._core.deadlocks import find_deadlocks
from .._core.report import attach_report, report
from .._core.snapshot import PrimitiveState, Waiter, Work, snapshot
from .lock_order import LockOrderCheck, LockOrderWarning, check_lock_order, ignore_lock_order
from .recording import Recording, record
from .signal_dump import SignalDump, dump_on_signal
from .slow_waits import SlowWaits, warn_slow
from .spans import Span
from .taking_sites import SiteRecording, record_sites

__all__ = [
    "LockOrderCheck",
    "LockOrderWarning",
    "PrimitiveState",
    "Recording",
    "SignalDump",
    "SiteRecording",
    "SlowWaits",
    "Span",
    "Waiter",
    "Work",
    "attach_report",
    "check_lock_order",
    "dump_on_signal",
    "find_deadlocks",
    "ignore_lock_order",
    "record",
    "record_sites",
    "report",
    "snapshot",
    "warn_slow",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
