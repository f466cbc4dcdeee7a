"""Process workers are independent of each other: late tasks end at once, and a death affects one task."""

# ruff: noqa: PT012  the block is the subject of the test

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from callback_pool import pool_workers
from locks.actors import LIMIT, eventually
from polling import until_exists
from syncprims import CallbackPool, PoolTimeoutError, Task, TaskTimeoutError
from syncprims.testing import Threads

posix = pytest.mark.skipif(os.name != "posix", reason="asks the system for processes")


@pytest.fixture
def pool() -> Iterator[CallbackPool]:
    """A pool of three processes."""
    with CallbackPool("process", max_workers=3, name="jobs") as made:
        yield made


def begun(pool: CallbackPool, folder: Path, name: str = "pid", **options: Any) -> tuple[Task[Any], int]:
    """Start a task that never returns, and return it and the process that runs it."""
    mark = folder / name
    task = pool.apply_async(pool_workers.announce_then_hang, (str(mark),), **options)
    until_exists(mark)
    return task, int(mark.read_text())


def is_dead(pid: int) -> bool:
    """Whether this process does not exist any more, at this moment."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


# -- kill --------------------------------------------------------------------------------------------------------------


@posix
def test_kill_ends_the_process_and_cancels_the_task(pool: CallbackPool, tmp_path: Path) -> None:
    """It is dead on return; the error callback gets a CancelledError; the others go on."""
    told: list[BaseException] = []
    task, pid = begun(pool, tmp_path, error_callback=told.append)
    other, other_pid = begun(pool, tmp_path, "other")
    assert task.kill() is True
    assert is_dead(pid)
    assert task.cancelled()
    with pytest.raises(CancelledError):
        task.result(0)
    task.wait_settled(LIMIT)
    assert [type(error) for error in told] == [CancelledError]
    assert task.kill() is True  # as with cancel()
    assert not is_dead(other_pid)
    assert not other.done()
    assert list(pool.map(abs, range(-6, 0))) == [6, 5, 4, 3, 2, 1]
    assert other.kill() is True
    other.wait_settled(LIMIT)
    assert pool.stats.cancelled == 2


def test_kill_of_a_queued_task_is_cancel(tmp_path: Path) -> None:
    """Killing a finished task does nothing."""
    with CallbackPool("process", max_workers=1) as pool:
        go = tmp_path / "go"
        runs = pool.submit(pool_workers.wait_for_file, str(go))
        eventually(runs.running)
        queued = pool.submit(abs, -1)
        assert queued.kill() is True
        assert queued.cancelled()
        go.touch()
        assert runs.result(LIMIT) == str(go)
        assert runs.kill() is False
        assert runs.result(0) == str(go)


@pytest.mark.parametrize("kind", ["thread", "handed in"])
def test_kill_elsewhere_changes_nothing(kind: str) -> None:
    """A thread can't be killed, nor a task in an executor that was passed in."""
    go = threading.Event()
    with ThreadPoolExecutor(1) as executor, CallbackPool("thread" if kind == "thread" else executor) as pool:
        task = pool.submit(go.wait, LIMIT)
        eventually(task.running)
        assert task.kill() is False
        assert task.running()
        go.set()
        assert task.result(LIMIT) is True


@posix
def test_kill_never_hits_a_process_that_has_gone_on(tmp_path: Path) -> None:
    """Tasks are killed at the moment of their end: each has its result or is cancelled, and no other is killed."""
    with CallbackPool("process", max_workers=2) as pool:
        for round_ in range(30):
            tasks = [pool.submit(abs, -n) for n in range(20)]
            with Threads() as threads:
                killer = threads.start(lambda: [task.kill() for task in tasks[round_ % 7 :: 7]])  # noqa: B023  it ends in here
                others = [task for n, task in enumerate(tasks) if n % 7 != round_ % 7]
                assert [task.result(LIMIT) for task in others] == [n for n in range(20) if n % 7 != round_ % 7]
                killed = killer.result(LIMIT)
            for task, was_killed in zip(tasks[round_ % 7 :: 7], killed, strict=True):
                assert task.cancelled() == was_killed


