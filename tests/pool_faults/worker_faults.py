"""Faults of workers: killed in a task, killed while idle, unable to start, or forked at a bad moment."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from concurrent.futures import BrokenExecutor, CancelledError
from functools import partial
from pathlib import Path
from typing import NoReturn

from callback_pool.pool_workers import add, die, fail_to_start, kill_self
from polling import ended, until_exists

from . import work
from .fault_places import OWN, OWN_PROCESSES, PROCESSES, open_pool
from .rows import ERROR, WORKS, row
from .witness import LIMIT, Witness, check_accounts, still_works, wait_for

# The pool can't replace an executor that was passed in: once it is broken, its owner has to make another one.

EACH_TOLD = "B, each told"
BREAK = ("ProcessPoolExecutor", "loky")


@row("SIGKILL, os._exit or segfault in the task", PROCESSES)
def worker_dies(place: str) -> str:
    """Its task has a clear error, every other one its result or an error, and nothing hangs."""
    outcome = ERROR
    for fatal in (kill_self, die, work.segfault):
        pool = open_pool(place)
        witness = Witness(pool)
        if fatal is kill_self:
            still_works(witness)  # the other tasks come to workers that have run nothing yet
        first = len(witness.tasks)
        culprit = witness.send(fatal)
        for n in range(20):
            witness.send_unless_broken(add, n)
        told = witness.heard()[first + 1 :]
        hit = [heard for heard in told if isinstance(heard, BaseException)]
        blamed = culprit.exception(0)
        assert isinstance(blamed, Exception if place == "pebble" else BrokenExecutor)
        assert all(isinstance(heard, BrokenExecutor) for heard in hit), told
        # pebble replaces the worker, except sometimes, when it sees a dead one before it has read the call that this
        # one began.
        if place in BREAK or (place == "pebble" and isinstance(blamed, BrokenExecutor)):
            outcome = EACH_TOLD
        else:
            assert len(told) == 20
            assert not hit, told
            still_works(witness)
        pool.close(LIMIT)
        check_accounts(pool)
    return outcome


# Not pebble, which sometimes hangs then: its idle workers wait while they hold a shared lock, and a worker that is
# killed from outside takes the lock along.
@row("SIGKILL of idle workers", tuple(place for place in PROCESSES if place != "pebble"))
def idle_workers_die(place: str) -> str:
    """No later task hangs; the pool's own processes are replaced and lose none."""
    pool = open_pool(place)
    witness = Witness(pool)
    # Both have to exist to be killed: a task in a remaining one is lost with the executor.
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


@row("a worker killed while seven others work", OWN_PROCESSES)
def one_of_eight_dies(place: str) -> str:
    """The task that it ran fails, no other one notices, and the queued tasks run or were cancelled."""
    folder = tempfile.mkdtemp()
    release = os.path.join(folder, "release")
    marks = [os.path.join(folder, str(n)) for n in range(8)]
    pool = open_pool(place, workers=8)
    witness = Witness(pool)
    for mark in marks:
        witness.send(work.say_who_and_wait, release, mark)
    for mark in marks:
        until_exists(mark)
    behind = [witness.send(add, n) for n in range(8)]
    assert all(task.cancel() for task in behind[::2])
    pids = [int(Path(mark).read_text()) for mark in marks]
    os.kill(pids[3], signal.SIGKILL)
    assert isinstance(witness.tasks[3].exception(LIMIT), BrokenExecutor)
    behind[-1].wait_settled(LIMIT)  # in a new worker
    assert not any(task.done() for n, task in enumerate(witness.tasks[:8]) if n != 3)
    Path(release).touch()
    told = witness.heard()
    assert isinstance(told.pop(3), BrokenExecutor)
    assert told[:7] == [pid for n, pid in enumerate(pids) if n != 3]
    for n, heard in enumerate(told[7:]):
        assert heard == n if n % 2 else isinstance(heard, CancelledError)
    pool.close(LIMIT)
    check_accounts(pool)
    assert all(map(ended, pids))
    return ERROR


@row("max_tasks_per_child", OWN_PROCESSES)
def workers_are_renewed(place: str) -> str:
    """Each process runs so many tasks, none is lost, and neither a full queue nor the close hangs."""
    pool = open_pool(place, workers=2, max_tasks_per_child=3)
    witness = Witness(pool)
    for _ in range(20):
        witness.send(os.getpid)
    pool.close(LIMIT)
    pids = witness.heard()
    assert max(map(pids.count, pids)) <= 3, pids
    assert len(set(pids)) >= 7
    assert all(map(ended, set(pids)))
    check_accounts(pool)
    return WORKS


@row("an initializer that hangs", OWN)
def initializer_hangs(place: str) -> str:
    """Tasks that other workers can run do run, and the end of the pool waits for its grace and no longer."""
    folder = tempfile.mkdtemp()
    initializer = partial(work.hang_in_the_second, folder)
    pool = open_pool(place, workers=2, initializer=initializer, grace=1.0)
    witness = Witness(pool)
    for n in range(6):
        witness.send(add, n)
    assert witness.heard() == [*range(6)]
    pool.close(LIMIT)
    check_accounts(pool)
    Path(folder, "go").touch()
    return WORKS


def refuse() -> NoReturn:
    """An initializer that raises."""
    fail_to_start()


@row("initializer raises")
def initializer_raises(place: str) -> str:
    """Every task has an error, or submit raises it; nothing respawns forever."""
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
    """Workers are not copies of this process, so a lock that was held when they started is free in them."""
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
