"""Commands of locks and counters to a Redis server: each is sent once, ends in time, and its answer is checked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha1
from random import uniform
from typing import TYPE_CHECKING, Any, Generic, TypeVar
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

# redis-py sends a command again if the answer did not come, in version 8 ten times by default. A counter would count up
# to eleven times, and a wait of a second would take a minute. So the commands here use separate connections, with the
# client's settings but without retries; all locks and counters of a client share them. A connection is dropped if its
# command was interrupted: the late answer must not be taken for that of the next command. It is also dropped if its
# answer does not fit the command: the next answer may belong to another command, or the peer is not a Redis server.
#
# Rejected: a pool of redis-py for these connections. It counts them in Python, and each interrupt at the wrong moment
# permanently loses one of its hundred. A deque loses at most the connection itself, which is closed when it is
# collected.

POLL = 0.05  # seconds between two polls of the server, at most
_FIRST_PAUSE = 0.001


class _Idle(deque["BoundedConnection"]):
    """Connections that are not in use right now; closed when the last lock or counter of their client is gone."""

    def __del__(self) -> None:
        while self:
            close(self.pop())


class _Inboxes(deque[Inbox]):
    """Inboxes that are not in use right now; closed in the same way."""

    def __del__(self) -> None:
        while self:
            self.pop().close()


_idle: WeakKeyDictionary[ConnectionPool, _Idle] = WeakKeyDictionary()
_inboxes: WeakKeyDictionary[ConnectionPool, _Inboxes] = WeakKeyDictionary()


class Script:
    """A script for the server; once the server has run it, it knows the script by the hash of its text."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text: bytes = text.encode()
        self.sha: bytes = sha1(self.text, usedforsecurity=False).hexdigest().encode()


class ScriptCall(Generic[T]):
    """A script to run on the keys of a server, with its arguments.

    Attributes:
        server: The server.
        understand: As in `Server.ask`.
        script: The script.
        command: The command that runs it by its hash.
    """

    __slots__ = ("command", "script", "server", "understand")

    def __init__(
        self, server: Server, understand: Callable[[Any], T], script: Script, command: tuple[str | bytes, ...]
    ) -> None:
        self.server: Server = server
        self.understand: Callable[[Any], T] = understand
        self.script: Script = script
        self.command: tuple[str | bytes, ...] = command

    @property
    def with_text(self) -> tuple[str | bytes, ...]:
        """The command with the script's text, for a server that does not know the script."""
        return (b"EVAL", self.script.text, *self.command[2:])


class Server:
    """The server behind a client, for one key and the keys that go with it.

    Attributes:
        key: The key.
        keys: The key and those that go with it, in the order of their names: on a server with slots they share its
            slot.
        pool: The client's pool; keys with the same pool are on the same server.

    **Thread safety**: `ask`, `run` and the methods for inboxes may be called from any thread.
    """

    def __init__(self, client: Redis, key: str, user: str, *beside: str) -> None:
        """Take the client's address, password and time limits.

        Args:
            client: The client.
            key: The key that is used.
            user: The class that uses it, for messages.
            *beside: The ends of the names of the other keys.

        Raises:
            TypeError: The client is not a client of one server, or the key is not a string.
            ValueError: The client's sockets have no timeout; or the key is empty, or the client can't encode it.
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
        # Encoded once, because each command needs them.
        self._key_arguments = [b"%d" % len(self.keys), *(probe.encoder.encode(each) for each in self.keys)]
        self._idle = _idle.setdefault(self.pool, _Idle())
        self._inboxes = _inboxes.setdefault(self.pool, _Inboxes())

    def _connection(self) -> BoundedConnection:
        """Make a connection that connects when it is used."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = {"retry": Retry(NoBackoff(), 0), "retry_on_error": [], "retry_on_timeout": False}
        connection: BoundedConnection = self._kind(**(self.pool.connection_kwargs | once))
        return connection

    def _ready(self, within: float | None) -> BoundedConnection:
        """Return a connection with the full time of an exchange, which is longer if it has to connect first."""
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
        """Send a command about the key and return the meaning of the answer.

        Args:
            command: The command's name.
            understand: Takes the answer, and returns its meaning, or raises a ValueError if it does not fit.

        Raises:
            redis.RedisError: Whatever the client raises. After its ``ConnectionError`` or ``TimeoutError`` the server
                may have executed the command, or may do so later. An ``InvalidResponse`` if the answer does not fit the
                command.
        """
        return self._exchange(understand, command, self.key)

    def run(
        self, understand: Callable[[Any], T], script: Script, *arguments: str | bytes, within: float | None = None
    ) -> T:
        """Run a script on the keys, in one step; the server knows it by its text, even after a restart.

        Args:
            understand: As in `ask`.
            script: The script.
            *arguments: Its arguments.
            within: How many seconds it may take, if that is less than the client's limit.
        """
        return self._exchange(
            understand, b"EVALSHA", script.sha, *self._key_arguments, *arguments, within=within, text=script.text
        )

    def call(self, understand: Callable[[Any], T], script: Script, *arguments: str | bytes) -> ScriptCall[T]:
        """Return the call that `run` would make, for `run_together`."""
        return ScriptCall(self, understand, script, (b"EVALSHA", script.sha, *self._key_arguments, *arguments))

    def inbox(self) -> Inbox:
        """Return an inbox for the caller alone, until the caller gives it back or closes it."""
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
        """Give an intact inbox to the next user."""
        self._inboxes.append(inbox)

    def idle_inbox(self) -> Inbox | None:
        """Return an inbox that is connected already, or None."""
        return self.inbox() if self._inboxes else None

    def _advise(self, error: Exception) -> None:
        """Add advice to an error of the server as a note, if there is any."""
        from redis import exceptions

        # If a script lacks a permission, only the text of the error says so.
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
        from redis.exceptions import NoScriptError

        connection = None
        try:
            connection = self._ready(within)
            connection.send_command(*command)  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
            try:
                meant = self._read(connection, understand, "EVAL" if text else str(command[0]))
            except NoScriptError:  # the script has not run
                command = (b"EVAL", text, *command[2:])
                connection.send_command(*command)  # type: ignore[no-untyped-call,unused-ignore]  # as above
                meant = self._read(connection, understand, "EVAL")
        except BaseException as error:
            if connection is not None:
                close(connection)
            if isinstance(error, refused()):
                self._advise(error)
            raise
        self._put_back(connection)
        return meant

    def _read(self, connection: BoundedConnection, understand: Callable[[Any], T], asked: str) -> T:
        """Read an answer, and return its meaning."""
        from redis.exceptions import InvalidResponse

        answer = None
        try:
            answer = connection.read_response()
            return understand(answer)
        except (ValueError, RecursionError) as error:  # also from the client's parser
            raise InvalidResponse(
                f"{words(answer)} is no answer to {asked} about {self.key!r} ({error_words(error)}): what is "
                f"there is no Redis server, or something on the way to it changes what it says"
            ) from error

    def _put_back(self, connection: BoundedConnection) -> None:
        connection.limit.deadline = Deadline(None)
        self._idle.append(connection)


