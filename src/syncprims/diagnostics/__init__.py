"""Diagnostics: see who waits for whom, and where the time goes.

- A program hangs: `report` says who holds what and who waits for it, `snapshot` the same as data, `find_deadlocks` what
  goes round in a circle; `dump_on_signal` writes the report of a process that can't be asked otherwise, and `warn_slow`
  logs it while a wait is still on. `record_sites` lets all of them say where each lock was taken.
- A program is slow: `record` measures waits and holds by lock and call site, and draws them.
- A program may deadlock one day: `check_lock_order` finds that out without a deadlock.

None of it costs anything until it is used.
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
