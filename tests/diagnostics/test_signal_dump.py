"""A process that hangs tells of it on a signal."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from locks.crew import LIMIT, Crew, eventually
from syncprims import TimedLock
from syncprims.diagnostics import dump_on_signal

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """Leave the handler as it was."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    assert signal.getsignal(signal.SIGUSR1) == before


def test_it_writes_the_report_to_the_file(tmp_path: Path) -> None:
    """The signal writes the report to the file, at once and past its buffer."""
    with open(tmp_path / "dump.txt", "w+", encoding="utf-8") as file, dump_on_signal(file=file):
        with TimedLock(name="accounts"):
            signal.raise_signal(signal.SIGUSR1)
        said = (tmp_path / "dump.txt").read_text("utf-8")
        assert "TimedLock 'accounts': held by Thread 'MainThread'" in said
        # The holder is the thread that the signal came to: its stack ends where the program is, not in the dump itself.
        assert said.splitlines()[-1].endswith("in test_it_writes_the_report_to_the_file")


def test_it_writes_to_what_is_no_real_file() -> None:
    """A file without a number, like a StringIO, gets the report as well."""
    text = io.StringIO()
    with dump_on_signal(file=text), TimedLock(name="accounts"):
        signal.raise_signal(signal.SIGUSR1)
    assert "TimedLock 'accounts'" in text.getvalue()


def test_a_closed_file_does_not_end_the_program() -> None:
    """A report that nobody can get is dropped without an error."""
    text = io.StringIO()
    text.close()
    with dump_on_signal(file=text):
        signal.raise_signal(signal.SIGUSR1)


def test_the_main_thread_may_be_waiting(tmp_path: Path) -> None:
    """The report comes while the main thread waits for a lock, names it as a waiter, and the wait goes on."""
    lock = TimedLock(name="wanted")
    path = tmp_path / "dump.txt"

    def asked() -> bool:
        os.kill(os.getpid(), signal.SIGUSR1)
        return "wanted" in path.read_text("utf-8")

    def hold_and_ask() -> None:
        with lock:
            held.append(True)
            eventually(lambda: lock.waiting)
            eventually(asked)

    held: list[bool] = []
    with open(path, "w", encoding="utf-8") as file, dump_on_signal(file=file), Crew() as crew:
        crew.start(hold_and_ask, "holder")
        eventually(lambda: held)
        with lock.hold(LIMIT):
            pass
    text = path.read_text("utf-8")
    assert "TimedLock 'wanted': held by Thread 'holder'" in text
    assert "Thread 'MainThread' (ident" in text


def test_the_handler_before_it_is_called_and_put_back() -> None:
    """What handled the signal before still does, after the report, and is there again afterwards."""
    calls: list[int] = []

    def handler(signum: int, frame: object) -> None:
        calls.append(signum)

    original = signal.signal(signal.SIGUSR1, handler)
    try:
        with dump_on_signal(signal.SIGUSR1, io.StringIO()):
            signal.raise_signal(signal.SIGUSR1)
        assert calls == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, original)


def test_only_the_main_thread_can_ask_for_it() -> None:
    """Another thread gets Python's own error."""
    with Crew() as crew:
        assert isinstance(crew.start(dump_on_signal).error(), ValueError)


def test_it_writes_to_stderr_of_a_hung_process() -> None:
    """A process whose main thread waits for ever says why, on its standard error, when it gets the signal."""
    program = """
import sys, threading
from syncprims import TimedLock
from syncprims.diagnostics import dump_on_signal
dump_on_signal()
lock = TimedLock(name="stuck")
held = threading.Event()
def keep():
    with lock:
        held.set()
        threading.Event().wait(60)
threading.Thread(target=keep, name="keeper", daemon=True).start()
held.wait(20)
print("ready", flush=True)
lock.acquire()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        lines = [process.stderr.readline(), process.stderr.readline()]
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)
    assert lines[0].startswith(f"syncprims in process {process.pid}: 1 is busy")
    assert lines[1].startswith("TimedLock 'stuck': held by Thread 'keeper'")
