"""`Inbox`: a connection on which the server notifies a waiter that its turn has come."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Any

from .._core.deadline import Deadline
from .._core.foreign import error_words, words
from .redis_connection import close, connect, refused

if TYPE_CHECKING:
    from .redis_connection import BoundedConnection

# Each inbox has its own channel, to which the server publishes. Publishing returns the number of receivers. So a script
# on the server knows at once that a waiter has gone, and goes on to the next one.
#
# Rejected: a list to block on. If a waiter died after its message was pushed, the only sign of that is that no one
# fetches the message. And blocking is one more command for each wait.

_MOST_LATE = 10  # messages; a server that sends more is not a Redis server


class Inbox:
    """A connection that is subscribed to its own channel; one waiter at a time uses it.

    Attributes:
        address: The channel.
    """

    def __init__(self, connection: BoundedConnection, for_an_answer: float) -> None:
        self.address: str = f"syncprims:{token_hex(8)}"
        self._connection = connection
        self._for_an_answer = for_an_answer

    def open(self) -> None:
        """Connect and subscribe, within the limit of the connection.

        Raises:
            redis.RedisError: The server did not answer, or refused, or sent something else.
        """
        try:
            connect(self._connection)
            self._connection.send_command("SUBSCRIBE", self.address)  # type: ignore[no-untyped-call,unused-ignore]  # the client leaves it untyped
            answer = self._read()
            if _texts(answer)[:2] != ["subscribe", self.address]:
                raise _wrong(answer, "SUBSCRIBE")
        except BaseException:
            self.close()
            raise

    def receive(self, token: str, seconds: float) -> tuple[int, int] | None:
        """Wait for the message for this token, for at most this many seconds; other messages are dropped.

        Returns:
            The number of the hold, and the server's time in microseconds when it was granted. None if the time is up.

        Raises:
            redis.RedisError: The connection is lost, or something else came.
        """
        deadline = Deadline(seconds)
        while True:
            left = deadline.remaining() or 0
            if not self._connection.can_read(left):
                return None
            self._connection.limit.deadline = Deadline(self._for_an_answer)
            word = _understood(self._read())
            if word is not None and word[0] == token:
                return word[1:]
            if not left:  # even if other messages keep coming
                return None

    def _read(self) -> Any:
        try:
            answer = self._connection.read_response(push_request=True)  # a push, if the protocol has them
        except (ValueError, RecursionError) as error:  # from the client's parser
            raise _wrong(error_words(error), "SUBSCRIBE") from error
        self._connection.limit.deadline = Deadline(None)
        return answer

    def is_lost(self) -> bool:
        """Whether the connection has ended; late messages for earlier waiters are dropped."""
        try:
            for _ in range(_MOST_LATE):
                if not self._connection.can_read():
                    return False
                self._connection.limit.deadline = Deadline(self._for_an_answer)
                self._read()
        except refused():
            pass
        return True

    def close(self) -> None:
        """Close the connection, so that the server knows that no client listens."""
        close(self._connection)


def _understood(answer: Any) -> tuple[str, int, int] | None:
    """Return the published token, number and time; None if the message is something else."""
    kind, _, text = [*_texts(answer), "", "", ""][:3]
    number, _, rest = text.partition(" ")
    at, _, token = rest.partition(" ")
    return (token, int(number), int(at)) if kind == "message" and number.isdecimal() and at.isdecimal() else None


def _texts(answer: Any) -> list[str]:
    parts = answer if type(answer) is list else []
    return [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in parts]


def _wrong(answer: object, command: str) -> Exception:
    from redis.exceptions import InvalidResponse

    return InvalidResponse(
        f"{words(answer)} is no answer to {command}: what is there is no Redis server, or something on the way to it "
        f"changes what it says"
    )
