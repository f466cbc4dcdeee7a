"""The places of a cell's tasks: each kind of executor, how to get one, and how to leave none behind."""

from __future__ import annotations

import atexit
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.util import find_spec
from shutil import which
from typing import Any

from syncprims import CallbackPool

THREADS = ("thread", "ThreadPoolExecutor")
OWN_PROCESSES = ("forkserver", "spawn")
BORROWED_PROCESSES = ("ProcessPoolExecutor", "loky", "pebble")
PROCESSES = (*OWN_PROCESSES, *BORROWED_PROCESSES)
PACKED = (*PROCESSES, "interpreter")
OWN = ("thread", *OWN_PROCESSES, "interpreter")
ALL = ("thread", *OWN_PROCESSES, "interpreter", "ThreadPoolExecutor", *BORROWED_PROCESSES)

Initializer = Callable[..., object] | None


def missing(place: str) -> str | None:
    """Return why there is no such executor here, or None if there is one."""
    if place == "interpreter" and sys.version_info < (3, 14):
        return "interpreter pools came with 3.14"
    if place == "forkserver" and place not in multiprocessing.get_all_start_methods():
        return "this system has no forkserver"
    if place in ("loky", "pebble") and find_spec(place) is None:
        return f"{place} is not installed"
    if place == "loky" and find_spec("psutil") is None and which("pgrep") is None:
        return "loky needs psutil or pgrep to end its workers, and hangs at exit without"
    return None


def open_pool(place: str, *, workers: int = 2, initializer: Initializer = None, **options: Any) -> CallbackPool:
    """Return a pool of that kind; an executor that is passed in ends with the program."""
    if place in ("thread", "interpreter"):
        return CallbackPool(place, max_workers=workers, initializer=initializer, **options)  # type: ignore[arg-type]  # a literal
    if place == "forkserver":
        return CallbackPool("process", max_workers=workers, initializer=initializer, **options)
    if place == "spawn":
        return CallbackPool("process", mp_context="spawn", max_workers=workers, initializer=initializer, **options)
    return CallbackPool(_borrow(place, workers, initializer), **options)


def _borrow(place: str, workers: int, initializer: Initializer) -> Executor:
    executor: Any
    if place == "ThreadPoolExecutor":
        return ThreadPoolExecutor(workers, initializer=initializer)
    if place == "ProcessPoolExecutor":
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=initializer)
    if place == "loky":
        from loky import ProcessPoolExecutor as LokyExecutor  # type: ignore[import-untyped,unused-ignore]  # it has no stubs

        executor = LokyExecutor(workers, initializer=initializer)
        atexit.register(executor.shutdown, kill_workers=True)
        return executor  # type: ignore[no-any-return]  # loky is not typed
    from pebble import ProcessPool

    executor = ProcessPool(workers, initializer=initializer, context=multiprocessing.get_context("spawn"))
    atexit.register(executor.join, 20)
    atexit.register(executor.stop)  # runs before join
    return executor  # type: ignore[no-any-return]  # pebble's base class is a look-alike
