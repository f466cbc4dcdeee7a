"""Waits that are long, have limits, or are for threads that work."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor

lock, again = threading.Lock(), threading.RLock()
jobs: queue.Queue[int] = queue.Queue()
go_on = threading.Event()


def hold() -> None:
    with lock, again, again:
        held.set()
        go_on.wait(30)


def fill() -> None:
    jobs.put(1)
    go_on.set()


held = threading.Event()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
threading.Timer(2.5, fill).start()
with ThreadPoolExecutor(2) as pool:
    tasks: list[Future[int] | Future[bool]] = [pool.submit(jobs.get), pool.submit(lock.acquire)]
    with again:
        print(jobs.unfinished_tasks)
    for task in tasks:
        task.result()
print("done")
