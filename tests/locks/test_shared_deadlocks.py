"""The wait-for graph with semaphores and reader-writer locks: all of some threads, any of some, or an unknown one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Barrier, Event

import pytest

from locks.actors import LIMIT, Actors, Job, eventually, wait_for
from syncprims import DeadlockError, LockTimeoutError, TimedLock, TimedRWLock, TimedSemaphore, acquire_all
from syncprims._core import deadlocks
from syncprims._core.stacks import FRAMES_ARE_SHARED
from syncprims.diagnostics import find_deadlocks

pytestmark = pytest.mark.inverts  # the threads deadlock at random

Entering = AbstractContextManager[object]


def holding_then(first: list[Entering], meet: Barrier, then: Entering) -> Callable[[], None]:
    """Return a function that enters all of the first, meets the others, and enters the last."""

    def run() -> None:
        with ExitStack() as stack:
            for each in first:
                stack.enter_context(each)
            meet.wait(LIMIT)
            with then:
                pass

    return run


def outcomes(jobs: list[Job[None]]) -> list[BaseException | None]:
    return [job.error() for job in jobs]


def victims(errors: list[BaseException | None]) -> list[DeadlockError]:
    found = [error for error in errors if isinstance(error, DeadlockError)]
    assert [error for error in errors if error is not None] == found
    return found


@pytest.mark.parametrize("frames_are_shared", [True, False])
@pytest.mark.parametrize("size", [2, 3])
def test_a_ring_of_semaphores_has_exactly_one_victim(
    size: int, frames_are_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread has the permit that the previous one waits for. Without the GIL, frames can't be walked."""
    monkeypatch.setattr(deadlocks, "FRAMES_ARE_SHARED", frames_are_shared and FRAMES_ARE_SHARED)
    ring = [TimedSemaphore(1, name=f"{number}") for number in range(size)]
    meet = Barrier(size)
    with Actors() as actors:
        jobs = [
            actors.start(holding_then([one], meet, other), f"thread {one.name}")
            for one, other in zip(ring, [*ring[1:], ring[0]], strict=True)
        ]
        (victim,) = victims(outcomes(jobs))
    assert sorted(wait.lock_name for wait in victim.cycle) == sorted(one.name for one in ring)
    assert [one.value for one in ring] == [1] * size


def test_every_holder_of_a_permit_has_to_be_stuck() -> None:
    """Two threads have permits and want a lock that a third has, which wants a permit: all three are stuck."""
    permits, lock = TimedSemaphore(2, name="permits"), TimedLock(name="lock")
    meet = Barrier(3)
    with Actors() as actors:
        jobs = [actors.start(holding_then([permits], meet, lock)) for _ in range(2)]
        jobs.append(actors.start(holding_then([lock], meet, permits)))
        (victim,) = victims(outcomes(jobs))
    assert {wait.lock_name for wait in victim.cycle} <= {"permits", "lock"}
    assert permits.value == 2


def test_one_holder_of_a_permit_that_can_go_on_is_enough() -> None:
    """The same, with one of the two at work: no deadlock, and when it is done the others succeed."""
    permits, lock = TimedSemaphore(2, name="permits"), TimedLock(name="lock")
    meet, done = Barrier(2), Event()

    def work() -> None:
        with permits:
            wait_for(done)

    with Actors() as actors:
        actors.start(work)
        eventually(lambda: permits.value == 1)
        stuck = actors.start(holding_then([permits], meet, lock))
        third = actors.start(holding_then([lock], meet, permits))
        eventually(lambda: permits.waiting == 1 and lock.waiting == 1)
        assert find_deadlocks() == ()
        done.set()
        assert outcomes([stuck, third]) == [None, None]


def test_a_permit_of_acquire_is_anybodys_to_give_back() -> None:
    """A thread that waits for its own permit of acquire() is in no deadlock: another thread may give it back."""
    permits = TimedSemaphore(1)

    def wait_for_oneself() -> None:
        assert permits.acquire()
        with permits:
            assert permits.held_by_me()

    with Actors() as actors:
        waiter = actors.start(wait_for_oneself)
        eventually(lambda: permits.waiting == 1)
        assert find_deadlocks() == ()
        permits.release()
        waiter.result()
    assert permits.value == 1


def test_all_permits_of_ones_own_are_a_deadlock_at_once() -> None:
    """This holds for with, hold and acquire(); if a permit is left, there is no deadlock."""
    permits = TimedSemaphore(3, name="permits")
    with permits, permits.hold(1.0):
        with permits:
            for enter in (permits.__enter__, permits.hold(LIMIT).__enter__, permits.acquire):
                with pytest.raises(DeadlockError, match="waits for 'permits'") as caught:
                    enter()
                assert [wait.lock_name for wait in caught.value.cycle] == ["permits"]
            assert permits.acquire(timeout=0.01) is False
        assert permits.value == 1
    assert permits.value == 3


