"""ALL ASLEEP: all threads wait for items that no thread will put."""

from __future__ import annotations

import queue
import threading

jobs: queue.Queue[int] = queue.Queue()


def work() -> None:
    while True:
        jobs.get()


for number in range(2):
    threading.Thread(target=work, name=f"worker-{number}").start()
