"""Properties that CPython's tests of executors check by private names, checked by public names: `cpython_left_out`."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from callback_pool import pool_workers
from locks.actors import LIMIT, eventually
from polling import ended, until_exists
from syncprims import CallbackPool, TransportError
from syncprims._core.gil import HAS_GIL

both = pytest.mark.parametrize("kind", ["thread", "process"])
with_gil = pytest.mark.skipif(not HAS_GIL, reason="CPython can hang in a fork beside running threads there")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@both
def test_threads_are_named_for_their_pool(kind: Any) -> None:
    """All of them begin with its name, so that stacks and profilers show whose they are."""
    before = set(threading.enumerate())
    with CallbackPool(kind, max_workers=2, name="orders") as pool:
        pool.apply_async(abs, (-1,), timeout=LIMIT).wait_settled(LIMIT)
        names = [thread.name for thread in set(threading.enumerate()) - before]
    assert "orders-worker-1" in names
    assert all(name.startswith("orders-") for name in names), names


@posix
@with_gil
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the fork beside threads is the point
@pytest.mark.parametrize("cancel", [False, True])
def test_forks_and_shutdown_while_a_task_submits_itself_again(cancel: bool) -> None:
    """No child of a fork at any moment hangs at its end, and shutdown ends the pool nevertheless."""
    pool = CallbackPool(max_workers=1)

    def again() -> None:
        pool.submit(again)

    pool.submit(again)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with CallbackPool(max_workers=1) as own:
                    code = own.submit(pow, 2, 3).result(LIMIT) - 8
            finally:
                os._exit(code)
        assert ended(child)
        assert os.waitpid(child, 0)[1] == 0
    pool.shutdown(cancel_futures=cancel)


def test_windows_takes_61_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, because a wait there takes no more handles; and None means no more than that."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ValueError, match="at most 61 on Windows, not 62"):
        CallbackPool("process", max_workers=62)


@both
def test_shutdown_ends_although_a_call_could_not_be_pickled(kind: Any) -> None:
    """If calls are pickled, submit raises the error, and nothing of the call is left."""
    before = set(threading.enumerate())
    pool = CallbackPool(kind, max_workers=2)
    assert pool.submit(abs, -42).result(LIMIT) == 42
    lock = threading.Lock()
    if kind == "process":
        with pytest.raises(TransportError, match=r"argument 0 \(a _thread.lock\)"):
            pool.submit(pool_workers.identity, lock)
    else:
        assert pool.submit(pool_workers.identity, lock).result(LIMIT) is lock
    pool.shutdown(wait=False)
    eventually(lambda: not set(threading.enumerate()) - before)


def test_shutdown_cancels_what_is_queued_in_processes(tmp_path: Path) -> None:
    """A running task ends, and the others are cancelled and get their callbacks."""
    go, begun = str(tmp_path / "go"), str(tmp_path / "begun")
    heard: list[object] = []
    pool = CallbackPool("process", max_workers=1)
    running = pool.submit(pool_workers.touch_and_wait, begun, go)
    queued = [pool.apply_async(abs, (-n,), error_callback=heard.append) for n in range(20)]
    until_exists(begun)
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in queued)
    Path(go).touch()
    pool.shutdown()
    assert running.result(0) == go
    assert [type(error) for error in heard] == [CancelledError] * 20


def test_no_more_processes_than_workers() -> None:
    """This holds for any number of tasks, and there is only one process while one is enough."""
    with CallbackPool("process", max_workers=3) as pool:
        alone = {pool.submit(os.getpid).result(LIMIT) for _ in range(5)}
        assert len(alone) == 1
        pids = {task.result(LIMIT) for task in [pool.submit(os.getpid) for _ in range(60)]}
        assert len(pids | alone) <= 3


WAYS: dict[str, Callable[[list[CallbackPool]], object]] = {
    "shutdown": lambda pools: pools[0].shutdown(),
    "shutdown without waiting": lambda pools: pools[0].shutdown(wait=False),
    "dropped": lambda pools: pools.clear(),
}


@pytest.mark.parametrize("way", WAYS)
def test_processes_end_with_their_pool(way: str) -> None:
    """Busy and idle ones end once the submitted tasks are done; and so do the pool's threads."""
    before = set(threading.enumerate())
    pools = [CallbackPool("process", max_workers=2)]
    pids = {task.result(LIMIT) for task in [pools[0].submit(os.getpid) for _ in range(20)]}
    tasks = [pools[0].submit(pow, 2, n) for n in range(20)]
    WAYS[way](pools)
    assert [task.result(LIMIT) for task in tasks] == [2**n for n in range(20)]
    assert all(map(ended, pids))
    eventually(lambda: gc.collect() >= 0 and not set(threading.enumerate()) - before)
