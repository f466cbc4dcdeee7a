"""Executors that are passed in: which calls are pickled, which arguments are refused, and the interpreter kind."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from callback_pool import pool_workers
from syncprims import DeadlockError, TransportError
from syncprims.callback_pool import CallbackPool

LIMIT = 60.0


class Inline(Executor):
    """An executor of an unknown kind: it runs calls in the submitter's thread."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert not kwargs
        self.got.append(fn)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True


def test_unknown_executor_gets_packed_calls() -> None:
    """An executor of unknown kind may use processes, so calls are pickled, and callbacks run elsewhere."""
    executor = Inline()
    seen: list[tuple[int, int]] = []
    with CallbackPool(executor) as pool:
        pool.apply_async(pool_workers.add, (1, 2), callback=lambda n: seen.append((n, threading.get_ident())))
        with pytest.raises(TransportError):
            pool.submit(lambda: 1)
        with pytest.raises(ValueError, match="remote"):
            pool.submit(pool_workers.fail, "remote").result(LIMIT)
        pool.join(LIMIT)
    assert [n for n, _ in seen] == [3]
    assert seen[0][1] != threading.get_ident()
    assert not executor.closed
    assert len({id(fn) for fn in executor.got}) == 1


def test_envelope_can_be_left_out() -> None:
    """envelope=False passes the call itself; a task that runs in the submitter's thread still counts as inside."""
    with CallbackPool(Inline(), envelope=False) as pool:
        assert pool.submit(lambda: 5).result(LIMIT) == 5
        assert isinstance(pool.submit(pool.join).exception(LIMIT), DeadlockError)
        pool.join(LIMIT)


def test_arguments_that_belong_to_the_executor_are_refused() -> None:
    """max_workers and initializer can't be changed on an existing executor."""
    for arguments in ({"max_workers": 2}, {"initializer": int}):
        with pytest.raises(ValueError, match="set them there"):
            CallbackPool(Inline(), **arguments)


def test_dask_with_pure_calls_is_refused() -> None:
    """Dask's executor runs equal calls once unless pure=False, so the default is refused."""
    kind = type("ClientExecutor", (Inline,), {"__module__": "distributed.cfexecutor", "_kwargs": {}})
    with pytest.raises(ValueError, match="pure=False"):
        CallbackPool(kind())
    kind = type("ClientExecutor", (Inline,), {"__module__": "distributed.cfexecutor", "_kwargs": {"pure": False}})
    with CallbackPool(kind()) as pool:
        assert pool.submit(pool_workers.add, 1).result(LIMIT) == 1


def test_pool_over_a_pool() -> None:
    """A pool is an executor, so another pool can run on it."""
    with CallbackPool(max_workers=1) as inner, CallbackPool(inner) as outer:
        seen: list[int] = []
        outer.apply_async(pool_workers.add, (1, 2), callback=seen.append).wait_settled(LIMIT)
        assert seen == [3]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there they are")
def test_interpreters_before_they_exist() -> None:
    """On older versions the error says what the interpreter kind needs."""
    with pytest.raises(ValueError, match=r"Python 3\.14"):
        CallbackPool("interpreter")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreter pools came with 3.14")
def test_interpreters_run_tasks() -> None:
    """The interpreter kind runs pickled calls, with results, errors and callbacks."""
    seen: list[int] = []
    with CallbackPool("interpreter", max_workers=1) as pool:
        # Builtins, because an interpreter has its own sys.path, without the tests' folder.
        pool.apply_async(pow, (2, 3), callback=seen.append)
        with pytest.raises(TransportError):
            pool.submit(lambda: 1)
        assert isinstance(pool.submit(int, "x").exception(LIMIT), ValueError)
        assert isinstance(pool.submit(compile, "1", "code", "eval").exception(LIMIT), TransportError)
    assert seen == [8]