def run_together(calls: Sequence[ScriptCall[T]], within: float) -> list[T | Exception]:
    """Run scripts of several keys of one server in one exchange: all are sent before the first answer is read.

    Args:
        calls: The scripts; all of their servers have the same pool.
        within: How many seconds all may take, if that is less than the client's limit.

    Returns:
        For each script the meaning of its answer, or the client's exception. If the server did not answer in time, or
            sent something that is not an answer, all later scripts have that exception too.
    """
    if not calls:
        return []
    outcomes: dict[int, T | Exception] = {}
    connection = None
    try:
        connection = calls[0].server._ready(within)
        unknown = _exchange_all(connection, dict(enumerate(calls)), outcomes)
        if unknown:
            _exchange_all(connection, unknown, outcomes, with_texts=True)
    except BaseException as error:
        if connection is not None:
            close(connection)
        if not isinstance(error, refused()):
            raise
        return [outcomes.get(number, error) for number in range(len(calls))]
    calls[0].server._put_back(connection)
    return [outcomes[number] for number in range(len(calls))]


def _exchange_all(
    connection: BoundedConnection,
    calls: Mapping[int, ScriptCall[T]],
    outcomes: dict[int, T | Exception],
    *,
    with_texts: bool = False,
) -> dict[int, ScriptCall[T]]:
    """Send all, read all answers, and return the calls whose script the server does not know."""
    from redis.exceptions import NoScriptError, ResponseError

    commands: list[tuple[str | bytes, ...]] = []
    sent: set[Script] = set()
    for call in calls.values():
        commands.append(call.with_text if with_texts and call.script not in sent else call.command)
        sent.add(call.script)
    connection.send_packed_command(connection.pack_commands(commands))  # type: ignore[no-untyped-call,unused-ignore]  # as above
    unknown = {}
    for number, call in calls.items():
        try:
            outcomes[number] = call.server._read(connection, call.understand, "EVAL")
        except NoScriptError:  # the script has not run
            unknown[number] = call
        except ResponseError as error:
            call.server._advise(error)
            outcomes[number] = error
    return unknown


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
    """The pauses between two polls, which grow."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def next(self, deadline: Deadline) -> float:
        """Return the seconds to pause now, which never pass the deadline."""
        # Waiters that came at the same time must not all poll at the same time.
        nap = self._pause * uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, POLL)
        left = deadline.remaining()
        return nap if left is None else min(nap, left)


def poll(look: Callable[[], T], accepts: Callable[[T], bool], deadline: Deadline) -> bool:
    """Poll until the result is accepted; return False when the time is up.

    If the deadline has a limit, a server that does not answer is polled again: it may come back. Without a limit the
    error would never be seen, so it is raised at once.

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
