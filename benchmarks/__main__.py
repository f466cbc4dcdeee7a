"""``python -m benchmarks``: measure with this interpreter, keep the raw numbers, and draw all that have been kept."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from . import machine
from .measuring import Measured, groups, measure, python
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
        kept = options.into / f"{python()}.json"
        found = json.loads(kept.read_text())["groups"] if kept.exists() and options.only else {}
        for group in groups(options.only):
            print(f"{group.title} ({group.key})")
            results = measure(group, options.rounds, report=lambda line: print(f"  {line}"))
            for measured in results:
                print(f"  {_line(measured)}")
            found[group.key] = [asdict(measured) for measured in results]
        kept.write_text(json.dumps({"machine": machine.describe(), "groups": found}))
    for path in draw(options.into):
        print(path)
    return 0


def _line(measured: Measured) -> str:
    low, high = measured.spread
    goal = "" if measured.goal is None else f"  (goal {measured.goal:g})"
    return f"{measured.ratio:8.2f}  [{low:.2f} to {high:.2f}]  {measured.name}{goal}"


if __name__ == "__main__":
    sys.exit(main())
