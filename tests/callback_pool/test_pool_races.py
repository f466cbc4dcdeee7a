"""Races between submit, callbacks, join, close and abort: every order of their steps, with simulated threads."""

from __future__ import annotations

import itertools
import math
from _queue import Empty
from _thread import LockType
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from syncprims import CallbackPool, PoolClosedError, Task
from syncprims._core import gates
from syncprims._core.deadline import Deadline
from syncprims.callback_pool import open_tasks as opened
from syncprims.callback_pool import task
from syncprims.callback_pool.dispatcher import Dispatcher
from syncprims.callback_pool.job import Job
from syncprims.callback_pool.own_threads import HelperThread, enter, leave

Note = Callable[[str, object], None]


class Puppets(Executor):
    """An executor whose futures end when the test says so."""

    def __init__(self) -> None:
        self.inner: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.args = (fn, *args)  # type: ignore[attr-defined]  # for `finish`
        self.inner.append(future)
        return future

    def finish(self, index: int) -> None:
        """Run the call of that future, unless it is cancelled or has run."""
        future = self.inner[index]
        if not future.done() and future.set_running_or_notify_cancel():
            fn, *args = future.args  # type: ignore[attr-defined]
            future.set_result(fn(*args))


class Play:
    """A pool whose executor and dispatcher make their steps when asked."""

    def __init__(self) -> None:
        self.executor = Puppets()
        self.pool = CallbackPool(self.executor, envelope=False)
        self.told: list[list[object]] = []
        self.accepted: list[Task[Any]] = []
        self.retired_early = False
        self.joined_early = self.left_waiting = False
        self.gates: list[LockType] = []

    def submit(self, again: bool = False) -> None:
        """Submit a task whose callback may submit another one."""
        heard: list[object] = []

        def tell(outcome: object) -> None:
            heard.append(outcome)
            self.retired_early |= self.pool._open_tasks.phase == "retired"
            if again:
                self.submit()

        try:
            self.accepted.append(self.pool.apply_async(bool, callback=tell, error_callback=tell))
        except PoolClosedError:
            return
        self.told.append(heard)

    def cancel(self) -> None:
        """Cancel the first task."""
        self.accepted[0].cancel()

    def serve(self) -> None:
        """Handle the next notice like the dispatcher."""
        before = enter(self.pool._open_tasks, "callback")
        try:
            notice = self.pool._open_tasks.ended.get_nowait()
            if notice is not None and not isinstance(notice, opened.Fence):
                self.pool._dispatcher.settle(notice)
        except Empty:
            pass
        finally:
            leave(before)

    def join(self) -> None:
        """Join, up to the gate at which it would wait; the gate must open in the end."""
        before = Stage.play
        Stage.play = self
        try:
            self.joined_early |= self.pool._open_tasks._await_idle(Deadline(None)) and bool(self.pool._open_tasks.jobs)
        finally:
            Stage.play = before

    def close(self) -> None:
        """The part of close that does not wait."""
        self.pool._open_tasks.close()
        self.pool._dispatcher.stop_if_over()

    def shutdown(self) -> None:
        """The part of shutdown that does not wait."""
        self.pool.shutdown(wait=False)

    def abort(self) -> None:
        """Abort like a callback, which waits for no thread."""
        before = enter(self.pool._open_tasks, "callback")
        self.pool.abort()
        leave(before)

    def to_the_end(self) -> None:
        """Let everything end that still can, then close."""
        for _ in range(12):
            for index in range(len(self.executor.inner)):
                self.executor.finish(index)
            self.serve()
        self.left_waiting = any(gate.locked() for gate in self.gates)
        self.close()

    def problem(self, *, aborted: bool) -> str | None:
        """Return the fault at the end, or None."""
        if any(len(heard) != 1 for heard in self.told):
            return f"told {self.told}"
        if self.pool._open_tasks.jobs or not all(one.settled() for one in self.accepted):
            return "a task is pending forever"
        if self.pool._open_tasks.phase != "retired":
            return f"the pool is {self.pool._open_tasks.phase} forever"
        if self.retired_early:
            return "the pool had retired when a callback ran"
        if self.joined_early:
            return "a join was over while a task was pending"
        if self.left_waiting:
            return "a join waits forever"
        if not aborted and len(self.told) < 1:
            return "nothing was submitted"
        return None


class Stage:
    """The play whose join comes to a gate."""

    play: Play | None = None

    @staticmethod
    def come_to(gate: LockType, deadline: Deadline) -> bool:
        """Wait at the gate like a simulated thread: it gives up, and another thread looks later."""
        assert Stage.play is not None
        Stage.play.gates.append(gate)
        return False


STEPS: dict[str, Callable[[Play], None]] = {
    "submit": lambda play: play.submit(again=True),
    "submit another": lambda play: play.submit(),
    "finish": lambda play: play.executor.finish(0) if play.executor.inner else None,
    "cancel": Play.cancel,
    "serve": Play.serve,
    "serve again": Play.serve,
    "close": Play.close,
    "shutdown": Play.shutdown,
    "abort": Play.abort,
    "join": Play.join,
}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HelperThread, "ensure", lambda self, *_: None)
    monkeypatch.setattr(opened, "pass_through", Stage.come_to)


