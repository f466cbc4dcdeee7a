"""The page on evidence shows the kept results, and nothing in it leaks, fails or is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from evidence.__main__ import PARTS, Evidence, primitive
from evidence.pages import SWEEPS, tables
from syncprims import TimedLock, TimedRLock
from syncprims.testing import MODES, InterruptReport, Leak

DOCS: Final = Path(__file__).parents[2] / "docs"
KEPT: Final = DOCS / "evidence"
PYTHONS: Final = {"3.11", "3.12", "3.13", "3.13t", "3.14", "3.15"}

page = pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not there: only the tests were copied")


def kept() -> dict[str, dict[str, Any]]:
    """The kept results, by interpreter."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in KEPT.glob("3.*.json")}


@page
def test_page_shows_what_was_kept() -> None:
    """The tables that the page includes are those of the kept results, and it includes all of them."""
    text = (DOCS / "evidence.rst").read_text(encoding="utf-8")
    for name, table in tables(KEPT).items():
        assert (KEPT / name).read_text(encoding="utf-8") == table, "run python -m evidence"
        assert f".. include:: evidence/{name}\n" in text


@page
def test_page_counts_the_lines_of_the_core() -> None:
    """The page says how long the C file is, and how much of that is comments."""
    source = DOCS.parent / "src" / "syncprims" / "_speedups.c"
    if not source.exists():
        pytest.skip("the sources are not there: the library is installed from a wheel")
    text = source.read_text(encoding="utf-8")
    comment = re.compile(r"^\s*/\*.*?\*/[^\n]*\n", re.DOTALL | re.MULTILINE)
    said = sum(found.group().count("\n") for found in comment.finditer(text))
    said += sum(not line.strip() for line in comment.sub("", text).splitlines())
    page = (DOCS / "evidence.rst").read_text(encoding="utf-8")
    assert f"The C file has {text.count(chr(10)):,} lines, of which {said} are comments or empty." in page


@page
def test_nothing_leaked_or_failed_anywhere() -> None:
    """Every primitive was swept in every mode on every interpreter, and no part of the evidence failed on any."""
    results = kept()
    assert results.keys() == PYTHONS
    for python, parts in results.items():
        assert parts.keys() == PARTS.keys(), python
        assert [failed for part in parts.values() for failed in part["failed"]] == []
        for name, subjects in SWEEPS.items():
            part = parts[name]
            assert sum(part["leaks"].values()) == 0
            keys = {f"{subject} {mode}" for subject in subjects for mode in MODES}
            assert {key for key in keys if not part["swept"].get(key)} == set(), f"{name} on {python}"
            assert sum(part["controls"].values()) >= 9
        assert sum(parts["core"]["swept"].values()) > 10_000


def test_leaks_would_be_counted() -> None:
    """A sweep is counted when it is checked for leaks; one that is not is a control."""
    make, check = InterruptReport.__init__, InterruptReport.check
    evidence = Evidence()
    evidence.listen()
    try:
        evidence._subject = "TimedLock"
        leaking = InterruptReport("warm", 7, (Leak(3, "here", "still locked"),))
        with pytest.raises(AssertionError):
            leaking.check()
        InterruptReport("cold", 5, ()).check()
        InterruptReport("cold", 5, ())
        assert evidence.swept == {"TimedLock warm": 7, "TimedLock cold": 5}
        assert evidence.leaks == {"TimedLock warm": 1, "TimedLock cold": 0}
        assert len(evidence._unchecked) == 1
    finally:
        InterruptReport.__init__, InterruptReport.check = make, check  # type: ignore[method-assign]


def by_acquire_all() -> None:
    """A scenario's name."""


@pytest.mark.parametrize(
    ("file", "name", "parameters", "subject"),
    [
        ("test_lock_interrupts.py", "test_free", {"kind": TimedRLock, "scenario": len}, "TimedRLock"),
        ("test_lock_interrupts.py", "test_free", {"kind": TimedLock, "scenario": by_acquire_all}, "acquire_all"),
        ("test_lock_interrupts.py", "test_lock_taken_again_never_leaks", {}, "TimedRLock"),
        ("test_runner_interrupts.py", "test_it", {"mode": "warm"}, "OrderedRunner"),
        ("test_counter_interrupts.py", "test_it", {}, "AtomicCounter"),
        ("test_semaphore_interrupts.py", "test_it", {"mode": "warm"}, "TimedSemaphore"),
        ("test_rw_lock_interrupts.py", "test_it", {"mode": "warm"}, "TimedRWLock"),
        ("test_queued_interrupts.py", "test_it", {"mode": "warm"}, "QueuedLock"),
        ("test_keyed.py", "test_it", {"mode": "warm"}, "KeyedLock"),
        ("test_single_flight.py", "test_it", {"mode": "warm"}, "SingleFlight"),
        ("test_pool_interrupts.py", "test_it", {"make": len}, "CallbackPool"),
    ],
)
def test_a_sweep_is_counted_for_what_it_sweeps(file: str, name: str, parameters: dict[str, Any], subject: str) -> None:
    """The file of a test gives its subject, unless a parameter is more specific."""
    item: Any = SimpleNamespace(path=Path(file), name=name, callspec=SimpleNamespace(params=parameters))
    assert primitive(item) == subject
