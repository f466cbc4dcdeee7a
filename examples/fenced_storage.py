"""A storage that refuses a late holder: it checks the fencing token of a `RedisLock`.

A lock with a lease can't keep out a holder that was stopped for longer than its lease: it wakes up in the middle of
its block, and writes. So each write carries the token of the hold, and the storage refuses one that is less than the
greatest it has seen. Here the storage is SQLite; the check is in the ``WHERE`` of the ``UPDATE``, so that it and the
write are one step.

Run it: ``python fenced_storage.py``, with ``REDIS_URL`` like ``redis://host:6379``.
"""

from __future__ import annotations

import os
import sqlite3
import sys

from syncprims.adapters import LeaseExpiredError, RedisLock


class TooLateError(Exception):
    """Another holder has written since."""


class Accounts:
    """Balances, each with the token of the hold that wrote it last."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("CREATE TABLE account (id TEXT PRIMARY KEY, balance INTEGER, token INTEGER)")

    def open(self, account: str) -> None:
        """Make an empty account."""
        self._database.execute("INSERT INTO account VALUES (?, 0, 0)", (account,))

    def balance(self, account: str) -> int:
        """Return the balance of an account."""
        (balance,) = self._database.execute("SELECT balance FROM account WHERE id = ?", (account,)).fetchone()
        return int(balance)

    def write(self, account: str, balance: int, token: int) -> None:
        """Set a balance, unless a later holder has set it already."""
        changed = self._database.execute(
            "UPDATE account SET balance = ?, token = ? WHERE id = ? AND token <= ?", (balance, token, account, token)
        )
        if not changed.rowcount:
            raise TooLateError(f"the hold with token {token} is over; a later one has written to {account!r}")


def main() -> int:
    """Let one holder come too late, and show that its write is refused."""
    url = os.environ.get("REDIS_URL")
    if url is None:
        print("needs a Redis server: set REDIS_URL, like redis://host:6379")
        return 0
    from redis import Redis

    client = Redis.from_url(url, socket_timeout=5.0)
    accounts = Accounts(":memory:")
    accounts.open("savings")
    slow = RedisLock(client, "savings", lease=0.1, timeout=10.0)
    quick = RedisLock(client, "savings", lease=10.0, timeout=10.0, renew=True)
    try:
        with slow:
            seen, token = accounts.balance("savings"), slow.token
            # The holder is stopped here for longer than its lease, for example by its garbage collector, or a laptop's
            # lid.
            slow.lost.wait()
            with quick:  # usually another process
                accounts.write("savings", accounts.balance("savings") + 50, quick.token)
            try:
                accounts.write("savings", seen + 100, token)
            except TooLateError as error:
                print(f"refused: {error}".replace(str(token), "T"))
    except LeaseExpiredError as error:
        print(f"and told: {type(error).__name__}")
    print(f"balance {accounts.balance('savings')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
