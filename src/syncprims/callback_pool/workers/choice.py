"""Choosing the backend by the pool's arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor

from ..arguments import KINDS, refuse_kind
from ..at_exit import refuse_when_over
from .backend import Backend, BackendOptions
from .borrowed import Borrowed, crosses_processes, has_threads, refuse_unsuitable
from .threads import ThreadWorkers


def make_backend(executor: Executor | str, envelope: bool | None, options: BackendOptions) -> Backend:
    """Return the backend; the exit handler of its executor's module comes after the pools' own.

    Args:
        executor: That of the pool.
        envelope: That of the pool.
        options: A ``max_workers`` of 0 means the default of the kind.
    """
    if not isinstance(executor, str):
        refuse_unsuitable(executor)
        if options.max_workers or options.initializer is not None:
            raise ValueError("max_workers and initializer belong to the executor that was handed in: set them there")
        _refuse_for_others("an executor that was handed in", options)
        packs = crosses_processes(executor) if envelope is None else envelope
        if not packs and has_threads(executor):
            from .drains import Drained, has_drains

            if has_drains(executor):
                return Drained(executor, options)
        return Borrowed(executor, packs, options)
    if executor not in KINDS:
        refuse_kind(executor)
    if envelope is not None:
        raise ValueError(f"envelope is for executors that are handed in; {executor!r} needs no telling")
    if executor != "process":
        _refuse_for_others(repr(executor), options)
    else:
        most = 61 if sys.platform == "win32" else None
        if most is not None and options.max_workers > most:
            raise ValueError(f"max_workers must be at most {most} on Windows, not {options.max_workers}")
        refuse_when_over(options.open_tasks.name, processes=True)
        from .processes import ProcessWorkers

        return ProcessWorkers(_staffed(options, cpus() if most is None else min(most, cpus())))
    options = _staffed(options, min(32, cpus() + 4))
    if executor == "thread":
        return ThreadWorkers(options)
    from importlib.util import find_spec

    if find_spec("concurrent.interpreters") is None:
        raise ValueError("executor='interpreter' needs Python 3.14 or later; 'thread' and 'process' work")
    from .interpreters import InterpreterWorkers

    return InterpreterWorkers(options)


def _refuse_for_others(executor: str, options: BackendOptions) -> None:
    for name, value in (("mp_context", options.mp_context), ("max_tasks_per_child", options.max_tasks_per_child)):
        if value is not None:
            raise ValueError(f"{name} is for executor='process', not for {executor}")


def _staffed(options: BackendOptions, default: int) -> BackendOptions:
    return options if options.max_workers else options._replace(max_workers=default)


def cpus() -> int:
    """Return how many CPUs this process may use."""
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1
