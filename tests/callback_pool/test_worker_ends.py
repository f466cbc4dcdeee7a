"""Start and end of worker processes with obstacles: initializers, leftovers, signals, a full machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

import pytest

from polling import ended, until, until_exists
from syncprims import CallbackPool, PoolTimeoutError, TaskTimeoutError
from syncprims.callback_pool.travel import shared_file, start_board
from syncprims.callback_pool.travel.arrival import WORD_OF_THE_POOL
from syncprims.callback_pool.travel.start_board import StartBoard, make_board, stamp
from syncprims.callback_pool.workers.fork_server import OwnForkServer
from syncprims.diagnostics import snapshot
from syncprims.testing import Threads

from . import pool_workers
from .test_pool_programs import run

LIMIT = 60.0
posix = pytest.mark.skipif(os.name != "posix", reason="made of what POSIX has")


# -- what a task leaves in its worker ----------------------------------------------------------------------------------


def leave_thread(path: str) -> int:
    """Leave a thread in the worker that runs until the file exists."""
    threading.Thread(target=until_exists, args=(path, 60.0), name="kafka").start()
    return os.getpid()


def leave_process(path: str) -> tuple[int, int]:
    """Leave a child process of the worker that runs until the file exists."""
    child = multiprocessing.get_context("spawn").Process(target=until_exists, args=(path, 60.0))
    child.start()
    assert child.pid is not None
    return os.getpid(), child.pid


def leave_fork(path: str) -> int:
    """Leave a child process that multiprocessing does not know, and that has all of the worker's descriptors."""
    if os.fork() == 0:
        until_exists(path, 60.0)
        os._exit(0)
    return os.getpid()


@posix
def test_close_with_a_limit_names_what_a_task_has_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """This is a thread or a process; closing again waits on, until the grace is over and the worker is killed."""
    go = str(tmp_path / "go")
    pool = CallbackPool("process", max_workers=2, grace=1.0)
    try:
        pid = pool.submit(leave_thread, go).result(LIMIT)
        started = time.monotonic()
        with pytest.raises(PoolTimeoutError, match=rf"worker process {pid}, in which a task has left thread 'kafka'"):
            pool.close(0.3)
        pool.close(LIMIT)
        assert time.monotonic() - started < LIMIT
        assert ended(pid)
        assert f"worker process {pid}, in which a task has left thread 'kafka'" in caplog.text
        pool.close(0)
    finally:
        Path(go).touch()


@posix
def test_process_that_a_task_has_left_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving `with` waits for its worker no longer than the grace; the child itself goes on."""
    go = tmp_path / "go"
    try:
        with CallbackPool("process", max_workers=1, grace=0.3) as pool:
            pid, child = pool.submit(leave_process, str(go)).result(LIMIT)
        assert ended(pid)
        assert f"worker process {pid}, in which a task has left process {child}" in caplog.text
    finally:
        go.touch()
    assert ended(child)


@posix
def test_child_that_a_task_has_forked_holds_nothing_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It has all descriptors of its worker."""
    go = tmp_path / "go"
    try:
        with CallbackPool("process", max_workers=1) as pool:
            pid = pool.submit(leave_fork, str(go)).result(LIMIT)
        assert ended(pid)
        assert caplog.text == ""
    finally:
        go.touch()


@posix
def test_worker_that_ends_within_its_grace_is_not_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its work at the end is completed."""
    go, done = tmp_path / "go", tmp_path / "done"
    with Threads() as threads:
        with CallbackPool("process", max_workers=1, grace=LIMIT) as pool:
            pool.submit(touch_at_exit, str(go), str(done)).result(LIMIT)
            threads.start(go.touch)
        assert done.exists()
    assert caplog.text == ""


def touch_at_exit(go: str, done: str) -> None:
    def wait_and_touch() -> None:
        until_exists(go)
        Path(done).touch()

    threading.Thread(target=wait_and_touch).start()


@pytest.mark.parametrize("way", ["open", "with", "abort", "shutdown", "dropped", "terminate", "no limit"])
def test_program_ends_though_a_task_has_left_a_thread(tmp_path: Path, way: str) -> None:
    """This holds for any end of its pool; without a grace it waits for that thread, like the standard executor."""
    body = """
import gc
from callback_pool.test_worker_ends import leave_thread

