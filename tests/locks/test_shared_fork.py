"""Shared locks in a forked child: the holds of vanished threads are gone, and the forking thread keeps its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event

import pytest

from locks.actors import LIMIT, Actors, eventually, wait_for
from locks.test_lock_fork import in_child
from syncprims import QueuedLock, TimedRWLock, TimedSemaphore

pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork"),
    # This is the subject of the test.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def stay(entering: AbstractContextManager[object], leave: Event) -> Callable[[], None]:
    """Return a function that enters, and stays until it is asked to leave."""

    def run() -> None:
        with entering:
            wait_for(leave)

    return run


def test_permits_of_vanished_threads_are_free() -> None:
    """This holds for with and acquire(); the forking thread keeps its permits, and no wait of others is left."""
    permits, leave = TimedSemaphore(4), Event()

    def acquire_and_stay() -> None:
        assert permits.acquire()
        wait_for(leave)
        permits.release()

    def check() -> None:
        assert (permits.value, permits.waiting, len(permits.holders)) == (2, 0, 1)
        permits.release()
        assert permits.value == 3
        with permits, permits, permits:
            assert not permits.acquire(False)
        assert permits.value == 3

    with Actors() as actors:
        actors.start(stay(permits, leave))
        actors.start(acquire_and_stay)
        eventually(lambda: permits.value == 2)
        with permits:
            assert permits.acquire()
            waiter = actors.start(stay(permits, leave))
            eventually(lambda: permits.waiting == 1)
            in_child(check)
            permits.release()
        leave.set()
        waiter.result()
    assert permits.value == 4


@pytest.mark.parametrize("how", ["read", "write"])
def test_what_vanished_threads_read_or_wrote_is_free(how: str) -> None:
    """It can be read and written in the child, and is held in the parent as before."""
    board, leave = TimedRWLock(), Event()

    def check() -> None:
        assert (board.holders, board.waiting) == ((), 0)
        with board.write(LIMIT / 4):
            assert board.held_by_me() == "write"
        with board.read(LIMIT / 4):
            assert board.held_by_me() == "read"

    with Actors() as actors:
        actors.start(stay(getattr(board, how)(), leave))
        eventually(lambda: board.holders)
        waiter = actors.start(stay(board.write(), leave))
        eventually(lambda: board.waiting == 1)
        in_child(check)
        leave.set()
        waiter.result()
    assert board.holders == ()


class Rooms(QueuedLock):
    """Lets in threads of one kind together."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return all(each == kind for each in kinds)


def test_a_lock_of_ones_own_that_vanished_threads_held_is_free() -> None:
    """This holds for any kind of hold; and no wait of others is left."""
    rooms, leave = Rooms(), Event()

    def check() -> None:
        assert (rooms.holders, rooms.waiting) == ((), 0)
        with rooms.of(2, LIMIT / 4):
            assert rooms.held_by_me()
        with rooms.of(1, LIMIT / 4):
            assert rooms.held_by_me()

    with Actors() as actors:
        actors.start(stay(rooms.of(1), leave))
        eventually(lambda: rooms.holders)
        waiter = actors.start(stay(rooms.of(2), leave))
        eventually(lambda: rooms.waiting == 1)
        in_child(check)
        leave.set()
        waiter.result()
    assert not rooms.locked()


def test_ones_own_hold_stays_ones_own() -> None:
    """A writer writes on in the child, and leaves the block that it entered before the fork."""
    board, permits, rooms = TimedRWLock(), TimedSemaphore(1), Rooms()
    pid = 0
    with board.write(), permits, board.read(), rooms.of(3):

        def check() -> None:
            assert board.held_by_me() == "write"
            assert permits.held_by_me()
            assert rooms.held_by_me()

        in_child(check)
        pid = os.fork()
    if pid == 0:
        os._exit(0 if board.holders == () and permits.value == 1 and not rooms.locked() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (board.holders, permits.value, rooms.locked()) == ((), 1, False)
