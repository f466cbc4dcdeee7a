"""Hostile users, neighbours and operators of locks on a Redis server, and the consequences."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

import pytest

from adapters.servers import RedisServer
from adapters.test_redis_queue import in_line, queue_of, second_in_line_behind
from polling import until
from syncprims import LockTimeoutError
from syncprims.adapters import LeaseExpiredError, RedisLock, RedisSemaphore
from syncprims.testing import patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 60.0


@pytest.mark.parametrize("name", ["a b\nc", "null\0byte", "{", "}{", "%d%s", "'\"]]", "\r\n", "ü€😀", "*", "x" * 5000])
def test_odd_names_are_names_like_others(client: Redis, key: str, name: str) -> None:
    """Odd names of locks and threads work: threads wait, get the lock, and are named."""
    lock = RedisLock(client, f"{key}{name}", lease=LEASE)
    entered, done = threading.Event(), threading.Event()

    def take() -> bool:
        with lock.hold(patience(30.0)):
            entered.set()
            return done.wait(patience(30.0))

    lock.acquire()
    thread = threading.Thread(target=take, name=name, daemon=True)
    thread.start()
    until(in_line(client, lock.name, 1))
    lock.release()
    assert entered.wait(patience(30.0))
    with (
        pytest.raises(LockTimeoutError, match=f"of process {os.getpid()} on"),
        RedisLock(client, lock.name, lease=LEASE).hold(0),
    ):
        pytest.fail("the body ran without the lock")
    done.set()
    thread.join(patience(30.0))
    assert not lock.locked()


def test_a_lock_whose_token_can_not_be_drawn_is_not_taken(client: Redis, key: str) -> None:
    """Another program has something else in that key: the error leaves neither lock nor permit acquired."""
    from redis.exceptions import ResponseError

    client.lpush(f"{{{key}}}:token", "something else")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        RedisLock(client, key, lease=LEASE).acquire()
    assert not client.exists(key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        RedisSemaphore(client, key, 1, lease=LEASE).acquire()
    assert not client.exists(key)


def test_garbage_beside_the_lock_is_passed_over(client: Redis, key: str) -> None:
    """An invalid token, turn or waiter keeps no thread from the lock."""
    client.set(f"{{{key}}}:token", "garbage")
    client.set(f"{{{key}}}:turn", "garbage")
    client.zadd(queue_of(key), {"garbage": 1})
    lock = RedisLock(client, key, lease=LEASE)
    with lock.hold(patience(30.0)):
        assert lock.token > 1
    assert not client.exists(key, queue_of(key))


def test_a_flush_of_all_scripts_goes_unnoticed(client: Redis, key: str) -> None:
    """It may come at any moment of a hold and of a wait."""
    lock = RedisLock(client, key, lease=LEASE)
    with lock:
        client.script_flush()
        lock.renew()
        waiting = second_in_line_behind(client, key)
        client.script_flush()
    assert waiting.result(patience(30.0)) is True


def test_a_server_that_forgets_everything_hands_the_lock_to_the_waiter_and_says_so(client: Redis, key: str) -> None:
    """For example by eviction: the waiter takes it at its next check, and the holder gets the loss when it leaves."""
    lock = RedisLock(client, key, lease=LEASE)
    with pytest.raises(LeaseExpiredError, match="the server lost it"), lock:  # noqa: PT012  the block is what is tested
        waiting = second_in_line_behind(client, key)
        client.delete(key, queue_of(key), f"{{{key}}}:token", f"{{{key}}}:turn")
        assert waiting.result(patience(30.0)) is True


def test_a_client_that_is_closed_under_its_locks_does_them_no_harm(shared_server: RedisServer, key: str) -> None:
    """They have their own connections, which a waiter and the renewal go on using."""
    client = shared_server.client()
    lock = RedisLock(client, key, lease=LEASE, renew=True)
    with lock:
        waiting = second_in_line_behind(client, key)
        client.close()
        client.connection_pool.disconnect()
        lock.renew()
        assert not lock.lost.is_set()
    assert waiting.result(patience(30.0)) is True


@pytest.mark.parametrize("lease", [1e-9, 0.001, 0.01])
@pytest.mark.parametrize("renew", [False, True])
def test_a_lease_that_is_too_short_to_be_kept_is_a_loss_with_a_word(
    client: Redis, key: str, lease: float, renew: bool
) -> None:
    """This holds with and without renewal; a release in time by the server's clock is no loss."""
    lock = RedisLock(client, key, lease=lease, timeout=patience(30.0), renew=renew)
    lock.acquire()
    lost = lock.lost
    assert lost.wait(patience(30.0)) is True
    failed = False
    try:
        lock.release()
    except LeaseExpiredError:
        failed = True
    assert lost.is_set() is failed
    assert not client.exists(key)


@pytest.mark.parametrize("lease", [86_400.0 * 3650, threading.TIMEOUT_MAX])
def test_a_lease_of_many_years_is_one(client: Redis, key: str, lease: float) -> None:
    """No number overflows, on either side."""
    for lock in (
        RedisLock(client, key, lease=lease, renew=True),
        RedisSemaphore(client, f"{key}-s", 1, lease=lease, renew=True),
    ):
        with lock:
            lock.renew()
            assert client.pttl(lock.name) > 86_400_000 * 3000
            assert not lock.lost.is_set()


def test_a_thousand_leases_are_renewed_by_one_thread(client: Redis, key: str) -> None:
    """One thread holds as many locks, and releases them all without a loss."""
    locks = [RedisLock(client, f"{key}-{number}", lease=LEASE, renew=True) for number in range(1000)]
    before = threading.active_count()
    for lock in locks:
        lock.acquire()
    assert threading.active_count() <= before + 1
    assert not any(lock.lost.is_set() for lock in locks)
    for lock in locks:
        lock.release()
    assert not any(client.exists(lock.name) for lock in locks[::100])
