"""CPython's own executor tests pass on `CallbackPool`, if the interpreter has them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from callback_pool.cpython_left_out import TABLES
from pool_faults.rows import all_rows
from programs import environment

Note = Callable[[str, object], None]
HERE = Path(__file__).parent


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
    assert run >= (16 if arguments else 100)
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


PRIVATE_ALONE = 3  # tests that are only about private parts


def test_what_is_left_out_has_a_reason_and_a_test_of_ours() -> None:
    """Each entry names the intended difference, and the test or the row of the fault table that checks the same."""
    left_out = [each for table in TABLES for each in table.values()]
    assert len(left_out) > 25
    assert all(len(each.why) > 20 for each in left_out)
    assert sum(not each.instead for each in left_out) == PRIVATE_ALONE
    for each in left_out:
        where, _, name = each.instead.partition("::")
        if where == "fault_table":
            assert name in all_rows(), name
        elif where:
            assert f"def {name}(" in (HERE / f"{where}.py").read_text(encoding="utf-8"), each.instead
