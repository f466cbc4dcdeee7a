"""Callbacks: on one thread, one at a time, in order of completion, exactly once, even if they raise."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError
from typing import Any, NoReturn

import pytest

from syncprims import CallbackErrors, CallbackExit, DeadlockError, PoolClosedError, PoolTimeoutError
from syncprims.callback_pool import CallbackPool, Task

LIMIT = 60.0


def fail(message: str = "bad") -> NoReturn:
    raise ValueError(message)


def test_callback_gets_the_result_on_the_dispatcher_thread() -> None:
    """The callback gets the result, in a thread that is neither the submitter's nor the worker's."""
    seen: list[tuple[int, int]] = []
    with CallbackPool(max_workers=1) as pool:
        worker = pool.submit(threading.get_ident).result(LIMIT)
        for _ in range(3):
            pool.apply_async(len, ("abc",), callback=lambda n: seen.append((n, threading.get_ident())))
    assert [n for n, _ in seen] == [3, 3, 3]
    (dispatcher,) = {ident for _, ident in seen}
    assert dispatcher not in (worker, threading.get_ident())


def test_cancelled_task_tells_its_error_callback() -> None:
    """Cancelling a queued task is reported like any other end, once."""
    hold = threading.Event()
    told: list[BaseException] = []
    with CallbackPool(max_workers=1) as pool:
        pool.submit(hold.wait, LIMIT)
        task = pool.apply_async(len, ("abc",), error_callback=told.append)
        assert task.cancel()
        assert task.cancel()
        task.wait_settled(LIMIT)
        hold.set()
    assert [type(error) for error in told] == [CancelledError]


def test_slow_callback_delays_no_result() -> None:
    """While a callback blocks, other tasks' results are there."""
    release, blocking = threading.Event(), threading.Event()

    def block(_: object) -> None:
        blocking.set()
        assert release.wait(LIMIT)

    with CallbackPool(max_workers=2) as pool:
        pool.apply_async(len, ("a",), callback=block)
        assert blocking.wait(LIMIT)
        assert pool.submit(len, "ab").result(LIMIT) == 2
        task = pool.apply_async(len, ("abc",), callback=lambda _: None)
        assert task.result(LIMIT) == 3
        assert not task.settled()
        with pytest.raises(PoolTimeoutError, match="its callback has not ended"):
            task.wait_settled(0)
        release.set()
        task.wait_settled(LIMIT)
        assert task.settled()


@pytest.mark.parametrize("method", ["join", "close", "shutdown"])
def test_waiting_for_the_pool_inside_it_is_an_error_at_once(method: str) -> None:
    """join, close and shutdown raise in a callback and in a task, instead of waiting for themselves."""
    pool = CallbackPool(max_workers=1)
    got: list[BaseException] = []

    def attempt(_: object = None) -> None:
        try:
            getattr(pool, method)()
        except DeadlockError as error:
            got.append(error)

    pool.apply_async(attempt, callback=attempt)
    pool.join(LIMIT)
    assert ["task" in str(error) for error in got] == [True, False]
    pool.close(LIMIT)


def test_wait_settled_in_a_callback_is_an_error_at_once() -> None:
    """wait_settled in a callback of the same pool raises, for its own task and for another."""
    hold = threading.Event()
    with CallbackPool(max_workers=2) as pool, pytest.raises(CallbackErrors) as caught:  # noqa: PT012
        other = pool.submit(hold.wait, LIMIT)
        pool.apply_async(len, ("a",), callback=lambda _: other.wait_settled()).wait_settled(LIMIT)
        hold.set()
        pool.join(LIMIT)
    assert caught.group_contains(DeadlockError, match="wait_settled")


def test_callback_errors_are_raised_as_one_group_once() -> None:
    """The exceptions of callbacks are raised by join as one group, and not again by close."""
    pool = CallbackPool(max_workers=1)
    pool.apply_async(len, ("a",), callback=lambda _: fail("first"))
    pool.apply_async(fail, ("task",), error_callback=lambda _: fail("second"))
    with pytest.raises(CallbackErrors, match="first") as caught:
        pool.join(LIMIT)
    assert [str(error) for error in caught.value.exceptions] == ["first", "second"]
    assert any("callback of task len" in note for note in caught.value.exceptions[0].__notes__)
    assert pool.stats.callback_errors == 2
    assert pool.submit(len, "abc").result(LIMIT) == 3
    pool.close(LIMIT)


