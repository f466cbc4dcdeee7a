"""DEADLOCK: a thread is joined under the lock that it needs."""

from __future__ import annotations

import threading

lock = threading.Lock()


def work() -> None:
    with lock:
        pass


worker = threading.Thread(target=work, name="worker")
with lock:
    worker.start()
    worker.join()
