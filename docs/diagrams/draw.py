"""Draws the diagrams beside this file: ``python docs/diagrams/draw.py``.

Each brings its own background and follows the reader's choice of light or dark, so that it can be read on any page.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
STYLE = """
  .page { fill: #fbfbf9; stroke: #d8d8d2 }
  .box { fill: #ffffff; stroke: #5f6b7a; stroke-width: 1.5 }
  .on { fill: #dff0e3; stroke: #2f7d46; stroke-width: 2 }
  .bad { fill: #fbe3df; stroke: #b23b2a; stroke-width: 2 }
  .line { fill: none; stroke: #5f6b7a; stroke-width: 1.6 }
  .line.wait { stroke: #b56a00; stroke-dasharray: 6 4 }
  .line.bad { fill: none; stroke: #b23b2a; stroke-width: 2.2; stroke-dasharray: 6 4 }
  .head { fill: #5f6b7a } .head.wait { fill: #b56a00 } .head.bad { fill: #b23b2a }
  text { font: 14px system-ui, sans-serif; fill: #22272e; text-anchor: middle; dominant-baseline: middle }
  text.note { font-size: 12.5px; fill: #545d68 } text.left { text-anchor: start } text.strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1b1f24; stroke: #3a424c }
    .box { fill: #262c33; stroke: #98a4b3 }
    .on { fill: #1d3a28; stroke: #6cc58a }
    .bad { fill: #45201b; stroke: #f08a7b }
    .line { stroke: #98a4b3 } .line.wait { stroke: #e0a040 } .line.bad { stroke: #f08a7b }
    .head { fill: #98a4b3 } .head.wait { fill: #e0a040 } .head.bad { fill: #f08a7b }
    text { fill: #e6e9ed } text.note { fill: #a9b3be }
  }
"""


class Drawing:
    """Boxes, words and arrows on a card of a given size."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>\n'
        )
        self._parts: list[str] = []

    def box(self, x: float, y: float, width: float, *lines: str, kind: str = "box", round_by: int = 8) -> None:
        """A box around its middle, as high as its lines need; the first line is its name."""
        height = 24 + 18 * len(lines)
        self._parts.append(
            f'<rect class="{kind}" x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}"'
            f' rx="{round_by}"/>'
        )
        top = y - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.text(x, top + 18 * number, line, "note" if number else "strong")

    def text(self, x: float, y: float, words: str, kind: str = "note") -> None:
        """Words around a point, or from it on if the kind is "left"."""
        self._parts.append(f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>')

    def arrow(self, *points: tuple[float, float], kind: str = "", bend: float = 0.0) -> None:
        """A line along the points with a head at its end; two points may be joined by a bent line."""
        (x0, y0), (x1, y1) = points[-2:]
        if bend:
            middle = ((x0 + x1) / 2 - bend * (y1 - y0), (y0 + y1) / 2 + bend * (x1 - x0))
            path = f"M{x0} {y0} Q{middle[0]:.1f} {middle[1]:.1f} {x1} {y1}"
            angle = math.atan2(y1 - middle[1], x1 - middle[0])
        else:
            path = "M" + " L".join(f"{x} {y}" for x, y in points)
            angle = math.atan2(y1 - y0, x1 - x0)
        wings = [
            f"{x1 - 11 * math.cos(angle + side):.1f},{y1 - 11 * math.sin(angle + side):.1f}" for side in (0.4, -0.4)
        ]
        self._parts.append(f'<path class="line {kind}" d="{path}"/>')
        self._parts.append(f'<polygon class="head {kind}" points="{x1},{y1} {" ".join(wings)}"/>')

    def __str__(self) -> str:
        return self._head + "\n".join(self._parts) + "\n</svg>\n"


def gates() -> Drawing:
    """The chain of gates."""
    drawing = Drawing(720, 300, "The chain of gates: each step opens the gate of the next, the last that of the first")
    for number, (step, state) in enumerate([("load", "shut"), ("check", "open"), ("store", "shut")]):
        x = 130 + 230 * number
        is_open = state == "open"
        drawing.box(x, 110, 150, f"gate of {step!r}", state, kind="on" if is_open else "box")
        drawing.box(x, 205, 150, f"step {step!r}", "its turn" if is_open else "waits", round_by=22)
        drawing.arrow((x, 141), (x, 174), kind="" if is_open else "wait")
        if number < 2:
            drawing.arrow((x + 76, 205), (x + 115, 205), (x + 115, 110), (x + 153, 110))
    drawing.arrow((666, 205), (696, 205), (696, 45), (130, 45), (130, 78))
    drawing.text(413, 32, "the last opens the first again: the next round")
    drawing.text(
        360, 262, "solid: “when done, opens” or “may enter”; dashed: “waits here”. One gate is open at a time,"
    )
    drawing.text(360, 278, "or none, and then one thread is in a step.")
    return drawing


def deadlock() -> Drawing:
    """The wait-for graph of a deadlock."""
    drawing = Drawing(720, 330, "A cycle of two threads and two locks; the wait that would complete it is refused")
    drawing.box(140, 150, 170, "Thread 'billing'", "waits already", round_by=22)
    drawing.box(580, 150, 170, "Thread 'audit'", "about to wait", round_by=22, kind="bad")
    drawing.box(360, 60, 150, "lock 'accounts'")
    drawing.box(360, 240, 150, "lock 'orders'")
    drawing.arrow((284, 60), (140, 118), bend=0.14)
    drawing.text(170, 62, "held by")
    drawing.arrow((140, 182), (283, 240), kind="wait", bend=0.14)
    drawing.text(162, 240, "waits for")
    drawing.arrow((436, 240), (580, 182), bend=0.14)
    drawing.text(560, 240, "held by")
    drawing.arrow((580, 118), (437, 60), kind="bad", bend=0.14)
    drawing.text(568, 62, "would wait for")
    drawing.text(360, 150, "the last arrow completes the cycle")
    drawing.text(
        360, 297, "The thread that draws the last arrow finds the cycle, and gets the DeadlockError instead of waiting."
    )
    drawing.text(360, 314, "It releases 'orders', and 'billing' goes on.")
    return drawing


def task() -> Drawing:
    """The path of a task through the pool."""
    drawing = Drawing(800, 410, "A task's path: submitted, queued, run by a worker, settled once, told, and out")
    drawing.box(110, 70, 150, "submit", "your thread", round_by=22)
    drawing.box(330, 70, 150, "open tasks", "pickled if need be")
    drawing.box(590, 70, 190, "worker", "thread, process, yours", round_by=22)
    drawing.arrow((186, 70), (253, 70))
    drawing.arrow((406, 70), (493, 70))
    drawing.box(590, 215, 230, "settled", "the first wins; result() returns", kind="on")
    drawing.arrow((590, 102), (590, 181))
    drawing.text(600, 142, "result or exception", "note left")
    drawing.box(280, 215, 210, "timeout, cancel, abort,", "death of the worker", kind="bad")
    drawing.arrow((386, 215), (473, 215), kind="wait")
    drawing.box(590, 345, 190, "callback", "dispatcher thread", round_by=22)
    drawing.arrow((590, 247), (590, 312))
    drawing.text(600, 279, "one at a time, in order", "note left")
    drawing.box(300, 345, 210, "out of the open tasks", "join() may return")
    drawing.arrow((493, 345), (407, 345))
    drawing.arrow((686, 345), (768, 345), (768, 26), (330, 26), (330, 37), kind="wait")
    drawing.text(530, 15, "a callback may submit")
    return drawing


DRAWINGS = {"gates": gates, "deadlock": deadlock, "task": task}


def main() -> None:
    """Write them all."""
    for name, draw in DRAWINGS.items():
        (HERE / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
