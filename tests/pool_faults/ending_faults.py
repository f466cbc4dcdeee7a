"""Ending with work left: abort with a full queue, and exceptions that leave the block."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import CancelledError
from pathlib import Path

from callback_pool.pool_workers import add
from polling import until, until_exists
from syncprims import PoolClosedError, PoolTimeoutError

from .fault_places import open_pool
from .rows import WORKS, row
from .task_faults import hang_here
from .witness import LIMIT, Witness, check_accounts, raises


class Busy:
    """A pool whose workers all run a task that ends on release, with six tasks behind."""

    def __init__(self, place: str) -> None:
        self.folder = tempfile.mkdtemp()
        self.release = os.path.join(self.folder, "release")
        self.pool = open_pool(place, workers=1)
        self.witness = Witness(self.pool)
        mark = os.path.join(self.folder, "mark")
        self.running = self.witness.send(hang_here, self.release, mark)
        self.queued = [self.witness.send(add, n) for n in range(6)]
        until_exists(mark)
        until(self.running.running)  # pebble reports this later than the file exists

    def let_go(self) -> None:
        Path(self.release).touch()


def check_all_told(busy: Busy, left: list[object]) -> None:
    """Each queued task was cancelled and reported, or the executor had fetched it and abort returned it."""
    assert busy.running in left
    for task, heard in zip(busy.queued, busy.witness.told[1:], strict=True):
        if task in left:
            assert heard == []
        else:
            assert isinstance(heard[0], CancelledError)
    with raises(PoolClosedError):
        busy.pool.submit(add, 1)
    busy.let_go()
    told = busy.witness.heard()
    assert told[0] == busy.release
    check_accounts(busy.pool)


@row("abort with six tasks queued: told?")
def abort_with_queue(place: str) -> str:
    """Abort does not wait for running tasks, and every callback is called."""
    busy = Busy(place)
    check_all_told(busy, list(busy.pool.abort()))
    return "told"


@row("exception leaves the block with six tasks queued")
def exception_in_block(place: str) -> str:
    """The exception propagates unchanged, the queue is cancelled and reported, and running tasks are not waited for."""
    busy = Busy(place)
    with raises(LookupError, match="own"), busy.pool:
        raise LookupError("its own")
    left: list[object] = [task for task in busy.witness.tasks if not task.done()]
    check_all_told(busy, left)
    return "told"


@row("close with a limit, while a task runs on")
def close_with_limit(place: str) -> str:
    """When its time is up close reports what is pending, and a second close goes on from there."""
    busy = Busy(place)
    with raises(PoolTimeoutError) as caught:
        busy.pool.close(0.05)
    assert caught.value.pending == 7
    with raises(PoolClosedError):
        busy.pool.submit(add, 1)
    busy.let_go()
    busy.pool.close(LIMIT)
    assert busy.witness.so_far() == [busy.release, *range(6)]
    check_accounts(busy.pool)
    return WORKS
