"""The published results about the watch: kinds of hang, and the suites of others that were run under it."""

from __future__ import annotations

import gc
import json
from collections import Counter
from pathlib import Path

import pytest

from watch import kinds
from watch.suites import (
    AGAIN,
    DOCS,
    PACKAGES,
    SIDES,
    note_unsteady,
    of_pytest,
    of_unittest,
    results,
    run,
    table_of_costs,
    table_of_suites,
)
from watch.test_hangs import HANGS

STANDARD = {"test_thread", "test_queue", "test_sched", "test_logging", "test_threading", "test_concurrent_futures"}

pages = pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not there: only the tests were copied")

OF_UNITTEST = """\
test_get (test.test_queue.QueueTest.test_get) ... ok
test_put (test.test_queue.QueueTest.test_put)
Puts one. ... skipped 'not here'
test_join (test.test_queue.QueueTest.test_join) ... a line of the program's own
FAIL
test_size (test.test_queue.QueueTest.test_size) ... expected failure

======================================================================
FAIL: test_join (test.test_queue.QueueTest.test_join)
----------------------------------------------------------------------
AssertionError

----------------------------------------------------------------------
Ran 4 tests in 0.1s

FAILED (failures=1, skipped=1, expected failures=1)
"""

OF_PYTEST = """\
<testsuites><testsuite>
<testcase classname="a" name="one"><system-out>words</system-out></testcase>
<testcase classname="a" name="two"><failure message="no"/></testcase>
<testcase classname="a" name="three"><skipped message="not here"/></testcase>
</testsuite></testsuites>
"""


def test_outcomes_of_unittest_are_read() -> None:
    """They are each test's, and how many passed, even if the program's own output is in between."""
    found, counts = of_unittest(OF_UNITTEST)
    assert counts == Counter(passed=1, failed=1, skipped=2)
    assert {test.partition(" ")[0]: outcome for test, outcome in found.items()} == {
        "test_get": "passed",
        "test_put": "skipped",
        "test_join": "failed",
        "test_size": "expected failure",
    }


def test_outcomes_of_pytest_are_read(tmp_path: Path) -> None:
    """They are read from its file; without a file there are none."""
    file = tmp_path / "results.xml"
    assert of_pytest(file) == ({}, Counter())
    file.write_text(OF_PYTEST)
    assert of_pytest(file) == (
        {"a.one": "passed", "a.two": "failed", "a.three": "skipped"},
        Counter(passed=1, failed=1, skipped=1),
    )


def test_tests_that_are_unsteady_by_themselves_are_told_apart() -> None:
    """A changed outcome that also comes without the watch is not the watch's; how often it came is noted."""
    plain = {"a": "passed", "b": "passed"}
    under = {"a": "failed"}
    row = {side: {"changed": [] if side == "without" else ["a", "b"]} for side in SIDES}
    outcomes = {side: plain if side == "without" else under for side in SIDES}
    note_unsteady(row, outcomes, lambda rarer: {"a": "failed" if rarer < 0.45 else "passed", "b": "passed"})
    for side in SIDES[1:]:
        assert row[side] == {"changed": ["b"], "unsteady": ["a"]}
    assert row["again"] == {"a": Counter(passed=len(AGAIN) - 2, failed=2), "b": Counter(passed=len(AGAIN))}


def test_collections_come_at_other_moments(tmp_path: Path) -> None:
    """By a file that the suite's processes import first."""
    said = run(["-c", "import gc; print(gc.get_threshold()[0])"], tmp_path, "without", tmp_path / "no", 0.5).printed
    assert int(said) == gc.get_threshold()[0] // 2


@pages
@pytest.mark.parametrize("python", ["3.11", "3.13", "3.13t", "3.14"])
def test_no_suite_has_a_report_or_another_outcome(python: str) -> None:
    """Of the standard library's suites of threads, and of eight packages at least, in both forms."""
    rows = results("suites")[python]
    suites = {row["suite"].partition(".")[0] for row in rows}
    assert suites >= STANDARD
    assert len(suites & set(PACKAGES)) >= 8
    for row in rows:
        for side in ("compiled", "pure"):
            assert row[side]["reports"] == 0
            assert row[side]["changed"] == []
            assert row["without"]["passed"] > 0
            assert abs(row[side]["passed"] - row["without"]["passed"]) <= len(row[side].get("unsteady", []))


@pages
def test_every_kind_of_hang_is_named_everywhere() -> None:
    """This covers six Pythons, in both forms: each program that hangs or only looks so."""
    kept = json.loads(kinds.FILE.read_text(encoding="utf-8"))
    assert kept.keys() == {"3.11", "3.12", "3.13", "3.13t", "3.14", "3.15"}
    for forms in kept.values():
        assert forms.keys() == set(kinds.FORMS)
        for found in forms.values():
            assert found == dict.fromkeys((*HANGS, *kinds.look_alikes()), True)


@pages
def test_the_tables_are_those_of_the_results() -> None:
    """The pages show the kept results."""
    assert (DOCS / "kinds.txt").read_text(encoding="utf-8") == kinds.table(json.loads(kinds.FILE.read_text()))
    assert (DOCS / "suites.txt").read_text(encoding="utf-8") == table_of_suites()
    assert (DOCS / "suite-costs.txt").read_text(encoding="utf-8") == table_of_costs()
