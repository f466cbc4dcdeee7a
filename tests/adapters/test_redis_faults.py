"""`RedisLock` and `RedisCounter` when the server or a client fails: they always answer in time."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from adapters.servers import RedisServer
from polling import until
from syncprims import CounterTimeoutError, LockTimeoutError
from syncprims.adapters import LeaseExpiredError, RedisCounter, RedisLock
from syncprims.testing import Threads, assert_blocks, patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 30.0
SOCKET: Final = 0.2  # seconds that the clients wait for an answer
PROCESSES: Final = 2
THREADS: Final = 8
TIMES: Final = 25


def take_and_release(lock: RedisLock) -> bool:
    """Wait for the lock, and release it."""
    with lock.hold(patience()):
        return lock.held_by_me()


def waiting(lock: RedisLock) -> Callable[[], bool]:
    """Whether a thread waits for the lock."""
    return lambda: lock.waiting == 1


# -- the server goes away ---------------------------------------------------------------------------------------------


def test_a_killed_server_is_an_error_at_once_for_those_who_need_it(own_server: RedisServer, key: str) -> None:
    """Waits without a limit, tries and changes raise the client's error; nothing hangs and no answer is made up."""
    import redis

    client = own_server.client(socket_timeout=SOCKET)
    lock, counter = RedisLock(client, key, lease=LEASE), RedisCounter(client, f"{key}-n")
    counter.increment()
    own_server.kill()
    needs: list[Callable[[], object]] = [
        lock.acquire,
        lambda: lock.acquire(False),
        lock.__enter__,
        lock.locked,
        counter.increment,
        lambda: counter.value,
        lambda: counter.wait_until(5),
    ]
    started = time.monotonic()
    for need in needs:
        with pytest.raises(redis.ConnectionError):
            need()
    assert time.monotonic() - started < patience(3.0)
    assert not lock.held_by_me()


def test_a_limited_wait_for_a_killed_server_goes_on_to_its_limit(own_server: RedisServer, key: str) -> None:
    """It may come back; if it does not, the error has the client's error as its cause."""
    import redis

    client = own_server.client(socket_timeout=SOCKET)
    lock, counter = RedisLock(client, key, lease=LEASE, timeout=0.15), RedisCounter(client, f"{key}-n")
    own_server.kill()
    for enter in (lock.__enter__, lock.hold(0.15).__enter__, lock.hold(0).__enter__):
        with pytest.raises(LockTimeoutError, match="its Redis server did not answer") as caught:
            enter()
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        assert caught.value.waited >= 0.9 * (caught.value.timeout or 0)
    with pytest.raises(redis.ConnectionError):
        lock.acquire(timeout=0.05)
    with pytest.raises(CounterTimeoutError, match="its Redis server did not answer") as late:
        counter.wait_until(1, 0.15)
    assert isinstance(late.value.__cause__, redis.ConnectionError)


def test_a_lock_that_is_held_when_the_server_is_killed_is_lost_with_a_word(own_server: RedisServer, key: str) -> None:
    """Leaving the block raises the client's error, or notes it on the block's own; then the thread holds nothing."""
    import redis

    lock = RedisLock(own_server.client(socket_timeout=SOCKET), key, lease=LEASE)
    with pytest.raises(redis.ConnectionError), lock:
        own_server.kill()
    assert not lock.held_by_me()
    own_server.start()
    with pytest.raises(ZeroDivisionError) as caught, lock:  # noqa: PT012  the block is what is tested
        own_server.kill()
        raise ZeroDivisionError
    assert "the release of" in "".join(caught.value.__notes__)
    assert not lock.held_by_me()


def test_a_restarted_server_has_forgotten_its_locks_and_says_so(own_server: RedisServer, key: str) -> None:
    """The holder gets the error of the loss when it leaves, and does not release the lock of a new holder."""
    lock, other = (RedisLock(own_server.client(socket_timeout=SOCKET), key, lease=LEASE) for _ in range(2))
    with pytest.raises(LeaseExpiredError, match="the server lost it"), lock:  # noqa: PT012  the block is what is tested
        own_server.kill()
        own_server.start()
        assert other.acquire(timeout=patience())
    assert other.locked()
    other.release()


