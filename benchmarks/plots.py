"""Plots: for each case a row, for each interpreter a mark, the middle half of its rounds a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape

from .measuring import OURS, Group, Measured

STYLE = """
  .page { fill: #fbfbf9; stroke: #d8d8d2 } .grid { stroke: #e3e3de } .base { stroke: #5f6b7a; stroke-width: 1.5 }
  .goal { fill: #dff0e3 } .span { stroke: #98a4b3; stroke-width: 2 } .mark { fill: #98a4b3 }
  .ours .span { stroke: #2f7d46 } .ours .mark { fill: #2f7d46 }
  text { font: 12.5px system-ui, sans-serif; fill: #22272e; dominant-baseline: middle } .ours text { font-weight: 600 }
  text.end { text-anchor: end } text.middle { text-anchor: middle; fill: #545d68 }
  text.in { font-size: 9px; fill: #fff; text-anchor: middle }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1b1f24; stroke: #3a424c } .grid { stroke: #323942 } .base { stroke: #98a4b3 }
    .goal { fill: #1d3a28 } .span { stroke: #6d7885 } .mark { fill: #6d7885 }
    .ours .span { stroke: #6cc58a } .ours .mark { fill: #6cc58a } text { fill: #e6e9ed } text.middle { fill: #a9b3be }
    text.in { fill: #16191d }
  }
"""
Scale = Callable[[float], float]

WIDTH, LEFT, RIGHT, TOP, LANE = 760, 230, 30, 50, 15


def plot(group: Group, results: dict[str, dict[str, Measured]]) -> str:
    """Draw a group on a logarithmic scale, as an SVG that follows the reader's choice of light or dark."""
    versions = [version for version in results if results[version]]
    cases = [case for case in group.cases if any(case.name in results[version] for version in versions)]
    ratios = [one.ratio for version in versions for one in results[version].values()]
    low, high = min([0.5, *ratios]) * 0.9, max([2.0, *ratios]) * 1.15
    lane = len(versions) * LANE + 10
    height = TOP + lane * len(cases) + 40

    def x(ratio: float) -> float:
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def rows() -> Iterator[str]:
        for number, case in enumerate(cases):
            top = TOP + number * lane
            yield f'<g class="{"ours" if case.package == OURS else "other"}">'
            if case.goal is not None:
                start, end = (low, case.goal) if group.better == "less" else (case.goal, high)
                yield f'<rect class="goal" x="{x(start)}" y="{top}" width="{x(end) - x(start)}" height="{lane - 4}"/>'
            yield f'<text class="end" x="{LEFT - 12}" y="{top + lane / 2 - 2}">{escape(case.name)}</text>'
            for place, version in enumerate(versions):
                if case.name in results[version]:
                    yield _mark(results[version][case.name], version, top + 10 + place * LANE, x)
            yield "</g>"

    bottom = TOP + lane * len(cases)
    better = "less is better" if group.better == "less" else "more is better"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            f' role="img">',
            f"<title>{escape(group.title)}</title><style>{STYLE}</style>",
            f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
            f'<text x="{LEFT}" y="18">{escape(group.title.replace("``", ""))}</text>',
            f'<text class="middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 28}">'
            f"ratio to {escape(cases[0].name)}, {better}; green: the goal</text>",
            *(
                f'<line class="{"base" if tick == 1 else "grid"}" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP - 8}"'
                f' y2="{bottom}"/><text class="middle" x="{x(tick)}" y="{TOP - 16}">{tick:g}</text>'
                for tick in _ticks(low, high)
            ),
            *rows(),
            "</svg>\n",
        ]
    )


def _mark(measured: Measured, version: str, y: float, x: Scale) -> str:
    low, high = measured.spread
    words = f"{measured.name}, Python {version}: {measured.ratio:.2f} ({low:.2f} to {high:.2f})"
    middle = x(measured.ratio)
    return (
        f"<g><title>{escape(words)}</title>"
        f'<line class="span" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
        f'<rect class="mark" x="{middle - 14}" y="{y - 6}" width="28" height="12" rx="5"/>'
        f'<text class="in" x="{middle}" y="{y + 0.5}">{version}</text></g>'
    )


def _ticks(low: float, high: float) -> list[float]:
    steps = [factor * 10.0**power for power in range(-3, 5) for factor in (1, 2, 5)]
    inside = [tick for tick in steps if low <= tick <= high]
    return inside if len(inside) <= 10 else [tick for tick in inside if math.log10(tick).is_integer()]
