"""DEADLOCK: two threads take two locks in opposite orders."""

from __future__ import annotations

import threading


class Account:
    """An account with a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.balance = 100


both_hold_one = threading.Barrier(2)


def transfer(source: Account, target: Account) -> None:
    with source._lock:
        both_hold_one.wait()
        with target._lock:
            source.balance -= 1
            target.balance += 1


alice, bob = Account(), Account()
there = threading.Thread(target=transfer, args=(alice, bob), name="there")
back = threading.Thread(target=transfer, args=(bob, alice), name="back")
there.start()
back.start()
