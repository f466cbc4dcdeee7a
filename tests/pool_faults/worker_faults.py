"""Faults of workers: killed in a task, killed while idle, unable to start, or forked at a bad moment."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path
from typing import NoReturn

from callback_pool.pool_workers import add, announce_then_hang, die, fail_to_start, kill_self
from polling import ended

from . import work
from .places import OWN_PROCESSES, PROCESSES, open_pool
from .rows import ERROR, WORKS, row
from .witness import LIMIT, Witness, check_accounts, still_works, wait_for

# An executor that was handed in is not the pool's to replace: once it is broken, its owner has to make another one.

OF_WHAT_RAN = "E of what ran"  # in the other worker too
EACH_TOLD = "B, each told"
BREAK = ("ProcessPoolExecutor", "loky")


@row("SIGKILL, os._exit or segfault in the task", PROCESSES)
def worker_dies(place: str) -> str:
    """The task that did it has a clear error, every other one its result or an error, and nothing hangs."""
    outcome = OF_WHAT_RAN if place in OWN_PROCESSES else ERROR
    for fatal in (kill_self, die, work.segfault):
        pool = open_pool(place)
        witness = Witness(pool)
        if fatal is kill_self:
            still_works(witness)  # the others come to workers that have run nothing yet
        first = len(witness.tasks)
        culprit = witness.send(fatal)
        for n in range(20):
            witness.send_unless_broken(add, n)
        told = witness.heard()[first + 1 :]
        hit = [heard for heard in told if isinstance(heard, BaseException)]
        blamed = culprit.exception(0)
        assert isinstance(blamed, Exception if place == "pebble" else BrokenExecutor)
        assert all(isinstance(heard, BrokenExecutor) for heard in hit), told
        if place in OWN_PROCESSES:
            # A broken executor takes the other worker down too, with what runs there and what it has just done. What
            # had not begun is not hit.
            assert all("died" in str(heard) and "while add ran" in str(heard) for heard in hit), told
        # pebble replaces the worker, but for once in a while, when it sees one dead before having read what it began.
        if place in BREAK or (place == "pebble" and isinstance(blamed, BrokenExecutor)):
            outcome = EACH_TOLD
        else:
            assert len(told) == 20
            assert place in OWN_PROCESSES or not hit, told
            still_works(witness)
        pool.close(LIMIT)
        check_accounts(pool)
    return outcome


# Not pebble, which hangs so by itself now and then: its idle workers wait with a lock in hand that they share, and one
# that is killed from outside takes it along.
@row("SIGKILL of idle workers", tuple(place for place in PROCESSES if place != "pebble"))
def idle_workers_die(place: str) -> str:
    """No task hangs after it; the pool's own processes are replaced and lose none."""
    pool = open_pool(place)
    witness = Witness(pool)
    # Both have to be there to be killed: what runs in one that is left goes down with the executor.
    folder = tempfile.mkdtemp()
    meeting = [pool.submit(work.meet, folder, 2) for _ in range(2)]
    pids = {task.result(LIMIT) for task in meeting}
    assert len(pids) == 2
    for victim in pids:
        os.kill(victim, signal.SIGKILL)
    for victim in pids:
        assert ended(victim)
    for n in range(10):
        witness.send_unless_broken(add, n)
    told = witness.heard()
    if place in OWN_PROCESSES:
        assert told == [*range(10)], told
    assert all(isinstance(heard, (int, BrokenExecutor)) for heard in told), told
    pool.close(LIMIT)
    check_accounts(pool)
    return WORKS if place in OWN_PROCESSES else EACH_TOLD


@row("worker dies while cancelled tasks are fetched ahead", OWN_PROCESSES)
def worker_dies_beside_cancelled(place: str) -> str:
    """The cancelled are told, the one that ran fails, the others run, and no process lives on."""
    folder = tempfile.mkdtemp()
    marks = [os.path.join(folder, str(n)) for n in range(2)]
    pool = open_pool(place)
    witness = Witness(pool)
    for mark in marks:
        witness.send(announce_then_hang, mark)
    behind = [witness.send(add, n) for n in range(8)]
    while not all(map(os.path.exists, marks)):
        assert not pool.stats.failed
    # The executor has fetched a few beyond recall; they had not begun all the same.
    cancelled = [task.cancel() for task in behind[::-1]][::-1]
    assert any(cancelled)
    assert not all(cancelled)
    pids = [int(Path(mark).read_text()) for mark in marks]
    os.kill(pids[0], signal.SIGKILL)
    told = witness.heard()
    assert all(isinstance(heard, BrokenExecutor) for heard in told[:2]), told
    for n, (heard, was_cancelled) in enumerate(zip(told[2:], cancelled, strict=True)):
        assert isinstance(heard, CancelledError) if was_cancelled else heard == n
    pool.close(LIMIT)
    check_accounts(pool)
    assert all(map(ended, pids))
    return OF_WHAT_RAN


def refuse() -> NoReturn:
    """What an initializer may do."""
    fail_to_start()


@row("initializer raises")
def initializer_raises(place: str) -> str:
    """Every task has an error, or submit says so; nothing respawns for ever."""
    pool = open_pool(place, initializer=refuse)
    witness = Witness(pool)
    for n in range(6):
        witness.send_unless_broken(add, n)
    assert all(isinstance(heard, BrokenExecutor) for heard in witness.heard()), witness.told
    pool.close(LIMIT)
    check_accounts(pool)
    return ERROR


@row("workers start while a thread holds a lock", PROCESSES)
def lock_held_at_start(place: str) -> str:
    """Workers are no copies of this process, so a lock that was held when they started is free in them."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with work.lock:
            held.set()
            release.wait(2 * LIMIT)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    wait_for(held)
    with open_pool(place) as pool:
        assert pool.submit(work.take_lock).result(LIMIT)
    release.set()
    thread.join(LIMIT)
    assert not thread.is_alive()
    return WORKS
