"""At its exit 3.12 starts no thread any more: what needs one has it before the first submission returns."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

# A process executor has two threads: one of its own, which `submit` starts after a worker, and that of its queue of
# calls, which its own thread starts with the first call that it passes on. Together with the thread that submits for
# the pool these are three that a program which ends right after its first submission would not have, and its tasks
# would be lost. They are started here without a worker, so that a submission does not wait for the start of one.

THREADS_EARLY: Final = sys.version_info[:2] == (3, 12)


def start_executors_threads(executor: ProcessPoolExecutor) -> None:
    """Start the threads of an executor that has no calls yet."""
    inside: Any = executor
    with inside._shutdown_lock:
        inside._start_executor_manager_thread()
    queue = inside._call_queue
    with queue._notempty:
        if queue._thread is None:
            queue._start_thread()
