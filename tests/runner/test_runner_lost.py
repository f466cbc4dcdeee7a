"""A step is due whose threads have all ended: nothing is refused, but waiting threads are notified."""

from __future__ import annotations

import logging
import threading
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from functools import partial
from queue import Queue

import pytest

from syncprims import DeadlockError, OrderedRunner, StepTimeoutError, TimedLock
from syncprims._runner import places
from syncprims.diagnostics import find_deadlocks, report, snapshot
from syncprims.testing import Running, assert_blocks, patience

LOST = "Thread 'b-server', the only thread that has come for it, has ended"


class Lines(logging.Handler):
    """The logged lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Queue[str] = Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue[str]]:
    """The logged lines, after a moment in which a thread may come."""
    monkeypatch.setattr(places, "_PATIENCE", 0.05)
    handler = Lines()
    logger = logging.getLogger("syncprims")
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def turn(runner: OrderedRunner, step: str) -> None:
    """Take one turn."""
    with runner.step(step, timeout=patience()):
        pass


def in_thread(do: Callable[[], object], name: str = "b-server") -> None:
    """Do it in a thread, and wait until the thread has ended."""
    thread = threading.Thread(target=do, name=name, daemon=True)
    thread.start()
    thread.join(patience())
    assert not thread.is_alive()


def lost_runner() -> OrderedRunner:
    """Make a runner of a, b, c in which it is the turn of b; the only thread that came for b has ended."""
    runner = OrderedRunner("a", "b", "c", rounds=None, name="etl")
    for step in "abca":
        if step == "b":
            in_thread(lambda: turn(runner, "b"))
        else:
            turn(runner, step)
    return runner


def waiting_for_c(runner: OrderedRunner) -> Running[None]:
    """Have a thread wait for c."""
    return assert_blocks(partial(turn, runner, "c"), until=lambda: runner.waiting == 1)


def test_a_timeout_names_the_thread_that_has_ended() -> None:
    """The error says why the turn does not come."""
    runner = lost_runner()
    with (
        pytest.raises(StepTimeoutError, match=f"it is the turn of 'b', and {LOST}: let another one enter it"),
        runner.step("c", timeout=0),
    ):
        pass
    with pytest.raises(StepTimeoutError, match=LOST):
        runner.wait(timeout=0.01)
    assert f"OrderedRunner 'etl': turn of 'b'; {LOST}" in report()


def test_a_report_names_it_too_and_no_deadlock_is_reported() -> None:
    """Another thread may come, so it is not a deadlock; once one has come, the text is gone."""
    runner = lost_runner()
    waiter = waiting_for_c(runner)
    assert f"turn of 'b'; {LOST}" in report()
    assert [state.lost for state in snapshot() if state.name == "etl"] == [LOST]
    assert find_deadlocks() == ()
    turn(runner, "b")
    waiter.result()
    assert [state.lost for state in snapshot() if state.name == "etl"] == [""]


@pytest.mark.parametrize("first", ["the thread ends", "the others wait"])
def test_those_who_wait_are_warned_once(first: str, logged: Queue[str]) -> None:
    """Either event may come first: the last thread of the step ends, or another thread begins to wait."""
    runner = OrderedRunner("a", "b", "c", rounds=None, name="etl")
    go = threading.Event()
    turns = threading.Event()

    def serve_once() -> None:
        turn(runner, "b")
        turns.set()
        assert go.wait(patience())

    server = threading.Thread(target=serve_once, name="b-server", daemon=True)
    server.start()
    turn(runner, "a")
    turn(runner, "c")
    turn(runner, "a")
    assert turns.wait(patience())
    if first == "the thread ends":
        go.set()
        server.join(patience())
        waiter = waiting_for_c(runner)
    else:
        waiter = waiting_for_c(runner)
        go.set()
    line = logged.get(timeout=patience())
    assert line.startswith("it has been the turn of 'b' in 'etl' for 0.05 s and more, and Thread 'b-server'")
    assert line.endswith("let another thread enter it, or call abort()")
    another = assert_blocks(partial(turn, runner, "a"), until=lambda: runner.waiting == 2)
    assert not waiter.done()
    assert runner._places._teller is None, "it is said once for each turn"
    turn(runner, "b")
    waiter.result()
    another.result()
    assert logged.empty()
    # Whatever a thread does at its end, `threading` must not keep an object for it.
    assert not [each for each in threading.enumerate() if isinstance(each, threading._DummyThread)]


def test_a_thread_that_has_not_ended_may_come(logged: Queue[str]) -> None:
    """A control: the thread lives and does other things, so there is no warning; nor if a new thread comes in time."""
    runner = lost_runner()
    with pytest.raises(StepTimeoutError, match="the only thread that has come for it"), runner.step("c", timeout=0):
        pass
    turn(runner, "b")  # so this thread may come again
    turn(runner, "c")
    turn(runner, "a")
    waiter = waiting_for_c(runner)
    with (
        pytest.raises(StepTimeoutError, match="it is the turn of 'b', which no thread has come for: let one enter it"),
        runner.step("a", timeout=0.2),
    ):
        pass
    turn(runner, "b")
    waiter.result()
    assert logged.empty()


def test_a_thread_for_each_turn_is_no_reason_to_warn(logged: Queue[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has ended when the next one comes, in time; nothing is kept of them except some names."""
    monkeypatch.setattr(places, "_PATIENCE", patience(5.0))
    runner = OrderedRunner("a", "b", rounds=20, name="etl")
    waiter = assert_blocks(runner.wait, until=lambda: runner.waiting == 1)
    for index in range(40):
        in_thread(partial(turn, runner, "ab"[index % 2]), f"turn-{index}")
        if index == 20:
            why = (
                "all 10 threads that have come for it have ended (Thread 'turn-15', Thread 'turn-17', Thread 'turn-19'"
            )
            assert f"turn of 'b'; {why} and 7 before)" in report()
    waiter.result()
    assert logged.empty()
    assert len(runner._places) == 0


