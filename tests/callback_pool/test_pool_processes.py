"""Process pools: an error in a task, its arguments, its result or its worker affects that task only."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from callback_pool import pool_workers
from polling import until
from syncprims import CallbackErrors, TransportError
from syncprims.callback_pool import CallbackPool

LIMIT = 60.0


@pytest.fixture(scope="module")
def shared() -> Iterator[CallbackPool]:
    """One pool for all tests that leave it unchanged."""
    with CallbackPool("process", max_workers=2, name="shared") as pool:
        yield pool


def test_call_with_keywords_and_callback(shared: CallbackPool) -> None:
    """Arguments, keywords and results are sent, and the callback runs here."""
    seen: list[tuple[int, int]] = []
    shared.apply_async(pool_workers.add, (1,), {"b": 2}, callback=lambda n: seen.append((n, os.getpid()))).wait_settled(
        LIMIT
    )
    assert seen == [(3, os.getpid())]


def test_error_brings_the_remote_traceback(shared: CallbackPool) -> None:
    """An error keeps its type and text, and its cause is the worker's traceback."""
    with pytest.raises(ValueError, match="remote") as caught:
        shared.submit(pool_workers.fail, "remote").result(LIMIT)
    assert "pool_workers.py" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("function", "words", "cause"),
    [
        (pool_workers.lock_result, r"lock_result\(\) returned a _thread.lock", "cannot pickle"),
        (pool_workers.refusing_result, "result can't be unpickled here", "will not be unpickled"),
        (pool_workers.raise_two_argument_error, "TwoArgumentError: 7: lost on the way", "raise_two_argument_error"),
        (pool_workers.raise_lock_error, "LockError: holds a lock", "raise_lock_error"),
    ],
)
def test_outcome_that_cannot_travel_is_a_clear_error(
    shared: CallbackPool, function: Any, words: str, cause: str
) -> None:
    """Results and errors that can't be pickled or unpickled fail their own task, with type and traceback named."""
    error = shared.submit(function).exception(LIMIT)
    assert isinstance(error, TransportError)
    assert isinstance(error, TypeError)
    with pytest.raises(TransportError, match=words):
        raise error
    assert cause in str(error.__cause__)
    assert shared.submit(pool_workers.add, 1).result(LIMIT) == 1


def test_argument_that_cannot_be_pickled_is_raised_by_submit(shared: CallbackPool) -> None:
    """Submit itself refuses the call and names the argument; no task was submitted."""
    before = shared.stats.submitted
    calls: list[tuple[Any, str]] = [
        ((pool_workers.add, threading.Lock()), r"argument 0 \(a _thread.lock\)"),
        ((lambda: 1,), "the function .*<lambda>"),
    ]
    for arguments, words in calls:
        with pytest.raises(TransportError, match=words) as caught:
            shared.submit(*arguments)
        assert caught.value.__cause__ is not None
    assert shared.stats.submitted == before


def test_argument_that_cannot_be_unpickled_fails_its_task(shared: CallbackPool) -> None:
    """An argument that raises in the worker while it is unpickled is that task's error."""
    with pytest.raises(TransportError, match="unpickled in the worker: ValueError: will not be unpickled"):
        shared.submit(pool_workers.identity, pool_workers.Refusing()).result(LIMIT)


def test_system_exit_in_a_task_is_its_error(shared: CallbackPool) -> None:
    """sys.exit in a task ends no worker; the task has the SystemExit, and a group has it wrapped."""
    worker = {shared.submit(pool_workers.pid).result(LIMIT) for _ in range(20)}
    assert isinstance(shared.submit(pool_workers.leave, 3).exception(LIMIT), SystemExit)
    shared.apply_async(pool_workers.leave, (3,))
    with pytest.raises(CallbackErrors, match="SystemExit"):
        shared.join(LIMIT)
    assert {shared.submit(pool_workers.pid).result(LIMIT) for _ in range(20)} & worker


def test_workers_ignore_interrupts(shared: CallbackPool) -> None:
    """Ctrl-C at the terminal, which reaches the workers too, is handled by the parent."""
    assert shared.submit(pool_workers.ignores_interrupts).result(LIMIT)


