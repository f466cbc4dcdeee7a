"""``python -m evidence``: run the evidence on this interpreter, keep its results, make the page's tables.

Every result is asserted by a test: the tests run unchanged, and their records are added up.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

import both_forms
from evidence.pages import SWEEPS, write
from programs import this_python
from syncprims import compiled
from syncprims.testing.interrupts import InterruptReport

TESTS: Final = Path(__file__).parents[1]
KEPT: Final = TESTS.parent / "docs" / "evidence"
# Each part can be run by itself, and replaces its own earlier results.
PARTS: Final = {
    "sweeps": (
        "locks/test_lock_interrupts.py",
        "runner/test_runner_interrupts.py",
        "counter/test_counter_interrupts.py",
        "callback_pool/test_pool_interrupts.py",
    ),
    # The locks that several threads may hold: their sweeps, and their explorations and histories.
    "shared": (
        "locks/test_semaphore_interrupts.py",
        "locks/test_rw_lock_interrupts.py",
        "locks/test_queued_interrupts.py",
    ),
    "orders": ("locks/test_shared_interleavings.py", "locks/test_shared_histories.py"),
    # The classes that build on a lock: sweeps and explorations.
    "built": (
        "locks/test_keyed.py",
        "locks/test_guarded.py",
        "locks/test_once.py",
        "locks/test_single_flight.py",
        "locks/test_call_interleavings.py",
    ),
    "explorations": (
        "locks/test_lock_interleavings.py",
        "runner/test_runner_interleavings.py",
        "counter/test_counter_interleavings.py",
        "callback_pool/test_pool_races.py",
    ),
    "peers": ("locks/test_lock_peers.py", "callback_pool/test_pool_cpython.py"),
    # The results with the compiled core; the other parts run without it.
    "core": (
        "locks/test_lock_interrupts.py",
        "counter/test_counter_interrupts.py",
        "locks/test_lock_both_forms.py",
        "counter/test_counter_both_forms.py",
        "watch/test_observed_in_c.py",
        "core/test_core_types.py",
        "locks/test_lock_histories.py",
        "locks/test_lock_peers.py",
        "locks/test_lock_protocol.py",
    ),
    "stress": ("locks/test_lock_fork.py", "evidence/test_evidence_deadlocks.py", "evidence/test_evidence_signals.py"),
}
PRIMITIVES: Final = {
    "semaphore": "TimedSemaphore",
    "rw": "TimedRWLock",
    "queued": "QueuedLock",
    "keyed": "KeyedLock",
    "guarded": "Guarded",
    "once": "once",
    "single": "SingleFlight",
    "runner": "OrderedRunner",
    "counter": "AtomicCounter",
    "pool": "CallbackPool",
}


class Evidence:
    """A pytest plugin that adds up the results of the tests."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.swept: Counter[str] = Counter()
        self.leaks: Counter[str] = Counter()
        self.controls: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.failed: list[str] = []
        self.skipped: dict[str, str] = {}
        self._unchecked: list[InterruptReport] = []
        self._subject = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Note the subject of a sweep; a sweep that is never checked for leaks is a control."""
        self._subject = primitive(item)
        self._unchecked = []
        try:
            return (yield)
        finally:
            for report in self._unchecked:
                self.controls[f"{self._subject} {report.mode}"] += bool(report.leaks)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome and the records of a test."""
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1
        if report.outcome == "failed":
            self.failed.append(report.nodeid)
        elif report.outcome == "skipped":
            assert isinstance(report.longrepr, tuple)
            self.skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
        if report.when == "call" and report.outcome == "passed":
            for name, value in report.user_properties:
                assert isinstance(value, (int, float))
                self.recorded[name] += value  # type: ignore[assignment]  # seconds are not whole
                if name.startswith("interleavings"):
                    self.recorded[f"scenarios of {name.rpartition(' ')[2]}"] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note modules that were skipped as a whole."""
        if report.skipped:
            assert isinstance(report.longrepr, tuple)
            self.skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            self.failed.append(report.nodeid)

    def listen(self) -> None:
        """Let every report of a sweep be noted when it is made, and when it is checked for leaks."""
        make, check = InterruptReport.__init__, InterruptReport.check

        def made(report: InterruptReport, *arguments: Any) -> None:
            make(report, *arguments)
            self._unchecked.append(report)

        def checked(report: InterruptReport) -> InterruptReport:
            self._unchecked = [one for one in self._unchecked if one is not report]  # equal ones are different reports
            self.swept[f"{self._subject} {report.mode}"] += report.points
            self.leaks[f"{self._subject} {report.mode}"] += len(report.leaks)
            return check(report)

        InterruptReport.__init__ = made  # type: ignore[assignment,method-assign]
        InterruptReport.check = checked  # type: ignore[assignment,method-assign]


def primitive(item: pytest.Item) -> str:
    """The subject of the test."""
    parameters = getattr(item, "callspec", None) and item.callspec.params  # type: ignore[attr-defined]  # of a function
    if parameters and getattr(parameters.get("scenario"), "__name__", "") == "by_acquire_all":
        return "acquire_all"
    kind = parameters and parameters.get("kind")
    if isinstance(kind, type) and kind.__module__.startswith("syncprims."):  # not a broken version of it
        return kind.__name__
    word = item.path.stem.split("_")[1]
    return PRIMITIVES.get(word, "TimedRLock" if "taken_again" in item.name else "TimedLock")


def run(part: str, expression: str) -> dict[str, Any]:
    """Run the tests of one part; return their results."""
    evidence = Evidence()
    if part in SWEEPS:
        evidence.listen()
    began = monotonic()
    # A sweep of a traced thread takes minutes without the GIL.
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-m",
        expression,
        "--rootdir",
        str(TESTS.parent),
        "-o",
        "timeout=3000",
    ]
    if part == "core":
        os.environ.setdefault("SYNCPRIMS_EXAMPLES", "3")
    pytest.main([*options, *(str(TESTS / name) for name in PARTS[part])], plugins=[evidence])
    if part == "core":
        evidence.recorded["calls compared"] = both_forms.outcomes["calls"] // 2
    return {
        "python": sys.version.split()[0],
        "seconds": round(monotonic() - began),
        "passed": evidence.outcomes["passed"],
        "failed": evidence.failed,
        "skipped": evidence.skipped,
        "swept": evidence.swept,
        "leaks": evidence.leaks,
        "controls": evidence.controls,
        "recorded": evidence.recorded,
    }


def main() -> int:
    """Run the parts, or nothing, and make the tables of all kept results."""
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; with none, only the tables")
    parser.add_argument("--quick", action="store_true", help="leave out what is marked slow")
    parser.add_argument("--into", type=Path, default=KEPT, metavar="DIR", help="where results are kept")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    if options.parts and ("core" in options.parts) != compiled:
        parser.error("`core` needs the compiled core, and runs alone; the others run with SYNCPRIMS_PURE=1")
    options.into.mkdir(parents=True, exist_ok=True)
    kept = options.into / f"{this_python()}.json"
    failed = []
    for part in options.parts:
        results = json.loads(kept.read_text()) if kept.exists() else {}
        results[part] = run(part, "not slow" if options.quick else "")
        kept.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        failed += results[part]["failed"]
    write(options.into)
    print(f"failed: {failed}" if failed else "nothing failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
