"""For people who test synchronization: threads that fail the test, and interrupts at every point.

- `Threads` runs functions in threads, raises their exceptions, and fails with all stack traces if one hangs.
- `assert_blocks` asserts that a function waits.
- `interrupts` delivers a real KeyboardInterrupt at every point where CPython can, and reports what breaks.
- `check_lock`, `check_rlock`, `check_rwlock`, `check_semaphore`, `check_runner`, `check_counter` and `check_pool` try a
  primitive's whole contract on a subclass or a wrapped object, and report the clauses that it breaks.

It needs only the standard library, and works with every test runner.
"""

from __future__ import annotations

from .conformance import (
    BrokenClause,
    ClauseNotRun,
    ConformanceError,
    ConformanceReport,
    check_counter,
    check_lock,
    check_pool,
    check_rlock,
    check_runner,
    check_rwlock,
    check_semaphore,
)
from .interrupts import MODES, InterruptLeakError, InterruptReport, Leak, Mode, interrupts
from .threads import Running, Threads, WedgeError, assert_blocks, patience

__all__ = [
    "MODES",
    "BrokenClause",
    "ClauseNotRun",
    "ConformanceError",
    "ConformanceReport",
    "InterruptLeakError",
    "InterruptReport",
    "Leak",
    "Mode",
    "Running",
    "Threads",
    "WedgeError",
    "assert_blocks",
    "check_counter",
    "check_lock",
    "check_pool",
    "check_rlock",
    "check_runner",
    "check_rwlock",
    "check_semaphore",
    "interrupts",
    "patience",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
