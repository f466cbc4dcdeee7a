"""Recordings of unmodified programs: the timeline of `diagnostics.record`, and the locks with the longest waits."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from syncprims import TimedLock
from syncprims._core.waits import all_waits
from syncprims.diagnostics.spans import hand_offs
from syncprims.watch import WatchRecording, install
from watch.outputs import FOLDER, recording
from watch.watching import HERE, run

LIMIT = 30.0


def watched(*, record: Any = True) -> Any:
    return install(after=20.0, asleep=None, record=record)


class Account:
    """A class with a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def pay(self) -> None:
        with self.lock:
            pass


def wait_for_holder(lock: Any, take: Any) -> None:
    """Let another thread wait for a lock that this one holds, and get it."""
    thread = threading.Thread(target=take, name="waiter")
    with lock:
        thread.start()
        until = threading.Event()
        while not any(wait.subject is lock for wait in all_waits()):
            assert not until.wait(0.001)
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_wait_and_the_holds_around_it_are_recorded() -> None:
    """Kinds, names, threads, places and the arrow are like those of `record` for the locks of this library."""
    watching = watched()
    try:
        first, second = Account(), Account()
        wait_for_holder(first.lock, first.pay)
        second.pay()
        own = TimedLock(name="own")
        with own:
            pass
    finally:
        watching.uninstall()
    recording = watching.recording
    assert isinstance(recording, WatchRecording)
    spans = [span for span in recording.spans if "Account" in span.name or span.name == "own"]
    name = f"Account.lock ({Path(__file__).name}:{Account.__init__.__code__.co_firstlineno + 1}) no."
    assert [(span.kind, span.name, span.thread) for span in spans] == [
        ("hold", f"{name} 1", threading.current_thread().name),
        ("wait", f"{name} 1", "waiter"),
        ("hold", f"{name} 1", "waiter"),
        ("hold", f"{name} 2", threading.current_thread().name),
        ("hold", "own", threading.current_thread().name),
    ]
    held, waited, got = spans[:3]
    assert held.start <= waited.start <= held.end <= got.start <= got.end
    assert waited.holder == held.thread
    assert held.site.endswith("in wait_for_holder")
    assert waited.site == got.site
    assert got.site.endswith("in pay")
    assert hand_offs(spans) == [(0, 2)]
    use = next(use for use in recording.contention() if "Account" in use.name)
    assert (use.name, use.file, use.locks, use.taken, use.waited) == (name[:-4], __file__, 2, 3, 1)
    assert use.wait.total == pytest.approx(waited.seconds)
    assert use.hold.longest == pytest.approx(max(span.seconds for span in (held, got, spans[3])))
    assert use.name in [line.split("  ")[0] for line in recording.contention_table().splitlines()]


def test_given_up_waits_and_foreign_releases_are_seen() -> None:
    """A wait without success counts as one, and a hold ends when another thread releases the lock."""

    def give_up_and_release() -> None:
        assert not account.lock.acquire(timeout=0.01)
        account.lock.release()

    watching = watched()
    try:
        account = Account()
        account.lock.acquire()
        thread = threading.Thread(target=give_up_and_release)
        thread.start()
        thread.join(LIMIT)
    finally:
        watching.uninstall()
    spans = [span for span in watching.recording.spans if "Account" in span.name]
    assert [(span.kind, span.outcome) for span in spans] == [("hold", ""), ("wait", "gave up")]
    use = next(use for use in watching.recording.contention() if "Account" in use.name)
    assert (use.taken, use.waited) == (1, 1)


def test_it_ends_with_the_watch() -> None:
    """Nothing is recorded afterwards, and the locks stay usable; spans in progress are not over."""
    watching = watched()
    account = Account()
    account.lock.acquire()
    watching.uninstall()
    before = watching.recording.spans
    account.lock.release()
    account.pay()
    assert [(span.kind, span.outcome) for span in before if "Account" in span.name] == [("hold", "not over")]
    assert len(watching.recording.spans) == len(before)


def test_the_file_is_written_when_the_watch_ends(tmp_path: Path) -> None:
    """A path as an argument is written by `uninstall`; the recording can be saved again."""
    watching = watched(record=tmp_path / "trace.json")
    account = Account()
    wait_for_holder(account.lock, account.pay)
    assert not (tmp_path / "trace.json").exists()
    watching.uninstall()
    found = json.loads((tmp_path / "trace.json").read_text("utf-8"))
    use = next(use for use in found["otherData"]["locks"] if "Account" in use["name"])
    assert (use["file"], use["locks"], use["taken"], use["waited"]) == (__file__, 1, 2, 1)
    assert use["wait_us"]["total"] == use["wait_us"]["longest"] > 0
    assert {"s", "f", "X", "M"} == {event["ph"] for event in found["traceEvents"]}
    watching.recording.save(tmp_path / "again.html")
    html = (tmp_path / "again.html").read_text("utf-8")
    assert f'"uses":[["{use["name"]}",1,2,1,' in html


