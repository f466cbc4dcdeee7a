"""The contract of a pool as a whole: joining, closing, aborting, its behaviour as an executor, limits and numbers."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, as_completed, wait
from types import FrameType

from ...callback_pool import CallbackPool
from ...errors import ForkedError, PoolClosedError, PoolTimeoutError
from .contract import Contract
from .pool_callbacks import Heard, Make
from .pool_tasks import Gate, double, fail, fail_at, linger, pool_limit
from .trial import (
    NotHereError,
    aside,
    expect,
    expect_that,
    finish,
    in_child,
    moment,
    raises,
    settled,
    start,
    still,
    told,
)

ends: Contract[Make] = Contract(moment=0.6)  # the same as for callbacks


# -- join and close ---------------------------------------------------------------------------------------------------


@ends.clause(
    "join() waits for tasks, callbacks, and the tasks that callbacks submit", "submitted on and on from callbacks"
)
def _join(make: Make) -> None:
    log: list[int] = []
    with make(max_workers=2) as pool:

        def again(result: int) -> None:
            log.append(result)
            if result < 10:
                pool.apply_async(abs, (result + 1,), callback=again)

        pool.apply_async(abs, (1,), callback=again)
        pool.join(pool_limit())
        expect("what the callbacks had been told when join() returned", log, list(range(1, 11)))
        expect("a task after join()", pool.submit(abs, -2).result(pool_limit()), 2)


@ends.clause("a join() that times out raises PoolTimeoutError, and changes nothing", "joined while a task ran")
def _join_timeout(make: Make) -> None:
    heard = Heard()
    with Gate() as gate, make(max_workers=1) as pool:
        pool.apply_async(linger, gate.arguments, callback=heard.ok)
        gate.wait_reached()
        error = raises(PoolTimeoutError, "join(timeout=...)", pool.join, moment())
        expect("pending of the error", error.pending, 1)
        gate.open()
        pool.join(pool_limit())
    heard.expect("the task", ["through"])


@ends.clause("close() takes no more from outside, and callbacks may go on submitting", "submitted before and after")
def _close(make: Make) -> None:
    log: list[int] = []
    pool = make(max_workers=1)

    def again(_result: object) -> None:
        log.append(0)
        if len(log) < 5:
            pool.apply_async(abs, (0,), callback=again)

    with Gate() as gate:
        pool.apply_async(linger, gate.arguments, callback=again)
        gate.wait_reached()
        closing = start(pool.close, pool_limit())
        still(closing, "close() while a task ran")
        raises(PoolClosedError, "submit() from outside while closing", pool.submit, abs, 1)
        gate.open()
        finish(closing, "close()")
    expect("the number of callbacks when close() returned", len(log), 5)
    raises(PoolClosedError, "apply_async() after close()", pool.apply_async, abs, (1,))
    raises(PoolClosedError, "map() after close()", pool.map, abs, [1])
    pool.close(pool_limit())


@ends.clause("leaving the with waits for every callback", "left it at once")
def _leave(make: Make) -> None:
    heard = Heard()
    with make(max_workers=2) as pool:
        for number in range(5):
            pool.apply_async(double, (number,), callback=heard.ok)
    expect("what the callbacks had been told", sorted(map(str, heard.results)), ["0", "2", "4", "6", "8"])


# -- abort ------------------------------------------------------------------------------------------------------------


def _queue(pool: CallbackPool, gate: Gate, running: Heard) -> list[Heard]:
    """Let one task run, and four others wait behind it."""
    pool.apply_async(linger, gate.arguments, callback=running.ok, error_callback=running.wrong)
    gate.wait_reached()
    queued = [Heard() for _ in range(4)]
    for heard in queued:
        pool.apply_async(abs, (-2,), callback=heard.ok, error_callback=heard.wrong)
    return queued


def _expect_told(running: Heard, queued: list[Heard]) -> None:
    running.expect("the task that ran", ["through"])
    # An executor may have fetched one or two already; they run, and are reported as running. The last is always
    # cancelled.
    for heard in queued[:-1]:
        if not heard.results:
            heard.expect("a queued task", [], CancelledError)
    queued[-1].expect("the last queued task", [], CancelledError)


@ends.clause("abort() cancels queued tasks, calls every callback and returns the running tasks", "aborted with a queue")
def _abort(make: Make) -> None:
    running = Heard()
    pool = make(max_workers=1)
    with Gate() as gate:
        queued = _queue(pool, gate, running)
        left = aside(pool.abort)
        expect_that(left and not left[0].done(), f"abort() returned {left!r}, and not the task that runs")
        queued[-1].expect("the last queued task, when abort() returned", [], CancelledError)
        raises(PoolClosedError, "submit() after abort()", pool.submit, abs, 1)
        gate.open()
        for task in left:
            task.wait_settled(pool_limit())
    _expect_told(running, queued)


@ends.clause("an exception in the with comes out of it, and aborts the pool", "raised in the with, with a queue")
def _leave_error(make: Make) -> None:
    running, error = Heard(), ValueError("in the with")
    queued: list[Heard] = []
    pool = make(max_workers=1)

    def use(gate: Gate) -> None:
        with pool:
            queued.extend(_queue(pool, gate, running))
            raise error

    with Gate() as gate:
        got = raises(ValueError, "leaving the with", aside, use, gate)
        expect_that(got is error, f"what came out was {told(got)}")
        gate.open()
        pool.close(pool_limit())
    _expect_told(running, queued)


@ends.clause(
    "an interrupt while join() waits cancels what is queued and comes out at once",
    "sent a SIGINT while join() waited for a task that ran",
    main_thread=True,
)
def _interrupt(make: Make) -> None:
    if not hasattr(signal, "pthread_kill"):
        raise NotHereError("this system has no signal.pthread_kill, so no wait can be interrupted")
    running = Heard()
    pool = make(max_workers=1)
    with Gate() as gate:
        queued = _queue(pool, gate, running)
        raises(KeyboardInterrupt, "join()", _interrupted, pool.join)
        gate.open()
        pool.close(pool_limit())
    _expect_told(running, queued)


def _interrupted(join: Callable[[float], None]) -> None:
    """Call join() with a time limit in this thread, and interrupt it when it waits."""
    over = threading.Event()
    main = threading.main_thread().ident or 0

    def interrupt() -> None:
        still_for, before = 0, None
        while still_for < 20 and not over.wait(0.002):
            frame = sys._current_frames().get(main)
            now = None if frame is None else (id(frame), frame.f_lasti)
            still_for = still_for + 1 if now == before else 0
            before = now
        if not over.is_set():
            signal.pthread_kill(main, signal.SIGINT)

    def handle(_signum: int, _frame: FrameType | None) -> None:
        if not over.is_set():
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, handle)
    try:
        interrupting = start(interrupt)
        try:
            join(pool_limit())
        finally:
            over.set()
        finish(interrupting)
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.default_int_handler)


# -- an executor ------------------------------------------------------------------------------------------------------


@ends.clause("it is an executor: as_completed(), wait(), shutdown() and await work", "used it in these ways")
def _executor(make: Make) -> None:
    import asyncio  # worker processes that import tasks from this package need not load it

    pool = make(max_workers=2)
    expect_that(isinstance(pool, Executor), "it is no concurrent.futures.Executor")
    tasks = [pool.submit(double, number) for number in range(5)]
    done = sorted(task.result() for task in as_completed(tasks, timeout=pool_limit()))
    expect("the results by as_completed()", done, [0, 2, 4, 6, 8])
    expect("the tasks not done by wait()", wait(tasks, timeout=pool_limit()).not_done, set())

    async def use() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        return await pool.submit(double, 3), await loop.run_in_executor(pool, double, 4)

    expect("the results by await and run_in_executor()", aside(asyncio.run, use()), (6, 8))
    aside(pool.shutdown)
    raises(RuntimeError, "submit() after shutdown()", pool.submit, abs, 1)


@ends.clause("shutdown() ends though callbacks submit on and on, and raises no group", "shut it down while they did")
def _shutdown(make: Make) -> None:
    pool = make(max_workers=1)
    begun = threading.Event()

    def again(_result: object) -> None:
        begun.set()
        try:
            pool.apply_async(abs, (1,), callback=again)
        except PoolClosedError:  # shutdown() would log it
            pass

    try:
        pool.apply_async(abs, (1,), callback=again)
        expect_that(begun.wait(pool_limit()), "a callback did not come")
        aside(pool.shutdown)
        expect("how many tasks are pending after shutdown()", pool.stats.pending, 0)
    finally:
        pool.abort()


@ends.clause("map() gives results in the order of the items", "mapped over items, in chunks too")
def _map(make: Make) -> None:
    with make(max_workers=2) as pool:
        for chunksize in (1, 3, 100):
            got = list(pool.map(double, range(10), chunksize=chunksize, timeout=pool_limit()))
            expect(f"map(chunksize={chunksize})", got, list(range(0, 20, 2)))
            some = sorted(pool.map_unordered(double, range(10), chunksize=chunksize, timeout=pool_limit()))
            expect(f"map_unordered(chunksize={chunksize})", some, list(range(0, 20, 2)))
        expect("map() of two iterables", list(pool.map(pow, [2, 3], [5, 2])), [32, 9])
        results = pool.map(fail_at, range(5), [3] * 5)
        expect("the results before one that fails", [next(results) for _ in range(3)], [0, 1, 2])
        raises(ValueError, "the one that fails", next, results)


@ends.clause("map() with max_pending takes its items a few at a time", "mapped over an iterator of very many")
def _map_endless(make: Make) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):  # practically endless, if the pool takes them all
            taken.append(number)
            yield number

    pool = make(max_workers=1, max_pending=4)
    results = pool.map(double, items())
    expect("the first results", [next(results) for _ in range(5)], [0, 2, 4, 6, 8])
    expect_that(len(taken) <= 20, f"for 5 results it took {len(taken)} items with max_pending=4")
    results.close()  # type: ignore[attr-defined]  # a generator, as with any executor
    aside(pool.abort)


@ends.clause("max_pending blocks submit() from outside, and not from callbacks", "submitted to a full pool")
def _pending(make: Make) -> None:
    log: list[object] = []
    more_to_do: list[int] = []
    with Gate() as gate, make(max_workers=1, max_pending=2) as pool:

        def more(result: object) -> None:
            log.append(result)
            for number in more_to_do:  # none if the clause is broken: then the pool is aborted, and takes no more
                pool.apply_async(abs, (number,), callback=log.append)

        pool.apply_async(linger, gate.arguments, callback=more)
        pool.submit(abs, 1)
        blocked = start(pool.submit, abs, -7)
        still(blocked, "submit() to a full pool")
        more_to_do[:] = range(3)
        gate.open()
        expect("the result of what was blocked", finish(blocked, "submit()").result(pool_limit()), 7)
        pool.join(pool_limit())
        expect("what the callbacks were told", log, ["through", 0, 1, 2])


# -- arguments, numbers, forks ----------------------------------------------------------------------------------------


@ends.clause("wrong arguments raise at once, and start nothing", "gave numbers below 1 and what can't be called")
def _arguments(make: Make) -> None:
    raises(ValueError, "max_workers=0", make, max_workers=0)
    raises(ValueError, "max_pending=0", make, max_pending=0)
    with make(max_workers=1) as pool:
        raises(TypeError, "a callback that can't be called", pool.apply_async, abs, (1,), callback=1)
        raises(TypeError, "an error_callback that can't be called", pool.apply_async, abs, (1,), error_callback=1)
        raises(TypeError, "submit() of what can't be called", pool.submit, 1)
        raises(ValueError, "timeout=-1", pool.apply_async, abs, (1,), timeout=-1)
        raises(ValueError, "map(chunksize=0)", pool.map, abs, [1], chunksize=0)
        expect("stats.submitted after that", pool.stats.submitted, 0)


@ends.clause("stats counts what was submitted, is pending, done, failed and cancelled", "counted along")
def _stats(make: Make) -> None:
    heard = Heard()
    with Gate() as gate, make(max_workers=1) as pool:
        pool.apply_async(linger, gate.arguments)
        gate.wait_reached()
        pool.apply_async(fail, ("in the task",), error_callback=heard.wrong)
        rest = [pool.apply_async(abs, (1,), error_callback=heard.wrong) for _ in range(3)]
        expect("cancel() of the last of four queued tasks", rest[-1].cancel(), True)
        rest[-1].wait_settled(pool_limit())
        # The dispatcher may be about to remove the task.
        settled(lambda: pool.stats.pending == 4)
        stats = pool.stats
        expect("submitted, pending and cancelled", (stats.submitted, stats.pending, stats.cancelled), (5, 4, 1))
        gate.open()
        pool.join(pool_limit())
        stats = pool.stats
        told_now = (stats.pending, stats.done, stats.failed, stats.cancelled, stats.callback_errors)
        expect("pending, done, failed, cancelled and callback_errors", told_now, (0, 3, 1, 1, 0))


@ends.clause("a pool raises ForkedError in a forked child, and works on in the parent", "forked, and used it")
def _fork(make: Make) -> None:
    with make(max_workers=1) as pool:
        expect("a task before", pool.submit(abs, -1).result(pool_limit()), 1)

        def child() -> None:
            raises(ForkedError, "submit()", pool.submit, abs, -1)
            raises(ForkedError, "join()", pool.join)

        in_child(child)
        expect("a task afterwards", pool.submit(abs, -2).result(pool_limit()), 2)
