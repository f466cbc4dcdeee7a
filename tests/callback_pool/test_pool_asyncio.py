"""Tasks in coroutines: asyncio's own functions take them, and a coroutine that is cancelled ends its task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from callback_pool import pool_workers
from locks.actors import LIMIT
from syncprims import CallbackPool, Task

T = TypeVar("T")
both = pytest.mark.parametrize("kind", ["thread", "process"])


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it with a limit."""

    async def limited() -> T:
        async with asyncio.timeout(LIMIT):
            return await coroutine

    return asyncio.run(limited())


async def running(task: Task[Any]) -> None:
    """Wait until the task runs."""
    while not task.running():
        await asyncio.sleep(0.001)


@both
def test_asyncios_own_functions_take_tasks(kind: Any) -> None:
    """`await`, gather, ensure_future, wait and run_in_executor; results and errors alike."""

    async def main(pool: CallbackPool) -> None:
        assert await pool.submit(pow, 2, 3) == 8
        assert list(await asyncio.gather(pool.submit(pow, 2, 3), pool.submit(pow, 2, 4))) == [8, 16]
        assert await asyncio.ensure_future(pool.submit(pow, 2, 5)) == 32
        assert await asyncio.get_running_loop().run_in_executor(pool, pow, 2, 6) == 64
        with pytest.raises(ValueError, match="no"):
            await pool.submit(pool_workers.fail, "no")

    with CallbackPool(kind, max_workers=2) as pool:
        run(main(pool))


@both
def test_asyncio_wait_hears_of_the_end_of_tasks(kind: Any) -> None:
    """Although they end in other threads, which would not wake the loop; done ones and late ones, and by a limit."""

    async def main(pool: CallbackPool) -> None:
        tasks = [pool.submit(pow, 2, n) for n in range(5)]
        done, pending = await asyncio.wait(tasks)  # type: ignore[type-var]  # typeshed knows asyncio's futures alone
        assert (done, pending) == (set(tasks), set())
        go = threading.Event()
        if kind == "thread":
            late = pool.submit(go.wait, LIMIT)
            done, pending = await asyncio.wait([late, *tasks], timeout=0.01)  # type: ignore[type-var]  # the same
            assert pending == {late}
            asyncio.get_running_loop().call_later(0.01, go.set)
            done, pending = await asyncio.wait([late], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]  # the same
            assert done == {late}

    with CallbackPool(kind, max_workers=2) as pool:
        run(main(pool))


@both
def test_a_cancelled_coroutine_ends_its_task(kind: Any) -> None:
    """One that is queued is cancelled; one that runs is killed, or goes on in its thread."""
    go = threading.Event()

    async def main(pool: CallbackPool) -> tuple[Task[Any], Task[Any]]:
        runs: Task[Any] = (
            pool.submit(go.wait, LIMIT) if kind == "thread" else pool.submit(pool_workers.wait_for_file, "no")
        )
        queued = pool.submit(pow, 2, 3)
        waiting = [asyncio.ensure_future(each) for each in (runs, queued)]
        await asyncio.sleep(0)  # so that they wait
        await running(runs)
        for each in waiting:
            each.cancel()
        for each in waiting:
            with pytest.raises(asyncio.CancelledError):
                await each
        return runs, queued

    with CallbackPool(kind, max_workers=1) as pool:
        runs, queued = run(main(pool))
        assert queued.cancelled()
        assert runs.cancelled() == (kind == "process")
        go.set()
        assert pool.submit(abs, -1).result(LIMIT) == 1


def test_functions_can_be_taken_back() -> None:
    """As asyncio's futures have it: as often as it was given."""
    heard: list[object] = []
    go = threading.Event()
    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(go.wait, LIMIT)
        task.add_done_callback(heard.append)
        task.add_done_callback(heard.append)
        other = heard.insert
        assert task.remove_done_callback(lambda _: other(0, 1)) == 0
        task.add_done_callback(print)
        assert task.remove_done_callback(print) == 1
        go.set()
        task.result(LIMIT)
    assert heard == [task, task]


@pytest.mark.parametrize("loops", ["uvloop", "anyio"])
def test_other_loops_take_tasks(loops: str) -> None:
    """Uvloop and anyio, where they are installed."""
    module = pytest.importorskip(loops)

    async def main() -> int:
        with CallbackPool(max_workers=1) as pool:
            return await pool.submit(pow, 2, 3)

    if loops == "uvloop":
        with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
            assert runner.run(main()) == 8
    else:
        assert module.run(main) == 8
