"""Code that only an interrupt reaches, reached by a fault instead: an exception that a call or a `yield` raises.

The sweeps of the `*_interrupts` tests send real interrupts to every point there is. Coverage can't observe them; and
they show that nothing is left behind, but not which handler prevented it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Executor, Future
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet

import pytest

from syncprims import (
    CallbackPool,
    LockAdapter,
    OrderedRunner,
    PoolClosedError,
    Task,
    TimedLock,
    acquire_all,
)
from syncprims._core.waits import Waiting
from syncprims._core.waits import count_waits as waits
from syncprims._runner import sequence as _sequence
from syncprims.callback_pool import at_exit as exiting
from syncprims.callback_pool import mapping
from syncprims.callback_pool.course import Course
from syncprims.diagnostics import exchange, record
from syncprims.diagnostics.lock_events import locks
from syncprims.testing import assert_blocks, patience


class Failing:
    """A lock whose release works, and then raises."""

    def __init__(self, failure: BaseException) -> None:
        self.lock = threading.Lock()
        self.failure = failure

    def acquire(self, *, timeout: float = -1) -> bool:
        return self.lock.acquire(timeout=timeout)

    def release(self) -> None:
        self.lock.release()
        raise self.failure


def cut_off(leave: Any) -> BaseException:
    """Interrupt a leaving where it waits for its start, which is where `with` enters it; return what it raises."""
    leaving: Generator[int, Any, None] = leave.keywords["key"].__self__
    with pytest.raises(BaseException) as caught:  # noqa: PT011  which one is the question
        leaving.throw(KeyboardInterrupt())
    return caught.value


# -- locks ------------------------------------------------------------------------------------------------------------


def test_acquire_all_that_is_interrupted_while_leaving_lets_go_of_all() -> None:
    """Each lock is free, and the error of a failed release is a note of the interrupt."""
    failing = LockAdapter(Failing(ConnectionError("gone")))
    locks: list[TimedLock | LockAdapter] = [TimedLock(), failing, TimedLock()]
    together: Any = acquire_all(*locks)
    together.__enter__()
    interrupt = cut_off(together.__exit__)
    assert isinstance(interrupt, KeyboardInterrupt)
    assert interrupt.__notes__ == ["then the release of a lock failed too: ConnectionError: gone"]
    assert not any(lock.held_by_me() for lock in locks)


@pytest.mark.parametrize("late", [False, True], ids=["entering", "leaving"])
def test_acquire_all_lets_an_interrupt_of_a_release_out(late: bool) -> None:
    """A second interrupt, in a release after the first, is raised instead, and all locks are free."""

    class Interrupted(TimedLock):
        def _on_acquired(self, waited: float) -> None:
            if not late:
                raise KeyboardInterrupt

    second = SystemExit("the second")
    locks: list[TimedLock | LockAdapter] = [TimedLock(), LockAdapter(Failing(second)), Interrupted()]
    together: Any = acquire_all(*locks)
    if late:
        together.__enter__()
        raised = cut_off(together.__exit__)
    else:
        with pytest.raises(SystemExit) as caught:
            together.__enter__()
        raised = caught.value
    assert raised is second
    assert not any(lock.held_by_me() for lock in locks)


@pytest.mark.parametrize("failure", [None, ConnectionError("gone")])
def test_an_adapter_that_is_interrupted_while_leaving_lets_go(failure: Exception | None) -> None:
    """The lock is free and the thread is not a holder any more, whether the release fails or not."""
    inner = threading.Lock() if failure is None else Failing(failure)
    lock = LockAdapter(inner)
    assert lock.acquire()
    interrupt = cut_off(lock.__exit__)
    assert isinstance(interrupt, KeyboardInterrupt)
    assert hasattr(interrupt, "__notes__") == (failure is not None)
    assert not lock.held_by_me()
    assert inner.acquire(timeout=0)


# -- a runner ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_a_turn_that_came_with_an_interrupt_is_left_to_others(monkeypatch: pytest.MonkeyPatch, stopped: bool) -> None:
    """A thread that got its gate and is interrupted before it is in opens the gate again, and completes a stop()."""
    runner = OrderedRunner("a", "b")

    class Interrupted:
        def __init__(self, *arguments: Any) -> None:
            self.real = Waiting(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def withdraw(self) -> None:
            self.real.withdraw()
            raise KeyboardInterrupt

    monkeypatch.setattr(_sequence, "Waiting", Interrupted)
    with runner.step("a"):
        enter_b = runner.step("b", timeout=patience()).__enter__
        waiter = assert_blocks(enter_b, until=lambda: waits(runner._sequence) == 1)
        if stopped:
            runner.stop()
    assert isinstance(waiter.exception(), KeyboardInterrupt)
    monkeypatch.undo()
    if stopped:
        assert runner.state == "finished"
    else:
        with runner.step("b", timeout=0):
            assert runner.current == "b"


# -- a pool -----------------------------------------------------------------------------------------------------------


def busy(begun: threading.Event, go: threading.Event) -> bool:
    """A task that reports that it runs, and goes on when asked."""
    begun.set()
    return go.wait(patience())


def test_a_pool_that_is_interrupted_while_leaving_is_aborted() -> None:
    """Waiting tasks are cancelled, running ones are left behind, and every callback is called."""
    told: list[object] = []
    go = threading.Event()
    pool = CallbackPool(max_workers=1)
    with pool:
        begun = threading.Event()
        pool.submit(busy, begun, go)
        assert begun.wait(patience())
        waiting = pool.apply_async(bool, error_callback=told.append)
        try:
            assert isinstance(cut_off(pool.__exit__), KeyboardInterrupt)
        finally:
            go.set()
        assert waiting.cancelled()
        assert [type(error) for error in told] == [CancelledError]


def test_a_map_whose_items_are_interrupted_leaves_nothing_behind() -> None:
    """After an exception of the iterable, the tasks that were submitted and have not begun are cancelled."""
    ran: list[int] = []
    go = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    with CallbackPool(max_workers=1) as pool:
        first = pool.submit(go.wait, patience())
        with pytest.raises(KeyboardInterrupt):
            pool.map(ran.append, items())
        go.set()
        assert first.result() is True
    assert ran == []
    assert pool.stats.cancelled == 5


class CutOff(Future[Any]):
    """Never runs, and is interrupted in the middle of being cancelled."""

    def cancel(self) -> bool:
        with self._condition:
            self._state = "CANCELLED"
        raise KeyboardInterrupt


class Idle(Executor):
    """Runs no job."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return CutOff()


