"""The promises of a pool over mpi4py's executor, in a program of an MPI job; see `test_mpi`."""

from __future__ import annotations

import sys
import tempfile
import threading
from concurrent.futures import CancelledError
from operator import add
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from callback_pool import pool_workers
from syncprims import AtomicCounter, CallbackErrors, CallbackPool, DeadlockError, TaskTimeoutError, TransportError

LIMIT = 60.0


def callbacks(executor: Any, folder: Path) -> None:
    """Each task has its callback, one at a time, on the pool's own thread."""
    results: list[int] = []
    threads: set[str] = set()
    counted = AtomicCounter()

    def take(result: int) -> None:
        results.append(result)
        threads.add(threading.current_thread().name)
        counted.increment()

    with CallbackPool(executor, name="over MPI") as pool:
        for number in range(200):
            pool.apply_async(add, (number, 1), callback=take)
    assert sorted(results) == [*range(1, 201)]
    assert (threads, counted.value) == ({"over MPI-dispatcher"}, 200)


def errors(executor: Any, folder: Path) -> None:
    """Errors have the traceback of the worker; one that can't be pickled affects only its own task."""
    heard: list[BaseException] = []
    with CallbackPool(executor) as pool:
        pool.apply_async(pool_workers.fail, ("no such luck",), error_callback=heard.append)
        pool.join(LIMIT)
        assert "in fail" in str(heard[0].__cause__)
        assert isinstance(pool.submit(pool_workers.leave, 3).exception(LIMIT), SystemExit)
        assert pool.submit(pool_workers.lock_result).exception(LIMIT) is not None
        with pytest.raises(TransportError, match="argument 0"):
            pool.submit(pool_workers.identity, threading.Lock())
        pool.apply_async(pool_workers.fail, ("unseen",))
        with pytest.raises(CallbackErrors) as caught:
            pool.join(LIMIT)
        assert [type(error) for error in caught.value.exceptions] == [ValueError]


def limits(executor: Any, folder: Path) -> None:
    """Timeouts are reported in time, waiting tasks can be cancelled, and callbacks may submit and wait."""
    go, told = folder / "go", threading.Event()
    heard: list[BaseException] = []

    def tell(error: BaseException) -> None:
        heard.append(error)
        told.set()

    with CallbackPool(executor) as pool:
        pool.apply_async(pool_workers.wait_for_file, (str(go),), error_callback=tell, timeout=0.3)
        busy = [pool.submit(pool_workers.wait_for_file, str(go)) for _ in range(12)]
        last = pool.submit(pool_workers.add, 1)
        assert last.cancel()
        assert told.wait(LIMIT)
        assert isinstance(heard[0], TaskTimeoutError)
        go.touch()
        assert all(task.result(LIMIT) == str(go) for task in busy)
        assert last.cancelled()
        chained: list[int] = []

        def go_on(result: int) -> None:
            chained.append(pool.submit(add, result, 10).result(LIMIT))
            try:
                pool.join()
            except DeadlockError:
                chained.append(0)

        pool.apply_async(add, (1, 2), callback=go_on)
        pool.join(LIMIT)
        assert chained == [13, 0]


def abort(executor: Any, folder: Path) -> None:
    """It notifies all queued tasks, and is prompt."""
    go = folder / "go on"
    told: list[object] = []
    pool = CallbackPool(executor)
    for _ in range(20):
        pool.apply_async(pool_workers.wait_for_file, (str(go),), callback=told.append, error_callback=told.append)
    running = pool.abort()
    go.touch()
    for task in running:
        task.wait_settled(LIMIT)
    assert len(told) == 20
    assert sum(isinstance(one, CancelledError) for one in told) >= 10


def main() -> None:
    """Check all promises with one executor, which outlives each pool."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as executor, tempfile.TemporaryDirectory() as folder:
        for check in (callbacks, errors, limits, abort, callbacks):
            check(executor, Path(folder))
            print(check.__name__, flush=True)


if __name__ == "__main__":
    main()
