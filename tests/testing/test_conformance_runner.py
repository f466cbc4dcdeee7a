"""`check_runner` rejects broken runners and names their faults."""

from __future__ import annotations

import pytest

from syncprims import OrderedRunner
from syncprims.testing import check_runner
from testing import broken
from testing.rejections import expect_named

BREAKS = "a step that raises breaks the sequence: who waits, or comes later, gets BrokenSequenceError from it"

BROKEN: list[tuple[type[OrderedRunner], str]] = [
    (broken.ReordersSteps, "steps are taken in their order, whichever thread comes first"),
    (broken.NeverFinishes, "a thread that comes after the end gets SequenceFinishedError"),
    (broken.GoesOnAfterError, BREAKS),
    (broken.DeafToAbort, "abort() breaks the sequence, with its cause"),
    (broken.ForgetsCause, "abort() breaks the sequence, with its cause"),
    (broken.ServesOnce, "serve() calls its function in each remaining turn and returns how often"),
]


@pytest.mark.parametrize(("cls", "clause"), BROKEN)
def test_broken_runner_is_rejected(cls: type[OrderedRunner], clause: str) -> None:
    """A runner with one fault is rejected, and the clause that it breaks is named."""
    expect_named(check_runner, cls, clause, hurry="0.4", most_kept=False)


def test_clause_that_a_subclass_gives_up_is_left_out() -> None:
    """A runner that goes on after failures passes if the clauses that it gives up are left out."""
    without = (
        BREAKS,
        "run() raises the first failure, when all its threads have ended",
        "serve() raises the error that broke the sequence",
    )
    report = check_runner(broken.GoesOnAfterError, without=without)
    assert report.not_kept == tuple(sorted(without, key=without.index))
    assert report.broken == ()
