"""Measuring: cases that do the same work, run in turn in each round and compared within it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any, Literal

# The machine's speed drifts, by a factor of two on a shared one, and more slowly than a round lasts. So a comparison is
# always of two times of one round, and the result is the median of those ratios, never a time by itself. Every other
# round runs backwards, so that a case does not always follow the same other one.

Work = Callable[[int], float]
"""Does so many operations and returns the seconds that they took, without the preparations."""

OURS = "syncprims"
STDLIB = "the standard library"

SLICE = 0.001  # seconds that a case should work without a break, at least
TRIES = 3  # in one round; the quickest counts, because the system has not interrupted it
MOST = 1 << 16  # operations in one round, at most


@dataclass(frozen=True)
class Case:
    """One way to do the work."""

    name: str
    package: str
    open: Callable[[ExitStack], Work]
    goal: float | None = None


@dataclass(frozen=True)
class Group:
    """Ways to do the same work; the first is the baseline.

    `better` defines the ratio: "less" divides the time by the baseline's, "more" the baseline's by the time.
    """

    key: str
    title: str
    cases: tuple[Case, ...]
    better: Literal["less", "more"] = "less"
    operations: int | None = None  # in each round; None finds out how many fill a SLICE
    unit: str = "s"  # "B" if the work returns bytes


@dataclass
class Measured:
    """The result of one case: for each round the ratio, and the time of one operation."""

    name: str
    operations: int
    ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def package(name: str) -> Any:
    """Import a package that may be missing, and that has no types."""
    return import_module(name)


def measure(group: Group, rounds: int, report: Callable[[str], None]) -> list[Measured]:
    """Run the cases of a group in turn, so many rounds and one to warm up.

    Missing packages are left out. If a case of ours can't be measured (the core is not compiled), none is, so that the
    group keeps the figures that it has.
    """
    with ExitStack() as stack:
        works: list[tuple[Measured, Work]] = []
        for case in group.cases:
            try:
                work = case.open(stack)
                operations = group.operations or _enough(work)
                work(operations)
            except ImportError as error:
                report(f"{case.name}: not measured, {error}")
                if case.package == OURS:
                    return []
            else:
                works.append((Measured(case.name, operations), work))
        tries = 1 if group.operations else TRIES
        for number in range(rounds):
            times = _round(works[:: -1 if number % 2 else 1], tries)
            for measured, _ in works:
                ratio = times[measured.name] / times[works[0][0].name]
                measured.ratios.append(ratio if group.better == "less" else 1 / ratio)
                measured.seconds.append(times[measured.name])
    return [measured for measured, _ in works]


def _round(works: list[tuple[Measured, Work]], tries: int) -> dict[str, float]:
    times: dict[str, float] = {}
    for measured, work in works * tries:
        gc.collect()
        gc.disable()
        try:
            seconds = work(measured.operations) / measured.operations
        finally:
            gc.enable()
        times[measured.name] = min(seconds, times.get(measured.name, seconds))
    return times


def _enough(work: Work) -> int:
    operations = 1
    while work(operations) < SLICE and operations < MOST:
        operations *= 2
    return operations


def loop(statement: str, **names: object) -> Work:
    """Make the work that repeats a statement, with the names as local variables."""
    # Compiled for each case, because the interpreter specializes a loop for the types that it meets.
    source = (
        f"def work(operations, *, clock, {', '.join(names)}):\n"
        f"    started = clock()\n"
        f"    for _ in range(operations):\n"
        f"        {statement}\n"
        f"    return clock() - started\n"
    )
    space: dict[str, Any] = {}
    exec(source, space)
    made = space["work"]
    return lambda operations: made(operations, clock=perf_counter, **names)


def python() -> str:
    """Return the present version, as tables name it."""
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return f"{sys.version_info.major}.{sys.version_info.minor}{'t' if free else ''}"
