"""How locks and counters talk to a Redis server: each command is sent once, ends in time, and is answered fittingly."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from random import uniform
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from .._core.clock import sleep
from .._core.deadline import Deadline, check_timeout
from .._core.foreign import error_words, type_name, words
from .._core.greenlets import refuse_greenlets
from .._core.registry import check_name
from .redis_connection import bounded

if TYPE_CHECKING:
    from redis import ConnectionPool, Redis
    from redis.connection import AbstractConnection

    from .redis_connection import BoundedConnection

T = TypeVar("T")

# redis-py sends a command again where the answer did not come, in version 8 ten times by default. A counter would count
# up to eleven times, and a wait of a second would take a minute. So the commands here go over connections of their own,
# made as the client's are but without retries; all locks and counters of a client share them. A connection whose
# command was cut off is thrown away: the late answer must not be taken for that of the next command. So is one whose
# answer does not fit the command: what comes next on it may be another's, or no Redis server is there at all.
#
# Rejected: a pool of redis-py for them. It counts its connections in Python, and each interrupt at the wrong moment
# takes one of its hundred away for good. A deque loses at most the connection itself, which is closed when collected.

POLL = 0.05  # seconds between two looks at the server, at most
_FIRST_PAUSE = 0.001


class _Idle(deque["BoundedConnection"]):
    """Connections that nobody uses at the moment; closed when the last lock or counter of their client is gone."""

    def __del__(self) -> None:
        while self:
            _close(self.pop())


_idle: WeakKeyDictionary[ConnectionPool, _Idle] = WeakKeyDictionary()


class Server:
    """The server behind a client, as far as one key of it goes.

    **Thread safety**: `send` and `run` may be called from any thread.
    """

    def __init__(self, client: Redis, key: str, user: str) -> None:
        """Take the client's address, password and time limits.

        Args:
            client: The client.
            key: The one key that is used.
            user: Who wants it, for messages.

        Raises:
            TypeError: It is not a client of one server, or the key not a string.
            ValueError: Its sockets have no time limit; or the key is empty, or not to be said in the client's encoding.
        """
        from redis import Redis

        refuse_greenlets()
        if not isinstance(client, Redis):
            raise TypeError(f"{user} needs a redis.Redis client, not {type_name(client)}")
        self._pool = client.connection_pool
        self._kind = bounded(self._pool.connection_class)
        probe = self._connection()
        self._for_an_answer = _check_bounded(probe, "socket_timeout", user)
        self._to_connect = _check_bounded(probe, "socket_connect_timeout", user)
        self.key: str = _check_key(key, probe)
        self._idle = _idle.setdefault(self._pool, _Idle())

    def _connection(self) -> BoundedConnection:
        """Make one that has yet to connect, which it does when it is used."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = {"retry": Retry(NoBackoff(), 0), "retry_on_error": [], "retry_on_timeout": False}
        connection: BoundedConnection = self._kind(**(self._pool.connection_kwargs | once))
        return connection

    def _ready(self) -> BoundedConnection:
        """A connection with all the time that an exchange may take, one that has to connect first more than others."""
        while self._idle:
            connection = self._idle.pop()
            if not _is_stale(connection):
                connection.limit.deadline = Deadline(self._for_an_answer)
                return connection
            _close(connection)
        connection = self._connection()
        connection.limit.deadline = Deadline(self._to_connect + self._for_an_answer)
        return connection

    def ask(self, command: str, understand: Callable[[Any], T]) -> T:
        """Send a command about the key and return what is understood from the answer.

        Args:
            command: The command's name.
            understand: Takes the answer, and returns what it means, or raises a ValueError if it is none to this.

        Raises:
            redis.RedisError: Whatever the client raises. After a ``ConnectionError`` or ``TimeoutError`` of its own the
                server may have carried out the command, or may do so later. An ``InvalidResponse`` if the answer is
                none to the command.
        """
        return self._exchange(understand, command, self.key)

    def run(self, understand: Callable[[Any], T], script: str, *arguments: str | int) -> T:
        """Run a script on the key, in one step; the server knows it by its text, even after a restart."""
        return self._exchange(understand, "EVAL", script, 1, self.key, *arguments)

    def _exchange(self, understand: Callable[[Any], T], *command: str | int) -> T:
        from redis.exceptions import InvalidResponse

        connection = self._ready()
        answer = None
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
            try:
                answer = connection.read_response()
                meant = understand(answer)
            except (ValueError, RecursionError) as error:  # of the client's parser, too
                raise InvalidResponse(
                    f"{words(answer)} is no answer to {command[0]} about {self.key!r} ({error_words(error)}): what is "
                    f"there is no Redis server, or something on the way to it changes what it says"
                ) from error
        except BaseException:
            _close(connection)
            raise
        connection.limit.deadline = Deadline(None)
        self._idle.append(connection)
        return meant


def _close(connection: AbstractConnection) -> None:
    connection.disconnect()  # type: ignore[no-untyped-call,unused-ignore]  # as above


def _is_stale(connection: AbstractConnection) -> bool:
    """Whether there is something to read before anything was asked: the end, as a rule."""
    try:
        return connection.can_read()
    except unanswered():
        return True


def _check_bounded(connection: AbstractConnection, option: str, user: str) -> float:
    limit = getattr(connection, option, None)
    try:
        seconds = check_timeout(limit)
    except (TypeError, ValueError, OverflowError):
        seconds = None
    if not seconds:
        raise ValueError(
            f"{user} needs a client whose {option} is bounded, not {words(limit)}, or it could wait forever for a "
            f"server that has gone: make it by redis.Redis(..., socket_timeout=1.0)"
        )
    return seconds


def _check_key(key: str, connection: AbstractConnection) -> str:
    name = check_name(key)
    if not name:
        if name is None:
            raise TypeError("name must be a string, not None: it is the key on the server")
        raise ValueError("name must not be empty: it is the key on the server, which all who share it have to know")
    encoder = connection.encoder
    try:
        encoder.encode(name)
    except UnicodeEncodeError as error:
        raise ValueError(f"name {name!a} can't be a key: the client can't say it in {encoder.encoding!r}") from error
    return name


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


def refused() -> type[Exception]:
    """Return what the client raises for all that a server can do: not answer, refuse, or be none."""
    from redis import RedisError

    return RedisError


def poll(look: Callable[[], T], accepts: Callable[[T], bool], deadline: Deadline) -> bool:
    """Look again and again until what is seen is accepted; False when the time is up.

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
        except AuthenticationError:
            raise
        except unanswered():
            if not deadline.remaining():
                raise
        else:
            if accepts(seen):
                return True
            if deadline.remaining() == 0:
                return False
        left = deadline.remaining()
        # Waiters that came together must not go on looking together.
        nap = pause * uniform(0.5, 1.0)
        sleep(nap if left is None else min(nap, left))
        pause = min(2 * pause, POLL)