def test_a_waiter_outlives_a_restart_of_the_server(own_server: RedisServer, key: str) -> None:
    """Within its limit it goes on waiting, and gets the lock, which the server has forgotten."""
    client = own_server.client(socket_timeout=SOCKET)
    lock, other = RedisLock(client, key, lease=LEASE), RedisLock(client, key, lease=LEASE)
    counter = RedisCounter(client, f"{key}-n")
    with pytest.raises(LeaseExpiredError), lock:  # noqa: PT012  the block is what is tested
        blocked = assert_blocks(partial(take_and_release, other), until=waiting(other))
        counting = assert_blocks(lambda: counter.wait_until(1, patience()))
        own_server.kill()
        assert not blocked.done()
        own_server.start()
        assert blocked.result() is True
        counter.increment()
        assert counting.result() == 1


def test_a_waiter_without_limit_hears_of_the_end_of_the_server(own_server: RedisServer, key: str) -> None:
    """No other client would ever notify it."""
    import redis

    client = own_server.client(socket_timeout=SOCKET)
    lock, other = RedisLock(client, key, lease=LEASE), RedisLock(client, key, lease=LEASE)
    lock.acquire()
    blocked = assert_blocks(other.acquire, until=waiting(other))
    own_server.kill()
    assert isinstance(blocked.exception(), redis.ConnectionError)
    with pytest.raises(redis.ConnectionError):
        lock.release()


# -- the server stalls ------------------------------------------------------------------------------------------------


def test_a_stalled_server_holds_nobody_longer_than_the_limits(own_server: RedisServer, key: str) -> None:
    """A wait ends at its limit plus one socket timeout, even with a client that would try ten times more."""
    import redis

    client = own_server.client(socket_timeout=SOCKET)
    lock, counter = RedisLock(client, key, lease=LEASE, timeout=0.3), RedisCounter(client, f"{key}-n")
    own_server.stall()
    started = time.monotonic()
    with pytest.raises(LockTimeoutError, match="did not answer") as caught, lock:
        pytest.fail("the body ran without the lock")
    assert 0.29 <= caught.value.waited <= time.monotonic() - started < 0.3 + SOCKET + patience(1.0)
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        lock.acquire()
    with pytest.raises(redis.TimeoutError):
        counter.increment()
    assert time.monotonic() - started < 2 * SOCKET + patience(1.0)
    own_server.go_on()


def test_a_stall_that_is_over_in_time_is_survived(own_server: RedisServer, key: str) -> None:
    """The lock that the stalled server gave to the first tries is the thread's own, so it has the lock at once."""
    lock = RedisLock(own_server.client(socket_timeout=SOCKET), key, lease=LEASE)
    own_server.stall()
    blocked = assert_blocks(partial(take_and_release, lock), look=3 * SOCKET)
    own_server.go_on()
    assert blocked.result() is True
    assert not lock.locked()


def test_a_try_that_went_unanswered_is_the_same_threads_when_it_tries_again(own_server: RedisServer, key: str) -> None:
    """The server may have given it the lock without its knowledge: then it gets that hold."""
    import redis

    lock = RedisLock(own_server.client(socket_timeout=SOCKET), key, lease=LEASE)
    with lock:  # connected now, so that the try itself reaches the stalled server, which knows the script
        pass
    own_server.stall()
    with pytest.raises(redis.TimeoutError):
        lock.acquire()
    own_server.go_on()
    plain = own_server.client()
    until(lambda: bool(plain.exists(key)))  # the unanswered try has been executed
    with lock.hold(0):
        assert lock.held_by_me()
    assert not plain.exists(key)


def test_a_stalled_change_is_made_once_or_not_at_all(own_server: RedisServer, key: str) -> None:
    """Each change without an answer has counted at most once, though the client retries others."""
    import redis

    counter = RedisCounter(own_server.client(socket_timeout=SOCKET), key)
    counter.set(0)  # connected now, so that the first change reaches the stalled server
    own_server.stall()
    for _ in range(3):
        with pytest.raises(redis.TimeoutError):
            counter.increment()
    own_server.go_on()
    until(lambda: counter.value > 0)
    assert 1 <= counter.value <= 3
    for _ in range(5):
        counter.increment()  # its answers are not those to earlier changes
    assert 6 <= counter.value <= 8


