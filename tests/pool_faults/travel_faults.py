"""Faults of pickling: calls, results and exceptions that can't be pickled or unpickled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from callback_pool.pool_workers import (
    LockError,
    Refusing,
    TwoArgumentError,
    add,
    identity,
    lock_result,
    raise_lock_error,
    raise_two_argument_error,
    refusing_result,
)
from syncprims import TransportError

from .fault_places import PACKED, open_pool
from .rows import ERROR, WORKS, row
from .witness import LIMIT, Witness, finish, raises, still_works


def outcome(place: str, fn: Callable[[], Any], kind: type, words: str) -> str:
    """Run the function among normal tasks: a clear error if it is pickled, otherwise the function's own outcome."""
    pool = open_pool(place)
    witness = Witness(pool)
    before = witness.send(add, 1)
    culprit = witness.send(fn)
    after = witness.send(add, 2)
    assert (before.result(LIMIT), after.result(LIMIT)) == (1, 2)
    told = witness.heard()[1]
    if place in PACKED:
        assert isinstance(told, TransportError), told
        assert words in str(told), told
        assert culprit.exception(0) is told
    else:
        assert isinstance(told, kind)
    still_works(witness)
    finish(pool)
    return ERROR if place in PACKED else WORKS


@row("exception cannot be pickled")
def unpicklable_exception(place: str) -> str:
    """The error describes it, and its cause is the remote traceback."""
    return outcome(place, raise_lock_error, LockError, "LockError: holds a lock")


@row("exception cannot be unpickled")
def ununpicklable_exception(place: str) -> str:
    """An exception that can be pickled but not unpickled is the clear error of that task alone."""
    return outcome(place, raise_two_argument_error, TwoArgumentError, "TwoArgumentError: 7: lost on the way")


@row("result cannot be pickled")
def unpicklable_result(place: str) -> str:
    """The error names the function and the type that it returned."""
    return outcome(place, lock_result, type(threading.Lock()), "lock_result() returned a _thread.lock")


@row("result cannot be unpickled")
def ununpicklable_result(place: str) -> str:
    """The error comes from this side, and breaks nothing here."""
    return outcome(place, refusing_result, Refusing, "result can't be unpickled here")


@row("argument cannot be pickled")
def unpicklable_argument(place: str) -> str:
    """Submit refuses it at once, by name; without pickling it works."""
    pool = open_pool(place)
    witness = Witness(pool)
    lock = threading.Lock()
    if place in PACKED:
        for start in (pool.submit, lambda fn, arg: pool.apply_async(fn, (arg,))):
            with raises(TransportError, match=r"argument 0 \(a _thread.lock\)"):
                start(identity, lock)
        assert pool.stats.submitted == 0
    else:
        assert pool.submit(identity, lock).result(LIMIT) is lock
    still_works(witness)
    finish(pool)
    return "E by submit" if place in PACKED else WORKS


@row("argument cannot be unpickled")
def ununpicklable_argument(place: str) -> str:
    """It fails in the worker, and only its own task."""
    pool = open_pool(place)
    witness = Witness(pool)
    before = witness.send(add, 1)
    witness.send(identity, Refusing())
    after = witness.send(add, 2)
    assert (before.result(LIMIT), after.result(LIMIT)) == (1, 2)
    told = witness.heard()[1]
    if place in PACKED:
        assert isinstance(told, TransportError), told
        assert "will not be unpickled" in str(told)
    else:
        assert isinstance(told, Refusing)
    still_works(witness)
    finish(pool)
    return ERROR if place in PACKED else WORKS


@row("lambda or closure")
def closure(place: str) -> str:
    """Submit refuses it and advises an alternative, which works; threads accept it unchanged."""
    factor = 6
    pool = open_pool(place)
    if place in PACKED:
        with raises(TransportError, match=r"dumps=cloudpickle\.dumps"):
            pool.submit(lambda n: factor * n, 7)
        finish(pool)
        import cloudpickle

        pool = open_pool(place, dumps=cloudpickle.dumps)
    assert pool.submit(lambda n: factor * n, 7).result(LIMIT) == 42
    finish(pool)
    return "E by submit, or ✓" if place in PACKED else WORKS
