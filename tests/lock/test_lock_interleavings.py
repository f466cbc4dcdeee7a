"""Every interleaving of two threads, up to a number of preemptions: nothing is lost, and every circle has one victim.

The explorations run in processes of their own, since they put a model in the place of the C lock (see `exploration`).
They are complete up to their bound of preemptions, not without one: frontrun does not say `exhausted` for threads,
so that what is asserted is that they ended before their time was up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

import syncprims

pytest.importorskip("frontrun", reason="explores interleavings, and is not there for every interpreter")

long = [pytest.mark.slow, pytest.mark.timeout(400)]
SCRIPT: Final = Path(__file__).with_name("exploration.py")


def explore(scenario: str, *, preemptions: int, seconds: float) -> dict[str, Any]:
    """Explore in another process, and return its report."""
    source = Path(syncprims.__file__).parents[1]
    # A check would look at the order of the locks whose order is explored.
    inherited = {name: text for name, text in os.environ.items() if name != "SYNCPRIMS_LOCK_ORDER"}
    started = monotonic()
    ran = subprocess.run(
        [sys.executable, SCRIPT, scenario, str(preemptions), str(seconds)],
        env={**inherited, "PYTHONPATH": os.fspath(source), "FRONTRUN_ACTIVE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds + 20,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    report["complete"] = monotonic() - started < seconds
    return report


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        ("NoExclusion", 1),
        ("NoVictim", 1),
        pytest.param("Serials", 2, marks=long),
        pytest.param("TwoVictims", 3, marks=long),
    ],
)
def test_an_exploration_finds_what_is_broken(scenario: str, preemptions: int) -> None:
    """Without the lock, and with mutated ways of choosing a victim, it comes upon the interleaving that shows it."""
    report = explore(scenario, preemptions=preemptions, seconds=300)
    assert report["holds"] is False


def test_two_threads_exclude_each_other() -> None:
    """No interleaving with at most two preemptions loses an addition or leaves the lock taken."""
    report = explore("Exclusion", preemptions=2, seconds=30)
    assert report["holds"] is True, report["explanation"]
    assert report["complete"]
    assert report["explored"] > 50


def test_two_locks_in_one_order_are_never_a_deadlock() -> None:
    """No interleaving with at most one preemption reports one."""
    report = explore("Order", preemptions=1, seconds=30)
    assert report["holds"] is True, report["explanation"]
    assert report["complete"]
    assert [*report["outcomes"]] == ["(2, [])"]


@pytest.mark.parametrize(
    ("preemptions", "seconds"),
    [(1, 30), pytest.param(2, 300, marks=long)],
)
def test_two_locks_in_opposite_order_have_one_victim_or_none(preemptions: int, seconds: float) -> None:
    """In every interleaving both come through, or one is the victim of a circle of two and the other comes through."""
    report = explore("Crossing", preemptions=preemptions, seconds=seconds)
    assert report["holds"] is True, report["explanation"]
    assert report["complete"]
    assert report["outcomes"].keys() == {"(2, [])", "(1, [2])"}
