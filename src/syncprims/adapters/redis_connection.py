"""Connections to a Redis server that end an exchange in time, however slowly its answer dribbles in."""

from __future__ import annotations

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
    """A socket whose calls end by the limit of the exchange; in everything else the socket itself."""

    __slots__ = ("_limit", "_seconds", "_socket")

    def __init__(self, inner: socket, limit: Limit) -> None:
        self._socket = inner
        self._limit = limit
        self._seconds = inner.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Limit each call to so many seconds."""
        self._seconds = seconds
        self._socket.settimeout(seconds)

    def recv(self, *arguments: Any) -> bytes:
        """Receive what has come, or the first of what comes."""
        self._socket.settimeout(self._limit.cut(self._seconds))
        return self._socket.recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        """Receive the same into a buffer."""
        self._socket.settimeout(self._limit.cut(self._seconds))
        return self._socket.recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        """Send everything."""
        self._socket.settimeout(self._limit.cut(self._seconds))
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
