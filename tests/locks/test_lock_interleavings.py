"""Every interleaving of two or three threads, up to some preemptions: no update is lost, and a cycle has one victim.

The explorations run in processes of their own, because they replace the C lock by a model: see `exploration`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from exploring import explore

pytest.importorskip("frontrun", reason="explores interleavings, and is not there for every interpreter")

# Each is bounded by the number of interleavings, which take a while on a busy machine.
pytestmark = [pytest.mark.untraceable, pytest.mark.timeout(300)]

SCRIPT: Final = Path(__file__).with_name("explore_locks.py")
Note = Callable[[str, object], None]
NO_VICTIM, ONE_OF_TWO, ONE_OF_THREE = "(2, [])", "(1, [2])", "(2, [3])"


def long(*values: object) -> object:
    """Values for the slow part."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(700)])


@pytest.mark.parametrize(
    ("scenario", "preemptions", "outcomes"),
    [
        ("Exclusion", 2, set()),
        ("Order", 1, {NO_VICTIM}),
        ("Crossing", 1, {NO_VICTIM, ONE_OF_TWO}),
        ("Meeting", 1, {ONE_OF_TWO}),
        ("OneAfterTheOther", 1, {NO_VICTIM}),
        ("BackingOff", 1, {NO_VICTIM}),
        ("Expiring", 1, {NO_VICTIM, ONE_OF_TWO}),
        long("Crossing", 2, {NO_VICTIM, ONE_OF_TWO}),
        long("Meeting", 2, {ONE_OF_TWO}),
        long("OneAfterTheOther", 2, {NO_VICTIM}),
        long("BackingOff", 2, {NO_VICTIM}),
        long("Expiring", 2, {NO_VICTIM, ONE_OF_TWO}),
        long("Ring", 1, {"(3, [])", ONE_OF_THREE}),
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
    record_property("interleavings of the locks", report.explored)


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        ("NoExclusion", 1),
        ("OwnerClearedLate", 2),
        ("WakeUpDropped", 1),
        ("NotConfirmed", 2),
        ("NoVictim", 1),
        ("Serials", 1),
        ("TwoVictims", 3),
    ],
)
def test_mutations_are_caught(scenario: str, preemptions: int, record_property: Note) -> None:
    """Without the lock, or with a step missing or in the wrong place, some interleaving shows it."""
    assert explore(SCRIPT, scenario, preemptions=preemptions, seconds=600).holds is False
    record_property("mutations caught", 1)
