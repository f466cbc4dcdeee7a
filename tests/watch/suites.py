"""Suites of others under watch: ``python -m watch.suites FOLDER`` (with ``PYTHONPATH=src:tests``), and a table of them.

Each suite runs twice with the Python that runs this, without the watch and under it. What counts are reports, of which
there should be none, and tests that end otherwise than without the watch. The standard library's suites need a Python
that ships its tests, or a folder ``standard/test`` in FOLDER with these. Those of packages are unpacked from their
source archives, which ``pip download --no-deps --no-binary :all: PACKAGE`` has put into FOLDER; the packages
themselves, and what their tests need, must be installed. The results go to ``docs/watch/suites-VERSION.json``, and from
all of these the table is made. The names of suites after FOLDER run those only; ``--costs`` before them runs each six
times, with the watch and without in turn, and notes the least CPU time of each in ``docs/watch/costs-VERSION.json``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from watch.watching import BEGINNING, variables

DOCS: Final = Path(__file__).parents[2] / "docs" / "watch"
LIMIT: Final = 900.0
ROUNDS: Final = 3
STANDARD: Final = (
    "test_thread",
    "test_queue",
    "test_sched",
    "test_logging",
    "test_threading",
    *(
        ["test_concurrent_futures"]
        if sys.version_info < (3, 12)
        else [
            f"test_concurrent_futures.test_{part}"
            for part in (
                "thread_pool",
                "process_pool",
                "future",
                "wait",
                "as_completed",
                "init",
                "shutdown",
                "deadlock",
            )
        ]
    ),
    *(
        f"test_asyncio.test_{part}"
        for part in (
            "locks",
            "tasks",
            "queues",
            "base_events",
            "futures",
            "taskgroups",
            "timeouts",
            "runners",
            "waitfor",
        )
    ),
)
# Of each package the arguments of pytest, in the folder of its source archive.
PACKAGES: Final = {
    "cheroot": ["cheroot/test", "-k", "not ssl and not tls"],
    "waitress": ["tests"],
    "diskcache": ["tests/test_core.py", "tests/test_fanout.py", "tests/test_recipes.py"],
    # Left out: it fails now and then without the watch, too.
    "prometheus_client": ["tests", "-k", "not mtls_untrusted"],
    "watchdog": ["tests"],
    "cachetools": ["tests"],
    "apscheduler": ["tests"],
    "sqlalchemy": ["test/engine/test_pool.py", "test/base/test_concurrency.py"],
    "paho_mqtt": ["tests", "--ignore=tests/lib"],
    "urllib3": ["test/test_connectionpool.py", "test/test_poolmanager.py", "test/test_collections.py"],
}
# What hangs without the watch: the Python, the suite, and the test.
LEFT_OUT: Final = {("3.13t", "test_threading"): "test_3_join_in_forked_from_thread"}
PYTEST: Final = ("-q", "-p", "no:asyncio", "-o", "addopts=", "--continue-on-collection-errors")
WATCH: Final = ("-m", "syncprims.watch", "--after", "1", "--asleep", "5")


class CutOffError(Exception):
    """A suite did not come to its end."""


def run(arguments: Sequence[str], folder: Path, reports: Path | None) -> tuple[str, float]:
    """Run Python in a folder, under watch if there is a file for reports; return what it printed, and the CPU seconds.

    It prints to a file: a process that a test leaves behind would keep a pipe open.
    """
    watch = [] if reports is None else [*WATCH, "--file", str(reports)]
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        process = subprocess.Popen(
            [sys.executable, *watch, *arguments],
            cwd=folder,
            env=variables(),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            timer.cancel()
        printed.seek(0)
        text = printed.read()
    if process.returncode == -signal.SIGKILL:
        raise CutOffError(f"{arguments} did not end; its last words: {text[-2000:]}")
    return text, used.ru_utime + used.ru_stime


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
    reports = folder / f"{name}-{version()}.reports"
    reports.unlink(missing_ok=True)
    file = folder / f"{name}-{version()}.xml"
    more = [f"--junitxml={file}"] if is_pytest else []
    for watched in (False, True):
        file.unlink(missing_ok=True)
        printed, took = run([*arguments, *more], folder, reports if watched else None)
        outcomes.append(of_pytest(file) if is_pytest else of_unittest(printed))
        if not int(outcomes[-1].get("", len(outcomes[-1]))):
            raise CutOffError(f"{name} has run no test: {printed[-2000:]}")
        seconds.append(round(took, 1))
    bare, under = outcomes
    told = reports.read_text(errors="replace") if reports.exists() else ""
    row = {
        "suite": name,
        "tests": int(bare.get("", len(bare))),
        "reports": told.count(BEGINNING),
        "changed": sorted(test for test in {*bare, *under} if under.get(test) != bare.get(test)),
        "cpu": seconds,
    }
    print(json.dumps(row), flush=True)
    return row


def costs(name: str, folder: Path, arguments: Sequence[str], *, is_pytest: bool) -> dict[str, Any]:
    """Run one suite several times, with the watch and without in turn; return the least CPU time of each."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for watched in (False, True):
            reports = folder / f"{name}.reports" if watched else None
            _, took = run(arguments, folder, reports)
            best[watched] = min(best[watched], took)
    row = {"suite": name, "cpu": [round(each, 2) for each in best], "ratio": round(best[1] / best[0], 2)}
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


def standard_folder(folder: Path) -> Path:
    """The folder in which the standard library's tests are run."""
    place = folder / "standard"
    return place if place.is_dir() else folder


def arguments_of(name: str) -> list[str]:
    """How a suite of the standard library is run."""
    left_out = LEFT_OUT.get((version(), name))
    if left_out is not None:
        return ["-m", "test", "-v", "--ignore", left_out, name]
    return ["-m", "unittest", "-v", f"test.{name}"]


def main() -> None:
    """Run everything that is there, and write the results."""
    # A shell ignores this signal for what it starts in the background, and then test_threading would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1]).resolve()
    wanted = [argument for argument in sys.argv[2:] if argument != "--costs"]
    measure = costs if "--costs" in sys.argv else compare
    rows = []
    for name in STANDARD:
        if not wanted or name in wanted:
            rows.append(measure(name, standard_folder(folder), arguments_of(name), is_pytest=False))
    for name, arguments in PACKAGES.items():
        archive = next(iter(folder.glob(f"{name}-*.tar.gz")), None)
        if archive is not None and (not wanted or name in wanted):
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            place = next(path for path in folder.glob(f"{name}-*") if path.is_dir())
            rows.append(measure(name, place, ["-m", "pytest", *PYTEST, *arguments], is_pytest=True))
    file = DOCS / f"{'costs' if measure is costs else 'suites'}-{version()}.json"
    kept = {row["suite"]: row for row in (json.loads(file.read_text()) if file.exists() else [])}
    kept |= {row["suite"]: row for row in rows}
    file.write_text(json.dumps(list(kept.values()), indent=1) + "\n", encoding="utf-8")
    if measure is compare:
        (DOCS / "suites.txt").write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main()
