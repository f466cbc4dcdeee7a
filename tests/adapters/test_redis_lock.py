"""`RedisLock` on a real server: a lock like the others, held no longer than its lease."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.examples import run_examples
from adapters.servers import RedisServer
from syncprims import DeadlockError, LockAdapter, LockTimeoutError, TimedLock, acquire_all
from syncprims.adapters import LeaseExpiredError, RedisLock
from syncprims.adapters.redis_server import Server
from syncprims.testing import Threads, check_lock, patience
from testing.rejections import NOT_OF_FOREIGN_LOCKS, NOT_OF_LOCKS_IN_PYTHON

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 30.0

# The page on adapters lists these, too.
WEAKENED: Final = (*NOT_OF_FOREIGN_LOCKS, *NOT_OF_LOCKS_IN_PYTHON)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interrupted, redis-py drops sockets
def test_it_keeps_the_contract_of_a_lock_but_for_the_clauses_listed(client: Redis, key: str) -> None:
    """The conformance kit passes it, without the clauses that no lock on a server can keep."""
    serials = iter(range(1_000_000))
    report = check_lock(lambda: RedisLock(client, f"{key}-{next(serials)}", lease=LEASE), without=WEAKENED)
    assert report.broken == ()


def test_the_examples_of_the_documentation_run(shared_server: RedisServer) -> None:
    """The class's docstring shows the true outcomes."""
    run_examples(RedisLock, shared_server)


def test_others_are_kept_out_and_told_who_holds_it(client: Redis, key: str) -> None:
    """Another process would get the host, the process, the thread and the end of the lease."""
    mine, theirs = (RedisLock(client, key, lease=LEASE, timeout=0.05) for _ in range(2))
    with mine, pytest.raises(LockTimeoutError) as caught, theirs:
        pytest.fail("the body ran without the lock")
    assert caught.value.holder is None
    assert caught.value.lock_name == key
    assert caught.value.timeout == 0.05
    assert caught.value.waited >= 0.045
    for fact in (repr("MainThread"), f"process {os.getpid()}", "its lease ends in", key):
        assert fact in str(caught.value)
    with theirs:
        assert theirs.held_by_me()


def test_a_holder_of_this_object_is_a_thread_with_a_place(client: Redis, key: str) -> None:
    """If the other holder acquired it through the same object, the error has the thread itself."""
    lock = RedisLock(client, key, lease=LEASE, timeout=0.05)
    with Threads() as threads, lock:
        failing = threads.start(lock.__enter__)
        error = failing.exception()
    assert isinstance(error, LockTimeoutError)
    assert error.holder is not None
    assert error.holder.name == "MainThread"


def test_the_two_kinds_of_lock_exclude_each_other(client: Redis, key: str) -> None:
    """A lock of redis-py's own with the same name is the same lock, and its holder is not known by name."""
    ours, theirs = RedisLock(client, key, lease=LEASE, timeout=0.02), client.lock(key, timeout=LEASE)
    with ours:
        assert not theirs.acquire(blocking=False)
    assert theirs.acquire(blocking=False)
    with pytest.raises(LockTimeoutError, match="a client that is not known; its lease ends in"), ours:
        pytest.fail("the body ran without the lock")
    theirs.release()
    client.set(key, "somebody's")
    with pytest.raises(LockTimeoutError, match="it has no lease"), ours:
        pytest.fail("the body ran without the lock")


def test_the_lease_is_on_the_server_and_is_not_the_wait(client: Redis, key: str) -> None:
    """The key expires after the lease, whatever the timeout is, and fractions of a second count."""
    lock = RedisLock(client, key, lease=7.5, timeout=0.01)
    assert lock.lease == 7.5
    assert lock.timeout == 0.01
    with lock.hold(None):
        assert 7_000 < client.pttl(key) <= 7_500
    assert client.get(key) is None


def test_a_lease_that_ran_out_is_an_error_of_leaving(client: Redis, key: str) -> None:
    """Work that took longer than the lease gets the error, and does not release the next holder's lock."""
    late, next_one = RedisLock(client, key, lease=0.05), RedisLock(client, key, lease=LEASE)
    with pytest.raises(LeaseExpiredError) as caught, late:
        assert next_one.acquire(timeout=patience())
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.lock_name, caught.value.lease) == (key, 0.05)
    assert caught.value.held >= 0.05
    assert "its lease of 0.05 s ran out" in str(caught.value)
    assert vars(pickle.loads(pickle.dumps(caught.value))) == vars(caught.value)
    assert not late.held_by_me()
    assert client.exists(key), "the late one released the next one's lock"
    next_one.release()


