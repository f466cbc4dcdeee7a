"""`check_pool` rejects broken pools, names their faults, and passes the library's own on all executors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from syncprims import CallbackPool
from syncprims.testing import check_pool
from testing import broken
from testing.rejections import expect_named

BROKEN: list[tuple[type[CallbackPool], str]] = [
    (broken.CallsBackTwice, "a callback gets the result, and is called once"),
    (broken.ForgetsErrorCallback, "an error callback gets the exception, and is called once"),
    (broken.CallsBackInThreads, "callbacks run one at a time, on one thread that is not the submitter's"),
    (broken.DropsErrors, "a failure of apply_async() that no code looks at is raised by join(), once"),
    (broken.ForgetsMaps, "what no code looked at is raised by join(), of a map and of a dropped submit() too"),
    (broken.ShutsDownLater, "shutdown() ends though callbacks submit on and on, and raises no group"),
    (broken.LeavesEarly, "leaving the with waits for every callback"),
    (broken.IgnoresLimit, "max_pending blocks submit() from outside, and not from callbacks"),
    (broken.AbortsNothing, "abort() cancels queued tasks, calls every callback and returns the running tasks"),
    (broken.MapsBackwards, "map() gives results in the order of the items"),
]


@pytest.mark.parametrize(("cls", "clause"), BROKEN)
def test_broken_pool_is_rejected(cls: type[CallbackPool], clause: str) -> None:
    """A pool with one fault is rejected, and the clause that it breaks is named."""
    expect_named(check_pool, cls, clause, most_kept=False)


def process_pool(**kwargs: Any) -> CallbackPool:
    return CallbackPool("process", **kwargs)


def test_process_pool_keeps_the_contract() -> None:
    """The whole contract holds with worker processes."""
    report = check_pool(process_pool)
    assert (len(report.kept), report.not_run) == (34, ())


def test_pool_over_a_foreign_executor_keeps_the_contract() -> None:
    """The whole contract holds with an executor that was passed in."""
    executors: list[ThreadPoolExecutor] = []

    def make(max_workers: int, **kwargs: Any) -> CallbackPool:
        executors.append(ThreadPoolExecutor(max_workers))
        return CallbackPool(executors[-1], **kwargs)

    def factory(max_workers: int | None = None, **kwargs: Any) -> CallbackPool:
        return make(2 if max_workers is None else max_workers, **kwargs)

    try:
        assert check_pool(factory).not_run == ()
    finally:
        for executor in executors:
            executor.shutdown(wait=False)
