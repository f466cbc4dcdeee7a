"""Other costs: importing the library, the memory of its objects, and finding a deadlock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any, Self

from syncprims import AtomicCounter, DeadlockError, OrderedRunner, TimedLock

from .measuring import OURS, STDLIB, Case, Group, Work, package
from .together import LIMIT

# -- importing ---------------------------------------------------------------------------------------------------------


def _importing(statement: str, needs: str = "") -> Callable[[ExitStack], Work]:
    code = f"from time import perf_counter; started = perf_counter(); {statement}; print(perf_counter() - started)"

    def seconds() -> float:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users' programs compile once, too
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, check=True, timeout=LIMIT, env=environment, capture_output=True, text=True)
        return float(run.stdout)

    def work(operations: int) -> float:
        """Only the import, as the new interpreter times it: the interpreter's start and end are not counted."""
        return sum(seconds() for _ in range(operations))

    def open_(_: ExitStack) -> Work:
        if needs:
            package(needs)
        return work

    return open_


# -- memory ------------------------------------------------------------------------------------------------------------


def _bytes(make: Callable[[], object]) -> Callable[[ExitStack], Work]:
    def work(operations: int) -> float:
        make()
        tracemalloc.start()
        try:
            made = [None] * operations
            before, _ = tracemalloc.get_traced_memory()
            made = [make() for _ in made]  # type: ignore[misc]
            after, _ = tracemalloc.get_traced_memory()
            return float(after - before)
        finally:
            tracemalloc.stop()

    return lambda _: work


# -- deadlocks ---------------------------------------------------------------------------------------------------------


def _closing_a_cycle(length: int, others: int) -> Callable[[ExitStack], Work]:
    """Measure how soon a thread learns that its wait would close a cycle of so many, beside so many other waits."""

    def open_(stack: ExitStack) -> Work:
        locks = [TimedLock() for _ in range(length)]
        aside = TimedLock()
        waits = stack.enter_context(_Waits())
        waits.hold(locks[0])
        waits.hold(aside)
        following = locks[0]
        for mine in reversed(locks[1:]):  # so that each finds the lock that it waits for held
            waits.start(mine, following)
            following = mine
        for _ in range(others):
            waits.start(None, aside)
        waits.until_all_wait([*locks, aside])
        return lambda operations: _refused(following, operations)

    return open_


def _refused(lock: TimedLock, operations: int) -> float:
    started = perf_counter()
    for _ in range(operations):
        try:
            lock.acquire()
        except DeadlockError:
            continue
        raise AssertionError("there is no deadlock")
    return perf_counter() - started


class _Waits:
    """Threads that each hold a lock, or none, and wait for another; at the end their locks are released."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.held: list[TimedLock] = []

    def hold(self, lock: TimedLock) -> None:
        lock.acquire()
        self.held.append(lock)

    def start(self, mine: TimedLock | None, following: TimedLock) -> None:
        has_it = threading.Event()

        def run() -> None:
            if mine is not None:
                mine.acquire()
            has_it.set()
            with following:
                pass
            if mine is not None:
                mine.release()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        has_it.wait(LIMIT)
        self.threads.append(thread)

    def until_all_wait(self, locks: list[TimedLock]) -> None:
        limit = perf_counter() + LIMIT
        while sum(lock.waiting for lock in locks) < len(self.threads):
            if perf_counter() > limit:
                raise TimeoutError("the threads do not come to wait")
            threading.Event().wait(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for lock in self.held:
            lock.release()
        for thread in self.threads:
            thread.join(LIMIT)


def _deadlock(length: int, others: int, goal: float | None = None) -> Case:
    name = f"cycle of {length}" + (f", {others:,} others wait" if others else "")
    return Case(name, OURS, _closing_a_cycle(length, others), goal)


def _peer_import(name: str) -> Case:
    return Case(f"import {name}", name, _importing(f"import {name}", name))


def _memory(name: str, maker: str, make: Callable[[], Any]) -> Case:
    return Case(name, maker, _bytes(make))


GROUPS = (
    Group(
        "import",
        "Importing",
        (
            Case("import concurrent.futures.thread", STDLIB, _importing("import concurrent.futures.thread")),
            Case("import syncprims", OURS, _importing("import syncprims"), 1.5),
            Case("… and a CallbackPool", OURS, _importing("from syncprims import CallbackPool")),
            Case("import multiprocessing.pool", STDLIB, _importing("import multiprocessing.pool")),
            *map(_peer_import, ("aiologic", "pebble", "loky", "joblib", "mpire")),
        ),
        operations=1,
    ),
    Group(
        "memory",
        "Memory of one object",
        (
            _memory("threading.Lock", STDLIB, threading.Lock),
            _memory("threading.RLock", STDLIB, threading.RLock),
            _memory("TimedLock", OURS, TimedLock),
            _memory("AtomicCounter", OURS, AtomicCounter),
            _memory("OrderedRunner of two steps", OURS, lambda: OrderedRunner("a", "b")),
            _memory("threading.Condition", STDLIB, threading.Condition),
            _memory("threading.Semaphore", STDLIB, threading.Semaphore),
        ),
        operations=500,
        unit="B",
    ),
    Group(
        "deadlock",
        "From a wait that completes a cycle to its error",
        (
            _deadlock(10, 0),
            _deadlock(100, 0, 12.0),
            _deadlock(10, 1000),
            _deadlock(100, 1000, 12.0),
        ),
        operations=2,
    ),
)
