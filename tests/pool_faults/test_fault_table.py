"""The fault table as tests: each fault on each executor, each in its own process with a hard limit."""

from __future__ import annotations

import os

import pytest

from pool_faults.cell_runs import (
    FAILS,
    HANGS,
    HARD_LIMIT,
    Cell,
    all_cells,
    quick_sample,
    run_cell,
    run_cells,
    sample,
)
from pool_faults.fault_places import ALL, missing
from pool_faults.rows import Row, all_rows

# The quick part runs one cell of each row, but only a third of the rows from other people's programs. The slow part
# runs all of them, 20 times, or fewer cells of each row on request. Another seed chooses others.
SEED = int(os.environ.get("SYNCPRIMS_FAULT_SEED", "0"))
CHOSEN = quick_sample(SEED)
OF_A_ROW = int(os.environ.get("SYNCPRIMS_FAULT_CELLS", len(ALL)))
RUNS = int(os.environ.get("SYNCPRIMS_FAULT_RUNS", "20"))


@pytest.mark.timeout(HARD_LIMIT * 3)
@pytest.mark.parametrize("cell", CHOSEN, ids="-".join)
def test_fault_is_survived(cell: Cell) -> None:
    """The fault leads to the outcome that the scenario asserts, and the program ends by itself."""
    outcome = run_cell(cell)
    assert outcome.symbol not in (HANGS, FAILS), outcome.report


@pytest.mark.parametrize("place", ALL)
def test_every_executor_is_tried(place: str) -> None:
    """The table has cells for each kind of executor that exists here."""
    if why := missing(place):
        pytest.skip(why)
    assert sum(cell.place == place for cell in all_cells()) >= 20


def test_cell_that_fails_or_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario that raises is reported with its traceback, and one over the limit is ended and reported."""
    failed = run_cell(Cell("no_such_fault", "thread"))
    assert failed.symbol == FAILS
    assert "KeyError: 'no_such_fault'" in failed.report
    monkeypatch.setattr("pool_faults.cell_runs.HARD_LIMIT", 0.01)
    assert run_cell(Cell("chain", "thread")).symbol == HANGS


@pytest.mark.slow
@pytest.mark.timeout(RUNS * HARD_LIMIT * len(ALL))
@pytest.mark.parametrize("row", all_rows().values(), ids=lambda row: row.name)
def test_fault_is_survived_every_time(row: Row) -> None:
    """Each cell of the row has the outcome that its scenario asserts, in each of 20 runs (or SYNCPRIMS_FAULT_RUNS)."""
    cells = [cell for cell in sample(SEED, OF_A_ROW) if cell.row == row.name]
    outcomes = list(run_cells(cells * RUNS))
    reports = [outcome.report for outcome in outcomes if outcome.report]
    assert not reports, f"{len(reports)} of {len(outcomes)} runs, the first: {reports[0]}"
    assert len(outcomes) == len(cells) * RUNS