if __name__ == "__main__":
    way, go = sys.argv[2:]
    pool = CallbackPool("process", max_workers=1, grace=None if way == "no limit" else 1.5, name="p")
    pool.submit(leave_thread, go).result(50)
    if way == "with":
        with pool:
            pass
    elif way == "abort":
        pool.abort()
    elif way == "shutdown":
        pool.shutdown(wait=False)
    elif way == "terminate":
        pool.terminate()
    elif way == "dropped":
        pool = None
        gc.collect()
    elif way == "no limit":
        open(go, "w").close()
    print("out")
"""
    status, lines, errors = run(tmp_path, body, way, str(tmp_path / "go"))
    (tmp_path / "go").touch()
    assert (status, lines) == (0, ["out"])
    if way in ("terminate", "no limit"):
        assert errors == ""
    else:
        assert "in which a task has left thread 'kafka'" in errors


# -- terminate ---------------------------------------------------------------------------------------------------------


@posix
def test_terminate_kills_the_workers_and_cancels_their_tasks(tmp_path: Path) -> None:
    """It does so at once; tasks sent in advance do not begin, and every callback is called."""
    told: list[BaseException] = []
    pool = CallbackPool("process", max_workers=2)
    marks = [str(tmp_path / name) for name in "ab"]
    running = [pool.apply_async(pool_workers.announce_then_hang, (mark,), error_callback=told.append) for mark in marks]
    begun = tmp_path / "begun"
    rest = [pool.apply_async(Path.touch, (begun,), error_callback=told.append) for _ in range(300)]
    for mark in marks:
        until_exists(mark)
    started = time.monotonic()
    assert pool.terminate() == []
    pool.join(LIMIT)
    assert time.monotonic() - started < 10
    for mark in marks:
        assert ended(int(Path(mark).read_text()), limit=5)
    assert all(task.cancelled() for task in running)
    assert all(task.cancelled() for task in rest)
    assert len(told) == 302
    assert {type(error) for error in told} == {CancelledError}
    assert not begun.exists()
    pool.close(LIMIT)


def wait_after(began: threading.Event, go: threading.Event) -> bool:
    began.set()
    return go.wait(LIMIT)


def test_terminate_of_threads_returns_what_runs() -> None:
    """They can't be killed."""
    go, began = threading.Event(), threading.Event()
    pool = CallbackPool("thread", max_workers=1)
    task = pool.submit(wait_after, began, go)
    assert began.wait(LIMIT)
    assert pool.terminate() == [task]
    go.set()
    assert task.result(LIMIT) is True


@posix
def test_abort_cancels_what_was_sent_in_advance(tmp_path: Path) -> None:
    """A worker that is free again does not begin it."""
    go, begun = tmp_path / "go", tmp_path / "begun"
    pool = CallbackPool("process", max_workers=1)
    first = pool.submit(pool_workers.wait_for_file, str(go))
    rest = [pool.submit(Path.touch, begun) for _ in range(5)]
    until(first.running)
    pool.abort()
    go.touch()
    assert first.result(LIMIT) == str(go)
    pool.join(LIMIT)
    assert all(task.cancelled() for task in rest)
    assert not begun.exists()


# -- initializers ------------------------------------------------------------------------------------------------------


def refuse_to_start() -> NoReturn:
    raise ValueError("no database")


def die() -> NoReturn:
    os._exit(3)


def hang(path: str) -> None:
    until_exists(path, 60.0)


def hang_in_one(folder: str) -> None:
    """Hang in the second worker that starts."""
    try:
        os.mkdir(os.path.join(folder, "first"))
    except FileExistsError:
        until_exists(os.path.join(folder, "go"), 60.0)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_initializers_error_is_the_cause(kind: Any) -> None:
    """This holds for processes and threads; and its text is in the message."""
    with CallbackPool(kind, max_workers=1, initializer=refuse_to_start) as pool:
        error = pool.submit(pow, 2, 3).exception(LIMIT)
    assert isinstance(error, BrokenExecutor)
    assert "the initializer of" in str(error)
    assert "ValueError: no database" in str(error)
    assert isinstance(error.__cause__, ValueError)


