"""Plots: for each case a row, for each interpreter a mark, the middle half of its rounds a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape

from .figures import Figures
from .measuring import OURS, Group

STYLE = """
.page { fill: #fbfbf9; stroke: #d8d8d2 } .grid { stroke: #e3e3de } .base { stroke: #5f6b7a; stroke-width: 1.5 }
.goal { fill: #dff0e3 } .theirs { color: #98a4b3 } .ours { color: #2f7d46 } .ours > text { font-weight: 600 }
text { font: 12.5px system-ui, sans-serif; fill: #22272e; dominant-baseline: middle; text-anchor: middle }
.start { text-anchor: start } .end { text-anchor: end } .note { fill: #545d68 }
path { stroke: currentColor; stroke-width: 2 } .mark { fill: currentColor } .in { font-size: 9px; fill: #fff }
@media (prefers-color-scheme: dark) {
  .page { fill: #1b1f24; stroke: #3a424c } .grid { stroke: #323942 } .base { stroke: #98a4b3 } .goal { fill: #1d3a28 }
  text { fill: #e6e9ed } .note { fill: #a9b3be } .theirs { color: #6d7885 } .ours { color: #6cc58a }
  .in { fill: #16191d }
}
"""
Scale = Callable[[float], float]

WIDTH, LEFT, RIGHT, TOP, LANE = 760, 230, 30, 50, 15


def plot(group: Group, results: dict[str, dict[str, Figures]]) -> str:
    """Draw a group on a logarithmic scale, as an SVG that follows the reader's choice of light or dark."""
    cases = [case for case in group.cases if any(case.name in one for one in results.values())]
    ratios = [figures.ratio for one in results.values() for figures in one.values()]
    low, high = min([0.5, *ratios]) * 0.9, max([2.0, *ratios]) * 1.15
    lane = len(results) * LANE + 10
    bottom = TOP + lane * len(cases)
    height = bottom + 40

    def x(ratio: float) -> float:
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def rows() -> Iterator[str]:
        for number, case in enumerate(cases):
            top = TOP + number * lane
            yield f'<g class="{"ours" if case.package == OURS else "theirs"}">'
            if case.goal is not None:
                start, end = map(x, (low, case.goal) if group.better == "less" else (case.goal, high))
                yield f'<rect class="goal" x="{start:g}" y="{top}" width="{end - start:.5g}" height="{lane - 4}"/>'
            yield f'<text class="end" x="{LEFT - 12}" y="{top + lane / 2 - 2:g}">{escape(case.name)}</text>'
            for place, (python, one) in enumerate(results.items()):
                if case.name in one and case is not cases[0]:  # the baseline's are all at 1
                    yield _mark(one[case.name], python, top + 10 + place * LANE, x)
            yield "</g>"

    better = "less is better" if group.better == "less" else "more is better"
    title = escape(group.title.replace("``", ""))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            f' role="img">',
            f"<title>{title}</title><style>{STYLE}</style>",
            f"<defs>{''.join(map(_label, results))}</defs>",
            f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
            f'<text class="start" x="{LEFT}" y="18">{title}</text>',
            f'<text class="note" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{bottom + 28}">'
            f"ratio to {escape(cases[0].name)}, {better}; green: the goal</text>",
            *(
                f'<line class="{"base" if tick == 1 else "grid"}" x1="{x(tick):g}" x2="{x(tick):g}" y1="{TOP - 8}"'
                f' y2="{bottom}"/><text class="note" x="{x(tick):g}" y="{TOP - 16}">{tick:g}</text>'
                for tick in _ticks(low, high)
            ),
            *rows(),
            "</svg>\n",
        ]
    )


def _label(python: str) -> str:
    box = '<rect class="mark" x="-14" y="-6" width="28" height="12" rx="5"/>'
    return f'<g id="p{python}">{box}<text class="in" y=".5">{python}</text></g>'


def _mark(figures: Figures, python: str, y: int, x: Scale) -> str:
    low, middle, high = x(figures.low), x(figures.ratio), x(figures.high)
    return f'<path d="M{low:g} {y}H{high:g}"/><use href="#p{python}" x="{middle:g}" y="{y}"/>'


def _ticks(low: float, high: float) -> list[float]:
    steps = [factor * 10.0**power for power in range(-3, 5) for factor in (1, 2, 5)]
    inside = [tick for tick in steps if low <= tick <= high]
    return inside if len(inside) <= 10 else [tick for tick in inside if math.log10(tick).is_integer()]
