"""The places of threads: whole stacks of all waiting threads, with and without the GIL, and only useful frames."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from threading import Barrier, Event, get_ident
from traceback import FrameSummary
from types import FrameType

import pytest

from locks.actors import LIMIT, Actors, eventually, take_and_let_go, wait_for
from syncprims import CallbackPool, DeadlockError, LockTimeoutError, TimedLock
from syncprims._core import holders
from syncprims._core.stacks import frames_of_threads, with_frames
from syncprims.diagnostics import report, snapshot
from syncprims.testing import MODES, Mode, interrupts

COLLECTS_AT_ANY_TIME = sys.version_info < (3, 12)


def names(stack: tuple[FrameSummary, ...]) -> list[str]:
    """The functions of a stack, outermost first, from the test's own on."""
    return [frame.name for frame in stack if frame.filename == __file__]


@pytest.mark.inverts
def test_a_deadlock_tells_the_whole_stack_of_each_thread() -> None:
    """Both threads appear down to the call that waits, the one that gets the error and the other one."""
    red, blue = TimedLock(name="red"), TimedLock(name="blue")
    barrier = Barrier(2)

    def left() -> None:
        with red:
            barrier.wait(LIMIT)
            take_blue()

    def take_blue() -> None:
        with blue:
            pass

    def right() -> None:
        with blue:
            barrier.wait(LIMIT)
            take_red()

    def take_red() -> None:
        with red:
            pass

    with Actors() as actors:
        errors = [job.error() for job in (actors.start(left, "left"), actors.start(right, "right"))]
    (error,) = [error for error in errors if isinstance(error, DeadlockError)]
    assert sorted(names(stack)[-2:] for stack in error.stacks) == [["left", "take_blue"], ["right", "take_red"]]
    assert all(stack[-1].filename == __file__ for stack in error.stacks)
    assert "in take_blue" in str(error)
    assert "in take_red" in str(error)


def test_a_holder_that_waits_itself_is_shown_where_it_waits() -> None:
    """The error of a timeout has the holder's whole stack, and its text the place in the program."""
    accounts, ledger = TimedLock(name="accounts"), TimedLock(name="ledger")

    def charge() -> None:
        with accounts:
            book()

    def book() -> None:
        with ledger:
            pass

    with Actors() as actors, ledger:
        actors.start(charge, "billing")
        eventually(lambda: ledger.waiting)
        with pytest.raises(LockTimeoutError) as caught:
            accounts.hold(0).__enter__()
    assert caught.value.holder is not None
    assert names(caught.value.holder.stack)[-2:] == ["charge", "book"]
    assert f"which is at test_stacks.py:{book.__code__.co_firstlineno + 1} in book" in str(caught.value)


def test_the_standard_library_in_between_is_no_place() -> None:
    """For a thread that waits for a task, the place is where it asked for the result, not in the standard library."""
    end = Event()

    def ask() -> None:
        task.result(LIMIT)

    with CallbackPool(max_workers=1, name="mill") as pool, Actors() as actors:
        task = pool.submit(wait_for, end)
        actors.start(ask, "guest")
        eventually(lambda: [waiter for state in snapshot() for waiter in state.waiters if waiter.name == "guest"])
        lines = report().splitlines()
        end.set()
    place = next(number for number, line in enumerate(lines) if "Thread 'guest'" in line)
    assert lines[place].endswith("in ask")
    shown = [line.rpartition(" in ")[2] for line in lines[place + 1 :] if line.startswith("      ")]
    assert shown[-1] == "ask"
    assert "_bootstrap" not in shown


@pytest.fixture
def busy_collector() -> Iterator[None]:
    """Collect at each chance, wherever that can be, and call Python code then, like finalizers."""
    before = gc.get_threshold()

    def call(phase: str, info: dict[str, int]) -> None:
        for _ in range(20):
            pass

    gc.callbacks.append(call)
    if COLLECTS_AT_ANY_TIME:
        gc.set_threshold(1)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(call)


