"""Faults that other people's programs have found: how they start, are stopped, fork and end."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from callback_pool.pool_workers import add, say
from polling import ended, sending, until, until_exists
from syncprims import CallbackPool

from .fault_places import OWN, OWN_PROCESSES, open_pool
from .found_faults import pause
from .program_faults import await_ready, end, start
from .rows import ERROR, WORKS, row
from .task_faults import hang_here
from .witness import LIMIT

# As in program_faults, each row starts one more program: ``python -m pool_faults.found_programs NAME EXECUTOR …``


def started(name: str, place: str, *arguments: str) -> subprocess.Popen[str]:
    return start(name, place, *arguments, module=__name__)


# -- near the end of the program ---------------------------------------------------------------------------------------


@row("a pool that is made after the main thread has ended")
def made_too_late(place: str) -> str:
    """Its callback runs, or there is an error."""
    status, lines, errors = end(started("suffer_late_thread", place))
    assert status == 0, errors
    assert lines in (["callback 1"], ["refused"]), (lines, errors)
    return "✓, or E"


def suffer_late_thread(place: str) -> None:
    def late() -> None:
        threading.main_thread().join()
        try:
            pool = open_pool(place, workers=1)
            pool.apply_async(
                add, (1,), callback=lambda n: print("callback", n), error_callback=lambda _: print("refused")
            )
        except RuntimeError:
            print("refused")

    threading.Thread(target=late).start()


@row("pools in exit handlers and finalizers")
def used_at_exit(place: str) -> str:
    """Each callback runs or there is an error, and the program ends."""
    # A worker that is left behind would keep the pipes open.
    status, lines, errors = end(started("suffer_exit_handlers", place))
    assert status == 0, errors
    assert {line.partition(":")[0] for line in lines} == {"handler", "finalizer"}, (lines, errors)
    assert {line.partition(":")[2] for line in lines} <= {" callback 1", " refused"}, lines
    return "✓, or E"


def suffer_exit_handlers(place: str) -> None:
    def use(who: str, pool: CallbackPool) -> None:
        try:
            pool.apply_async(
                add,
                (1,),
                callback=lambda n: print(f"{who}: callback {n}", flush=True),
                error_callback=lambda _: print(f"{who}: refused", flush=True),
            )
            pool.close(40.0)
        except (RuntimeError, ImportError):
            print(f"{who}: refused", flush=True)

    def handle() -> None:
        try:
            pool = open_pool(place, workers=1)
        except (RuntimeError, ImportError):
            print("handler: refused", flush=True)
        else:
            use("handler", pool)

    class Buffer:
        """Writes its content when it goes away, by a pool that it made in time."""

        def __init__(self) -> None:
            self._pool = open_pool(place, workers=1)

        def __del__(self) -> None:
            use("finalizer", self._pool)

    atexit.register(handle)
    globals()["_buffer"] = Buffer()  # it goes away with the module, before the module's other variables


# -- how programs begin ------------------------------------------------------------------------------------------------

NO_GUARD = """
import sys
from pool_faults.fault_places import open_pool
pool = open_pool(sys.argv[1])
print(pool.submit(pow, 2, 3).exception(40))
"""


@row("no main guard", OWN_PROCESSES)
def no_main_guard(place: str) -> str:
    """The error of the task has the line to write, and no program starts itself again and again."""
    path = Path(tempfile.mkdtemp(), "program.py")
    path.write_text(NO_GUARD)
    status, lines, errors = end(popen([sys.executable, str(path), place]))
    assert status == 0, errors
    assert "main module" in lines[0], lines
    assert 'if __name__ == "__main__":' in lines[0], lines
    return ERROR


FROM_STDIN = """
import sys
from pool_faults.fault_places import open_pool
def double(n): return 2 * n
if __name__ == "__main__":
    pool = open_pool(sys.argv[1])
    task = pool.submit(pow, 2, 3)
    print(task.exception(40) or task.result(40))
    print(pool.submit(double, 4).exception(40))
    pool.close(40)
