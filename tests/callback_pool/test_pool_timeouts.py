"""Timeouts: reported once, on time, and never for a task that has not begun; a stuck task blocks nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from callback_pool import pool_workers
from polling import ended
from syncprims import PoolTimeoutError, TaskTimeoutError
from syncprims.callback_pool import CallbackPool, Task

LIMIT = 60.0


@pytest.fixture(params=["own", "handed in"])
def one_thread(request: pytest.FixtureRequest) -> Iterator[CallbackPool]:
    """A pool with one thread of its own, and one over a ThreadPoolExecutor."""
    if request.param == "own":
        with CallbackPool(max_workers=1) as pool:
            yield pool
    else:
        with ThreadPoolExecutor(1) as executor, CallbackPool(executor) as pool:
            yield pool


def test_expired_task_is_told_once_and_its_late_result_dropped(one_thread: CallbackPool) -> None:
    """The error callback gets TaskTimeoutError, and the callback is not called when the call returns after all."""
    hold = threading.Event()
    told: list[BaseException] = []
    late: list[object] = []
    task = one_thread.apply_async(hold.wait, (LIMIT,), callback=late.append, error_callback=told.append, timeout=0.02)
    task.wait_settled(LIMIT)
    (error,) = told
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, PoolTimeoutError)
    assert (error.timeout, error.pending) == (0.02, 1)
    assert error.waited >= 0.02
    assert "Event.wait" in str(error)
    assert one_thread.stats.abandoned == 1
    hold.set()
    assert one_thread.submit(len, "abc").result(LIMIT) == 3
    one_thread.join(LIMIT)
    assert (late, len(told)) == ([], 1)
    with pytest.raises(TaskTimeoutError):
        task.result(0)


def test_timeout_counts_from_the_start(one_thread: CallbackPool) -> None:
    """A task that waits in the queue for longer than its timeout does not expire there."""
    hold, expired = threading.Event(), threading.Event()
    blocker = one_thread.submit(hold.wait, LIMIT)
    innocent = one_thread.apply_async(len, ("abc",), error_callback=lambda _: expired.set(), timeout=0.02)
    assert not expired.wait(0.1)
    hold.set()
    assert innocent.result(LIMIT) == 3
    assert blocker.result(LIMIT)


def test_endless_thread_is_replaced_and_never_waited_for() -> None:
    """With its only thread stuck, the pool still runs queued tasks, closes, and counts the slot."""
    release = threading.Event()
    told: list[BaseException] = []
    with CallbackPool(max_workers=1) as pool:
        for _ in range(2):
            pool.apply_async(release.wait, (2 * LIMIT,), error_callback=told.append, timeout=0.02)
        assert pool.submit(len, "abc").result(LIMIT) == 3
    assert len(told) == 2
    assert pool.stats.abandoned == 2
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(f"{pool.name}-worker")]
    release.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert pool.stats.abandoned == 0


def test_promise_of_a_lost_worker_is_not_believed() -> None:
    """A worker that leaves after its task expired leaves no token that the next task relies on."""
    hold = threading.Event()
    with CallbackPool(max_workers=1) as pool:
        task = pool.apply_async(hold.wait, (LIMIT,), error_callback=lambda _: None, timeout=0.02)
        # The token of a worker that is stopped between finding the queue empty and adding the token.
        pool._backend._idle.append(None)  # type: ignore[attr-defined]  # of thread workers
        task.wait_settled(LIMIT)
        (worker,) = pool._backend._threads  # type: ignore[attr-defined]
        hold.set()
        worker.join(LIMIT)
        assert pool.submit(len, "abc").result(LIMIT) == 3


def test_task_that_is_in_time_does_not_expire() -> None:
    """A task that ends before its time is up returns its result, and its worker counts again."""
    with CallbackPool(max_workers=1) as pool:
        for _ in range(50):
            assert pool.apply_async(len, ("abc",), timeout=LIMIT).result(LIMIT) == 3
        assert pool.stats.abandoned == 0
        assert sum(thread.name.startswith(f"{pool.name}-worker") for thread in threading.enumerate()) == 1


@pytest.mark.parametrize("handed_in", [False, True], ids=["own", "handed in"])
def test_innocent_task_fetched_in_advance_does_not_expire(tmp_path: Path, handed_in: bool) -> None:
    """A process executor reports fetched tasks as running; ours expire only once they have really begun."""
    go = tmp_path / "go"
    executor = ProcessPoolExecutor(1, mp_context=get_context("forkserver"))
    expired = threading.Event()
    with executor, CallbackPool(executor) if handed_in else CallbackPool("process", max_workers=1) as pool:
        blocker = pool.submit(pool_workers.wait_for_file, str(go))
        innocent = pool.apply_async(pool_workers.add, (1, 2), error_callback=lambda _: expired.set(), timeout=0.2)
        assert not expired.wait(0.5)
        assert not innocent.running()
        go.touch()
        assert innocent.result(LIMIT) == 3
        assert blocker.result(LIMIT)


def test_stuck_processes_are_replaced_and_killed(tmp_path: Path) -> None:
    """When every process is stuck in an expired task, new ones take over; the stuck ones are dead."""
    marks = [tmp_path / "0", tmp_path / "1"]
    told: list[BaseException] = []
    with CallbackPool("process", max_workers=2) as pool:
        for mark in marks:
            pool.apply_async(pool_workers.announce_then_hang, (str(mark),), error_callback=told.append, timeout=0.5)
        assert list(pool.map(pool_workers.add, range(8))) == list(range(8))
    assert [type(error) for error in told] == [TaskTimeoutError] * 2
    for mark in marks:
        assert ended(int(mark.read_text()))


def test_stuck_process_does_not_hold_up_close(tmp_path: Path) -> None:
    """Close returns although one process is stuck in an expired task, and kills it."""
    mark = tmp_path / "pid"
    told: list[BaseException] = []
    with CallbackPool("process", max_workers=2) as pool:
        pool.apply_async(pool_workers.announce_then_hang, (str(mark),), error_callback=told.append, timeout=0.5)
        assert pool.submit(pool_workers.wait_for_file, str(mark)).result(LIMIT) == str(mark)
    assert [type(error) for error in told] == [TaskTimeoutError]
    assert ended(int(mark.read_text()))


@pytest.mark.parametrize("kind", ["pebble", "loky"])
def test_other_executors_keep_timeouts(kind: str, tmp_path: Path) -> None:
    """Pebble's worker is killed when the time is up; loky's task is notified, and its late result dropped."""
    module = pytest.importorskip(kind)
    executor = module.ProcessPool(1) if kind == "pebble" else module.ProcessPoolExecutor(1, timeout=5)
    mark, go = tmp_path / "pid", tmp_path / "go"
    told: list[BaseException] = []
    with CallbackPool(executor) as pool:
        assert pool.submit(pool_workers.add, 1, 2).result(LIMIT) == 3
        if kind == "pebble":
            task: Task[Any] = pool.apply_async(
                pool_workers.announce_then_hang, (str(mark),), error_callback=told.append, timeout=0.3
            )
            task.wait_settled(LIMIT)
            assert ended(int(mark.read_text()))
        else:
            task = pool.apply_async(pool_workers.wait_for_file, (str(go),), error_callback=told.append, timeout=0.3)
            task.wait_settled(LIMIT)
            go.touch()
        assert pool.submit(pool_workers.add, 1, 2).result(LIMIT) == 3
    assert [type(error) for error in told] == [TaskTimeoutError]
    if kind == "pebble":
        executor.stop()
        executor.join()
    else:
        executor.shutdown(wait=True)
