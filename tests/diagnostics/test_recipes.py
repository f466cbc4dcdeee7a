"""The recipes of the documentation, tried."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from locks.actors import LIMIT
from syncprims.diagnostics import check_lock_order

EXAMPLE = Path(__file__).parents[2] / "examples" / "slow_program.py"
GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "find-a-hang.rst"

SUITE = """
import threading
from syncprims import TimedLock

a, b = TimedLock(), TimedLock()


def test_one_order():
    with a, b:
        pass


def test_the_other_order_in_a_thread():
    def swap():
        try:
            with b, a:
                pass
        except RuntimeError:
            pass

    thread = threading.Thread(target=swap)
    thread.start()
    thread.join(10)
"""


@pytest.mark.parametrize("inverts", [False, True])
def test_the_recipe_for_pytest_checks_a_whole_suite(tmp_path: Path, inverts: bool) -> None:
    """With the fixture of the docstring, a suite fails if some thread inverts an order, and passes otherwise."""
    docstring = inspect.getdoc(check_lock_order) or ""
    recipe = docstring[docstring.index("    @pytest.fixture") : docstring.index("Args:")]
    tmp_path.joinpath("conftest.py").write_text(
        "import pytest\nimport syncprims.diagnostics\n\n" + textwrap.dedent(recipe), encoding="utf-8"
    )
    suite = SUITE if inverts else SUITE.replace("with b, a:", "with a, b:")
    tmp_path.joinpath("test_suite.py").write_text(suite, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT * 2, cwd=tmp_path, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == (1 if inverts else 0)
    assert ("LockOrderError" in done.stdout) == inverts


def test_the_example_shows_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The slow program waits for its coarse lock far longer than for its fine one, and saves all four files."""
    program = runpy.run_path(str(EXAMPLE))
    waits = {}
    for name in ("coarse", "fine"):
        _, recording = program["run"](program[f"book_{name}ly"])
        waits[name] = sum(span.seconds for span in recording.spans if span.kind == "wait")
    assert waits["coarse"] > 10 * waits["fine"]
    program["main"](tmp_path)
    assert "book_coarsely" in capsys.readouterr().out
    files = ["coarse.html", "coarse.json", "fine.html", "fine.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.skipif(not GUIDE.is_file(), reason="the pages are not there: only the tests were copied")
def test_the_report_in_the_guide_is_that_of_its_program(tmp_path: Path) -> None:
    """Only numbers, the time and the interpreter differ."""
    blocks = re.findall(
        r"^\.\. code-block:: (?:python\n   :caption: shop\.py|text)\n\n((?:   .*\n|\n)+)",
        GUIDE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    program, shown = (textwrap.dedent(block) for block in blocks)
    tmp_path.joinpath("shop.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "shop.py"], capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path, check=True
    )

    def alike(text: str) -> str:
        return re.sub(r"ident \d+|process \d+|\d+\.\d s|; \d{4}-.*", "", text.replace(f"{tmp_path}/", "/srv/")).strip()

    assert alike(done.stdout) == alike(shown) + "\nshipped"
