"""The goals of the compiled core as a table: its figure on each interpreter, and whether it reaches the goal there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .figures import Figures, age

_WITH_GIL = ("3.11", "3.12", "3.13")
_ALL = (*_WITH_GIL, "3.13t", "3.14", "3.15")


@dataclass(frozen=True)
class Goal:
    """The goal for the compiled case of a group, relative to another case of it."""

    what: str
    group: str
    beside: str
    at: Mapping[str, float]
    least: bool = False  # whether it is the least throughput, not the longest time


_CEREGGII = "cereggii (native)"

GOALS = (
    Goal(
        "``with lock``",
        "core-lock",
        "threading.Lock",
        {**dict.fromkeys(_WITH_GIL, 0.8), "3.13t": 0.95, "3.14": 1.4, "3.15": 1.2},
    ),
    Goal(
        "``with lock.hold(1.0)``",
        "core-hold",
        "with threading.Lock",
        {**dict.fromkeys(_WITH_GIL, 0.8), "3.13t": 1.1, "3.14": 3.0, "3.15": 1.6},
    ),
    Goal("``with`` an observed lock", "core-observed", "threading.Lock", dict.fromkeys(_ALL, 1.2)),
    Goal("``increment()``", "core-counter", _CEREGGII, dict.fromkeys(_ALL, 0.8)),
    Goal("``compare_and_set()``", "core-compare", _CEREGGII, dict.fromkeys(_ALL, 0.8)),
    Goal("``increment()`` with bounds", "core-bounds", _CEREGGII, dict.fromkeys(_ALL, 0.8)),
    Goal("four threads at one lock", "core-lock-by-four", "threading.Lock", dict.fromkeys(_ALL, 1.0), least=True),
    Goal(
        "four threads at one counter", "core-counter-by-four", "with lock: n += 1", dict.fromkeys(_ALL, 1.0), least=True
    ),
)


def rows(kept: Iterable[Figures]) -> list[list[str]]:
    """Return the rows of the table: for each goal its figures, each with the goal, and with a mark if it is missed."""
    found = {(one.python, one.group, one.case): one.ratio for one in kept}
    pythons = sorted({python for python, group, _ in found if group.startswith("core-")}, key=age)
    table = [["", "beside", *pythons]]
    for goal in GOALS:
        cells = [_cell(found, goal, python) for python in pythons]
        table.append([goal.what, goal.beside, *cells])
    return table


def _cell(found: Mapping[tuple[str, str, str], float], goal: Goal, python: str) -> str:
    ours = found.get((python, goal.group, "compiled"))
    other = found.get((python, goal.group, goal.beside))
    aim = goal.at.get(python)
    if ours is None or other is None or aim is None:
        return ""
    ratio = ours / other
    missed = ratio < aim if goal.least else ratio > aim
    return f"{ratio:.2f} ({'≥' if goal.least else '≤'} {aim:g}){' ✗' if missed else ''}"
