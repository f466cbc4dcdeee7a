"""Connections to a Redis server that end an exchange in time, however slowly the server's answer comes."""

from __future__ import annotations

import select
from errno import EWOULDBLOCK
from typing import TYPE_CHECKING, Any

from .._core.deadline import Deadline

if TYPE_CHECKING:
    from socket import socket

    from redis.connection import AbstractConnection

    class BoundedConnection(AbstractConnection):
        """The methods of a connection that `bounded` makes."""

        limit: Limit

# A socket's timeout limits each of its calls: if the peer sends a byte now and then, it never expires. So a connection
# here has a limit for the whole exchange, and before each call its socket gets the rest of that time.
#
# Rejected: a thread that shuts the socket down in time (one more thread, and it may hit the next exchange), and reading
# without redis-py (its two parsers know more of the protocol than would be written here).


class Limit:
    """The time limit of a connection's exchange.

    Attributes:
        deadline: Its end; None between two exchanges, when there is no limit.
    """

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline: Deadline = Deadline(None)

    def cut(self, seconds: float | None) -> float | None:
        """Return the seconds, or the rest of the time if that is less.

        Raises:
            TimeoutError: Nothing is left.
        """
        left = self.deadline.remaining()
        if left is None or seconds == 0:  # 0 does not wait
            return seconds
        if left == 0:
            raise TimeoutError("the exchange took too long")
        return left if seconds is None else min(left, seconds)


class TimedSocket:
    """A socket whose calls end by the limit of the exchange; otherwise it is like the socket itself.

    Setting a timeout is a system call, and so is resetting it. So a timeout that is right to a fiftieth is kept, and a
    check that does not wait uses no timeout.
    """

    __slots__ = ("_limit", "_look", "_seconds", "_set", "_socket")

    def __init__(self, inner: socket, limit: Limit) -> None:
        self._socket = inner
        self._limit = limit
        self._seconds = self._set = inner.gettimeout()
        # With TLS there may be more data than the system knows of, and some systems have no poll().
        self._look = None if hasattr(inner, "cipher") or not hasattr(select, "poll") else select.poll()
        if self._look is not None:
            self._look.register(inner.fileno(), select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Limit each call to this many seconds."""
        self._seconds = seconds

    def _prepare(self) -> None:
        seconds, before = self._limit.cut(self._seconds), self._set
        if seconds != before and not (seconds and before and 0.98 < seconds / before < 1.02):
            self._socket.settimeout(seconds)
            self._set = seconds

    def recv(self, size: int) -> bytes:
        """Receive the data that have come, or the first that come."""
        if self._seconds != 0 or self._look is None:
            self._prepare()
        elif not self._look.poll(0):
            raise BlockingIOError(EWOULDBLOCK, "nothing has come")
        return self._socket.recv(size)

    def recv_into(self, buffer: Any, *arguments: Any) -> int:
        """Receive data into a buffer, like `recv`."""
        self._prepare()
        return self._socket.recv_into(buffer, *arguments)

    def sendall(self, *arguments: Any) -> None:
        """Send everything."""
        self._prepare()
        self._socket.sendall(*arguments)


def bounded(kind: type[AbstractConnection]) -> type[BoundedConnection]:
    """Return the same kind of connection with a `Limit` for each exchange, as its attribute ``limit``."""
    theirs = getattr(kind, "socket_connect_timeout", None)  # a property since version 8, an attribute before

    class Bounded(kind):  # type: ignore[misc,valid-type]  # the kind of the client's connections
        def __init__(self, **options: Any) -> None:
            self.limit = Limit()
            super().__init__(**options)

        @property
        def socket_connect_timeout(self) -> float | None:
            """Seconds to connect. If the name has several addresses, they share the time of the exchange."""
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
    """Connect within its limit; a connection of Sentinel first asks for the address."""
    try:
        connection.connect()  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
    except BaseException:
        close(connection)
        raise


def close(connection: AbstractConnection) -> None:
    """Close it, and drop data that may still come."""
    connection.disconnect()  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped


def is_stale(connection: AbstractConnection) -> bool:
    """Whether there is data to read before a command was sent: usually the connection has ended."""
    try:
        return connection.can_read()
    except unanswered():
        return True


def unanswered() -> tuple[type[Exception], ...]:
    """Return the client's exceptions for a server that can't be reached, or does not answer in time."""
    from redis import exceptions

    return exceptions.ConnectionError, exceptions.TimeoutError


def refused() -> type[Exception]:
    """Return the client's exceptions for all failures of a server: no answer, a refusal, or not a Redis server."""
    from redis import RedisError

    return RedisError
