"""Every program in examples/ runs and succeeds, and prints what its page in the documentation shows.

``PYTHONPATH=src:tests python tests/test_examples.py NAME...`` keeps the output of these programs, or of all, for that.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from programs import environment

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))
PAGES = ROOT / "docs" / "examples"
LIMIT = 50.0  # seconds
FILES = {  # a folder for a program that reads one: its output must not depend on this checkout
    "checksums": {"seasons/spring.txt": "rain\n", "seasons/summer.txt": "sun\n", "seasons/late/autumn.txt": "fog\n"}
}
NEEDS = re.compile(r"needs|skipped: needs")  # the output of a program without a server, or without all that it needs


def run(program: Path, folder: Path) -> tuple[str, str]:
    """Run a program in a folder, on its own files if it reads some; return its output and its error output."""
    files = FILES.get(program.stem, {})
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *sorted({Path(name).parts[0] for name in files})],
        env={"SYNCPRIMS_TEST_DELAY_FACTOR": "5", **environment()},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.replace(f"{ROOT}/", "").replace(sys.base_prefix, "/usr"), done.stderr


def form(output: str) -> list[str]:
    """Return the lines without the parts that differ: order, numbers, units, checksums, widths of columns."""
    output = re.sub(r"\b[0-9a-f]{64}\b", "#", output)
    output = re.sub(r"\b(python3\.\d+)t\b", r"\1", output)  # a folder of the free-threaded build
    return sorted(
        re.sub(r"[-#\s]+", " ", re.sub(r"\d[\d.,]*( ?[µmn]?s\b)?", "#", line)) for line in output.splitlines()
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_example_runs(program: Path, tmp_path: Path) -> None:
    """A program ends with exit code 0, in time, without a traceback or a warning; its page shows its output."""
    printed, complained = run(program, tmp_path)
    assert printed.strip()
    assert "Traceback" not in complained
    assert "Warning" not in complained
    if PAGES.is_dir() and not NEEDS.match(printed):
        shown = PAGES / f"{program.stem}.txt"
        assert form(printed) == form(shown.read_text(encoding="utf-8")), (
            f"keep it by: python tests/test_examples.py {program.stem}"
        )


@pytest.mark.skipif(not PAGES.is_dir(), reason="the pages are not there: only the tests were copied")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_each_example_has_its_page(program: Path) -> None:
    """It shows the whole program, and its output."""
    page = (PAGES / f"{program.stem}.rst").read_text(encoding="utf-8")
    assert f"literalinclude:: ../../examples/{program.name}\n" in page
    assert f"literalinclude:: {program.stem}.txt\n" in page
    assert not NEEDS.match((PAGES / f"{program.stem}.txt").read_text(encoding="utf-8")), "it ran without its server"


def test_there_are_examples() -> None:
    """The worked examples that the documentation mentions exist."""
    names = {program.stem for program in PROGRAMS}
    assert names >= {"slow_holder_lock", "published_counter", "fizzbuzz_runner", "retrying_pool"}


def keep(*names: str) -> None:
    """Keep the output of these programs for their pages, or of all."""
    for program in PROGRAMS:
        if not names or program.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                printed, _ = run(program, Path(folder))
            if NEEDS.match(printed):
                print(f"{program.stem}: {printed.strip()}; nothing kept", file=sys.stderr)
            else:
                (PAGES / f"{program.stem}.txt").write_text(printed, encoding="utf-8")


if __name__ == "__main__":
    keep(*sys.argv[1:])
