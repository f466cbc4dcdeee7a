"""An interrupt anywhere leaves no reader, no writer, and no thread in the line of a `TimedRWLock`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from locks.taken import Taken, interrupted_in_a_wait
from syncprims import DeadlockError, LockTimeoutError, TimedLock, TimedRWLock, acquire_all
from syncprims.testing import MODES, Mode, interrupts, patience

pytestmark = pytest.mark.untraceable

each_mode = pytest.mark.parametrize("mode", MODES)
long = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("cold", "storm", "worker")]
each_mode_of_a_wait = pytest.mark.parametrize("mode", ["warm", "cold storm", *long])


class Board:
    """A lock, another one beside it, and the notes of the bodies."""

    def __init__(self) -> None:
        self.lock, self.other = TimedRWLock(), TimedLock()
        self.bodies_without = 0

    def body(self, held: str) -> None:
        self.bodies_without += self.lock.held_by_me() != held

    def broken(self) -> str | None:
        lock = self.lock
        if lock.read_locked() or lock.write_locked() or lock.holders:
            return f"it is still taken: {lock!r}"
        if lock.waiting:
            return "a thread is still in the line"
        if self.other.locked():
            return "the lock beside it is still locked"
        return "a body ran without the lock" if self.bodies_without else None


class TakenBoard(Taken, Board):
    """A thread writes or reads until it is asked to release it."""

    def __init__(self, how: str = "write") -> None:
        super().__init__()
        self.be_taken(self.lock, self.lock.write() if how == "write" else self.lock.read())

    def broken_after_all(self) -> str | None:
        self.let_go()
        return self.broken()


def reading(subject: Board) -> None:
    with subject.lock.read():
        subject.body("read")


def writing(subject: Board) -> None:
    with subject.lock.write(patience()):
        subject.body("write")


def reading_beside(subject: Board) -> None:
    with acquire_all(subject.other, subject.lock.read(), timeout=patience()):
        subject.body("read")


def writing_beside(subject: Board) -> None:
    with acquire_all(subject.lock.write(), subject.other, timeout=patience()):
        subject.body("write")


WAYS = [reading, writing, reading_beside, writing_beside]


def nested(subject: Board) -> None:
    lock = subject.lock
    with lock.write():
        with lock.write(0), lock.read(0):
            subject.body("write")
        subject.body("write")
    with lock.read():
        with lock.read(0):
            subject.body("read")
        try:
            with lock.write():
                raise AssertionError("a reader wrote")
        except DeadlockError:
            subject.body("read")


@each_mode
@pytest.mark.parametrize("scenario", WAYS)
def test_a_free_lock_is_never_left_taken(scenario: Callable[[Board], None], mode: Mode) -> None:
    """Acquiring it either completes or undoes itself, and leaving always completes."""
    interrupts(Board, scenario, Board.broken, mode=mode).check()


@each_mode_of_a_wait
def test_how_often_it_is_held_never_changes(mode: Mode) -> None:
    """Reading and writing again, reading as a writer, and the refusal to write as a reader keep the count right."""
    interrupts(Board, nested, Board.broken, mode=mode).check()


@each_mode_of_a_wait
@pytest.mark.parametrize("scenario", [reading, writing, writing_beside])
def test_a_lock_that_was_waited_for_is_never_left_taken(scenario: Callable[[Board], None], mode: Mode) -> None:
    """An interrupt before, in or after a wait, or on the way out of one, leaves nothing behind."""
    interrupted_in_a_wait(TakenBoard, scenario, TakenBoard.broken, mode).check()


def giving_up(subject: Board) -> None:
    for side in (subject.lock.read(0.001), subject.lock.write(0.001)):
        try:
            with side:
                subject.body("neither")
        except LockTimeoutError:
            pass


@each_mode_of_a_wait
def test_a_wait_that_gives_up_leaves_the_line(mode: Mode) -> None:
    """A wait that times out is withdrawn, even if an interrupt comes while its error is made."""
    interrupts(TakenBoard, giving_up, TakenBoard.broken_after_all, mode=mode).check()


class Queue(TakenBoard):
    """A thread reads; a reader waits behind the writer that is interrupted."""

    def __init__(self) -> None:
        super().__init__("read")

    def a_reader_waits_too(self) -> bool:
        return self.both_wait(self.lock.read(patience()))

    def broken(self) -> str | None:
        return super().broken() if self.next_was_let_in() else "the reader behind was never let in"


@pytest.mark.parametrize("mode", ["warm", *long[:2]])
def test_readers_are_let_in_when_the_writer_before_them_is_interrupted(mode: Mode) -> None:
    """A writer that is interrupted in its wait or at its turn rings the next one."""
    sweep = interrupts(
        Queue, writing, Queue.broken, mode=mode, when_blocked=Queue.a_reader_waits_too, unblock=Queue.let_go
    )
    sweep.check()