@posix
def test_two_may_kill_the_same_task(pool: CallbackPool, tmp_path: Path) -> None:
    """They may do so at once, and while its time is up: each call returns, and the task has one outcome."""
    for n in range(5):
        task, pid = begun(pool, tmp_path, f"pid{n}", timeout=60.0)
        with Threads() as threads:
            killers = [threads.start(task.kill) for _ in range(3)]
            assert {killer.result(LIMIT) for killer in killers} == {True}
        assert is_dead(pid)
        assert task.cancelled()


@posix
def test_what_a_killed_task_holds_is_left_as_it_was(tmp_path: Path) -> None:
    """A lock of multiprocessing stays acquired, as the documentation says."""
    lock = multiprocessing.get_context("spawn").Lock()
    with CallbackPool("process", max_workers=1, initializer=pool_workers.remember, initargs=(lock,)) as pool:
        assert pool.submit(pool_workers.try_remembered).result(LIMIT) is True
        task, _ = begun(pool, tmp_path)
        assert task.kill()
        assert lock.acquire(block=False) is False


# -- limits and deaths -------------------------------------------------------------------------------------------------


@posix
def test_the_process_of_an_expired_task_is_dead_when_that_is_told(tmp_path: Path) -> None:
    """Tasks in other processes are not affected."""
    heard: list[tuple[type, bool]] = []
    with CallbackPool("process", max_workers=2) as pool:
        first, _ = begun(pool, tmp_path)
        assert pool.stats.running == 1
        go = tmp_path / "go"
        innocent = pool.submit(pool_workers.wait_for_file, str(go))
        eventually(innocent.running)
        assert first.kill()
        late = tmp_path / "late"
        task = pool.apply_async(
            pool_workers.announce_then_hang,
            (str(late),),
            error_callback=lambda error: heard.append((type(error), is_dead(int(late.read_text())))),
            timeout=1.5,
        )
        task.wait_settled(LIMIT)
        assert heard == [(TaskTimeoutError, True)]
        assert "its process is killed" in str(task.exception(0))
        assert pool.stats.abandoned == 0
        assert pool.submit(abs, -2).result(LIMIT) == 2
        go.touch()
        assert innocent.result(LIMIT) == str(go)


@posix
def test_a_death_takes_one_task_along(tmp_path: Path) -> None:
    """The other tasks do not notice it."""
    go = tmp_path / "go"
    with CallbackPool("process", max_workers=4) as pool:
        works = [pool.submit(pool_workers.wait_for_file, str(go)) for _ in range(3)]
        for task in works:
            eventually(task.running)
        for death in (pool_workers.kill_self, pool_workers.die) * 3:
            error = pool.submit(death).exception(LIMIT)
            assert isinstance(error, BrokenExecutor)
            assert f"died while {death.__name__} ran" in str(error)
        assert "exited with status 3" in str(error)
        go.touch()
        assert [task.result(LIMIT) for task in works] == [str(go)] * 3


@posix
def test_a_group_kills_what_runs_in_processes(pool: CallbackPool, tmp_path: Path) -> None:
    """A failure does this, and so does its limit."""
    with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
        mark = tmp_path / "one"
        hangs = group.submit(pool_workers.announce_then_hang, str(mark))
        until_exists(mark)
        group.submit(pool_workers.fail, "no")
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert hangs.cancelled()
    assert is_dead(int(mark.read_text()))
    with pytest.raises(ExceptionGroup) as caught, pool.group(timeout=0.3) as group:
        sleeps = group.submit(time.sleep, 60.0)
    assert [type(error) for error in caught.value.exceptions] == [PoolTimeoutError]
    assert sleeps.cancelled()


