"""Peers that are not a Redis server, or a slow one: every operation ends in time, and no answer is made up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from syncprims import CounterBoundsError, CounterTimeoutError, LockTimeoutError
from syncprims.adapters import RedisCounter, RedisLock
from syncprims.testing import Threads, patience

if TYPE_CHECKING:
    from redis import Redis

pytestmark = pytest.mark.skipif(find_spec("redis") is None, reason="needs redis-py: pip install 'syncprims[redis]'")

CONNECT: Final = 0.5  # seconds
ANSWER: Final = 0.4
SLOW: Final = ANSWER / 4  # between two bytes


class Peer:
    """Listens like a Redis server, and answers each command, once connected, by a function of its own."""

    def __init__(self, answer: Callable[[socket.socket, bytes], object], greets: bool = True) -> None:
        self._answer = answer
        self._greets = greets
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0

    def serve(self) -> None:
        """Accept connections until `end`, each in its own thread."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    if self._greets and (b"HELLO" in data or b"CLIENT" in data or b"SELECT" in data):
                        connection.sendall(b"+OK\r\n" * (data.count(b"\r\n*") + 1))
                    else:
                        self._answer(connection, data)
            except OSError:
                pass

    def dribble(self, connection: socket.socket, answer: bytes) -> None:
        """Send the answer byte by byte, each of them in time."""
        for byte in answer:
            connection.sendall(bytes([byte]))
            if self._over.wait(SLOW):
                return

    def client(self, **options: Any) -> Redis:
        """A client of it."""
        from redis import Redis

        return Redis(
            "127.0.0.1", self.port, socket_timeout=ANSWER, socket_connect_timeout=CONNECT, protocol=2, **options
        )

    def end(self) -> None:
        """Accept no more connections."""
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def peer(answer: Callable[[socket.socket, bytes], object], greets: bool = True) -> Iterator[Peer]:
    """Have a peer for a block."""
    it = Peer(answer, greets)
    with Threads() as threads:
        threads.start(it.serve)
        try:
            yield it
        finally:
            it.end()


def saying(answer: bytes) -> Callable[[socket.socket, bytes], object]:
    """A peer that answers every command in the same way."""
    return lambda connection, _: connection.sendall(answer)


def operations(client: Redis) -> dict[str, Callable[[], object]]:
    """All operations that use the server, by name; a holder's release pretends that it has the lock."""
    lock, counter = RedisLock(client, "lock", lease=5), RedisCounter(client, "counter")
    held = RedisLock(client, "held", lease=5)

    from syncprims.adapters.lease_holds import LeaseHold

    def holding(then: Callable[[], object]) -> Callable[[], object]:
        def pretend() -> object:
            held._lease.holds[get_ident()] = [LeaseHold(held._lease, held._lease.mine.life)]
            held._holds.clear()
            held._mine().append(None)
            return then()

        return pretend

    return {
        "acquire(False)": lambda: lock.acquire(False),
        "acquire()": lock.acquire,
        "with": lock.__enter__,
        "locked": lock.locked,
        "release": holding(held.release),
        "renew": holding(held.renew),
        "value": lambda: counter.value,
        "increment": counter.increment,
        "decrement": counter.decrement,
        "add": lambda: counter.add(3),
        "get_and_add": lambda: counter.get_and_add(3),
        "set": lambda: counter.set(3),
        "get_and_set": lambda: counter.get_and_set(3),
        "compare_and_set": lambda: counter.compare_and_set(3, 4),
        "wait_until": lambda: counter.wait_until(10**30),
        "wait_for": lambda: counter.wait_for(lambda _: False),
    }


NAMES = [
    *("acquire(False)", "acquire()", "with", "locked", "release", "renew", "value", "increment", "decrement", "add"),
    *("get_and_add", "set", "get_and_set", "compare_and_set", "wait_until", "wait_for"),
]


# -- slow answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_dribbles_in_is_given_up_in_time(name: str) -> None:
    """The limit is for the whole exchange, not for each byte of it."""
    from redis.exceptions import TimeoutError as NoAnswerError

    with peer(lambda connection, _: it.dribble(connection, b"$10000\r\n" + 10_000 * b"1")) as it:
        operation = operations(it.client())[name]
        started = monotonic()
        with pytest.raises(NoAnswerError):
            operation()
        assert monotonic() - started < CONNECT + ANSWER + patience(1.0)


def test_a_greeting_that_dribbles_in_is_given_up_in_time() -> None:
    """Connecting and the client's first messages count, too: at most, they take both limits together."""
    from redis.exceptions import RedisError

    with peer(lambda connection, _: it.dribble(connection, 100 * b"+OK\r\n"), greets=False) as it:
        started = monotonic()
        with pytest.raises(RedisError):
            RedisCounter(it.client(db=3), "counter").increment()
        assert monotonic() - started < CONNECT + ANSWER + patience(1.0)


def test_waits_with_a_limit_end_soon_after_it() -> None:
    """They end at most one exchange later, with the last failure as the cause."""
    with peer(lambda connection, _: it.dribble(connection, b"$10000\r\n" + 10_000 * b"1")) as it:
        for wait, error in (
            (RedisLock(it.client(), "lock", lease=5, timeout=0.2).__enter__, LockTimeoutError),
            (lambda: RedisCounter(it.client(), "counter").wait_until(1, 0.2), CounterTimeoutError),
        ):
            started = monotonic()
            with pytest.raises(error, match="Redis server did not answer"):
                wait()
            assert monotonic() - started < 0.2 + CONNECT + ANSWER + patience(1.0)


