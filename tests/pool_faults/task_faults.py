"""Faults of the task itself: its exceptions, and a task that never ends."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from callback_pool.pool_workers import add, announce_then_hang, fail, leave, wait_for_file
from polling import ended, until_exists
from syncprims import TaskTimeoutError

from .fault_places import OWN_PROCESSES, PACKED, open_pool
from .rows import ERROR, row
from .witness import LIMIT, Witness, finish, raises, still_works


@row("task raises")
def task_raises(place: str) -> str:
    """The error has its type, its text and, from another process, the remote traceback."""
    pool = open_pool(place)
    witness = Witness(pool)
    witness.send(fail, "plainly")
    (error,) = witness.heard()
    assert (type(error), error.args) == (ValueError, ("plainly",))
    if place in PACKED:
        assert "pool_workers" in str(error.__cause__)
    still_works(witness)
    finish(pool)
    return ERROR


@row("task raises SystemExit")
def task_exits(place: str) -> str:
    """Each of four exits is the error of its task, and no worker is gone after them."""
    pool = open_pool(place)
    witness = Witness(pool)
    for status in range(4):
        witness.send(leave, status)
    assert [(type(error), error.code) for error in witness.heard()] == [(SystemExit, n) for n in range(4)]
    for _ in range(4):
        still_works(witness)
    finish(pool)
    return ERROR


def hang_here(release: str, mark: str) -> str:
    """Report the process, and hang until the test ends it: for workers that can't be killed."""
    Path(mark).touch()
    return wait_for_file(release)


@row("endless task with a timeout")
def endless_task(place: str) -> str:
    """That task gets the error, once; the tasks behind it run; close and exit don't hang."""
    folder = tempfile.mkdtemp()
    mark, release = os.path.join(folder, "mark"), os.path.join(folder, "release")
    pool = open_pool(place, workers=2)
    witness = Witness(pool)
    still_works(witness)  # its workers have started, so that their start is not part of the measured time
    before = time.monotonic()
    if place == "ThreadPoolExecutor":
        witness.send(hang_here, release, mark, timeout=0.5)
    else:
        witness.send(announce_then_hang, mark, timeout=0.5)
    behind = [witness.send(add, n, timeout=LIMIT) for n in range(6)]
    assert [task.result(LIMIT) for task in behind] == [*range(6)]
    _, error, *rest = witness.heard()
    print(f"told after {time.monotonic() - before:.2f} s")
    assert isinstance(error, TaskTimeoutError), error
    assert error.timeout == 0.5
    assert rest == [*range(6)]
    assert pool.stats.abandoned == (0 if place in (*OWN_PROCESSES, "pebble") else 1), pool.stats
    stuck = Path(mark).read_text() if place in (*OWN_PROCESSES, "pebble", "ProcessPoolExecutor", "loky") else ""
    finish(pool)
    if place == "ThreadPoolExecutor":
        Path(release).touch()  # its own exit waits for its threads
    if place in (*OWN_PROCESSES, "pebble"):
        assert ended(int(stuck))
        return "told, killed"
    if stuck:
        os.kill(int(stuck), signal.SIGKILL)  # the worker belongs to the executor that was passed in
    return "told"


@row("a late task beside innocents")
def late_beside_innocents(place: str) -> str:
    """Tasks that run at the same time in other workers have their results as usual."""
    folder = tempfile.mkdtemp()
    release = os.path.join(folder, "release")
    pool = open_pool(place, workers=3)
    witness = Witness(pool)
    marks = [os.path.join(folder, str(n)) for n in range(3)]
    innocents = [witness.send(hang_here, release, mark) for mark in marks[:2]]
    for mark in marks[:2]:
        until_exists(mark)
    late = witness.send(hang_here, os.path.join(folder, "never"), marks[2], timeout=1.0)
    assert isinstance(late.exception(LIMIT), TaskTimeoutError)
    late.wait_settled(LIMIT)
    assert not any(task.done() for task in innocents)
    Path(release).touch()
    *told, error = witness.heard()
    assert not any(isinstance(heard, BaseException) for heard in told), told
    assert isinstance(error, TaskTimeoutError)
    still_works(witness)
    Path(folder, "never").touch()  # for threads, and for workers of other executors that go on
    finish(pool)
    return "told, killed" if place in (*OWN_PROCESSES, "pebble") else "told"


@row("a task of a group fails")
def group_fails(place: str) -> str:
    """Its queued sibling never begins, the running one is killed or notified, and all errors are raised once."""
    folder = tempfile.mkdtemp()
    go, mark = os.path.join(folder, "go"), os.path.join(folder, "mark")
    pool = open_pool(place, workers=1)
    with raises(ExceptionGroup) as raised, pool.group() as group:
        first = group.submit(hang_here, go, mark)
        fails = group.submit(fail, "no")
        queued = [group.submit(add, n) for n in range(12)]
        until_exists(mark)
        Path(go).touch()
    assert [type(error) for error in raised.value.exceptions] == [ValueError], raised.value
    assert isinstance(fails.exception(0), ValueError)
    assert first.done()
    assert queued[-1].cancelled()
    assert group.cancelled.is_set()
    assert pool.submit(len, "abc").result(LIMIT) == 3
    finish(pool)  # the error was raised, and is not raised again
    return ERROR


@row("an innocent task behind a slow one, both with a timeout")
def innocent_task(place: str) -> str:
    """A timeout counts from the task's own start: a longer wait behind a slow task is not late."""
    folder = tempfile.mkdtemp()
    release, begun = os.path.join(folder, "release"), os.path.join(folder, "begun")
    pool = open_pool(place, workers=1)
    witness = Witness(pool)
    still_works(witness)
    slow = witness.send(hang_here, release, begun)
    innocents = [witness.send(add, n, timeout=0.2) for n in range(3)]
    until_exists(begun)
    # No event could show that something did not happen: the time that would have been too long has to pass.
    never = threading.Event()
    assert not never.wait(0.5)
    assert not slow.done()
    assert [task.done() for task in innocents] == [False] * 3
    Path(release).touch()
    assert witness.heard()[2:] == [0, 1, 2]
    finish(pool)
    return "never late"
