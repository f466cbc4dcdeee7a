"""Every interleaving of two or three threads at the shared locks, up to a number of preemptions.

The explorations run in processes of their own, because they replace C code by models: see `explore_shared`.
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

SCRIPT: Final = Path(__file__).with_name("explore_shared.py")
Note = Callable[[str, object], None]


# The longest takes a minute on a quiet machine. An exploration that does not end in this time is incomplete, and fails.
SECONDS: Final = 1500


def long(*values: object) -> object:
    """Values for the slow part."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(SECONDS + 60)])


@pytest.mark.parametrize(
    ("scenario", "preemptions", "outcomes"),
    [
        ("Permit", 1, {"in in"}),
        long("LentPermit", 1, {"gave in"}),
        long("LatePermit", 1, {"in timed"}),
        long("Sides", 1, {"r w"}),
        long("Writers", 1, {"w w"}),
        long("LateWriter", 1, {"r w"}),
        long("Tries", 1, {"again in in other", "again in in other late"}),
        long("Crossed", 1, {"a b", "a refused b"}),
        long("TwoPermits", 1, {"in in in"}),
        long("ReadersAndWriter", 1, {"r r w"}),
        long("PermitLeft", 2, {"in left"}),
        long("WriterLeft", 2, {"in left"}),
        long("UrgentLeft", 2, {"in left"}),
        long("LateUrgentLeft", 2, {"in left"}),
        long("PermitLine", 1, {"in in opened"}),
        long("WriterLine", 1, {"opened w w"}),
        long("UrgentLine", 1, {"early late opened"}),
    ],
)
def test_every_interleaving_is_right(
    scenario: str, preemptions: int, outcomes: set[str], record_property: Note
) -> None:
    """Every interleaving ends as the scenario says, and each possible outcome occurs."""
    report = explore(SCRIPT, scenario, preemptions=preemptions, seconds=SECONDS)
    assert report.holds is True, report.explanation
    assert report.complete
    assert report.outcomes.keys() == outcomes
    record_property("interleavings of locks with several holders", report.explored)


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        ("RingsFirst", 1),
        ("LooksFirst", 2),
        ("CountsBeforePermit", 2),
        long("CountsBeforeWriter", 2),
        long("CountsBeforeUrgent", 2),
        long("StaysTooFarAhead", 2),
        long("LeavesOnce", 2),
        long("WaitsInside", 1),
        long("OneLook", 2),
        long("ReadersPassTheLine", 1),
    ],
)
def test_mutations_are_caught(scenario: str, preemptions: int, record_property: Note) -> None:
    """If a step is missing or in the wrong place, some interleaving shows it."""
    assert explore(SCRIPT, scenario, preemptions=preemptions, seconds=250).holds is False
    record_property("mutations caught", 1)
