"""A lock in the database that you have already: PostgreSQL's advisory locks under a `LockAdapter`.

An advisory lock belongs to a session. So each hold has its own connection here, and is over when that ends. A holder
that dies frees the lock without any lease, as soon as the server knows that its connection is gone. The server wakes
waiters in the order of their arrival, and breaks deadlocks among its own locks by an error. If the connection breaks,
the lock is lost, and the holder gets an error when it releases the lock.

Run it: ``python postgres_lock.py``, with ``DATABASE_URL`` like ``postgresql://user@host/name``. It needs psycopg:
``pip install 'psycopg[binary]'``.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from syncprims import LockAdapter, LockTimeoutError, TimedLock, acquire_all

if TYPE_CHECKING:
    import psycopg


class AdvisoryLock:
    """The methods that `LockAdapter` needs of a lock, with a session for each hold.

    Args:
        url: The database. Give it a ``connect_timeout``, and for networks that lose connections in silence
            ``keepalives_idle`` and ``tcp_user_timeout``, because the server has to notice that a client has gone.
        name: The name that all users of the lock share.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        # Each thread has its own, because LockAdapter releases in the thread that has acquired.
        self._mine = threading.local()

    def acquire(self, *, timeout: float = -1) -> bool:
        """Acquire it, within this many seconds if they are not negative."""
        import psycopg

        connection = psycopg.connect(self._url, autocommit=True)
        try:
            if not self._take(connection, timeout):
                connection.close()
                return False
        except BaseException:
            connection.close()
            raise
        self._holds().append(connection)
        return True

    def _take(self, connection: psycopg.Connection[Any], timeout: float) -> bool:
        from psycopg.errors import LockNotAvailable

        key = "hashtextextended(%s, 0)"
        if timeout == 0:
            row = connection.execute(f"SELECT pg_try_advisory_lock({key})", (self._name,)).fetchone()
            return row is not None and bool(row[0])
        limit = 0 if timeout < 0 else max(1, round(timeout * 1000))  # milliseconds; 0 is no limit there
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(limit),))
        try:
            connection.execute(f"SELECT pg_advisory_lock({key})", (self._name,))
        except LockNotAvailable:
            return False
        return True

    def _holds(self) -> list[psycopg.Connection[Any]]:
        holds: list[psycopg.Connection[Any]] = self._mine.__dict__.setdefault("holds", [])
        return holds

    def release(self) -> None:
        """Release it; raise if the connection, and so the lock, was lost."""
        connection = self._holds().pop()
        with connection:
            row = connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (self._name,)).fetchone()
            if row is None or not row[0]:
                raise RuntimeError(f"{self._name!r} was lost while it was held")

    def __repr__(self) -> str:
        return f"the advisory lock {self._name!r}"


def postgres_lock(url: str, name: str, timeout: float | None = None) -> LockAdapter:
    """Make a lock by that name in that database."""
    return LockAdapter(AdvisoryLock(url, name), timeout, name=name)


def main() -> int:
    """Exclude another holder, and acquire it together with a local lock."""
    url = os.environ.get("DATABASE_URL")
    if url is None:
        print("needs a database: set DATABASE_URL, like postgresql://user@host/name")
        return 0
    reports, others = postgres_lock(url, "reports"), postgres_lock(url, "reports", timeout=0.1)
    with reports:
        try:
            with others:
                print("both are inside")
        except LockTimeoutError as error:
            print(f"kept out: {type(error).__name__}")
    with acquire_all(TimedLock(name="here"), reports, timeout=2.0):
        print("taken together with a local lock")
    return 0


if __name__ == "__main__":
    sys.exit(main())
