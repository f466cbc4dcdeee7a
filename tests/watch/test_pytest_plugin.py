"""`pytest --watch-locks`: a deadlock fails the test that it belongs to."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from watch.watching import run

TESTS = """
import asyncio
import os
import signal
import threading
import pytest

from syncprims.watch.installing import current


def deadlock():
    first, second = threading.Lock(), threading.Lock()
    barrier = threading.Barrier(2)

    def work(one, other):
        with one:
            barrier.wait(20)
            with other:
                pass

    threads = [
        threading.Thread(target=work, args=args, daemon=True) for args in ((first, second), (second, first))
    ]
    for thread in threads:
        thread.start()
    return threads


def test_fine():
    with threading.Lock():
        pass


def test_left_behind():
    deadlock()[0].join(0.5)


@pytest.mark.may_deadlock
def test_on_purpose():
    deadlock()[0].join(0.5)


def test_after():
    with threading.Lock():
        pass


@pytest.fixture
def timed_out_by_the_report():
    # What pytest-timeout does when the time is up, as soon as there is a report, however slow the machine is.
    def time_out(incident, text):
        os.kill(os.getpid(), signal.SIGALRM)

    current().watcher.on_incident.append(time_out)


@pytest.mark.skipif("not config.getoption('--timeout', None)")
def test_hangs(timed_out_by_the_report):
    for thread in deadlock():
        thread.join()


def test_blocks_its_loop():
    async def wait():
        threading.Event().wait(1.0)

    asyncio.run(wait())
"""


def pytest_run(tmp_path: Path, *arguments: str) -> str:
    """Run pytest over the tests above in a folder of their own, and return what it prints."""
    (tmp_path / "test_locks.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    is_installed = any(each.name == "syncprims_watch" for each in entry_points(group="pytest11"))
    plugin = () if is_installed else ("-p", "syncprims.watch.pytest_plugin")
    found = run("-m", "pytest", *plugin, "-p", "no:cacheprovider", "-rA", *arguments, cwd=tmp_path)
    return found.stdout + found.stderr


def outcomes(said: str) -> dict[str, str]:
    """The outcome of each test, from a run with -rA."""
    lines = [line.split() for line in said.splitlines() if line.startswith(("PASSED ", "FAILED ", "ERROR "))]
    return {words[1].partition("::")[2]: words[0] for words in lines}


@pytest.mark.parametrize("arguments", [[], pytest.param(["-n", "2"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_a_deadlock_fails_its_test(tmp_path: Path, arguments: list[str]) -> None:
    """The test during which threads deadlock fails, with the report; not one that may, and none after it."""
    said = pytest_run(tmp_path, "--watch-locks", *arguments)
    assert outcomes(said) == {
        "test_fine": "PASSED",
        "test_left_behind": "FAILED",
        "test_on_purpose": "PASSED",
        "test_after": "PASSED",
        "test_blocks_its_loop": "PASSED",
    }, said
    assert "==== syncprims.watch: DEADLOCK in process" in said
    assert "for second (test_locks.py:12)" in said


def test_a_hanging_test_is_ended_with_the_report(tmp_path: Path) -> None:
    """Together with pytest-timeout, a test that hangs fails with the report beside the stack."""
    said = pytest_run(
        tmp_path,
        "--watch-locks",
        "--watch-locks-after",
        "0.3",
        "--timeout",
        "50",
        "--timeout-method",
        "signal",
        "-k",
        "hangs",
    )
    assert outcomes(said) == {"test_hangs": "FAILED"}, said
    assert "Timeout" in said
    assert "- syncprims.watch -" in said
    assert "==== syncprims.watch: DEADLOCK in process" in said


def test_other_reports_fail_a_test_if_asked_for(tmp_path: Path) -> None:
    """A named heading fails the test that it belongs to; a blocked event loop is an example."""
    said = pytest_run(
        tmp_path, "--watch-locks", "--watch-locks-after", "0.2", "--watch-locks-also", "loop", "-k", "loop or fine"
    )
    assert outcomes(said) == {"test_fine": "PASSED", "test_blocks_its_loop": "FAILED"}, said
    assert "==== syncprims.watch: LOOP BLOCKED in process" in said
    assert "which runs Task 'Task-" in said


def test_nothing_is_watched_unless_asked_for(tmp_path: Path) -> None:
    """Without the option the plug-in does nothing."""
    said = pytest_run(tmp_path)
    assert set(outcomes(said).values()) == {"PASSED"}
    assert "syncprims.watch: " not in said


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    """An unknown heading is an error of usage."""
    assert "takes asleep, loop, order and slow=SECONDS, not 'sleep'" in pytest_run(
        tmp_path, "--watch-locks", "--watch-locks-also", "sleep"
    )