def test_a_late_answer_is_not_taken_for_the_next_one(own_server: RedisServer, key: str) -> None:
    """After an unanswered command every further answer belongs to its own command."""
    import redis

    client = own_server.client(socket_timeout=SOCKET)
    counter, lock = RedisCounter(client, key), RedisLock(client, f"{key}-lock", lease=LEASE)
    counter.set(100)
    own_server.stall()
    with pytest.raises(redis.TimeoutError):
        _ = counter.value
    own_server.go_on()
    with lock:
        assert [counter.get_and_set(number) for number in (7, 8, 9)] == [100, 7, 8]


# -- something between the server and the client ----------------------------------------------------------------------


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(key: str) -> None:
    """The first command of a connection, with its handshake, takes no longer than the client's limit either."""
    redis = pytest.importorskip("redis", reason="needs redis-py: pip install 'syncprims[redis]'")
    with silent_port() as port:
        lock = RedisLock(redis.Redis("127.0.0.1", port, socket_timeout=SOCKET), key, lease=LEASE)
        started = time.monotonic()
        with pytest.raises(LockTimeoutError), lock.hold(0.1):
            pytest.fail("the body ran without the lock")
        assert time.monotonic() - started < 0.1 + 2 * SOCKET + patience(1.0)


def test_a_wrong_password_is_told_at_once(own_server: RedisServer, key: str) -> None:
    """Waiting would not make it right."""
    import redis

    own_server.client().config_set("requirepass", "right")
    client = redis.Redis("127.0.0.1", own_server.port, password="wrong", socket_timeout=SOCKET)
    lock = RedisLock(client, key, lease=LEASE)
    started = time.monotonic()
    with pytest.raises(redis.AuthenticationError), lock.hold(patience(60.0)):
        pytest.fail("the body ran without the lock")
    assert time.monotonic() - started < patience()


# -- clients that die, and clients in crowds --------------------------------------------------------------------------


def _hold_and_tell(port: int, key: str, pipe: multiprocessing.connection.Connection) -> None:
    from redis import Redis

    with RedisLock(Redis("127.0.0.1", port, socket_timeout=5.0), key, lease=1.0):
        pipe.send("held")
        threading.Event().wait()


def test_a_client_that_dies_holding_keeps_others_out_to_the_end_of_its_lease(
    shared_server: RedisServer, key: str
) -> None:
    """A process that was killed with the lock frees it by its lease, and the waiter learns which process it was."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    holder = spawn.Process(target=_hold_and_tell, args=(shared_server.port, key, there), daemon=True)
    holder.start()
    try:
        assert here.poll(patience(20.0))
        assert here.recv() == "held"
        holder.kill()
        holder.join(patience())
        assert holder.exitcode == -signal.SIGKILL
        lock = RedisLock(shared_server.client(), key, lease=LEASE)
        with pytest.raises(LockTimeoutError, match=f"of process {holder.pid} on .*; its lease ends in"), lock.hold(0):
            pytest.fail("the body ran without the lock")
        with lock.hold(patience()):
            assert lock.held_by_me()
    finally:
        holder.kill()


def _hammer(port: int, key: str) -> None:
    """In eight threads: count in one step, and under the lock in two."""
    from redis import Redis

    client = Redis("127.0.0.1", port, socket_timeout=patience())
    counter = RedisCounter(client, f"{key}-exact")
    lock = RedisLock(client, f"{key}-lock", lease=LEASE, timeout=patience(60.0))

    def work() -> None:
        for _ in range(TIMES):
            counter.increment()
            with lock:
                inside = client.incr(f"{key}-inside")
                assert inside == 1, f"{inside} are inside"
                client.set(f"{key}-slow", int(client.get(f"{key}-slow") or 0) + 1)
                client.decr(f"{key}-inside")

    with Threads(patience(60.0)) as threads:
        for _ in range(THREADS):
            threads.start(work)


@pytest.mark.slow
def test_two_processes_of_eight_threads_lose_nothing_and_never_meet(
    shared_server: RedisServer, client: Redis, key: str
) -> None:
    """The counter is exact, and so is the count in two steps under the lock, with one thread inside at a time."""
    spawn = multiprocessing.get_context("spawn")
    crowd = [spawn.Process(target=_hammer, args=(shared_server.port, key), daemon=True) for _ in range(PROCESSES)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(patience(100.0))
    assert [process.exitcode for process in crowd] == [0] * PROCESSES
    assert RedisCounter(client, f"{key}-exact").value == PROCESSES * THREADS * TIMES
    assert int(client.get(f"{key}-slow") or 0) == PROCESSES * THREADS * TIMES