def test_initializer_that_ends_its_process_is_suspected() -> None:
    """It leaves no error behind, but it is known to have run."""
    with CallbackPool("process", max_workers=1, initializer=die) as pool:
        error = pool.submit(pow, 2, 3).exception(LIMIT)
    assert isinstance(error, BrokenExecutor)
    assert "died twice before a task could begin: it exited with status 3 during its initializer" in str(error)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_program_ends_though_an_initializer_hangs(tmp_path: Path, kind: str) -> None:
    """Then the tasks that wait for it fail, with the reason; no process is left."""
    body = """
from callback_pool.test_worker_ends import hang

if __name__ == "__main__":
    pool = CallbackPool(sys.argv[2], max_workers=1, initializer=hang, initargs=(sys.argv[3],), grace=0.2, name="p")
    pool.apply_async(pow, (2, 3), error_callback=print)
"""
    status, lines, _ = run(tmp_path, body, kind, str(tmp_path / "go"))
    (tmp_path / "go").touch()
    assert status == 0
    (said,) = lines
    assert "no worker of 'p' has come through its start" in said
    assert "its initializer has not returned" in said


def test_slow_initializer_is_waited_for_at_exit(tmp_path: Path) -> None:
    """It has four times the grace."""
    body = """
import time

def slow():
    time.sleep(0.5)

if __name__ == "__main__":
    pool = CallbackPool(sys.argv[2], max_workers=1, initializer=slow, grace=4.0)
    pool.apply_async(pow, (2, 3), callback=print)
"""
    for kind in ("thread", "process"):
        assert run(tmp_path, body, kind) == (0, ["8"], "")


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_worker_that_hangs_in_its_initializer_holds_up_no_end(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one has done all the tasks."""
    try:
        pool = CallbackPool(kind, max_workers=2, initializer=hang_in_one, initargs=(str(tmp_path),), grace=0.5)
        tasks = [pool.submit(pow, 2, n) for n in range(4)]
        assert [task.result(LIMIT) for task in tasks] == [1, 2, 4, 8]
        with pytest.raises(PoolTimeoutError, match="whose initializer has not returned"):
            pool.close(0.1)
        pool.close(LIMIT)
        assert "whose initializer has not returned" in caplog.text
    finally:
        (tmp_path / "go").touch()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_wait_for_workers_that_do_not_come_up_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    """With a limit the error names them; without one, a warning comes after a while, and the wait goes on."""
    go = str(tmp_path / "go")
    worker = r"(thread 'jobs-worker-1'|worker process \d+), whose initializer has not returned"
    pool = CallbackPool(
        kind, max_workers=1, initializer=pool_workers.wait_for_file, initargs=(go,), grace=0.5, name="jobs"
    )
    task = pool.submit(len, "abc")
    until(lambda: bool(pool._backend.starting()) and "initializer" in pool._backend.starting()[0])
    with pytest.raises(PoolTimeoutError, match=f"1 pending; no worker has come through its start: {worker}"):
        pool.close(0.01)
    with Threads() as threads:
        closing = threads.start(pool.close)
        try:
            until(lambda: bool(caplog.messages))
            assert not closing.done()
        finally:
            Path(go).touch()
    closing.result()
    assert task.result() == 3
    (line,) = caplog.messages
    assert re.match(
        f"'jobs' has waited 2 s for the end of its tasks, and no worker has come through its start: {worker}", line
    )


def test_wait_for_workers_that_come_up_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A long task causes no message, nor does an initializer that returned in the other worker."""
    go = threading.Event()
    with CallbackPool(max_workers=1, initializer=bool, grace=0.01) as pool, Threads() as threads:
        pool.submit(go.wait, LIMIT)
        until(lambda: pool.stats.running == 1)
        joining = threads.start(pool.join)
        until(lambda: any(state.waiters for state in snapshot()))
        assert pool._ending._slow_start is None
        go.set()
        joining.result()
    assert not caplog.messages


def test_server_that_hangs_at_its_start_holds_up_no_end(tmp_path: Path) -> None:
    """A `sitecustomize` of the environment can cause this."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import time; time.sleep(60)")
    body = """
if __name__ == "__main__":
    from multiprocessing import resource_tracker
    resource_tracker.ensure_running()  # another child, which would hang too
    os.environ["PYTHONPATH"] = os.path.join(sys.argv[2], "site")
    pool = CallbackPool("process", max_workers=1, grace=0.3, name="p")
    pool.apply_async(pow, (2, 3), error_callback=print)
"""
    status, lines, complaints = run(tmp_path, body, str(tmp_path))
    assert status == 0
    assert "no worker of 'p' has come through its start" in lines[0]
    assert "Exception in thread" not in complaints


def test_grace_is_checked() -> None:
    """It is checked at once, like every number of seconds."""
    for value, error in ((-1, ValueError), (float("nan"), ValueError), ("5", TypeError)):
        with pytest.raises(error):
            CallbackPool(grace=value)  # type: ignore[arg-type]  # this is the test


def exit_but_in_the_first(folder: str, status: int) -> None:
    """An initializer that ends each process but the first that comes here."""
    try:
        os.mkdir(os.path.join(folder, "first"))
    except FileExistsError:
        os._exit(status)


@pytest.mark.parametrize("status", [3, 255])  # from a fork server's process, this also means that the server has died
def test_worker_that_dies_in_its_initializer_hurts_no_other(tmp_path: Path, status: int) -> None:
    """Tasks that wait for it fail; a task that runs in another worker has its result, and that worker goes on."""
    initializer = partial(exit_but_in_the_first, str(tmp_path), status)
    with CallbackPool("process", max_workers=2, initializer=initializer) as pool, one_at_work(pool, tmp_path):
        assert "during its initializer" in str(pool.submit(pow, 2, 3).exception(LIMIT))


@posix
def test_worker_that_cannot_be_started_hurts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, no descriptor is free; the tasks that wait for it get the error."""

    def refuse(*_: object) -> NoReturn:
        raise OSError(24, "Too many open files")

    with CallbackPool("process", max_workers=2) as pool, one_at_work(pool, tmp_path):
        monkeypatch.setattr(OwnForkServer, "connect_to_new_process", refuse)
        assert "Too many open files" in str(pool.submit(pow, 2, 3).exception(LIMIT))


@contextmanager
def one_at_work(pool: CallbackPool, tmp_path: Path) -> Iterator[None]:
    """Let a task run in the first worker, which has its result although the block keeps a second from starting."""
    go = str(tmp_path / "go")
    runs = pool.submit(pool_workers.wait_for_file, go)
    until(runs.running)
    yield
    assert not runs.done()
    Path(go).touch()
    assert runs.result(LIMIT) == go


# -- Ctrl-C and external programs --------------------------------------------------------------------------------------


@posix
def test_ctrl_c_ends_programs_that_tasks_have_started(tmp_path: Path) -> None:
    """None of them is left behind, and no further one is started."""
    body = """
import subprocess, time

from pathlib import Path

def convert(folder, n):
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    return subprocess.run([sys.executable, "-c", code, os.path.join(folder, str(n))]).returncode

if __name__ == "__main__":
    with CallbackPool("process", max_workers=2) as pool:
        for n in range(6):
            pool.apply_async(convert, (sys.argv[2], n))
        pool.join()
"""
    from .test_pool_programs import start

    folder = tmp_path / "pids"
    folder.mkdir()
    program = subprocess.Popen(
        start(tmp_path, body, str(folder)), start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: len([each for each in folder.iterdir() if each.read_text()]) == 2)
        os.killpg(program.pid, signal.SIGINT)
        _, errors = program.communicate(timeout=LIMIT)
        assert program.returncode in (1, 130, -signal.SIGINT), errors
        pids = [int(each.read_text()) for each in folder.iterdir()]
        assert len(pids) == 2
        assert all(ended(pid) for pid in pids)
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def interrupt_itself() -> None:
    """A task in the middle of which Ctrl-C comes."""
    signal.raise_signal(signal.SIGINT)


@posix
def test_worker_holds_off_after_an_interrupt() -> None:
    """It begins no task before the pool has had the time to cancel it; then it goes on."""
    with CallbackPool("process", max_workers=1) as pool:
        pool.submit(pow, 2, 3).result(LIMIT)
        before = time.monotonic()
        first, second = pool.submit(interrupt_itself), pool.submit(pow, 2, 4)
        first.result(LIMIT)
        assert second.result(LIMIT) == 16
        assert time.monotonic() - before >= WORD_OF_THE_POOL


# -- the start board, where there is no room ---------------------------------------------------------------------------


@posix
def test_memory_that_is_not_there_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """With the system's real limit on files, pools of processes work, and no process dies of SIGBUS."""
    body = """
import resource, signal
from syncprims.callback_pool.travel import shared_file
from syncprims.callback_pool.travel.start_board import make_board

if __name__ == "__main__":
    if sys.argv[2] == "file":
        shared_file._in_memory = lambda label: None
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    assert make_board(10_000) is None
    small = make_board(16)
    assert [small.take() > 0 for _ in range(16)] == [True] * 16
    while small.take():
        pass  # it grows as long as there is room
    assert small.take() == 0
    with CallbackPool("process", max_workers=1) as pool:
        print(pool.submit(pow, 2, 3).result(50))
"""
    for kind in ("memory", "file"):
        assert run(tmp_path, body, kind) == (0, ["8"], "")


def leave_where_no_board_is() -> None:
    """Drop the privileges, as an initializer may: no file of the parent can be opened any more."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    import builtins

    builtins.open = refuse
    os.open = refuse


def test_initializer_that_drops_privileges_parts_no_worker_from_the_pool(tmp_path: Path) -> None:
    """No file is opened later: a time limit is kept, and a task that has begun does not run again."""
    mark = str(tmp_path / "pid")
    with CallbackPool("process", max_workers=1, initializer=leave_where_no_board_is) as pool:
        task = pool.apply_async(time.sleep, (60.0,), timeout=0.3)
        assert isinstance(task.exception(LIMIT), TaskTimeoutError)
        error = pool.submit(os._exit, 3).exception(LIMIT)
        assert "while _exit ran" in str(error)
    assert not os.path.exists(mark)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may drop its privileges")
def test_worker_that_really_drops_its_privileges_tells_its_start() -> None:
    """This holds even if it can't read the interpreter's own files any more: it has opened all it needs before."""
    with CallbackPool("process", max_workers=1, initializer=os.setuid, initargs=(65534,)) as pool:
        task = pool.apply_async(time.sleep, (60.0,), timeout=0.3)
        assert isinstance(task.exception(LIMIT), TaskTimeoutError)
        assert pool.submit(os.getuid).result(LIMIT) == 65534


def test_executor_whose_workers_cannot_reach_the_board_keeps_time_limits() -> None:
    """It was passed in; its tasks' time counts from when they are first seen to run."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=leave_where_no_board_is) as executor:
        with CallbackPool(executor) as pool:
            task = pool.apply_async(pool_workers.wait_for_file, ("/nonexistent/file",), timeout=0.3)
            assert isinstance(task.exception(LIMIT), TaskTimeoutError)
            board = pool._backend._board  # type: ignore[attr-defined]  # of executors that are passed in
            assert board.reached is False
        for process in list(executor._processes.values()):
            process.kill()


def test_board_that_is_not_the_pools_is_not_written_on(tmp_path: Path) -> None:
    """In its own container, a worker may find another file under the same path."""
    board = StartBoard()
    slot = board.take()
    other = tmp_path / "other"
    other.write_bytes(bytes(4096))
    token = board.address.partition(":")[0]
    stamp(f"{token}:{other}", slot)
    assert not start_board.can_reach(f"{token}:{other}")
    assert other.read_bytes() == bytes(4096)
    assert start_board.can_reach(board.address)


def test_board_without_memory_files_is_a_temporary_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It goes away with the board; and the pool's own processes need none."""
    util.get_temp_dir()  # which multiprocessing makes once, and not there
    monkeypatch.setattr(shared_file, "_in_memory", lambda label: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    board = make_board()
    assert board is not None
    path = Path(board.address.partition(":")[2])
    assert path.parent == tmp_path
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    assert start_board.can_reach(board.address)
    del board
    assert not path.exists()
    if os.name == "posix":
        with CallbackPool("process", max_workers=1) as pool:
            assert pool.submit(pow, 2, 3).result(LIMIT) == 8
        assert not [each for each in tmp_path.iterdir() if "syncprims-starts" in each.name]


# -- the pipe ----------------------------------------------------------------------------------------------------------


def close_all_and_open(path: str) -> None:
    """Close all descriptors, and open a file under each of their numbers."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for each in range(3, 64):
        if each != fd:
            os.dup2(fd, each)


@posix
def test_pipe_that_a_task_has_closed_is_not_written_to(tmp_path: Path) -> None:
    """Another file has the number then, and must not get our data; the task fails, and no other."""
    with CallbackPool("process", max_workers=1) as pool:
        error = pool.submit(close_all_and_open, str(tmp_path / "theirs")).exception(LIMIT)
        assert isinstance(error, BrokenExecutor)
        assert pool.submit(pow, 2, 3).result(LIMIT) == 8
    assert (tmp_path / "theirs").read_bytes() == b""


def test_nothing_is_logged_by_a_quiet_pool(caplog: pytest.LogCaptureFixture) -> None:
    """The ordinary end causes no message."""
    with caplog.at_level(logging.INFO), CallbackPool("process", max_workers=2) as pool:
        assert list(pool.map(abs, range(5))) == [0, 1, 2, 3, 4]
    assert caplog.text == ""
