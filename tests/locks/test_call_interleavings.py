"""Every interleaving of two threads at the classes that build on `TimedLock`, up to a number of preemptions.

The explorations run in processes of their own: see `explore_calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from exploring import explore

pytest.importorskip("frontrun", reason="explores interleavings, and is not there for every interpreter")

pytestmark = [pytest.mark.untraceable, pytest.mark.timeout(300)]

SCRIPT: Final = Path(__file__).with_name("explore_calls.py")
Note = Callable[[str, object], None]


def long(*values: object) -> object:
    """Values for the slow part."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(700)])


@pytest.mark.parametrize(
    ("scenario", "preemptions", "outcomes"),
    [
        ("ByKey", 1, set()),
        long("ByKeyBothWays", 1, set()),
        ("Once", 1, set()),
        ("Value", 1, {"2: 1 2", "2: 2 2", "1: 1 missed"}),
        long("Updated", 1, set()),
        long("Replaced", 1, set()),
        long("OnceCutOff", 1, set()),
        long("Flight", 1, {"1", "2"}),
        long("ByKeyBare", 1, set()),
        long("OnceFailing", 1, {"['failed', 'failed']", "['done', 'failed']"}),
        long("FlightTwice", 1, set()),
        long("ByKey", 2, set()),
        long("Value", 2, {"2: 1 2", "2: 2 2", "1: 1 missed", "2: 2 missed"}),
    ],
)
def test_every_interleaving_is_right(
    scenario: str, preemptions: int, outcomes: set[str], record_property: Note
) -> None:
    """Every interleaving ends as the scenario says, and each possible outcome occurs."""
    report = explore(SCRIPT, scenario, preemptions=preemptions, seconds=600)
    assert report.holds is True, report.explanation
    assert report.complete
    assert report.outcomes.keys() == outcomes
    record_property("interleavings of locks by key and shared calls", report.explored)


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        ("NotesNothing", 1),
        ("ClosesEarly", 1),
        ("NoLock", 1),
        ("Unchecked", 1),
        ("KeepsTheCutOff", 1),
        ("ReadsOutside", 1),
        long("UpdatesOutside", 1),
        long("StoresKeys", 2),
        long("OpensTwo", 2),
        long("ClosesLate", 1),
    ],
)
def test_mutations_are_caught(scenario: str, preemptions: int, record_property: Note) -> None:
    """If a step is missing or in the wrong place, some interleaving shows it."""
    assert explore(SCRIPT, scenario, preemptions=preemptions, seconds=600).holds is False
    record_property("mutations caught", 1)
