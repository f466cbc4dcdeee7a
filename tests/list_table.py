"""A table as the pages include it, in reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable


def list_table(rows: Iterable[list[str]], looks: str = "matrix", widths: str = "") -> str:
    """Return a table whose first row is its heading; `looks` are classes of the pages' style sheet."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :class: {looks}"]
    if widths:
        lines.append(f"   :widths: {widths}")
    cells = [f"   {' ' if place else '*'} - {cell}".rstrip() for row in rows for place, cell in enumerate(row)]
    return "\n".join([*lines, "", *cells, ""])
