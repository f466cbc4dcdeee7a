"""DEADLOCK: the same with a plain lock, and no thread is left that could release it."""

from __future__ import annotations

import threading

lock = threading.Lock()


def work() -> None:
    lock.acquire()


worker = threading.Thread(target=work, name="worker")
worker.start()
worker.join()
with lock:
    pass
