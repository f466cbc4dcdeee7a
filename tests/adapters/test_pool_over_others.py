"""`CallbackPool` over other libraries' executors: with Dask, loky and pebble it keeps its promises."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from operator import add
from pathlib import Path
from typing import Any, Final

import pytest

from callback_pool import pool_workers
from syncprims import CallbackErrors, CallbackPool, DeadlockError, PoolClosedError, TaskTimeoutError, TransportError
from syncprims.testing import patience

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's and loky's own

KINDS: Final = ("dask", "loky", "pebble")


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Each of the executors in turn, with two worker processes."""
    if request.param == "dask":
        yield request.getfixturevalue("dask_client").get_executor(pure=False)
        return
    if request.param == "loky":
        loky = pytest.importorskip("loky", reason="needs loky: pip install loky")
        made = loky.get_reusable_executor(2, timeout=120, kill_workers=True)
        yield made
        return
    pebble = pytest.importorskip("pebble", reason="needs pebble: pip install 'syncprims[pebble]'")
    import multiprocessing

    with pebble.ProcessPool(2, context=multiprocessing.get_context("spawn")) as made:
        yield made
        made.stop()


@pytest.fixture
def pool(executor: Executor) -> Iterator[CallbackPool]:
    """A pool over it, which has released everything at the end."""
    with CallbackPool(executor, name="borrowing") as made:
        yield made
        made.join(patience(30.0))


def test_each_task_has_its_callback(pool: CallbackPool) -> None:
    """All callbacks have run when join() returns, one at a time, on the pool's own thread."""
    results: list[int] = []
    threads: set[str] = set()

    def take(result: int) -> None:
        results.append(result)
        threads.add(threading.current_thread().name)

    for number in range(20):
        pool.apply_async(add, (number, 1), callback=take)
    pool.join(patience(30.0))
    assert sorted(results) == list(range(1, 21))
    assert threads == {"borrowing-dispatcher"}
    assert pool.stats.done == 20


def test_keyword_arguments_arrive(pool: CallbackPool) -> None:
    """This holds even for those that the executor's own submit() has itself."""
    assert pool.submit(dict, key=1, pure=2, workers=3, retries=4, timeout=5).result(patience(30.0)) == {
        "key": 1,
        "pure": 2,
        "workers": 3,
        "retries": 4,
        "timeout": 5,
    }


def test_map_keeps_the_order(pool: CallbackPool) -> None:
    """The results come in the order of the items, also in chunks."""
    assert list(pool.map(add, range(12), range(12), chunksize=5)) == [2 * number for number in range(12)]
    assert sorted(pool.map_unordered(add, range(6), range(6))) == [0, 2, 4, 6, 8, 10]


def test_an_error_comes_with_the_traceback_of_the_worker(pool: CallbackPool) -> None:
    """The error callback gets the exception itself, with where it was raised as its cause."""
    errors: list[BaseException] = []
    pool.apply_async(pool_workers.fail, ("no such luck",), error_callback=errors.append)
    pool.join(patience(30.0))
    (error,) = errors
    assert isinstance(error, ValueError)
    assert str(error) == "no such luck"
    assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize(
    "task", [pool_workers.raise_lock_error, pool_workers.raise_two_argument_error, pool_workers.lock_result]
)
def test_what_can_not_travel_back_is_that_tasks_error(pool: CallbackPool, task: Callable[[], Any]) -> None:
    """It is an error of this task, not of the pool, and the next task runs."""
    assert pool.submit(task).exception(patience(30.0)) is not None
    assert pool.submit(pool_workers.add, 1, 2).result(patience(30.0)) == 3


def test_what_can_not_travel_there_is_refused_at_once(pool: CallbackPool) -> None:
    """submit() raises, and names the object that can't be pickled."""
    with pytest.raises(TransportError, match="argument 0"):
        pool.submit(pool_workers.identity, threading.Lock())


def test_a_task_that_exits_fails_alone(pool: CallbackPool) -> None:
    """SystemExit in a worker is an error like any other."""
    assert isinstance(pool.submit(pool_workers.leave, 3).exception(patience(30.0)), SystemExit)
    assert pool.submit(pool_workers.add, 1, 2).result(patience(30.0)) == 3


