"""Every interleaving of two or three threads at a runner, up to a number of preemptions: the order is kept, none hangs.

The threads and the allowed outcomes are in `exploration`.
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

SCRIPT: Final = Path(__file__).with_name("explore_runner.py")
Note = Callable[[str, object], None]


def long(*values: object) -> object:
    """Values for the slow part."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(700)])


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        ("HandOff", 1),
        ("Stop", 1),
        ("StopAndWaiter", 1),
        ("Abort", 1),
        ("AbortAndWaiter", 1),
        ("StopAndAbort", 1),
        ("Reset", 1),
        ("ResetAndWaiter", 1),
        ("LetPass", 1),
        long("Failure", 1),
        long("Stop", 2),
        long("StopAndWaiter", 2),
        long("Abort", 2),
        long("AbortAndWaiter", 2),
        long("StopAndAbort", 2),
        long("Reset", 2),
        long("ResetAndWaiter", 2),
        long("Chain", 1),
        long("AbortedHandOff", 1),
        long("StoppedHandOff", 1),
        long("TwoWaiters", 1),
    ],
)
def test_every_interleaving_keeps_the_order(scenario: str, preemptions: int, record_property: Note) -> None:
    """In every interleaving no thread hangs, and all observations fit the end."""
    report = explore(SCRIPT, scenario, preemptions=preemptions, seconds=600)
    assert report.holds is True, (report.outcomes, report.explanation)
    assert report.complete
    assert report.explored >= 3
    record_property("interleavings of the runner", report.explored)


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [("DropsWakeUp", 1), ("ClearsOwnerLate", 2), ("MarksAfterTrying", 2), ("OpensBeforeTheEnd", 2)],
)
def test_mutations_are_caught(scenario: str, preemptions: int, record_property: Note) -> None:
    """If a step is missing or in the wrong place, some interleaving hangs or ends wrongly, and it is found."""
    assert explore(SCRIPT, scenario, preemptions=preemptions, seconds=100).holds is False
    record_property("mutations caught", 1)
