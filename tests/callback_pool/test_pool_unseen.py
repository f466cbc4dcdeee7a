"""The one rule for errors: if no code looked at a task's exception, the pool raises it when it closes."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

from callback_pool import pool_workers
from syncprims import CallbackErrors
from syncprims.callback_pool import CallbackPool, Task
from syncprims.callback_pool.job import Job

LIMIT = 60.0
MAPS = ["map", "map_unordered"]


def fail(message: str = "bad") -> NoReturn:
    raise ValueError(message)


def texts(group: CallbackErrors) -> list[str]:
    """The texts of a group's errors."""
    return sorted(str(error) for error in group.exceptions)


@contextmanager
def raised_at_the_end(*expected: str) -> Iterator[None]:
    """Assert that leaving raises a group of exactly these errors."""
    with pytest.raises(CallbackErrors) as caught:
        yield
    assert texts(caught.value) == sorted(expected)


@contextmanager
def nothing_lost_or_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Assert that nothing is logged in the block."""
    with caplog.at_level(logging.ERROR, "syncprims"):
        yield
        gc.collect()
    assert caplog.records == []


# -- map ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", MAPS)
@pytest.mark.parametrize("chunksize", [1, 2])
def test_errors_of_a_map_that_was_never_read_are_raised(way: str, chunksize: int) -> None:
    """Each failed chunk of a map whose iterator nothing reads counts."""
    with raised_at_the_end(*["a", "c"][: 3 - chunksize]), CallbackPool(max_workers=1) as pool:
        unread = getattr(pool, way)(fail, ["a", "c"], chunksize=chunksize)
    assert iter(unread) is unread


@pytest.mark.parametrize("way", MAPS)
def test_one_error_of_a_map_that_was_read_stands_for_the_rest(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """This holds whether the other chunks have failed by then or will fail."""
    begun, go = threading.Event(), threading.Event()

    def step(number: int) -> None:
        if number == 2:
            begun.set()
            assert go.wait(LIMIT)
        fail(str(number))

    with nothing_lost_or_logged(caplog), CallbackPool(max_workers=1) as pool:
        results = getattr(pool, way)(step, [0, 1, 2])
        assert begun.wait(LIMIT)  # two have failed, and the third is about to
        with pytest.raises(ValueError, match="0"):
            list(results)
        go.set()


@pytest.mark.parametrize("way", MAPS)
def test_results_of_a_map_that_were_given_up_do_not_count_as_seen(way: str) -> None:
    """A reader that stops early has looked only at the results that it got."""
    settled = threading.Event()

    def step(number: int) -> int:
        return number if number == 0 else fail(str(number))

    def count(done: int, _: int) -> None:
        if done == 3:
            settled.set()

    with raised_at_the_end("1", "2"), CallbackPool(max_workers=1, on_progress=count) as pool:
        for result in getattr(pool, way)(step, [0, 1, 2]):
            assert result == 0
            assert settled.wait(LIMIT)
            break


def test_a_map_whose_reader_runs_out_of_time_has_told_of_no_error() -> None:
    """The timeout is an error of the reading; a later exception of the call is still unseen."""
    go = threading.Event()

    def late() -> Iterator[None]:
        yield None

    def step(_: object) -> None:
        assert go.wait(LIMIT)
        fail("late")

    with raised_at_the_end("late"), CallbackPool(max_workers=1) as pool:
        with pytest.raises(TimeoutError):
            list(pool.map(step, late(), timeout=0.01))
        go.set()


# -- submit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("end", ["join", "close", "with"])
def test_error_of_a_dropped_submit_is_raised(kind: Any, end: str) -> None:
    """A dropped task of submit belongs to the pool, like one of apply_async."""
    pool = CallbackPool(kind, max_workers=1)
    with raised_at_the_end("lost"):
        if end == "with":
            with pool:
                pool.submit(pool_workers.fail, "lost")
        else:
            pool.submit(pool_workers.fail, "lost")
            getattr(pool, end)(LIMIT)
    pool.close(LIMIT)


def test_error_of_a_dropped_submit_is_raised_wherever_threads_switch() -> None:
    """Although parts of the pool refer to the task for a moment, the error is never missed and logged instead."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            with raised_at_the_end("x", "y"), CallbackPool(max_workers=2) as pool:
                pool.submit(fail, "x")
                pool.submit(fail, "y")
    finally:
        sys.setswitchinterval(before)