def test_map_in_chunks(shared: CallbackPool) -> None:
    """Map and its chunks work across processes."""
    assert list(shared.map(pool_workers.add, range(100), chunksize=16)) == list(range(100))


@pytest.mark.parametrize("death", [pool_workers.die, pool_workers.kill_self])
def test_worker_death_fails_its_task_and_the_others_go_on(shared: CallbackPool, death: Any) -> None:
    """The error of a task that kills its worker is clear, and it is the only error."""
    told: list[BaseException] = []
    tasks = [shared.apply_async(death, error_callback=told.append)]
    tasks += [shared.submit(pool_workers.add, i) for i in range(30)]
    error = tasks[0].exception(LIMIT)
    assert isinstance(error, BrokenExecutor)
    assert f"while {death.__name__} ran" in str(error)
    assert [task.result(LIMIT) for task in tasks[1:]] == list(range(30))
    shared.join(LIMIT)
    assert told == [error]


def test_death_of_idle_workers_is_survived(shared: CallbackPool) -> None:
    """Killing the idle workers loses no task: the next ones run in new processes."""
    pids = set(shared.map(pid_for, range(20)))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    ends = [shared.submit(pool_workers.add, i).exception(LIMIT) for i in range(6)]
    assert ends == [None] * 6


def pid_for(_: int) -> int:
    return pool_workers.pid()


