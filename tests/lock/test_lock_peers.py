"""CPython's own tests of its locks, run on ours; left out are only the tests of what is documented to differ."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lock.crew import condition_over
from syncprims import TimedLock, TimedRLock

lock_tests: Any = pytest.importorskip("test.lock_tests", reason="this interpreter came without CPython's own tests")

pytestmark = pytest.mark.usefixtures("small_heap")  # they collect garbage before and after each test


class TestTimedLock(lock_tests.LockTests):  # type: ignore[misc]  # CPython's tests are not typed
    """`TimedLock` is a threading.Lock, except for the two documented differences."""

    locktype = staticmethod(TimedLock)

    test_reacquire = None  # acquires twice in one thread: a DeadlockError; and another thread releases
    test_different_thread = None  # another thread releases: only the holder may


class TestTimedRLock(lock_tests.RLockTests):  # type: ignore[misc]  # CPython's tests are not typed
    """`TimedRLock` is a threading.RLock in everything that CPython tests."""

    locktype = staticmethod(TimedRLock)


class TestConditionOverTimedLock(lock_tests.ConditionTests):  # type: ignore[misc]  # CPython's tests are not typed
    """A Condition works over a `TimedLock`, whatever its default timeout."""

    test_acquire = None  # acquires the condition twice, since its default lock is re-entrant: a DeadlockError

    @staticmethod
    def condtype() -> threading.Condition:
        return condition_over(TimedLock(timeout=0))


class TestConditionOverTimedRLock(lock_tests.ConditionTests):  # type: ignore[misc]  # CPython's tests are not typed
    """A Condition works over a `TimedRLock`, whatever its default timeout."""

    @staticmethod
    def condtype(lock: Any = None) -> threading.Condition:
        return condition_over(TimedRLock(timeout=0) if lock is None else lock)
