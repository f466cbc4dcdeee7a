"""The benchmarks measure the right things, leave out missing packages, and draw the kept figures."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import pytest

import syncprims
from programs import environment
from syncprims import compiled

sys.path.insert(0, str(Path(__file__).parents[1]))  # they are not part of the package
try:
    from benchmarks import __main__ as command
    from benchmarks import figures
    from benchmarks.forms import form
    from benchmarks.groups import GROUPS
    from benchmarks.measuring import OURS, STDLIB, Case, Group, Measured, Work, loop, measure
    from benchmarks.pages import draw
finally:
    del sys.path[0]

pytestmark = pytest.mark.usefixtures("small_heap")  # every round collects garbage first

KEPT = Path(__file__).parents[1] / "docs" / "benchmarks"

# The groups that start no process; the others take long.
QUICK = [group for group in GROUPS if not group.key.endswith(("processes", "import"))]


def steady(seconds: float) -> Work:
    """Make work that always takes this long for each operation, by its own account."""
    return lambda operations: seconds * operations


@pytest.mark.parametrize("group", QUICK, ids=lambda group: group.key)
def test_every_case_of_ours_can_be_measured(group: Group) -> None:
    """One tiny round of the baseline and of the library's own cases gives a positive ratio for each."""
    cases = tuple(case for case in group.cases if case.package in (OURS, STDLIB))
    cases = tuple(case for case in cases if "1,000" not in case.name and "100" not in case.name)
    if not core_is_there():
        cases = tuple(case for case in cases if case.name != "compiled")
    operations = min(group.operations or 64, 64)
    found = measure(replace(group, cases=cases, operations=operations), 1, report=pytest.fail)
    assert [measured.name for measured in found] == [case.name for case in cases]
    assert found[0].ratios == [1.0]
    assert all(ratio > 0 for measured in found for ratio in measured.ratios)


def test_ratios_are_of_one_round_and_their_median_is_told() -> None:
    """If times drift and jump, the ratio to the baseline of the same round counts."""
    drift = iter([1.0, 10.0, 7.0, 0.5, 3.0, 1.0])  # the first for the warm-up
    now = 1.0

    def baseline(_: int) -> float:
        return now

    def half_as_fast(operations: int) -> float:
        return 2 * now if operations else 0.0

    def drifting(stack: ExitStack) -> Work:
        def work(operations: int) -> float:
            nonlocal now
            now = next(drift)
            return baseline(operations)

        return work

    group = Group(
        "drift", "Drift", (Case("a", STDLIB, drifting), Case("b", OURS, lambda _: half_as_fast)), operations=1
    )
    base, ours = measure(group, 1, report=pytest.fail)
    assert base.seconds == [10.0]
    assert ours.ratios == [2.0]
    kept = figures.of("3.14", "drift", replace(ours, ratios=[2.0, 9.0, 1.0], seconds=[5.0, 4.0, 6.0]))
    assert (kept.ratio, kept.low, kept.high, kept.value) == (2.0, 1.0, 9.0, 5.0)


def test_more_is_better_turns_the_ratio_round() -> None:
    """Throughput is given as a share of the baseline's."""
    cases = (Case("a", STDLIB, lambda _: steady(1.0)), Case("b", OURS, lambda _: steady(4.0)))
    _, ours = measure(Group("speed", "Speed", cases, better="more", operations=3), 3, report=pytest.fail)
    assert ours.ratios == [0.25] * 3


def test_order_of_the_cases_alternates() -> None:
    """Every other round runs backwards."""
    seen: list[str] = []

    def noting(name: str) -> Case:
        def work(_: int) -> float:
            seen.append(name)
            return 1.0

        return Case(name, OURS, lambda _: work)

    measure(Group("order", "Order", (noting("a"), noting("b")), operations=1), 2, report=pytest.fail)
    assert "".join(seen) == "ab" + "ab" + "ba"


def test_a_peer_that_is_not_installed_is_left_out_and_named() -> None:
    """The others are measured nevertheless."""
    said: list[str] = []

    def missing(_: ExitStack) -> NoReturn:
        raise ImportError("No module named 'absent'")

    group = Group("peers", "Peers", (Case("a", STDLIB, lambda _: steady(1.0)), Case("b", "absent", missing)))
    assert [measured.name for measured in measure(group, 1, said.append)] == ["a"]
    assert said == ["b: not measured, No module named 'absent'"]


def test_a_case_of_ours_that_is_missing_ends_its_group() -> None:
    """Without the core nothing is measured, so the group's kept figures are not replaced by a part of them."""
    said: list[str] = []

    def missing(_: ExitStack) -> NoReturn:
        raise ImportError("the core is not compiled here")

    group = Group("core", "Core", (Case("a", STDLIB, lambda _: steady(1.0)), Case("compiled", OURS, missing)))
    assert measure(group, 1, said.append) == []
    assert said == ["compiled: not measured, the core is not compiled here"]


