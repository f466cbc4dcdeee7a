"""A signal makes a hanging process report."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

import pytest

from locks.actors import LIMIT, Actors, eventually, wait_for
from polling import sending
from syncprims import TimedLock
from syncprims._core.stacks import FRAMES_ARE_SHARED
from syncprims.diagnostics import SignalDump, dump_on_signal, signal_dump
from syncprims.diagnostics.c_handlers import action_of

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """Leave the handler as it was."""
    before, action = signal.getsignal(signal.SIGUSR1), action_of(signal.SIGUSR1)
    yield
    after = action_of(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert action is None or (after is not None and after.handler == action.handler)


def test_it_writes_the_report_to_the_file(tmp_path: Path) -> None:
    """The signal writes the report to the file, at once and without its buffer."""
    with open(tmp_path / "dump.txt", "w+", encoding="utf-8") as file, dump_on_signal(file=file):
        with TimedLock(name="accounts"):
            signal.raise_signal(signal.SIGUSR1)
        said = (tmp_path / "dump.txt").read_text("utf-8")
        assert "TimedLock 'accounts': held by Thread 'MainThread'" in said
        # The holder is the thread that got the signal: its stack ends in the program, not in the dump itself.
        mine = said.split("\nother threads:\n", 1)[0]
        assert mine.splitlines()[-1].endswith("in test_it_writes_the_report_to_the_file")


def test_it_shows_what_has_nothing_to_do_with_the_library() -> None:
    """A thread that hangs in another library's lock is there with its stack."""
    text, begun, end = io.StringIO(), Event(), Event()

    def wait_for_something_else() -> None:
        begun.set()
        wait_for(end)

    with dump_on_signal(file=text), Actors() as actors:
        actors.start(wait_for_something_else, "stranger")
        wait_for(begun)
        signal.raise_signal(signal.SIGUSR1)
        end.set()
    others = text.getvalue().split("\nother threads:\n", 1)[1]
    assert "Thread 'stranger' (ident" in others
    assert "in wait_for_something_else" in others or not FRAMES_ARE_SHARED  # then only the innermost frame is known


def test_it_writes_to_what_is_no_real_file() -> None:
    """A file without a number, like a StringIO, gets the report as well."""
    text = io.StringIO()
    with dump_on_signal(file=text), TimedLock(name="accounts"):
        signal.raise_signal(signal.SIGUSR1)
    assert "TimedLock 'accounts'" in text.getvalue()


def test_a_closed_file_does_not_end_the_program() -> None:
    """A report that can't be delivered is dropped without an error."""
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
    with open(path, "w", encoding="utf-8") as file, dump_on_signal(file=file), Actors() as actors:
        actors.start(hold_and_ask, "holder")
        eventually(lambda: held)
        with lock.hold(LIMIT):
            pass
    text = path.read_text("utf-8")
    assert "TimedLock 'wanted': held by Thread 'holder'" in text
    assert "Thread 'MainThread' (ident" in text


def test_the_handler_before_it_is_called_and_put_back() -> None:
    """The earlier handler is still called, after the report, and is restored afterwards."""
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
    with Actors() as actors:
        assert isinstance(actors.start(dump_on_signal).error(), ValueError)


def test_it_writes_to_stderr_of_a_hung_process() -> None:
    """If the main thread waits forever, the signal writes the reason to standard error."""
    program = """
import sys, threading
from syncprims import TimedLock
from syncprims._core.stacks import FRAMES_ARE_SHARED
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
        with sending(process.send_signal, signal.SIGUSR1):
            lines = [process.stderr.readline(), process.stderr.readline()]
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)
    assert lines[0].startswith(f"syncprims in process {process.pid}: 1 is busy")
    assert lines[1].startswith("TimedLock 'stuck': held by Thread 'keeper'")


# -- what handled the signal before ------------------------------------------------------------------------------------


def put_handler(handler: object) -> object:
    """Install a handler for the test's signal; return the earlier one."""
    return signal.signal(signal.SIGUSR1, handler)  # type: ignore[arg-type]  # a result of signal.getsignal


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """The handlers' calls in a test, in order; the system's handler is restored after the test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield []
    faulthandler.unregister(signal.SIGUSR1)
    put_handler(before)


class Noting(io.StringIO):
    """A file that notes each write in a list."""

    def __init__(self, calls: list[str], name: str) -> None:
        super().__init__()
        self._calls, self._name = calls, name

    def write(self, text: str) -> int:
        """Note it."""
        assert text.startswith("syncprims in process")
        self._calls.append(self._name)
        return len(text)


@pytest.fixture
def in_c(calls: list[str]) -> Iterator[None]:
    """A handler in C for the signal, without Python's table."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    code = kind(lambda signum: calls.append(f"C handler of {signum}"))
    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_int, kind)
    set_handler(signal.SIGUSR1, code)
    yield
    put_handler(signal.SIG_DFL)


