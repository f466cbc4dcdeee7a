"""What type checkers make of the public API. They read this file; it is never run.

``assert_type`` holds what is inferred. A ``type: ignore[code]`` marks a line that must be an error: mypy reports one
that is not needed, under ``warn_unused_ignores``, and pyright one under ``reportUnnecessaryTypeIgnoreComment``.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal, assert_type

from syncprims import (
    AtomicCounter,
    CallbackErrors,
    CallbackPool,
    Cancellation,
    CounterBoundsError,
    CounterTimeoutError,
    DeadlockError,
    Guarded,
    Holder,
    KeyedLock,
    LazyResults,
    LockAdapter,
    LockTimeoutError,
    OrderedRunner,
    PoolStats,
    PoolTimeoutError,
    QueuedLock,
    SingleFlight,
    StepTimeoutError,
    SyncError,
    SyncTimeoutError,
    Task,
    TaskGroup,
    TimedLock,
    TimedRLock,
    TimedRWLock,
    TimedSemaphore,
    Turn,
    Wait,
    acquire_all,
    once,
)
from syncprims.adapters import LockLike, Lost, RedisLock
from syncprims.diagnostics import Recording, Span, find_deadlocks, record, report
from syncprims.testing import MODES, ConformanceReport, InterruptReport, Mode, Running, Threads, check_lock, interrupts
from syncprims.watch import Durations, LockUse, Watching, WatchRecording, install


class Hooks(TimedSemaphore):
    """A subclass, which its own `with` gives."""


def shared_locks(hooks: Hooks, board: TimedRWLock) -> None:
    """Both give themselves, and acquire_all accepts their sides."""
    with hooks as given, hooks.hold(None) as held:
        assert_type(given, Hooks)
        assert_type(held, Hooks)
    assert_type(hooks.acquire(timeout=1.0), bool)
    hooks.release(n=2)
    assert_type(hooks.value, int)
    assert_type(hooks.holders, tuple[Holder, ...])
    with board.read() as read, board.read(0.5), board.read(timeout=None):
        assert_type(read, TimedRWLock)
    kept: AbstractContextManager[TimedRWLock] = board.write()
    with kept as written:
        assert_type(written, TimedRWLock)
    assert_type(board.held_by_me(), Literal["read", "write"] | None)
    with acquire_all(board.read(), hooks, TimedLock(), timeout=1.0):
        pass
    acquire_all(board)  # type: ignore[arg-type]
    hooks.release("2")  # type: ignore[arg-type]
    TimedSemaphore()  # type: ignore[call-arg]


class Urgent(QueuedLock):
    """A lock with its own rule."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds


def locks_of_ones_own(urgent: Urgent) -> None:
    """A ``with`` gives the lock, of its own class, for any kind."""
    with urgent as held, urgent.hold(1.0) as held_in_time, urgent.of(3) as held_by_kind, urgent.of(3, timeout=None):
        assert_type(held, Urgent)
        assert_type(held_in_time, Urgent)
        assert_type(held_by_kind, Urgent)
    assert_type(urgent.acquire(timeout=1.0), bool)
    with acquire_all(urgent, urgent.of(3), timeout=1.0):
        pass
    check_lock(Urgent)
    urgent.of("3")  # type: ignore[arg-type]


def leases(lock: RedisLock) -> None:
    """A lease's token is an integer, and its loss is asked like an event."""
    with lock.hold(1.0) as held:
        assert_type(held, RedisLock)
        assert_type(held.token, int)
        assert_type(held.lost, Lost)
        assert_type(held.lost.is_set(), bool)
        assert_type(held.lost.wait(timeout=1.0), bool)


