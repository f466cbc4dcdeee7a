"""Tasks are futures: with concurrent.futures, asyncio and multiprocessing's names; and the two maps."""

from __future__ import annotations

import asyncio
import threading
from _thread import LockType
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, as_completed, wait
from functools import partial
from typing import Any

import pytest

from locks.shared_calls import depth, is_copy, outcome_of
from syncprims import PoolTimeoutError
from syncprims._core import foreign
from syncprims._core.deadline import Deadline
from syncprims.callback_pool import CallbackPool, Task
from syncprims.callback_pool import task as _task
from syncprims.testing import Threads

LIMIT = 60.0


def test_wait_and_as_completed_take_tasks() -> None:
    """concurrent.futures.wait and as_completed work on tasks, those cancelled in the queue included."""
    hold = threading.Event()
    with CallbackPool(max_workers=1) as pool:
        first: Task[Any] = pool.submit(hold.wait, LIMIT)
        second: Task[Any] = pool.submit(len, "a")
        assert second.cancel()
        done, not_done = wait([first, second], timeout=LIMIT, return_when=FIRST_COMPLETED)
        assert (done, not_done) == ({second}, {first})
        hold.set()
        assert set(as_completed([first, second], timeout=LIMIT)) == {first, second}
        assert second.cancelled()
        with pytest.raises(CancelledError, match=f"task len of '{pool.name}' was cancelled"):
            second.result(0)


def test_running_task_cannot_be_cancelled() -> None:
    """Cancel returns False for a running and for a finished task, and `running` distinguishes them."""
    hold, running = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        assert hold.wait(LIMIT)

    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(work)
        assert running.wait(LIMIT)
        assert task.running()
        assert not task.cancel()
        hold.set()
        task.result(LIMIT)
        assert not task.running()
        assert not task.cancel()


def test_a_wait_for_a_result_that_fails_says_for_which() -> None:
    """At their limit, result, exception and get raise an error that names the task; a call's own TimeoutError stays."""
    hold, own = threading.Event(), TimeoutError("of the call")

    def work() -> None:
        assert hold.wait(LIMIT)
        raise own

    with CallbackPool(max_workers=1, name="jobs") as pool:
        task = pool.submit(work)
        for ask in (task.result, task.exception, task.get):
            with pytest.raises(PoolTimeoutError, match=r"result of <syncprims\.Task .*work of 'jobs'") as late:
                ask(0.01)
            assert (late.value.pending, late.value.timeout) == (1, 0.01)
            assert late.value.waited >= 0.01
        with pytest.raises(PoolTimeoutError, match="wait again, or cancel it"):
            task.result(0)
        hold.set()
        with pytest.raises(TimeoutError) as raised:
            task.result(LIMIT)
        assert raised.value is own


def test_a_result_that_comes_as_the_time_is_up_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may be done between the end of the wait and the next check: then there is no TimeoutError."""
    hold = threading.Event()

    def too_late(gate: LockType, deadline: Deadline) -> None:
        hold.set()
        assert gate.acquire(timeout=LIMIT)
        raise TimeoutError

    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(hold.wait, LIMIT)
        monkeypatch.setattr(_task, "pass_in_time", too_late)
        assert task.result(0.01) is True


def test_arguments_that_are_no_tuple_are_refused_at_once() -> None:
    """For apply_async(f, (3)), where a comma is missing, the error says so."""
    with CallbackPool(max_workers=1) as pool, pytest.raises(TypeError, match="args must be the arguments in a tuple"):
        pool.apply_async(abs, (3))  # type: ignore[arg-type]


def test_tasks_can_be_awaited() -> None:
    """await, wrap_future and run_in_executor give results and errors, and count as looking."""

    async def main(pool: CallbackPool) -> tuple[int, int, int, str]:
        failing = pool.apply_async(int, ("x",))
        try:
            await failing
        except ValueError as error:
            text = str(error)
        wrapped = asyncio.wrap_future(pool.apply_async(int, ("y",)))
        with pytest.raises(ValueError, match="'y'"):
            await wrapped
        loop = asyncio.get_running_loop()
        return (
            await pool.submit(len, "a"),
            await asyncio.wrap_future(pool.submit(len, "ab")),
            await loop.run_in_executor(pool, len, "abc"),
            text,
        )

    with CallbackPool(max_workers=2) as pool:
        *lengths, text = asyncio.run(main(pool))
    assert lengths == [1, 2, 3]
    assert "'x'" in str(text)


def test_multiprocessings_words() -> None:
    """get, wait, ready and successful work as in multiprocessing."""
    hold = threading.Event()
    with CallbackPool(max_workers=1) as pool:
        task = pool.apply_async(hold.wait, (LIMIT,))
        assert not task.ready()
        with pytest.raises(ValueError, match="not ready"):
            task.successful()
        task.wait(0.01)
        with pytest.raises(TimeoutError):
            task.get(0.01)
        with pytest.raises(ValueError, match="timeout"):
            task.get(-1)
        hold.set()
        assert task.get(LIMIT) is True
        assert task.ready()
        assert task.successful()
        failing = pool.apply_async(int, ("x",))
        failing.wait(LIMIT)
        assert not failing.successful()
        assert isinstance(failing.exception(), ValueError)


def test_without_the_gil_one_thread_at_most_raises_the_exception_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.13 may crash if several do. The others get copies, none with another's traceback."""
    monkeypatch.setattr(foreign, "SEVERAL_MAY_RAISE", False)
    error = KeyError("no")

    def fail() -> None:
        raise error

    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(fail)
        assert [outcome_of(partial(task.result, LIMIT)) for _ in range(2)] == [error, error]
        with Threads() as threads:
            jobs = [threads.start(outcome_of, partial(task.result, LIMIT)) for _ in range(3)]
        copies = [job.result() for job in jobs]
        assert task.exception() is error
    assert len({id(each) for each in [*copies, error]}) == 4
    assert all(is_copy(each, error) and depth(each) < 10 for each in copies)


