"""Figures: the kept results, a line for each case and interpreter; the raw numbers stay on their machine."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median, quantiles

from .groups import GROUPS
from .measuring import Measured

FILE = "figures.csv"


@dataclass(frozen=True)
class Figures:
    """One case on one interpreter: the medians of its rounds, and the middle half of their ratios."""

    python: str
    group: str
    case: str
    operations: int  # in each round
    value: float  # of one operation: seconds, or bytes
    low: float
    ratio: float
    high: float


def of(python: str, group: str, measured: Measured) -> Figures:
    """Return the figures of a measurement."""
    ratios = measured.ratios
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return Figures(
        python, group, measured.name, measured.operations, median(measured.seconds), low, median(ratios), high
    )


def load(folder: Path) -> list[Figures]:
    """Return all figures that are kept in the folder."""
    if not (folder / FILE).exists():
        return []
    with open(folder / FILE, newline="", encoding="utf-8") as file:
        return [
            Figures(
                row["python"],
                row["group"],
                row["case"],
                int(row["operations"]),
                *(float(row[name]) for name in ("value", "low", "ratio", "high")),
            )
            for row in csv.DictReader(file)
        ]


def keep(folder: Path, new: Iterable[Figures]) -> None:
    """Add the figures to the kept ones; they replace all of their groups on their interpreter."""
    new = list(new)
    replaced = {(one.python, one.group) for one in new}
    kept = [one for one in load(folder) if (one.python, one.group) not in replaced]
    order = [group.key for group in GROUPS]
    every = sorted([*kept, *new], key=lambda one: (age(one.python), order.index(one.group)))
    with open(folder / FILE, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Figures))
        for one in every:
            writer.writerow(f"{cell:.6g}" if isinstance(cell, float) else cell for cell in astuple(one))


def keep_raw(path: Path, measured: Iterable[tuple[str, Measured]]) -> None:
    """Write every round of each group's cases: for a look at one run, and not kept with the figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["group", "case", "operations", "round", "value", "ratio"])
        for group, one in measured:
            for number, (value, ratio) in enumerate(zip(one.seconds, one.ratios, strict=True)):
                writer.writerow([group, one.name, one.operations, number, f"{value:.4g}", f"{ratio:.4g}"])


def age(python: str) -> tuple[int, str]:
    """Order interpreters by their version, the free-threaded build of each after the other."""
    return int(python.removeprefix("3.").rstrip("t")), python
