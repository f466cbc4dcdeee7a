"""Tables as the pages include them, in reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def list_table(rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first row is its heading."""
    return "\n".join([".. list-table::", "   :header-rows: 1", "   :class: matrix", "", *lines_of(rows)])


def lines_of(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of the rows."""
    for row in rows:
        for number, cell in enumerate(row):
            yield f"   {' ' if number else '*'} - {cell}".rstrip()
