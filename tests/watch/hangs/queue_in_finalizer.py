"""DEADLOCK: a finalizer puts into a queue that its thread is at work in."""

from __future__ import annotations

import queue

log: queue.Queue[object] = queue.Queue()


class Noisy:
    """Something that says when it goes."""

    def __del__(self) -> None:
        log.put("gone")


with log.mutex:
    Noisy()