@pytest.mark.usefixtures("busy_collector", "restless")
def test_looking_at_threads_that_wake_up_is_safe() -> None:
    """Deep stacks of threads with very short waits are read all the time, and the interpreter survives."""
    lock = TimedLock()
    over = Event()

    def sink(depth: int) -> None:
        if depth:
            sink(depth - 1)
        else:
            take_and_let_go(lock, True, 1e-5)

    def churn() -> None:
        depth = 0
        while not over.is_set():
            depth = (depth * 37 + 3) % 300
            sink(depth)

    with Actors() as actors, lock:
        for _ in range(3):
            actors.start(churn)
        try:
            for _ in range(60 if COLLECTS_AT_ANY_TIME else 300):
                snapshot()
        finally:
            over.set()
    assert gc.isenabled()


def test_the_collector_is_left_as_it_was() -> None:
    """Reading frames only pauses the collector: afterwards it is off if the program had turned it off, else on."""
    gc.disable()
    try:
        report()
        assert not gc.isenabled()
    finally:
        gc.enable()
    report()
    assert gc.isenabled()


@pytest.mark.usefixtures("small_heap")
def test_threads_that_look_at_each_other_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lists the other's frames at the same time. The variables of their callers go away nevertheless."""
    enters, first_has_listed, both_have_listed = Event(), Event(), Event()
    list_frames, name_of_thread = frames_of_threads, holders.thread_name
    kept: list[weakref.ref[object]] = []
    idents: dict[str, int] = {}

    def listed() -> dict[int, FrameType]:
        if get_ident() == idents["first"]:
            wait_for(enters)
            try:
                return list_frames()
            finally:
                first_has_listed.set()
        enters.set()
        wait_for(first_has_listed)
        return list_frames()

    def named(ident: int) -> str:
        if get_ident() == idents["first"]:
            wait_for(both_have_listed)
        else:
            both_have_listed.set()
        return name_of_thread(ident)

    class Page:
        pass

    def look(me: str, other: str) -> None:
        page = Page()
        kept.append(weakref.ref(page))
        idents[me] = get_ident()
        eventually(lambda: other in idents)
        assert holders.holder_of(idents[other]) is not None

    monkeypatch.setattr(holders, "frames_of_threads", listed)
    monkeypatch.setattr(holders, "thread_name", named)
    gc.disable()
    try:
        with Actors() as actors:
            actors.start(partial(look, "first", "second"))
            actors.start(partial(look, "second", "first"))
        assert [each() for each in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("fails", [False, True])
def test_frames_end_with_the_look_at_them(fails: bool) -> None:
    """An error that is kept does not keep the variables of other threads, although its traceback leads to the look."""
    kept: list[weakref.ref[object]] = []
    begun, end = Event(), Event()

    class Page:
        pass

    def read() -> None:
        page = Page()
        kept.append(weakref.ref(page))
        begun.set()
        wait_for(end)

    def look(frames: dict[int, FrameType]) -> int:
        return len(frames) // (0 if fails else 1)

    gc.disable()
    try:
        with Actors() as actors:
            actors.start(read)
            wait_for(begun)
            try:
                assert with_frames(look) >= 2
            except ZeroDivisionError as error:
                found: Exception | None = error
            else:
                found = None
            end.set()
        assert kept[0]() is None
        assert (found is not None) == fails
    finally:
        gc.enable()


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_during_a_look_keeps_no_frames(mode: Mode) -> None:
    """Wherever it comes, no dictionary of frames is left that has any."""

    def keep(seen: list[dict[int, FrameType]]) -> None:
        with_frames(seen.append)

    def left(seen: list[dict[int, FrameType]]) -> str | None:
        return "frames are left" if any(seen) else None

    interrupts(list[dict[int, FrameType]], keep, left, mode=mode).check()