@pytest.mark.parametrize("first", ["read", "write"])
def test_a_ring_of_rw_locks_has_exactly_one_victim(first: str) -> None:
    """Each thread reads or writes the lock that the previous one wants to write."""
    ring = [TimedRWLock(name=f"{number}") for number in range(3)]
    meet = Barrier(3)
    with Actors() as actors:
        jobs = [
            actors.start(holding_then([getattr(one, first)()], meet, other.write()))
            for one, other in zip(ring, [*ring[1:], ring[0]], strict=True)
        ]
        (victim,) = victims(outcomes(jobs))
    assert sorted(wait.lock_name for wait in victim.cycle) == ["0", "1", "2"]
    assert not any(one.holders for one in ring)


def test_a_writer_waits_for_all_readers() -> None:
    """One of two readers wants a lock that the writer holds: that is enough for a deadlock, whatever the other does."""
    board, lock = TimedRWLock(name="board"), TimedLock(name="lock")
    meet, done = Barrier(2), Event()

    def read() -> None:
        with board.read():
            wait_for(done)

    with Actors() as actors:
        actors.start(read)
        eventually(board.read_locked)
        jobs = [
            actors.start(holding_then([board.read()], meet, lock)),
            actors.start(holding_then([lock], meet, board.write())),
        ]
        for job in jobs:
            if not isinstance(job.error(), DeadlockError):
                continue
            done.set()
        assert done.is_set(), "no thread gave way"
        (victim,) = victims(outcomes(jobs))
    assert {wait.lock_name for wait in victim.cycle} == {"board", "lock"}


def test_a_reader_waits_for_the_writer_that_waits_before_it() -> None:
    """Two threads read two boards, two want to write them, and each reader wants to read the other board."""
    one, other = TimedRWLock(name="one"), TimedRWLock(name="other")
    begin = Event()

    def read_both(mine: TimedRWLock, theirs: TimedRWLock) -> None:
        with mine.read():
            wait_for(begin)
            with theirs.read():
                pass

    def write(board: TimedRWLock) -> None:
        with board.write():
            pass

    with Actors() as actors:
        readers = [actors.start(lambda: read_both(one, other)), actors.start(lambda: read_both(other, one))]
        eventually(lambda: one.read_locked() and other.read_locked())
        writers = [actors.start(lambda: write(one)), actors.start(lambda: write(other))]
        eventually(lambda: one.waiting == 1 and other.waiting == 1)
        begin.set()
        (victim,) = victims(outcomes([*readers, *writers]))
    assert {wait.lock_name for wait in victim.cycle} == {"one", "other"}


def test_a_writer_with_a_limit_holds_nobody_up_for_good() -> None:
    """The same, with writers that give up: no deadlock, and the readers succeed after that."""
    one, other = TimedRWLock(name="one"), TimedRWLock(name="other")
    begin = Event()

    def read_both(mine: TimedRWLock, theirs: TimedRWLock) -> None:
        with mine.read():
            wait_for(begin)
            with theirs.read():
                pass

    def gives_up(board: TimedRWLock) -> bool:
        try:
            with board.write(0.3):
                return False
        except LockTimeoutError:
            return True

    with Actors() as actors:
        readers = [actors.start(lambda: read_both(one, other)), actors.start(lambda: read_both(other, one))]
        eventually(lambda: one.read_locked() and other.read_locked())
        writers = [actors.start(lambda: gives_up(one)), actors.start(lambda: gives_up(other))]
        eventually(
            lambda: (one.waiting == 1 and other.waiting == 1) or not any(writer.thread.is_alive() for writer in writers)
        )
        begin.set()
        assert outcomes(readers) == [None, None]
        assert any(writer.result() for writer in writers)  # the other one may come in then


def test_a_reader_that_wants_to_write_is_refused_with_and_without_a_limit() -> None:
    """The error comes at once, with advice; the thread goes on as a reader."""
    board = TimedRWLock(name="board")
    with board.read():
        for entering in (board.write(), board.write(None), board.write(LIMIT), board.write(0)):
            with pytest.raises(DeadlockError, match=r"leave read\(\) before you enter write\(\)"):
                entering.__enter__()
        assert board.held_by_me() == "read"
    with board.write():
        assert board.held_by_me() == "write"


def test_acquire_all_takes_them_in_one_order() -> None:
    """Threads that list a lock, a semaphore and a board in any order succeed, whatever the others do."""
    board, permits, lock = TimedRWLock(), TimedSemaphore(1), TimedLock()
    begin = Barrier(3)

    def take(*parts: Callable[[], object]) -> None:
        begin.wait(LIMIT)
        for _ in range(50):
            with acquire_all(*(part() for part in parts)):  # type: ignore[arg-type]  # of several kinds
                pass

    with Actors() as actors:
        jobs = [
            actors.start(lambda: take(board.read, lambda: permits, lambda: lock)),
            actors.start(lambda: take(lambda: lock, board.write, lambda: permits)),
            actors.start(lambda: take(lambda: permits, lambda: lock, board.read)),
        ]
        assert outcomes(jobs) == [None] * 3
    assert (board.holders, permits.value, lock.locked()) == ((), 1, False)
