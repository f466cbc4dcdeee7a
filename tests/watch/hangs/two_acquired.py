"""DEADLOCK: the same by acquire()."""

from __future__ import annotations

import threading

first, second = threading.Lock(), threading.Lock()
both_hold_one = threading.Barrier(2)


def work(one: threading.Lock, other: threading.Lock) -> None:
    one.acquire()
    both_hold_one.wait()
    other.acquire()
    other.release()
    one.release()


threading.Thread(target=work, args=(first, second), name="there").start()
threading.Thread(target=work, args=(second, first), name="back").start()
