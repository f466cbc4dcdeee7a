"""Suites of others under watch: ``python -m watch.suites FOLDER`` (with ``PYTHONPATH=src:tests``), and their tables.

Each suite runs with the Python that runs this: without the watch, under the watch with its compiled core (if it is
compiled for this Python), and under the watch in Python alone. The results are reports, of which there should be none,
and tests that end otherwise than without the watch. If there are any, the suite runs ten times more without the watch,
each time with garbage collections at other moments. A test that ends otherwise in one of these runs, too, is unsteady
by itself; it is noted as such, with the number of its outcomes. The number of passed tests is noted for each of the
first runs. A suite that mostly fails without the watch is refused, because it would prove nothing.

The standard library's suites need a Python that ships its tests, or a folder ``standard/test`` in FOLDER with them. The
suites of packages are unpacked from their source archives, which ``pip download --no-deps --no-binary :all: PACKAGE``
has put into FOLDER; the packages themselves, and everything that their tests need, must be installed. The results go to
``docs/watch/suites-VERSION.json``, and the tables are made from all of these files. Names of suites after FOLDER run
only those. ``--costs`` before them runs each several times, in turn with the watch and without, and notes the least
time of each in ``docs/watch/suite-costs-VERSION.json``. ``--tables`` only makes the tables again.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

from list_table import list_table
from programs import this_python
from syncprims import compiled
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
# The arguments of pytest for each package, in the folder of its source archive.
PACKAGES: Final = {
    "cheroot": ["cheroot/test", "-k", "not ssl and not tls"],
    "waitress": ["tests"],
    "diskcache": ["tests/test_core.py", "tests/test_fanout.py", "tests/test_recipes.py"],
    # Left out: it fails now and then without the watch, too.
    "prometheus_client": ["tests", "-k", "not mtls_untrusted"],
    "watchdog": ["tests"],
    "cachetools": ["tests"],
    # Left out: most stores of jobs need a server.
    "apscheduler": ["tests", "--ignore=tests/test_jobstores.py"],
    # Left out: tests that depend on the speed of the machine, by their own marker.
    "sqlalchemy": ["test/engine/test_pool.py", "test/base/test_concurrency.py", "-m", "not timing_intensive"],
    "paho_mqtt": ["tests", "--ignore=tests/lib"],
    "urllib3": ["test/test_connectionpool.py", "test/test_poolmanager.py", "test/test_collections.py"],
}
# Tests that hang without the watch: the Python, the suite, and the test.
LEFT_OUT: Final = {("3.13t", "test_threading"): "test_3_join_in_forked_from_thread"}
# The elements of pytest's file.
KINDS: Final = {"failure": "failed", "error": "failed", "skipped": "skipped"}
PYTEST: Final = ("-q", "-p", "no:asyncio", "-o", "addopts=", "--continue-on-collection-errors")
WATCH: Final = ("-m", "syncprims.watch", "--after", "1", "--asleep", "5")


# How a suite is run: without the watch, and under it in both forms, as far as there are two.
SIDES: Final = ("without", "compiled", "pure") if compiled else ("without", "pure")
# How much rarer collections are than usual when a suite runs again without the watch.
AGAIN: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3)
COLLECTIONS: Final = "import gc\n\nfirst, *others = gc.get_threshold()\ngc.set_threshold(int(first * {}), *others)\n"
# A suite of which more tests fail without the watch says nothing about the watch.
MOST_FAILURES: Final = 0.1


class UnfitError(Exception):
    """A suite did not come to its end, or fails without the watch."""


class Finished(NamedTuple):
    """The output of a program, and its seconds."""

    printed: str
    cpu: float
    wall: float


def run(arguments: Sequence[str], folder: Path, side: str, reports: Path, rarer: float = 1.0) -> Finished:
    """Run Python in a folder, on one of the sides, with collections that are so much rarer than usual.

    The output goes to a file: a process that a test leaves behind would keep a pipe open.
    """
    watch = [] if side == "without" else [*WATCH, "--file", str(reports)]
    env = variables({"SYNCPRIMS_PURE": "1"} if side == "pure" else {})
    with tempfile.TemporaryFile("w+", errors="replace") as output, tempfile.TemporaryDirectory() as first:
        if rarer != 1.0:
            Path(first, "sitecustomize.py").write_text(COLLECTIONS.format(rarer))
            env["PYTHONPATH"] = os.pathsep.join(filter(None, (first, env.get("PYTHONPATH"))))
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *watch, *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
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
        wall = time.monotonic() - begun
        output.seek(0)
        printed = output.read()
    if process.returncode == -signal.SIGKILL:
        raise UnfitError(f"{arguments} did not end; its last words: {printed[-2000:]}")
    return Finished(printed, round(used.ru_utime + used.ru_stime, 2), round(wall, 2))


def of_unittest(printed: str) -> tuple[dict[str, str], Counter[str]]:
    """The outcome of each test that ``unittest -v`` printed, and the number of each outcome, from the last lines."""
    name = r"(\w+ \([\w.]+\))"
    found = dict.fromkeys(re.findall(rf"(?m)^{name}", printed), "passed")
    # A test that has a docstring has its outcome on the second line.
    skips = re.findall(rf"(?m)^{name}(?:\n(?!\w+ \([\w.]+\))[^\n]*)? \.\.\. (skipped|expected failure)", printed)
    found |= dict(skips)
    found |= dict.fromkeys(re.findall(rf"(?m)^(?:FAIL|ERROR): {name}", printed), "failed")
    ran = re.search(r"(?m)^Ran (\d+) tests?", printed)
    last = printed[ran.end() :] if ran else ""
    counts = {kind.strip(): int(number) for kind, number in re.findall(r"([a-z ]+)=(\d+)", last)}
    failed = sum(outcome == "failed" for outcome in found.values())
    skipped = counts.get("skipped", 0) + counts.get("expected failures", 0)
    passed = int(ran[1] if ran else "0") - failed - skipped
    return found, Counter(passed=passed, failed=failed, skipped=skipped)


def of_pytest(file: Path) -> tuple[dict[str, str], Counter[str]]:
    """The outcome of each test in pytest's file, and the number of each outcome."""
    if not file.exists():
        return {}, Counter()
    found = {
        f"{case.get('classname')}.{case.get('name')}": next(
            (KINDS[part.tag] for part in case if part.tag in KINDS), "passed"
        )
        for case in ElementTree.parse(file).iter("testcase")
    }
    return found, Counter(found.values())