def test_a_cancelling_that_is_interrupted_is_completed_for_it() -> None:
    """If an interrupt comes in the executor's part of it, the task is cancelled nevertheless, and its callback runs."""
    told = SimpleQueue[object]()
    with CallbackPool(Idle(), envelope=False) as pool:
        task = pool.apply_async(bool, error_callback=told.put)
        with pytest.raises(KeyboardInterrupt):
            task.cancel()
        assert isinstance(told.get(timeout=patience()), CancelledError)
    assert task.cancelled()
    assert pool.stats.cancelled == 1


def test_a_cancelling_that_is_interrupted_in_the_middle_calls_everybody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """If an interrupt comes between the new state and the notification of waiters, they are notified nevertheless."""
    told, done = SimpleQueue[object](), SimpleQueue[object]()
    go = threading.Event()
    call_back = Task._invoke_callbacks
    interrupts = [KeyboardInterrupt()]

    def interrupted(task: Task[Any]) -> None:
        if interrupts and task.cancelled():
            raise interrupts.pop()
        call_back(task)

    monkeypatch.setattr(Task, "_invoke_callbacks", interrupted, raising=False)
    with CallbackPool(max_workers=1) as pool:
        pool.submit(go.wait, patience())
        task = pool.apply_async(bool, error_callback=told.put)
        task.add_done_callback(done.put)
        with pytest.raises(KeyboardInterrupt):
            task.cancel()
        try:
            assert done.get(timeout=patience()) is task
            assert isinstance(told.get(timeout=patience()), CancelledError)
        finally:
            go.set()
    assert interrupts == []