def test_a_timeout_is_told_in_time(pool: CallbackPool, tmp_path: Path) -> None:
    """The error callback is called while the task still runs, and other tasks go on."""
    errors: list[BaseException] = []
    told = threading.Event()

    def tell(error: BaseException) -> None:
        errors.append(error)
        told.set()

    go = tmp_path / "go"
    assert pool.submit(pool_workers.add, 1).result(patience(30.0)) == 1  # the workers have started
    started = time.monotonic()
    pool.apply_async(pool_workers.wait_for_file, (str(go),), error_callback=tell, timeout=0.3)
    heard = told.wait(patience(3.0))
    go.touch()
    assert heard
    assert time.monotonic() - started < patience(5.0)
    assert isinstance(errors[0], TaskTimeoutError)
    assert pool.submit(pool_workers.add, 1, 2).result(patience(30.0)) == 3


def test_abort_tells_what_was_queued_and_does_not_wait_for_what_runs(executor: Executor, tmp_path: Path) -> None:
    """Every callback is called, for queued tasks as cancelled, and abort() is prompt."""
    go = tmp_path / "go"
    told: list[BaseException | str] = []
    pool = CallbackPool(executor)
    for _ in range(20):  # loky fetches five in advance, pebble more
        pool.apply_async(pool_workers.wait_for_file, (str(go),), callback=told.append, error_callback=told.append)
    started = time.monotonic()
    still_running = pool.abort()
    assert time.monotonic() - started < patience(5.0)
    go.touch()
    for task in still_running:
        task.wait_settled(patience(30.0))
    assert len(told) == 20
    assert sum(isinstance(one, CancelledError) for one in told) >= 10
    with pytest.raises(PoolClosedError):
        pool.submit(pool_workers.add, 1)


def test_a_task_can_be_cancelled_before_it_begins(pool: CallbackPool, tmp_path: Path) -> None:
    """A task that waits behind others is cancelled, and its error callback is called."""
    go = tmp_path / "go"
    errors: list[BaseException] = []
    busy = [pool.submit(pool_workers.wait_for_file, str(go)) for _ in range(12)]
    last = pool.apply_async(pool_workers.add, (1,), error_callback=errors.append)
    assert last.cancel()
    go.touch()
    pool.join(patience(30.0))
    assert all(task.result(0) == str(go) for task in busy)
    assert isinstance(errors[0], CancelledError)


def test_what_callbacks_raise_is_raised_by_join(pool: CallbackPool) -> None:
    """Exceptions of tasks that no code looked at are raised too; nothing is lost, and nothing breaks."""

    def refuse(result: int) -> None:
        raise LookupError(result)

    pool.apply_async(add, (1, 2), callback=refuse)
    pool.apply_async(pool_workers.fail, ("unseen",))
    with pytest.raises(CallbackErrors) as caught:
        pool.join(patience(30.0))
    assert {type(error) for error in caught.value.exceptions} == {LookupError, ValueError}


def test_a_callback_may_submit_and_wait(pool: CallbackPool) -> None:
    """Results arrive on another thread than the dispatcher, so neither deadlocks."""
    results: list[int] = []

    def go_on(result: int) -> None:
        results.append(pool.submit(add, result, 10).result(patience(30.0)))
        with pytest.raises(DeadlockError):
            pool.join()

    pool.apply_async(add, (1, 2), callback=go_on)
    pool.join(patience(30.0))
    assert results == [13]


def test_equal_calls_all_run(pool: CallbackPool) -> None:
    """By default, Dask would run equal calls once."""
    before = [pool.submit(os.urandom, 8) for _ in range(5)]
    assert len({task.result(patience(30.0)) for task in before}) == 5


def test_the_executor_outlives_the_pool(executor: Executor) -> None:
    """The pool shuts down only what it made itself."""
    with CallbackPool(executor) as pool:
        assert pool.submit(add, 1, 2).result(patience(30.0)) == 3
    with CallbackPool(executor) as pool:
        assert pool.submit(add, 2, 2).result(patience(30.0)) == 4


@pytest.mark.parametrize("how", [pool_workers.kill_self, pool_workers.die])
@pytest.mark.parametrize("kind", ["loky", "pebble"])
def test_a_worker_that_dies_is_an_error_and_nothing_hangs(kind: str, how: Callable[[], None]) -> None:
    """Every task of the worker fails, every callback runs, and join() returns."""
    module = pytest.importorskip(kind, reason=f"needs {kind}: pip install {kind}")
    made = module.ProcessPoolExecutor(1) if kind == "loky" else module.ProcessPool(1)
    errors: list[BaseException] = []
    try:
        with CallbackPool(made) as pool:
            pool.apply_async(how, error_callback=errors.append)
            pool.join(patience(30.0))
    finally:
        made.shutdown(kill_workers=True) if kind == "loky" else made.stop()
    assert len(errors) == 1
