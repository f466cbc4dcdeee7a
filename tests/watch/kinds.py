"""Kinds of hang that are named correctly: ``python -m watch.kinds`` (with ``PYTHONPATH=src:tests``), and their table.

Each program of the folders `hangs` and `harmless` runs under watch with the Python that runs this, with the compiled
core (if it is compiled for this Python) and in Python alone. `test_hangs` has the required content of each report. The
results are kept in ``docs/watch/kinds.json``, and the table is made from the kept results. ``--table`` only makes the
table.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from list_table import list_table
from programs import this_python
from syncprims import compiled
from watch.test_hangs import HANGS, OPTIONS
from watch.watching import BEGINNING, END, HERE, QUICK, block_of, run

DOCS: Final = Path(__file__).parents[2] / "docs" / "watch"
FILE: Final = DOCS / "kinds.json"
FORMS: Final = {"compiled": {}, "pure": {"SYNCPRIMS_PURE": "1"}}
AT_ONCE: Final = 4
HARMLESS: Final = "harmless"

Kept = dict[str, dict[str, dict[str, bool]]]
"""For each Python and form, whether each program is named rightly."""


def is_named(program: str, env: dict[str, str]) -> bool:
    """Whether the report about a program that hangs has the right heading, and everything that it must say."""
    heading, said = HANGS[program]
    options = (*QUICK, *OPTIONS.get(program, ()))
    block = block_of("-m", "syncprims.watch", *options, str(HERE / "hangs" / program), env=env)
    return (
        block.startswith(f"{BEGINNING}{heading} in process ")
        and block.splitlines()[-1].startswith(END)
        and all(words in block for words in said)
    )


def is_left_alone(program: str, env: dict[str, str]) -> bool:
    """Whether a program that goes on ends as without the watch, and is not called a deadlock."""
    orders = ["--order"] if program == "one_order.py" else []
    options = (*QUICK, "--no-asleep", *orders)
    found = run("-m", "syncprims.watch", *options, str(HERE / HARMLESS / program), env=env)
    return found.returncode == 0 and f"{BEGINNING}DEADLOCK" not in found.stderr and "LOOP BLOCKED" not in found.stderr


def look_alikes() -> list[str]:
    """The programs that only look stuck."""
    return sorted(path.name for path in (HERE / HARMLESS).glob("*.py"))


def measure(form: str) -> dict[str, bool]:
    """Run all programs, some at a time."""
    env = FORMS[form]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        named = dict(zip(HANGS, pool.map(lambda each: is_named(each, env), HANGS), strict=True))
        alone = dict(zip(look_alikes(), pool.map(lambda each: is_left_alone(each, env), look_alikes()), strict=True))
    return named | alone


def table(kept: Kept) -> str:
    """Put the results into a table for the pages."""
    pythons = sorted(kept, key=lambda python: [int(number) for number in python.rstrip("t").split(".")])
    rows = [["program", "report", *pythons]]
    for program in (*HANGS, *look_alikes()):
        report = HANGS[program][0] if program in HANGS else "none"
        cells = [" / ".join(_cell(kept[python].get(form, {}).get(program)) for form in FORMS) for python in pythons]
        rows.append([_title(program), report, *cells])
    counts = [
        " / ".join(f"{sum(kept[python][form].values())}" if form in kept[python] else "-" for form in FORMS)
        for python in pythons
    ]
    return list_table([*rows, ["rightly, of " + str(len(rows) - 1), "", *counts]])


def _cell(right: bool | None) -> str:
    return "-" if right is None else "✓" if right else "✗"


def _title(program: str) -> str:
    """The first line of a program's docstring, without the heading and the full stop."""
    folder = HERE / ("hangs" if program in HANGS else HARMLESS)
    path = folder / program if program.endswith(".py") else folder / program / "__main__.py"
    title = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or program).partition("\n")[0].rstrip(".")
    return re.sub("^[A-Z ]+: ", "", title)


def main() -> None:
    """Run everything, keep the results, and make the table."""
    kept: Kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if sys.argv[1:] != ["--table"]:
        for form in FORMS:
            if form == "pure" or compiled:
                kept.setdefault(this_python(), {})[form] = found = measure(form)
                wrong = [program for program, right in found.items() if not right]
                sys.stdout.write(f"{this_python()} {form}: {sum(found.values())} of {len(found)}; wrong: {wrong}\n")
        FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (DOCS / "kinds.txt").write_text(table(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
