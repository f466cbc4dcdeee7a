"""Runs cells of the fault table, each in its own process, a few at a time, each with a hard limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import NamedTuple

from programs import environment

from .fault_places import missing
from .rows import all_rows

HANGS = "H"
FAILS = "✗"
HARD_LIMIT = 60.0  # some start a dozen processes, and a busy machine takes half of it for that
AT_A_TIME = 3


class Cell(NamedTuple):
    """A fault and an executor."""

    row: str
    place: str


class Outcome(NamedTuple):
    """The result of a cell: its symbol, and a report if it failed, or otherwise the text of the scenario."""

    cell: Cell
    symbol: str
    report: str
    said: str = ""


def buffered() -> dict[str, str]:
    """Return the environment of a program that finds the tests and the library, and buffers its output."""
    return {**environment(tests=True, without=["PYTHONUNBUFFERED"]), "PYTHONUTF8": "1"}


def all_cells() -> list[Cell]:
    """Return every cell whose executor exists on this machine."""
    return [Cell(row.name, place) for row in all_rows().values() for place in row.places if not missing(place)]


def sample(seed: int, per_row: int) -> list[Cell]:
    """Return so many cells of each row, chosen by the seed."""
    random = Random(seed)
    cells: list[Cell] = []
    for name in all_rows():
        of_row = [cell for cell in all_cells() if cell.row == name]
        cells += random.sample(of_row, min(per_row, len(of_row)))
    return cells


def quick_sample(seed: int) -> list[Cell]:
    """Return one cell of each row; and of the many rows from other people's programs, only a third."""
    cells = sample(seed, 1)
    found = [cell for cell in cells if ".found_" in all_rows()[cell.row].scenario.__module__]
    left_out = {cell for number, cell in enumerate(found) if (number - seed) % 3}
    return [cell for cell in cells if cell not in left_out]


def run_cells(cells: Iterable[Cell], at_a_time: int = AT_A_TIME) -> Iterator[Outcome]:
    """Run the cells, a few at a time, and yield their outcomes in order."""
    with ThreadPoolExecutor(at_a_time) as threads:
        yield from threads.map(run_cell, cells)


def run_cell(cell: Cell) -> Outcome:
    """Run one cell in its own process group, and leave nothing of it behind."""
    program = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "pool_faults.cell", *cell],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=buffered(),
        start_new_session=True,
    )
    try:
        out, errors = program.communicate(timeout=HARD_LIMIT)
    except subprocess.TimeoutExpired:
        _kill_group(program)
        out, errors = program.communicate()
        return Outcome(cell, HANGS, f"{' '.join(cell)} hangs:\n{out}{errors}")
    finally:
        _kill_group(program)
    last = out.splitlines()[-1:] or [""]
    if program.returncode or not last[0].startswith("outcome "):
        return Outcome(cell, FAILS, f"{' '.join(cell)} exits with {program.returncode}:\n{out}{errors}")
    return Outcome(cell, last[0].removeprefix("outcome "), "", out)


def _kill_group(program: subprocess.Popen[str]) -> None:
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
