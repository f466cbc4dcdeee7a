"""Prints the fault table, row by executor: ``python tests/pool_faults/table.py [--runs N] [--only EXECUTOR …]``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

if not __package__:  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pool_faults.places import ALL, missing
from pool_faults.rows import all_rows
from pool_faults.running import FAILS, HANGS, Cell, Outcome, all_cells, run_cells


def render(outcomes: Iterable[Outcome], places: list[str]) -> str:
    """Return the table as Markdown; a cell that came out differently shows each outcome with its count."""
    counts: dict[Cell, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.cell, Counter())[outcome.symbol] += 1
    lines = [f"| fault | {' | '.join(places)} |", "|---" * (len(places) + 1) + "|"]
    for row in all_rows().values():
        cells = [counts.get(Cell(row.name, place), Counter()) for place in places]
        lines.append(f"| {row.title} | {' | '.join(map(_show, cells))} |")
    return "\n".join(lines)


def _show(outcomes: Counter[str]) -> str:
    if len(outcomes) > 1:
        return ", ".join(f"{symbol} {count}" for symbol, count in outcomes.most_common())
    return next(iter(outcomes), "-")


def main() -> int:
    """Run the cells and print the table; the status says whether every run came out as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often each cell runs")
    parser.add_argument("--only", nargs="*", default=ALL, help="executors")
    parser.add_argument("--row", nargs="*", default=list(all_rows()), help="rows, by the scenario's name")
    options = parser.parse_args()
    places = [place for place in options.only if not missing(place)]
    cells = [cell for cell in all_cells() if cell.place in places and cell.row in options.row] * options.runs
    outcomes = []
    for outcome in run_cells(cells):
        outcomes.append(outcome)
        if outcome.report:
            print(outcome.report, file=sys.stderr, flush=True)
    print(render(outcomes, places))
    bad = Counter(outcome.symbol for outcome in outcomes if outcome.symbol in (FAILS, HANGS))
    print(f"\n{len(set(cells))} cells, {len(cells)} runs: {bad[HANGS]} hung, {bad[FAILS]} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
