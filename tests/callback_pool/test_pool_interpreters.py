"""The interpreter kind: the modules its workers find, how they end, and that a program ends although one never does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callback_pool import pool_workers
from syncprims import CallbackPool, TaskTimeoutError, TransportError
from syncprims.callback_pool.cpython import interpreters_at_exit_since_314 as inhabited

LIMIT = 60.0
TESTS = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreter pools came with 3.14")

PROGRAM = """
import atexit, os, sys, threading
from syncprims import CallbackPool

def more(n):
    return n + 1

def spin():
    while True:
        pass

def sleep():
    threading.Event().wait()

def start_a_thread_and_spin():
    threading.Thread(target=spin).start()
    spin()

def leave_a_thread():
    threading.Thread(target=sleep).start()

"""


def run(tmp_path: Path, body: str, *arguments: str) -> tuple[int, list[str], str]:
    """Run a program as a file; return status, lines and errors."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + body)
    done = subprocess.run(
        [sys.executable, str(program), *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_functions_of_the_main_module_are_found(tmp_path: Path) -> None:
    """A function of the program's own file runs over there, as it does with processes."""
    body = """
if __name__ == "__main__":
    with CallbackPool("interpreter", max_workers=1) as pool:
        print(list(pool.map(more, range(3))))
"""
    assert run(tmp_path, body) == (0, ["[1, 2, 3]"], "")


def test_main_module_without_its_guard_is_an_error(tmp_path: Path) -> None:
    """A program that starts its pool at import gets an error that says so, and does not start again and again."""
    body = """
with CallbackPool("interpreter", max_workers=1) as pool:
    print(repr(pool.submit(more, 1).exception(50)), flush=True)
"""
    status, lines, _ = run(tmp_path, body)
    assert status == 0
    assert "without its __main__ guard" in "\n".join(lines)


def test_module_is_found_where_this_interpreter_finds_it() -> None:
    """Entries that were added to sys.path here, such as pytest's of the tests' folder, are on it there."""
    with CallbackPool("interpreter", max_workers=1) as pool:
        assert pool.submit(pool_workers.add, 1, 2).result(LIMIT) == 3
        assert isinstance(pool.submit(pool_workers.fail, "there").exception(LIMIT), ValueError)


def test_interpreters_are_closed_with_the_pool() -> None:
    """Each worker has its own interpreter, which is gone when close returns, and so is the watch of the status."""
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # from 3.14

    before = len(interpreters.list_all())
    with CallbackPool("interpreter", max_workers=2) as pool:
        assert pool.submit(pool_workers.add, 1).result(LIMIT) == 1
        assert before < len(interpreters.list_all()) <= before + 2
        assert inhabited._tool is not None
    assert len(interpreters.list_all()) == before
    assert inhabited._tool is None


def test_initializer_runs_in_each_interpreter() -> None:
    """Its arguments arrive; if it raises, queued tasks fail; if it can't be pickled, it is refused at once."""
    with CallbackPool("interpreter", max_workers=1, initializer=pool_workers.remember, initargs=("key",)) as pool:
        assert pool.submit(pool_workers.remembered).result(LIMIT) == ["key"]
    with CallbackPool("interpreter", max_workers=1, initializer=pool_workers.fail_to_start) as pool:
        assert "this initializer always fails" in str(pool.submit(pool_workers.add, 1).exception(LIMIT))
    with pytest.raises(TransportError, match="can't be pickled"):
        CallbackPool("interpreter", initializer=lambda: None)


def test_stuck_interpreter_is_replaced(tmp_path: Path) -> None:
    """With its only interpreter stuck, the pool still runs queued tasks, closes, and counts the slot."""
    release = tmp_path / "release"
    told: list[BaseException] = []
    pool = CallbackPool("interpreter", max_workers=1)
    task = pool.apply_async(pool_workers.wait_for_file, (str(release),), error_callback=told.append, timeout=0.05)
    assert pool.submit(pool_workers.add, 1, 2).result(LIMIT) == 3
    task.wait_settled(LIMIT)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith(f"{pool.name}-worker")]
    pool.close(LIMIT)
    assert [type(error) for error in told] == [TaskTimeoutError]
    assert "interpreter can't be stopped" in str(told[0])
    assert pool.stats.abandoned == 1
    release.touch()
    for worker in workers:
        worker.join(LIMIT)
        assert not worker.is_alive()
    assert pool.stats.abandoned == 0


ENDLESS = """
if __name__ == "__main__":
    atexit.register(print, "exit handler")
    pool = CallbackPool("interpreter", max_workers=2)
    task = pool.apply_async(globals()[sys.argv[1]], timeout=0.2, error_callback=lambda e: print(type(e).__name__))
    task.wait_settled(50)
    print(pool.submit(more, 1).result(50))
    if sys.argv[2] == "closed":
        pool.close()
    exec(sys.argv[3])
"""


@pytest.mark.parametrize(
    ("task", "ending"), [("spin", "open"), ("sleep", "closed"), ("start_a_thread_and_spin", "open")]
)
def test_program_ends_although_an_interpreter_does_not(tmp_path: Path, task: str, ending: str) -> None:
    """Whatever an abandoned task does, the program ends with its own status, after its exit handlers and output."""
    status, lines, errors = run(tmp_path, ENDLESS, task, ending, "sys.exit(3)")
    assert (status, lines, errors) == (3, ["TaskTimeoutError", "2", "exit handler"], "")


@pytest.mark.parametrize(
    ("last", "status"),
    [("pass", 0), ("sys.exit('no')", 1), ("sys.exit()", 0), ("1 / 0", 1), ("raise KeyboardInterrupt", -2)],
)
def test_status_is_what_it_would_have_been(tmp_path: Path, last: str, status: int) -> None:
    """However the main module ends, the status is the one that the interpreter gives."""
    body = "if __name__ == '__main__':\n    exec(sys.argv[3])\n"
    assert run(tmp_path, body, "", "", last)[0] == status
    assert run(tmp_path, ENDLESS, "spin", "open", last)[0] == status


def test_abort_leaves_an_endless_task_behind(tmp_path: Path) -> None:
    """A program ends after an exception in `with`, although a task without a timeout never does."""
    body = """
if __name__ == "__main__":
    with CallbackPool("interpreter", max_workers=1) as pool:
        task = pool.apply_async(spin, error_callback=lambda error: print(type(error).__name__, flush=True))
        while not task.running():
            pass
        sys.exit(4)
"""
    assert run(tmp_path, body) == (4, ["PoolClosedError"], "")


def test_thread_that_a_task_left_behind_holds_nothing_up(tmp_path: Path) -> None:
    """A close with a limit names a thread that goes on in an interpreter, and the grace's end leaves it behind."""
    body = """
if __name__ == "__main__":
    from syncprims import PoolTimeoutError
    pool = CallbackPool("interpreter", max_workers=1, grace=0.4)
    pool.submit(leave_a_thread).result(50)
    try:
        pool.close(0.1)
    except PoolTimeoutError as error:
        print("interpreter waits for a thread that a task has left there" in str(error))
    pool.close(10)
    sys.exit(5)
"""
    status, lines, errors = run(tmp_path, body)
    assert (status, lines) == (5, ["True"])
    (told,) = errors.splitlines()
    assert "interpreter waits for a thread that a task has left there: not over after its grace, 0.4 s" in told


def test_where_nobody_can_watch_the_status_is_that_of_a_failure(tmp_path: Path) -> None:
    """If other tools occupy both ids, a program that leaves an interpreter behind ends with 1."""
    body = "for tool in (3, 4):\n    sys.monitoring.use_tool_id(tool, 'other')\n" + ENDLESS
    assert run(tmp_path, body, "spin", "open", "pass")[0] == 1


@pytest.mark.parametrize("kind", ["thread", "interpreter"])
def test_exit_handlers_run_once(tmp_path: Path, kind: str) -> None:
    """Exit handlers run once each, the newest first, whether or not a thread stays behind."""
    body = """
if __name__ == "__main__":
    for n in range(3):
        atexit.register(print, n)
    pool = CallbackPool(sys.argv[1], max_workers=1)
    pool.apply_async(spin, timeout=0.1, error_callback=print).wait_settled(50)
    atexit.register(print, "last")
"""
    status, lines, errors = run(tmp_path, body, kind)
    assert (status, lines[-4:], errors) == (0, ["last", "2", "1", "0"], "")


def exit_status(call: Callable[[], Any]) -> int:
    """The status that the watch computes for an exception."""
    try:
        call()
    except BaseException as error:
        return inhabited._status_of(error)
    return 0


@pytest.mark.parametrize("code", [0, 255, True, -1])
def test_status_of_an_exit_is_its_code(code: int) -> None:
    """Whole numbers are the status itself; the system takes the last byte."""
    assert exit_status(lambda: sys.exit(code)) & 0xFF == os.waitstatus_to_exitcode((code & 0xFF) << 8)
