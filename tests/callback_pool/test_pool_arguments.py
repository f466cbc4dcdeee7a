"""Arguments of a pool: a wrong one is an error at once that says what to write, and changes nothing."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from callback_pool import pool_workers
from hostile import HostileInt, HostileStr
from syncprims import PoolTimeoutError, SyncError
from syncprims.callback_pool import CallbackPool, Task

LIMIT = 60.0


async def fetch(*_: object) -> int:
    """Ask some server."""
    return 1


async def fetch_many(*_: object) -> AsyncGenerator[int, None]:
    """Ask some server again and again."""
    yield 1


class Server:
    """An object with callables, which run no code of the test."""

    async def ask(self, *_: object) -> int:
        """Ask it."""
        return 1

    async def __call__(self, *_: object) -> int:
        """Ask it as well."""
        return 1


COROUTINE_FUNCTIONS: list[Callable[..., Any]] = [
    *(fetch, Server().ask, Server(), functools.partial(fetch, 1), functools.partial(Server().ask, 1)),
]
Pool: Any = CallbackPool  # so that it can be called in ways that type checkers refuse
USES: list[Callable[[CallbackPool, Any], object]] = [
    lambda pool, fn: pool.submit(fn),
    lambda pool, fn: pool.apply_async(fn),
    lambda pool, fn: pool.apply_async(len, ("",), callback=fn),
    lambda pool, fn: pool.apply_async(len, ("",), error_callback=fn),
    lambda pool, fn: pool.map(fn, [1]),
    lambda pool, fn: pool.map_unordered(fn, [1]),
    lambda pool, fn: CallbackPool(initializer=fn),
    lambda pool, fn: CallbackPool(on_progress=fn),
    lambda pool, fn: CallbackPool(on_callback_error=fn),
    lambda pool, fn: CallbackPool(dumps=fn),
    lambda pool, fn: pool.submit(len, "").add_done_callback(fn),
]


@pytest.mark.parametrize("fn", COROUTINE_FUNCTIONS)
@pytest.mark.parametrize("use", USES)
def test_coroutine_functions_are_refused(use: Callable[[CallbackPool, Any], object], fn: Any) -> None:
    """Every parameter for a function refuses one that would not run, and the message says what to pass instead."""
    with CallbackPool(max_workers=1) as pool, pytest.raises(TypeError, match=r"coroutine function.*asyncio\.run"):
        use(pool, fn)
    assert pool.stats.pending == 0


def test_async_generator_functions_are_no_callbacks() -> None:
    """They would not run either; as a task, one may be intended."""
    with CallbackPool(max_workers=1) as pool:
        with pytest.raises(TypeError, match="async generator function"):
            pool.apply_async(len, ("",), callback=fetch_many)
        assert hasattr(pool.submit(fetch_many).result(LIMIT), "__anext__")


def test_hook_that_is_a_coroutine_function_is_refused() -> None:
    """A subclass gets the error when a pool is made; otherwise its hooks would silently never run."""

    class Hooked(CallbackPool):
        async def _on_settled(self, task: Task[Any]) -> None:  # type: ignore[override]  # this is the point
            """Never run."""

    with pytest.raises(TypeError, match="_on_settled"):
        Hooked()


def test_asyncio_run_in_a_task_is_the_way() -> None:
    """The advice of the message works."""
    with CallbackPool(max_workers=1) as pool:
        assert pool.submit(lambda: asyncio.run(fetch())).result(LIMIT) == 1


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: Pool(4), "max_workers=4"),
        (lambda: Pool(processes=4), "max_workers=4"),
        (lambda: Pool("process", processes=4), "max_workers=4"),
        (lambda: Pool(n_jobs=2), "max_workers=2"),
        (lambda: Pool(thread_name_prefix="jobs"), "name='jobs'"),
        (lambda: Pool(max_worker=4), "unexpected keyword argument 'max_worker'"),
        (lambda: Pool(3.5), "executor must be"),
        (lambda: Pool(None), "executor must be"),
        (lambda: Pool(max_workers="4"), "max_workers must be an integer"),
        (lambda: Pool(max_workers=True), "max_workers must be an integer"),
        (lambda: Pool(max_pending=2.0), "max_pending must be an integer"),
        (
            lambda: Pool(initializer=print, initargs="ab"),
            r"initargs must be the arguments in a tuple.*\('ab',\)",
        ),
        (lambda: Pool(initializer=print, initargs=5), r"initargs must be the arguments in a tuple.*\(5,\)"),
        (lambda: Pool(on_callback_error=3), "on_callback_error"),
        (lambda: Pool(name=3), "name must be a string"),
    ],
)
def test_wrong_arguments_of_the_constructor(make: Callable[[], object], advice: str) -> None:
    """Other pools' names of arguments and wrong types are TypeErrors that say what to write."""
    before = set(threading.enumerate())
    with pytest.raises(TypeError, match=advice):
        make()
    assert not set(threading.enumerate()) - before  # others may have ended


