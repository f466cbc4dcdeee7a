"""DEADLOCK: the same with locks that their holder may take again."""

from __future__ import annotations

import threading

stock = threading.RLock()
orders = threading.RLock()
both_hold_one = threading.Barrier(2)


def work(one: threading.RLock, other: threading.RLock) -> None:
    with one, one:
        both_hold_one.wait()
        with other:
            pass


threading.Thread(target=work, args=(stock, orders), name="there").start()
threading.Thread(target=work, args=(orders, stock), name="back").start()
