"""`threading.Condition` over our locks: it releases the lock while it waits, and always acquires it again."""

from __future__ import annotations

import signal
import threading
from threading import Event
from typing import Final

import pytest

from locks.actors import LIMIT, Actors, condition_over, eventually, held_elsewhere, on_signal, wait_for
from syncprims import DeadlockError, TimedLock, TimedRLock

both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
TIMEOUTS: Final = [None, 0, 0.01]


@both
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_notified_thread_has_the_lock_again(kind: type[TimedLock], timeout: float | None) -> None:
    """It waits for the lock as long as necessary, whatever the lock's own timeout."""
    lock = kind(timeout)
    condition = condition_over(lock)
    ready, finished = Event(), []

    def wait() -> None:
        with condition:
            ready.set()
            assert condition.wait(LIMIT)
            finished.append(lock.held_by_me())

    with Actors() as actors:
        actors.start(wait)
        wait_for(ready)
        with lock.hold(LIMIT):  # possible only while the thread waits
            condition.notify()
            eventually(lambda: lock.waiting == 1)  # longer than its timeout, if this takes a while
            assert not finished
    assert finished == [True]
    assert not lock.locked()


@both
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_wait_that_times_out_has_the_lock_again(kind: type[TimedLock], timeout: float | None) -> None:
    """Its limit is for the notification, not for acquiring the lock again."""
    lock = kind(timeout)
    condition = condition_over(lock)
    ready, seen = Event(), Event()

    def wait() -> None:
        with condition:
            ready.set()
            while not seen.is_set():  # again if its time was up before the lock was acquired
                assert not condition.wait(0.05)
                assert lock.held_by_me()

    with Actors() as actors:
        waiter = actors.start(wait)
        wait_for(ready)
        with lock.hold(LIMIT):
            eventually(lambda: lock.waiting == 1)
            seen.set()
        waiter.result()
    assert not lock.locked()


@both
def test_wait_and_notify_need_the_lock(kind: type[TimedLock]) -> None:
    """Without it they raise a RuntimeError, whether it is free or another's, and no lock is acquired."""
    lock = kind()
    condition = condition_over(lock)
    for attempt in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError):
            attempt()
        with held_elsewhere(lock), pytest.raises(RuntimeError):
            attempt()
    assert not lock.locked()


@both
def test_giving_up_a_lock_that_is_not_held_is_an_error(kind: type[TimedLock]) -> None:
    """The Condition's call is refused as in threading, and the lock still works."""
    lock = kind()
    with pytest.raises(RuntimeError):
        lock._release_save()
    assert not lock.locked()
    assert lock.waiting == 0
    with lock:
        pass


def test_a_nested_lock_is_given_up_wholly_and_got_back_as_often() -> None:
    """However often a TimedRLock is held, others can acquire it during the wait."""
    lock = TimedRLock()
    condition = condition_over(lock)
    ready = Event()

    def wait() -> bool:
        with condition, lock, lock.hold(1.0):
            ready.set()
            assert condition.wait(LIMIT)
            for _ in range(2):
                lock.release()
            still = lock.held_by_me()
            for _ in range(2):
                lock.acquire()
            return still

    with Actors() as actors:
        waiter = actors.start(wait)
        wait_for(ready)
        with condition:
            condition.notify()
        assert waiter.result()
    assert not lock.locked()


@both
def test_conditions_share_a_lock(kind: type[TimedLock]) -> None:
    """A bounded buffer with two conditions over one lock passes everything on in order."""
    lock = kind(timeout=LIMIT)
    not_empty, not_full = condition_over(lock), condition_over(lock)
    buffer: list[int] = []
    received: list[int] = []

    def produce() -> None:
        for number in range(200):
            with lock:
                assert not_full.wait_for(lambda: len(buffer) < 2, LIMIT)
                buffer.append(number)
                not_empty.notify()

    def consume() -> None:
        for _ in range(200):
            with lock:
                assert not_empty.wait_for(lambda: buffer, LIMIT)
                received.append(buffer.pop(0))
                not_full.notify()

    with Actors() as actors:
        actors.start(produce)
        actors.start(consume)
    assert received == list(range(200))
    assert not lock.locked()


@both
@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system has no pthread_kill")
@pytest.mark.parametrize("when", ["waiting for the notification", "waiting for the lock"])
def test_an_interrupted_wait_gets_the_lock_back(kind: type[TimedLock], when: str) -> None:
    """An exception of a signal handler leaves wait(), but not before the lock is acquired again."""
    lock = kind(timeout=0.01)
    condition = condition_over(lock)
    entered = Event()

    class Interrupt(BaseException):
        pass

    def handle() -> None:
        raise Interrupt

    def interrupt() -> None:
        wait_for(entered)
        with lock.hold(LIMIT):  # so the main thread waits
            if when == "waiting for the lock":
                condition.notify()
                eventually(lambda: lock.waiting == 1)
                # The signal is handled when the lock is acquired again, which can't be prevented.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            else:
                send()
                eventually(lambda: lock.waiting == 1)

    with on_signal(handle) as send, Actors() as actors:
        actors.start(interrupt)
        with pytest.raises(Interrupt), condition:  # noqa: PT012  the order of what happens matters
            entered.set()
            try:
                condition.wait(LIMIT)
            finally:
                assert lock.held_by_me()
    assert not lock.locked()
    assert lock.waiting == 0


def test_a_condition_refuses_to_wait_for_itself() -> None:
    """Entering it twice over a lock that is not reentrant raises the error at once."""
    condition = condition_over(TimedLock())
    with condition, pytest.raises(DeadlockError):
        condition.acquire()


@both
def test_condition_acquire_keeps_the_locks_channel(kind: type[TimedLock]) -> None:
    """Condition.acquire and release are the lock's own."""
    lock = kind()
    condition = condition_over(lock)
    with held_elsewhere(lock):
        assert condition.acquire(False) is False
        assert condition.acquire(timeout=0.01) is False
    assert condition.acquire() is True
    condition.release()
    assert not lock.locked()
