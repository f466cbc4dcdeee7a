"""The rows of the fault table: a title, the executors where the fault makes sense, and a scenario that provokes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .fault_places import ALL

# A scenario gets the executor's name, provokes the fault, asserts order and outcome, and returns the cell's entry:
WORKS = "✓"
ERROR = "E"  # a clear error of the faulty task, and of no other

Scenario = Callable[[str], str]


class Row(NamedTuple):
    """One fault."""

    name: str
    title: str
    places: tuple[str, ...]
    scenario: Scenario


ROWS: dict[str, Row] = {}


def row(title: str, places: tuple[str, ...] = ALL) -> Callable[[Scenario], Scenario]:
    """Add the scenario to the table, under its function's name."""

    def enter(scenario: Scenario) -> Scenario:
        ROWS[scenario.__name__] = Row(scenario.__name__, title, places, scenario)
        return scenario

    return enter


def all_rows() -> dict[str, Row]:
    """Return the whole table, in the order of the table."""
    from . import (
        callback_faults,
        ending_faults,
        found_faults,
        found_programs,
        program_faults,
        task_faults,
        travel_faults,
        worker_faults,
    )

    order = [callback_faults, task_faults, travel_faults, worker_faults, ending_faults, program_faults]
    order += [found_faults, found_programs]
    ranks = {module.__name__: rank for rank, module in enumerate(order)}
    return dict(sorted(ROWS.items(), key=lambda item: ranks[item[1].scenario.__module__]))
