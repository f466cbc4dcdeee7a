"""Fixtures and hooks for all tests."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

# A shell starts its background jobs with SIGINT ignored, and programs inherit that: the tests of Ctrl-C would wait
# forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A limit of a wait must not end a test on a machine that is busy with other things: threads may rest for many seconds.
os.environ.setdefault("SYNCPRIMS_TEST_DELAY_FACTOR", "5")

# Many tests start programs, each of which would compile the library again. Git ignores the cache.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse ``--cov tests/watch``, which takes the tests for a source to measure, and runs all tests instead."""
    for source in config.getoption("cov_source", None) or ():
        if isinstance(source, str) and os.path.exists(source):
            raise pytest.UsageError(f"--cov takes {source} for a source: name the tests before it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what coverage's tracer would disturb or not see, where coverage is measured.

    What has nothing to look at in compiled code is skipped here: `core/test_speedups.py` runs it in a program of its
    own.
    """
    if importlib.import_module("syncprims").compiled:  # here: coverage begins before the library is imported
        for item in items:
            if item.get_closest_marker("pure"):
                item.add_marker(pytest.mark.skip(reason="runs without the core, by core/test_speedups.py"))
    if config.getoption("cov_source", None):
        untraceable = [item for item in items if item.get_closest_marker("untraceable")]
        config.hook.pytest_deselected(items=untraceable)
        items[:] = [item for item in items if item not in set(untraceable)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Escape the lone surrogates in a report: a worker of xdist would end instead of sending them."""
    report = yield
    report.sections = [(title, sendable(text)) for title, text in report.sections]
    if report.failed and (said := str(report.longrepr)) != (escaped := sendable(said)):
        report.longrepr = escaped
    return report


def sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(autouse=True)
def tracer_kept() -> Iterator[None]:
    """Fail a test that removes the tracer: coverage would not see later tests in this process."""
    before = sys.gettrace()
    yield
    after = sys.gettrace()
    if after is not before:
        sys.settrace(before)
        pytest.fail(f"this test must put back the tracer that was set before it: {before!r}, not {after!r}")


@pytest.fixture(autouse=True)
def inversions_on_purpose(request: pytest.FixtureRequest) -> Iterator[None]:
    """Exempt a test that deadlocks on purpose, if the whole suite runs under the lock-order check."""
    if request.node.get_closest_marker("inverts") is None:
        yield
    else:
        from syncprims.diagnostics import ignore_lock_order

        with ignore_lock_order():
            yield


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Let collections look only at the test's objects: all others, above all the test runner's, take longer."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