def test_system_exit_in_callbacks_kills_nothing() -> None:
    """SystemExit and KeyboardInterrupt in callbacks are kept, wrapped, and the pool works on."""
    seen: list[int] = []

    def leave(_: object) -> NoReturn:
        raise SystemExit(3)

    def interrupt(_: object) -> NoReturn:
        raise KeyboardInterrupt

    pool = CallbackPool(max_workers=1)
    for callback in (leave, leave, interrupt):
        pool.apply_async(len, ("a",), callback=callback)
    pool.apply_async(len, ("ab",), callback=seen.append)
    with pytest.raises(CallbackErrors) as caught:
        pool.close(LIMIT)
    assert seen == [2]
    assert [type(error) for error in caught.value.exceptions] == [CallbackExit] * 3
    assert isinstance(caught.value.exceptions[0].__cause__, SystemExit)


@pytest.mark.parametrize("look", ["result", "exception", "get"])
def test_looking_at_an_error_takes_it_out_of_the_group(look: str) -> None:
    """If code looked at the task before join, join raises nothing."""
    with CallbackPool() as pool:
        task = pool.apply_async(fail)
        task.wait_settled(LIMIT)
        try:
            getattr(task, look)(timeout=LIMIT)
        except ValueError:
            pass


def test_errors_go_to_the_log_if_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """on_callback_error="log" logs callback errors and unseen task errors, and close raises nothing."""
    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(on_callback_error="log") as pool:
        pool.apply_async(len, ("a",), callback=lambda _: fail("in callback"))
        pool.apply_async(fail, ("in task",))
    assert "in callback" in caplog.text
    assert "in task" in caplog.text


def test_errors_go_to_a_function_if_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """A function gets each error with its task; its own exceptions are logged."""
    got: list[tuple[Task[Any], str]] = []

    def take(task: Task[Any], error: BaseException) -> None:
        got.append((task, str(error)))
        raise KeyError("handler")

    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(on_callback_error=take) as pool:
        first = pool.apply_async(len, ("a",), callback=lambda _: fail("in callback"))
        first.wait_settled(LIMIT)
        second = pool.apply_async(fail, ("in task",))
    assert got == [(first, "in callback"), (second, "in task")]
    assert "handler" in caplog.text


def test_exception_leaving_with_comes_out_itself_with_the_group_as_a_note() -> None:
    """An exception that leaves the with aborts, propagates, and gets the kept errors as a note."""
    with pytest.raises(KeyError) as caught, CallbackPool(max_workers=1) as pool:  # noqa: PT012
        pool.apply_async(len, ("a",), callback=lambda _: fail("kept")).wait_settled(LIMIT)
        raise KeyError("body")
    (note,) = caught.value.__notes__
    assert "kept" in note
    with pytest.raises(PoolClosedError):
        pool.submit(len, "a")
    pool.close(LIMIT)


def test_kept_errors_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A pool that is never joined keeps a bounded number of errors and logs the oldest of the others."""
    from syncprims.callback_pool.unseen_errors import KEPT

    pool = CallbackPool(max_workers=1)
    with caplog.at_level(logging.ERROR, "syncprims"):
        for i in range(KEPT + 10):
            task = pool.apply_async(fail, (f"error {i}",))
        task.wait_settled(LIMIT)
        with pytest.raises(CallbackErrors) as caught:
            pool.close(LIMIT)
    assert len(caught.value.exceptions) == KEPT
    assert len(caplog.records) == 10
    assert "'error 0'" in caplog.text


def test_progress_is_told_after_each_task() -> None:
    """on_progress gets the settled and submitted counts, in order, and its errors are kept."""
    told: list[tuple[int, int]] = []
    hold = threading.Event()
    with CallbackPool(max_workers=1, on_progress=lambda *counts: told.append(counts)) as pool:
        pool.submit(hold.wait, LIMIT)
        for _ in range(3):
            pool.submit(len, "a")
        hold.set()
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_hook_runs_after_the_callback_on_the_dispatcher() -> None:
    """A subclass's _on_settled sees each task settled, after its callback, and close waits for it."""
    order: list[object] = []

    class Watching(CallbackPool):
        def _on_settled(self, task: Task[Any]) -> None:
            order.append((task.settled(), threading.current_thread().name))

    with Watching(max_workers=1, name="watched") as pool:
        pool.apply_async(len, ("a",), callback=order.append)
    assert order == [1, (True, "watched-dispatcher")]
