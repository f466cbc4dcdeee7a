"""The reports that the pages show: ``python -m watch.outputs`` (with ``PYTHONPATH=src:tests``) writes them again."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from watch.watching import QUICK, run, watch

FOLDER: Final = Path(__file__).parents[2] / "docs" / "watch"
# The programs whose reports are shown, each with its options.
SHOWN: Final = {
    "two_accounts.py": (),
    "join_while_holding.py": (),
    "signal_handler.py": (),
    "own_pool.py": (),
    "queue_not_joined.py": (),
    "both_orders.py": ("--order",),
    "slow_wait.py": ("--slow", "0.4"),
    "tasks_in_both_orders.py": (),
    "loop_blocked.py": (),
    "task_holds_lock.py": (),
}


def report_of(program: str) -> str:
    """Return the report about a program, without the parts that differ from run to run."""
    return as_shown(watch(f"hangs/{program}", options=(*QUICK, *SHOWN[program])))


def as_shown(block: str) -> str:
    """Return a report without the parts that differ from run to run."""
    block = re.sub(r"process \d+; .*, CPython \S+.*", "process 4711; 2026-11-02 09:30:00 +0000, CPython 3.13.0", block)
    block = re.sub(r"waited \d+\.\d s", "waited 5.1 s" if "SLOW" in block else "waited 1.0 s", block)
    block = re.sub(r"for more than 0\.4 s", "for more than 5 s", block)
    return re.sub(r"(?m)^( +)/\S*/", r"\1", block)


def recording() -> str:
    """Return the report at the end of a recording, without the parts that differ from run to run."""
    with TemporaryDirectory() as folder:
        trace = str(Path(folder) / "trace.html")
        program = str(Path(__file__).parent / "recorded" / "market.py")
        block = run("-m", "syncprims.watch", "--record", trace, program).stderr
    block = re.sub(r"process \d+; .*, CPython \S+.*", "process 4711; 2026-11-02 09:30:00 +0000, CPython 3.13.0", block)
    return block.replace(trace, "trace.html")


def main() -> None:
    """Write all of them."""
    (FOLDER / "recorded.txt").write_text(recording(), encoding="utf-8")
    for program in SHOWN:
        (FOLDER / program).with_suffix(".txt").write_text(report_of(program), encoding="utf-8")


if __name__ == "__main__":
    main()
