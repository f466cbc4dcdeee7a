"""Features of Dask only: its locks in an adapter, an order across its workers, and the death of its parts."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.dask_servers import Scheduler, dask_cluster
from callback_pool import pool_workers
from syncprims import CallbackPool, LockAdapter, LockTimeoutError, OrderedRunner, TimedLock, Turn, acquire_all
from syncprims.testing import Threads, assert_blocks, patience

if TYPE_CHECKING:
    from distributed import Client

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own


def step_and_process(turn: Turn) -> tuple[str, int, int]:
    """Return which turn this is, and which process takes it."""
    return turn.step, turn.round, os.getpid()


def note_then_die_once(notes: str) -> int:
    """Note that it has begun; the first time, kill the worker."""
    with open(notes, "a") as file:
        file.write("begun\n")
    begun = Path(notes).read_text().count("begun")
    if begun == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun


# -- the pool ---------------------------------------------------------------------------------------------------------


def test_an_executor_with_pure_calls_is_refused(dask_client: Client) -> None:
    """Whether pure was left out or given, the error says what to pass."""
    for options in ({}, {"pure": True}):
        with pytest.raises(ValueError, match=r"client\.get_executor\(pure=False\)"):
            CallbackPool(dask_client.get_executor(**options))


def test_a_worker_that_is_killed_mid_task_has_its_task_run_again(tmp_path: Path) -> None:
    """Dask guarantees at least once: the task began twice, and its callback ran once."""
    notes = tmp_path / "notes"
    results: list[int] = []
    with dask_cluster(1) as client, CallbackPool(client.get_executor(pure=False)) as pool:
        pool.apply_async(note_then_die_once, (str(notes),), callback=results.append)
        pool.join(patience(40.0))
    assert results == [2]
    assert notes.read_text().count("begun") == 2


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_an_error(tmp_path: Path) -> None:
    """Dask gives up after some workers, and the error callback is called."""
    dask = pytest.importorskip("dask", reason="needs Dask: pip install 'syncprims[dask]'")
    errors: list[BaseException] = []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        dask_cluster(1) as client,
        CallbackPool(client.get_executor(pure=False)) as pool,
    ):
        pool.apply_async(pool_workers.die, error_callback=errors.append)
        pool.join(patience(40.0))
    assert type(errors[0]).__name__ == "KilledWorker"


def test_the_death_of_the_scheduler_is_told_to_every_task(tmp_path: Path) -> None:
    """Nothing hangs: running and queued tasks fail, their callbacks run, and close() returns."""
    pytest.importorskip("distributed", reason="needs Dask: pip install 'syncprims[dask]'")
    from distributed import Client

    errors: list[BaseException] = []
    with Scheduler(tmp_path) as scheduler:
        client = Client(scheduler.address, timeout=30)
        try:
            with CallbackPool(client.get_executor(pure=False)) as pool:
                assert pool.submit(pool_workers.add, 1, 2).result(patience(30.0)) == 3
                for _ in range(3):
                    pool.apply_async(
                        pool_workers.wait_for_file, (str(tmp_path / "never"),), error_callback=errors.append
                    )
                scheduler.kill()
                pool.join(patience(40.0))
        finally:
            client.close(timeout=2)
    assert len(errors) == 3


# -- the locks --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["Lock", "Semaphore"])
def dask_lock(request: pytest.FixtureRequest, dask_client: Client) -> object:
    """A lock of Dask's, of each kind."""
    import distributed

    name = f"lock-{request.node.name}"
    return distributed.Lock(name) if request.param == "Lock" else distributed.Semaphore(1, name=name)


def test_a_lock_of_dask_has_the_surface_of_ours(dask_lock: object) -> None:
    """With `with`, hold() and acquire(), it is acquired inside and free after, and limits are kept."""
    lock = LockAdapter(dask_lock, timeout=patience(), name="shared")  # type: ignore[arg-type]  # it has both forms
    for manager in (lock, lock.hold(None), lock.hold(0)):
        with manager:
            assert lock.held_by_me()
            other = LockAdapter(dask_lock, timeout=0.1, name="shared")  # type: ignore[arg-type]  # as above
            with pytest.raises(LockTimeoutError, match="a thread that did not acquire it through this adapter"), other:
                pytest.fail("the body ran without the lock")
            assert other.acquire(False) is False
            assert other.acquire(timeout=0.05) is False
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert lock.acquire()
    lock.release()
    assert not lock.held_by_me()


def test_a_waiter_for_a_lock_of_dask_gets_it(dask_lock: object) -> None:
    """A waiter gets it when its holder leaves."""
    lock = LockAdapter(dask_lock)  # type: ignore[arg-type]  # as above

    def take() -> bool:
        with lock.hold(patience()):
            return lock.held_by_me()

    with lock:
        blocked = assert_blocks(take, until=lambda: lock.waiting == 1)
    assert blocked.result() is True


def test_acquire_all_takes_locks_of_dask_with_local_ones(dask_lock: object) -> None:
    """All are taken, and all are free after."""
    here, there = TimedLock(), LockAdapter(dask_lock)  # type: ignore[arg-type]  # as above
    with acquire_all(there, here, timeout=patience()):
        assert here.held_by_me()
        assert there.held_by_me()
    assert there.acquire(False)
    there.release()


def test_threads_that_share_a_lock_of_dask_never_meet(dask_lock: object) -> None:
    """Four threads count in two steps under it, and lose no count."""
    lock = LockAdapter(dask_lock, timeout=patience(30.0))  # type: ignore[arg-type]  # as above
    counts = [0]

    def work() -> None:
        for _ in range(10):
            with lock:
                seen = counts[0]
                threading.Event().wait(0.0)
                counts[0] = seen + 1

    with Threads(patience(30.0)) as threads:
        for _ in range(4):
            threads.start(work)
    assert counts == [40]


# -- the order --------------------------------------------------------------------------------------------------------


def test_an_order_is_kept_across_workers(dask_client: Client) -> None:
    """Steps run on any worker, one after the other, in the given order."""
    steps = ("load", "check", "store")
    runner = OrderedRunner(*steps, rounds=4)
    results = runner.run(
        dict.fromkeys(steps, step_and_process),
        executor=dask_client.get_executor(pure=False),
        timeout=patience(40.0),
    )
    assert [result[:2] for result in results] == [(step, number) for number in range(4) for step in steps]
    assert os.getpid() not in {process for _, _, process in results}


def test_more_steps_than_workers_starve_nobody() -> None:
    """One worker of one thread is enough for any number of steps, because only the next step is submitted."""
    steps = [f"step-{number}" for number in range(6)]
    with dask_cluster(1) as client:
        results = OrderedRunner(*steps, rounds=2).run(
            dict.fromkeys(steps, step_and_process), executor=client.get_executor(pure=False), timeout=patience(40.0)
        )
    assert [result[0] for result in results] == 2 * steps
    assert len({process for _, _, process in results}) == 1