def compare(name: str, folder: Path, arguments: Sequence[str], *, is_pytest: bool) -> dict[str, Any]:
    """Run one suite on each side."""
    file = folder / f"{name}-{this_python()}.xml"
    more = [f"--junitxml={file}"] if is_pytest else []
    row: dict[str, Any] = {
        "suite": name,
        "of": folder.name if is_pytest else f"CPython {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
    }
    outcomes: dict[str, dict[str, str]] = {}

    def once(side: str, reports: Path, rarer: float = 1.0) -> tuple[Finished, dict[str, str], Counter[str]]:
        file.unlink(missing_ok=True)
        finished = run([*arguments, *more], folder, side, reports, rarer)
        return finished, *(of_pytest(file) if is_pytest else of_unittest(finished.printed))

    for side in SIDES:
        reports = folder / f"{name}-{this_python()}-{side}.reports"
        reports.unlink(missing_ok=True)
        finished, outcomes[side], counts = once(side, reports)
        if counts["failed"] > MOST_FAILURES * counts.total() or not counts["passed"]:
            raise UnfitError(f"{name}, {side}: {dict(counts)}; {finished.printed[-2000:]}")
        row[side] = {
            **{kind: counts[kind] for kind in ("passed", "failed", "skipped")},
            "reports": reports.read_text(errors="replace").count(BEGINNING) if reports.exists() else 0,
            "changed": sorted(
                test
                for test in {*outcomes["without"], *outcomes[side]}
                if outcomes[side].get(test) != outcomes["without"].get(test)
            ),
            "cpu": finished.cpu,
            "wall": finished.wall,
        }
    note_unsteady(row, outcomes, lambda rarer: once("without", folder / "no.reports", rarer)[1])
    print(json.dumps(row), flush=True)
    return row


def note_unsteady(
    row: dict[str, Any], outcomes: dict[str, dict[str, str]], again: Callable[[float], dict[str, str]]
) -> None:
    """Find out which changed tests end so without the watch, too, by running the suite again and again."""
    ended: dict[str, Counter[str]] = {test: Counter() for side in SIDES for test in row[side]["changed"]}
    if ended:
        for rarer in AGAIN:
            found = again(rarer)
            for test, counts in ended.items():
                counts[found.get(test, "missing")] += 1
        row["again"] = ended
        for side in SIDES:
            changed = row[side]["changed"]
            unsteady = [test for test in changed if outcomes[side].get(test, "missing") in ended[test]]
            row[side] |= {"changed": [test for test in changed if test not in unsteady], "unsteady": unsteady}