def missed(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Close a pool while its worker is about to return from failing a dropped task."""
    failed, go = threading.Event(), threading.Event()
    fail_job = Job.fail

    def linger(self: Job[Any], error: BaseException) -> bool:
        try:
            return fail_job(self, error)
        finally:
            failed.set()
            assert go.wait(LIMIT)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "fail", linger)
        pool = CallbackPool(max_workers=1)
        try:
            pool.submit(fail, "lost")
            assert failed.wait(LIMIT)
            pool.join(LIMIT)
        except CallbackErrors:
            return False
        else:
            return True
        finally:
            go.set()
            with pytest.MonkeyPatch.context() as quiet:
                quiet.setattr(logging.getLogger("syncprims"), "disabled", True)
                pool.shutdown()


def test_a_worker_on_its_way_out_holds_no_failed_task(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """The job drops its reference; mutation: without that, the error comes too late."""
    assert not missed(monkeypatch)
    monkeypatch.setattr(Job, "part", lambda self: None)
    assert missed(monkeypatch)
    record_property("mutations caught", 1)


def test_error_of_a_submit_that_is_held_belongs_to_its_holder(caplog: pytest.LogCaptureFixture) -> None:
    """Closing does not raise it. If the task is dropped afterwards, unseen, it is logged; if it was looked at, not."""
    with caplog.at_level(logging.ERROR, "syncprims"):
        with CallbackPool(name="careless") as pool:
            looked, unheard = pool.submit(fail, "looked"), pool.submit(fail, "unheard")
        assert caplog.records == []
        assert isinstance(looked.exception(), ValueError)
        del looked
        gc.collect()
        assert caplog.records == []
        del unheard
        gc.collect()
    assert len(caplog.records) == 1
    assert "fail('unheard') raised ValueError: unheard" in caplog.text
    assert "careless" in caplog.text


def test_a_submit_that_was_looked_at_and_dropped_is_no_ones(caplog: pytest.LogCaptureFixture) -> None:
    """An error that its holder has seen is neither raised nor logged."""
    with nothing_lost_or_logged(caplog), CallbackPool(max_workers=1) as pool:
        assert isinstance(pool.submit(fail).exception(LIMIT), ValueError)
        with pytest.raises(ValueError, match="bad"):
            pool.submit(fail).result(LIMIT)


@pytest.mark.parametrize("cancel", [False, True])
def test_shutdown_never_raises_and_logs_instead(cancel: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is like every executor's; each error that close would have raised is in the log, once."""
    pool = CallbackPool(max_workers=1)
    with caplog.at_level(logging.ERROR, "syncprims"):
        pool.submit(fail, "dropped")
        pool.apply_async(fail, ("of apply_async",))
        pool.map(fail, ["of map"])
        pool.apply_async(len, ("",), callback=lambda _: fail("of a callback"))
        pool.submit(len, "").result(LIMIT)
        pool.shutdown(cancel_futures=cancel)
        pool.close(LIMIT)
    said = sorted(record.message.rpartition("ValueError: ")[2] for record in caplog.records)
    assert said == ["dropped", "of a callback", "of apply_async", "of map"]


def test_leaving_by_an_exception_adds_the_errors_as_a_note() -> None:
    """The block's own exception is raised, with the unseen errors as a note, including those of dropped tasks."""
    settled = threading.Semaphore(0)

    def leave() -> NoReturn:
        with CallbackPool(max_workers=1, on_progress=lambda *_: settled.release()) as pool:
            pool.submit(fail, "dropped")
            pool.apply_async(fail, ("kept",))
            for _ in range(2):
                assert settled.acquire(timeout=LIMIT)
            raise KeyError("the block's own")

    with pytest.raises(KeyError) as caught:
        leave()
    (note,) = caught.value.__notes__
    assert "fail('dropped') raised ValueError: dropped" in note
    assert "fail('kept') raised ValueError: kept" in note


# -- who looks ---------------------------------------------------------------------------------------------------------


class Curious(CallbackPool):
    """Looks at each task in its hook."""

    def _on_settled(self, task: Task[Any]) -> None:
        if not task.cancelled():
            task.exception()


def test_a_hook_that_reads_every_outcome_has_looked_at_none() -> None:
    """_on_settled sees every task, so an outcome that it reads is still unseen."""
    with raised_at_the_end("a", "b"), Curious(max_workers=1) as pool:
        pool.apply_async(fail, ("a",))
        pool.map(fail, ["b"])


def test_progress_that_reads_an_outcome_has_not_looked_at_it() -> None:
    """on_progress is such a hook too."""
    tasks: list[Task[Any]] = []

    def progress(*_: int) -> None:
        assert isinstance(tasks[0].exception(), ValueError)

    go = threading.Event()

    def wait_and_fail() -> NoReturn:
        assert go.wait(LIMIT)
        fail("a")

    with raised_at_the_end("a"), CallbackPool(max_workers=1, on_progress=progress) as pool:
        tasks.append(pool.apply_async(wait_and_fail))
        go.set()


def asks(get: Callable[[float], object]) -> None:
    with pytest.raises(ValueError, match="bad"):
        get(LIMIT)


async def awaits(task: Task[Any]) -> None:
    with pytest.raises(ValueError, match="bad"):
        await task


@pytest.mark.parametrize(
    "look",
    [
        lambda task: task.add_done_callback(lambda done: done.exception()),
        lambda task: task.exception(LIMIT),
        lambda task: asks(task.result),
        lambda task: asks(task.get),
        lambda task: asyncio.run(awaits(task)),
    ],
)
def test_what_counts_as_looking(look: Callable[[Task[Any]], object], caplog: pytest.LogCaptureFixture) -> None:
    """result(), exception() and get() count, except in a hook; also in a function of add_done_callback."""
    go = threading.Event()

    def wait_and_fail() -> NoReturn:
        assert go.wait(LIMIT)
        fail()

    with nothing_lost_or_logged(caplog), CallbackPool(max_workers=1) as pool:
        task = pool.apply_async(wait_and_fail)
        threading.Timer(0, go.set).start()
        look(task)


def test_a_callback_that_reads_another_task_has_looked_at_it(caplog: pytest.LogCaptureFixture) -> None:
    """A callback is ordinary code, not a hook."""
    with nothing_lost_or_logged(caplog), CallbackPool(max_workers=1) as pool:
        first = pool.apply_async(fail)
        pool.apply_async(len, ("",), callback=lambda _: first.exception(LIMIT))


def test_a_task_submitted_by_a_hook_may_be_looked_at_inside_of_it() -> None:
    """A hook's own task runs on a worker, so its reading is not the hook's."""
    seen: list[BaseException | None] = []

    class Asking(CallbackPool):
        def _on_settled(self, task: Task[Any]) -> None:
            if not seen and task.exception() is not None:
                seen.append(None)
                self.submit(lambda: seen.append(task.exception())).add_done_callback(lambda _: looked.set())

    looked = threading.Event()
    with Asking(max_workers=1) as pool:
        pool.apply_async(fail)
        assert looked.wait(LIMIT)
    assert isinstance(seen[1], ValueError)


# -- where they go -----------------------------------------------------------------------------------------------------


def test_a_function_gets_a_task_for_each_error_also_of_one_that_was_dropped() -> None:
    """on_callback_error gets a failed task, even if the submitted one was dropped."""
    got: list[tuple[Task[Any], BaseException]] = []
    with CallbackPool(max_workers=1, on_callback_error=lambda *told: got.append(told)) as pool:
        pool.submit(fail, "dropped")
        pool.apply_async(fail, ("kept",))
    assert sorted(str(error) for _, error in got) == ["dropped", "kept"]
    assert all(task.exception() is error and task.done() and task.settled() for task, error in got)


def test_the_message_says_which_call_with_its_arguments_cut_short() -> None:
    """This holds for tasks and callbacks; endless arguments are shortened, and the rest of many is counted."""
    with pytest.raises(CallbackErrors) as caught, CallbackPool(max_workers=1) as pool:
        pool.apply_async(fail, ("x" * 10_000,))
    assert len(str(caught.value)) < 1300
    assert "fail('xxx" in str(caught.value)
    with pytest.raises(CallbackErrors) as caught, CallbackPool(max_workers=1, name="jobs") as pool:
        pool.apply_async(dict, ([],), {"order": 17, "by": "ada"}, callback=lambda _: fail("no such order"))
    assert "'jobs': callback of dict([], order=17, by='ada') raised ValueError: no such order" in str(caught.value)
    (error,) = caught.value.exceptions
    assert error.__notes__ == ["raised by callback of task dict([], order=17, by='ada') of 'jobs'"]
    with pytest.raises(CallbackErrors, match=r"max\(0, 1, 2, 3, 4, …\)"), CallbackPool(max_workers=1) as pool:
        pool.apply_async(max, range(9), callback=lambda _: fail())
    with pytest.raises(CallbackErrors, match=r"map of fail\('a', 'b'\)"), CallbackPool(max_workers=1) as pool:
        pool.map(fail, ["a", "b"], chunksize=2)


class Unspeakable:
    """Raises when it is put into words."""

    def __repr__(self) -> str:
        raise SystemExit("no words")


def test_an_argument_without_words_is_named_by_its_type() -> None:
    """A repr that raises, even SystemExit, neither loses the error nor ends the dispatcher."""
    pool = CallbackPool(max_workers=1)
    pool.apply_async(fail, (Unspeakable(),))
    with pytest.raises(CallbackErrors, match=r"fail\(<.*Unspeakable object>\)"):
        pool.close(LIMIT)