def test_repr_tells_what_and_how_far() -> None:
    """A task's repr names the function, the pool and the state."""
    with CallbackPool(name="shop") as pool:
        task = pool.submit(sorted, [2, 1])
        task.wait_settled(LIMIT)
        assert repr(task) == "<syncprims.Task sorted of 'shop', settled>"


@pytest.mark.parametrize("chunksize", [1, 3, 64])
@pytest.mark.parametrize("max_pending", [None, 2])
def test_map_gives_results_in_order(chunksize: int, max_pending: int | None) -> None:
    """Map pairs its iterables up to the shortest and gives results in order, with any chunk size."""
    with CallbackPool(max_workers=3, max_pending=max_pending) as pool:
        assert list(pool.map(pow, range(20), [2] * 15, chunksize=chunksize)) == [i**2 for i in range(15)]
        assert list(pool.map(abs, [], chunksize=chunksize)) == []
        unordered = pool.map_unordered(abs, range(20), chunksize=chunksize)
        assert sorted(unordered) == list(range(20))


def test_map_submits_at_the_call() -> None:
    """Map begins its calls before any iteration, and at most max_pending chunks of them."""
    taken: list[int] = []
    ran = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    def work(i: int) -> int:
        ran.release()
        return i

    with CallbackPool(max_workers=2, max_pending=4) as pool:
        results = pool.map(work, items())
        for _ in range(4):
            assert ran.acquire(timeout=LIMIT)
        assert taken == [0, 1, 2, 3]
        assert list(results) == list(range(10))


def test_chunk_is_one_task() -> None:
    """A chunk of items makes one task, also on threads."""
    with CallbackPool(max_workers=2) as pool:
        list(pool.map(abs, range(128), chunksize=64))
        pool.join(LIMIT)
        assert pool.stats.submitted == 2


def test_map_unordered_gives_what_is_done_first() -> None:
    """A slow first item does not delay the second one's result."""
    hold = threading.Event()

    def work(i: int) -> int:
        if i == 0:
            assert hold.wait(LIMIT)
        return i

    with CallbackPool(max_workers=2) as pool:
        results = pool.map_unordered(work, [0, 1])
        assert next(results) == 1
        hold.set()
        assert list(results) == [0]


@pytest.mark.parametrize("name", ["map", "map_unordered"])
def test_map_times_out_and_cancels_the_rest(name: str) -> None:
    """A map that is late raises during iteration, and tasks that have not begun are cancelled."""
    hold = threading.Event()
    with CallbackPool(max_workers=1) as pool:
        results = getattr(pool, name)(lambda _: hold.wait(LIMIT), range(3), timeout=0.02)
        with pytest.raises(PoolTimeoutError, match=r"3 submitted chunks are not done, .* longer timeout") as caught:
            next(results)
        assert caught.value.pending == 3
        hold.set()
        pool.join(LIMIT)
        assert pool.stats.cancelled == 2
        with pytest.raises(ValueError, match="timeout"):
            getattr(pool, name)(abs, [1], timeout=-1)


@pytest.mark.parametrize("name", ["map", "map_unordered"])
def test_map_raises_what_a_call_raised_and_cancels_the_rest(name: str) -> None:
    """The iterator raises the first failure; the others are not raised."""
    with CallbackPool(max_workers=1) as pool:
        results = getattr(pool, name)(int, ["1", "x", "y", "3"])
        assert next(results) == 1
        with pytest.raises(ValueError, match="'x'"):
            next(results)
        assert list(results) == []


def test_no_callback_is_lost_or_doubled_in_a_race_of_ends() -> None:
    """Tasks that are cancelled, time out, fail and succeed at once call exactly one of their callbacks each."""
    calls: list[int] = []
    start = threading.Barrier(3)

    def note(i: int) -> Callable[[Any], None]:
        return lambda _: calls.append(i)

    with CallbackPool(max_workers=4) as pool:
        tasks: list[Task[Any]] = []

        def submit(offset: int) -> None:
            start.wait(LIMIT)
            for i in range(offset, offset + 300):
                function = (lambda: None) if i % 3 else (lambda: 1 // 0)
                timeout = 0.0001 if i % 2 else None
                tasks.append(pool.apply_async(function, callback=note(i), error_callback=note(i), timeout=timeout))

        def cancel() -> None:
            start.wait(LIMIT)
            for _ in range(2000):
                for task in tasks[-3:]:
                    task.cancel()

        threads = [threading.Thread(target=submit, args=(n,)) for n in (0, 300)] + [threading.Thread(target=cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        pool.join(LIMIT)
    assert sorted(calls) == list(range(600))
    assert pool.stats.abandoned == 0
