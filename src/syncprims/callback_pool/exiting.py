"""Interpreter exit: pools that were left open drain first, as the standard executors do."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from .pool import CallbackPool

# Plain `atexit` runs too late: by then threading has joined what it joins, and no new thread may start. The executors'
# own modules use threading's private list, which is called newest first. So we register anew whenever an executor of
# another module comes in, lest that module end its executor before we have drained ours.

_pools: WeakSet[CallbackPool] = WeakSet()
_seen_modules: set[str] = set()


def drain_at_exit(pool: CallbackPool, module: str) -> None:
    """Let the pool drain at exit, before the module that its executor is from shuts down."""
    _pools.add(pool)
    if module in _seen_modules:
        return
    _seen_modules.add(module)
    try:
        # It is private; without it, plain atexit is the next best.
        getattr(threading, "_register_atexit", atexit.register)(_drain_all)
    except RuntimeError:  # exit has begun already
        pass


def _drain_all() -> None:
    try:
        # A callback of one pool may submit to another, or make one: only when all are idle at once is it over.
        while busy := [pool for pool in _living() if pool._must_drain()]:
            for pool in busy:
                pool._drain()
    except BaseException:
        for pool in _living():
            pool.abort()
        raise
    finally:
        for pool in _living():
            pool._end()


def _living() -> list[CallbackPool]:
    return [pool for pool in list(_pools) if pool._intake.phase != "forked"]
