"""A failing step, and abort(), stop() and reset(), reach every waiting thread, whenever it comes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from threading import Barrier, Event

import pytest

from syncprims._locks.timed_lock import TimedLock
from syncprims._runner.ordered_runner import OrderedRunner, Turn
from syncprims.errors import (
    BrokenSequenceError,
    DeadlockError,
    SequenceFinishedError,
    SyncError,
)
from syncprims.testing import Running, Threads, assert_blocks, patience


class Lenient(OrderedRunner):
    """A runner that lets ValueErrors pass, and records the calls of its hook."""

    def __init__(self, *steps: str, rounds: int | None = 1) -> None:
        self.asked: list[tuple[Turn, Exception]] = []
        super().__init__(*steps, rounds=rounds, timeout=patience())

    def _on_error(self, turn: Turn, exc: Exception) -> bool:
        self.asked.append((turn, exc))
        return isinstance(exc, ValueError)


def waited_for_by(runner: OrderedRunner, count: int) -> bool:
    return runner.waiting == count


def waiters(runner: OrderedRunner, step: str, count: int) -> list[Running[Turn]]:
    """Let so many threads wait for the step."""
    waiting = []
    for number in range(runner.waiting + 1, runner.waiting + count + 1):
        waiting.append(assert_blocks(runner.step(step).__enter__, until=partial(waited_for_by, runner, number)))
    return waiting


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_a_failing_step_breaks_the_sequence(failure: BaseException) -> None:
    """Its own thread gets the original; waiting threads and later ones get it as a cause."""
    runner = OrderedRunner("a", "b", "c", name="order")
    waiting: list[Running[Turn]] = []
    with pytest.raises(type(failure)) as caught, runner.step("a"):  # noqa: PT012  others wait meanwhile
        waiting = waiters(runner, "b", 3) + waiters(runner, "c", 2)
        raise failure
    assert caught.value is failure
    for running in waiting:
        error = running.exception()
        assert isinstance(error, BrokenSequenceError)
        assert (error.step, error.__cause__) == ("a", failure)
    with pytest.raises(BrokenSequenceError, match=r"'order' was broken in the turn of 'a' by .*reset\(\)") as later:
        runner.step("b").__enter__()
    assert later.value.__cause__ is failure
    with pytest.raises(BrokenSequenceError):
        runner.wait()
    with pytest.raises(BrokenSequenceError):
        runner.serve("c", print)
    assert (runner.state, runner.current, runner.rounds_completed) == ("broken", None, 0)


def test_on_error_lets_a_failure_pass() -> None:
    """If `_on_error` says so the next step goes on, and the failing thread gets its error nevertheless."""
    runner = Lenient("a", "b")
    failure = ValueError("bad")
    with pytest.raises(ValueError, match="bad"), runner.step("a") as turn:
        raise failure
    assert runner.asked == [(turn, failure)]
    assert (runner.state, runner.current) == ("open", "b")


@pytest.mark.parametrize("failure", [KeyError("bad"), KeyboardInterrupt(), SystemExit()], ids=repr)
def test_on_error_is_asked_about_exceptions_only(failure: BaseException) -> None:
    """An error that it does not let pass breaks the sequence; one that is not an Exception does so without a call."""
    runner = Lenient("a")
    with pytest.raises(type(failure)), runner.step("a"):
        raise failure
    assert runner.state == "broken"
    assert [exc for _, exc in runner.asked] == ([failure] if isinstance(failure, Exception) else [])


def test_serve_goes_on_after_what_passes_and_raises_it_at_the_end() -> None:
    """All turns are served; then the first failure is raised, with the others as its notes."""
    runner = Lenient("a", rounds=4)
    served: list[int] = []

    def fail_at_odd(turn: Turn) -> None:
        served.append(turn.index)
        if turn.index % 2:
            raise ValueError(f"bad {turn.index}")

    with pytest.raises(ValueError, match="bad 1") as caught:
        runner.serve("a", fail_at_odd)
    assert served == [0, 1, 2, 3]
    assert caught.value.__notes__ == ["then also failed: ValueError: bad 3"]
    assert runner.state == "finished"


def test_serve_raises_what_breaks_the_sequence_at_once() -> None:
    """A failure that does not pass ends the serving; errors of another sequence are not confused with its own."""
    over = OrderedRunner("x")
    over.stop()
    for runner in (OrderedRunner("a", rounds=3), Lenient("a", rounds=3)):
        with pytest.raises(SequenceFinishedError, match=over.name):
            runner.serve("a", lambda turn: over.step("x").__enter__())
        assert runner.state == "broken"


@pytest.mark.parametrize("hook", ["_next", "_on_error"])
def test_a_hook_that_raises_breaks_the_sequence(hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread gets the hook's error, and all others have it as a cause."""

    def fail(self: OrderedRunner, *args: object) -> str:
        if args == (None,):
            return "a"
        raise LookupError("hook")

    monkeypatch.setattr(OrderedRunner, hook, fail)
    runner = OrderedRunner("a", "b")
    waiting: list[Running[Turn]] = []
    with pytest.raises(LookupError, match="hook") as caught, runner.step("a"):  # noqa: PT012  others wait meanwhile
        waiting = waiters(runner, "b", 2)
        if hook == "_on_error":
            raise ValueError("body")
    assert [getattr(running.exception(), "__cause__", None) for running in waiting] == [caught.value] * 2


