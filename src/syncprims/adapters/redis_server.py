"""How locks and counters talk to a Redis server: each command is sent once, and takes a bounded time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from random import uniform
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from .._core.clock import sleep
from .._core.deadline import Deadline

if TYPE_CHECKING:
    from redis import ConnectionPool, Redis
    from redis.connection import AbstractConnection

T = TypeVar("T")

# redis-py sends a command again where the answer did not come, in version 8 ten times by default. A counter would count
# up to eleven times, and a wait of a second would take a minute. So the commands here go over connections of their own,
# made as the client's are but without retries; all locks and counters of a client share them. A connection whose
# command was cut off is thrown away: the late answer must not be taken for that of the next command.
#
# Rejected: a pool of redis-py for them. It counts its connections in Python, and each interrupt at the wrong moment
# takes one of its hundred away for good. A deque loses at most the connection itself, which is closed when collected.

POLL = 0.05  # seconds between two looks at the server, at most
_FIRST_PAUSE = 0.001


class _Idle(deque["AbstractConnection"]):
    """Connections that nobody uses at the moment; closed when the last lock or counter of their client is gone."""

    def __del__(self) -> None:
        while self:
            _close(self.pop())


_idle: WeakKeyDictionary[ConnectionPool, _Idle] = WeakKeyDictionary()


class Server:
    """The server behind a client.

    **Thread safety**: `send` and `run` may be called from any thread.
    """

    def __init__(self, client: Redis, user: str) -> None:
        """Take the client's address, password and time limits.

        Args:
            client: The client.
            user: Who wants it, for messages.

        Raises:
            TypeError: It is not a client of one server.
            ValueError: Its sockets have no time limit.
        """
        from redis import Redis

        if not isinstance(client, Redis):
            raise TypeError(
                f"{user} needs a redis.Redis client, not {type(client).__module__}.{type(client).__qualname__}"
            )
        self._pool = client.connection_pool
        _check_bounded(self._connection(), user)
        self._idle = _idle.setdefault(self._pool, _Idle())

    def _connection(self) -> AbstractConnection:
        """Make one that has yet to connect, which it does when it is used."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = {"retry": Retry(NoBackoff(), 0), "retry_on_error": [], "retry_on_timeout": False}
        connection: AbstractConnection = self._pool.connection_class(**(self._pool.connection_kwargs | once))
        return connection

    def _ready(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            if not _is_stale(connection):
                return connection
            _close(connection)
        return self._connection()

    def send(self, *command: str | int) -> Any:
        """Send a command and return the answer.

        Raises:
            redis.RedisError: Whatever the client raises. After a ``ConnectionError`` or ``TimeoutError`` of its own the
                server may have carried out the command, or may do so later.
        """
        connection = self._ready()
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
            answer = connection.read_response()
        except BaseException:
            _close(connection)
            raise
        self._idle.append(connection)
        return answer

    def run(self, script: str, key: str, *arguments: str | int) -> Any:
        """Run a script on one key, in one step; the server knows it by its text, even after a restart."""
        return self.send("EVAL", script, 1, key, *arguments)


def _close(connection: AbstractConnection) -> None:
    connection.disconnect()  # type: ignore[no-untyped-call,unused-ignore]  # as above


def _is_stale(connection: AbstractConnection) -> bool:
    """Whether there is something to read before anything was asked: the end, as a rule."""
    try:
        return connection.can_read()
    except unanswered():
        return True


def _check_bounded(connection: AbstractConnection, user: str) -> None:
    for option in ("socket_timeout", "socket_connect_timeout"):
        limit = getattr(connection, option, None)
        if limit is None or not 0 < limit <= TIMEOUT_MAX:
            raise ValueError(
                f"{user} needs a client whose {option} is bounded, not {limit!r}, or it could wait for ever for a "
                f"server that has gone: make it by redis.Redis(..., socket_timeout=1.0)"
            )


def _forget_all() -> None:
    for idle in list(_idle.values()):
        idle.clear()


if hasattr(os, "register_at_fork"):
    # A connection belongs to the process that made it.
    os.register_at_fork(after_in_child=_forget_all)


def unanswered() -> tuple[type[Exception], ...]:
    """Return what the client raises where the server could not be reached, or did not answer in time."""
    from redis import exceptions

    return exceptions.ConnectionError, exceptions.TimeoutError


def poll(look: Callable[[], T | None], deadline: Deadline) -> T | None:
    """Look again and again until something is seen; None when the time is up.

    A server that does not answer is waited for like what is looked for, if the deadline has a limit: it may come back.
    Without one nobody would ever hear of it, so the error comes out at once.

    Raises:
        redis.RedisError: The server did not answer, and the time was up or has no limit.
    """
    from redis.exceptions import AuthenticationError

    pause = _FIRST_PAUSE
    while True:
        try:
            seen = look()
            if seen is not None or deadline.remaining() == 0:
                return seen
        except AuthenticationError:
            raise
        except unanswered():
            if not deadline.remaining():
                raise
        left = deadline.remaining()
        # Waiters that came together must not go on looking together.
        nap = pause * uniform(0.5, 1.0)
        sleep(nap if left is None else min(nap, left))
        pause = min(2 * pause, POLL)
