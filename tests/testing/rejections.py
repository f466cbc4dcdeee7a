"""Tools for the tests of rejections by the kit, and the clauses that some kinds of lock can't keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from syncprims.testing import ConformanceError, ConformanceReport, Threads

Check = Callable[..., ConformanceReport]

# The true holder of a foreign lock is not known, and a fork leaves the lock as it is.
NOT_OF_FOREIGN_LOCKS: Final = (
    "a lock that another thread held at a fork is free in the child",
    "of two threads that wait for each other's lock exactly one gets DeadlockError",
    "a DeadlockError names the cycle",
    "an interrupt anywhere in acquire(); try: ... finally: release() leaves the lock free",
)
# Python code may be interrupted anywhere.
NOT_OF_LOCKS_IN_PYTHON: Final = (
    "an interrupt anywhere in a with leaves the lock free",
    "an interrupt anywhere in a hold() leaves the lock free",
    "an interrupt while a thread waits leaves the lock with its holder, then free",
)
NOT_OF_FOREIGN_REENTRANT_LOCKS: Final = (
    "a threading.Condition works with it",
    "an interrupt never changes how often the lock is held",
)
ENTERED_TWICE: Final = "a thread that enters a lock which it holds gets DeadlockError at once"


def rejection(check: Check, factory: Callable[..., object]) -> ConformanceReport:
    """Check, expect a rejection, and return its report."""
    with pytest.raises(ConformanceError) as caught:
        check(factory)
    assert caught.value.report is not None
    return caught.value.report


def rejection_aside(check: Check, factory: Callable[..., object], hurry: str = "0.25") -> ConformanceReport:
    """Do it in a thread, without the clauses that deliver signals, and with less time for each: it is slow."""
    with pytest.MonkeyPatch.context() as patch, Threads(timeout=50.0) as threads:
        patch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", hurry)
        return threads.start(rejection, check, factory).result(50.0)


def expect_named(
    check: Check, factory: Callable[..., object], clause: str, *, hurry: str = "0.25", most_kept: bool = True
) -> None:
    """Expect that something with one fault is rejected for the clause that it breaks, and keeps most of the others."""
    report = rejection_aside(check, factory, hurry)
    assert clause in [one.clause for one in report.broken], str(report)
    assert not most_kept or len(report.kept) > len(report.broken), str(report)
