"""The recipes of the page "attach from outside" work: for its own program, with its own scripts and command lines."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polling import LIMIT, sending, until
from programs import environment
from syncprims._core.gil import HAS_GIL

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "attach-from-outside.rst"

if not PAGE.is_file():
    pytest.skip("the pages are not there: only the tests were copied", allow_module_level=True)

TEXT = PAGE.read_text(encoding="utf-8")
SLOW = 3 * LIMIT  # for gdb, which reads all debug symbols first

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the recipes were tried on Linux")
needs_remote_exec = pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="sys.remote_exec is new in Python 3.14")


def listing(caption: str) -> str:
    """The program or script that has this caption on the page."""
    (found,) = re.findall(rf"   :caption: {re.escape(caption)}\n\n((?:   .*\n|\n)+)", TEXT)
    return textwrap.dedent(found)


def run(line: str, pid: int, folder: Path, here: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command line of the page for this process, in the folder that replaces /tmp.

    Args:
        line: As on the page.
        pid: Of the process.
        folder: Where the scripts are, and reports are written.
        here: The local names of other paths in the line.
    """
    assert f"   {line}\n" in TEXT
    line = re.sub(r"\b\d{4,5}\b", str(pid), line)
    for there, path in {"/tmp/": f"{folder}/", "python3.14": sys.executable, **(here or {})}.items():
        line = line.replace(there, path)
    words = shlex.split(line)
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    kept = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    done = subprocess.run(words, cwd=folder, env=kept, capture_output=True, text=True, timeout=SLOW, check=False)
    if "not permitted" in done.stdout + done.stderr or "ermission" in done.stderr:
        pytest.skip(f"not permitted here: {done.stderr.splitlines()[-1]}")
    return done


