"""How waiters on a Redis server get their turn: in the order of arrival, skipping threads that have died."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.servers import RedisServer
from polling import until
from syncprims import LockTimeoutError
from syncprims.adapters import RedisLock
from syncprims.testing import Running, Threads, assert_blocks, patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 60.0  # longer than any limit here: a test that waits for its end fails
SPAWN: Final = multiprocessing.get_context("spawn")


def queue_of(key: str) -> str:
    """The key of the waiting threads, which is in the slot of the lock's key."""
    return f"{key}:queue" if re.search("{[^}]+}", key) else f"{{{key}}}:queue"


def in_line(client: Redis, key: str, number: int) -> Callable[[], bool]:
    """Whether so many threads wait on the server."""
    return lambda: client.zcard(queue_of(key)) == number


def test_waiters_get_it_in_the_order_of_their_arrival(client: Redis, key: str) -> None:
    """Each releases to the next, and the server keeps no trace of them."""
    lock, order = RedisLock(client, key, lease=LEASE), []

    def take(number: int) -> None:
        with lock.hold(patience(30.0)):
            order.append(number)

    with Threads() as threads, lock:
        for number in range(5):
            threads.start(take, number)
            until(in_line(client, key, number + 1))
    assert order == [0, 1, 2, 3, 4]
    assert not client.exists(key, queue_of(key))


def test_who_lets_go_does_not_pass_those_who_have_waited(client: Redis, key: str) -> None:
    """The lock belongs to the waiter at the moment of the release, before the waiter has noticed."""
    ours, theirs = RedisLock(client, key, lease=LEASE), RedisLock(client, key, lease=LEASE)
    done = threading.Event()

    def take() -> bool:
        with theirs.hold(patience(30.0)):
            return done.wait(patience(30.0))

    with Threads() as threads:
        ours.acquire()
        waiter = threads.start(take)
        until(in_line(client, key, 1))
        ours.release()
        assert not ours.acquire(False)
        with pytest.raises(LockTimeoutError, match=f"process {os.getpid()} on"), ours.hold(0.01):
            pytest.fail("the body ran without the lock")
        done.set()
        assert waiter.result() is True


def test_a_waiter_that_gives_up_leaves_the_queue(client: Redis, key: str) -> None:
    """It gives up by its timeout, or because a hook raises before the wait; the lock goes to the next one."""

    class Refusing(RedisLock):
        def _on_wait(self, holder: object) -> None:
            raise LookupError

    lock = RedisLock(client, key, lease=LEASE)
    refusing = Refusing(client, key, lease=LEASE)
    with lock, Threads() as threads:
        waiter = threads.start(lock.acquire, timeout=0.05)
        assert waiter.result() is False
        for _ in range(2):  # the second time, an idle inbox exists
            failing = threads.start(refusing.__enter__)
            assert isinstance(failing.exception(), LookupError)
        assert not client.exists(queue_of(key))
    assert lock.acquire(False)
    lock.release()


def _wait(port: int, key: str, pipe: Connection, lease: float) -> None:
    from redis import Redis

    pipe.send("waits")
    with RedisLock(Redis("127.0.0.1", port, socket_timeout=30.0), key, lease=lease):
        pipe.send("held")
        pipe.recv()


def waiter_elsewhere(server: RedisServer, client: Redis, key: str, lease: float) -> Any:
    """Start a process that waits for the lock, as the first."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_wait, args=(server.port, key, there, lease), daemon=True)
    process.start()
    assert here.poll(patience(30.0))
    assert here.recv() == "waits"
    until(in_line(client, key, 1), patience(30.0))
    return process


def second_in_line(client: Redis, key: str) -> Running[bool]:
    """Start a thread that waits behind it."""
    lock = RedisLock(client, key, lease=LEASE)

    def take() -> bool:
        with lock.hold(patience(30.0)):
            return lock.held_by_me()

    waiting = assert_blocks(take, until=lambda: lock.waiting == 1)
    until(in_line(client, key, 2))
    return waiting


def test_a_waiter_that_died_is_passed_over(shared_server: RedisServer, client: Redis, key: str) -> None:
    """The next one gets the lock at once, though leases are longer than its timeout."""
    lock = RedisLock(client, key, lease=LEASE)
    with lock:
        first = waiter_elsewhere(shared_server, client, key, LEASE)
        second = second_in_line(client, key)
        first.kill()
        first.join(patience(30.0))
    assert second.result(patience(30.0)) is True
    assert not client.exists(key)


def test_a_waiter_that_dies_after_its_word_came_costs_one_lease(
    shared_server: RedisServer, client: Redis, key: str
) -> None:
    """It was stopped when the lock was passed to it, and then killed: the next one gets it when that lease is over."""
    lock = RedisLock(client, key, lease=LEASE)
    with lock:
        first = waiter_elsewhere(shared_server, client, key, 1.0)
        second = second_in_line(client, key)
        os.kill(first.pid, signal.SIGSTOP)
    holder = str(client.get(key))
    first.kill()
    first.join(patience(30.0))
    assert f"/{first.pid}/" in holder, "it was not handed to the one that could not hear"
    assert second.result(patience(30.0)) is True


def test_a_word_that_comes_after_the_end_of_the_lease_is_no_hold(
    shared_server: RedisServer, client: Redis, key: str
) -> None:
    """A waiter that slept through its own lease asks again, and waits while another has the lock."""
    lock = RedisLock(client, key, lease=LEASE)
    here, there = SPAWN.Pipe()
    lock.acquire()
    first = SPAWN.Process(target=_wait, args=(shared_server.port, key, there, 0.2), daemon=True)
    first.start()
    assert first.pid is not None
    try:
        assert here.poll(patience(30.0))
        assert here.recv() == "waits"
        until(in_line(client, key, 1))
        os.kill(first.pid, signal.SIGSTOP)
        lock.release()
        with lock.hold(patience(30.0)):  # once the sleeper's lease has ended
            os.kill(first.pid, signal.SIGCONT)
            until(in_line(client, key, 1))
            assert not here.poll()
        assert here.poll(patience(30.0))
        assert here.recv() == "held"
        here.send("done")
        first.join(patience(30.0))
        assert first.exitcode in (0, 1)  # 1 if its short lease is over by now, and it gets the error
    finally:
        first.kill()
        first.join()


def test_a_client_that_hands_on_to_nobody_is_waited_for_too(client: Redis, key: str) -> None:
    """redis-py's own lock publishes nothing when it is released."""
    theirs = client.lock(key, timeout=LEASE)
    assert theirs.acquire(blocking=False)
    waiting = second_in_line_behind(client, key)
    theirs.release()
    assert waiting.result(patience(30.0)) is True


