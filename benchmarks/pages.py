"""Pages: the tables and plots of all the results in a folder, one JSON file for each interpreter."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from .measuring import OURS, Group, Measured, groups
from .plots import plot

AIMED_AT = ("3.11", "3.12", "3.13")  # the interpreters that the goals are for

Results = dict[str, dict[str, Measured]]
"""For each interpreter, the cases of one group by their names."""


def draw(folder: Path) -> Iterator[Path]:
    """Write the tables, the raw numbers as CSV and the plots, and say what was written."""
    kept = sorted(folder.glob("3.*.json"), key=_order)
    data = {path.stem: json.loads(path.read_text()) for path in kept}
    pages = []
    for group in groups():
        results = {
            version: {case["name"]: Measured(**case) for case in one["groups"].get(group.key, ())}
            for version, one in data.items()
        }
        if any(results.values()):
            pages.append(_section(group, results))
            picture = folder / f"{group.key}.svg"
            picture.write_text(plot(group, results))
            yield picture
    yield _write(folder / "tables.txt", "\n\n".join(pages) + "\n")
    yield _write(folder / "machines.txt", _machines(data))
    yield _write_csv(folder / "raw.csv", data)


def _order(path: Path) -> tuple[int, bool]:
    minor = path.stem.removeprefix("3.")
    return int(minor.rstrip("t")), minor.endswith("t")


def _section(group: Group, results: Results) -> str:
    versions = [version for version in results if results[version]]
    names = [case.name for case in group.cases if any(case.name in results[version] for version in versions)]
    goals = {case.name: case.goal for case in group.cases}
    ours = {case.name for case in group.cases if case.package == OURS}
    what = "times the baseline's, less is better" if group.better == "less" else "times as fast, more is better"
    rows = [["", *versions, "goal"]]
    for name in names:
        found = {version: results[version].get(name) for version in versions}
        goal = goals[name]
        sign = "≤" if group.better == "less" else "≥"
        rows.append(
            [
                f"**{name}**" if name in ours else name,
                *(_cell(one, goal if version in AIMED_AT else None, group) for version, one in found.items()),
                "" if goal is None else f"{sign} {goal:g}",
            ]
        )
    return "\n".join(
        [
            group.title,
            "^" * len(group.title),
            "",
            f"Baseline: {names[0]}. Figures: {what}.",
            "",
            f".. image:: benchmarks/{group.key}.svg",
            f"   :alt: {group.title}, drawn; the table has the same figures",
            "",
            ".. list-table::",
            "   :header-rows: 1",
            "   :class: matrix",
            "",
            *_rows(rows),
        ]
    )


def _rows(rows: list[list[str]]) -> Iterator[str]:
    for row in rows:
        for number, cell in enumerate(row):
            yield f"   {' ' if number else '*'} - {cell}".rstrip()


def _cell(measured: Measured | None, goal: float | None, group: Group) -> str:
    if measured is None:
        return ""
    ratio = measured.ratio
    missed = goal is not None and (ratio > goal if group.better == "less" else ratio < goal)
    size = f" ({median(measured.seconds):.0f} B)" if group.unit == "B" else ""
    return f"{_short(ratio)}{' ✗' if missed else ''}{size}"


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 5 else f"{ratio:.2f}"


def _machines(data: dict[str, Any]) -> str:
    rows = [[fact, *(one["machine"][fact] for one in data.values())] for fact in ("python", "build", "load")]
    machines = [one["machine"] for one in data.values()]
    first, peers = machines[0], max((each["peers"] for each in machines), key=len)
    table = "\n".join([".. list-table::", "   :stub-columns: 1", "", *_rows(rows)])
    return f"{first['processor']}, {first['cores']} cores, {first['system']}.\n\n{table}\n\nPeers: {peers}.\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _write_csv(path: Path, data: dict[str, Any]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["python", "group", "case", "operations", "round", "value", "ratio"])
        for version, one in data.items():
            for key, cases in one["groups"].items():
                for case in cases:
                    for number, (value, ratio) in enumerate(zip(case["seconds"], case["ratios"], strict=True)):
                        writer.writerow(
                            [version, key, case["name"], case["operations"], number, f"{value:.4g}", f"{ratio:.4g}"]
                        )
    return path