def locks(lock: TimedLock, relock: TimedRLock) -> None:
    """A ``with`` gives the lock itself, of its own class; times are floats or None."""
    with lock as held:
        assert_type(held, TimedLock)
    with relock.hold(0.5) as held_again:
        assert_type(held_again, TimedRLock)
    assert_type(lock.acquire(), bool)
    assert_type(lock.acquire(timeout=1), bool)
    assert_type(lock.locked(), bool)
    assert_type(lock.name, str)
    assert_type(lock.timeout, float | None)
    assert_type(lock.holder, Holder | None)
    assert_type(lock.waiting, int)
    assert_type(acquire_all(lock, relock, timeout=1.0), AbstractContextManager[None])
    with ExitStack() as stack:
        assert_type(stack.enter_context(lock.hold(None)), TimedLock)
    threading.Condition(TimedRLock())  # type: ignore[arg-type]  # it works; typeshed allows only the standard locks

    TimedLock("2 s")  # type: ignore[arg-type]
    TimedLock(2.0, "name")  # type: ignore[call-arg]
    lock.timeout = 3.0  # type: ignore[misc]
    acquire_all(threading.Lock())  # type: ignore[arg-type]


def locks_of_keys(keyed: KeyedLock, key: object) -> None:
    """Any object that can be hashed is a key; each has a lock."""
    assert_type(keyed["a"], TimedLock)
    assert_type(keyed[1, "a"].acquire(timeout=1.0), bool)
    with keyed[key] as held:
        assert_type(held, TimedLock)
    assert_type(len(keyed), int)
    assert_type(keyed.timeout, float | None)
    assert_type(acquire_all(keyed["a"], keyed["b"]), AbstractContextManager[None])

    keyed[[]]  # type: ignore[index]
    KeyedLock(2.0, "name")  # type: ignore[call-arg]


def guarded_values(stock: Guarded[dict[str, int]], total: Guarded[int]) -> None:
    """A ``with`` gives the value; `update` takes it and gives another of its type."""
    with stock as shelves:
        assert_type(shelves, dict[str, int])
    with total.hold(0.5) as value:
        assert_type(value, int)
    assert_type(total.update(lambda n: n + 1), int)
    assert_type(total.value, int)
    assert_type(Guarded("a"), Guarded[str])
    assert_type(total.holder, Holder | None)
    acquire_all(stock, total)

    total.update(str)  # type: ignore[arg-type]
    total.value = "1"  # type: ignore[assignment]


@once
def settings() -> dict[str, str]:
    """Without arguments."""
    return {}


@once(timeout=2.0)
def port() -> int:
    """With a timeout."""
    return 80


def taking_one(path: str) -> str:
    """Take an argument."""
    return path


def calls_that_are_shared(flight: SingleFlight[str, bytes]) -> None:
    """The result is that of the function."""
    assert_type(settings(), dict[str, str])
    assert_type(port(), int)
    assert_type(once(lambda: 1.5)(), float)
    assert_type(flight.do("a", lambda: b""), bytes)

    once(taking_one)  # type: ignore[arg-type]
    settings("a")  # type: ignore[call-arg]
    flight.do(1, lambda: b"")  # type: ignore[arg-type]
    flight.do("a", lambda: "")  # type: ignore[arg-type,return-value]
    flight.do("a", taking_one)  # type: ignore[arg-type]


class Ward(TimedLock):
    """A subclass with its own argument."""

    def __init__(self, ward: str) -> None:
        super().__init__(timeout=2.0, name=f"ward {ward}")
        self.ward = ward

    def _on_wait(self, holder: Holder | None) -> None:
        assert_type(holder, Holder | None)

    def _on_acquired(self, waited: float) -> None:
        assert_type(waited, float)

    def _on_timeout(self, error: LockTimeoutError) -> None:
        assert_type(error.holder, Holder | None)


class Renamed(TimedRLock):
    """Hooks are called by position, so that a subclass may rename their arguments."""

    def _on_wait(self, who: Holder | None) -> None: ...
    def _on_acquired(self, _: float) -> None: ...
    def _on_timeout(self, late: LockTimeoutError, *more: object) -> None: ...


def subclassed(ward: Ward) -> None:
    """``with`` and ``hold`` give the subclass."""
    with ward as held:
        assert_type(held.ward, str)
    with ward.hold(1) as held:
        assert_type(held, Ward)


def adapted() -> None:
    """Any object with acquire(timeout=) and release() can be wrapped."""
    theirs: LockLike = threading.Lock()
    with LockAdapter(theirs, timeout=1.0) as held:
        assert_type(held, LockAdapter)
    LockAdapter(threading.RLock())
    LockAdapter(threading.Semaphore())
    LockAdapter(TimedLock())
    LockAdapter(threading.Event())  # type: ignore[arg-type]