@pytest.mark.parametrize(
    ("record", "error", "says"),
    [
        ("trace.xml", ValueError, "must end with .html or .json"),
        ("no/such/folder/trace.html", ValueError, "folder that is there"),
        (None, TypeError, "record must be a path"),
        (7, TypeError, "record must be a path"),
    ],
)
def test_what_can_be_no_file_is_refused_at_once(record: Any, error: type[Exception], says: str) -> None:
    """This happens before anything is replaced."""
    before = threading.Lock
    with pytest.raises(error, match=says):
        watched(record=record)
    assert threading.Lock is before


# -- whole programs ----------------------------------------------------------------------------------------------------


def programs_report(tmp_path: Path, *options: str, program: str = "family.py") -> tuple[Any, list[str]]:
    found = run(
        *("-m", "syncprims.watch", *options, os.fspath(HERE / "recorded" / program)),
        cwd=tmp_path,
    )
    return found, sorted(path.name for path in tmp_path.iterdir())


def test_a_program_is_recorded_without_a_change(tmp_path: Path) -> None:
    """The file and the report come at its end; its exit code and its output don't change."""
    found, files = programs_report(tmp_path, "--record", "trace.html", program="counters.py")
    assert (found.returncode, found.stdout, files) == (3, "2 counters\n", ["trace.html"])
    report = found.stderr.splitlines()
    assert report[0].startswith("==== syncprims.watch: RECORDING of process ")
    assert report[3].split()[:5] == ["Counter._lock", "(counters.py:11)", "2", "4", "1"]
    assert report[-1].startswith("==== what to do: look at ")
    assert "the lock of the Thread" not in report[3]


def test_the_page_shows_what_comes_out() -> None:
    """The how-to shows the real report of that program; ``python -m watch.outputs`` writes it."""

    def without_numbers(text: str) -> list[list[str]]:
        return [re.sub(r"[\d.]+ [mµ]?s\b|\b\d+", " 0 ", line).split() for line in text.splitlines()]

    shown, comes = (FOLDER / "recorded.txt").read_text("utf-8"), recording()
    # Which locks come after the till depends on the scheduler.
    assert without_numbers(shown)[:4] == without_numbers(comes)[:4]
    assert without_numbers(shown)[-1] == without_numbers(comes)[-1]


def test_without_a_wait_the_report_says_so(tmp_path: Path) -> None:
    """Then it is not a table."""
    found, files = programs_report(tmp_path, "--record", "trace.json", "--file", "report.txt", program="alone.py")
    assert (found.stdout, found.stderr, files) == ("", "", ["report.txt", "trace.json"])
    assert "no thread waited for a lock" in (tmp_path / "report.txt").read_text()


def test_children_write_files_of_their_own(tmp_path: Path) -> None:
    """Processes that are forked, spawned or started by `subprocess` each have a file, with their id in its name."""
    found, files = programs_report(tmp_path, "--children", "--record", "trace.json")
    assert found.returncode == 0, found.stderr
    pids = found.stdout.split()
    assert len(pids) == (4 if hasattr(os, "fork") else 2)
    # Helpers of multiprocessing may have one as well.
    assert {"trace.json", *(f"trace-{pid}.json" for pid in pids)} <= set(files)
    for pid in pids:
        spans = json.loads((tmp_path / f"trace-{pid}.json").read_text())["traceEvents"]
        # The parent's holds and waits from before the fork are in its own file.
        assert {span["pid"] for span in spans} == {int(pid)}
        assert len([span for span in spans if "in_child" in str(span.get("name"))]) == 1
        assert not [span for span in spans if "in_parent" in str(span.get("name"))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_only_with_children_a_fork_is_recorded(tmp_path: Path) -> None:
    """Without that option the one file is the program's own."""
    found, files = programs_report(tmp_path, "--record", "trace.json")
    assert found.returncode == 0, found.stderr
    assert files == ["trace.json"]
    assert "in_parent" in (tmp_path / "trace.json").read_text()
    assert "in_child" not in (tmp_path / "trace.json").read_text()


def test_a_file_that_cannot_be_written_changes_no_outcome(tmp_path: Path) -> None:
    """The failure is a line on the standard error stream."""
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import threading, os; os.rmdir({os.fspath(folder)!r}); threading.Lock().acquire(); raise SystemExit(5)"
    found = run("-m", "syncprims.watch", "--record", os.fspath(folder / "trace.html"), "-", stdin=code)
    assert found.returncode == 5
    assert found.stderr.startswith("syncprims.watch: the recording could not be written: ")
    assert len(found.stderr.splitlines()) == 1


def test_the_command_line_refuses_what_it_can_not_write(tmp_path: Path) -> None:
    """It ends with the exit code of a wrong argument, before the program runs."""
    found, files = programs_report(tmp_path, "--record", "trace.txt", program="counters.py")
    assert (found.returncode, found.stdout, files) == (2, "", [])
    assert "must end with .html or .json" in found.stderr


def test_the_environment_gives_each_process_its_file(tmp_path: Path) -> None:
    """The same variable for several processes makes several files."""
    code = "import syncprims, threading, os\nwith threading.Lock(): print(os.getpid())"
    env = {"SYNCPRIMS_WATCH": f"--record {tmp_path / 'trace.json'}"}
    pids = [run("-c", code, env=env).stdout.strip() for _ in range(2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"trace-{pid}.json" for pid in pids)
