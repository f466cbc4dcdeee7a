"""Interpreter exit: pools that were left open drain first, as the standard executors do."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from .pool import CallbackPool

# Plain `atexit` runs too late: by then threading has joined what it joins, and no new thread may start. The executors'
# own modules use threading's private list, which is called newest first. So we register anew whenever an executor's
# module may have registered a handler, lest that end the executor before we have drained ours.

_pools: WeakSet[CallbackPool] = WeakSet()
_seen_handlers: set[str] = set()
_last: dict[Callable[[], None], None] = {}


def drain_at_exit(pool: CallbackPool) -> None:
    """Let the pool drain at exit."""
    _pools.add(pool)
    drain_before("syncprims")


def drain_before(handler: str) -> None:
    """Let all pools drain before that exit handler runs, which has been registered just now at the latest."""
    if handler in _seen_handlers:
        return
    _seen_handlers.add(handler)
    try:
        # It is private; without it, plain atexit is the next best.
        getattr(threading, "_register_atexit", atexit.register)(_drain_all)
    except RuntimeError:  # exit has begun already
        pass


def after_draining(handler: Callable[[], None]) -> None:
    """Let the handler run each time that the pools were drained and ended."""
    _last[handler] = None


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
        for handler in list(_last):
            handler()


def _living() -> list[CallbackPool]:
    return [pool for pool in list(_pools) if pool._intake.phase != "forked"]
