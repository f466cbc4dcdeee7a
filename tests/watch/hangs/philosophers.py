"""DEADLOCK: five philosophers, each with the fork at the left."""

from __future__ import annotations

import threading

SEATS = 5
forks = [threading.Lock() for _ in range(SEATS)]
all_hold_one = threading.Barrier(SEATS)


def dine(seat: int) -> None:
    with forks[seat]:
        all_hold_one.wait()
        with forks[(seat + 1) % SEATS]:
            pass


for seat in range(SEATS):
    threading.Thread(target=dine, args=(seat,), name=f"philosopher-{seat}").start()