def in_c_said() -> str:
    """The notes of the handler in C."""
    return f"C handler of {int(signal.SIGUSR1)}"


def test_a_handler_in_c_is_called_and_put_back(calls: list[str], in_c: None) -> None:
    """A handler that Python's table does not know is called after each report, and is restored afterwards."""
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    with dump_on_signal(file=Noting(calls, "report")):
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR1)
        assert calls == ["report", in_c_said()] * 2
    signal.raise_signal(signal.SIGUSR1)
    assert calls[4:] == [in_c_said()]


def test_a_handler_in_c_that_passes_the_signal_on_does_not_make_a_loop(calls: list[str]) -> None:
    """C code over a Python handler that calls it: report, C code and handler come once each."""
    put_handler(lambda signum, frame: calls.append("Python handler"))
    python = action_of(signal.SIGUSR1)
    assert python is not None

    def pass_on(signum: int) -> None:
        calls.append("C handler")
        mine = action_of(signum)
        assert mine is not None
        python.put_back()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])  # the system has blocked it while this runs
        signal.raise_signal(signum)
        mine.put_back()

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    code = kind(pass_on)
    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_int, kind)
    set_handler(signal.SIGUSR1, code)
    with dump_on_signal(file=Noting(calls, "report")):
        signal.raise_signal(signal.SIGUSR1)
        assert calls == ["report", "C handler", "Python handler"]
    calls.clear()
    signal.raise_signal(signal.SIGUSR1)
    assert calls == ["C handler", "Python handler"]


class Stacks:
    """A file for the output of faulthandler."""

    def __init__(self, folder: Path) -> None:
        self.file = open(folder / "stacks.txt", "w", encoding="utf-8")  # noqa: SIM115  closed by the fixture
        self._path = folder / "stacks.txt"

    def count(self) -> int:
        """How often the stacks were written."""
        return self._path.read_text("utf-8").count("Current thread")

    def dump(self) -> SignalDump:
        """Reports into the same file."""
        return dump_on_signal(file=self.file)

    def reports(self) -> int:
        """How many reports were written."""
        return self._path.read_text("utf-8").count("syncprims in process")


@pytest.fixture
def stacks(tmp_path: Path, calls: list[str]) -> Iterator[Stacks]:
    """A file for the output of faulthandler."""
    found = Stacks(tmp_path)
    yield found
    faulthandler.unregister(signal.SIGUSR1)
    found.file.close()


@pytest.mark.parametrize("order", ["faulthandler first", "faulthandler first, chained", "report first"])
def test_it_works_together_with_faulthandler(stacks: Stacks, order: str) -> None:
    """Whichever is first: stacks and report both come at each signal, and only stacks after the end."""
    if order == "report first":
        dumping = stacks.dump()
        faulthandler.register(signal.SIGUSR1, stacks.file, chain=True)
    else:
        faulthandler.register(signal.SIGUSR1, stacks.file, chain=order.endswith("chained"))
        dumping = stacks.dump()
    for time in (1, 2):
        signal.raise_signal(signal.SIGUSR1)
        assert (stacks.count(), stacks.reports()) == (time, time)
    dumping.stop()
    signal.raise_signal(signal.SIGUSR1)
    assert (stacks.count(), stacks.reports()) == (3, 2)


def test_faulthandler_is_put_on_top_of_the_handler_that_it_was_over(stacks: Stacks, calls: list[str]) -> None:
    """A Python handler, then faulthandler, then reports: all three come, and the first two after the end."""
    put_handler(lambda signum, frame: calls.append("Python handler"))
    faulthandler.register(signal.SIGUSR1, stacks.file, chain=True)
    with stacks.dump():
        signal.raise_signal(signal.SIGUSR1)
        assert (stacks.count(), stacks.reports(), len(calls)) == (1, 1, 1)
    signal.raise_signal(signal.SIGUSR1)
    assert (stacks.count(), stacks.reports(), len(calls)) == (2, 1, 2)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from 3.14 on faulthandler does not show its files")
def test_faulthandler_keeps_its_file(stacks: Stacks, calls: list[str]) -> None:
    """Its registration is made again for its own file, while the reports go to theirs."""
    faulthandler.register(signal.SIGUSR1, stacks.file)
    with dump_on_signal(file=Noting(calls, "report")):
        signal.raise_signal(signal.SIGUSR1)
    assert (stacks.count(), stacks.reports(), calls) == (1, 0, ["report"])


