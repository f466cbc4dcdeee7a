"""The tables of a recording: where the time went, by lock and call site, and by where the locks were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final, Self

from .._core.foreign import printable
from ..facts import Frozen
from .spans import Span


class Durations(Frozen):
    """Statistics of some durations, in seconds; all are zero if there were none.

    Attributes:
        total: Their sum.
        mean: Their mean.
        p99: The 99th percentile.
        longest: The longest.
    """

    __slots__ = ("total", "mean", "p99", "longest")  # noqa: RUF023  the order of the arguments

    total: float
    mean: float
    p99: float
    longest: float

    def __init__(self, total: float, mean: float, p99: float, longest: float) -> None:
        self._set(total, mean, p99, longest)

    @classmethod
    def of(cls, durations: Iterable[float]) -> Self:
        """Return the statistics of these durations."""
        values = sorted(durations)
        if not values:
            return cls(0.0, 0.0, 0.0, 0.0)
        total = sum(values)
        return cls(total, total / len(values), values[ceil(0.99 * len(values)) - 1], values[-1])

    def all(self) -> tuple[float, float, float, float]:
        """Return all four statistics."""
        return self.total, self.mean, self.p99, self.longest


class Row(Frozen):
    """A line of the table: a lock, a runner's step or a pool's function, at one place in the program.

    Attributes:
        name: The name of the lock, step or function.
        site: The place in the program.
        count: How often it was taken, waited for without success, or run.
        wait: How long threads waited for it; an acquisition without a wait counts as 0.
        hold: How long it was held, or ran.
        outcomes: How often each unusual outcome of a span occurred, the most frequent first.
    """

    __slots__ = ("name", "site", "count", "wait", "hold", "outcomes")  # noqa: RUF023  the order of the arguments

    name: str
    site: str
    count: int
    wait: Durations
    hold: Durations
    outcomes: tuple[tuple[str, int], ...]

    def __init__(
        self,
        name: str,
        site: str,
        count: int,
        wait: Durations,
        hold: Durations,
        outcomes: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self._set(name, site, count, wait, hold, outcomes)

    @property
    def ended(self) -> str:
        """The outcomes as text, like ``2 failed: ValueError, 1 gave up``."""
        return ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes)


def rows(spans: Iterable[Span]) -> list[Row]:
    """Return the table's lines, the longest total wait first, with names and sites that can be printed."""
    waits: dict[tuple[str, str], list[float]] = {}
    holds: dict[tuple[str, str], list[float]] = {}
    in_vain: dict[tuple[str, str], int] = {}
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    for span in spans:
        place = printable(span.name), printable(span.site)
        for kind in (waits, holds):
            kind.setdefault(place, [])
        if span.outcome:
            outcomes.setdefault(place, Counter())[printable(span.outcome)] += 1
        if span.kind == "wait":
            waits[place].append(span.seconds)
            in_vain[place] = in_vain.get(place, 0) + (span.outcome != "")
        else:
            holds[place].append(span.seconds)
            if span.waited:
                waits[place].append(span.waited)
    found = []
    for place, waited in waits.items():
        count = max(len(waited), len(holds[place]) + in_vain.get(place, 0))
        at_once = [0.0] * (count - len(waited))
        ended = tuple(outcomes.get(place, Counter()).most_common())
        found.append(Row(*place, count, Durations.of(waited + at_once), Durations.of(holds[place]), ended))
    return sorted(found, key=lambda row: (-row.wait.total, -row.hold.total, row.name, row.site))


_COLUMNS: Final = 11  # one more if some span had an unusual outcome


def as_text(lines: Sequence[Row]) -> str:
    """Lay the table out for a terminal or a log."""
    heads = ["lock", "call site", "count", "wait sum", "mean", "p99", "max", "hold sum", "mean", "p99", "max"]
    if any(row.outcomes for row in lines):
        heads.append("how some ended")
    body = [
        [
            row.name,
            row.site,
            str(row.count),
            *(say_seconds(part) for kind in (row.wait, row.hold) for part in kind.all()),
            *([row.ended] if len(heads) > _COLUMNS else []),
        ]
        for row in lines
    ]
    return _laid_out([heads, *body], 2, _COLUMNS)


def _laid_out(lines: Sequence[list[str]], texts: int, columns: int) -> str:
    """Align cells: the first of a line to the left, the others to the right; text after the columns stays as it is."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def lay_out(cells: list[str]) -> str:
        left = [cell.ljust(width) for cell, width in zip(cells[:texts], widths[:texts], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(cells[texts:columns], widths[texts:columns], strict=True)]
        return "  ".join([*left, *right, *cells[columns:]]).rstrip()

    return "\n".join(map(lay_out, lines))


class LockUse(Frozen):
    """How the locks that one line of the program makes were used: how often, and how long threads waited for them.

    Attributes:
        name: Where the program stores them and where it makes them, like ``Account._lock (bank.py:12)``.
        file: The file that makes them, or ``""`` if that is not known.
        line: The line, or 0.
        locks: How many different locks were used.
        taken: How often they were acquired.
        waited: How often threads had to wait for them, with or without success.
        wait: How long these waits lasted: the `Durations`.
        hold: How long the locks were held.
    """

    __slots__ = ("name", "file", "line", "locks", "taken", "waited", "wait", "hold")  # noqa: RUF023  the order of the arguments

    name: str
    file: str
    line: int
    locks: int
    taken: int
    waited: int
    wait: Durations
    hold: Durations

    def __init__(
        self, name: str, file: str, line: int, locks: int, taken: int, waited: int, wait: Durations, hold: Durations
    ) -> None:
        self._set(name, file, line, locks, taken, waited, wait, hold)


def uses_as_text(uses: Sequence[LockUse]) -> str:
    """Format a table of uses as text."""
    heads = ["lock", "locks", "taken", "waited", "wait sum", "mean", "p99", "max", "hold sum", "mean", "p99", "max"]
    body = [
        [
            printable(use.name),
            *map(str, (use.locks, use.taken, use.waited)),
            *(say_seconds(part) for kind in (use.wait, use.hold) for part in kind.all()),
        ]
        for use in uses
    ]
    return _laid_out([heads, *body], 1, len(heads))


def say_seconds(seconds: float) -> str:
    """Put a duration into few characters, like ``1.23 ms``.

    Example:
        >>> say_seconds(0.00123), say_seconds(0.0), say_seconds(75.0)
        ('1.23 ms', '0', '75.0 s')
    """
    if seconds == 0:
        return "0"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            value = seconds / size
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits if (unit, digits) != ('s', 0) else 0}f} {unit}"
    raise AssertionError("unreachable")
