"""Leases that are renewed while the work goes on, and the report of a loss."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.servers import RedisServer
from polling import until
from programs import environment
from syncprims.adapters import LeaseExpiredError, RedisLock, renewing
from syncprims.adapters.leases import Leased
from syncprims.testing import Threads, assert_blocks, patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 3.0  # seconds; renewed each second
FOREVER: Final = 60_000  # milliseconds


class Told(RedisLock):
    """A lock that notes its losses."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.told: list[LeaseExpiredError] = []
        self.heard = threading.Event()

    def _on_lost(self, error: LeaseExpiredError) -> None:
        self.told.append(error)
        self.heard.set()


def renewed(client: Redis, key: str) -> None:
    """Wait until the lease of the key is renewed, so that it does not run out before."""
    client.pexpire(key, FOREVER)
    until(lambda: client.pttl(key) <= LEASE * 1000, patience(30.0))


def renewers() -> list[threading.Thread]:
    """The threads that renew."""
    return [thread for thread in threading.enumerate() if thread.name == "syncprims-renewer"]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the thread end as soon as it has no lease."""
    monkeypatch.setattr(renewing, "_IDLE", 0.01)
    yield
    until(lambda: not renewers(), patience(30.0))


def test_one_thread_renews_all_leases_while_they_are_held(client: Redis, key: str, soon: None) -> None:
    """It renews those of several locks in several threads, and ends when there are none."""
    locks = [RedisLock(client, f"{key}-{number}", lease=LEASE, renew=True) for number in range(3)]
    held, done = threading.Barrier(4), threading.Event()

    def hold(lock: RedisLock) -> None:
        with lock:
            held.wait(patience(30.0))
            assert done.wait(patience(30.0))
            assert not lock.lost.is_set()

    with Threads() as threads:
        for lock in locks:
            threads.start(hold, lock)
        held.wait(patience(30.0))
        for lock in locks:
            client.pexpire(lock.name, FOREVER)
        for lock in locks:
            until(lambda lock=lock: client.pttl(lock.name) <= LEASE * 1000, patience(30.0))  # type: ignore[misc]  # mypy can't infer it
        assert len(renewers()) == 1
        assert renewers()[0].daemon
        done.set()
    until(lambda: not renewers(), patience(30.0))
    assert not any(lock.locked() for lock in locks)


def test_without_it_nothing_is_renewed(client: Redis, key: str) -> None:
    """This is the default."""
    lock = RedisLock(client, key, lease=LEASE)
    with lock:
        assert not renewers()
        assert not lock.lost.is_set()
        assert lock.lost.wait(0) is False


def test_renewal_ends_with_the_thread_that_holds_it(client: Redis, key: str, soon: None) -> None:
    """If a thread ends without releasing, its lease runs out; then the loss is reported."""
    lock = Told(client, key, lease=0.5, renew=True)
    with Threads() as threads:
        threads.start(lock.acquire)
    lost = lock.lost
    other = RedisLock(client, key, lease=LEASE)
    with other.hold(patience(30.0)):
        assert lost.wait(patience(30.0)) is True
        assert lock.heard.wait(patience(30.0))
    assert "its thread ended without releasing it" in str(lock.told[0])


def test_a_loss_is_reported_while_the_work_goes_on(client: Redis, key: str, soon: None) -> None:
    """By `lost`, to the holder and to others, by the hook, once, and by the error when the block is left."""
    lock = Told(client, key, lease=LEASE, renew=True)
    with Threads() as threads:
        with pytest.raises(LeaseExpiredError) as caught, lock:  # noqa: PT012  the block is what is tested
            lost = lock.lost
            watcher = assert_blocks(lambda: lock.lost.wait(patience(30.0)), look=0.01)
            client.set(key, "another's")
            assert lost.wait(patience(30.0)) is True
            assert watcher.result() is True
            assert lock.heard.wait(patience(30.0))
        assert threads is not None
    assert lost.is_set()
    assert lock.lost is lost
    assert [str(error) for error in lock.told] == [str(lock.told[0])]
    assert (lock.told[0].lock_name, lock.told[0].lease) == (key, LEASE)
    assert caught.value.lock_name == key
    assert client.get(key) == b"another's"
    client.delete(key)
    with lock:
        assert not lock.lost.is_set()
        assert lost.is_set()


def test_a_watcher_goes_on_when_the_lock_was_released_in_time(client: Redis, key: str) -> None:
    """Nothing can be lost any more."""
    lock = RedisLock(client, key, lease=30.0)
    with pytest.raises(RuntimeError, match="nothing to lose"):
        _ = lock.lost
    with lock:
        lost = lock.lost
        watcher = assert_blocks(lost.wait, look=0.01)
    assert watcher.result(patience()) is False
    assert not lost.is_set()
    assert lost.wait() is False
    assert repr(lost) == "<not lost>"


def test_without_renewal_the_clock_tells_of_the_loss(client: Redis, key: str) -> None:
    """This needs no thread; the hook is called when the holder learns of the loss."""
    lock = Told(client, key, lease=0.05)
    with pytest.raises(LeaseExpiredError), lock:  # noqa: PT012  the block is what is tested
        assert lock.lost.wait(patience()) is True
        assert lock.lost.is_set()
        until(lambda: not client.exists(key))
        assert not lock.told
    assert len(lock.told) == 1


def test_a_server_that_says_nothing_is_a_loss_when_the_lease_is_over(own_server: RedisServer, key: str) -> None:
    """Others may have the lock by then, so it is reported without waiting for the server."""
    import redis

    lock = Told(own_server.client(socket_timeout=0.1), key, lease=0.6, renew=True)
    lock.acquire()
    own_server.stall()
    try:
        assert lock.lost.wait(patience(30.0)) is True
        assert lock.heard.wait(patience(30.0))
        assert "could not be asked to renew it in time" in str(lock.told[0])
    finally:
        own_server.go_on()
    with pytest.raises((LeaseExpiredError, redis.RedisError)):
        lock.release()
    assert len(lock.told) == 1


def test_one_server_that_is_gone_costs_no_lease_on_another(
    own_server: RedisServer, client: Redis, key: str, soon: None
) -> None:
    """There are many leases, and a client that would wait long for each."""
    gone = [
        Told(own_server.client(socket_timeout=30.0), f"{key}-{number}", lease=LEASE, renew=True) for number in range(4)
    ]
    here = RedisLock(client, key, lease=LEASE, renew=True)
    for lock in gone:
        lock.acquire()
    with here:
        own_server.stall()
        try:
            for _ in range(2):
                renewed(client, key)
            assert not here.lost.is_set()
            assert all(lock.heard.wait(patience(30.0)) for lock in gone)
        finally:
            own_server.kill()


def test_a_hook_that_blocks_or_fails_holds_nothing_up(
    client: Redis, key: str, soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The other leases are renewed, and the hook's exception is logged."""
    over = threading.Event()

    class Blocking(Told):
        def _on_lost(self, error: LeaseExpiredError) -> None:
            super()._on_lost(error)
            over.wait(patience(30.0))
            raise SystemExit("the hook's own")

    bad, good = Blocking(client, f"{key}-bad", lease=LEASE, renew=True), RedisLock(client, key, lease=LEASE, renew=True)
    bad.acquire()
    with good:
        client.delete(bad.name)
        assert bad.heard.wait(patience(30.0))
        renewed(client, key)
        over.set()
    until(lambda: "the hook's own" in caplog.text, patience(30.0))
    with pytest.raises(LeaseExpiredError):
        bad.release()


