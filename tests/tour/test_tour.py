"""The tour: its scenes, its exit codes, and how it leaves."""

from __future__ import annotations

import errno
import io
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic
from types import ModuleType

import pytest

import syncprims
from programs import environment
from syncprims import AtomicCounter
from syncprims.__main__ import main
from syncprims._tour import article, counting, finale, locking, ordering
from syncprims._tour.hashing import BATCH_FILES, FileHash, find_batches
from syncprims._tour.manifest import Manifest
from syncprims._tour.stage import Stage, together
from tour.odd_tree import ODD_NAMES, expected_manifest, grow_tree

LIMIT = 50.0  # seconds, for any program

TOUR = [sys.executable, "-m", "syncprims"]
ENVIRONMENT = environment()


def run_tour(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOUR, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def read_terminal(terminal: int, until: bytes | None = None, limit: float = 20.0) -> bytes:
    """Read until the text comes, or until all processes have closed the other end."""
    read = b""
    end = monotonic() + limit
    while until is None or until not in read:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - monotonic()))
        assert ready, f"nothing more came within {limit} s after {read!r}"
        part = b""
        with suppress(OSError):  # Linux reports the end of a terminal so
            part = os.read(terminal, 1 << 16)
        if not part:
            assert until is None, f"{until!r} never came, only {read!r}"
            break
        read += part
    return read


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grow_tree(tmp_path)


@pytest.mark.parametrize("scene", [counting, ordering, locking, article], ids=lambda scene: scene.__name__)
def test_scene_passes_its_checks(scene: ModuleType) -> None:
    """Each scene that needs no folder checks itself, and passes."""
    shown = io.StringIO()
    stage = Stage(shown)
    scene.play(stage)
    assert stage.failures == []
    assert stage.checks == shown.getvalue().count("  ok: ") > 0


def test_counting_loses_updates_without_a_lock_and_restores_the_switch_interval() -> None:
    """The race is real, and showing it changes nothing for the rest of the process."""
    before = sys.getswitchinterval()
    shown = io.StringIO()
    counting.play(Stage(shown))
    assert "without a lock, updates were lost" in shown.getvalue()
    assert sys.getswitchinterval() == before


def test_ordering_fails_where_turns_come_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scene's check can fail: it does if the runner has another order."""

    def shuffled(*steps: str, **options: object) -> syncprims.OrderedRunner:
        return syncprims.OrderedRunner(*reversed(steps), rounds=ordering.ROUNDS)

    monkeypatch.setattr(ordering, "OrderedRunner", shuffled)
    stage = Stage(io.StringIO())
    ordering.play(stage)
    assert stage.failures == ["9 turns, each in its place"]


def test_locking_names_the_holder_and_the_cycle() -> None:
    """The output names the thread that holds the lock, and both threads of the deadlock."""
    shown = io.StringIO()
    locking.play(Stage(shown))
    assert "for 'accounts', held by Thread 'billing'" in shown.getvalue()
    assert "Thread 'left' waits for 'fork' held by 'right'" in shown.getvalue()
    assert "Thread 'right' waits for 'knife' held by 'left'" in shown.getvalue()


def test_article_program_keeps_the_order_on_a_pipe_that_is_not_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the environment asks for unbuffered output, each child's lines come whole, and before its callback's."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    stage = Stage(io.StringIO())
    article.play(stage)
    assert stage.failures == []


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["child: cooking soup", "child: soup is done", "callback: here is SOUP"], True),
        (["child: cooking soup", "callback: here is SOUP", "child: soup is done"], False),
        (["child: cooking soup", "child: soup is done"], False),
    ],
)
def test_article_notices_a_callback_that_overtakes_its_child(lines: list[str], kept: bool) -> None:
    """The check of the order can fail, and does if a line is late or missing."""
    assert article._in_order(lines, "soup") is kept


