"""LIKELY DEADLOCK: two locks in opposite orders, of a place whose locks another thread has released."""

from __future__ import annotations

import threading


def make() -> threading.Lock:
    return threading.Lock()


baton = make()
baton.acquire()
runner = threading.Thread(target=baton.release, name="runner")
runner.start()
runner.join()

first, second = make(), make()
both_hold_one = threading.Barrier(2)


def work(one: threading.Lock, other: threading.Lock) -> None:
    with one:
        both_hold_one.wait()
        with other:
            pass


threading.Thread(target=work, args=(first, second), name="there").start()
threading.Thread(target=work, args=(second, first), name="back").start()
