"""ALL ASLEEP: a thread waits for a notification under another lock, which the one that would notify needs."""

from __future__ import annotations

import threading

outer = threading.Lock()
ready = threading.Condition()
waits = threading.Event()


def consume() -> None:
    with outer, ready:
        waits.set()
        ready.wait()


def produce() -> None:
    waits.wait()
    with outer, ready:
        ready.notify()


threading.Thread(target=consume, name="consumer").start()
threading.Thread(target=produce, name="producer").start()
