"""A market whose stalls share one till, and each have their own lock."""

import threading
import time


class Till:
    """The place to pay."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def pay(self) -> None:
        with self._lock:
            time.sleep(0.01)


class Stall:
    """A place that sells goods."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def sell(self) -> None:
        with self._lock:
            time.sleep(0.002)


def buy() -> None:
    """Go from stall to stall."""
    for stall in stalls:
        stall.sell()
        till.pay()


till, stalls = Till(), [Stall() for _ in range(5)]
buyers = [threading.Thread(target=buy) for _ in range(4)]
for buyer in buyers:
    buyer.start()
for buyer in buyers:
    buyer.join()
