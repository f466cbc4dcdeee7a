"""`RedisSemaphore` on a real server: never more holders than permits, even if holders die."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.examples import run_examples
from adapters.servers import RedisServer
from polling import until
from syncprims import LockTimeoutError, TimedLock, acquire_all
from syncprims.adapters import LeaseExpiredError, LeaseHolder, RedisLock, RedisSemaphore
from syncprims.testing import Threads, assert_blocks, check_lock, patience
from testing.rejections import ENTERED_TWICE, NOT_OF_FOREIGN_LOCKS, NOT_OF_LOCKS_IN_PYTHON

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 60.0
SPAWN: Final = multiprocessing.get_context("spawn")


def members(client: Redis, key: str) -> list[bytes]:
    """The members of a sorted set."""
    found: Any = client.zrange(key, 0, -1)
    return list(found)


class OnePermit(RedisSemaphore):
    """A semaphore with one permit is a lock; its `release` has the meaning of the clauses for locks."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        return super(RedisSemaphore, self).acquire(blocking, timeout)

    def release(self, n: Any = 1) -> None:
        super(RedisSemaphore, self).release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interrupted, redis-py drops sockets
def test_with_one_permit_it_keeps_the_contract_of_a_lock_but_for_the_clauses_listed(
    client: Redis, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conformance kit passes it, without the clauses that no lock on a server can keep."""
    monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", str(patience(4.0)))  # each turn is a round trip to the server
    serials = iter(range(1_000_000))
    report = check_lock(
        lambda: OnePermit(client, f"{key}-{next(serials)}", 1, lease=LEASE),
        without=(*NOT_OF_FOREIGN_LOCKS, *NOT_OF_LOCKS_IN_PYTHON, ENTERED_TWICE),
    )
    assert report.broken == ()


def test_the_examples_of_the_documentation_run(shared_server: RedisServer) -> None:
    """The class's docstring shows the true outcomes."""
    run_examples(RedisSemaphore, shared_server)


def test_so_many_are_let_in_and_no_more(client: Redis, key: str) -> None:
    """The error names all threads that have a permit; the value is the number of free ones."""
    one, another = (RedisSemaphore(client, key, 2, lease=LEASE, timeout=0.05) for _ in range(2))
    assert (one.permits, one.value, one.holders, one.locked()) == (2, 2, (), False)
    with one:
        assert another.value == 1
        with another.hold(None):
            assert (one.value, one.locked()) == (0, True)
            with pytest.raises(LockTimeoutError) as caught, one:
                pytest.fail("the body ran without a permit")
            holders = one.holders
    said = str(caught.value)
    assert said.count(f"Thread 'MainThread' of process {os.getpid()} on") == 2
    assert "whose permits are all taken" in said
    assert (caught.value.lock_name, caught.value.timeout) == (key, 0.05)
    assert [(type(holder), holder.pid, holder.thread) for holder in holders] == 2 * [
        (LeaseHolder, os.getpid(), "MainThread")
    ]
    assert all(0 < (holder.lease_left or 0) <= LEASE for holder in holders)
    assert not client.exists(key)


def test_a_thread_may_have_several(client: Redis, key: str) -> None:
    """Each is one of the permits, with its own token."""
    semaphore = RedisSemaphore(client, key, 2, lease=LEASE, timeout=0)
    with semaphore:
        first = semaphore.token
        with semaphore.hold(0):
            assert semaphore.token > first
            assert not semaphore.acquire(False)
        assert semaphore.token == first
    assert semaphore.value == 2


def test_release_is_for_any_thread_and_never_too_much(client: Redis, key: str) -> None:
    """This is for permits of `acquire`; a permit of a `with` is given back by leaving the block."""
    semaphore = RedisSemaphore(client, key, 3, lease=LEASE)
    with pytest.raises(ValueError, match="acquire\\(\\) has taken 0"):
        semaphore.release()
    with semaphore:
        assert semaphore.acquire()
        assert semaphore.acquire(timeout=1.0)
        with pytest.raises(ValueError, match="cannot release 3"):
            semaphore.release(3)
        with Threads() as threads:
            threads.start(semaphore.release, 2)
        assert semaphore.value == 2
        assert semaphore.held_by_me()
        with pytest.raises(ValueError, match="has taken 0"):
            semaphore.release()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            semaphore.release(wrong)
    assert semaphore.value == 3


def test_a_lost_permit_is_an_error_and_the_others_are_given_back(client: Redis, key: str) -> None:
    """This holds for a release by hand and for leaving the block."""
    semaphore = RedisSemaphore(client, key, 3, lease=LEASE)
    for _ in range(3):
        semaphore.acquire()
    client.zremrangebyrank(key, 1, 1)
    with pytest.raises(LeaseExpiredError):
        semaphore.release(3)
    assert semaphore.value == 3
    with pytest.raises(LeaseExpiredError, match="another client removed it"), semaphore:
        client.delete(key)


def test_waiters_get_permits_in_the_order_of_their_arrival(client: Redis, key: str) -> None:
    """As many get one as have become free, and a newcomer does not come before them."""
    semaphore, order = RedisSemaphore(client, key, 2, lease=LEASE), []
    over = threading.Event()

    def take(number: int) -> None:
        with semaphore.hold(patience(30.0)):
            order.append(number)
            assert over.wait(patience(30.0))

    semaphore.acquire()
    semaphore.acquire()
    with Threads() as threads:
        for number in range(3):
            threads.start(take, number)
            until(lambda number=number: client.zcard(f"{{{key}}}:queue") == number + 1)  # type: ignore[misc]  # mypy can't infer it
        semaphore.release(2)
        assert not semaphore.acquire(False)
        until(lambda: len(order) == 2)
        assert sorted(order) == [0, 1]
        over.set()
    assert order[2] == 2
    assert semaphore.value == 2


def test_a_lease_that_ran_out_is_a_free_permit(client: Redis, key: str) -> None:
    """A waiter gets it at that moment; and its holder learns of the loss."""
    short, long = RedisSemaphore(client, key, 1, lease=0.2), RedisSemaphore(client, key, 1, lease=LEASE)
    with pytest.raises(LeaseExpiredError, match="ran out"), short:  # noqa: PT012  the block is what is tested
        waiting = assert_blocks(lambda: long.acquire(timeout=patience(30.0)), look=0.01)
        assert waiting.result(patience(30.0)) is True
    long.release()


def test_permits_are_renewed(client: Redis, key: str) -> None:
    """The end of the lease moves on while it is held."""
    semaphore = RedisSemaphore(client, key, 2, lease=1.5, renew=True)
    with semaphore:
        (token,) = members(client, key)
        client.zadd(key, {token: 10**16})  # it would end in some hundred years
        until(lambda: (client.zscore(key, token) or 0) < 10**16, patience(30.0))
        assert not semaphore.lost.is_set()
        client.delete(key)
        assert semaphore.lost.wait(patience(30.0)) is True
        client.zadd(key, {token: 10**16})


def test_acquire_all_mixes_it_with_locks(client: Redis, key: str) -> None:
    """Local locks first, then those on servers, by their names."""
    here, lock = TimedLock(), RedisLock(client, f"{key}-a", lease=LEASE)
    semaphore = RedisSemaphore(client, f"{key}-b", 1, lease=LEASE)
    with acquire_all(semaphore, lock, here, timeout=patience()):
        assert here.held_by_me()
        assert lock.held_by_me()
        assert semaphore.held_by_me()
        with pytest.raises(LockTimeoutError, match="acquire_all\\(\\) had 0"), acquire_all(semaphore, timeout=0):
            pytest.fail("the body ran without a permit")
    assert semaphore.value == 1


@pytest.mark.parametrize(
    ("error", "changed"),
    [
        (ValueError, {"permits": 0}),
        (TypeError, {"permits": 1.5}),
        (TypeError, {"permits": None}),
        (ValueError, {"lease": 0}),
        (TypeError, {"lease": None}),
        (ValueError, {"timeout": -1}),
        (TypeError, {"client": "redis://localhost"}),
        (ValueError, {"name": ""}),
    ],
)
def test_wrong_arguments_are_refused(
    client: Redis, key: str, error: type[Exception], changed: dict[str, object]
) -> None:
    """The error says what is wrong, before any command is sent."""
    arguments: dict[str, Any] = {"client": client, "name": key, "permits": 2, "lease": LEASE} | changed
    with pytest.raises(error):
        RedisSemaphore(**arguments)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_in_a_forked_child_no_permit_is_held(client: Redis, key: str) -> None:
    """The parent has them, so the child can't give them back."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no os.fork")
    semaphore = RedisSemaphore(client, key, 2, lease=LEASE)
    semaphore.acquire()
    with semaphore:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                try:
                    semaphore.release()
                except ValueError:
                    os.write(writer, b"n" if semaphore.held_by_me() or semaphore.acquire(False) else b"y")
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            assert answer.read() == b"y"
        os.waitpid(child, 0)
    semaphore.release()
    assert semaphore.value == 2


# -- in crowds, some of whom are killed --------------------------------------------------------------------------------


def _hammer(port: int, key: str, permits: int, times: int, dies: bool) -> None:
    from redis import Redis

    client = Redis("127.0.0.1", port, socket_timeout=patience(30.0))
    semaphore = RedisSemaphore(client, key, permits, lease=2.0 if dies else LEASE, timeout=patience(100.0))
    for number in range(times):
        with semaphore:
            # Threads that die are not counted, because nothing would subtract them again.
            if dies and number == times // 2:
                os.kill(os.getpid(), 9)
            if not dies:
                inside = client.incr(f"{key}-inside")
                client.zadd(f"{key}-seen", {str(inside): 1})
                client.decr(f"{key}-inside")


@pytest.mark.parametrize(
    ("processes", "times"), [(3, 12), pytest.param(16, 100, marks=pytest.mark.slow)], ids=["few", "sixteen"]
)
def test_processes_are_never_more_than_permits_and_the_killed_cost_a_lease(
    shared_server: RedisServer, client: Redis, key: str, processes: int, times: int
) -> None:
    """At no time were more than three inside; a permit whose holder was killed comes back."""
    permits = 3
    crowd = [
        SPAWN.Process(target=_hammer, args=(shared_server.port, key, permits, times, number == 0), daemon=True)
        for number in range(processes)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(patience(150.0))
    assert [process.exitcode for process in crowd] == [-9] + [0] * (processes - 1)
    seen = sorted(map(int, members(client, f"{key}-seen")))
    assert seen
    assert seen[-1] <= permits
    semaphore = RedisSemaphore(client, key, permits, lease=LEASE)
    until(lambda: semaphore.value == permits, patience(30.0))


def _hold_one(port: int, key: str, pipe: Connection) -> None:
    from redis import Redis

    with RedisSemaphore(Redis("127.0.0.1", port, socket_timeout=30.0), key, 1, lease=3.0, renew=True):
        pipe.send("held")
        pipe.recv()


def test_the_permit_of_a_killed_holder_goes_to_the_next(shared_server: RedisServer, client: Redis, key: str) -> None:
    """It is free one lease later, even if it was renewed before; until then its holder is named."""
    here, there = SPAWN.Pipe()
    holder = SPAWN.Process(target=_hold_one, args=(shared_server.port, key, there), daemon=True)
    holder.start()
    assert here.poll(patience(30.0))
    semaphore = RedisSemaphore(client, key, 1, lease=LEASE)
    with pytest.raises(LockTimeoutError, match=f"of process {holder.pid} on"), semaphore.hold(0.5):
        pytest.fail("the body ran without a permit")
    holder.kill()
    holder.join(patience())
    with semaphore.hold(patience(30.0)):
        assert semaphore.value == 0
