"""Faults of callbacks: their exceptions, waits and lengths."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import Any

from callback_pool.pool_workers import add, fail
from syncprims import CallbackErrors, CallbackExit, Task

from .fault_places import open_pool
from .rows import WORKS, row
from .witness import LIMIT, Witness, check_accounts, finish, raises, still_works, wait_for

KEPT = "kept"


def complain(value: Any) -> None:
    raise LookupError(f"callback got {value!r}")


def leave(value: Any) -> None:
    sys.exit(f"callback got {value!r}")


@row("callback / error_callback raises")
def callback_raises(place: str) -> str:
    """Both kinds of callback raise; join reports both, and the pool goes on."""
    pool = open_pool(place)
    witness = Witness(pool)
    pool.apply_async(add, (1,), callback=complain)
    pool.apply_async(fail, ("bad",), error_callback=complain)
    witness.send(add, 2)
    with raises(CallbackErrors) as caught:
        pool.join(LIMIT)
    assert {str(error) for error in caught.value.exceptions} == {
        "callback got 1",
        "callback got ValueError('bad')",
    }
    assert witness.heard() == [2]
    still_works(witness)
    finish(pool)
    return KEPT


@row("callback raises SystemExit twice")
def callback_exits(place: str) -> str:
    """Neither SystemExit ends a thread that others need; join wraps both."""
    pool = open_pool(place)
    witness = Witness(pool)
    for n in range(2):
        pool.apply_async(add, (n,), callback=leave)
    with raises(CallbackErrors) as caught:
        pool.join(LIMIT)
    assert [type(error) for error in caught.value.exceptions] == [CallbackExit, CallbackExit]
    for _ in range(4):
        still_works(witness)
    finish(pool)
    return KEPT


@row("a chain of 30 submits from callbacks")
def chain(place: str) -> str:
    """Each callback starts the next task, and leaving waits for the last."""
    seen: list[int] = []

    def again(n: int) -> None:
        seen.append(n)
        if n < 30:
            pool.apply_async(add, (n, 1), callback=again)

    with open_pool(place, max_pending=1) as pool:
        pool.apply_async(add, (0, 1), callback=again)
    assert seen == [*range(1, 31)]
    check_accounts(pool)
    return WORKS


@row("callback submits while closing")
def submits_while_closing(place: str) -> str:
    """A task that a callback submits to a closing pool runs, with its callback, before close returns."""
    closing, closed = threading.Event(), threading.Event()
    seen: list[int] = []

    def again(n: int) -> None:
        wait_for(closing)
        while "closing" not in repr(pool):
            assert not closed.is_set()
        pool.apply_async(add, (n, 1), callback=seen.append)

    pool = open_pool(place)
    pool.apply_async(add, (1,), callback=again)
    closing.set()
    pool.close(LIMIT)
    closed.set()
    assert seen == [2]
    check_accounts(pool)
    return "drains"


@row("callback waits for a new task")
def callback_waits(place: str) -> str:
    """A callback submits, and waits for the result, on a pool of one worker."""
    results: list[int] = []
    pool = open_pool(place, workers=1)
    pool.apply_async(add, (1,), callback=lambda n: results.append(pool.submit(add, n, 1).result(LIMIT)))
    finish(pool)
    assert results == [2]
    return WORKS


@row("callback blocks: do other results come meanwhile?")
def callback_blocks(place: str) -> str:
    """While one callback blocks, the results of other tasks are there; the callbacks come after it, in order."""
    release, blocked = threading.Event(), threading.Event()
    seen: list[int] = []

    def block(n: int) -> None:
        blocked.set()
        wait_for(release)
        seen.append(n)

    pool = open_pool(place)
    pool.apply_async(add, (0,), callback=block)
    wait_for(blocked)
    before = monotonic()
    tasks: list[Task[int]] = []
    for n in (1, 2, 3):
        task = pool.apply_async(add, (n,), callback=seen.append)
        assert task.result(LIMIT) == n
        assert not task.settled()
        tasks.append(task)
    print(f"results after {monotonic() - before:.3f} s")
    assert seen == []
    release.set()
    finish(pool)
    assert seen == [0, 1, 2, 3]
    return WORKS
