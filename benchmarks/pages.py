"""Pages: the tables and plots of all kept figures of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from . import figures, goals, machine
from .figures import Figures
from .groups import GROUPS
from .measuring import OURS, Group
from .plots import plot
from .tables import lines_of, list_table

AIMED_AT = ("3.11", "3.12", "3.13")  # the interpreters that the goals are for

Results = dict[str, dict[str, Figures]]
"""For each interpreter, the cases of one group by their names."""


def draw(folder: Path) -> Iterator[Path]:
    """Write the tables and the plots, and report the files."""
    kept = figures.load(folder)
    sections = []
    for group in GROUPS:
        results: Results = {}
        for one in kept:
            if one.group == group.key:
                results.setdefault(one.python, {})[one.case] = one
        if results:
            sections.append(_section(group, results))
            yield _write(folder / f"{group.key}.svg", plot(group, results))
    yield _write(folder / "tables.txt", "\n\n".join(sections) + "\n")
    yield _write(folder / "goals.txt", _goals(kept))
    yield _write(folder / "machines.txt", _machines(machine.load(folder)))


def _section(group: Group, results: Results) -> str:
    names = [case.name for case in group.cases if any(case.name in one for one in results.values())]
    goals = {case.name: case.goal for case in group.cases}
    ours = {case.name for case in group.cases if case.package == OURS}
    what = "times the baseline's, less is better" if group.better == "less" else "times as fast, more is better"
    rows = [["", *results, "goal"]]
    for name in names:
        found = {version: one.get(name) for version, one in results.items()}
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
            list_table(rows),
        ]
    )


def _goals(kept: list[Figures]) -> str:
    return list_table(goals.rows(kept)) + "\n"


def _cell(one: Figures | None, goal: float | None, group: Group) -> str:
    if one is None:
        return ""
    missed = goal is not None and (one.ratio > goal if group.better == "less" else one.ratio < goal)
    size = f" ({one.value:.0f} B)" if group.unit == "B" else ""
    return f"{_short(one.ratio)}{' ✗' if missed else ''}{size}"


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 5 else f"{ratio:.2f}"


def _machines(kept: dict[str, dict[str, str]]) -> str:
    machines = [kept[python] for python in sorted(kept, key=figures.age)]
    rows = [[fact, *(one[fact] for one in machines)] for fact in ("python", "build", "load")]
    first, peers = machines[0], max((one["peers"] for one in machines), key=len)
    table = "\n".join([".. list-table::", "   :stub-columns: 1", "", *lines_of(rows)])
    return f"{first['processor']}, {first['cores']} cores, {first['system']}.\n\n{table}\n\nPeers: {peers}.\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
