"""Pools: no-op tasks with a callback, and maps in chunks of 64, in threads and in processes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Event
from time import perf_counter
from typing import Any

from syncprims import CallbackPool

from .measuring import OURS, STDLIB, Case, Group, Work, package
from .together import LIMIT

WORKERS = 2
CHUNK = 64

Submit = Callable[[Callable[[object], None]], object]
"""Submits one task, whose end calls the given callback."""


def nothing(value: object = None) -> object:
    """The tasks' function: do nothing."""
    return value


def with_callbacks(submit: Submit) -> Work:
    """All tasks at once, until the last callback has run."""

    def work(operations: int) -> float:
        # Not an iterator, which may give two threads the same number without the GIL.
        left = deque(range(operations))
        done = Event()

        def callback(_: object) -> None:
            if not left.pop():
                done.set()

        started = perf_counter()
        for _ in range(operations):
            submit(callback)
        if not done.wait(LIMIT):
            raise TimeoutError(f"not every callback has run in {LIMIT} s")
        return perf_counter() - started

    return work


def mapping(run: Callable[[Iterable[int]], Iterable[object]]) -> Work:
    """All results of a map, one after the other."""

    def work(operations: int) -> float:
        started = perf_counter()
        found = sum(1 for _ in run(range(operations)))
        assert found == operations
        return perf_counter() - started

    return work


def with_waits(submit: Callable[[Event], Any]) -> Work:
    """One task after another, each waited for; each ends when its result is about to be requested."""

    def work(operations: int) -> float:
        seconds = 0.0
        for _ in range(operations):
            asked = Event()
            future = submit(asked)
            started = perf_counter()
            asked.set()
            future.result()
            seconds += perf_counter() - started
        return seconds

    return work


# -- ways to submit ----------------------------------------------------------------------------------------------------


def _executor(make: Callable[[], Executor]) -> Callable[[ExitStack], Work]:
    def open_(stack: ExitStack) -> Work:
        executor = stack.enter_context(make())
        return with_callbacks(lambda callback: executor.submit(nothing).add_done_callback(callback))

    return open_


def _ours(make: Callable[[ExitStack], CallbackPool]) -> Callable[[ExitStack], Work]:
    def open_(stack: ExitStack) -> Work:
        pool = stack.enter_context(make(stack))
        return with_callbacks(lambda callback: pool.apply_async(nothing, callback=callback))

    return open_


def _waiting(make: Callable[[ExitStack], Any]) -> Callable[[ExitStack], Work]:
    def open_(stack: ExitStack) -> Work:
        executor = stack.enter_context(make(stack))
        return with_waits(lambda asked: executor.submit(asked.wait, LIMIT))

    return open_


def _ours_in_its_executor(stack: ExitStack) -> CallbackPool:
    return CallbackPool(stack.enter_context(ThreadPoolExecutor(WORKERS)))


def _stdlib_pool(make: Callable[[], Any]) -> Callable[[ExitStack], Work]:
    def open_(stack: ExitStack) -> Work:
        pool = stack.enter_context(make())
        return with_callbacks(lambda callback: pool.apply_async(nothing, callback=callback))

    return open_


def _pebble(stack: ExitStack) -> Any:
    pool = package("pebble").ProcessPool(WORKERS, context=_context())
    stack.callback(pool.join, LIMIT)
    stack.callback(pool.close)
    return pool


def _pebble_callbacks(stack: ExitStack) -> Work:
    pool = _pebble(stack)
    return with_callbacks(lambda callback: pool.schedule(nothing).add_done_callback(callback))


def _mpire(stack: ExitStack) -> Any:
    return stack.enter_context(package("mpire").WorkerPool(WORKERS, start_method="forkserver"))


def _mpire_callbacks(stack: ExitStack) -> Work:
    pool = _mpire(stack)
    return with_callbacks(lambda callback: pool.apply_async(nothing, callback=callback))


def _more_executors() -> Any:
    return package("more_executors").Executors.thread_pool(max_workers=WORKERS).with_retry()


def _loky() -> Any:
    return package("loky").ProcessPoolExecutor(WORKERS)


def _context() -> multiprocessing.context.BaseContext:
    return multiprocessing.get_context("forkserver")


def _thread_pool() -> Any:
    return multiprocessing.pool.ThreadPool(WORKERS)


def _process_pool() -> Any:
    return _context().Pool(WORKERS)


def _threads() -> Executor:
    return ThreadPoolExecutor(WORKERS)