def test_wrong_values_of_the_constructor() -> None:
    """Unknown kinds, and numbers that are too small, are ValueErrors."""
    for make in (
        lambda: Pool("threads"),
        lambda: Pool(on_callback_error="ignore"),
        lambda: Pool(max_workers=0),
        lambda: Pool(max_pending=-1),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()  # type: ignore[no-untyped-call]  # some of them are wrong


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (lambda pool: pool.apply_async(len, ("abc")), r"args must be the arguments in a tuple.*\('abc',\)"),
        (lambda pool: pool.apply_async(len, b"abc"), r"\(b'abc',\)"),
        (lambda pool: pool.apply_async(len, bytearray(b"abc")), "args must be the arguments in a tuple"),
        (lambda pool: pool.apply_async(len, {"a": 1}), "args must be the arguments in a tuple"),
        (lambda pool: pool.apply_async(len, {"a"}), "in their order"),
        (lambda pool: pool.apply_async(abs, (3)), r"\(3,\)"),
        (lambda pool: pool.apply_async(len, HostileStr("abc")), "args must be the arguments in a tuple"),
        (lambda pool: pool.apply_async(dict, (), [("a", 1)]), "kwds must be a mapping"),
        (lambda pool: pool.apply_async(dict, (), "ab"), "kwds must be a mapping"),
        (lambda pool: pool.apply_async(dict, (), {1: 2}), "names in kwds must be strings, not 1"),
        (lambda pool: pool.apply_async(len, ("",), callback=3), "callback must be callable"),
        (lambda pool: pool.submit(3), "must be callable, not 3"),
        (lambda pool: pool.map(3, [1]), "must be callable, not 3"),
        (lambda pool: pool.map(abs, [1], chunksize=1.5), "chunksize must be an integer"),
    ],
)
def test_wrong_arguments_of_a_call(call: Callable[[Any], object], advice: str) -> None:
    """A missing comma, or keywords that are not a mapping: an error at once, and no task."""
    with CallbackPool(max_workers=1) as pool, pytest.raises(TypeError, match=advice):
        call(pool)
    assert pool.stats.submitted == 0


def test_numbers_are_kept_as_exact_integers() -> None:
    """A subclass of int with methods that raise is accepted, and none of the methods is called."""
    with CallbackPool(max_workers=HostileInt(2), max_pending=HostileInt(5)) as pool:
        assert pool.submit(len, "abc").result(LIMIT) == 3


# -- words of multiprocessing and Dask ---------------------------------------------------------------------------------


def test_get_raises_what_programs_for_multiprocessing_catch() -> None:
    """`except multiprocessing.TimeoutError` around get(timeout) works, and so do our own names for it."""
    go = threading.Event()
    with CallbackPool(max_workers=1) as pool:
        task = pool.apply_async(go.wait, (LIMIT,))
        for expected in (multiprocessing.TimeoutError, TimeoutError, PoolTimeoutError, SyncError):
            with pytest.raises(expected, match="wait again"):
                task.get(timeout=0.01)
        with pytest.raises(multiprocessing.TimeoutError) as caught:
            task.get(0)
        assert isinstance(caught.value, PoolTimeoutError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), again.pending) == (type(caught.value), str(caught.value), 1)
        go.set()
        assert task.get(LIMIT) is True


def test_get_raises_the_calls_own_timeout_as_it_is() -> None:
    """A TimeoutError of the call itself is not confused with one of the wait."""

    def fail() -> None:
        raise PoolTimeoutError("of another pool")

    with CallbackPool(max_workers=1) as pool, pytest.raises(PoolTimeoutError, match="of another pool") as caught:
        pool.submit(fail).get(LIMIT)
    assert not isinstance(caught.value, multiprocessing.TimeoutError)


def test_get_imports_multiprocessing_only_when_it_is_late() -> None:
    """A program that gets its results in time does not import it for the error."""
    program = """
import sys
from syncprims import CallbackPool
with CallbackPool(max_workers=1) as pool:
    assert pool.submit(len, "abc").get(50) == 3
assert "multiprocessing" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_pool_says_how_many_workers_it_has_as_executors_do() -> None:
    """Dask's scheduler for threads reads `_max_workers` of the pool that it gets."""

    def workers(pool: Any) -> int:
        most: int = pool._max_workers
        return most

    with CallbackPool(max_workers=3) as pool, CallbackPool("process", max_workers=2) as processes:
        assert (workers(pool), workers(processes)) == (3, 2)
    with CallbackPool() as pool:
        assert workers(pool) > 4
    with ThreadPoolExecutor(5) as executor, CallbackPool(executor) as pool:
        assert workers(pool) == 5

    class Unknown(Executor):
        """Has no number of workers."""

    with CallbackPool(Unknown()) as pool:
        assert not hasattr(pool, "_max_workers")


def test_dask_runs_its_graphs_in_a_pool() -> None:
    """`dask.threaded.get` with our pool computes a graph."""
    threaded = pytest.importorskip("dask.threaded")
    with CallbackPool(max_workers=2) as pool:
        graph = {"a": 1, "b": (pool_workers.add, "a", 10), "c": (sum, ["a", "b"])}
        assert threaded.get(graph, "c", pool=pool) == 12
