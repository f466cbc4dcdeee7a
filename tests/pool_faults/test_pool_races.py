"""Races between submit, callbacks, close and abort: every order of their steps, with threads played by hand."""

from __future__ import annotations

import itertools
from _queue import Empty
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from syncprims import CallbackPool, PoolClosedError, Task
from syncprims.callback_pool import dispatcher, task
from syncprims.callback_pool.helper_thread import HelperThread
from syncprims.callback_pool.inside import enter, leave


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
    """A pool whose executor and dispatcher make their steps when told."""

    def __init__(self) -> None:
        self.executor = Puppets()
        self.pool = CallbackPool(self.executor, envelope=False)
        self.told: list[list[object]] = []
        self.accepted: list[Task[Any]] = []
        self.retired_early = False

    def submit(self, again: bool = False) -> None:
        """Submit a task whose callback may submit another one."""
        heard: list[object] = []

        def tell(outcome: object) -> None:
            heard.append(outcome)
            self.retired_early |= self.pool._intake.phase == "retired"
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
        """Do as the dispatcher does with its next notice."""
        before = enter(self.pool._intake.mark)
        try:
            notice = self.pool._inbox.get_nowait()
            if isinstance(notice, tuple):
                dispatcher._withdraw(notice[0])
            elif notice is not None:
                dispatcher._settle(notice)
        except Empty:
            pass
        finally:
            leave(before)

    def close(self) -> None:
        """The part of close that does not wait."""
        self.pool.shutdown(wait=False)

    def abort(self) -> None:
        """Abort as a callback does, which waits for nobody."""
        before = enter(self.pool._intake.mark)
        self.pool.abort()
        leave(before)

    def to_the_end(self) -> None:
        """Let everything come to its end that still can, then close."""
        for _ in range(12):
            for index in range(len(self.executor.inner)):
                self.executor.finish(index)
            self.serve()
        self.close()

    def problem(self, *, aborted: bool) -> str | None:
        """Say what is wrong at the end."""
        if any(len(heard) != 1 for heard in self.told):
            return f"told {self.told}"
        if self.pool._intake.tasks or not all(one.settled() for one in self.accepted):
            return "a task is pending for ever"
        if self.pool._intake.phase != "retired":
            return f"the pool is {self.pool._intake.phase} for ever"
        if self.retired_early:
            return "the pool had retired when a callback ran"
        if not aborted and len(self.told) < 1:
            return "nothing was submitted"
        return None


STEPS: dict[str, Callable[[Play], None]] = {
    "submit": lambda play: play.submit(again=True),
    "submit another": lambda play: play.submit(),
    "finish": lambda play: play.executor.finish(0) if play.executor.inner else None,
    "cancel": Play.cancel,
    "serve": Play.serve,
    "serve again": Play.serve,
    "close": Play.close,
    "abort": Play.abort,
}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HelperThread, "ensure", lambda self: None)


def problems(length: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Play every sequence of so many different steps that begins by submitting; yield those that end badly."""
    for steps in itertools.permutations([name for name in STEPS if name != "submit"], length):
        play = Play()
        play.submit(again=True)
        for step in steps:
            STEPS[step](play)
        play.to_the_end()
        if problem := play.problem(aborted="abort" in steps):
            yield steps, problem


def test_every_order_of_steps_ends_well() -> None:
    """After every sequence of the other seven steps each task is settled and told of once, and the pool retires."""
    assert list(problems(7)) == []


def callback_is_owed(play: Play) -> bool:
    """Whether the first task's callback submitted its successor, with the pool closing meanwhile."""
    return len(play.told) == 2


def test_callback_may_submit_while_the_pool_closes() -> None:
    """However closing falls between the task's end and its callback, what the callback submits runs."""
    for steps in itertools.permutations(["finish", "serve", "close", "serve again"]):
        play = Play()
        play.submit(again=True)
        for step in steps:
            STEPS[step](play)
        play.to_the_end()
        assert play.problem(aborted=False) is None
        assert callback_is_owed(play), steps


def test_lost_notice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: where tasks that are done give no notice, some order ends with one pending for ever."""
    monkeypatch.setattr(task, "_notify", lambda one: None)
    assert any("told" in problem or "pending for ever" in problem for _, problem in problems(2))


def test_pending_dropped_before_the_callback_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: where a task is dropped before its callback, some order retires the pool under that callback."""
    call_back = dispatcher._call_back

    def too_early(pool: Any, one: Task[Any]) -> str:
        pool._drop(one)
        return call_back(pool, one)

    monkeypatch.setattr(dispatcher, "_call_back", too_early)
    assert any("had retired" in problem for _, problem in problems(3))


def test_phase_read_before_the_store_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submitter that closing overtakes takes its task back; mutation: one that looks too early leaves it behind."""

    def overtaken(play: Play, look: Callable[[], None]) -> None:
        """Close between the submitter's first look at the phase and its store."""
        one = play.pool._make(bool, (), {})
        play.close()
        monkeypatch.setattr(play.pool._intake, "check_open", look)
        try:
            play.pool._start(one)
        except PoolClosedError:
            pass
        play.to_the_end()

    play = Play()
    overtaken(play, play.pool._intake.check_open)
    assert (play.pool._intake.phase, len(play.executor.inner)) == ("retired", 0)
    play = Play()
    overtaken(play, lambda: None)
    assert len(play.executor.inner) == 1
