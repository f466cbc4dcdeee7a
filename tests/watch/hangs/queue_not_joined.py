"""ALL ASLEEP: a worker never says that its task is done."""

from __future__ import annotations

import queue
import threading

jobs: queue.Queue[int] = queue.Queue()


def work() -> None:
    while True:
        jobs.get()


threading.Thread(target=work, name="worker", daemon=True).start()
jobs.put(1)
jobs.join()
