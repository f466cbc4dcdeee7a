"""``pytest --watch-locks``: if threads deadlock during a test, it fails, with the report in a section of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Final

import pytest

from .._core.clock import monotonic, sleep
from .incident_facts import ASLEEP, DEADLOCK, LIKELY, LOOP, ORDER, SLOW, Incident
from .installing import Watching, install_with
from .options import WatchOptions

if TYPE_CHECKING:
    from _pytest.nodes import Item
    from _pytest.reports import TestReport

MARKER: Final = "may_deadlock"
_ALSO: Final = {"asleep": ASLEEP, "loop": LOOP, "order": ORDER, "slow": SLOW}
# Seconds to wait at the end of a test for the answers of threads that seem stuck: they answer at least once a second.
_PATIENCE: Final = 3.0
_PAUSE: Final = 0.02


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("syncprims", "deadlocks, by syncprims.watch")
    group.addoption(
        "--watch-locks",
        action="store_true",
        help="observe the locks of threading; a test during which threads deadlock fails, with the report",
    )
    group.addoption(
        "--watch-locks-after",
        type=float,
        default=1.0,
        metavar="S",
        help="report threads that have waited for each other for S seconds (1); at the end of a test at once",
    )
    group.addoption(
        "--watch-locks-also",
        default="",
        metavar="WHAT",
        help="fail by other reports too: a list with commas of asleep, loop, order and slow=S",
    )
    group.addoption(
        "--watch-locks-break",
        action="store_true",
        help="end a certain deadlock by DeadlockError in one of its threads",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Turn the watch on before any test is imported."""
    asked = early_config.known_args_namespace
    if getattr(asked, "watch_locks", False):
        also, slow = _also(asked.watch_locks_also)
        options = WatchOptions(
            after=asked.watch_locks_after,
            asleep=5.0 if ASLEEP in also else None,
            order=ORDER in also,
            slow=slow,
            breaks=asked.watch_locks_break,
        )
        plugin = LockWatch(install_with(options), {DEADLOCK, LIKELY, *also})
        early_config.pluginmanager.register(plugin, "syncprims-lock-watch")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", f"{MARKER}: threads deadlock on purpose in this test; --watch-locks does not fail it"
    )


def _also(text: str) -> tuple[set[str], float | None]:
    headings, slow = set(), None
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = each.partition("=")
        if name not in _ALSO or (name == "slow") != bool(value):
            raise pytest.UsageError(f"--watch-locks-also takes asleep, loop, order and slow=SECONDS, not {each!r}")
        headings.add(_ALSO[name])
        if value:
            try:
                slow = float(value)
            except ValueError:
                raise pytest.UsageError(f"--watch-locks-also: slow={value!r} is not a number of seconds") from None
    return headings, slow


class LockWatch:
    """The plug-in of one process while it watches.

    Attributes:
        watching: The watch.
    """

    def __init__(self, watching: Watching, failing: set[str]) -> None:
        self.watching: Watching = watching
        self._failing = failing
        self._found: list[tuple[Incident, str]] = []
        watching.watcher.on_incident.append(self._note)

    def _note(self, incident: Incident, text: str) -> bool:
        self._found.append((incident, text))
        return False  # the report is also written, for a test that never ends

    def _settle(self) -> None:
        until = monotonic() + _PATIENCE
        self.watching.look()
        while self.watching.watcher.has_questions() and monotonic() < until:
            sleep(_PAUSE)
            self.watching.look()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Item) -> Generator[None, object, object]:  # noqa: ARG002  pytest's order
        """Begin a test without the reports of other tests."""
        self._found.clear()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Item) -> Generator[None, TestReport, TestReport]:
        """Add the reports of a test to its report section."""
        report = yield
        if report.when != "setup":
            self._settle()
        if not self._found:
            return report
        found, self._found[:] = list(self._found), []
        allowed = item.get_closest_marker(MARKER) is not None
        failing = [text for incident, text in found if incident.heading in self._failing and not allowed]
        if failing and report.outcome == "passed":
            report.outcome = "failed"
            report.longrepr = "\n".join(failing)
        elif not allowed:
            report.sections.append(("syncprims.watch", "\n".join(text for _, text in found)))
        return report

    def pytest_unconfigure(self) -> None:
        """End the watch."""
        self.watching.uninstall()
