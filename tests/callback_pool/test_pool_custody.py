"""Custody: a process executor forgets futures when it breaks, as on 3.11; here the test breaks it by hand."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from typing import Any

import pytest

from callback_pool import pool_workers
from syncprims import CallbackPool
from syncprims.callback_pool.cpython.forgotten_futures_before_312 import Custody, end
from syncprims.testing import Threads

LIMIT = 60.0


class Forgetful(ProcessPoolExecutor):
    """Accepts calls and never runs them; breaks when the test says so, and notifies no future."""

    def __init__(self) -> None:
        super().__init__(1)
        self.inners: list[Future[Any]] = []
        self.breaks_in_submit = False
        self.fails_half_way = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.breaks_in_submit:
            self._broken = True
        if self.fails_half_way:
            raise OSError("handle is closed")
        self.inners.append(Future())
        return self.inners[-1]


only_where_needed = pytest.mark.skipif(sys.version_info >= (3, 12), reason="forgets none from 3.12 on")


@only_where_needed
@pytest.mark.parametrize("fails_half_way", [False, True])
def test_handed_in_executor_that_forgets_is_noticed(fails_half_way: bool) -> None:
    """The submission that finds the executor broken fails every forgotten task, and raises its own error."""
    executor = Forgetful()
    pool = CallbackPool(executor)
    told: list[BaseException] = []
    earlier = pool.apply_async(pool_workers.add, (1,), error_callback=told.append)
    executor.breaks_in_submit, executor.fails_half_way = True, fails_half_way
    if fails_half_way:
        with pytest.raises(BrokenProcessPool, match="make a new one") as caught:
            pool.submit(pool_workers.add, 2)
        assert isinstance(caught.value.__cause__, OSError)
    else:
        assert isinstance(pool.submit(pool_workers.add, 2).exception(LIMIT), BrokenExecutor)
    earlier.wait_settled(LIMIT)
    assert [type(error) for error in told] == [BrokenProcessPool]
    pool.close(LIMIT)


@only_where_needed
def test_other_errors_of_submit_come_out_as_they_are() -> None:
    """If the executor is not broken, its error is raised unchanged."""
    executor = Forgetful()
    executor.fails_half_way = True
    with CallbackPool(executor) as pool, pytest.raises(OSError, match="handle is closed"):
        pool.submit(pool_workers.add, 2)


@only_where_needed
def test_cancelled_future_does_not_stop_the_one_who_tells() -> None:
    """A broken executor may fail a future in custody although the future is cancelled."""
    inner: Future[bytes] = Future()
    Custody(Forgetful()).prepare(inner)
    assert inner.cancel()
    inner.set_exception(BrokenProcessPool("a worker died"))
    assert inner.cancelled()


def test_custody_ends_with_the_future() -> None:
    """A future that is done is not kept, whether it was done before or is given back."""
    custody = Custody(Forgetful())
    early, late = Future[bytes](), Future[bytes]()
    early.set_result(b"")
    custody.take(early)
    custody.take(late)
    assert list(custody._inners) == [late]
    custody.give_back(late)
    assert not custody._inners


def test_ending_an_executor_that_waits_for_its_workers_blocks_on_nothing() -> None:
    """From 3.13 on its own thread holds the lock of `shutdown` while it waits: forever, if a worker does not end."""
    executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with executor._shutdown_lock, Threads() as threads:
        threads.start(end, executor).result(LIMIT)
    end(executor)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
