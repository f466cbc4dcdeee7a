"""Guarantees of semaphores and reader-writer locks beside the kit: hooks, turns, records of holds, arguments."""

from __future__ import annotations

import gc
import weakref
from contextlib import ExitStack
from threading import Condition, Event
from typing import Any

import pytest

from locks.actors import LIMIT, Actors, eventually, wait_for
from syncprims import (
    Holder,
    LockAdapter,
    LockOrderError,
    LockTimeoutError,
    TimedLock,
    TimedRWLock,
    TimedSemaphore,
)
from syncprims.diagnostics import check_lock_order, record, record_sites, report, snapshot


class ToldSemaphore(TimedSemaphore):
    """Notes the calls of its hooks, or fails in one of them."""

    def __init__(self, permits: int = 1) -> None:
        super().__init__(permits)
        self.told: list[Any] = []
        self.fails = False

    def _on_wait(self, holder: Holder | None, /) -> None:
        self.told.append(("wait", None if holder is None else holder.name))

    def _on_acquired(self, waited: float, /) -> None:
        self.told.append(("acquired", waited > 0, self.held_by_me()))
        if self.fails:
            raise LookupError

    def _on_timeout(self, error: LockTimeoutError, /) -> None:
        self.told.append(("timeout", error.lock_name))


class ToldBoard(TimedRWLock):
    """The same for a reader-writer lock."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.fails = False

    def _on_acquired(self, waited: float, /) -> None:
        self.told.append(self.held_by_me())
        if self.fails:
            raise LookupError


def test_hooks_are_told_as_those_of_a_lock() -> None:
    """They are called before a wait with the holder, after it with its length, and after a failure with the error."""
    semaphore, leave = ToldSemaphore(), Event()

    def hold() -> None:
        with semaphore:
            wait_for(leave)

    with Actors() as actors:
        actors.start(hold, "holder")
        eventually(lambda: semaphore.value == 0)
        with pytest.raises(LockTimeoutError):
            semaphore.hold(0.001).__enter__()
        assert semaphore.told == [
            ("acquired", False, True),
            ("wait", "holder"),
            ("timeout", semaphore.name),
        ]
        leave.set()
    assert semaphore.acquire()
    assert semaphore.told[-1] == ("acquired", False, False)


def test_a_hook_that_fails_leaves_nothing_taken() -> None:
    """The acquired hold is released, and only that one if a reader or writer has another."""
    semaphore, board = ToldSemaphore(), ToldBoard()
    semaphore.fails = True
    for enter in (semaphore.__enter__, semaphore.hold(1.0).__enter__, semaphore.acquire):
        with pytest.raises(LookupError):
            enter()
        assert semaphore.value == 1
    with board.write():
        board.fails = True
        for entering in (board.read(), board.write()):
            with pytest.raises(LookupError):
                entering.__enter__()
        assert board.held_by_me() == "write"
        assert not board.read_locked()
    assert board.holders == ()
    assert board.told == ["write"] * 3


def test_a_writer_waits_for_no_more_turns_than_there_are_readers_before_it() -> None:
    """However many readers come again and again, none that came later goes in before it."""
    board, stop = TimedRWLock(), Event()
    entries: list[str] = []

    def read() -> None:
        while not stop.is_set():
            with board.read(LIMIT):
                entries.append("reader")

    def write() -> int:
        with board.write(LIMIT):
            return len(entries)

    with Actors() as actors:
        readers = [actors.start(read) for _ in range(4)]
        eventually(lambda: len(entries) > 50)
        turns = []
        for _ in range(100):
            writer = actors.start(write)
            while writer.thread.is_alive() and not any(each.token < 0 for each in board._waiters()):
                pass
            seen_waiting = len(entries)
            turns.append(writer.result() - seen_waiting)
        stop.set()
        for reader in readers:
            reader.result()
    # Each reader may have gone in before the writer came, and reports it only now.
    assert max(turns) <= 4


def test_a_newcomer_never_overtakes_the_line() -> None:
    """This holds for a `with` and a try, even if a permit is free that the first in the line has not taken yet."""
    semaphore = TimedSemaphore(1)
    order: list[int] = []

    def take(number: int) -> None:
        with semaphore:
            order.append(number)

    with Actors() as actors, semaphore:
        for number in range(5):
            actors.start(lambda number=number: take(number))  # type: ignore[misc]  # bound now
            eventually(lambda number=number: semaphore.waiting == number + 1)  # type: ignore[misc]  # bound now
        assert not semaphore.acquire(False)
    assert order == list(range(5))


def test_holds_are_recorded_and_shown_and_their_order_is_checked() -> None:
    """Spans have their thread and name, reports all holders, and an inversion is reported for either side."""
    semaphore, board = TimedSemaphore(2, name="permits"), TimedRWLock(name="board")
    lock = TimedLock(name="lock")
    with record() as recording, record_sites():
        with semaphore, board.read():
            assert "permits" in report()
            assert "held by Thread 'MainThread'" in report()
        with board.write():
            assert next(state.holder for state in snapshot() if state.name == "board") is not None
    assert sorted(span.name for span in recording.spans if span.kind == "hold") == ["board", "board", "permits"]
    with check_lock_order():
        with board.read(), lock:
            pass
        with pytest.raises(LockOrderError), lock, board.write():
            pass
        with semaphore, board.write():
            pass
        with pytest.raises(LockOrderError), board.read(), semaphore:
            pass
    assert (board.holders, semaphore.value, lock.locked()) == ((), 2, False)


def test_a_report_shows_all_who_hold_it() -> None:
    """The first holder is in the lock's line, and each other one on a line below."""
    board, leave = TimedRWLock(name="board"), Event()

    def read() -> None:
        with board.read():
            wait_for(leave)

    with Actors() as actors:
        for name in ("one", "two"):
            actors.start(read, name)
            eventually(lambda name=name: name in [holder.name for holder in board.holders])  # type: ignore[misc]  # bound now
        text = report()
        leave.set()
    assert "TimedRWLock 'board': held by Thread 'one'" in text
    assert "and held by Thread 'two'" in text


@pytest.mark.parametrize("permits", [0, -1])
def test_a_semaphore_has_at_least_one_permit(permits: int) -> None:
    """None or less is an error at once."""
    with pytest.raises(ValueError, match="permits must be 1 or more"):
        TimedSemaphore(permits)


@pytest.mark.parametrize("permits", [1.5, "2", None, True])
def test_permits_are_an_integer(permits: Any) -> None:
    """Any other type is a TypeError."""
    with pytest.raises(TypeError, match="permits must be an integer"):
        TimedSemaphore(permits)


def test_an_adapter_and_a_condition_take_a_semaphore_as_a_lock() -> None:
    """Its acquire and release are like those of threading's."""
    adapter = LockAdapter(TimedSemaphore(1))
    with adapter, pytest.raises(LockTimeoutError):
        adapter.hold(0.001).__enter__()
    condition = Condition(LockAdapter(TimedSemaphore(1)))  # type: ignore[arg-type]  # typeshed names the classes
    with condition:
        assert not condition.wait(0.001)


def test_both_go_when_nobody_has_them() -> None:
    """A semaphore goes at once; a reader-writer lock with the next collection."""
    semaphore, board = TimedSemaphore(1), TimedRWLock()
    with semaphore, board.read(), ExitStack() as stack:
        stack.enter_context(board.read())
    gone = weakref.ref(semaphore), weakref.ref(board)
    del semaphore, board
    gc.collect()
    assert [each() for each in gone] == [None, None]