def test_a_worker_that_is_interrupted_before_it_wakes_waiters_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If an exception from outside comes between the outcome and the notification, the dispatcher notifies."""
    go = threading.Event()
    wake = Course.notify_all
    interrupts: list[BaseException] = [KeyboardInterrupt()]

    def interrupted(course: Course) -> None:
        if interrupts:
            raise interrupts.pop()
        wake(course)

    monkeypatch.setattr(Course, "notify_all", interrupted)
    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(go.wait, patience())
        waiting = assert_blocks(task.result)
        go.set()
        assert waiting.result(patience()) is True
    assert interrupts == []


@pytest.mark.parametrize("where", ["outcome_of", "_settle", "settled"])
def test_a_worker_that_is_interrupted_at_the_end_of_a_part_loses_no_map(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """If an exception from outside comes while the last part is noted, that is done again."""
    interrupts: list[BaseException] = [KeyboardInterrupt()]
    name = "_settle" if where == "settled" else where
    do = getattr(mapping, name)

    def interrupted(*args: Any) -> Any:
        if where == "settled":
            do(*args)
        if interrupts:
            raise interrupts.pop()
        return do(*args)

    monkeypatch.setattr(mapping, name, interrupted)
    heard = SimpleQueue[list[int]]()
    with CallbackPool(max_workers=1) as pool:
        task = pool.map_async(abs, [-1, -2, -3], 1, heard.put)
        assert task.result(patience()) == [1, 2, 3]
        assert heard.get(timeout=patience()) == [1, 2, 3]
    assert interrupts == []
    assert heard.empty()


@pytest.mark.parametrize("interrupt", [None, KeyboardInterrupt()])
def test_the_programs_end_drains_the_pools_or_aborts_them(
    monkeypatch: pytest.MonkeyPatch, interrupt: BaseException | None
) -> None:
    """At exit an open pool drains; Ctrl-C during that aborts the pool; either way its callbacks and threads end."""
    told: list[object] = []
    last: list[str] = []
    begun, go = threading.Event(), threading.Event()
    pool = CallbackPool(max_workers=1)
    monkeypatch.setattr(exiting, "_pools", WeakSet([pool._ending]))
    monkeypatch.setattr(exiting, "_last", {})
    exiting.after_draining(lambda: last.append("after"))
    running = pool.apply_async(busy, (begun, go), callback=told.append)
    pool.apply_async(bool, callback=told.append, error_callback=told.append)
    assert begun.wait(patience())
    drain = pool._ending.drain

    def drained() -> None:
        if interrupt is not None:
            raise interrupt
        go.set()
        drain()

    monkeypatch.setattr(pool._ending, "drain", drained)
    try:
        if interrupt is None:
            exiting._drain_all()
            assert told == [True, False]
        else:
            with pytest.raises(KeyboardInterrupt):
                exiting._drain_all()
            assert [type(outcome) for outcome in told] == [CancelledError]
            assert isinstance(running.exception(0), PoolClosedError)
    finally:
        go.set()
    assert last == ["after"]
    with pytest.raises(PoolClosedError):
        pool.submit(bool)


# -- recordings -------------------------------------------------------------------------------------------------------


def test_a_recording_that_is_interrupted_while_beginning_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods are as they were, and the next recording works."""
    make = exchange.Exchange._make
    before = dict(vars(TimedLock))

    def make_and_raise(self: exchange.Exchange[Any]) -> None:
        make(self)
        if self is locks:
            raise KeyboardInterrupt

    monkeypatch.setattr(exchange.Exchange, "_make", make_and_raise)
    with pytest.raises(KeyboardInterrupt), record():
        pytest.fail("it has not begun")
    monkeypatch.undo()
    assert dict(vars(TimedLock)) == before
    with record() as recording, TimedLock(name="next"):
        pass
    assert [span.name for span in recording.spans if span.kind == "hold"] == ["next"]