@contextmanager
def running(program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says "ready" once it hangs; it is killed at the end."""
    with open(folder / "stderr.txt", "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(),
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)


def shop(*, main_thread: str = "seller.join(1.0)", first: str = "") -> str:
    """The program of the page, which reports when it hangs."""
    program = listing("shop.py").replace("seller.join(1.0)", main_thread)
    start, loop, rest = program.partition("while seller.is_alive():\n")
    assert loop
    ready = "while not orders.waiting:\n    seller.join(0.01)\nprint('ready', flush=True)\n"
    return first + start + ready + loop + rest


def goes_on(process: subprocess.Popen[str]) -> bool:
    """Give the answer that the program waits for, and return whether it then finishes its work and ends well."""
    output, _ = process.communicate("\n", timeout=LIMIT)
    return (output, process.returncode) == ("sold\n", 0)


def hang_report(folder: Path) -> None:
    """Put the page's script into the folder."""
    script = listing("/tmp/hang_report.py").replace("/tmp/", f"{folder}/")
    (folder / "hang_report.py").write_text(script, encoding="utf-8")


def written(pid: int, folder: Path) -> str:
    """The report, once it is written."""

    def is_there() -> bool:
        return any(file.read_text("utf-8").endswith("\n") for file in folder.glob(f"hang-{pid}-*.txt"))

    until(is_there)
    (file,) = folder.glob(f"hang-{pid}-*.txt")
    return file.read_text("utf-8")


def says_who(report: str, pid: int) -> bool:
    """Whether it is of this process and names the holder, the waiter and the main thread."""
    lines = [
        rf"syncprims in process {pid}: 1 is busy, 1 thread waits; .*",
        r"TimedLock 'orders': held by Thread 'shipper' \(ident \d+, alive\) .*",
        r"  Thread 'seller' \(ident \d+\) has waited \d+\.\d s for it, at .* in sell",
        r"  Thread 'MainThread' \(ident \d+\).*",
    ]
    return all(re.search(f"^{line}$", report, re.MULTILINE) for line in lines)


# -- py-spy ------------------------------------------------------------------------------------------------------------


def stack_by_py_spy(output: str, thread: str) -> list[str]:
    """The functions of the thread's stack, innermost first."""
    (block,) = re.findall(rf'^Thread \S+ \(\S+\): "{thread}"\n((?:    .*\n?)+)', output, re.MULTILINE)
    return [line.strip().partition(" (")[0] for line in block.splitlines()]


@pytest.mark.skipif(not HAS_GIL, reason="py-spy knows no builds without the GIL")
@pytest.mark.parametrize("line", ["py-spy dump --pid 9849", "py-spy dump --native --pid 9849"])
def test_py_spy_shows_where_each_thread_is(tmp_path: Path, line: str) -> None:
    """The waiter is in a lock's ``__enter__``, the holder in its call; with --native the C function appears too."""
    with running(shop(), tmp_path) as process:
        done = run(line, process.pid, tmp_path)
        assert done.returncode == 0, done.stderr
        seller = stack_by_py_spy(done.stdout, "seller")
        shipper = stack_by_py_spy(done.stdout, "shipper")
        assert any(each.endswith("__enter__") for each in seller[: seller.index("sell")])  # with the core's between
        assert ("read" in " ".join(shipper[: shipper.index("ship")])) == ("--native" in line)
        assert goes_on(process)


# -- sys.remote_exec ---------------------------------------------------------------------------------------------------

REMOTE_EXEC = """python3.14 -c "import sys; sys.remote_exec(10376, '/tmp/hang_report.py')\""""


def send_script(pid: int, folder: Path) -> None:
    """Make the process run the page's script."""
    hang_report(folder)
    done = run(REMOTE_EXEC, pid, folder)
    if "not enabled" in done.stderr:
        pytest.skip("this Python lets no other process run a script")
    assert done.returncode == 0, done.stderr


@needs_remote_exec
def test_remote_exec_writes_the_report(tmp_path: Path) -> None:
    """A main thread that wakes up from time to time writes it, and the program goes on."""
    with running(shop(), tmp_path) as process:
        send_script(process.pid, tmp_path)
        assert says_who(written(process.pid, tmp_path), process.pid)
        assert goes_on(process)
    assert (tmp_path / "stderr.txt").read_text() == ""


@needs_remote_exec
@pytest.mark.parametrize("wait", ["seller.join()", "orders.acquire()"])
def test_a_signal_with_a_handler_wakes_a_main_thread_that_waits(tmp_path: Path, wait: str) -> None:
    """The handler runs on top of the wait and the script with it, and the wait goes on."""
    wait = wait if "join" in wait else f"{wait}; orders.release()"
    handler = "import signal\nsignal.signal(signal.SIGHUP, lambda signum, frame: None)\n"
    with running(shop(main_thread=wait, first=handler), tmp_path) as process:
        send_script(process.pid, tmp_path)
        with sending(process.send_signal, signal.SIGHUP):
            report = written(process.pid, tmp_path)
        assert "TimedLock 'orders': held by Thread 'shipper'" in report
        assert "Thread 'MainThread'" in report
        assert goes_on(process)


@needs_remote_exec
def test_an_interrupt_gets_the_report_out_of_a_program_that_is_lost(tmp_path: Path) -> None:
    """Ctrl-C ends the main thread's wait for a thread, and the report is written after that."""
    program = shop(main_thread="seller.join()", first="import signal\nsignal.signal(2, signal.default_int_handler)\n")
    with running(program, tmp_path) as process:
        send_script(process.pid, tmp_path)
        with sending(process.send_signal, signal.SIGINT):
            report = written(process.pid, tmp_path)
        assert "TimedLock 'orders': held by Thread 'shipper'" in report


EVENT_LOOP = """
import asyncio

async def main():
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@needs_remote_exec
def test_stop_and_continue_wake_an_event_loop(tmp_path: Path) -> None:
    """An event loop that waits without a limit wakes up after SIGSTOP and SIGCONT, and runs the script."""
    with running(EVENT_LOOP, tmp_path) as process:
        send_script(process.pid, tmp_path)
        process.send_signal(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        process.send_signal(signal.SIGCONT)
        assert "Thread 'MainThread'" in written(process.pid, tmp_path)
        assert process.poll() is None


# -- gdb ---------------------------------------------------------------------------------------------------------------


def gdb_version() -> int:
    """The number before the dot."""
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    said = subprocess.run(["gdb", "--version"], capture_output=True, text=True, timeout=SLOW, check=True).stdout
    return int(re.findall(r"(\d+)\.\d+", said.splitlines()[0])[-1])


def test_gdb_shows_where_each_thread_is(tmp_path: Path) -> None:
    """With the interpreter's extension, ``py-bt`` shows the Python stack of each thread."""
    line = 'gdb -p 13299 -batch -iex "add-auto-load-safe-path /opt/python-3.11" -ex "thread apply all py-bt"'
    with running(shop(), tmp_path) as process:
        done = run(line, process.pid, tmp_path, {"/opt/python-3.11": sys.base_prefix})
        if "Undefined command" in done.stdout + done.stderr or "unable to read" in done.stdout:
            pytest.skip("gdb has no extension for this interpreter")
        assert re.search(r'line \d+, in ship\n +sys.stdin.readline|File "<string>", line \d+, in ship\b', done.stdout)
        # There may be a line of code between them, and one that says that the core's method is in C.
        assert re.search(r"__enter__\n(?: .*\n){0,3}.*, in sell\b", done.stdout)
        assert goes_on(process)


def test_gdb_gets_the_report_or_refuses_to_try(tmp_path: Path) -> None:
    """From version 14 on a call writes the report; an older gdb stops before the first call, and does no harm."""
    version = gdb_version()
    hang_report(tmp_path)
    commands = listing("hang_report.gdb").replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "hang_report.gdb").write_text(commands, encoding="utf-8")
    with running(shop(), tmp_path) as process:
        done = run("gdb -p 13299 -batch -x hang_report.gdb", process.pid, tmp_path)
        if version >= 14:
            assert "$1 = 0" in done.stdout, done.stdout + done.stderr
            assert says_who(written(process.pid, tmp_path), process.pid)
        else:
            assert "hang_report.gdb:1: Error" in done.stderr
            assert list(tmp_path.glob("hang-*")) == []
        assert goes_on(process)


# -- C code that keeps the GIL -----------------------------------------------------------------------------------------

KEEPS_THE_GIL = """
import ctypes, faulthandler, signal, threading
from syncprims import diagnostics

diagnostics.dump_on_signal()
faulthandler.register(signal.SIGUSR1, chain=True)

def ask_driver():
    print("ready", flush=True)
    ctypes.PyDLL(None).sleep(1000)

threading.Thread(target=ask_driver, name="driver", daemon=True).start()
threading.Event().wait()
"""


def test_faulthandler_shows_a_thread_that_keeps_the_gil_in_c_code(tmp_path: Path) -> None:
    """The stacks appear although no thread can run Python code, and so there is no report."""
    with running(KEEPS_THE_GIL, tmp_path) as process:
        process.send_signal(signal.SIGUSR1)
        until(lambda: "Current thread" in (tmp_path / "stderr.txt").read_text())
        until(lambda: " in ask_driver" in (tmp_path / "stderr.txt").read_text())
