"""The page of faults shows the kept results of the fault table's runs, all of them and nothing else."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pool_faults.cell_runs import FAILS, HANGS, Cell, Outcome
from pool_faults.fault_places import ALL
from pool_faults.results import _rated, collect, load, save, tables
from pool_faults.rows import all_rows

DOCS = Path(__file__).parents[2] / "docs"
KEPT = DOCS / "faults"

page = pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not there: only the tests were copied")


@page
def test_page_shows_what_was_kept() -> None:
    """The tables that the page includes are those of the kept results, and it includes all of them."""
    text = (DOCS / "faults.rst").read_text(encoding="utf-8")
    for name, table in tables(KEPT).items():
        assert (KEPT / name).read_text(encoding="utf-8") == table, "run table.py with --save docs/faults"
        assert f".. include:: faults/{name}\n" in text


@page
def test_every_cell_was_run_and_survived() -> None:
    """Each cell of the table has its result, on some interpreter, and none hung or failed in any of its runs."""
    results = [load(path) for path in KEPT.glob("3.*.json")]
    wanted = {Cell(row.name, place) for row in all_rows().values() for place in row.places}
    assert {cell for one in results for cell in one} == wanted
    outcomes = sum((result.outcomes for one in results for result in one.values()), Counter[str]())
    assert not outcomes.keys() & {FAILS, HANGS}, outcomes


@page
def test_other_pools_stand_in_rows_of_the_table() -> None:
    """The results of the others are kept by the names of the rows, with an entry in every cell."""
    with (KEPT / "others.csv").open(encoding="utf-8", newline="") as file:
        heading, *lines = csv.reader(file)
    assert {line[0] for line in lines} <= all_rows().keys()
    assert {len(line) for line in lines} == {len(heading)} == {9}
    assert all(all(line) for line in lines)


def test_runs_of_a_cell_come_together() -> None:
    """A cell shows its outcome and the median of its times; one with different outcomes shows how often each."""
    steady, wavering = Cell("endless_task", "thread"), Cell("chain", "thread")
    results = collect(
        [
            *(Outcome(steady, "told", "", f"told after {seconds} s\noutcome told\n") for seconds in (0.5, 0.7, 9.0)),
            *(Outcome(wavering, symbol, "") for symbol in ("✓", HANGS, "✓")),
        ]
    )
    assert results[steady].shown() == "told, 0.70 s"
    assert results[wavering].shown() == "✓ (2) / H (1)"


@pytest.mark.parametrize(
    ("symbols", "shown"),
    [
        ("✓", ":good:`works`"),
        ("✓, or E", ":good:`works, or error`"),
        ("E by submit", ":good:`error by submit`"),
        ("never late", ":good:`never late`"),
        ("2.8 s late", ":poor:`2.8 s late`"),
        ("e", ":poor:`vague error`"),
        ("B, H", ":bad:`breaks, hangs`"),
        ("H at exit", ":bad:`hangs at exit`"),
        ("get() H", ":bad:`get() hangs`"),
        ("✓ (2) / H (1)", ":bad:`works (2) / hangs (1)`"),
        ("\N{EN DASH}", "\N{EN DASH}"),
    ],
)
def test_a_cell_has_words_and_the_colour_of_the_worst(symbols: str, shown: str) -> None:
    """A reader needs no key to the table, and loses nothing without colours."""
    assert _rated(symbols) == shown


def test_new_results_take_the_place_of_the_same_cells(tmp_path: Path) -> None:
    """Saving again replaces the cells that ran again, keeps the others in the table's order, and reports failures."""
    (tmp_path / "others.csv").write_text("fault,others\nchain,✗ once\n", encoding="utf-8")
    first, second = Cell("chain", "thread"), Cell("task_raises", "pebble")
    save(collect([Outcome(second, "E", ""), Outcome(first, HANGS, "it hangs")]), tmp_path)
    assert "**1 hung, 0 came out otherwise**" in tables(tmp_path)["runs.txt"]
    save(collect([Outcome(first, "✓", "")] * 2), tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert {cell: result.outcomes for cell, result in load(path).items()} == {first: {"✓": 2}, second: {"E": 1}}
    assert [cell["fault"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]] == ["chain", "task_raises"]
    found = tables(tmp_path)
    assert "2 cells, 1 to 2 runs each, 3 in all; **0 hung" in found["runs.txt"]
    assert re.search(r"- :good:`✗ once`\n +- :good:`works`\n", found["beside.txt"])
    assert found["ours.txt"].count("   * -") == 1 + len(all_rows())
    assert found["ours.txt"].count("     - ") == (1 + len(all_rows())) * len(ALL)
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in found} == found
