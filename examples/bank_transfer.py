"""Transfers between bank accounts: two locks at a time, in any order of transfers, without a deadlock.

Every account has its own lock, so that transfers between different accounts don't wait for each other. A transfer needs
two locks. If each transfer acquired one after the other, "from alice to bob" and "from bob to alice" would sooner or
later deadlock. `acquire_all` acquires them in one global order, with one timeout.

Run it: ``python bank_transfer.py``.
"""

from __future__ import annotations

import random

from syncprims import AtomicCounter, CallbackPool, TimedLock, acquire_all

TRANSFERS = 400
NAMES = ("alice", "bob", "carol", "dave")


class Account:
    """A balance, and the lock that guards it."""

    def __init__(self, owner: str, balance: int) -> None:
        self.owner = owner
        self.balance = balance
        self.lock = TimedLock(timeout=2.0, name=f"account of {owner}")


class NotEnoughError(Exception):
    """The account has less than the amount."""


def transfer(source: Account, target: Account, amount: int) -> int:
    """Move an amount from one account to the other, or raise and move nothing."""
    with acquire_all(source.lock, target.lock, timeout=2.0):
        if source.balance < amount:
            raise NotEnoughError(f"{source.owner} has {source.balance}, not {amount}")
        source.balance -= amount
        target.balance += amount
    return amount


def main() -> None:
    """Let eight threads transfer at random, and check that no money was made or lost."""
    accounts = [Account(name, 100) for name in NAMES]
    moved, refused = AtomicCounter(name="moved"), AtomicCounter(name="refused")
    chance = random.Random(7)

    def refuse(error: BaseException) -> None:
        if not isinstance(error, NotEnoughError):
            raise error  # the end of the pool's block would raise it too
        refused.increment()

    with CallbackPool("thread", max_workers=8) as bank:
        for _ in range(TRANSFERS):
            source, target = chance.sample(accounts, 2)
            amount = chance.randrange(1, 80)
            bank.apply_async(transfer, (source, target, amount), callback=moved.add, error_callback=refuse)
    total = sum(account.balance for account in accounts)
    assert total == 100 * len(accounts), total
    print(f"{TRANSFERS} transfers by 8 threads: {moved} moved in all, {refused} refused for lack of money")
    print(f"the bank still has {total}, and no balance is below zero: {min(a.balance for a in accounts) >= 0}")


if __name__ == "__main__":
    main()
