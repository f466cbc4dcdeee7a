"""`check_counter` rejects broken counters and names what is wrong with them."""

from __future__ import annotations

import pytest

from syncprims import AtomicCounter
from syncprims.testing import check_counter
from testing import broken
from testing.rejections import expect_named

BROKEN: list[tuple[type[AtomicCounter], str]] = [
    (broken.LosesUpdate, "no change of any thread is lost"),
    (broken.ReturnsOld, "increment(), decrement() and add() return the new value"),
    (broken.ClampsAtBounds, "a change out of its bounds raises CounterBoundsError and changes nothing"),
    (broken.UpdatesTwice, "update() calls its function once, with the value, and returns the new one"),
    (broken.UpdatesOutside, "no other change comes in the middle of an update()"),
    (broken.WakesNobody, "every kind of change wakes a thread that waits for it"),
    (
        broken.WaitsForNothing,
        "a wait that times out raises CounterTimeoutError, not before its time, and changes nothing",
    ),
]


@pytest.mark.parametrize(("cls", "clause"), BROKEN)
def test_broken_counter_is_rejected(cls: type[AtomicCounter], clause: str) -> None:
    """A counter with one fault is rejected, and the clause that it breaks is named."""
    expect_named(check_counter, cls, clause)
