"""The turn of a thread that got a `RedisLock` from the queue: for a moment it may acquire it again before others."""

from __future__ import annotations

import os
from socket import gethostname
from threading import current_thread
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.test_redis_queue import in_line, queue_of
from polling import until
from syncprims.adapters import RedisLock
from syncprims.adapters.leases import yes
from syncprims.testing import Threads, patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 60.0
HOUR: Final = 3_600_000_000  # microseconds


def turn_of(key: str) -> str:
    """The key of the turn."""
    return f"{{{key}}}:turn"


def me() -> str:
    """The calling thread, as it appears at the beginning of tokens."""
    return f"{gethostname()}/{os.getpid()}/{current_thread().name}"


def turn(client: Redis, key: str) -> tuple[int, int, str]:
    """When the turn is over, since when the lock was free in it, and which thread has it."""
    words: Any = client.get(turn_of(key))
    over, free_since, whose = words.decode().split(" ", 2)
    return int(over), int(free_since), whose


def now(client: Redis) -> int:
    """The server's time in microseconds."""
    seconds, micros = client.time()
    return int(seconds) * 1_000_000 + int(micros)


class Listener:
    """A waiter in the queue that gets its messages, and does not react."""

    def __init__(self, client: Redis, key: str, name: str) -> None:
        self._inbox = client.pubsub(ignore_subscribe_messages=False)
        self._inbox.subscribe(f"syncprims:{name}")
        assert self._inbox.get_message(timeout=patience(30.0))["type"] == "subscribe"
        self.token = f"elsewhere/1/{name}/token"
        client.zadd(queue_of(key), {f"syncprims:{name} 60000 {self.token}": now(client)})

    def hear(self, limit: float = 0.0) -> str | None:
        """The next message, if one comes in time."""
        found: Any = self._inbox.get_message(timeout=limit)
        return None if found is None else found["data"].decode()

    def close(self) -> None:
        """Stop listening."""
        self._inbox.close()


def test_one_that_got_it_from_the_queue_may_take_it_again(client: Redis, key: str) -> None:
    """Until its turn is over, it may do so before the waiters; the first of them gets one message that it was free."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    waiter = Listener(client, key, "first")
    client.set(turn_of(key), f"{now(client) + HOUR} 0 {me()}")
    for _ in range(3):
        lock.release()
        assert not client.exists(key)
        assert lock.acquire(False)
    number, _, rest = (waiter.hear(patience(30.0)) or "").partition(" ")
    assert number == "0"
    assert rest.endswith(f" {waiter.token}")
    assert waiter.hear() is None
    client.set(turn_of(key), f"{now(client) - 1} {now(client) - 2} {me()}")  # so it is over
    lock.release()
    assert client.get(key) == waiter.token.encode()
    assert (waiter.hear(patience(30.0)) or "").endswith(f" {waiter.token}")
    waiter.close()


def test_others_do_not_take_it_in_that_turn(client: Redis, key: str) -> None:
    """A newcomer, even in the same process, has to wait: the lock is passed to the first waiter."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    waiter = Listener(client, key, "first")
    client.set(turn_of(key), f"{now(client) + HOUR} 0 {me()}")
    lock.release()
    with Threads() as threads:
        assert threads.start(lock.acquire, False).result() is False
    assert client.get(key) == waiter.token.encode()
    assert not lock.acquire(False)
    waiter.close()


def test_one_that_comes_to_a_free_lock_has_no_turn(client: Redis, key: str) -> None:
    """When it releases the lock, the lock is passed on at once."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    waiter = Listener(client, key, "first")
    lock.release()
    assert client.get(key) == waiter.token.encode()
    waiter.close()


@pytest.mark.parametrize(("waiters", "most"), [(2, 30_000), (20, 12_000)])
def test_turns_are_short_and_shorter_with_many_waiters(client: Redis, key: str, waiters: int, most: int) -> None:
    """They last thirty milliseconds, or a share of 240 for each waiter."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    crowd = [Listener(client, key, f"{number}") for number in range(waiters)]
    before = now(client)
    lock.release()
    over, free_since, whose = turn(client, key)
    assert before + most <= over <= now(client) + most
    assert (free_since, whose) == (0, "elsewhere/1/0")
    for each in crowd:
        each.close()


def test_one_that_hears_of_a_free_lock_gets_it_and_ends_the_turns_for_a_while(client: Redis, key: str) -> None:
    """The previous thread has not come back in time, so turns would only delay the others."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    seen: list[tuple[int, int, str]] = []

    def take() -> None:
        with lock.hold(patience(30.0)):
            seen.append(turn(client, key))

    with Threads() as threads:
        first = threads.start(take)
        until(in_line(client, key, 1))
        second = Listener(client, key, "second")
        client.set(turn_of(key), f"{now(client) + HOUR} 0 {me()}")
        before = now(client)
        lock.release()
        first.result()
    (over, free_since, whose), *_ = seen
    assert before + 50_000 < over <= now(client) + 50_000
    assert (free_since, whose) == (0, "")
    assert client.get(key) == second.token.encode()  # passed to it, because there are no turns
    assert turn(client, key) == seen[0]
    second.close()


def test_a_turn_whose_thread_does_not_come_back_ends(client: Redis, key: str) -> None:
    """A waiter that came after the message checks when the turn is over."""
    lock, limit = RedisLock(client, key, lease=LEASE), patience(30.0)
    lock.acquire()
    invited = Listener(client, key, "first")
    client.set(turn_of(key), f"{now(client) + HOUR} 0 {me()}")
    lock.release()
    assert lock.acquire(False)
    with Threads() as threads:
        waiter = threads.start(lock.acquire, timeout=limit)
        until(in_line(client, key, 2))
        invited.close()  # it is dead now
        client.set(turn_of(key), f"{now(client) + 50_000} 1 {me()}")
        lock.release()
        assert waiter.result() is True


def test_one_that_leaves_the_queue_passes_its_invitation_on(client: Redis, key: str) -> None:
    """It got the message that the lock is free, and was interrupted before it could acquire it."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    first, second = Listener(client, key, "first"), Listener(client, key, "second")
    client.set(turn_of(key), f"{now(client) + HOUR} 0 {me()}")
    lock.release()
    lease, member = lock._lease, f"syncprims:first 60000 {first.token}"
    lease.server.run(yes, lease._let_go, first.token, "60000", member, "")
    assert client.get(key) == second.token.encode()
    for each in (first, second):
        each.close()
