"""CPython's own tests of its locks, run on ours; `left_out` lists those about documented differences."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from locks.actors import condition_over
from locks.left_out import LEFT_OUT
from syncprims import TimedLock, TimedRLock

lock_tests: Any = pytest.importorskip("test.lock_tests", reason="this interpreter came without CPython's own tests")

pytestmark = pytest.mark.usefixtures("small_heap", "counted")  # they collect garbage before and after each test


@pytest.fixture
def counted(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Count CPython's tests for the page on evidence."""
    if request.cls is not None:
        record_property("CPython's tests of locks and conditions passed", 1)


class TestTimedLock(lock_tests.LockTests):  # type: ignore[misc]  # CPython's tests are not typed
    """`TimedLock` is a threading.Lock, except for the documented differences."""

    locktype = staticmethod(TimedLock)

    test_reacquire = None
    test_different_thread = None
    test_constructor_noargs = None


class TestTimedRLock(lock_tests.RLockTests):  # type: ignore[misc]  # CPython's tests are not typed
    """`TimedRLock` is a threading.RLock, except for its arguments and its repr."""

    locktype = staticmethod(TimedRLock)

    test_constructor_noargs = None
    test_repr_count = None


class TestConditionOverTimedLock(lock_tests.ConditionTests):  # type: ignore[misc]  # CPython's tests are not typed
    """A Condition works over a `TimedLock`, whatever its default timeout."""

    test_acquire = None

    @staticmethod
    def condtype() -> threading.Condition:
        return condition_over(TimedLock(timeout=0))


class TestConditionOverTimedRLock(lock_tests.ConditionTests):  # type: ignore[misc]  # CPython's tests are not typed
    """A Condition works over a `TimedRLock`, whatever its default timeout."""

    @staticmethod
    def condtype(lock: Any = None) -> threading.Condition:
        return condition_over(TimedRLock(timeout=0) if lock is None else lock)


def test_what_is_left_out_is_listed_with_its_reason() -> None:
    """Only the tests in the list are left out, and the documentation shows the list."""
    suites = {
        "TimedLock": TestTimedLock,
        "TimedRLock": TestTimedRLock,
        "Condition(TimedLock())": TestConditionOverTimedLock,
        "Condition(TimedRLock())": TestConditionOverTimedRLock,
    }
    found = {
        name: {test for test in dir(suite) if test.startswith("test") and getattr(suite, test) is None}
        for name, suite in suites.items()
    }
    assert found == {name: set(tests) for name, tests in LEFT_OUT.items()}