def costs(name: str, folder: Path, arguments: Sequence[str], *, is_pytest: bool) -> dict[str, Any]:
    """Run one suite several times, on each side in turn; return the least times."""
    best: dict[str, dict[str, float]] = {side: {"wall": float("inf"), "cpu": float("inf")} for side in SIDES}
    for _ in range(ROUNDS):
        for side, times in best.items():
            finished = run(arguments, folder, side, folder / f"{name}.reports")
            times["wall"] = min(times["wall"], finished.wall)
            times["cpu"] = min(times["cpu"], finished.cpu)
    row = {"suite": name, "of": folder.name if is_pytest else f"CPython {platform.python_version()}", **best}
    print(json.dumps(row), flush=True)
    return row


def results(kind: str) -> dict[str, list[dict[str, Any]]]:
    """The kept results, by the version of Python."""
    files = sorted(DOCS.glob(f"{kind}-*.json"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])
    return {file.stem.rpartition("-")[2]: json.loads(file.read_text()) for file in files}


def table_of_suites() -> str:
    """Put the outcomes into a table for the pages; the parts of a suite of the standard library are added up."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    every = results("suites")
    for python, rows in every.items():
        for row in rows:
            found.setdefault(row["suite"].partition(".")[0], {}).setdefault(python, []).append(row)
    return list_table(
        [
            ["suite", *every],
            *(
                [f"``{suite}``", *(_outcomes(rows.get(python, [])) for python in every)]
                for suite, rows in sorted(found.items(), key=lambda item: (not item[0].startswith("test_"), item[0]))
            ),
            ["in all", *(_outcomes(rows) for rows in every.values())],
        ],
    )


def _outcomes(rows: Iterable[dict[str, Any]]) -> str:
    """For each side the number of passed tests, then the reports and the changed outcomes of all."""
    sides = [side for side in ("without", "compiled", "pure") if any(side in row for row in rows)]
    if not sides:
        return "-"
    passed = " = ".join(str(sum(row[side]["passed"] for row in rows)) for side in sides)
    reports = sum(row[side]["reports"] for row in rows for side in sides)
    changed = sum(len(row[side]["changed"]) for row in rows for side in sides)
    return f"{passed}; {reports}, {changed}"


def table_of_costs() -> str:
    """Put the times of suites into a table for the pages."""
    return list_table(
        [
            ["suite", "Python", "without", "under the watch", "in Python alone"],
            *(
                [
                    f"``{row['suite']}``",
                    python,
                    f"{row['without']['wall']:.1f}",
                    *(
                        f"{row[side]['wall']:.1f} ({row[side]['wall'] / row['without']['wall']:.2f})"
                        if side in row
                        else "-"
                        for side in ("compiled", "pure")
                    ),
                ]
                for python, rows in results("suite-costs").items()
                for row in rows
            ),
        ],
    )


def standard_folder(folder: Path) -> Path:
    """The folder in which the standard library's tests are run."""
    place = folder / "standard"
    return place if place.is_dir() else folder


def arguments_of(name: str) -> list[str]:
    """How a suite of the standard library is run."""
    left_out = LEFT_OUT.get((this_python(), name))
    if left_out is not None:
        return ["-m", "test", "-v", "--ignore", left_out, name]
    return ["-m", "unittest", "-v", f"test.{name}"]


def main() -> None:
    """Run everything that is available, and write the results."""
    # A shell ignores this signal for programs in the background, and then test_threading would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1:] != ["--tables"]:
        run_all(Path(sys.argv[1]).resolve(), [argument for argument in sys.argv[2:] if argument != "--costs"])
    (DOCS / "suites.txt").write_text(table_of_suites(), encoding="utf-8")
    (DOCS / "suite-costs.txt").write_text(table_of_costs(), encoding="utf-8")


def run_all(folder: Path, wanted: Sequence[str]) -> None:
    """Run the wanted suites that are available; without names, all."""
    measure = costs if "--costs" in sys.argv else compare
    rows = []
    for name in STANDARD:
        if not wanted or name in wanted or name.partition(".")[0] in wanted:
            rows.append(measure(name, standard_folder(folder), arguments_of(name), is_pytest=False))
    for name, arguments in PACKAGES.items():
        archive = next(iter(folder.glob(f"{name}-*.tar.gz")), None)
        if archive is not None and (not wanted or name in wanted):
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            place = next(path for path in folder.glob(f"{name}-*") if path.is_dir())
            rows.append(measure(name, place, ["-m", "pytest", *PYTEST, *arguments], is_pytest=True))
    file = DOCS / f"{'suite-costs' if measure is costs else 'suites'}-{this_python()}.json"
    kept = {row["suite"]: row for row in (json.loads(file.read_text()) if file.exists() else [])}
    kept |= {row["suite"]: row for row in rows}
    file.write_text(json.dumps(list(kept.values()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