def test_a_lost_lease_does_not_mask_the_exception_of_the_block(client: Redis, key: str) -> None:
    """The block's exception is raised, with the loss as a note."""
    lock = RedisLock(client, key, lease=LEASE)
    for manager in (lock, lock.hold(1.0)):
        with pytest.raises(ZeroDivisionError) as caught, manager:  # noqa: PT012  the block is what is tested
            client.delete(key)
            raise ZeroDivisionError
        assert "LeaseExpiredError" in "".join(caught.value.__notes__)
        assert "the server lost it, or another client removed it" in "".join(caught.value.__notes__)
    assert not lock.held_by_me()


def test_release_by_hand_tells_of_the_loss(client: Redis, key: str) -> None:
    """The same holds with acquire() and release(), after which nothing is held."""
    lock = RedisLock(client, key, lease=LEASE)
    lock.acquire()
    client.delete(key)
    with pytest.raises(LeaseExpiredError):
        lock.release()
    with pytest.raises(RuntimeError, match="this thread has not acquired it"):
        lock.release()
    with lock:
        assert client.exists(key)


def test_a_hold_that_was_lost_does_not_spoil_the_next_hold_of_the_thread(client: Redis, key: str) -> None:
    """A thread that lost the lock may acquire it again inside; each hold is released separately."""
    lock = RedisLock(client, key, lease=LEASE)
    with pytest.raises(LeaseExpiredError), lock:  # noqa: PT012  the block is what is tested
        client.delete(key)
        with lock.hold(1.0):
            assert client.exists(key)
        assert not client.exists(key)


def test_renew_begins_the_lease_anew(client: Redis, key: str) -> None:
    """It has its full length again; a thread that has lost the lock gets the error."""
    lock = RedisLock(client, key, lease=LEASE)
    with pytest.raises(RuntimeError, match="does not hold it"):
        lock.renew()
    with pytest.raises(LeaseExpiredError), lock:  # noqa: PT012  the block is what is tested
        client.pexpire(key, 1000)
        lock.renew()
        assert client.pttl(key) > 20_000
        client.set(key, "another")
        with pytest.raises(LeaseExpiredError):
            lock.renew()
        assert client.get(key) == b"another"
    assert client.get(key) == b"another"


def test_a_dead_holder_keeps_it_to_the_end_of_its_lease_only(client: Redis, key: str) -> None:
    """If a thread ends without releasing, the lock stays held only to the end of the lease."""
    lock = RedisLock(client, key, lease=0.2)
    with Threads() as threads:
        threads.start(lock.acquire)
    with lock.hold(patience()):
        assert client.exists(key)


def test_entering_twice_in_a_thread_is_an_error_at_once(client: Redis, key: str) -> None:
    """A lease can't be taken twice, so its holder would wait for itself."""
    lock = RedisLock(client, key, lease=LEASE, timeout=patience())
    with lock:
        with pytest.raises(DeadlockError, match="release it first"), lock:
            pytest.fail("the body ran without the lock")
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0.02) is False
        assert lock.held_by_me()
    assert not client.exists(key)


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
def test_it_works_with_clients_that_decode_and_those_that_do_not(
    shared_server: RedisServer, key: str, decode: bool
) -> None:
    """It accepts either form of answers."""
    with shared_server.client(decode_responses=decode) as client:
        lock, other = (RedisLock(client, key, lease=LEASE, timeout=0.01) for _ in range(2))
        with lock:
            assert lock.locked()
            with pytest.raises(LockTimeoutError, match="Thread 'MainThread' of process"), other:
                pytest.fail("the body ran without the lock")
        assert not lock.locked()


def test_acquire_all_mixes_it_with_local_locks_and_takes_it_last(client: Redis, key: str) -> None:
    """Local locks come first, in the order of creation, then those on servers, in the order of their names."""
    order: list[str] = []

    class Told(RedisLock):
        def _on_acquired(self, waited: float) -> None:
            order.append(self.name)

    class ToldHere(TimedLock):
        def _on_acquired(self, waited: float) -> None:
            order.append(self.name)

    z = Told(client, f"{key}-z", lease=LEASE)
    a = Told(client, f"{key}-a", lease=LEASE)
    here = ToldHere(name="here")
    wrapped = LockAdapter(threading.Lock(), name="wrapped")
    with acquire_all(z, wrapped, a, here, timeout=patience()):
        assert order == ["here", f"{key}-a", f"{key}-z"]
        assert all(lock.held_by_me() for lock in (z, a, here, wrapped))
    assert not any(lock.locked() for lock in (z, a, here, wrapped))


def test_acquire_all_gives_back_what_it_has_where_a_remote_one_is_not_free(client: Redis, key: str) -> None:
    """A timeout at the remote lock leaves none of the local ones held."""
    here, remote = TimedLock(), RedisLock(client, key, lease=LEASE)
    other = RedisLock(client, key, lease=LEASE)
    with other, pytest.raises(LockTimeoutError), acquire_all(here, remote, timeout=0.02):
        pytest.fail("the body ran without the locks")
    assert not here.locked()


