"""`check_lock` and `check_rlock` reject broken locks, name their faults, and know the weaker clauses of adapters."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable

import pytest

from syncprims import LockAdapter, TimedLock
from syncprims.testing import ConformanceReport, check_lock, check_rlock
from testing import broken
from testing.rejections import (
    ENTERED_TWICE,
    NOT_OF_FOREIGN_LOCKS,
    NOT_OF_FOREIGN_REENTRANT_LOCKS,
    NOT_OF_LOCKS_IN_PYTHON,
    expect_named,
    rejection,
    rejection_aside,
)

WEAKENED = (*NOT_OF_FOREIGN_LOCKS, *NOT_OF_LOCKS_IN_PYTHON)

BROKEN: list[tuple[type[TimedLock], str]] = [
    (broken.KeepsOnError, "a with frees the lock when its body raises"),
    (broken.SwallowsException, "an exception in the body of a with comes out of it"),
    (broken.IgnoresTimeout, "acquire(timeout) of a held lock returns False when the time is up"),
    (broken.GivesUpEarly, "a waiter gets the lock when its holder releases it"),
    (broken.RaisesInAcquire, "acquire(timeout) of a held lock returns False when the time is up"),
    (broken.StrangersRelease, "release() by a thread that does not hold it raises RuntimeError"),
    (broken.ForgivesRelease, "release() of a free lock raises RuntimeError"),
    (broken.WakesTwo, "one release lets one waiter in"),
    (broken.LosesWakeup, "a waiter gets the lock when its holder releases it"),
    (broken.HoldsNothing, "hold() holds the lock for the body, and can be kept and used again"),
    (broken.ForgetsHolder, "holder names the thread that holds the lock"),
    (broken.BlocksInRepr, "repr() shows the lock's name and state and never blocks"),
    (broken.FalseDeadlock, "a wait that completes no cycle never gets DeadlockError"),
    (broken.BlindToDeadlock, "of two threads that wait for each other's lock exactly one gets DeadlockError"),
    (broken.ReentersSilently, "a thread that enters a lock which it holds gets DeadlockError at once"),
]
BROKEN_REENTRANT: list[tuple[type[TimedLock], str]] = [
    (broken.ReleasesTwice, "releases of inner holds keep it taken for the outer one"),
    (TimedLock, "its holder may take it again, and it is free after as many releases"),
]
LEAKING: list[tuple[type[TimedLock], str]] = [
    (broken.LeaksOnInterrupt, "an interrupt anywhere in a with leaves the lock free"),
    (broken.WaitsNaively, "an interrupt anywhere in a with leaves the lock free"),
]


@pytest.mark.parametrize(("cls", "clause"), BROKEN)
def test_broken_lock_is_rejected(cls: type[TimedLock], clause: str) -> None:
    """A lock with one fault is rejected, and the clause that it breaks is named."""
    expect_named(check_lock, cls, clause)


@pytest.mark.parametrize(("cls", "clause"), BROKEN_REENTRANT)
def test_broken_reentrant_lock_is_rejected(cls: type[TimedLock], clause: str) -> None:
    """A lock with one fault is rejected as reentrant, and the clause that it breaks is named."""
    expect_named(check_rlock, cls, clause)


@pytest.mark.parametrize(("cls", "clause"), LEAKING)
def test_leaking_lock_is_rejected(cls: type[TimedLock], clause: str) -> None:
    """A lock that an interrupt can leave acquired keeps the rest of the contract, and the place is named."""
    report = rejection(check_lock, cls)
    found = {one.clause: one.happened for one in report.broken}
    assert clause in found, str(report)
    assert all("interrupt" in name for name in found), str(report)
    assert "broken.py:" in found[clause]
    assert "the lock is still locked" in found[clause]


def test_faults_that_are_quite_apart_break_nothing_else() -> None:
    """If a fault affects only one thing, only the clauses about it are broken."""
    report = rejection_aside(check_lock, broken.ForgetsHolder, hurry="1")
    assert [one.clause for one in report.broken] == [
        "holder names the thread that holds the lock",
        "a LockTimeoutError has the lock, the limit, the wait and the holder",
    ]


def adapted_lock() -> LockAdapter:
    return LockAdapter(threading.Lock())


def adapted_rlock() -> LockAdapter:
    return LockAdapter(threading.RLock())


def adapted_process_lock() -> LockAdapter:
    return LockAdapter(multiprocessing.get_context("spawn").Lock())


def adapted_semaphore() -> LockAdapter:
    return LockAdapter(threading.Semaphore(1))


@pytest.mark.parametrize(
    ("check", "factory", "without"),
    [
        (check_lock, adapted_lock, WEAKENED),
        (check_lock, adapted_process_lock, (*WEAKENED, ENTERED_TWICE)),
        (check_lock, adapted_semaphore, (*WEAKENED, ENTERED_TWICE)),
        (check_rlock, adapted_rlock, (*WEAKENED, *NOT_OF_FOREIGN_REENTRANT_LOCKS)),
    ],
)
def test_adapter_keeps_the_rest_of_the_contract(
    check: Callable[..., ConformanceReport], factory: Callable[[], LockAdapter], without: tuple[str, ...]
) -> None:
    """A foreign lock in an adapter keeps every clause but those that are listed as weakened."""
    report = check(factory, without=without)
    assert set(report.not_kept) == set(without)
    assert report.not_run == ()