def problems(length: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Play every sequence of so many different steps that begins with a submission; yield those that end badly."""
    for steps in itertools.permutations([name for name in STEPS if name != "submit"], length):
        play = Play()
        play.submit(again=True)
        for step in steps:
            STEPS[step](play)
        play.to_the_end()
        if problem := play.problem(aborted="abort" in steps):
            yield steps, problem


@pytest.mark.parametrize("length", [5, pytest.param(8, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_every_order_of_steps_ends_well(length: int, record_property: Note) -> None:
    """After every sequence of so many of the other steps each task is settled and reported once, and none waits."""
    assert list(problems(length)) == []
    record_property("interleavings of the pool", math.perm(9, length))


def arrivals(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[object, str | None]]:
    """Put some steps inside a join, before it has put up its gate or after; yield them and the problem."""
    names = ["finish", "serve", "serve again", "cancel", "close", "abort", "submit another"]
    for steps in itertools.permutations(names, 3):
        for first, second in itertools.combinations_with_replacement(range(4), 2):
            parts = steps[:first], steps[first:second], steps[second:]
            yield parts, arrival(monkeypatch, *parts)


def arrival(
    monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...], between: tuple[str, ...], after: tuple[str, ...]
) -> str | None:
    """Make steps before a join, between its first look and its gate, and before its second look."""
    play = Play()
    play.submit()

    def make(steps: tuple[str, ...]) -> None:
        for step in steps:
            STEPS[step](play)

    def put_up_slowly(closed: deque[LockType]) -> LockType:
        if play.gates:
            return gates.put_up(closed)
        make(between)
        gate = gates.put_up(closed)
        make(after)
        return gate

    make(before)
    with monkeypatch.context() as patch:
        patch.setattr(opened, "put_up", put_up_slowly)
        play.join()
    play.to_the_end()
    return play.problem(aborted="abort" in (*before, *between, *after))


def test_steps_that_fall_into_a_join_end_well(monkeypatch: pytest.MonkeyPatch, record_property: Note) -> None:
    """Wherever three steps come beside the look and the gate of a join, it does not keep waiting."""
    outcomes = list(arrivals(monkeypatch))
    assert [one for one in outcomes if one[1]] == []
    record_property("interleavings of the pool", len(outcomes))


def test_join_that_looks_only_once_is_caught(monkeypatch: pytest.MonkeyPatch, record_property: Note) -> None:
    """Mutation: a join that does not look again when its gate is up waits forever, if the last task has ended."""

    def look_once(entrance: opened.OpenTasks[Any, Any], deadline: Deadline) -> bool:
        if not entrance.jobs:
            return True
        gate = opened.put_up(entrance._idle_gates)  # type: ignore[attr-defined]  # the replacement
        return Stage.come_to(gate, deadline)

    monkeypatch.setattr(opened.OpenTasks, "_await_idle", look_once)
    assert any(problem == "a join waits forever" for _, problem in arrivals(monkeypatch))
    record_property("mutations caught", 1)


def callback_is_owed(play: Play) -> bool:
    """Whether the first task's callback submitted its successor, with the pool closing in the meantime."""
    return len(play.told) == 2


def test_callback_may_submit_while_the_pool_closes() -> None:
    """Wherever closing comes between the task's end and its callback, a task that the callback submits runs."""
    for steps in itertools.permutations(["finish", "serve", "close", "serve again"]):
        play = Play()
        play.submit(again=True)
        for step in steps:
            STEPS[step](play)
        play.to_the_end()
        assert play.problem(aborted=False) is None
        assert callback_is_owed(play), steps


def test_lost_notice_is_caught(monkeypatch: pytest.MonkeyPatch, record_property: Note) -> None:
    """Mutation: if finished tasks give no notice, some order ends with one pending forever."""
    monkeypatch.setattr(task.Task, "_invoke_callbacks", lambda one: None)
    assert any("told" in problem or "pending forever" in problem for _, problem in problems(2))
    record_property("mutations caught", 1)


def test_pending_dropped_before_the_callback_is_caught(monkeypatch: pytest.MonkeyPatch, record_property: Note) -> None:
    """Mutation: if a task is dropped before its callback, some order retires the pool during that callback."""
    call_back = Dispatcher._call_back

    def too_early(self: Dispatcher, one: Job[Any], outcome: str, value: object) -> None:
        self.drop(one.task)
        call_back(self, one, outcome, value)

    monkeypatch.setattr(Dispatcher, "_call_back", too_early)
    assert any("had retired" in problem for _, problem in problems(3))
    record_property("mutations caught", 1)


def test_phase_read_before_the_store_is_caught(monkeypatch: pytest.MonkeyPatch, record_property: Note) -> None:
    """A submitter takes its task back if the pool closes first; mutation: one that looks too early leaves it behind."""

    def overtaken(play: Play, look: Callable[[], None]) -> None:
        """Close between the submitter's first look at the phase and its store."""
        one = play.pool._intake.make(play.pool, None, bool, (), {})
        play.close()
        monkeypatch.setattr(play.pool._open_tasks, "check_open", look)
        try:
            play.pool._intake.start(one)
        except PoolClosedError:
            pass
        play.to_the_end()

    play = Play()
    overtaken(play, play.pool._open_tasks.check_open)
    assert (play.pool._open_tasks.phase, len(play.executor.inner)) == ("retired", 0)
    play = Play()
    overtaken(play, lambda: None)
    assert len(play.executor.inner) == 1
    record_property("mutations caught", 1)
