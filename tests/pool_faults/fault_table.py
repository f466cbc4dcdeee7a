"""Prints the fault table, row by executor: ``python tests/pool_faults/fault_table.py [--runs N] [--only EXECUTOR …]``.

With ``--save docs/faults`` the results become those of the page: they take the place of the same cells' earlier ones.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from pathlib import Path

if not __package__:  # if it is run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pool_faults.cell_runs import AT_A_TIME, FAILS, HANGS, Cell, all_cells, run_cells
from pool_faults.fault_places import ALL, missing
from pool_faults.results import Results, collect, save
from pool_faults.rows import all_rows


def render(results: Results, places: list[str]) -> str:
    """Return the table as Markdown."""
    lines = [f"| fault | {' | '.join(places)} |", "|---" * (len(places) + 1) + "|"]
    for row in all_rows().values():
        cells = [results.get(Cell(row.name, place)) for place in places]
        lines.append(f"| {row.title} | {' | '.join(cell.shown() if cell else '-' for cell in cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the cells and print the table; the exit status says whether every run had the right outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often each cell runs")
    parser.add_argument("--only", nargs="*", default=ALL, help="executors")
    parser.add_argument("--row", nargs="*", default=list(all_rows()), help="rows, by the scenario's name")
    parser.add_argument("--at-a-time", type=int, default=AT_A_TIME, help="how many cells run at once")
    parser.add_argument("--save", type=Path, help="folder that keeps the results, and gets the page's tables")
    options = parser.parse_args()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job; the cells would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    places = [place for place in options.only if not missing(place)]
    cells = [cell for cell in all_cells() if cell.place in places and cell.row in options.row]
    outcomes = []
    for outcome in run_cells(cells * options.runs, options.at_a_time):
        outcomes.append(outcome)
        if outcome.report:
            print(outcome.report, file=sys.stderr, flush=True)
        if options.save and len(outcomes) % len(cells) == 0:  # each time that all have run once more
            save(collect(outcomes), options.save)
    print(render(collect(outcomes), places))
    bad = Counter(outcome.symbol for outcome in outcomes if outcome.symbol in (FAILS, HANGS))
    print(f"\n{len(cells)} cells, {len(outcomes)} runs: {bad[HANGS]} hung, {bad[FAILS]} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
