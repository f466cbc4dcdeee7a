"""How locks and counters talk to a Redis server: each command is sent once, ends in time, and is answered fittingly."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from hashlib import sha1
from random import uniform
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from .._core.clock import sleep
from .._core.deadline import Deadline, check_timeout
from .._core.foreign import error_words, note, text_of, type_name, words
from .._core.greenlets import refuse_greenlets
from .._core.registry import check_name
from .redis_connection import bounded, close, connect, is_stale, refused, unanswered
from .redis_inbox import Inbox

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
    """Connections that are not in use right now; closed when the last lock or counter of their client is gone."""

    def __del__(self) -> None:
        while self:
            close(self.pop())


class _Inboxes(deque[Inbox]):
    """Inboxes that no thread uses at the moment; closed likewise."""

    def __del__(self) -> None:
        while self:
            self.pop().close()


_idle: WeakKeyDictionary[ConnectionPool, _Idle] = WeakKeyDictionary()
_inboxes: WeakKeyDictionary[ConnectionPool, _Inboxes] = WeakKeyDictionary()


class Script:
    """A script for the server, which knows it by the sum of its text once it has run it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text: bytes = text.encode()
        self.sha: bytes = sha1(self.text, usedforsecurity=False).hexdigest().encode()


class Server:
    """The server behind a client, as far as one key of it goes, and the keys beside that.

    Attributes:
        key: The key.
        keys: The key and those beside it, in the order of their names: on a server with slots they share its slot.
        pool: The client's pool; what has the same pool is on the same server.

    **Thread safety**: `ask`, `run` and what goes with inboxes may be called from any thread.
    """

    def __init__(self, client: Redis, key: str, user: str, *beside: str) -> None:
        """Take the client's address, password and time limits.

        Args:
            client: The client.
            key: The key that is used.
            user: Who wants it, for messages.
            *beside: What is used beside it: the ends of the names of these keys.

        Raises:
            TypeError: It is not a client of one server, or the key not a string.
            ValueError: Its sockets have no time limit; or the key is empty, or not to be said in the client's encoding.
        """
        from redis import Redis

        refuse_greenlets()
        if not isinstance(client, Redis):
            raise TypeError(f"{user} needs a redis.Redis client, not {type_name(client)}{_advice(client)}")
        self.pool: ConnectionPool = client.connection_pool
        self._user = user
        self._kind = bounded(self.pool.connection_class)
        probe = self._connection()
        self._for_an_answer = _check_bounded(probe, "socket_timeout", user)
        self._to_connect = _check_bounded(probe, "socket_connect_timeout", user)
        self.key: str = _check_key(key, probe)
        self.keys: tuple[str, ...] = (self.key, *(_beside(self.key, end) for end in beside))
        # Encoded once, as each command needs them.
        self._key_arguments = [b"%d" % len(self.keys), *(probe.encoder.encode(each) for each in self.keys)]
        self._idle = _idle.setdefault(self.pool, _Idle())
        self._inboxes = _inboxes.setdefault(self.pool, _Inboxes())

    def _connection(self) -> BoundedConnection:
        """Make one that has yet to connect, which it does when it is used."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = {"retry": Retry(NoBackoff(), 0), "retry_on_error": [], "retry_on_timeout": False}
        connection: BoundedConnection = self._kind(**(self.pool.connection_kwargs | once))
        return connection

    def _ready(self, within: float | None) -> BoundedConnection:
        """A connection with all the time that an exchange may take, one that has to connect first more than others."""
        while self._idle:
            connection = self._idle.pop()
            if not is_stale(connection):
                connection.limit.deadline = Deadline(_least(within, self._for_an_answer))
                return connection
            close(connection)
        connection = self._connection()
        connection.limit.deadline = Deadline(_least(within, self._to_connect + self._for_an_answer))
        connect(connection)
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

    def run(
        self, understand: Callable[[Any], T], script: Script, *arguments: str | bytes, within: float | None = None
    ) -> T:
        """Run a script on the keys, in one step; the server knows it by its text, even after a restart.

        Args:
            understand: As that of `ask`.
            script: The script.
            *arguments: Its arguments.
            within: How many seconds it may take, if that is less than the client allows.
        """
        return self._exchange(
            understand, b"EVALSHA", script.sha, *self._key_arguments, *arguments, within=within, text=script.text
        )

    def inbox(self) -> Inbox:
        """Return an inbox that the caller alone uses, until it gives it back or closes it."""
        while self._inboxes:
            inbox = self._inboxes.pop()
            if not inbox.is_lost():
                return inbox
            inbox.close()
        connection = self._connection()
        inbox = Inbox(connection, self._for_an_answer)
        connection.limit.deadline = Deadline(self._to_connect + self._for_an_answer)
        try:
            inbox.open()
        except refused() as error:
            self._advise(error)
            raise
        return inbox

    def give_back(self, inbox: Inbox) -> None:
        """Let the next one use an inbox that is intact."""
        self._inboxes.append(inbox)

    def idle_inbox(self) -> Inbox | None:
        """Return an inbox that is connected already, if there is one."""
        return self.inbox() if self._inboxes else None

    def _advise(self, error: Exception) -> None:
        """Add to an error of the server's what would prevent it, where that is known."""
        from redis import exceptions

        # What a script may not do is reported by a text alone.
        if isinstance(error, exceptions.NoPermissionError) or "user executing the script can't" in text_of(error):
            note(error, f"{self._user} needs the rights that the page 'Past one machine' lists")
        elif isinstance(error, (exceptions.MovedError, exceptions.AskError, exceptions.ClusterDownError)):
            note(
                error,
                f"the server is a node of a Redis Cluster: {self._user} needs one server, which may have replicas "
                f"behind Sentinel",
            )

    def _exchange(
        self, understand: Callable[[Any], T], *command: str | bytes, within: float | None = None, text: bytes = b""
    ) -> T:
        from redis.exceptions import InvalidResponse, NoScriptError

        connection = None
        answer = None
        try:
            connection = self._ready(within)
            connection.send_command(*command)  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
            try:
                try:
                    answer = connection.read_response()
                except NoScriptError:  # so it has done nothing
                    command = (b"EVAL", text, *command[2:])
                    connection.send_command(*command)  # type: ignore[no-untyped-call,unused-ignore]  # as above
                    answer = connection.read_response()
                meant = understand(answer)
            except (ValueError, RecursionError) as error:  # of the client's parser, too
                asked = "EVAL" if text else str(command[0])
                raise InvalidResponse(
                    f"{words(answer)} is no answer to {asked} about {self.key!r} ({error_words(error)}): what is "
                    f"there is no Redis server, or something on the way to it changes what it says"
                ) from error
        except BaseException as error:
            if connection is not None:
                close(connection)
            if isinstance(error, refused()):
                self._advise(error)
            raise
        connection.limit.deadline = Deadline(None)
        self._idle.append(connection)
        return meant