def test_abort_tells_everyone_and_lets_the_step_in_progress_end() -> None:
    """Waiting threads get the cause; the step in progress ends normally and releases no next step."""
    runner = OrderedRunner("a", "b", name="order")
    cause = OSError("disk full")
    with runner.step("a"):
        waiting = waiters(runner, "b", 2)
        end = assert_blocks(runner.wait, until=lambda: runner.waiting == 3)
        runner.abort(cause)
        errors = [running.exception() for running in (*waiting, end)]
    for error in errors:
        assert isinstance(error, BrokenSequenceError)
        assert error.__cause__ is cause
        assert str(error).startswith("'order' was aborted in the turn of 'a' by OSError: disk full")
    assert runner.state == "broken"
    runner.abort(ValueError("too late"))
    runner.stop()
    with pytest.raises(BrokenSequenceError) as caught:
        runner.step("a").__enter__()
    assert caught.value.__cause__ is cause


def test_abort_needs_no_cause_and_no_start() -> None:
    """A sequence may be aborted before any thread has come."""
    runner = OrderedRunner("a")
    runner.abort()
    with pytest.raises(BrokenSequenceError, match="aborted before its first turn with no cause given") as caught:
        runner.step("a").__enter__()
    assert (caught.value.__cause__, caught.value.step) == (None, None)


def test_abort_does_nothing_to_a_finished_sequence() -> None:
    """A sequence that is over stays as it ended."""
    runner = OrderedRunner("a")
    runner.serve("a", print)
    runner.abort()
    assert runner.state == "finished"


def test_stop_finishes_after_the_turn_in_progress() -> None:
    """The step in progress ends, no other begins, and waiting threads are notified that it has finished."""
    runner = OrderedRunner("a", "b", rounds=None)
    with runner.step("a"):
        waiting = waiters(runner, "b", 2)
        end = assert_blocks(runner.wait, until=lambda: runner.waiting == 3)
        runner.stop()
        assert (runner.state, runner.current) == ("open", "a")
    assert [type(running.exception()) for running in waiting] == [SequenceFinishedError] * 2
    assert end.result() is None
    assert runner.state == "finished"


@pytest.mark.parametrize("started", [True, False])
def test_stop_finishes_now_if_nobody_is_in_a_step(started: bool) -> None:
    """Between two turns, or before the first, it is over at once."""
    runner = OrderedRunner("a", "b")
    if started:
        with runner.step("a"):
            pass
    waiting = waiters(runner, "a" if started else "b", 2)
    runner.stop()
    assert runner.state == "finished"
    assert [type(running.exception()) for running in waiting] == [SequenceFinishedError] * 2


def test_reset_starts_afresh() -> None:
    """Waiting threads of the old sequence get the error; a step in progress ends without effect on the new one."""
    runner = OrderedRunner("a", "b", rounds=2)
    with runner.step("a"):
        waiting = waiters(runner, "b", 2)
        runner.reset()
        assert (runner.state, runner.current, runner.rounds_completed) == ("open", "a", 0)
        for running in waiting:
            error = running.exception()
            assert isinstance(error, BrokenSequenceError)
            assert "was reset" in str(error)
        assert Threads().start(lambda: runner.step("a").__enter__()).result() == Turn("a", 0, 0)
        assert runner.current == "a"
    assert (runner.state, runner.current) == ("open", "a")


def test_a_failure_in_a_step_of_the_old_sequence_does_no_harm() -> None:
    """After reset() only the old step's own thread gets its exception."""
    runner = OrderedRunner("a")
    with pytest.raises(ValueError, match="old"), runner.step("a"):  # noqa: PT012  it resets inside
        runner.reset()
        raise ValueError("old")
    assert runner.serve("a", print) == 1


