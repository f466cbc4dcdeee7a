"""LOCK ORDER: two locks are taken in both orders, one after the other, so that nothing hangs this time."""

from __future__ import annotations

import threading

stock = threading.Lock()
orders = threading.RLock()


def ship() -> None:
    with stock, orders:
        pass


def cancel() -> None:
    with orders, stock:
        pass


for work in (ship, cancel):
    thread = threading.Thread(target=work, name=work.__name__)
    thread.start()
    thread.join()