def ordered(runner: OrderedRunner) -> None:
    """A decorated function keeps its parameters and its result; run() returns what the bodies do."""

    @runner.step("load")
    def load(path: str, *, limit: int = 1) -> bytes:
        return path.encode()[:limit]

    assert_type(load("x", limit=2), bytes)
    load(1)  # type: ignore[arg-type]
    load("x", most=2)  # type: ignore[call-arg]

    with runner.step("store", timeout=None) as turn:
        assert_type(turn, Turn)
        assert_type((turn.step, turn.index, turn.round), tuple[str, int, int])

    def measure(turn: Turn) -> int:
        return turn.index

    assert_type(runner.run({"load": measure, "store": measure}), list[int])
    assert_type(runner.run({"load": measure}, executor=ProcessPoolExecutor()), list[int])
    assert_type(runner.serve("load", measure), int)
    assert_type(runner.state, Literal["open", "finished", "broken"])
    assert_type(runner.current, str | None)
    OrderedRunner("a", 2)  # type: ignore[arg-type]
    runner.run({"load": load})  # type: ignore[dict-item]


class Computed(OrderedRunner):
    """The hooks of a runner."""

    def _next(self, done: Turn | None) -> str | None:
        return None if done is None else done.step

    def _on_error(self, turn: Turn, exc: Exception) -> bool:
        return False


class RenamedRunner(OrderedRunner):
    """Here, too."""

    def _next(self, last: Turn | None) -> str | None:
        return None

    def _on_error(self, where: Turn, error: Exception) -> bool:
        return True


class RenamedCounter(AtomicCounter):
    """Here, too."""

    def _on_change(self, before: int, after: int) -> None: ...


class RenamedPool(CallbackPool):
    """Here, too."""

    def _on_settled(self, done: Task[Any]) -> None: ...


def counted(counter: AtomicCounter) -> None:
    """Integers in, integers out."""
    assert_type(counter.increment(), int)
    assert_type(counter.get_and_add(2), int)
    assert_type(counter.compare_and_set(1, 2), bool)
    assert_type(counter.update(lambda value: value * 2), int)
    assert_type(counter.wait_for(lambda value: value > 3, timeout=1.0), int)
    assert_type(counter.set(3), None)
    assert_type(int(counter), int)
    assert_type(f"{counter}", str)
    counter.increment(1.5)  # type: ignore[arg-type]
    counter += 1  # type: ignore[operator, assignment]
    AtomicCounter(0, 5)  # type: ignore[call-arg]


def area(width: int, height: float = 1.0) -> float:
    """A function to submit."""
    return width * height


async def pooled(pool: CallbackPool) -> None:
    """A task has the type of the function's result, however it was started."""
    task = pool.submit(area, 2, height=3.0)
    assert_type(task, Task[float])
    assert_type(task.result(), float)
    assert_type(task.get(1.0), float)
    assert_type(await task, float)
    assert_type(await asyncio.wrap_future(task), float)
    pool.submit(area, "2")  # type: ignore[arg-type]
    pool.submit(area, depth=2)  # type: ignore[call-arg]

    areas: list[float] = []
    names: list[bytes] = []
    rows: list[list[float]] = []
    assert_type(pool.apply_async(area, (2,), {"height": 1.0}, areas.append), Task[float])
    assert_type(pool.apply_async(area, (2,), callback=areas.append, timeout=1.0), Task[float])
    pool.apply_async(area, (2,), callback=names.append)  # type: ignore[misc]

    with pool.group(timeout=1.0) as group:
        assert_type(group, TaskGroup)
        assert_type(group.submit(area, 2, height=3.0), Task[float])
        assert_type(group.apply_async(area, (2,), callback=areas.append, timeout=1.0), Task[float])
        assert_type(group.map(area, [1, 2]), Iterator[float])
        assert_type(group.cancelled, Cancellation)
        assert_type(group.cancelled.wait(0.1), bool)
        assert_type(group.cancelled.raise_if_set(), None)
        group.submit(area, "2")  # type: ignore[arg-type]
        group.apply_async(area, (2,), callback=names.append)  # type: ignore[misc]

    assert_type(pool.apply(area, (2,), {"height": 1.0}), float)
    assert_type(pool.map_async(area, [1, 2], 1, rows.append), Task[list[float]])
    assert_type(pool.starmap(area, [(1, 2.0)]), list[float])
    assert_type(pool.starmap_async(area, [(1, 2.0)], callback=rows.append), Task[list[float]])
    assert_type(pool.imap(area, [1, 2]), LazyResults[float])
    assert_type(pool.imap_unordered(area, [1, 2]).next(1.0), float)
    assert_type(pool.map(area, [1, 2]), Iterator[float])
    assert_type(pool.map_unordered(area, [1, 2], [1.0, 2.0]), Iterator[float])
    assert_type(pool.abort(), list[Task[Any]])
    assert_type(task.kill(), bool)
    assert_type(pool.stats, PoolStats)
    assert_type(pool.stats.pending, int)
    executor: Executor = pool
    future: Future[float] = task
    del executor, future
    with CallbackPool("process", max_workers=2, mp_context="spawn", max_tasks_per_child=5) as inner:
        assert_type(inner, CallbackPool)
    CallbackPool("process", mp_context=multiprocessing.get_context("fork"))
    CallbackPool("process", mp_context="thread")  # type: ignore[arg-type]
    CallbackPool("fork")  # type: ignore[arg-type]