def test_a_thread_that_python_did_not_start_is_not_known_to_end() -> None:
    """It can't be known whether it has ended, so there is no warning about its step."""
    runner = OrderedRunner("a", "b", rounds=None)
    over = threading.Event()

    def in_c() -> None:
        turn(runner, "a")
        over.set()

    start_new_thread(in_c, ())
    assert over.wait(patience())
    turn(runner, "b")
    with (
        pytest.raises(StepTimeoutError, match="it is the turn of 'a', which no thread has come for"),
        runner.step("b", timeout=0.05),
    ):
        pass


def test_a_thread_that_ends_within_its_step_keeps_it() -> None:
    """It entered by hand and never left: the step stays its own, and the error says that it has ended."""
    runner = OrderedRunner("a", "b", rounds=None)
    in_thread(lambda: runner.step("a").__enter__())
    with (
        pytest.raises(StepTimeoutError, match=r"held by a thread \(ident \d+\) that ended without releasing it"),
        runner.step("b", timeout=0.05),
    ):
        pass


def test_a_lost_step_makes_no_edge() -> None:
    """A thread that waits for a turn of a lost step holds a lock: a waiter for the lock is in no deadlock."""
    runner, lock = lost_runner(), TimedLock()

    def hold_and_wait() -> None:
        with lock:
            turn(runner, "c")

    waiter = assert_blocks(hold_and_wait, until=lambda: runner.waiting == 1)
    wanting = assert_blocks(lock.acquire, until=lambda: lock.waiting == 1)
    turn(runner, "b")
    try:
        waiter.result()
        assert wanting.result() is True
    except DeadlockError:
        pytest.fail("a thread came for the step, so nothing was stuck")


def test_broken_controls_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a check for living threads the warning would be wrong; without one for ended threads, there is none."""
    runner = lost_runner()
    for step in "bca":
        turn(runner, step)
    assert runner._places.why_nobody("b") == ""
    with monkeypatch.context() as patch:
        patch.setattr(places.Places, "values", lambda _: [])
        assert runner._places.why_nobody("b") == LOST
    with monkeypatch.context() as patch:
        patch.setattr(places.Places, "forget", lambda *_: None)
        assert lost_runner()._places.why_nobody("b") == ""
    assert lost_runner()._places.why_nobody("b") == LOST
