"""CPython's own executor tests pass on `CallbackPool`, where the interpreter ships them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from callback_pool.cpython_suite import EXCLUDED, EXCLUDED_FOR_PROCESSES
from programs import environment

Note = Callable[[str, object], None]


def run_suite(*arguments: str, limit: float, note: Note) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "callback_pool.cpython_suite", *arguments],
        capture_output=True,
        text=True,
        env=environment(tests=True),
        timeout=limit,
        check=False,
    )
    if done.stdout.startswith("not shipped"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
    run, _, skipped = (int(count.split()[0]) for count in done.stdout.splitlines()[-1].split(", "))
    assert run >= 16
    if not arguments:
        note("CPython's tests of executors passed", run - skipped)
        note("CPython's tests of executors skipped by themselves", skipped)


def test_cpythons_executor_tests_pass(record_property: Note) -> None:
    """The short suite, for threads and for processes."""
    run_suite("--quick", limit=50, note=record_property)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_all_of_cpythons_executor_tests_pass(record_property: Note) -> None:
    """All suites, with as_completed, wait and shutdown."""
    run_suite(limit=300, note=record_property)


def test_each_exclusion_has_a_reason() -> None:
    """What is left out is left out by name, with a reason to show."""
    assert all(name.startswith("test_") for name in EXCLUDED | EXCLUDED_FOR_PROCESSES)
    assert all(len(reason) > 20 for reason in (EXCLUDED | EXCLUDED_FOR_PROCESSES).values())
