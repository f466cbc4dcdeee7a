"""Connections to a Redis server that end an exchange in time, however slowly its answer dribbles in."""

from __future__ import annotations

import select
from errno import EWOULDBLOCK
from typing import TYPE_CHECKING, Any

from .._core.deadline import Deadline

if TYPE_CHECKING:
    from socket import socket

    from redis.connection import AbstractConnection

    class BoundedConnection(AbstractConnection):
        """What `bounded` makes."""

        limit: Limit

# The time limit of a socket is for each of its calls: a peer that sends a byte now and then never lets it pass. So a
# connection here has a limit for the whole exchange, and its socket is given what is left of that before each call.
#
# Rejected: a thread that shuts the socket down in time (one more thread, and an exchange that it hits too late), and
# reading without redis-py (its two parsers know more of the protocol than would be written here).


class Limit:
    """Until when the exchange of a connection may last.

    Attributes:
        deadline: Its end; without one, between two exchanges, there is no limit.
    """

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline: Deadline = Deadline(None)

    def cut(self, seconds: float | None) -> float | None:
        """Return the seconds, or what is left if that is less.

        Raises:
            TimeoutError: Nothing is left.
        """
        left = self.deadline.remaining()
        if left is None or seconds == 0:  # which does not wait
            return seconds
        if left == 0:
            raise TimeoutError("the exchange took too long")
        return left if seconds is None else min(left, seconds)


class TimedSocket:
    """A socket whose calls end by the limit of the exchange; in everything else the socket itself.

    To set a time limit is a call of the system, and so is to take it back. So one that is right to a fiftieth stays,
    and a look that does not wait is made without setting one.
    """

    __slots__ = ("_limit", "_look", "_seconds", "_set", "_socket")

    def __init__(self, inner: socket, limit: Limit) -> None:
        self._socket = inner
        self._limit = limit
        self._seconds = self._set = inner.gettimeout()
        # Of what comes by TLS there may be more than the system knows; and some systems can't poll.
        self._look = None if hasattr(inner, "cipher") or not hasattr(select, "poll") else select.poll()
        if self._look is not None:
            self._look.register(inner.fileno(), select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Limit each call to so many seconds."""
        self._seconds = seconds

    def _prepare(self) -> None:
        seconds, before = self._limit.cut(self._seconds), self._set
        if seconds != before and not (seconds and before and 0.98 < seconds / before < 1.02):
            self._socket.settimeout(seconds)
            self._set = seconds

    def recv(self, size: int) -> bytes:
        """Receive what has come, or the first of what comes."""
        if self._seconds != 0 or self._look is None:
            self._prepare()
        elif not self._look.poll(0):
            raise BlockingIOError(EWOULDBLOCK, "nothing has come")
        return self._socket.recv(size)

    def recv_into(self, buffer: Any, *arguments: Any) -> int:
        """Receive the same into a buffer."""
        self._prepare()
        return self._socket.recv_into(buffer, *arguments)

    def sendall(self, *arguments: Any) -> None:
        """Send everything."""
        self._prepare()
        self._socket.sendall(*arguments)


def bounded(kind: type[AbstractConnection]) -> type[BoundedConnection]:
    """Return the same kind of connection with a `Limit` for each exchange, as its attribute ``limit``."""
    theirs = getattr(kind, "socket_connect_timeout", None)  # a property since version 8, an attribute before

    class Bounded(kind):  # type: ignore[misc,valid-type]  # whatever kind the client has
        def __init__(self, **options: Any) -> None:
            self.limit = Limit()
            super().__init__(**options)

        @property
        def socket_connect_timeout(self) -> float | None:
            """Seconds for an address; there may be several, and all of them have what the exchange has."""
            return self.limit.cut(vars(self).get("socket_connect_timeout") if theirs is None else theirs.__get__(self))

        @socket_connect_timeout.setter
        def socket_connect_timeout(self, seconds: float | None) -> None:
            if theirs is None:
                self.__dict__["socket_connect_timeout"] = seconds
            else:
                theirs.__set__(self, seconds)

        def _connect(self) -> Any:
            return TimedSocket(super()._connect(), self.limit)

    return Bounded


def connect(connection: AbstractConnection) -> None:
    """Connect, by the limit that it has; a connection of Sentinel's first asks where to."""
    try:
        connection.connect()  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
    except BaseException:
        close(connection)
        raise


def close(connection: AbstractConnection) -> None:
    """Close it, and forget what may yet come on it."""
    connection.disconnect()  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped


def is_stale(connection: AbstractConnection) -> bool:
    """Whether there is something to read before anything was asked: the end, as a rule."""
    try:
        return connection.can_read()
    except unanswered():
        return True


def unanswered() -> tuple[type[Exception], ...]:
    """Return what the client raises where the server could not be reached, or did not answer in time."""
    from redis import exceptions

    return exceptions.ConnectionError, exceptions.TimeoutError


def refused() -> type[Exception]:
    """Return what the client raises for all that a server can do: not answer, refuse, or be none."""
    from redis import RedisError

    return RedisError
