"""DEADLOCK: a signal handler takes the lock that the interrupted code holds."""

from __future__ import annotations

import signal
import threading

counters = threading.Lock()


def count(*_: object) -> None:
    with counters:
        pass


signal.signal(signal.SIGTERM, count)
with counters:
    signal.raise_signal(signal.SIGTERM)
