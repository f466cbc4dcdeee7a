"""``python -m benchmarks``: measure with this interpreter, keep the figures, and draw all that have been kept."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import figures, machine
from .figures import Figures
from .groups import GROUPS
from .measuring import Measured, measure, python
from .pages import draw

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"


def main() -> int:
    """Measure and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="rounds of each group (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="WORD", help="measure only groups whose key has this word in it")
    parser.add_argument("--into", type=Path, default=DOCS, metavar="DIR", help="where results are kept and drawn")
    parser.add_argument("--draw", action="store_true", help="draw what is kept already; measure nothing")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    if not options.draw:
        raw: list[tuple[str, Measured]] = []
        found: list[Figures] = []
        for group in GROUPS:
            if options.only in group.key:
                print(f"{group.title} ({group.key})")
                measured = measure(group, options.rounds, report=lambda line: print(f"  {line}"))
                goals = {case.name: case.goal for case in group.cases}
                raw += [(group.key, one) for one in measured]
                for one in measured:
                    found.append(figures.of(python(), group.key, one))
                    print(f"  {_line(found[-1], goals[one.name])}")
        figures.keep(options.into, found)
        figures.keep_raw(options.into / "raw" / f"{python()}.csv", raw)
        machine.keep(options.into, python())
    for path in draw(options.into):
        print(path)
    return 0


def _line(figures: Figures, goal: float | None) -> str:
    aim = "" if goal is None else f"  (goal {goal:g})"
    return f"{figures.ratio:8.2f}  [{figures.low:.2f} to {figures.high:.2f}]  {figures.case}{aim}"


if __name__ == "__main__":
    if os.environ.get("SYNCPRIMS_PURE") != "1":
        # All groups except those of `forms` measure Python alone, even if the core is compiled.
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, "SYNCPRIMS_PURE": "1"}
        )
    sys.exit(main())