def failed() -> None:
    """The facts of errors have types; every error is a SyncError, and the builtin of its kind."""
    try:
        pass
    except LockTimeoutError as error:
        assert_type(error.lock_name, str)
        assert_type(error.holder, Holder | None)
        assert_type(error.waited, float)
        timeout: SyncTimeoutError = error
        builtin: TimeoutError = error
        del timeout, builtin
    except DeadlockError as error:
        assert_type(error.cycle, tuple[Wait, ...])
        runtime: RuntimeError = error
        del runtime
    except StepTimeoutError as error:
        assert_type(error.step, str | None)
    except CounterBoundsError as error:
        value: ValueError = error
        del value
        assert_type(error.minimum, int | None)
    except CounterTimeoutError as error:
        assert_type(error.value, int)
    except PoolTimeoutError as error:
        assert_type(error.pending, int)
    except CallbackErrors as error:
        assert_type(error.exceptions, tuple[Exception | ExceptionGroup[Exception], ...])
        kind: SyncError = error
        del kind


def looked_at() -> None:
    """Diagnostics."""
    with record() as recording:
        assert_type(recording, Recording)
    assert_type(recording.spans, list[Span])
    assert_type(recording.table(), str)
    assert_type(report(), str)
    assert_type(find_deadlocks(), tuple[tuple[Wait, ...], ...])


def tested() -> None:
    """The kit keeps parameters and results too."""
    with Threads() as threads:
        assert_type(threads.start(area, 2, height=1.0), Running[float])
        threads.start(area, "2")  # type: ignore[arg-type]
    assert_type(threads.start(area, 2).result(), float)
    assert_type(check_lock(TimedLock), ConformanceReport)
    assert_type(
        interrupts(TimedLock, lambda lock: assert_type(lock, TimedLock).locked(), lambda lock: None), InterruptReport
    )
    assert_type(MODES, tuple[Mode, ...])
    for mode in MODES:
        interrupts(TimedLock, TimedLock.locked, lambda lock: None, mode=mode)
    interrupts(TimedLock, TimedLock.locked, lambda lock: None, mode="cold storm")
    interrupts(TimedLock, TimedLock.locked, lambda lock: None, mode="storm cold")  # type: ignore[arg-type]


def recorded_programs(path: Path) -> None:
    """A path, true or false; and the recording may be missing."""
    watching = install(record=path, metrics=9464)
    install(record="trace.json", metrics=True)
    install(record=None)  # type: ignore[arg-type]
    assert_type(watching, Watching)
    assert_type(watching.recording, WatchRecording | None)
    if watching.recording is not None:
        assert_type(watching.recording.contention(), list[LockUse])
        assert_type(watching.recording.contention()[0].wait, Durations)
        assert_type(watching.recording.contention_table(), str)
        assert_type(watching.recording.spans, list[Span])