def test_acquire_all_releases_the_rest_where_one_was_lost(client: Redis, key: str) -> None:
    """The release of a lost lock raises, and all others are free nevertheless."""
    here = TimedLock()
    first, second, third = (RedisLock(client, f"{key}-{number}", lease=LEASE) for number in range(3))
    with pytest.raises(LeaseExpiredError), acquire_all(here, first, second, third):
        client.delete(second.name)
    assert not any(lock.locked() for lock in (here, first, second, third))
    assert not any(lock.held_by_me() for lock in (here, first, second, third))


def test_a_free_lock_costs_one_round_trip_each_way(client: Redis, key: str) -> None:
    """Acquiring and releasing it are one command each."""
    lock = RedisLock(client, key, lease=LEASE)
    with lock:
        pass
    before = client.info("commandstats")
    with lock:
        pass
    after = client.info("commandstats")
    sent = {name for name in after if after[name]["calls"] != before.get(name, {"calls": 0})["calls"]}
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == 2
    assert not sent & {"cmdstat_eval", "cmdstat_subscribe", "cmdstat_publish"}


@pytest.mark.parametrize("when", ["taking", "releasing"])
def test_an_interrupt_that_hides_the_servers_answer_leaves_no_lease(
    client: Redis, key: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The server granted or freed it, and the answer was lost: then the thread has nothing, and the lock is free."""
    lock = RedisLock(client, key, lease=LEASE)
    run = Server.run
    interrupts = [KeyboardInterrupt()]

    def run_unheard(server: Server, *arguments: Any) -> object:
        answer = run(server, *arguments)
        if interrupts:
            raise interrupts.pop()
        return answer

    if when == "releasing":
        lock.acquire()
    monkeypatch.setattr(Server, "run", run_unheard)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire() if when == "taking" else lock.release()
    assert not lock.held_by_me()
    assert lock.acquire(False)
    lock.release()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_in_a_forked_child_it_is_not_held(client: Redis, key: str) -> None:
    """The parent holds it, so the child neither has it nor can release it, and has to wait."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no os.fork")
    lock = RedisLock(client, key, lease=LEASE)

    def child() -> bool:
        return not lock.held_by_me() and lock.acquire(False) is False and lock.waiting == 0

    with lock:
        assert _in_child(child)
        assert lock.held_by_me()
    with lock:
        pass


def _in_child(fn: Callable[[], bool]) -> bool:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"y" if fn() else b"n")
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told == b"y"


def test_a_client_whose_waits_have_no_limit_is_refused(shared_server: RedisServer, key: str) -> None:
    """The error says which option to set."""
    from redis import Redis

    for options in ({"socket_timeout": None}, {"socket_timeout": 1.0, "socket_connect_timeout": 0}):
        client = Redis("127.0.0.1", shared_server.port, **options)
        with pytest.raises(ValueError, match=r"bounded.*socket_timeout=1\.0"):
            RedisLock(client, key, lease=LEASE)


def test_wrong_arguments_are_refused(client: Redis, key: str) -> None:
    """The error says what is wrong, before any command is sent."""
    wrong: Final[list[tuple[type[Exception], dict[str, object]]]] = [
        (ValueError, {"lease": 0}),
        (ValueError, {"lease": -1}),
        (ValueError, {"lease": float("nan")}),
        (OverflowError, {"lease": float("inf")}),
        (TypeError, {"lease": None}),
        (TypeError, {"lease": timedelta(seconds=1)}),
        (ValueError, {"timeout": -1}),
        (TypeError, {"name": b"bytes"}),
        (TypeError, {"client": "redis://localhost"}),
    ]
    for error, changed in wrong:
        arguments: dict[str, object] = {"client": client, "name": key, "lease": LEASE} | changed
        with pytest.raises(error):
            RedisLock(**arguments)  # type: ignore[arg-type]  # this is the point
    with pytest.raises(TypeError):
        RedisLock(client, key)  # type: ignore[call-arg]  # the lease can't be left out


def test_it_can_not_be_pickled_and_its_repr_asks_nobody(own_server: RedisServer, key: str) -> None:
    """Both work, or fail, without the server."""
    lock = RedisLock(own_server.client(), key, lease=LEASE)
    own_server.kill()
    assert f"<unlocked syncprims.RedisLock object {key!r}" in repr(lock)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(lock)


def test_waiters_leave_in_time_and_look_seldom(client: Redis, key: str) -> None:
    """A wait of half a second ends after that, with a few commands at its beginning, and one at its end."""
    lock, other = (RedisLock(client, key, lease=LEASE) for _ in range(2))
    with other, ExitStack() as stack:
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        started = time.monotonic()
        with pytest.raises(LockTimeoutError):
            stack.enter_context(lock.hold(0.5))
        assert 0.49 <= time.monotonic() - started < patience(2.0)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 10