def test_initializer_runs_in_each_process() -> None:
    """Initializer and initargs reach the workers, in addition to the pool's own set-up."""
    with CallbackPool("process", max_workers=1, initializer=pool_workers.remember, initargs=("x",)) as pool:
        assert pool.submit(pool_workers.remembered).result(LIMIT) == ["x"]
        assert pool.submit(pool_workers.ignores_interrupts).result(LIMIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no context that forks")
@pytest.mark.parametrize("make", [lambda fork: fork.Lock(), lambda fork: fork.Queue(), lambda fork: fork.Value("i", 0)])
def test_initargs_of_a_context_that_forks_are_refused_with_what_to_write(make: Callable[[Any], object]) -> None:
    """The error names the context to use."""
    made = make(multiprocessing.get_context("fork"))
    pool = CallbackPool("process", max_workers=1, initializer=pool_workers.remember, initargs=(made,))
    with pytest.raises(TransportError) as caught, pool:
        pool.submit(pool_workers.remembered).result(LIMIT)
    said = str(caught.value)
    assert 'make it with multiprocessing.get_context("spawn"), and pass it in initargs=' in said
    assert ".." not in said
    assert "Pass something that can" not in said


def test_initargs_may_be_what_only_a_starting_process_gets() -> None:
    """A lock of multiprocessing, which can be sent only at the start of a process, reaches the initializer."""
    lock = multiprocessing.get_context("spawn").Lock()
    with CallbackPool("process", max_workers=1, initializer=pool_workers.remember, initargs=(lock,)) as pool:
        assert pool.submit(pool_workers.try_remembered).result(LIMIT) is True
        assert lock.acquire(block=False) is False  # it is the same lock


def test_initializer_that_fails_fails_the_tasks() -> None:
    """With an initializer that always raises, every task has an error and nothing hangs or respawns forever."""
    told: list[BaseException] = []
    with CallbackPool("process", max_workers=1, initializer=pool_workers.fail_to_start) as pool:
        for i in range(100):
            pool.apply_async(pool_workers.add, (i,), error_callback=told.append)
    assert len(told) == 100
    assert "initializer" in str(told[-1])


def test_cloudpickle_lets_lambdas_through() -> None:
    """With cloudpickle's dumps, lambdas can be sent both ways."""
    cloudpickle = pytest.importorskip("cloudpickle")
    with CallbackPool("process", max_workers=1, dumps=cloudpickle.dumps) as pool:
        assert pool.submit(lambda: lambda: 5).result(LIMIT)() == 5


def test_abort_tells_the_queue_and_returns_what_was_fetched(tmp_path: Path) -> None:
    """After abort each task is reported as cancelled or is returned, and the returned ones end by themselves."""
    go = tmp_path / "go"
    told: list[BaseException] = []
    pool = CallbackPool("process", max_workers=1)
    first = pool.submit(pool_workers.wait_for_file, str(go))
    tasks = [pool.apply_async(pool_workers.add, (i,), error_callback=told.append) for i in range(40)]
    while not first.running():
        assert not first.done()
    left = pool.abort()
    assert first in left
    assert len(told) + len(left) == 41
    assert len(left) <= 3
    go.touch()
    pool.close(LIMIT)
    assert all(task.done() for task in tasks)


def test_growing_start_board() -> None:
    """A start board provides more slots than it began with, all distinct."""
    from syncprims.callback_pool.travel.start_board import StartBoard, stamp

    board = StartBoard()
    slots = [board.take() for _ in range(2000)]
    assert len(set(slots)) == 2000
    address = board.address
    stamp(address, slots[0])
    stamp(address, slots[-1])
    assert [slot for slot in slots if board.read(slot) is not None] == [slots[0], slots[-1]]
    assert [board.pid(slot) for slot in slots] == [os.getpid(), *[None] * 1998, os.getpid()]
    board.give_back(slots[-1])
    path = address.partition(":")[2]
    del board
    assert not os.path.exists(path)
    stamp(address, slots[3] + 10**6)  # the pool is gone, the worker still exists


def lose_a_worker(pool: CallbackPool, folder: Path) -> None:
    """Let one worker after the other die in a task."""
    for _ in range(2):
        pool.apply_async(pool_workers.kill_self, error_callback=lambda _: None).wait_settled(LIMIT)


def get_stuck(pool: CallbackPool, folder: Path) -> None:
    """Run a task whose worker has to be killed at the end."""
    mark = str(folder / "pid")
    pool.apply_async(pool_workers.announce_then_hang, (mark,), error_callback=lambda _: None, timeout=1.5)
    assert pool.submit(pool_workers.wait_for_file, mark).result(LIMIT) == mark


@pytest.mark.parametrize(
    "trouble", [lambda pool, folder: None, lose_a_worker, get_stuck], ids=["none", "died", "stuck"]
)
def test_closed_pool_is_gone_without_a_collection(
    trouble: Callable[[CallbackPool, Path], None], tmp_path: Path
) -> None:
    """Pipes and semaphores of a closed pool go at once: there is no reference cycle, and a kept task keeps none."""
    gc.collect()
    gc.disable()
    try:
        pool = CallbackPool("process", max_workers=2)
        kept = pool.submit(pool_workers.add, 1, 2)
        assert kept.result(LIMIT) == 3
        backend = weakref.ref(pool._backend)
        stations = list(map(weakref.ref, pool._backend._stations.values()))  # type: ignore[attr-defined]  # of process workers
        trouble(pool, tmp_path)
        stations += map(weakref.ref, pool._backend._stations.values())  # type: ignore[attr-defined]
        pool.close(LIMIT)
        del pool
        until(lambda: {station() for station in stations} == {None})
        del kept
        until(lambda: backend() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("fn", [pool_workers.raise_speechless_error, pool_workers.refusing_result_without_words])
def test_error_that_cannot_be_printed_is_told_of(shared: CallbackPool, fn: Callable[[], object]) -> None:
    """An exception whose text raises is an error of its task like any other, wherever it is raised."""
    told: list[BaseException] = []
    shared.apply_async(fn, error_callback=told.append).wait_settled(LIMIT)
    assert "SpeechlessError" in repr(told[0])


def test_error_of_a_result_holds_no_frame(shared: CallbackPool) -> None:
    """An error while a result is unpickled here is reported as text: frames would hold the executor's pipes."""
    error = shared.submit(pool_workers.refusing_result).exception(LIMIT)
    assert isinstance(error, TransportError)
    cause = error.__cause__
    assert isinstance(cause, ValueError)
    assert (cause.__traceback__, cause.__context__) == (None, None)
    assert "in fail" in str(cause.__cause__)
