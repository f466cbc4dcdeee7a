"""At its exit 3.12 starts no thread any more: what needs one has it before the first submission returns."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

# A process executor has two threads: one of its own, which `submit` starts, and that of its queue of calls, which its
# own thread starts with the first call that it passes on. Together with the thread that submits for the pool these are
# three that a program which ends right after its first submission would not have, and its tasks would be lost.
#
# The queue's thread is started here, not waited for: the first call may be passed on only when a worker has come
# through its initializer.

THREADS_EARLY: Final = sys.version_info[:2] == (3, 12)


def start_queue_thread(executor: ProcessPoolExecutor) -> None:
    """Start the thread of the executor's queue of calls, as the first call that is put there would."""
    queue: Any = executor._call_queue
    with queue._notempty:
        if queue._thread is None:
            queue._start_thread()
