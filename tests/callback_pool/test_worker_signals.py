"""Start and end of worker processes in unusual programs: with signals blocked or ignored, embedded, or killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from .test_pool_programs import run

posix = pytest.mark.skipif(os.name != "posix", reason="signals are a matter of the system")
pytestmark = posix

METHODS = [None, *multiprocessing.get_all_start_methods()]
OTHERS = [method for method in METHODS if method != "fork"]
COMMON_SERVER = ["multiprocessing.get_context('forkserver')"] if "forkserver" in METHODS else []


def sampled(quick: int, *cases: Any) -> list[Any]:
    """The cases, of which only so many run by default: each starts two programs at least."""
    return [
        case if at < quick else pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.slow)
        for at, case in enumerate(cases)
    ]


@pytest.mark.parametrize("mp_context", sampled(2, *COMMON_SERVER, *map(repr, METHODS)))
@pytest.mark.parametrize("how", sampled(1, "blocked", "ignored"))
def test_death_of_a_worker_is_noticed(tmp_path: Path, mp_context: str, how: str) -> None:
    """Also in uWSGI, whose threads block all signals, and in a program that ignores SIGCHLD; no other is killed."""
    body = f"""
import logging, multiprocessing, signal

if __name__ == "__main__":
    logging.basicConfig()
    if {how == "blocked"}:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with CallbackPool("process", max_workers=1, mp_context={mp_context}) as pool:
        print(type(pool.submit(pool_workers.kill_self).exception(50)).__name__)
        print(pool.submit(pool_workers.add, 1, 2).result(50))
"""
    status, lines, errors = run(tmp_path, body)
    assert (status, lines) == (0, ["BrokenProcessPool", "3"]), errors
    # Other messages may appear there: from 3.12 on, a fork in a program with threads causes a warning.
    assert "kills worker process" not in errors


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="the system has no sigtimedwait")
@pytest.mark.parametrize("mp_context", sampled(1, *METHODS))
def test_program_that_waits_for_its_signals_goes_on_to_get_them(tmp_path: Path, mp_context: str | None) -> None:
    """No thread of the pool unblocks a signal that all threads block: it would end the program."""
    body = f"""
import signal

if __name__ == "__main__":
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with CallbackPool("process", max_workers=1, mp_context={mp_context!r}) as pool:
        print(pool.submit(pool_workers.add, 1, 2).result(50))
        for number in signals:
            os.kill(os.getpid(), number)
            print(signal.sigtimedwait([number], 20).si_signo == number)
"""
    status, lines, _ = run(tmp_path, body)
    assert (status, lines) == (0, ["3", "True", "True", "True"])


@pytest.mark.parametrize("mp_context", sampled(1, *METHODS))
@pytest.mark.parametrize("ignored", sampled(1, True, False))
def test_programs_of_a_task_ignore_interrupts_if_the_program_does(
    tmp_path: Path, mp_context: str | None, ignored: bool
) -> None:
    """A job in the background goes on after Ctrl-C, with all programs that it has started; another one does not."""
    body = f"""
import signal, subprocess

def ignores():
    command = "import signal; raise SystemExit(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    return bool(subprocess.run([sys.executable, "-c", command]).returncode)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, {"signal.SIG_IGN" if ignored else "signal.default_int_handler"})
    with CallbackPool("process", max_workers=1, mp_context={mp_context!r}) as pool:
        print(pool.submit(ignores).result(50), pool.submit(pool_workers.ignores_interrupts).result(50))
"""
    status, lines, _ = run(tmp_path, body)
    assert (status, lines) == (0, [f"{ignored} True"])


# -- a program that is not a Python ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mp_context", sampled(1, *OTHERS))
def test_program_that_is_no_python_is_named_with_what_to_do(tmp_path: Path, mp_context: str | None) -> None:
    """In an embedded Python, sys.executable is the embedding program, such as uWSGI, which ends at once."""
    program = shutil.which("false")
    assert program is not None
    body = f"""
import multiprocessing, warnings

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # multiprocessing's tracker of resources says that it can't start either
    python = sys.executable
    multiprocessing.set_executable({program!r})
    with CallbackPool("process", max_workers=1, name="images", mp_context={mp_context!r}) as pool:
        error = pool.submit(pool_workers.add, 1, 2).exception(50)
        print(type(error).__name__, error)
    multiprocessing.set_executable(python)
    with CallbackPool("process", max_workers=1, mp_context={mp_context!r}) as pool:
        print(pool.submit(pool_workers.add, 1, 2).result(50))
"""
    status, lines, errors = run(tmp_path, body)
    assert status == 0, errors
    assert lines[0].startswith("BrokenProcessPool ")
    assert "'images'" in lines[0]
    assert "status 1" in lines[0]
    assert f"Is {program!r}, which was started for it, no Python?" in lines[0]
    assert "multiprocessing.set_executable('/path/to/python')" in lines[0]
    assert lines[1:] == ["3"]


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_missing_interpreter_is_refused_by_submit(tmp_path: Path, executable: str) -> None:
    """This happens at once, and no task is submitted; once the path is set, the same pool works."""
    body = f"""
import multiprocessing

if __name__ == "__main__":
    python = sys.executable
    multiprocessing.set_executable({executable!r})
    with CallbackPool("process", max_workers=1, name="images") as pool:
        try:
            pool.submit(pool_workers.add, 1, 2)
        except RuntimeError as error:
            print(error)
        print(pool.stats.submitted)
        multiprocessing.set_executable(python)
        print(pool.submit(pool_workers.add, 1, 2).result(50))
"""
    status, lines, errors = run(tmp_path, body)
    assert (status, errors) == (0, "")
    assert ("sys.executable is empty" if not executable else f"{executable!r}, which multi") in lines[0]
    assert "set_executable('/path/to/python')" in lines[0]
    assert lines[1:] == ["0", "3"]


# -- the parent's end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mp_context", "ends"),
    sampled(2, ("spawn", "pass"), (None, "raise LookupError"), *((method, "pass") for method in OTHERS)),
)
def test_worker_that_comes_up_after_its_parents_death_says_nothing(
    tmp_path: Path, mp_context: str | None, ends: str
) -> None:
    """Its terminal is another program's by then."""
    body = f"""
import signal
from pathlib import Path
from polling import ended

if __name__ == "__main__":
    os.environ["PARENT"] = str(os.getpid())
    with CallbackPool("process", max_workers=1, mp_context={mp_context!r}) as pool:
        pool.submit(pool_workers.add, 1, 2).result(50)
else:
    os.kill(int(os.environ["PARENT"]), signal.SIGKILL)
    ended(int(os.environ["PARENT"]))
    {ends}
"""
    assert run(tmp_path, body) == (-signal.SIGKILL, [], "")