def test_together_reports_what_threads_raise_and_gives_up_on_one_that_stays() -> None:
    """The scenes' threads lose no error, and a wedged one is an error within its limit."""
    gate = Event()

    def fail() -> None:
        raise LookupError("nothing there")

    done, failed = together(bool, fail)
    assert done is None
    assert isinstance(failed, LookupError)
    with pytest.raises(TimeoutError, match="'stuck' was still running"):
        together(lambda: gate.wait(LIMIT), names=["stuck"], limit=0.05)
    gate.set()


def test_tour_hashes_a_tree_and_names_its_manifest(tree: Path, tmp_path: Path) -> None:
    """The whole program passes over a tree of odd names, and its manifest is right to the byte."""
    output = tmp_path / "MANIFEST"
    done = run_tour(tree, "--output", output, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert done.stderr == ""
    assert output.read_bytes() == expected_manifest(tree)
    assert f"{len(ODD_NAMES)} files" in done.stdout.splitlines()[-1]
    assert str(output) in done.stdout.splitlines()[-1]


def test_output_under_the_path_leaves_itself_out(tree: Path) -> None:
    """Neither the manifest, nor the one that it replaces, nor its draft is hashed; its mode stays."""
    right = expected_manifest(tree)
    output = tree / "MANIFEST"
    output.write_text("older")
    output.chmod(0o640)
    assert main([str(tree), "--output", str(output), "--workers", "1", "--quiet"]) == 0
    assert output.read_bytes() == right
    assert output.stat().st_mode & 0o777 == 0o640


def test_quiet_prints_one_line(tree: Path, tmp_path: Path) -> None:
    """If all checks pass, --quiet prints only the summary."""
    done = run_tour(tree, "--output", tmp_path / "MANIFEST", "--quiet")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "checks passed" in done.stdout
    assert done.stderr == ""


def test_default_output_is_among_the_temporary_files(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --output, the manifest is a new file that the summary names."""
    monkeypatch.setattr("syncprims._tour.manifest.tempfile.gettempdir", lambda: str(tmp_path))
    _leave_out_all_scenes_but_the_job(monkeypatch)
    assert main([str(tree), "--quiet"]) == 0
    (output,) = tmp_path.glob("syncprims-*.sha256")
    assert str(output) in capsys.readouterr().out
    assert output.read_bytes() == expected_manifest(tree)


def test_file_that_cannot_be_read_is_listed_and_counted(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that vanished between the walk and the reading is not a failure, and has no line in the manifest."""
    gone = os.fsencode(tree / "gone\nby now")

    def with_one_that_vanished(*arguments: object) -> Iterator[list[bytes]]:
        yield from find_batches(*arguments)  # type: ignore[arg-type]  # they are passed on unchanged
        yield [gone]

    monkeypatch.setattr(finale, "find_batches", with_one_that_vanished)
    _leave_out_all_scenes_but_the_job(monkeypatch)
    output = tmp_path / "MANIFEST"
    assert main([str(tree), "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert f"can't read {os.fsdecode(gone)!a}: No such file or directory" in shown
    assert "1 could not be read" in shown
    assert output.read_bytes() == expected_manifest(tree)


def test_empty_folder_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a file gives an empty manifest, which sha256sum itself would refuse."""
    _leave_out_all_scenes_but_the_job(monkeypatch)
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--output", str(tmp_path / "MANIFEST")]) == 0
    assert (tmp_path / "MANIFEST").read_bytes() == b""


def test_failed_check_is_named_and_is_exit_code_1(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One failed check, or a scene that breaks off, fails the tour, and the rest is still played."""
    _leave_out_all_scenes_but_the_job(monkeypatch)
    monkeypatch.setattr(ordering, "play", lambda stage: stage.check(False, "the moon is made of cheese"))
    monkeypatch.setattr(locking, "play", lambda stage: (tree / "nothing").read_text())
    assert main([str(tree), "--output", str(tmp_path / "MANIFEST"), "--quiet"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: the moon is made of cheese" in shown
    assert "FileNotFoundError" in shown
    assert "2 of 4 checks FAILED" in shown.splitlines()[-1]
    assert (tmp_path / "MANIFEST").exists()


def test_batch_that_fails_leaves_no_manifest(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task that raises in its worker fails the check, and half a manifest is not kept."""
    _leave_out_all_scenes_but_the_job(monkeypatch)
    monkeypatch.setattr(finale, "hash_files", int)  # this takes no list
    assert main([str(tree), "--output", str(tmp_path / "MANIFEST")]) == 1
    assert "FAILED: every batch is hashed and recorded: TypeError" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["outside", "tree"]


def test_full_disk_is_a_failed_check(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exception of a callback is reported, in one line."""

    def refuse(self: Manifest, number: int, hashes: Sequence[FileHash]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    _leave_out_all_scenes_but_the_job(monkeypatch)
    monkeypatch.setattr(Manifest, "add", refuse)
    assert main([str(tree), "--output", str(tmp_path / "MANIFEST"), "--quiet"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("FAILED: ") == 1
    assert "No space left on device" in shown
    assert sorted(os.listdir(tmp_path)) == ["outside", "tree"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere"], "nowhere"),
        ([""], "can't list the folder ''"),
        (["file"], "file"),
        (["nul\0byte"], "nul"),
        (["--workers", "0"], "at least 1"),
        (["--workers", "-3"], "at least 1"),
        (["--workers", "many"], "at least 1"),
        (["--output", "nowhere/MANIFEST"], "nowhere"),
        (["--output", "."], "regular file"),
        (["--output", "/dev/null"], "regular file"),
        (["--speed"], "--speed"),
        (["one", "two"], "one"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bad input is refused before anything is done, in a line that says what is wrong."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert word in shown.err
    assert os.listdir(tmp_path) == ["file"]


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists every option and returns 0."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [option for option in ("PATH", "--output", "--workers", "--quiet") if option not in shown] == []


def test_progress_is_redrawn_on_a_terminal(tree: Path, tmp_path: Path) -> None:
    """A terminal gets one line, redrawn in place and finally erased; the report does not contain it."""
    terminal, ours = pty.openpty()
    try:
        done = subprocess.run(
            [*TOUR, str(tree), "--output", str(tmp_path / "MANIFEST")],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=ours,
            timeout=LIMIT,
            check=False,
        )
        drawn = os.read(terminal, 1 << 16)
    finally:
        os.close(ours)
        os.close(terminal)
    assert done.returncode == 0
    assert drawn.count(b"\r  hashed ") >= 2
    assert b"hashed %d files" % len(ODD_NAMES) in drawn
    assert drawn.endswith(b"\r\x1b[K")
    assert b"\n" not in drawn
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("whole_group", [True, False], ids=["a terminal's Ctrl-C", "kill -INT"])
def test_interrupt_leaves_promptly_with_130_and_no_process(tmp_path: Path, whole_group: bool) -> None:
    """Ctrl-C in the middle of long work prints one line, leaves nothing behind, and does not wait for the work."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(BATCH_FILES):
        (tree / f"a{number}").touch()
    for number in range(64):
        with open(tree / f"b{number}", "wb") as file:
            file.truncate(1 << 30)  # sparse: no space on the disk, and seconds to hash
    terminal, ours = pty.openpty()
    with subprocess.Popen(
        [*TOUR, str(tree), "--output", str(tmp_path / "MANIFEST"), "--workers", "2"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=ours,
        start_new_session=True,
    ) as tour:
        os.close(ours)
        try:
            read_terminal(terminal, until=b"hashed 1")  # the small ones are done, the workers have large ones
            (os.killpg if whole_group else os.kill)(tour.pid, signal.SIGINT)
            # Terminal and pipe end when every process that has them has ended: all that the tour started.
            complaint = read_terminal(terminal)
            tour.communicate(timeout=15)
        finally:
            os.close(terminal)
            with suppress(ProcessLookupError):
                os.killpg(tour.pid, signal.SIGKILL)
            shutil.rmtree(tree)
    assert tour.returncode == 130
    assert complaint.decode().rpartition("\r\x1b[K")[2] == "syncprims: interrupted\r\n"
    assert os.listdir(tmp_path) == []


def test_reader_that_goes_away_ends_the_tour_without_a_traceback(tree: Path, tmp_path: Path) -> None:
    """A closed stdout, as `head` leaves it, ends the tour with the shell's code for it."""
    tour = subprocess.Popen(
        [*TOUR, str(tree), "--output", str(tmp_path / "MANIFEST")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert tour.stdout is not None
    assert tour.stderr is not None
    tour.stdout.readline()
    tour.stdout.close()
    with tour.stderr:
        complaint = tour.stderr.read()
    assert tour.wait(LIMIT) == 141
    assert complaint == b""
    assert not (tmp_path / "MANIFEST").exists()


def test_stdout_that_cannot_be_written_is_an_error(tree: Path, tmp_path: Path) -> None:
    """A full device is reported on stderr, in one line."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*TOUR, str(tree), "--output", str(tmp_path / "MANIFEST"), "--quiet"],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "syncprims: can't write to stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("closed", "code", "out", "complaint"),
    [
        (">&-", 1, "", "syncprims: can't write to stdout: it is closed\n"),
        ("2>&-", 0, "checks passed", ""),
        ("<&-", 0, "checks passed", ""),
        (">&- 2>&-", 1, "", ""),
        ("<&- >&- 2>&-", 1, "", ""),
        (">/dev/full 2>/dev/full", 1, "", ""),
        (">/dev/full 2>&-", 1, "", ""),
        ("--output /nowhere/m 2>/dev/full", 2, "", ""),
        ("--workers none 2>&-", 2, "", ""),
        ("--help >&-", 0, "", "usage"),
    ],
)
def test_closed_streams_end_in_no_traceback(
    tree: Path, tmp_path: Path, closed: str, code: int, out: str, complaint: str
) -> None:
    """Whichever of the three the shell has closed, there is one line if possible, and the right exit code."""
    command = f'"$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *TOUR, str(tree), "--output", str(tmp_path / "MANIFEST"), "--quiet"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == code
    assert out in done.stdout
    assert complaint in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (bool(done.stdout), bool(done.stderr)) == (bool(out), bool(complaint))


def test_stage_outlives_a_reader_that_has_gone() -> None:
    """Later output is dropped, checks are still counted, and closing the stream raises nothing either."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        stage = Stage(stream)
        stage.say("nobody hears this")
        assert isinstance(stage.lost, BrokenPipeError)
        stage.check(False, "nor this")
        stream.write("nor what is in the buffer")
    assert (stage.checks, stage.failures) == (1, ["nor this"])


def test_terminal_that_goes_away_takes_only_the_progress_along() -> None:
    """The line is not drawn any more, and the work goes on."""
    terminal, ours = pty.openpty()
    files, size = AtomicCounter(3), AtomicCounter(4)
    stream = open(ours, "w")  # noqa: SIM115  its end is what the test ends with
    progress = finale.Progress(stream, files, size)
    progress.draw()
    assert b"hashed 3 files" in os.read(terminal, 1 << 16)
    os.close(terminal)
    progress.finish()
    progress.finish()
    with pytest.raises(OSError, match="Input/output error"):  # its buffer is not empty yet
        stream.close()


def test_interrupt_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Another Ctrl-C has nothing to interrupt."""
    monkeypatch.setattr(signal, "signal", lambda *arguments: set_to.append(arguments))
    set_to: list[tuple[object, ...]] = []
    monkeypatch.setattr(counting, "play", _raise_interrupt)
    assert main(["--quiet"]) == 130
    assert capsys.readouterr() == ("", "syncprims: interrupted\n")
    assert set_to == [(signal.SIGINT, signal.SIG_IGN)]


def _raise_interrupt(stage: Stage) -> None:
    raise KeyboardInterrupt


def _leave_out_all_scenes_but_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for scene in (counting, ordering, locking, article):
        monkeypatch.setattr(scene, "play", lambda stage: None)