def _advice(client: object) -> str:
    try:
        from redis.cluster import RedisCluster
    except ImportError:
        return ""
    if not isinstance(client, RedisCluster):
        return ""
    return ": no Cluster, but one server, which may have replicas behind Sentinel"


def _beside(key: str, end: str) -> str:
    """Name a key in the same slot: with the same hash tag, or with the key itself as its tag."""
    tag = key.partition("{")[2].partition("}")
    return f"{key}:{end}" if tag[0] and tag[1] else f"{{{key}}}:{end}"


def _least(within: float | None, seconds: float) -> float:
    return seconds if within is None else min(within, seconds)


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
    for inboxes in list(_inboxes.values()):
        inboxes.clear()


if hasattr(os, "register_at_fork"):
    # A connection belongs to the process that made it.
    os.register_at_fork(after_in_child=_forget_all)


class Pauses:
    """The pauses between two looks, which grow."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def next(self, deadline: Deadline) -> float:
        """Return the seconds to pause now, which never pass the deadline."""
        # Waiters that came together must not go on looking together.
        nap = self._pause * uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, POLL)
        left = deadline.remaining()
        return nap if left is None else min(nap, left)


def poll(look: Callable[[], T], accepts: Callable[[T], bool], deadline: Deadline) -> bool:
    """Look again and again until what is seen is accepted; False when the time is up.

    A server that does not answer is waited for like what is looked for, if the deadline has a limit: it may come back.
    Without a limit the error would never be seen, so it is raised at once.

    Raises:
        redis.RedisError: The server did not answer, and the time was up or has no limit.
    """
    from redis.exceptions import AuthenticationError

    pauses = Pauses()
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
        sleep(pauses.next(deadline))
