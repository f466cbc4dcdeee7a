"""DEADLOCK: a thread ended with a lock."""

from __future__ import annotations

import threading

lock = threading.RLock()


def work() -> None:
    lock.acquire()


worker = threading.Thread(target=work, name="worker")
worker.start()
worker.join()
with lock:
    pass
