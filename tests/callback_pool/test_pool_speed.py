"""The pool's speed: fewer wakeups and lighter tasks, and nothing is lost by that."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from queue import SimpleQueue

import pytest

from syncprims import CallbackPool
from syncprims.callback_pool import dispatcher
from syncprims.callback_pool.dispatcher import _MANY
from syncprims.callback_pool.workers.backend import Backend

LIMIT = 60.0


# -- the dispatcher's rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queued", "rests"), [(_MANY, 1), (_MANY - 1, 0)])
def test_dispatcher_rests_only_while_many_tasks_are_open(
    monkeypatch: pytest.MonkeyPatch, queued: int, rests: int
) -> None:
    """With a backend that asks for it, it rests when its inbox is empty and many tasks are left."""
    rested: SimpleQueue[float] = SimpleQueue()
    monkeypatch.setattr(Backend, "rest", 0.25)
    monkeypatch.setattr(dispatcher, "sleep", rested.put)
    begin, hold = threading.Event(), threading.Event()
    with CallbackPool(max_workers=1) as pool:
        pool.submit(begin.wait, LIMIT)
        for _ in range(queued):
            pool.submit(hold.wait, LIMIT)
        begin.set()
        for _ in range(rests):
            assert rested.get(timeout=LIMIT) == 0.25
        hold.set()
    assert rested.empty()


# -- light tasks and maps ----------------------------------------------------------------------------------------------


def test_task_has_all_that_a_future_has() -> None:
    """A task or its class has everything that the constructor of Future would have stored."""
    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(len, "abc")
    for name in vars(Future()):
        assert hasattr(task, name), name


def test_two_wait_for_one_task_each_with_a_limit() -> None:
    """Waiters of a task time out on their own, and are all released when it is done."""
    hold, results = threading.Event(), []
    with CallbackPool(max_workers=1) as pool:
        task = pool.submit(hold.wait, LIMIT)
        with pytest.raises(TimeoutError):
            task.result(0.01)
        waiters = [threading.Thread(target=lambda: results.append(task.result(LIMIT)), daemon=True) for _ in range(2)]
        for waiter in waiters:
            waiter.start()
        hold.set()
        for waiter in waiters:
            waiter.join(LIMIT)
    assert results == [True, True]


class Thing:
    """An object that allows weak references."""


@pytest.mark.parametrize("way", ["map", "map_unordered"])
def test_map_keeps_no_result_that_was_taken(way: str) -> None:
    """Once a result of a chunk is taken, only its taker refers to it."""
    with CallbackPool(max_workers=1) as pool:
        results: Iterator[Thing] = getattr(pool, way)(lambda _: Thing(), range(3), chunksize=3)
        taken = weakref.ref(next(results))
        gc.collect()  # free-threaded builds leave objects of another thread to the collector
        assert taken() is None
        assert len(list(results)) == 2


@pytest.mark.parametrize("iterables", [(), ([],), ([1], [])])
def test_map_over_nothing(iterables: tuple[list[int], ...]) -> None:
    """Without items, or without iterables, a map has no results, like the builtin."""
    with CallbackPool(max_workers=1) as pool:
        assert list(pool.map(lambda *_: 1, *iterables)) == []


def stop(_: int) -> int:
    raise StopIteration("this is no end")


def test_map_does_not_end_by_a_call_that_raises_stop_iteration() -> None:
    """The exception of a call is an error of the map, never its silent end."""
    with CallbackPool(max_workers=1) as pool, pytest.raises(RuntimeError) as caught:
        list(pool.map(stop, range(3), chunksize=3))
    assert isinstance(caught.value.__cause__, StopIteration)
