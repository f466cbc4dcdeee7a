"""Every interleaving of submitters and drains, up to a number of preemptions: no task is left, and none runs twice.

The threads are in `explore_drains`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from exploring import explore

pytest.importorskip("frontrun", reason="explores interleavings, and is not there for every interpreter")

pytestmark = [pytest.mark.untraceable, pytest.mark.timeout(300)]

SCRIPT: Final = Path(__file__).with_name("explore_drains.py")
Note = Callable[[str, object], None]


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        ("OneSubmitter", 1),
        ("LongTasks", 1),
        pytest.param("OneSubmitter", 2, marks=pytest.mark.slow),
        pytest.param("LongTasks", 2, marks=pytest.mark.slow),
        pytest.param("TwoSubmitters", 1, marks=pytest.mark.slow),
        pytest.param("TwoDrains", 1, marks=[pytest.mark.slow, pytest.mark.timeout(700)]),
        pytest.param("TwoSubmitters", 2, marks=[pytest.mark.slow, pytest.mark.timeout(700)]),
        pytest.param("TwoDrains", 2, marks=[pytest.mark.slow, pytest.mark.timeout(700)]),
    ],
)
def test_no_task_is_left(scenario: str, preemptions: int, record_property: Note) -> None:
    """In every interleaving, each task runs once."""
    report = explore(SCRIPT, scenario, preemptions=preemptions, seconds=600)
    assert report.holds is True, (report.outcomes, report.explanation)
    assert report.complete
    assert report.explored >= 3
    record_property("interleavings of the drains", report.explored)


@pytest.mark.parametrize("scenario", ["LooksBeforeItQueues", "SaysNothing"])
def test_mutations_are_caught(scenario: str, record_property: Note) -> None:
    """If two steps are in the wrong order, or one is missing, some interleaving leaves a task, and it is found."""
    assert explore(SCRIPT, scenario, preemptions=1, seconds=100).holds is False
    record_property("mutations caught", 1)