# -- renewal -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_max_tasks_per_child_renews_the_processes(most: int) -> None:
    """Each runs so many tasks, and the pool neither hangs nor loses a task."""
    with CallbackPool("process", max_workers=2, max_tasks_per_child=most) as pool:
        pids = list(pool.map(pid_of, range(12)))
        assert max(map(pids.count, pids)) <= most
        assert len(set(pids)) >= 12 // most


def pid_of(_: int) -> int:
    return os.getpid()


def test_max_tasks_per_child_with_one_worker_and_a_close() -> None:
    """A standard executor hangs with that; this also closes a pool before its tasks are done."""
    pool = CallbackPool("process", max_workers=1, max_tasks_per_child=2)
    tasks = [pool.submit(abs, -n) for n in range(7)]
    pool.close(60.0)
    assert [task.result(0) for task in tasks] == list(range(7))


# -- how they start ----------------------------------------------------------------------------------------------------


def how() -> tuple[str | None, str]:
    return multiprocessing.get_start_method(allow_none=True), type(multiprocessing.current_process()).__name__


METHODS = [
    method if method != "spawn" else pytest.param(method, marks=pytest.mark.slow)
    for method in multiprocessing.get_all_start_methods()
]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("given", ["method", "context"])
@pytest.mark.parametrize("method", METHODS)
def test_processes_start_as_one_likes(method: str, given: str, tmp_path: Path) -> None:
    """Each method and a context work; initializers, errors and deaths are the same everywhere."""
    context: Any = method if given == "method" else multiprocessing.get_context(method)
    with CallbackPool(
        "process", max_workers=1, mp_context=context, initializer=pool_workers.remember, initargs=("x",)
    ) as pool:
        assert pool.submit(pool_workers.remembered).result(LIMIT) == ["x"]
        assert isinstance(pool.submit(pool_workers.fail, "no").exception(LIMIT), ValueError)
        assert isinstance(pool.submit(pool_workers.die).exception(LIMIT), BrokenExecutor)
        task, pid = begun(pool, tmp_path)
        assert task.kill()
        assert is_dead(pid)
        assert pool.submit(abs, -1).result(LIMIT) == 1


def test_what_does_not_go_is_refused_at_once() -> None:
    """This holds for unknown methods, objects that are not a context, and both arguments without processes."""
    with pytest.raises(ValueError, match="mp_context must be None, a context, or one of"):
        CallbackPool("process", mp_context="thread")  # type: ignore[arg-type]  # this is the test
    with pytest.raises(TypeError, match="mp_context must be"):
        CallbackPool("process", mp_context=5)  # type: ignore[arg-type]  # this is the test
    for value, error in ((0, ValueError), (-1, ValueError), (0.5, TypeError)):
        with pytest.raises(error, match="max_tasks_per_child"):
            CallbackPool("process", max_tasks_per_child=value)  # type: ignore[arg-type]  # this is the test
    with pytest.raises(ValueError, match="mp_context is for executor='process', not for 'thread'"):
        CallbackPool(mp_context="spawn")
    with pytest.raises(ValueError, match="max_tasks_per_child is for"), ThreadPoolExecutor(1) as executor:
        CallbackPool(executor, max_tasks_per_child=5)


# -- terminate ---------------------------------------------------------------------------------------------------------


@posix
def test_terminate_kills_and_returns(tmp_path: Path) -> None:
    """It kills all of its processes, busy and idle, although a task ignores every signal that it can."""
    pool = CallbackPool("process", max_workers=3)
    idle = set(pool.map(pid_of, range(20)))
    task, pid = begun(pool, tmp_path)
    stubborn = tmp_path / "stubborn"
    other = pool.submit(ignore_signals, str(stubborn))
    until_exists(stubborn)
    assert pool.terminate() == []
    assert all(map(is_dead, {*idle, pid, int(stubborn.read_text())}))
    assert task.cancelled()
    assert other.cancelled()
    pool.join(LIMIT)


def ignore_signals(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool_workers.announce_then_hang(path)
