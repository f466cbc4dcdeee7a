"""Suites of others under watch: ``python -m watch.suites FOLDER`` (with ``PYTHONPATH=src:tests``), and a table of them.

Each suite runs twice with the Python that runs this, without the watch and under it. What counts are reports, of which
there should be none, and tests that end otherwise than without the watch. The standard library's suites need a Python
that ships its tests. Those of packages are unpacked from their source archives, which ``pip download --no-deps
--no-binary :all: PACKAGE`` has put into FOLDER; the packages themselves, and what their tests need, must be installed.
The results go to ``docs/watch/suites-VERSION.json``, and from all of these the table is made.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from watch.watching import BEGINNING, variables

DOCS: Final = Path(__file__).parents[2] / "docs" / "watch"
LIMIT: Final = 900.0
STANDARD: Final = (
    "test_thread",
    "test_queue",
    "test_sched",
    "test_logging",
    "test_threading",
    *(
        ["test_concurrent_futures"]
        if sys.version_info < (3, 12)
        else [f"test_concurrent_futures.test_{part}" for part in ("thread_pool", "future", "wait", "as_completed")]
    ),
)
# Of each package the arguments of pytest, in the folder of its source archive.
PACKAGES: Final = {
    "cheroot": ["cheroot/test", "-k", "not ssl and not tls"],
    "waitress": ["tests"],
    "diskcache": ["tests/test_core.py", "tests/test_fanout.py", "tests/test_recipes.py"],
    "prometheus_client": ["tests"],
    "watchdog": ["tests"],
    "cachetools": ["tests"],
    "apscheduler": ["tests"],
}
TAGS: Final = ("failure", "error", "skipped")
PYTEST: Final = ("-q", "-p", "no:asyncio", "-o", "addopts=", "--continue-on-collection-errors")
WATCH: Final = ("-m", "syncprims.watch", "--after", "1", "--asleep", "5")


def run(arguments: Sequence[str], folder: Path, reports: Path | None) -> tuple[str, float]:
    """Run Python in a folder, under watch if there is a file for reports; return what it printed, and the seconds."""
    watch = [] if reports is None else [*WATCH, "--file", str(reports)]
    begun = time.monotonic()
    try:
        found = subprocess.run(
            [sys.executable, *watch, *arguments],
            cwd=folder,
            env=variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired:
        found = ""
    return found, time.monotonic() - begun


def of_unittest(printed: str) -> dict[str, str]:
    """The outcome of each test that ``unittest -v`` printed, and how many ran."""
    found = dict.fromkeys(re.findall(r"(?m)^(\w+ \([\w.]+\))", printed), "ok")
    found |= {test: kind for kind, test in re.findall(r"(?m)^(FAIL|ERROR): (\w+ \([\w.]+\))", printed)}
    ran = re.search(r"(?m)^Ran (\d+) tests", printed)
    return {**found, "": ran[1] if ran else "0"}


def of_pytest(file: Path) -> dict[str, str]:
    """The outcome of each test in a file of pytest's."""
    if not file.exists():
        return {}
    return {
        f"{case.get('classname')}.{case.get('name')}": next(
            (part.tag for part in case if part.tag != "system-out"), "ok"
        )
        for case in ElementTree.parse(file).iter("testcase")
    }


def compare(name: str, folder: Path, arguments: Sequence[str], *, is_pytest: bool) -> dict[str, Any]:
    """Run one suite twice."""
    outcomes, seconds = [], []
    for reports in (None, folder / f"{name}.reports"):
        file = folder / f"{name}.xml"
        file.unlink(missing_ok=True)
        if reports is not None:
            reports.unlink(missing_ok=True)
        more = [f"--junitxml={file}"] if is_pytest else []
        printed, took = run([*arguments, *more], folder, reports)
        outcomes.append(of_pytest(file) if is_pytest else of_unittest(printed))
        seconds.append(round(took, 1))
    bare, watched = outcomes
    told = (folder / f"{name}.reports").read_text(errors="replace") if (folder / f"{name}.reports").exists() else ""
    changed = sorted(test for test in bare if watched.get(test, "missing") != bare[test])
    row = {
        "suite": name,
        "tests": int(bare.get("", len(bare))),
        "reports": told.count(BEGINNING),
        "changed": changed,
        "seconds": seconds,
    }
    print(json.dumps(row), flush=True)
    return row


def version() -> str:
    """The Python that runs this, as in ``3.13t``."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}{'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''}"


def table() -> str:
    """Put the results of all Pythons into a table for the pages."""
    found = {
        file.stem.partition("-")[2]: {row["suite"]: row for row in json.loads(file.read_text())}
        for file in sorted(DOCS.glob("suites-*.json"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])
    }
    lines = [".. list-table::", "   :header-rows: 1", ""]
    names = dict.fromkeys(name for rows in found.values() for name in rows)
    for cells in [
        ["suite", *found],
        *([f"``{name}``", *(_cell(rows.get(name)) for rows in found.values())] for name in names),
    ]:
        lines += [f"   {'* -' if column == 0 else '  -'} {cell}" for column, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{row['tests']}; {row['reports']}, {len(row['changed'])}"


def main() -> None:
    """Run everything that is there, and write the results."""
    folder = Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:]
    rows = []
    for name in STANDARD:
        if not wanted or name in wanted:
            rows.append(compare(name, folder, ["-m", "unittest", "-v", f"test.{name}"], is_pytest=False))
    for name, arguments in PACKAGES.items():
        archive = next(iter(folder.glob(f"{name}-*.tar.gz")), None)
        if archive is not None and (not wanted or name in wanted):
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            place = next(path for path in folder.glob(f"{name}-*") if path.is_dir())
            rows.append(compare(name, place, ["-m", "pytest", *PYTEST, *arguments], is_pytest=True))
    file = DOCS / f"suites-{version()}.json"
    kept = {row["suite"]: row for row in (json.loads(file.read_text()) if file.exists() else [])}
    kept |= {row["suite"]: row for row in rows}
    file.write_text(json.dumps(list(kept.values()), indent=1) + "\n", encoding="utf-8")
    (DOCS / "suites.txt").write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main()
