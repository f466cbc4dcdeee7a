"""Programs without sources, for example frozen ones: their code names its files without folders."""

from __future__ import annotations

import os
import py_compile
import threading
import zipfile
from pathlib import Path
from typing import Final

import pytest

import syncprims
from watch.watching import block_of

LIBRARY: Final = Path(threading.__file__).parent
STANDARD: Final = ("threading.py", "queue.py", "contextlib.py", "concurrent")
PROGRAM: Final = """
import sys
import syncprims.watch
syncprims.watch.install(after=0.3, asleep=0.9)
import threading, queue
from concurrent.futures import ThreadPoolExecutor

def two_accounts():
    first, second, meet = threading.Lock(), threading.Lock(), threading.Barrier(2)
    def transfer(one, other):
        with one:
            meet.wait(30.0)
            with other:
                pass
    for locks in ((first, second), (second, first)):
        threading.Thread(target=transfer, args=locks).start()

def own_pool():
    pool = ThreadPoolExecutor(1)
    pool.submit(lambda: pool.submit(int).result()).result()

def no_item():
    queue.Queue().get()

globals()[sys.argv[1]]()
"""


def compile_tree(folder: Path) -> None:
    """Put the library, its parts of the standard one, and the program into a folder, as bytecode alone."""
    ours = Path(syncprims.__file__).parent
    files = [(file, file.relative_to(ours.parent)) for file in ours.rglob("*.py")]
    for each in STANDARD:
        found = [LIBRARY / each] if each.endswith(".py") else (LIBRARY / each).rglob("*.py")
        files += [(file, file.relative_to(LIBRARY)) for file in found]
    program = folder / "main.py"
    program.write_text(PROGRAM)
    files.append((program, Path("main.py")))
    for file, name in files:
        py_compile.compile(os.fspath(file), cfile=os.fspath(folder / f"{name}c"), dfile=name.as_posix(), doraise=True)
    program.unlink()


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that tree."""
    folder = tmp_path_factory.mktemp("frozen")
    compile_tree(folder)
    return folder


REPORTS: Final = {
    "two_accounts": (
        "DEADLOCK",
        "2 threads wait for each other, and can never go on:",
        "main.py:13 in transfer",
    ),
    "own_pool": (
        "LIKELY DEADLOCK",
        "1 thread waits for itself, and can never go on; unless the pool gets another worker:",
        "main.py:20 in <lambda>",
    ),
    "no_item": (
        "ALL ASLEEP",
        "the only thread waits without a limit, so that no other can wake it; "
        "only a signal or code in C could wake one:",
        "main.py:23 in no_item",
    ),
}


@pytest.mark.parametrize(("hang", "way"), [*((hang, "folder") for hang in REPORTS), ("two_accounts", "zip")])
def test_its_reports_are_as_exact(frozen: Path, tmp_path: Path, hang: str, way: str) -> None:
    """The heading is the same as with sources, the reason is true, and no frame is the library's."""
    place = frozen
    if way == "zip":
        place = tmp_path / "frozen.zip"
        with zipfile.ZipFile(place, "w") as packed:
            for file in frozen.rglob("*.pyc"):
                packed.write(file, file.relative_to(frozen))
    report = block_of("-c", f"import sys; sys.argv[1:] = [{hang!r}]; import main", env={"PYTHONPATH": os.fspath(place)})
    first, summary, *rest = report.splitlines()
    heading, says, line = REPORTS[hang]
    assert first.startswith(f"==== syncprims.watch: {heading} in process")
    assert summary == says
    assert any(each.strip() == line for each in rest)
    shown = {each.strip().partition(":")[0] for each in rest if " in " in each and each.startswith("      ")}
    assert shown <= {"<string>", "main.py", "queue.py"}
    assert "which has ended" not in report
