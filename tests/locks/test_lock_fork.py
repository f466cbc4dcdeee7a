"""Locks in a forked child: those of threads that do not exist there are free, one's own stay one's own."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from threading import Event, Lock, RLock, Thread, get_ident
from time import monotonic, process_time

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, take_and_let_go
from syncprims import AtomicCounter, DeadlockError, LockAdapter, TimedLock, TimedRLock, acquire_all
from syncprims._core import registry

pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork"),
    # It is what is tested here.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])


def in_child(check: Callable[[], None]) -> None:
    """Fork, run the check in the child, and fail if that fails or hangs."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)  # whatever happens, the child must not go on with the tests
    end = monotonic() + LIMIT
    pause = Event()
    while (status := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        pause.wait(0.001)
    assert os.waitstatus_to_exitcode(status[1]) == 0, "the check failed in the child"


def in_thread(body: Callable[[], object]) -> None:
    """Run the function in another thread of the child, which must end."""
    done: list[object] = []
    thread = Thread(target=lambda: done.append(body()), daemon=True)
    thread.start()
    thread.join(LIMIT / 2)
    assert done


def assert_usable(lock: TimedLock) -> None:
    """Take the lock in every way, and see that it still excludes."""
    assert not lock.locked()
    assert lock.holder is None
    assert lock.waiting == 0
    assert lock.acquire(timeout=LIMIT / 4)
    lock.release()
    refused: list[bool] = []
    with lock.hold(LIMIT / 4), acquire_all(TimedLock()):
        assert lock.held_by_me()
        in_thread(lambda: refused.append(not lock.acquire(False)))
        assert refused == [True]
        waiter = Thread(target=take_and_let_go, args=(lock,), daemon=True)
        waiter.start()
        eventually(lambda: lock.waiting == 1)
    waiter.join(LIMIT / 2)
    assert not waiter.is_alive()
    assert not lock.locked()


@both
def test_a_lock_of_a_vanished_thread_is_free(kind: type[TimedLock]) -> None:
    """It can be taken in the child, and is still held in the parent."""
    lock = kind()
    with held_elsewhere(lock, "owner"):
        in_child(lambda: assert_usable(lock))
        assert lock.locked()
        assert lock.holder is not None
        assert lock.holder.name == "owner"
    assert not lock.locked()


@both
def test_a_lock_that_vanished_threads_wait_for_works(kind: type[TimedLock]) -> None:
    """No wait of theirs is left over, whether another thread holds it or the one that forks."""
    lock = kind()

    def enter() -> None:
        with lock:
            pass

    def check_held() -> None:
        assert lock.held_by_me()
        assert lock.waiting == 0
        lock.release()
        assert_usable(lock)

    with Actors() as actors:
        with held_elsewhere(lock):
            waiter = actors.start(enter)
            eventually(lambda: lock.waiting == 1)
            in_child(lambda: assert_usable(lock))
        waiter.result()
        with lock:
            actors.start(enter)
            eventually(lambda: lock.waiting == 1)
            in_child(check_held)
            assert lock.held_by_me()


def test_ones_own_lock_stays_ones_own() -> None:
    """The thread that forks holds in the child what it held, as often as it held it."""
    plain, reentrant = TimedLock(), TimedRLock()

    def check() -> None:
        assert plain.held_by_me()
        try:
            plain.acquire()
        except DeadlockError:
            pass
        else:
            raise AssertionError("a lock was taken twice")
        plain.release()
        for _ in range(2):
            assert reentrant.held_by_me()
            reentrant.release()
        assert_usable(plain)
        assert_usable(reentrant)

    with plain, reentrant, reentrant:
        in_child(check)


def test_a_thread_may_fork() -> None:
    """The thread that forks is the one whose locks stay taken, and it need not be the main thread."""
    mine, mains = TimedLock(), TimedLock()

    def check() -> None:
        assert mine.held_by_me()
        assert_usable(mains)

    def fork() -> None:
        with mine:
            in_child(check)

    with Actors() as actors, mains:
        actors.start(fork).result()


@pytest.mark.inverts
def test_no_deadlock_is_seen_with_threads_that_vanished() -> None:
    """Their waits are gone, so that none of them closes a circle."""
    mine, theirs = TimedLock(), TimedLock()

    def insist() -> None:
        with theirs, mine:
            pass

    def check() -> None:
        with theirs.hold(LIMIT / 4):
            assert mine.held_by_me()

    with Actors() as actors, mine:
        actors.start(insist)
        eventually(lambda: mine.waiting == 1)
        in_child(check)


def in_thread_with_ident(ident: int, body: Callable[[], object]) -> None:
    """Run the function in a new thread that has this ident, which a vanished thread had: the first ones get those.

    From 3.14 on none of the first ones may.
    """
    for _ in range(100):
        with Actors() as actors:
            if actors.start(lambda: (get_ident() == ident, get_ident() == ident and body())).result()[0]:
                return
    assert sys.version_info >= (3, 14), "no new thread got the ident"


def test_a_new_thread_with_a_vanished_holders_ident_holds_nothing() -> None:
    """The system gives its ident to one of the first threads of the child, which must not pass for the holder."""
    locks = [TimedLock(), TimedRLock()]
    adapters = [LockAdapter(Lock()), LockAdapter(RLock())]
    counter = AtomicCounter()
    held, done = Event(), Event()
    idents: list[int] = []

    def hold(value: int) -> int:
        with locks[0], locks[1], locks[1], adapters[0], adapters[1]:
            idents.append(get_ident())
            held.set()
            done.wait(LIMIT)
        return value

    def check() -> None:
        def meets_them_free() -> None:
            for adapter in adapters:
                assert not adapter.held_by_me()
            for lock in locks:
                assert not lock.held_by_me()
                assert not lock.acquire(False)  # the main thread has it
            with pytest.raises(RuntimeError):
                locks[1].release()
            assert counter.increment() == 1
            assert counter.update(lambda value: value + 1) == 2

        with locks[0], locks[1]:
            in_thread_with_ident(idents[0], meets_them_free)
        for lock in locks:
            assert not lock.locked()

    with Actors() as actors:
        actors.start(lambda: counter.update(hold))
        assert held.wait(LIMIT)
        try:
            in_child(check)
        finally:
            done.set()


def test_a_primitive_that_was_just_going_disturbs_no_repair() -> None:
    """A fork may come from a finalizer, between the end of a lock and its leaving the registry."""
    locks = [TimedLock() for _ in range(3)]

    def check() -> None:
        for kind in list(registry._live):
            going = TimedLock() if kind is TimedLock._after_fork else None
            if going is not None:
                registry._live[kind].add(registry._Ref(going))
            del going
        registry._after_fork_in_child()
        for lock in locks:
            assert_usable(lock)

    with held_elsewhere(locks[1]):
        in_child(check)


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the GIL all are listed before")
def test_a_hundred_thousand_locks_do_not_hold_up_a_fork() -> None:
    """Repairing them takes hardly longer than touching each of them once: most of it is the copying of their pages."""
    locks = [TimedLock() for _ in range(100_000)]

    def seconds_in_child(work: Callable[[], object]) -> float:
        ours, childs = os.pipe()
        pid = os.fork()
        if pid == 0:
            work()
            os.write(childs, str(process_time()).encode())  # since the fork
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(childs)
        with open(ours) as pipe:
            return float(pipe.read())

    with_locks = min(seconds_in_child(bool) for _ in range(3))
    registered, registry._live = registry._live, {}
    try:
        touching = min(seconds_in_child(lambda: [lock._is_owned() for lock in locks]) for _ in range(3))
    finally:
        registry._live = registered
    assert with_locks < 3 * touching  # 1.4 where this was written; one by one, in Python, it was 8.5


@pytest.mark.parametrize("forks", [25, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_forks_under_load(forks: int, record_property: Callable[[str, object], None]) -> None:
    """Whatever the other threads are doing at the moment of the fork, every lock works in the child."""
    # A tuple: without the GIL a list has a mutex, which a vanished thread may have had.
    locks = tuple(kind() for kind in (TimedLock, TimedRLock) * 3)
    stop = Event()

    def work(first: int) -> None:
        while not stop.is_set():
            for one, other in zip(locks[first:], locks[first + 1 :], strict=False):
                with one, other.hold(LIMIT):
                    pass
            TimedLock()  # so the registry changes too

    def check() -> None:
        refused: list[bool] = []
        taken: list[bool] = []
        with acquire_all(*locks, timeout=LIMIT / 4):
            in_thread(lambda: refused.extend(not lock.acquire(False) for lock in locks))
        in_thread(lambda: taken.extend(lock.acquire(timeout=LIMIT / 4) for lock in locks))
        assert refused == taken == [True] * len(locks)

    with Actors() as actors:
        try:
            for first in range(4):
                actors.start(partial(work, first))
            for _ in range(forks):
                in_child(check)
        finally:
            stop.set()
    record_property("forks survived", forks)