def test_both_forms_are_measured_whichever_runs() -> None:
    """The groups of the core have the compiled form and Python alone, and the first is never confused with the second.

    This holds also if Python alone was requested, and the core exists.
    """
    assert form(compiled=compiled) is syncprims
    assert not form(compiled=False).compiled
    if core_is_there():
        assert form(compiled=True).compiled
        assert form(compiled=True).TimedLock is not form(compiled=False).TimedLock
    else:
        with pytest.raises(ImportError, match="not compiled here"):
            form(compiled=True)


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_program_that_refuses_the_core_can_measure_it(pure: str) -> None:
    """The requested form does not decide which forms exist, and it stays unchanged."""
    program = (
        "import os; from benchmarks.forms import form\n"
        "assert not form(compiled=False).compiled\n"
        "try: there = form(compiled=True).compiled\n"
        "except ImportError: there = False\n"
        f"assert os.environ['SYNCPRIMS_PURE'] == {pure!r}\n"
        "print(there)"
    )
    assert run_program(program, pure) == str(core_is_there())


def run_program(program: str, pure: str) -> str:
    """Run it with the benchmarks on its path, and return its output."""
    env = {**environment(), "SYNCPRIMS_PURE": pure}
    env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@cache
def core_is_there() -> bool:
    """Whether a program that refuses nothing gets the core, whatever this one has requested."""
    return run_program("import syncprims; print(syncprims.compiled)", "") == "True"


def test_loop_repeats_its_statement_as_often_as_told() -> None:
    """It returns the seconds that this took."""
    hits: list[int] = []
    assert loop("hits.append(1)", hits=hits)(5) > 0
    assert hits == [1] * 5


def test_command_keeps_the_figures_and_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures and raw numbers, tables and well-formed plots: all are in the folder, and the next run adds to them."""
    for only in ("memory", "counter-contended"):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--rounds", "2", "--only", only, "--into", str(tmp_path)])
        assert command.main() == 0
    assert "AtomicCounter.increment" in capsys.readouterr().out
    assert {one.group for one in figures.load(tmp_path)} == {"memory", "counter-contended"}
    (raw,) = tmp_path.glob("raw/*.csv")
    rows = list(csv.DictReader(raw.read_text().splitlines()))
    assert {row["round"] for row in rows} == {"0", "1"}
    assert {row["group"] for row in rows} == {"counter-contended"}
    for picture in ("memory.svg", "counter-contended.svg"):
        assert "AtomicCounter" in "".join(ElementTree.fromstring((tmp_path / picture).read_text()).itertext())
    assert "**AtomicCounter.increment**" in (tmp_path / "tables.txt").read_text()
    assert sys.version.split()[0] in (tmp_path / "machines.txt").read_text()


def test_figures_come_back_as_they_were_kept_and_new_ones_replace_their_group(tmp_path: Path) -> None:
    """They are in the order of the page and of the interpreters, whichever was measured last."""

    def measured(python: str, group: str, *cases: str) -> list[figures.Figures]:
        return [figures.of(python, group, Measured(case, 64, [1.5, 2.5], [1e-7, 3e-7])) for case in cases]

    figures.keep(tmp_path, measured("3.13t", "counter", "a", "b") + measured("3.13t", "lock", "a"))
    figures.keep(tmp_path, measured("3.14", "lock", "a") + measured("3.9", "lock", "a"))
    figures.keep(tmp_path, measured("3.13", "lock", "a") + measured("3.13t", "counter", "c"))
    wanted = [("3.9", "lock"), ("3.13", "lock"), ("3.13t", "lock"), ("3.13t", "counter"), ("3.14", "lock")]
    kept = figures.load(tmp_path)
    assert [(one.python, one.group) for one in kept] == wanted
    assert kept[3] == measured("3.13t", "counter", "c")[0]


def test_the_page_shows_what_is_kept(tmp_path: Path) -> None:
    """The tables and plots of the pages are exactly those of the kept figures; no plot is left over."""
    if not KEPT.is_dir():
        pytest.skip("the pages are not there: only the tests were copied")
    for name in ("figures.csv", "machines.json"):
        shutil.copy(KEPT / name, tmp_path)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in draw(tmp_path)}
    shown = {path.name: path.read_text(encoding="utf-8") for path in [*KEPT.glob("*.svg"), *KEPT.glob("*.txt")]}
    shown.pop("constructions.txt", None)  # another command writes it
    assert drawn == shown, "run python -m benchmarks --draw"


def test_every_kept_figure_is_of_a_case_that_is_still_measured() -> None:
    """A case that was renamed or removed must take its figures with it, or they would silently vanish from the page."""
    known = {(group.key, case.name) for group in GROUPS for case in group.cases}
    assert {(one.group, one.case) for one in figures.load(KEPT)} <= known