@pytest.mark.parametrize("number", [0, 1])
def test_faulthandler_without_a_file_that_is_known_writes_to_that_of_the_report(stacks: Stacks, number: int) -> None:
    """The file of a registration by number can't be found out; a closed file can't be used."""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "w", encoding="utf-8") as other:
        faulthandler.register(signal.SIGUSR1, other.fileno() if number else other)
    with stacks.dump():
        signal.raise_signal(signal.SIGUSR1)
    assert (stacks.count(), stacks.reports()) == (1, 1)


def test_a_faulthandler_that_was_replaced_long_ago_does_not_come_back(stacks: Stacks, calls: list[str]) -> None:
    """A registration that a Python handler has replaced since then does not count as the earlier handler."""
    faulthandler.register(signal.SIGUSR1, stacks.file)
    put_handler(lambda signum, frame: calls.append("Python handler"))
    with stacks.dump():
        signal.raise_signal(signal.SIGUSR1)
    assert (stacks.count(), stacks.reports(), calls) == (0, 1, ["Python handler"])


@pytest.mark.parametrize("first_out", [0, 1])
@pytest.mark.parametrize("with_stacks", [False, True], ids=["alone", "with faulthandler"])
def test_several_may_be_stopped_in_any_order(
    stacks: Stacks, calls: list[str], first_out: int, with_stacks: bool
) -> None:
    """Each writes until its own end, whichever ends first, and the original handler is restored at the end."""
    put_handler(lambda signum, frame: calls.append("handler"))
    before = signal.getsignal(signal.SIGUSR1)
    if with_stacks:
        faulthandler.register(signal.SIGUSR1, stacks.file, chain=True)
    names = ["lower", "upper"]
    dumps = [dump_on_signal(file=Noting(calls, name)) for name in names]
    signal.raise_signal(signal.SIGUSR1)
    assert calls == ["upper", "lower", "handler"]
    dumps[first_out].stop()
    signal.raise_signal(signal.SIGUSR1)
    assert calls[3:] == [names[1 - first_out], "handler"]
    dumps[1 - first_out].stop()
    assert signal.getsignal(signal.SIGUSR1) is before
    signal.raise_signal(signal.SIGUSR1)
    assert calls[5:] == ["handler"]
    if with_stacks and sys.version_info < (3, 14):
        assert stacks.count() == 3


def test_a_handler_that_was_installed_on_top_stays(calls: list[str]) -> None:
    """Stopping removes only the report; the handlers that the program installed before and since are still called."""
    put_handler(lambda signum, frame: calls.append("before"))
    before = signal.getsignal(signal.SIGUSR1)
    dumping = dump_on_signal(file=Noting(calls, "report"))
    below = signal.getsignal(signal.SIGUSR1)

    def on_top(signum: int, frame: FrameType | None) -> None:
        calls.append("on top")
        assert callable(below)
        below(signum, frame)

    put_handler(on_top)
    dumping.stop()
    signal.raise_signal(signal.SIGUSR1)
    assert calls == ["on top", "before"]
    assert signal.getsignal(signal.SIGUSR1) is on_top
    # The program restores the handler that it had found: the next signal finds that it is stopped, and removes it.
    put_handler(below)
    signal.raise_signal(signal.SIGUSR1)
    assert calls[2:] == ["before"]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_what_is_stopped_under_another_handler_leaves_the_default_action() -> None:
    """If another handler restores a stopped report, the next signal ends the process, as originally."""
    program = """
import signal
from syncprims.diagnostics import dump_on_signal
dumping = dump_on_signal()
before = signal.signal(signal.SIGUSR1, print)
dumping.stop()
signal.signal(signal.SIGUSR1, before)
signal.raise_signal(signal.SIGUSR1)
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGUSR1, "", "")


@pytest.mark.parametrize("action", [signal.SIG_DFL, signal.SIG_IGN])
def test_the_default_and_ignoring_are_put_back(calls: list[str], action: signal.Handlers) -> None:
    """Neither is called: the process goes on after a report, and the action is restored."""
    put_handler(action)
    with dump_on_signal(file=Noting(calls, "report")):
        signal.raise_signal(signal.SIGUSR1)
    assert calls == ["report"]
    assert signal.getsignal(signal.SIGUSR1) == action


def test_what_a_handler_raises_comes_out_after_the_report(calls: list[str]) -> None:
    """As with Ctrl-C's KeyboardInterrupt: the report is written, and the exception propagates."""

    def refuse(signum: int, frame: object) -> None:
        raise InterruptedError("by the handler")

    put_handler(refuse)
    with dump_on_signal(file=Noting(calls, "report")), pytest.raises(InterruptedError, match="by the handler"):
        signal.raise_signal(signal.SIGUSR1)
    assert calls == ["report"]