def test_the_thread_survives_whatever_it_meets(
    client: Redis, key: str, soon: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error, in one lease or in the thread's own round, is logged; the leases are kept."""
    extending, rounds = Leased.extending, renewing.Renewer._round
    faults = [MemoryError("in a lease"), KeyboardInterrupt()]
    own = [RuntimeError("in a round")]

    def failing(self: Leased, *arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return extending(self, *arguments)

    def failing_round(self: renewing.Renewer) -> bool:
        if own and not faults:
            raise own.pop()
        return rounds(self)

    monkeypatch.setattr(Leased, "extending", failing)
    monkeypatch.setattr(renewing.Renewer, "_round", failing_round)
    lock = RedisLock(client, key, lease=LEASE, renew=True)
    with lock:
        renewed(client, key)
    assert not faults
    assert not own
    assert "in a lease" in caplog.text
    assert "in a round" in caplog.text


def test_where_no_thread_can_be_started_the_lock_is_not_taken(
    client: Redis, key: str, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that is not renewed would run out without its holder's knowledge."""
    until(lambda: not renewers(), patience(30.0))

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    lock = RedisLock(client, key, lease=LEASE, renew=True)
    with pytest.raises(RuntimeError, match="can't start new thread"), lock:
        pytest.fail("the body ran without the thread")
    assert not lock.held_by_me()
    assert not client.exists(key)


def test_it_does_not_keep_the_program_alive(shared_server: RedisServer, client: Redis, key: str) -> None:
    """A program that holds the lock can end; then the lock is not renewed."""
    program = (
        "import sys, redis; from syncprims.adapters import RedisLock\n"
        f"client = redis.Redis('127.0.0.1', {shared_server.port}, socket_timeout=30.0)\n"
        f"RedisLock(client, {key!r}, lease=30.0, renew=True).acquire()\n"
        "print('done')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=patience(60.0), env=environment()
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert client.exists(key)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_renews_nothing_of_its_parents(client: Redis, key: str, soon: None) -> None:
    """It has neither the thread nor the lock; locks that it acquires itself are renewed by its own thread."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no os.fork")
    lock, other = (RedisLock(client, f"{key}{end}", lease=LEASE, renew=True) for end in ("", "-child"))
    reader, writer = os.pipe()
    with lock:
        renewed(client, key)
        child = os.fork()
        if child == 0:
            try:
                free = not renewers() and not lock.held_by_me()
                with other.hold(patience(30.0)):
                    os.write(writer, b"y" if free and len(renewers()) == 1 else b"n")
                    until(lambda: client.exists(f"{key}-over"), patience(30.0))
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            assert answer.read(1) == b"y"
            renewed(client, other.name)
            renewed(client, key)
            client.set(f"{key}-over", 1)
        os.waitpid(child, 0)
    assert not client.exists(key)


def test_the_example_refuses_the_late_holder(shared_server: RedisServer) -> None:
    """The storage accepts the later holder's write, and refuses the other's."""
    program = Path(__file__).parents[2] / "examples" / "fenced_storage.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        env=environment() | {"REDIS_URL": f"redis://127.0.0.1:{shared_server.port}"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "refused: the hold with token T is over; a later one has written to 'savings'",
        "and told: LeaseExpiredError",
        "balance 50",
    ]