def test_a_slow_answer_that_comes_in_time_is_taken() -> None:
    """Each exchange has all the time again, on a connection that is reused."""
    pieces = [b"*3\r\n:1\r\n", b"$1\r\n4\r\n", b"$1\r\n5\r\n"]

    def answer(connection: socket.socket, _: bytes) -> None:
        for piece in pieces:
            connection.sendall(piece)
            threading.Event().wait(SLOW)

    with peer(answer) as it:
        counter = RedisCounter(it.client(), "counter")
        assert [counter.increment() for _ in range(4)] == [5] * 4
        assert it.connections == 1


# -- answers of the wrong shape ----------------------------------------------------------------------------------------

WRONG = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "OK": b"+OK\r\n",
    "a text": b"$5\r\nhello\r\n",
    "a large integer": b":75\r\n",
    "no list": b"*-1\r\n",
    "an empty list": b"*0\r\n",
    "a list of one": b"*1\r\n+x\r\n",
    "a list of two integers": b"*2\r\n:5\r\n:6\r\n",
    "a list of three texts": b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n",
    "a list with nothing in it": b"*3\r\n:1\r\n$-1\r\n$-1\r\n",
    "a long list": b"*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n",
    "a change of its own": b"*3\r\n:1\r\n$2\r\n70\r\n$2\r\n75\r\n",
    "an integer that is none": b":x\r\n",
    "a length that is none": b"$x\r\n",
    "lists in lists": 100_000 * b"*1\r\n",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_answer_that_does_not_fit_is_an_error(wrong: bytes, name: str) -> None:
    """It never becomes a value, a lock or a truth; and the next command uses a new connection."""
    from redis.exceptions import RedisError

    if wrong == WRONG["no list"] and name in ("value", "wait_until", "wait_for"):
        wrong = WRONG["an empty list"]  # GET answers nothing for a missing key
    with peer(saying(wrong)) as it:
        operation = operations(it.client())[name]
        for times in (1, 2):
            with pytest.raises(RedisError) as caught:
                operation()
            assert not isinstance(caught.value, CounterBoundsError)
            assert it.connections == times


def test_nothing_is_told_of_an_answer_but_that_it_is_none() -> None:
    """The error says which answer it was, to which command."""
    from redis.exceptions import InvalidResponse

    says = r"\[5, 6\] is no answer to EVAL about 'counter' .* no Redis server"
    with peer(saying(b"*2\r\n:5\r\n:6\r\n")) as it, pytest.raises(InvalidResponse, match=says):
        RedisCounter(it.client(), "counter").increment()


def test_a_second_answer_to_one_command_is_not_the_next_ones() -> None:
    """Data that is left on a connection between commands is dropped with the connection."""
    with peer(saying(b":0\r\n:1\r\n")) as it:
        lock = RedisLock(it.client(), "lock", lease=5)
        assert [lock.locked() for _ in range(3)] == [False] * 3
        assert it.connections == 3


def test_bounds_that_the_server_says_were_broken_must_be() -> None:
    """A change within the bounds was not refused for them."""
    from redis.exceptions import InvalidResponse

    with peer(saying(b"*2\r\n:0\r\n$1\r\n7\r\n")) as it:
        with pytest.raises(InvalidResponse, match="8 is within the bounds"):
            RedisCounter(it.client(), "counter").increment()
        with pytest.raises(CounterBoundsError, match="can't become 8, more than its maximum 7; it stays at 7"):
            RedisCounter(it.client(), "counter", maximum=7).increment()


def test_a_predicates_own_error_is_no_servers_failure() -> None:
    """It is raised at once, although it looks like a lost connection."""
    from redis.exceptions import ConnectionError as LostError

    def predicate(value: int) -> bool:
        raise LostError(f"not ours, at {value}")

    with peer(saying(b"$1\r\n7\r\n")) as it, pytest.raises(LostError, match="not ours, at 7"):
        RedisCounter(it.client(), "counter").wait_for(predicate, patience())


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda client, key: RedisLock(client, key, lease=5), RedisCounter])
@pytest.mark.parametrize(
    ("key", "encoding", "error", "says"),
    [
        ("\ud800", "utf-8", ValueError, r"name '\\ud800' can't be a key: the client can't say it in 'utf-8'"),
        ("große", "ascii", ValueError, "can't say it in 'ascii'"),
        ("", "utf-8", ValueError, "name must not be empty"),
        (None, "utf-8", TypeError, "name must be a string"),
        (b"key", "utf-8", TypeError, "name must be a string"),
    ],
)
def test_a_key_that_can_not_be_said_is_refused_at_once(
    make: Callable[[Redis, Any], object], key: Any, encoding: str, error: type[Exception], says: str
) -> None:
    """This happens before the lock or the counter is used, and without a connection."""
    with peer(saying(b"+OK\r\n")) as it:
        with pytest.raises(error, match=says):
            make(it.client(encoding=encoding), key)
        assert it.connections == 0
