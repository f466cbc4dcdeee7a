"""Every program in examples/ runs, prints something and succeeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from programs import environment

EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
LIMIT = 50.0  # seconds


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_example_runs(program: Path, tmp_path: Path) -> None:
    """A program ends with exit code 0, in time, having printed something, and without a traceback or a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_there_are_examples() -> None:
    """The worked examples that the documentation speaks of are there."""
    names = {program.stem for program in PROGRAMS}
    assert names >= {"slow_holder_lock", "published_counter", "fizzbuzz_runner", "retrying_pool"}
