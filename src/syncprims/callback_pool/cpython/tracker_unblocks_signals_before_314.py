"""`signal_mask_kept`: starting processes leaves the calling thread's blocked signals as they are.

Up to 3.12 and in the first releases of 3.13, the start of multiprocessing's resource tracker ends by unblocking SIGINT
and SIGTERM in the calling thread, even if that thread had blocked them before. A program may block SIGTERM in all
threads and wait for it by `signal.sigwait`. The signal would then end it, because a thread of the pool lets it in.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signal_mask_kept() -> Iterator[None]:
    """Give the calling thread the same blocked signals after the block as before."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