def processes() -> Executor:
    """Make the standard process executor with the same start method as the pool."""
    return ProcessPoolExecutor(WORKERS, mp_context=_context())


def _own(kind: Any) -> Callable[[ExitStack], CallbackPool]:
    return lambda _: CallbackPool(kind, max_workers=WORKERS)


# -- ways to map -------------------------------------------------------------------------------------------------------


def _map(make: Callable[[], Any]) -> Callable[[ExitStack], Work]:
    def open_(stack: ExitStack) -> Work:
        pool = stack.enter_context(make())
        return mapping(partial(pool.map, nothing, chunksize=CHUNK))

    return open_


def _map_one_by_one(stack: ExitStack) -> Work:
    return mapping(partial(stack.enter_context(_threads()).map, nothing))


def _map_pebble(stack: ExitStack) -> Work:
    pool = _pebble(stack)
    return mapping(lambda numbers: pool.map(nothing, numbers, chunksize=CHUNK).result())


def _map_mpire(stack: ExitStack) -> Work:
    pool = _mpire(stack)
    return mapping(lambda numbers: pool.map(nothing, list(numbers), chunk_size=CHUNK))


def _map_joblib(stack: ExitStack) -> Work:
    joblib = package("joblib")
    run = stack.enter_context(joblib.Parallel(WORKERS, batch_size=CHUNK))
    return mapping(lambda numbers: run(map(joblib.delayed(nothing), numbers)))


HANDED_IN = (
    Case("ThreadPoolExecutor", STDLIB, _executor(_threads)),
    Case("CallbackPool(ThreadPoolExecutor)", OURS, _ours(_ours_in_its_executor), 0.9),
)
"""The baseline, and ours in an executor of the same kind."""

THREAD_POOL_MAP = Case("ThreadPool.map", STDLIB, _map(_thread_pool))
OUR_MAP = Case('CallbackPool("thread").map', OURS, _map(partial(CallbackPool, "thread", max_workers=WORKERS)), 0.85)

GROUPS = (
    Group(
        "pool-threads",
        "A no-op task with a callback, in threads",
        (
            HANDED_IN[0],
            Case('CallbackPool("thread")', OURS, _ours(_own("thread")), 0.9),
            HANDED_IN[1],
            Case("ThreadPool.apply_async", STDLIB, _stdlib_pool(_thread_pool)),
            Case("more-executors", "more-executors", _executor(_more_executors)),
        ),
        better="more",
        operations=256,
    ),
    Group(
        "result-threads",
        "Waiting for the result of a task, in threads",
        (
            Case("ThreadPoolExecutor", STDLIB, _waiting(lambda _: _threads())),
            Case('CallbackPool("thread")', OURS, _waiting(_own("thread"))),
            Case("CallbackPool(ThreadPoolExecutor)", OURS, _waiting(_ours_in_its_executor)),
        ),
        operations=64,
    ),
    Group(
        "pool-processes",
        "A no-op task with a callback, in processes",
        (
            Case("ProcessPoolExecutor", STDLIB, _executor(processes)),
            Case('CallbackPool("process")', OURS, _ours(_own("process")), 0.8),
            Case("multiprocessing.Pool", STDLIB, _stdlib_pool(_process_pool)),
            Case("pebble", "pebble", _pebble_callbacks),
            Case("loky", "loky", _executor(_loky)),
            Case("mpire", "mpire", _mpire_callbacks),
        ),
        better="more",
        operations=128,
    ),
    Group(
        "map-threads",
        "map in chunks of 64, in threads",
        (
            THREAD_POOL_MAP,
            OUR_MAP,
            Case("ThreadPoolExecutor.map", STDLIB, _map_one_by_one),
        ),
        better="more",
        operations=CHUNK * 32,
    ),
    Group(
        "map-processes",
        "map in chunks of 64, in processes",
        (
            Case("ProcessPoolExecutor.map", STDLIB, _map(processes)),
            Case(
                'CallbackPool("process").map', OURS, _map(partial(CallbackPool, "process", max_workers=WORKERS)), 0.85
            ),
            Case("multiprocessing.Pool.map", STDLIB, _map(_process_pool)),
            Case("pebble", "pebble", _map_pebble),
            Case("loky", "loky", _map(_loky)),
            Case("mpire", "mpire", _map_mpire),
            Case("joblib", "joblib", _map_joblib),
        ),
        better="more",
        operations=CHUNK * 32,
    ),
)
