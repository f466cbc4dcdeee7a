"""`keep_if_broken`: keeps a broken standard process executor from being collected by its own thread, which would hang.

From 3.12 to 3.12.7 and in 3.13.0 (gh-125451), the thread that fails the futures of a broken executor holds a lock, and
the executor's collection acquires the same lock. A future's callback may have the last reference to the executor, for
example after a task expired in a pool that is gone. Then the thread waits for itself, and the program's exit waits for
the thread.
"""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor, Executor
from typing import Final

NEEDED: Final = (3, 12) <= sys.version_info < (3, 12, 8) or (3, 13) <= sys.version_info < (3, 13, 1)

_kept: dict[int, Executor] = {}  # they cost little: their processes and threads have ended


def keep_if_broken(executor: Executor, error: BaseException | None) -> None:
    """Keep the executor until the program ends, if this error of a future says that it is broken."""
    if NEEDED and issubclass(type(error), BrokenExecutor) and _is_standard(executor):
        _kept[id(executor)] = executor


def _is_standard(executor: Executor) -> bool:
    return any(
        (kind.__module__, kind.__qualname__) == ("concurrent.futures.process", "ProcessPoolExecutor")
        for kind in type(executor).__mro__
    )
