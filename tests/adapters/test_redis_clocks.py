"""Clocks that are set while leases are held: a client's makes no difference, and a loss by a server's is reported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from adapters.servers import RedisServer
from polling import until
from syncprims import LockTimeoutError
from syncprims.adapters import LeaseExpiredError, RedisLock, RedisSemaphore
from syncprims.testing import Threads, assert_blocks, patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 6.0  # seconds; renewed after two
HOUR: Final = 3600
FOREVER: Final = 60_000  # milliseconds

# Preloaded in a server: the time of day is the system's, plus the seconds in a file.
SETTABLE: Final = """
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_AHEAD"), "r");
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}
int clock_gettime(clockid_t which, struct timespec *time) {
    long failed = syscall(SYS_clock_gettime, which, time);
    if (!failed && which == CLOCK_REALTIME) time->tv_sec += ahead();
    return failed;
}
int gettimeofday(struct timeval *time, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    time->tv_sec = exact.tv_sec;
    time->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""


class Clock:
    """A server whose clock can be set."""

    def __init__(self, server: RedisServer, setting: Path) -> None:
        self._setting = setting
        self.client: Redis = server.client(socket_timeout=patience(5.0))

    def put(self, seconds: int) -> None:
        """Set it to so many seconds before or after the true time."""
        replacement = self._setting.with_suffix(".new")
        replacement.write_text(str(seconds))
        replacement.replace(self._setting)
        until(lambda: abs(self.client.time()[0] - time.time() - seconds) < HOUR / 2, patience(30.0))


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Its own server, and its clock."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, for a server whose clock can be set")
    source, library, setting = tmp_path / "settable.c", tmp_path / "settable.so", tmp_path / "clock"
    source.write_text(SETTABLE)
    setting.write_text("0")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=patience(60.0))
    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", os.fspath(library))
        environment.setenv("CLOCK_AHEAD", os.fspath(setting))
        server = RedisServer()
    with server:
        yield Clock(server, setting)


def wait_for_renewal(client: Redis, key: str) -> None:
    """Wait until the lock or the permit is renewed."""
    if client.type(key) == b"zset":
        before = client.zrange(key, 0, 0, withscores=True)
        until(lambda: client.zrange(key, 0, 0, withscores=True) != before, patience(30.0))
    else:
        client.pexpire(key, FOREVER)
        until(lambda: client.pttl(key) <= LEASE * 1000, patience(30.0))


@pytest.mark.parametrize("jump", [-24 * HOUR, 24 * HOUR])
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
def test_a_clients_clock_makes_no_difference(
    client: Redis, key: str, kind: str, jump: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases, their renewal, waits and their limits use clocks that can't be set."""

    def make(timeout: float | None = None) -> RedisLock | RedisSemaphore:
        if kind == "lock":
            return RedisLock(client, key, lease=LEASE, timeout=timeout, renew=True)
        return RedisSemaphore(client, key, 1, lease=LEASE, timeout=timeout, renew=True)

    wall = time.time
    held, other, hasty = make(), make(patience(30.0)), make(0.05)
    with Threads() as threads:
        with held:
            waiter = assert_blocks(other.acquire, look=0.01)
            monkeypatch.setattr(time, "time", lambda: wall() + jump)
            with pytest.raises(LockTimeoutError), hasty:
                pytest.fail("it is held")
            wait_for_renewal(client, key)
            assert not held.lost.is_set()
        assert waiter.result(patience(30.0)) is True
        assert threads is not None


def test_a_server_whose_clock_is_put_forward_loses_leases_with_a_word(clock: Clock, key: str) -> None:
    """All leases run out by its clock: the loss is reported, and the next hold has a greater token."""
    lock = RedisLock(clock.client, key, lease=LEASE, renew=True)
    with pytest.raises(LeaseExpiredError), lock:  # noqa: PT012  the block is what is tested
        token = lock.token
        clock.put(HOUR)
        assert lock.lost.wait(patience(30.0)) is True
    with lock.hold(patience(30.0)):
        assert lock.token > token


def test_a_server_whose_clock_is_put_forward_loses_permits_with_a_word(clock: Clock, key: str) -> None:
    """As with locks; and a waiter gets a permit at its next check, even if the lost one is not renewed."""
    renewed = RedisSemaphore(clock.client, key, 2, lease=LEASE, renew=True)
    rigid, waited = (RedisSemaphore(clock.client, key, 2, lease=HOUR / 2) for _ in range(2))
    rigid.acquire()
    with Threads() as threads:
        with pytest.raises(LeaseExpiredError), renewed:  # noqa: PT012  the block is what is tested
            token = renewed.token
            waiters = [assert_blocks(partial(waited.acquire, timeout=patience(30.0)), look=0.01) for _ in range(2)]
            clock.put(HOUR)
            assert renewed.lost.wait(patience(30.0)) is True
        assert [waiter.result(patience(30.0)) for waiter in waiters] == [True, True]
        assert threads is not None
    assert not rigid.lost.is_set()
    with pytest.raises(LeaseExpiredError):
        rigid.release()
    assert rigid.lost.is_set()
    waited.release(2)
    with renewed.hold(patience(30.0)):
        assert renewed.token > token


def test_a_server_whose_clock_is_put_back_keeps_leases_and_order(clock: Clock, key: str) -> None:
    """A renewed hold goes on, waiters get their turn, and tokens grow as before."""
    lock = RedisLock(clock.client, key, lease=LEASE, renew=True)
    limited = RedisSemaphore(clock.client, f"{key}-permits", 1, lease=LEASE, renew=True)
    with lock, limited:
        token, permit = lock.token, limited.token
        waiters = [assert_blocks(partial(each.acquire, timeout=patience(30.0)), look=0.01) for each in (lock, limited)]
        clock.put(-HOUR)
        clock.client.pexpire(key, FOREVER)
        until(lambda: clock.client.pttl(key) <= LEASE * 1000, patience(30.0))  # it was renewed
        assert not lock.lost.is_set()
        assert not limited.lost.is_set()
    assert [waiter.result(patience(30.0)) for waiter in waiters] == [True, True]
    clock.client.delete(key, f"{key}-permits")
    with lock.hold(patience(30.0)):
        assert lock.token > token
    with limited.hold(patience(30.0)):
        assert limited.token > permit
