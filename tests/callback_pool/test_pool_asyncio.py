"""Tasks in coroutines: asyncio's own functions take them, and a coroutine that is cancelled ends its task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from callback_pool import pool_workers
from locks.actors import LIMIT
from polling import ended
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
    """`await`, gather, ensure_future, wait and run_in_executor work; results and errors too."""

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
    """They end in other threads, which do not wake the loop; done ones, late ones, and a limit work."""

    async def main(pool: CallbackPool) -> None:
        tasks = [pool.submit(pow, 2, n) for n in range(5)]
        done, pending = await asyncio.wait(tasks)  # type: ignore[type-var]  # typeshed knows only asyncio's futures
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
    """A queued task is cancelled; a running one is killed, or goes on in its thread."""
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
    """As with asyncio's futures, as many times as they were added."""
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


def test_what_asyncio_refuses_is_an_error_that_names_the_task() -> None:
    """create_task takes only coroutines, and set_default_executor standard threads: the how-to has the alternatives."""

    async def main(pool: CallbackPool) -> None:
        task = pool.submit(pow, 2, 3)
        with pytest.raises(TypeError, match=r"coroutine was expected, got <syncprims\.Task pow of 'jobs'"):
            await asyncio.create_task(task)  # type: ignore[arg-type]  # this is the test
        assert await asyncio.ensure_future(task) == 8
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="ThreadPoolExecutor"):
            loop.set_default_executor(pool)
        assert await loop.run_in_executor(pool, pow, 2, 3) == 8

    with CallbackPool(max_workers=1, name="jobs") as pool:
        run(main(pool))


# -- other loops and what is built on them -----------------------------------------------------------------------------

LOOPS = ["asyncio", "uvloop", "anyio"]


def installed(name: str) -> Any:
    """Return the module, or skip the test and name the package to install."""
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")


def run_in(loops: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine function in such a loop, with a limit."""

    async def limited() -> T:
        async with asyncio.timeout(LIMIT):
            return await main()

    if loops == "anyio":
        result: T = installed("anyio").run(limited)
        return result
    factory = installed("uvloop").new_event_loop if loops == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(limited())


@both
@pytest.mark.parametrize("loops", LOOPS)
def test_other_loops_take_tasks(loops: str, kind: Any) -> None:
    """Await, gather, wait, as_completed and run_in_executor work; results and errors too."""

    async def main() -> None:
        assert await pool.submit(pow, 2, 3) == 8
        assert list(await asyncio.gather(*(pool.submit(pow, 2, n) for n in range(3)))) == [1, 2, 4]
        done, late = await asyncio.wait([pool.submit(pow, 2, 3)])  # type: ignore[type-var]  # typeshed knows only asyncio's futures
        assert (len(done), late) == (1, set())
        tasks = [asyncio.ensure_future(pool.submit(pow, 2, n)) for n in range(3)]
        assert sorted([await each for each in asyncio.as_completed(tasks)]) == [1, 2, 4]
        assert await asyncio.get_running_loop().run_in_executor(pool, pow, 2, 4) == 16
        with pytest.raises(ValueError, match="no"):
            await pool.submit(pool_workers.fail, "no")

    with CallbackPool(kind, max_workers=2) as pool:
        run_in(loops, main)


@pytest.mark.parametrize("loops", LOOPS)
def test_a_wait_that_is_too_long_kills_the_process(loops: str, tmp_path: Path) -> None:
    """It is dead when the TimeoutError is raised, and the next task has a new one."""
    mark = tmp_path / "pid"

    async def main() -> int:
        late = pool.submit(pool_workers.announce_then_hang, str(mark))
        await running(late)
        while not mark.exists():
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late, 0.01)
        assert late.cancelled()
        assert ended(int(mark.read_text()))
        return await pool.submit(pow, 2, 3)

    with CallbackPool("process", max_workers=1) as pool:
        assert run_in(loops, main) == 8


def test_a_cancelled_group_of_anyio_ends_its_tasks(tmp_path: Path) -> None:
    """The process of the running task is killed, and the queued task is cancelled."""
    anyio = installed("anyio")
    mark = tmp_path / "pid"

    async def main() -> None:
        runs = pool.submit(pool_workers.announce_then_hang, str(mark))
        queued = pool.submit(pow, 2, 3)

        async def wait(task: Task[Any]) -> None:
            await task

        async with anyio.create_task_group() as group:
            group.start_soon(wait, runs)
            group.start_soon(wait, queued)
            while not mark.exists():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        assert runs.cancelled()
        assert queued.cancelled()
        assert ended(int(mark.read_text()))

    with CallbackPool("process", max_workers=1) as pool:
        run_in("anyio", main)


def test_uvloop_takes_a_pool_as_its_default_executor() -> None:
    """Other than asyncio, it accepts the pool: to_thread runs in it, and the loop's end shuts it down."""
    installed("uvloop")
    pool = CallbackPool(max_workers=1, name="default")

    async def main() -> str:
        asyncio.get_running_loop().set_default_executor(pool)
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert run_in("uvloop", main) == "default-worker-1"
    assert "closed" in repr(pool)


def test_starlette_serves_what_tasks_compute(tmp_path: Path) -> None:
    """It serves from coroutines and threads; a cancelled request kills its process, and others are served."""
    applications, responses, routing = (
        installed(f"starlette.{part}") for part in ("applications", "responses", "routing")
    )
    mark = tmp_path / "pid"

    async def power(request: Any) -> Any:
        return responses.PlainTextResponse(str(await pool.submit(pow, 2, request.path_params["n"])))

    def from_a_thread(request: Any) -> Any:
        return responses.PlainTextResponse(str(pool.apply(pow, (3, request.path_params["n"]))))

    async def endless(request: Any) -> Any:
        await pool.submit(pool_workers.announce_then_hang, str(mark))

    app = applications.Starlette(
        routes=[
            routing.Route("/power/{n:int}", power),
            routing.Route("/thread/{n:int}", from_a_thread),
            routing.Route("/endless", endless),
        ]
    )

    async def get(path: str) -> str:
        sent: list[dict[str, Any]] = []
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        assert sent[0]["status"] == 200
        body: bytes = b"".join(each["body"] for each in sent[1:])
        return body.decode()

    async def main() -> list[str]:
        given_up = asyncio.ensure_future(get("/endless"))
        while not mark.exists():
            await asyncio.sleep(0.001)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert ended(int(mark.read_text()))
        return list(await asyncio.gather(get("/power/5"), get("/thread/3")))

    with CallbackPool("process", max_workers=1) as pool:
        assert run_in("asyncio", main) == ["32", "27"]