def second_in_line_behind(client: Redis, key: str) -> Running[bool]:
    """Start a thread that waits behind the holder."""
    lock = RedisLock(client, key, lease=LEASE)

    def take() -> bool:
        with lock.hold(patience(30.0)):
            return lock.held_by_me()

    return assert_blocks(take, until=in_line(client, key, 1))


def test_a_waiter_whose_connection_breaks_finds_its_way_back(client: Redis, key: str) -> None:
    """The server drops all listeners; threads that wait with a limit come again, and get the lock."""
    lock = RedisLock(client, key, lease=LEASE)
    with lock:
        waiting = second_in_line_behind(client, key)
        before = client.zrange(queue_of(key), 0, -1)
        client.client_kill_filter(_type="pubsub")
        until(lambda: client.zrange(queue_of(key), -1, -1) != before)
    assert waiting.result(patience(30.0)) is True


# -- fencing tokens ----------------------------------------------------------------------------------------------------


def test_each_hold_has_a_greater_token(client: Redis, key: str) -> None:
    """This holds whether it was free or passed to a waiter, and for any object that acquired it."""
    locks = [RedisLock(client, key, lease=LEASE) for _ in range(2)]
    tokens: list[int] = []

    def take(lock: RedisLock) -> None:
        with lock.hold(patience(30.0)):
            tokens.append(lock.token)

    for lock in locks * 2:
        take(lock)
    with locks[0], Threads() as threads:
        tokens.append(locks[0].token)
        for number in range(3):
            threads.start(take, locks[1])
            until(in_line(client, key, number + 1))
        locks[0].release()
        threads.join(patience(30.0))
        locks[0].acquire()
    assert len(tokens) == 8
    assert tokens == sorted(set(tokens))
    assert all(type(token) is int and token.bit_length() <= 53 for token in tokens)


def test_tokens_grow_though_the_server_has_forgotten_everything(own_server: RedisServer, key: str) -> None:
    """A restarted server goes on with numbers that were not used before."""
    lock = RedisLock(own_server.client(), key, lease=LEASE)
    with lock:
        before = lock.token
    own_server.kill()
    own_server.start()
    with lock.hold(patience(30.0)):
        assert lock.token > before


def test_tokens_grow_though_the_clock_is_behind(client: Redis, key: str) -> None:
    """The number of the last hold is kept for a week, so setting a clock back by less does no harm."""
    lock = RedisLock(client, key, lease=LEASE)
    seconds, _ = client.time()
    ahead = (seconds + 3600) * 1_000_000
    client.set(f"{{{key}}}:token", ahead)
    with lock:
        assert lock.token == ahead + 1
    assert client.ttl(f"{{{key}}}:token") > 600_000


def test_there_is_no_token_for_a_thread_that_does_not_hold_it(client: Redis, key: str) -> None:
    """It is not None, which a storage would accept."""
    lock = RedisLock(client, key, lease=LEASE)
    with pytest.raises(RuntimeError, match="does not hold it"):
        _ = lock.token
    with lock, Threads() as threads:
        assert isinstance(threads.start(lambda: lock.token).exception(), RuntimeError)


# -- many --------------------------------------------------------------------------------------------------------------


def _hammer(port: int, key: str, times: int) -> None:
    from redis import Redis

    client = Redis("127.0.0.1", port, socket_timeout=patience(30.0))
    lock = RedisLock(client, key, lease=LEASE, timeout=patience(100.0))
    for _ in range(times):
        with lock:
            assert client.incr(f"{key}-inside") == 1
            assert client.rpush(f"{key}-tokens", lock.token)
            client.decr(f"{key}-inside")


@pytest.mark.parametrize("times", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_processes_never_meet_and_their_tokens_grow(
    shared_server: RedisServer, client: Redis, key: str, times: int
) -> None:
    """Four of them, each at its own pace: one inside at a time, each with a number greater than all before."""
    crowd = [SPAWN.Process(target=_hammer, args=(shared_server.port, key, times), daemon=True) for _ in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(patience(150.0))
    assert [process.exitcode for process in crowd] == [0] * len(crowd)
    tokens: list[Any] = client.lrange(f"{key}-tokens", 0, -1)
    assert [*map(int, tokens)] == sorted(set(map(int, tokens)))
    assert len(tokens) == len(crowd) * times
