"""Interpreter exit: open pools drain first, as with the standard executors."""

from __future__ import annotations

import atexit
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from ..errors import PoolClosedError

# Plain `atexit` runs too late: by then threading has joined its threads, and no new thread may start. The executors'
# own modules use a private list of threading, whose newest handler is called first. So we register again whenever an
# executor's module may have registered a handler. Otherwise that handler would end the executor before we have drained
# our pools.


class Drains(Protocol):
    """A pool, as its end with the program sees it; in a forked child the methods do nothing."""

    def must_drain(self) -> bool:
        """Whether it has tasks, and no abort has given them up."""

    def drain(self) -> None:
        """Block until it has no tasks."""

    def abort(self) -> object:
        """Cancel the tasks that have not begun."""

    def end_with_program(self) -> None:
        """Close it, and wait a moment for its workers."""


# A pool that is made after the end of the main thread comes too late for that list. Plain `atexit` drains it. The
# newest of its handlers is called first. Ours is registered before there is a pool, so it comes after those of the
# program. A pool that is made still later, in an older handler or in a finalizer, raises an error, because its
# callbacks would be lost.

_pools: WeakSet[Drains] = WeakSet()
_seen_handlers: set[str] = set()
_last: dict[Callable[[], None], None] = {}


def _starts_threads() -> bool:
    """Whether a thread can be started now."""
    try:
        start_new_thread(bool, ())
    except RuntimeError:
        return False
    return True


def refuse_when_over(pool_name: str, *, processes: bool = False) -> None:
    """Raise if the program is so near its end that a new pool, or one of processes, could not work."""
    if processes and not threading.main_thread().is_alive():
        raise PoolClosedError(
            f"{pool_name!r} can't be made, as the main thread has ended: Python's process executors take no calls "
            "after that. Make it earlier, or use executor='thread'"
        )
    if _over or sys.is_finalizing():
        raise PoolClosedError(
            f"{pool_name!r} can't be made, as the program has ended: its callbacks would be lost. Make it earlier, and "
            "leave it open; it is drained at the end. Or call the function without a pool"
        )
    if not threading.main_thread().is_alive() and not _starts_threads():
        raise PoolClosedError(
            f"{pool_name!r} can't be made, as the main thread has ended, after which Python 3.12 starts no thread. "
            "Make it and submit a first task earlier, or let the main thread wait"
        )


def exit_has_begun() -> bool:
    """Whether the main thread has ended, so that no handler can be registered for its end any more."""
    return not _registered(bool)  # a handler that does nothing


def drain_at_exit(pool: Drains) -> None:
    """Let the pool drain at exit."""
    _pools.add(pool)
    drain_before("syncprims")


def drain_before(handler: str) -> None:
    """Let all pools drain before the named exit handler, which is registered already, runs."""
    if handler in _seen_handlers:
        return
    _seen_handlers.add(handler)
    _registered(_drain_all)


def _registered(handler: Callable[[], object]) -> bool:
    """Register a handler for the end of the main thread; False if exit has begun already."""
    try:
        # The function is private; without it, plain atexit is the next best choice.
        getattr(threading, "_register_atexit", atexit.register)(handler)
    except RuntimeError:
        return False
    return True


def after_draining(handler: Callable[[], None]) -> None:
    """Run the handler each time when the pools have been drained and ended."""
    _last[handler] = None


def _drain_all() -> None:
    try:
        # A callback of one pool may submit to another, or make one. So this is over only when all are idle at once.
        while busy := _busy():
            for pool in busy:
                pool.drain()
    except BaseException:
        for pool in _busy():
            pool.abort()
        raise
    finally:
        for pool in list(_pools):
            pool.end_with_program()
        for handler in list(_last):
            handler()


def _drain_last() -> None:
    global _over
    _over = True
    _drain_all()


def _in_exit_handler() -> bool:
    main = threading.main_thread()
    return not main.is_alive() and main is threading.current_thread()


_over = _in_exit_handler()  # if an exit handler imports this file, no other handler can be registered to drain a pool
atexit.register(_drain_last)


def _busy() -> list[Drains]:
    return [pool for pool in list(_pools) if pool.must_drain()]
