"""How the pool sends calls to Dask and gets their outcomes: many at a time, each without waiting for the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.dask_servers import Scheduler
from callback_pool import pool_workers
from polling import until
from syncprims import CallbackPool, Task
from syncprims.callback_pool.workers import dask_bulk
from syncprims.testing import patience

if TYPE_CHECKING:
    from distributed import Client

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own

MANY: Final = 100


@contextmanager
def loop_of(client: Any) -> Iterator[None]:
    """Block the client's loop during the block."""
    reached, go = threading.Event(), threading.Event()

    def block() -> None:
        reached.set()
        go.wait(patience(30.0))

    client.loop.add_callback(block)
    assert reached.wait(patience(30.0))
    try:
        yield
    finally:
        go.set()


def sizes_of(method: Callable[..., Any], place: int, sizes: list[int]) -> Callable[..., Any]:
    """The method, with the length of one of its arguments noted before each call."""

    def noting(*arguments: Any, **options: Any) -> Any:
        sizes.append(len(arguments[place]))
        return method(*arguments, **options)

    return noting


def test_calls_that_come_together_are_one_graph(dask_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are submitted while Dask is busy wait for it, and are then sent together."""
    graphs: list[int] = []
    monkeypatch.setattr(dask_client, "map", sizes_of(dask_client.map, 1, graphs))
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        with loop_of(dask_client):
            tasks = [pool.submit(pool_workers.add, number) for number in range(MANY)]
        assert [task.result(patience(30.0)) for task in tasks] == [*range(MANY)]
        assert pool.submit(pool_workers.add, 1).result(patience(30.0)) == 1
    assert graphs == [MANY, 1]


def test_no_graph_is_larger_than_is_good_for_dask(dask_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of calls is limited, because the loop makes a graph at a stretch; their size too: Dask warns of it."""
    graphs: list[int] = []
    monkeypatch.setattr(dask_client, "map", sizes_of(dask_client.map, 1, graphs))
    monkeypatch.setattr(dask_bulk, "_MOST", 5)
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        with loop_of(dask_client):
            tasks = [pool.submit(len, b"x") for _ in range(6)]
            tasks += [pool.submit(len, b"x" * 600_000) for _ in range(3)]
        assert [task.result(patience(30.0)) for task in tasks] == [1] * 6 + [600_000] * 3
    assert graphs == [5, 3, 1]


def test_results_of_a_crowd_are_fetched_together(dask_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens when a quarter of the calls on their way is ready; the last few results are fetched one by one."""
    fetched: list[int] = []
    monkeypatch.setattr(dask_client, "gather", sizes_of(dask_client.gather, 0, fetched))
    monkeypatch.setattr(dask_bulk, "_TOGETHER", patience(60.0))
    results: list[int] = []
    with CallbackPool(dask_client.get_executor(pure=False)) as pool, loop_of(dask_client):
        for number in range(MANY):
            pool.apply_async(pool_workers.add, (number,), callback=results.append)
    assert sorted(results) == [*range(MANY)]
    assert fetched[0] >= MANY // 4
    assert len(fetched) <= dask_bulk._CROWD + 6


def test_a_result_of_a_crowd_does_not_wait_for_the_rest(dask_client: Client, tmp_path: Path) -> None:
    """The other calls are not done, and the result comes nevertheless."""
    go = tmp_path / "go"
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        with loop_of(dask_client):
            first = pool.submit(pool_workers.add, 1, 2)
            rest = [pool.submit(pool_workers.wait_for_file, str(go)) for _ in range(MANY)]
        assert first.result(patience(30.0)) == 3
        go.touch()
        assert {task.result(patience(30.0)) for task in rest} == {str(go)}


def test_a_result_that_can_not_be_fetched_holds_up_no_other(
    dask_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results that were to come with it are fetched alone; the lost one comes when its call has run again."""
    client: Any = dask_client
    real, never = client.gather, asyncio.Event()

    def gather(futures: dict[int, Any], **options: Any) -> Any:
        return never.wait() if len(futures) > 1 else real(futures, **options)

    monkeypatch.setattr(dask_client, "gather", gather)
    monkeypatch.setattr(dask_bulk, "_LATE", 0.01)
    monkeypatch.setattr(dask_bulk, "_TOGETHER", patience(60.0))
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        with loop_of(dask_client):
            tasks = [pool.submit(pool_workers.add, number) for number in range(40)]
        assert [task.result(patience(30.0)) for task in tasks] == [*range(40)]
    client.loop.add_callback(never.set)


def test_a_call_that_is_cancelled_before_it_is_sent_is_not_sent(
    dask_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask never gets it; the other calls of its graph are not affected."""
    graphs: list[int] = []
    monkeypatch.setattr(dask_client, "map", sizes_of(dask_client.map, 1, graphs))
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        with loop_of(dask_client):
            tasks = [pool.submit(pool_workers.add, number) for number in range(3)]
            assert tasks[1].cancel()
        assert tasks[0].result(patience(30.0)) == 0
        assert tasks[2].result(patience(30.0)) == 2
    assert tasks[1].cancelled()
    assert graphs == [2]


def _known_to_worker(dask_worker: Any) -> int:
    return len(dask_worker.state.tasks)


def test_a_call_that_is_cancelled_later_is_taken_back(dask_client: Client, tmp_path: Path) -> None:
    """Dask forgets it, so that no worker begins it after that."""
    go, never = tmp_path / "go", tmp_path / "never"
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        begun = [tmp_path / "first", tmp_path / "second"]
        busy = [pool.submit(pool_workers.touch_and_wait, str(path), str(go)) for path in begun]
        until(lambda: all(path.exists() for path in begun), patience(30.0))
        late = pool.submit(never.touch)
        until(lambda: len(dask_client.futures) >= 3, patience(30.0))
        assert late.cancel()
        until(lambda: len(dask_client.futures) == 2, patience(30.0))
        until(lambda: sum(dask_client.run(_known_to_worker).values()) == 2, patience(30.0))
        go.touch()
        for task in busy:
            task.result(patience(30.0))
    assert not never.exists()


def test_nothing_is_left_with_dask_when_all_is_done(dask_client: Client) -> None:
    """This holds also after a call has failed, and if its task is kept."""
    with CallbackPool(dask_client.get_executor(pure=False)) as pool:
        tasks = [pool.submit(pool_workers.add, number) for number in range(MANY)]
        tasks.append(pool.submit(pool_workers.fail, "no such luck"))
        assert isinstance(tasks[-1].exception(patience(30.0)), ValueError)
    until(lambda: not dask_client.futures, patience(30.0))
    assert all(task.done() for task in tasks)


def test_a_client_that_is_closed_leaves_no_task_behind(tmp_path: Path) -> None:
    """Whether its call ran, waited or was not sent: all end, callbacks run, and the pool accepts no more."""
    pytest.importorskip("distributed", reason="needs Dask: pip install 'syncprims[dask]'")
    from distributed import Client

    ends: list[BaseException] = []
    with Scheduler(tmp_path) as scheduler:
        client = Client(scheduler.address, timeout=30)
        pool = CallbackPool(client.get_executor(pure=False))
        with loop_of(client):
            for _ in range(MANY):
                pool.apply_async(pool_workers.wait_for_file, (str(tmp_path / "never"),), error_callback=ends.append)
        until(lambda: len(client.futures) == MANY, patience(30.0))
        client.close()
        pool.join(patience(40.0))
        with pytest.raises(Exception, match=r"(?i)clos"):
            pool.submit(pool_workers.add, 1)
        pool.close()
    assert len(ends) == MANY
    assert {type(end) for end in ends} == {CancelledError}


def test_a_client_that_is_closed_at_any_moment_leaves_no_task_behind(tmp_path: Path) -> None:
    """Another thread submits while it is closed: each task ends, or its submission raises an error."""
    pytest.importorskip("distributed", reason="needs Dask: pip install 'syncprims[dask]'")
    from distributed import Client

    with Scheduler(tmp_path) as scheduler:
        for number in range(4):
            client = Client(scheduler.address, timeout=30)
            pool = CallbackPool(client.get_executor(pure=False), max_pending=50)
            going, refused = threading.Event(), threading.Event()
            tasks: list[Task[int]] = []

            def submit(
                pool: CallbackPool = pool, going: Any = going, refused: Any = refused, into: Any = tasks
            ) -> None:
                try:
                    while True:
                        into.append(pool.submit(pool_workers.add, 1))
                        going.set()
                except Exception:
                    refused.set()

            thread = threading.Thread(target=submit, daemon=True)
            thread.start()
            assert going.wait(patience(30.0))
            if number % 2:
                tasks[0].wait(patience(30.0))
            client.close()
            assert refused.wait(patience(30.0))
            thread.join(patience(30.0))
            for task in tasks:
                task.wait_settled(patience(30.0))
            pool.close()