def test_a_handler_of_which_python_knows_nothing_is_called_and_put_back(
    calls: list[str], in_c: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an embedding program `signal.getsignal` is None for C handlers that are older than the interpreter."""
    monkeypatch.setattr(signal, "getsignal", lambda signum: None)
    dumping = dump_on_signal(file=Noting(calls, "report"))
    monkeypatch.undo()
    signal.raise_signal(signal.SIGUSR1)
    assert calls == ["report", in_c_said()]
    dumping.stop()
    signal.raise_signal(signal.SIGUSR1)
    assert calls[2:] == [in_c_said()]


def test_only_the_main_thread_can_stop_it() -> None:
    """Another thread gets an error, and the reports go on until the main thread stops them."""
    text = io.StringIO()
    with dump_on_signal(file=text) as dumping:
        with Actors() as actors:
            assert isinstance(actors.start(dumping.stop).error(), ValueError)
        signal.raise_signal(signal.SIGUSR1)
    assert text.getvalue()


@pytest.mark.parametrize("missing", ["ctypes", "sigaction"])
def test_it_works_where_handlers_in_c_can_not_be_found(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Without ctypes, or on a system without sigaction, it uses only Python's own table of handlers."""
    if missing == "ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    else:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert action_of(signal.SIGUSR1) is None
    put_handler(lambda signum, frame: calls.append("handler"))
    with dump_on_signal(file=Noting(calls, "report")):
        signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    assert calls == ["report", "handler", "handler"]


# -- files and reports that fail ---------------------------------------------------------------------------------------


class Refusing:
    """A file that refuses everything."""

    def write(self, text: str) -> int:
        """Refuse."""
        raise SystemExit("no")

    def __getattr__(self, name: str) -> object:
        raise LookupError(name)


def test_neither_a_file_nor_a_report_that_fails_reaches_the_program(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exceptions of the file or the report stay in the handler, and the earlier handler is still called."""
    put_handler(lambda signum, frame: calls.append("before"))
    with dump_on_signal(file=Refusing()):  # type: ignore[arg-type]  # on purpose
        signal.raise_signal(signal.SIGUSR1)
    text = io.StringIO()
    with dump_on_signal(file=text), monkeypatch.context() as patched:
        patched.setattr(signal_dump, "report", lambda *args, **options: 1 // 0)
        signal.raise_signal(signal.SIGUSR1)
    assert calls == ["before", "before"]
    assert text.getvalue() == "syncprims could not make its report\n"


@pytest.mark.parametrize("file", [io.BytesIO(), "report.txt", 2])
def test_what_takes_no_text_is_refused(file: Any) -> None:
    """A file that can't take the report is an error at once, and the signal's handler does not change."""
    with pytest.raises(TypeError, match="file must be a text file"):
        dump_on_signal(file=file)


def test_a_full_pipe_gets_what_fits(tmp_path: Path) -> None:
    """A full pipe that does not block gets the beginning once; the program goes on."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    locks = [TimedLock(name=f"lock-{number}-{'x' * 200}") for number in range(1000)]
    with (
        os.fdopen(reading, "rb") as out,
        os.fdopen(writing, "w", encoding="utf-8") as file,
        contextlib.ExitStack() as all_of,
    ):
        for lock in locks:
            all_of.enter_context(lock)
        with dump_on_signal(file=file):
            signal.raise_signal(signal.SIGUSR1)
        os.set_blocking(reading, False)
        assert out.read().count(b"syncprims in process") == 1


# -- a main thread that hangs in C code --------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is one on Linux")
@pytest.mark.parametrize("order", ["faulthandler first", "report first"])
@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_faulthandler_shows_what_hangs_in_c(order: str, library: str) -> None:
    """A main thread that waits in C, with or without the GIL, runs no handler; the recipe shows where it is."""
    steps = ["dump_on_signal()", "faulthandler.register(signal.SIGUSR1, chain=True)"]
    first, second = steps[::-1] if order == "faulthandler first" else steps
    program = f"""
import ctypes, faulthandler, signal
from syncprims.diagnostics import dump_on_signal
{first}
{second}
mutex = ctypes.create_string_buffer(64)
lock = ctypes.{library}(None).pthread_mutex_lock
lock(mutex)
def hang_in_c():
    print("ready", flush=True)
    lock(mutex)
hang_in_c()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert "most recent call first" in process.stderr.readline()
        assert process.stderr.readline().endswith("in hang_in_c\n")
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)
