"""DEADLOCK: a finalizer puts into a queue that its thread is using."""

from __future__ import annotations

import queue

log: queue.Queue[object] = queue.Queue()


class Noisy:
    """An object that reports its end."""

    def __del__(self) -> None:
        log.put("gone")


with log.mutex:
    Noisy()