@pytest.mark.parametrize("end", ["abort", "stop", "finish", "fail"])
def test_reset_makes_any_state_open(end: str) -> None:
    """However the sequence ended, it can begin again."""
    runner = Lenient("a", rounds=2)
    if end == "fail":
        with pytest.raises(KeyError), runner.step("a"):
            raise KeyError
    elif end == "finish":
        runner.serve("a", print)
    else:
        getattr(runner, end)()
    assert runner.state != "open"
    runner.reset()
    assert runner.run({"a": lambda turn: turn.index}) == [0, 1]


@pytest.mark.parametrize("seed", range(30))
def test_ending_races_with_arrivals(seed: int) -> None:
    """Whatever ends the sequence, at any moment, no thread keeps waiting and all get the same error."""
    chance = random.Random(seed)
    runner = OrderedRunner("a", "b", "c", rounds=None, timeout=patience())
    enders = [runner.abort, runner.stop]
    chance.shuffle(enders)
    enough = chance.randrange(1, 60)
    enders = enders[: chance.randrange(1, 3)]
    start, reached = Barrier(7 + len(enders)), Event()

    def arrive(name: str) -> str:
        start.wait(patience())
        try:
            while True:
                with runner.step(name) as turn:
                    if turn.index == enough:
                        reached.set()
        except SyncError as error:
            return type(error).__name__

    def watch() -> str:
        start.wait(patience())
        try:
            runner.wait(timeout=patience())
        except SyncError as error:
            return type(error).__name__
        return "SequenceFinishedError"

    def finish(end: Callable[[], None]) -> None:
        start.wait(patience())
        assert reached.wait(patience())
        end()

    with Threads() as threads:
        told = [threads.start(arrive, name) for name in "aabbcc"] + [threads.start(watch)]
        for end in enders:
            threads.start(finish, end)
    outcomes = {running.result() for running in told}
    assert outcomes == {{"finished": "SequenceFinishedError", "broken": "BrokenSequenceError"}[runner.state]}


@pytest.mark.parametrize("seed", range(10))
def test_reset_races_with_arrivals_and_resets(seed: int) -> None:
    """Resets at any moment, several at once, leave no thread in a sequence that has been replaced."""
    runner = OrderedRunner("a", "b", rounds=None, timeout=patience())
    start, done = Barrier(6), Event()
    chance = random.Random(seed)
    turns = [chance.randrange(1, 20) for _ in range(2)]
    told: list[str] = []

    def arrive(name: str) -> None:
        start.wait(patience())
        while not done.is_set():
            try:
                with runner.step(name):
                    pass
            except BrokenSequenceError as error:
                told.append(str(error))
            except SequenceFinishedError:
                return

    def reset(count: int) -> None:
        start.wait(patience())
        for number in range(count):
            try:
                runner.wait(rounds=number % 3)
            except BrokenSequenceError:
                pass
            runner.reset()

    with Threads() as threads:
        for name in "aabb":
            threads.start(arrive, name)
        for running in [threads.start(reset, count) for count in turns]:
            running.result()
        done.set()
        runner.stop()
    assert all("was reset" in message for message in told)


def test_a_cycle_of_steps_and_locks_is_a_deadlock() -> None:
    """One thread holds a lock and waits for a step, whose thread waits for the lock: one of them gets the error."""
    runner, lock = OrderedRunner("a", "b", name="order"), TimedLock(name="ledger")
    entered = Event()

    def first() -> None:
        with runner.step("a"):
            entered.set()
            assert holding.wait(patience())
            with lock:
                pass

    def second() -> None:
        with lock:
            holding.set()
            with runner.step("b"):
                pass

    holding = Event()
    with Threads() as threads:
        one = threads.start(first)
        assert entered.wait(patience())
        two = threads.start(second)
        errors = [running.exception() for running in (one, two)]
    found = [error for error in errors if isinstance(error, DeadlockError)]
    assert len(found) == 1
    assert {wait.lock_name for wait in found[0].cycle} == {"order", "ledger"}


def test_waiting_for_the_end_may_close_a_cycle() -> None:
    """wait() and run() are in the graph: a thread with a lock that a step needs can't wait for the sequence."""
    runner, lock = OrderedRunner("a", name="order"), TimedLock(name="ledger")
    with lock, pytest.raises(DeadlockError) as caught:
        runner.run({"a": lambda turn: lock.__enter__()}, timeout=patience())
    assert {wait.lock_name for wait in caught.value.cycle} == {"order", "ledger"}
