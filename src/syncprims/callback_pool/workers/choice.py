"""From the pool's arguments to the place where its tasks run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from ..at_exit import drain_before
from ..inside import Mark
from ..travel.envelope import Dumps, portable
from .backend import Backend
from .borrowed import Borrowed, crosses_processes, refuse_unsuitable
from .threads import ThreadWorkers

KINDS = ("thread", "process", "interpreter")


def make_backend(
    executor: Executor | str,
    name: str,
    mark: Mark,
    *,
    max_workers: int | None,
    dumps: Dumps,
    flush: bool,
    envelope: bool | None,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Backend:
    """Return the backend; the exit handler of its executor's module comes after the pools' own."""
    if not isinstance(executor, str):
        refuse_unsuitable(executor)
        if max_workers is not None or initializer is not None:
            raise ValueError("max_workers and initializer belong to the executor that was handed in: set them there")
        packs = crosses_processes(executor) if envelope is None else envelope
        return Borrowed(executor, packs=packs, dumps_blob=portable(dumps), flush=flush)
    if executor not in KINDS:
        raise ValueError(f"executor must be one of {', '.join(map(repr, KINDS))} or an Executor, not {executor!r}")
    if envelope is not None:
        raise ValueError(f"envelope is for executors that are handed in; {executor!r} needs no telling")
    if executor == "thread":
        workers = max_workers or min(32, _cpus() + 4)
        return ThreadWorkers(name, mark, workers, initializer, initargs)
    if executor == "process":
        from .crew import process_executor_maker
        from .processes import ProcessWorkers

        workers = max_workers or (min(61, _cpus()) if sys.platform == "win32" else _cpus())
        if sys.platform == "win32" and workers > 61:
            raise ValueError(f"max_workers must be at most 61 on Windows, not {workers}")
        make = process_executor_maker(workers, initializer, initargs)
        drain_before("concurrent.futures.process")
        return ProcessWorkers(name, workers, make, dumps_blob=portable(dumps), flush=flush)
    from importlib.util import find_spec

    if find_spec("concurrent.interpreters") is None:
        raise ValueError("executor='interpreter' needs Python 3.14 or later; 'thread' and 'process' work")
    from .interpreters import InterpreterWorkers

    workers = max_workers or min(32, _cpus() + 4)
    return InterpreterWorkers(name, mark, workers, initializer, initargs, dumps=dumps, flush=flush)


def _cpus() -> int:
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1