"""


@row("a main program from standard input", (*OWN_PROCESSES, "interpreter"))
def from_stdin(place: str) -> str:
    """Importable functions run; the program's own are refused with advice; spawn can't run any."""
    program = popen([sys.executable, "-", place], stdin=subprocess.PIPE)
    out, errors = program.communicate(FROM_STDIN, timeout=LIMIT)
    assert program.returncode == 0, errors
    first, second = out.splitlines()
    if place == "spawn":
        assert "or come from standard input?" in first
        return ERROR
    assert first == "8"
    assert "dumps=cloudpickle.dumps" in second, second
    return "E, or ✓"


def popen(command: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@row("output redirected between two pools", OWN_PROCESSES)
def output_redirected(place: str) -> str:
    """Workers write to the standard streams of the time when their pool was made."""
    folder = tempfile.mkdtemp()
    status, _, errors = end(started("suffer_redirection", place, folder))
    assert (status, errors) == (0, "")
    assert Path(folder, "one").read_text() == "first\n"
    assert Path(folder, "two").read_text() == "second\n"
    return WORKS


def suffer_redirection(place: str, folder: str) -> None:
    for name, word in (("one", "first"), ("two", "second")):
        with open(os.path.join(folder, name), "w") as file:
            os.dup2(file.fileno(), 1)
            with open_pool(place, workers=1) as pool:
                pool.submit(say, word).result(LIMIT)


# -- how they are stopped ----------------------------------------------------------------------------------------------


def run_a_program(folder: str, n: int) -> int:
    """Run an external program, such as ffmpeg or make."""
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    return subprocess.run([sys.executable, "-c", code, os.path.join(folder, str(n))], check=False).returncode


@row("Ctrl-C while tasks run external programs", OWN_PROCESSES)
def ctrl_c_with_programs(place: str) -> str:
    """None of these is left behind, and none is started any more."""
    folder = tempfile.mkdtemp()
    program = popen([sys.executable, "-m", __name__, "suffer_programs", place, folder], start_new_session=True)
    pids: list[int] = []
    try:
        until(lambda: len([each for each in Path(folder).iterdir() if each.read_text()]) == 2)
        os.killpg(program.pid, signal.SIGINT)
        end(program)
        pids = [int(each.read_text()) for each in Path(folder).iterdir()]
        assert len(pids) == 2
        assert all(map(ended, pids))
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return "none"


def suffer_programs(place: str, folder: str) -> None:
    with open_pool(place, workers=2) as pool:
        for n in range(6):
            pool.apply_async(run_a_program, (folder, n))
        pool.join()


@row("SIGTERM whose handler raises SystemExit", OWN)
def terminated(place: str) -> str:
    """Wherever the program waits for the pool, it ends with that status, promptly."""
    for way in ("join", "result", "exit", "close"):
        mark = os.path.join(tempfile.mkdtemp(), "mark")
        program = started("suffer_sigterm", place, way, mark)
        await_ready(program)
        with sending(program.send_signal, signal.SIGTERM):
            status, _, errors = end(program)
        assert status == 7, (way, status, errors)
    return "out"


def suffer_sigterm(place: str, way: str, mark: str) -> None:
    def leave(*_: object) -> NoReturn:
        sys.exit(7)

    signal.signal(signal.SIGTERM, leave)
    with open_pool(place, workers=2, grace=0.5) as pool:
        tasks = [pool.apply_async(hang_here, (mark + ".never", f"{mark}{n}")) for n in range(5)]
        until_exists(f"{mark}0")
        print("ready", flush=True)
        ways: dict[str, Callable[[], object]] = {"join": pool.join, "result": tasks[0].result, "close": pool.close}
        ways.get(way, lambda: None)()


# -- forks -------------------------------------------------------------------------------------------------------------


# Not interpreters: the child of a program that has made one crashes on CPython 3.14 and 3.15, without any library.
@row("a forked child makes a pool of its own", ("thread", *OWN_PROCESSES))
def pool_after_fork(place: str) -> str:
    """The parent has used one before; both go on."""
    status, lines, errors = end(started("suffer_fork", place))
    assert (status, lines) == (0, ["child 32", "parent 4"]), (status, lines, errors)
    return WORKS


def suffer_fork(place: str) -> None:
    with open_pool(place, workers=1) as pool:
        assert pool.submit(pow, 2, 2).result(LIMIT) == 4
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with open_pool(place, workers=1) as own:
                    print("child", own.submit(pow, 2, 5).result(LIMIT), flush=True)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        print("parent", pool.submit(pow, 2, 2).result(LIMIT))


# -- memory that is not there ------------------------------------------------------------------------------------------


@row("no room for what is shared with workers", (*OWN_PROCESSES, "ProcessPoolExecutor", "loky"))
def no_room(place: str) -> str:
    """The missing memory is never touched, so no process dies of a SIGBUS, and time limits are kept."""
    status, lines, errors = end(started("suffer_no_room", place))
    assert (status, lines) == (0, ["8", "TaskTimeoutError"]), (status, lines, errors)
    return WORKS


def suffer_no_room(place: str) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    pool = open_pool(place, workers=1)
    print(pool.submit(pow, 2, 3).result(LIMIT), flush=True)
    pid = pool.submit(os.getpid).result(LIMIT)
    task = pool.apply_async(pause, timeout=0.5)
    print(type(task.exception(LIMIT)).__name__, flush=True)
    if place not in OWN_PROCESSES:
        os.kill(pid, signal.SIGKILL)
    pool.close(LIMIT)


SUFFERERS: dict[str, Callable[..., None]] = {
    name: sufferer for name, sufferer in list(globals().items()) if name.startswith("suffer_")
}

if __name__ == "__main__":
    SUFFERERS[sys.argv[1]](*sys.argv[2:])
