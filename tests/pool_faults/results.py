"""The fault table's results: kept in a folder, one JSON file for each interpreter, and made into the page's tables."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from list_table import list_table
from programs import this_python

from .cell_runs import FAILS, HANGS, Cell, Outcome
from .fault_places import ALL
from .rows import Row, all_rows

HEADINGS = {
    "thread": '``"thread"``',
    "forkserver": '``"process"``, forkserver',
    "spawn": '``"process"``, spawn',
    "interpreter": '``"interpreter"``',
    "ThreadPoolExecutor": "Thread\N{SOFT HYPHEN}Pool\N{SOFT HYPHEN}Executor",
    "ProcessPoolExecutor": "Process\N{SOFT HYPHEN}Pool\N{SOFT HYPHEN}Executor",
}
LOOKS = "matrix dense rated"
# The page shows a word for each symbol, and a colour for its severity: the page's role of the first match.
WORDS = {
    "\N{CHECK MARK}": "works",
    "E": "error",
    "e": "vague error",
    "B": "breaks",
    "L": "lost",
    "H": "hangs",
    "X": "dies",
}
RATINGS = {
    "bad": r"hangs|lost|dies|never done|all fail",
    "poor": r"breaks|vague|\blate\b(?<!never late)|^no$|left behind|waits|if busy|0 or 1",
    "good": "",
}
NOTHING = "\N{EN DASH}"
BESIDE_OTHERS = ("thread", "forkserver")  # ours, in the table that has the other pools


class Result(NamedTuple):
    """The result of all runs of a cell: the number of each outcome, and the times that the scenario measured."""

    outcomes: Counter[str]
    seconds: list[float]

    def shown(self) -> str:
        """Return its entry in the table; a cell with different outcomes shows each with its count."""
        text = next(iter(self.outcomes))
        if len(self.outcomes) > 1:
            text = " / ".join(f"{symbol} ({count})" for symbol, count in self.outcomes.most_common())
        return f"{text}, {median(self.seconds):.2f} s" if self.seconds else text


Results = dict[Cell, Result]


def collect(outcomes: Iterable[Outcome]) -> Results:
    """Put the runs of each cell together."""
    results: Results = {}
    for outcome in outcomes:
        result = results.setdefault(outcome.cell, Result(Counter(), []))
        result.outcomes[outcome.symbol] += 1
        result.seconds.extend(float(text) for text in re.findall(r" after ([\d.]+) s$", outcome.said, re.MULTILINE))
    return results


def save(results: Results, folder: Path) -> None:
    """Keep the results with those of other cells on this interpreter, and write the page's tables again."""
    path = folder / f"{this_python()}.json"
    kept = load(path) if path.exists() else {}
    kept.update(results)
    order = {cell: place for place, cell in enumerate(Cell(row, place) for row in all_rows() for place in ALL)}
    data = {
        "python": platform.python_version() + ("t" if this_python().endswith("t") else ""),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "measured": time.strftime("%Y-%m-%d"),
        "executors": {name: found for name in ("loky", "pebble") if (found := _installed(name))},
        "cells": [
            {
                "fault": cell.row,
                "executor": cell.place,
                "outcomes": dict(kept[cell].outcomes),
                "seconds": kept[cell].seconds,
            }
            for cell in sorted(kept.keys() & order.keys(), key=order.__getitem__)
        ],
    }
    lines = json.dumps({**data, "cells": []}, indent=1)
    cells = ",\n".join(f"  {json.dumps(cell, ensure_ascii=False)}" for cell in data["cells"])
    path.write_text(lines.replace('"cells": []', f'"cells": [\n{cells}\n ]') + "\n", encoding="utf-8")
    for name, text in tables(folder).items():
        (folder / name).write_text(text, encoding="utf-8")


def load(path: Path) -> Results:
    """Load the results that `save` kept."""
    return {
        Cell(cell["fault"], cell["executor"]): Result(Counter(cell["outcomes"]), cell["seconds"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    }


def tables(folder: Path) -> dict[str, str]:
    """Return the files that the page includes, by their names."""
    files = sorted(folder.glob("3.*.json"), key=lambda path: (int(re.sub(r"\D", "", path.stem)), path.stem))
    by_file = {path: load(path) for path in files}
    # A column is that of the oldest interpreter with such an executor.
    best: Results = {}
    for results in by_file.values():
        best = {**results, **best}
    return {
        "ours.txt": list_table([["", *(HEADINGS.get(place, place) for place in ALL)], *_our_lines(best)], LOOKS),
        "beside.txt": _beside(folder / "others.csv", best),
        "runs.txt": "\n".join(_summary(path, results) for path, results in by_file.items()) + "\n",
    }


def _rated(symbols: str) -> str:
    """Return a cell for the page: in words, and in the colour of the worst of them."""
    if symbols == NOTHING:
        return symbols
    words = re.sub(rf"(?<!\w)[{''.join(WORDS)}](?!\w)", lambda found: WORDS[found[0]], symbols)
    rating = next(name for name, pattern in RATINGS.items() if re.search(pattern, words))
    return f":{rating}:`{words}`"


def _our_lines(results: Results) -> Iterator[list[str]]:
    for row in all_rows().values():
        yield [row.title, *(_rated(_cell(results, row, place)) for place in ALL)]


def _beside(path: Path, results: Results) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        heading, *lines = csv.reader(file)
    rows = all_rows()
    ours = [f"ours, {HEADINGS[place].partition(',')[0]}" for place in BESIDE_OTHERS]
    shown = [
        [rows[name].title, *map(_rated, [*others, *(_cell(results, rows[name], place) for place in BESIDE_OTHERS)])]
        for name, *others in lines
    ]
    return list_table([["", *heading[1:], *ours], *shown], LOOKS)


def _cell(results: Results, row: Row, place: str) -> str:
    result = results.get(Cell(row.name, place))
    return result.shown() if result else NOTHING


def _summary(path: Path, results: Results) -> str:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    counts = [sum(result.outcomes.values()) for result in results.values()]
    bad = {symbol: sum(result.outcomes[symbol] for result in results.values()) for symbol in (HANGS, FAILS)}
    each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    with_what = "".join(f", {name} {found}" for name, found in data["executors"].items())
    return (
        f"- CPython {data['python']}{with_what}, on {data['machine']}, {data['measured']}: {len(counts)} cells, "
        f"{each} runs each, {sum(counts):,} in all; **{bad[HANGS]} hung, {bad[FAILS]} came out otherwise**."
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
