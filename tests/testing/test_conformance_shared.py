"""`check_semaphore` and `check_rwlock` reject broken ones, and name their faults."""

from __future__ import annotations

import pytest

from syncprims import QueuedLock, TimedRWLock, TimedSemaphore
from syncprims.testing import check_lock, check_rwlock, check_semaphore
from testing import broken_shared
from testing.rejections import expect_named, rejection

BROKEN_SEMAPHORES: list[tuple[type[TimedSemaphore], str]] = [
    (
        broken_shared.KeepsPermitOnError,
        "a with gives its permit back when its body raises, and the exception comes out",
    ),
    (broken_shared.LetsOneMoreIn, "no more threads than permits are ever inside together"),
    (broken_shared.GrowsWithReleases, "a release too many raises ValueError and changes nothing"),
    (broken_shared.ReleasesOne, "release(n) gives n permits back"),
    (broken_shared.ForgetsTakers, "holders names the threads that have a permit, and waiting counts the waiters"),
    (
        broken_shared.OvertakesLine,
        "each permit that is given back lets one waiter in, the first that came",
    ),
    (broken_shared.BlindToOwnPermits, "a thread that would wait for its own permits gets DeadlockError at once"),
    (broken_shared.WaitsWithoutLimit, "a wait with a limit ends when its time is up, not before, and changes nothing"),
]
BROKEN_RW_LOCKS: list[tuple[type[TimedRWLock], str]] = [
    (broken_shared.OneReaderAtATime, "read() lets in several readers at the same time"),
    (broken_shared.WritersSideBySide, "write() lets one writer in, alone"),
    (broken_shared.ReadersFirst, "a waiting writer holds up new readers, and comes before them"),
    (broken_shared.UpgradesInSilence, "a reader that wants to write gets DeadlockError at once"),
    (broken_shared.BlindToReaders, "of two threads that wait for each other exactly one gets DeadlockError"),
    (broken_shared.NamesOneReader, "a LockTimeoutError has the name, the limit, the wait and the holders"),
]


BROKEN_OF_ONES_OWN: list[object] = [
    pytest.param(cls, clause, marks=[] if cls is broken_shared.LetsTwoIn else pytest.mark.slow)
    for cls, clause in (
        (broken_shared.LetsTwoIn, "no two threads are ever inside together"),
        (broken_shared.HidesHolder, "holder names the thread that holds the lock"),
        (broken_shared.KeepsHoldOnError, "a with frees the lock when its body raises"),
        (broken_shared.FreesInSilence, "release() of a free lock raises RuntimeError"),
    )
]


@pytest.mark.parametrize(("cls", "clause"), BROKEN_OF_ONES_OWN)
def test_a_broken_lock_of_ones_own_is_rejected(cls: type[QueuedLock], clause: str) -> None:
    """A `QueuedLock` with one fault is rejected, and the clause that it breaks is named."""
    expect_named(check_lock, cls, clause, most_kept=cls is not broken_shared.LetsTwoIn)


@pytest.mark.parametrize(("cls", "clause"), BROKEN_SEMAPHORES)
def test_a_broken_semaphore_is_rejected(cls: type[TimedSemaphore], clause: str) -> None:
    """A semaphore with one fault is rejected, and the clause that it breaks is named."""
    expect_named(check_semaphore, cls, clause)


@pytest.mark.parametrize(("cls", "clause"), BROKEN_RW_LOCKS)
def test_a_broken_rw_lock_is_rejected(cls: type[TimedRWLock], clause: str) -> None:
    """A lock with one fault is rejected, and the clause that it breaks is named."""
    most = cls not in (broken_shared.OneReaderAtATime, broken_shared.WritersSideBySide)
    expect_named(check_rwlock, cls, clause, most_kept=most)


@pytest.mark.slow
def test_a_lock_whose_writers_starve_is_rejected() -> None:
    """Readers that come one after the other, with one always inside, keep a writer out until the check gives up."""
    expect_named(check_rwlock, broken_shared.ReadersFirst, "no stream of readers keeps a writer out", hurry="1")


def test_a_leaking_semaphore_is_rejected() -> None:
    """If an interrupt can lose a permit, the rest of the contract holds, and the place is named."""
    report = rejection(check_semaphore, broken_shared.LosesPermit)
    found = {one.clause: one.happened for one in report.broken}
    assert "broken_shared.py:" in found["an interrupt anywhere in a with loses no permit"]
    assert all("interrupt" in name for name in found), str(report)


def test_a_leaking_rw_lock_is_rejected() -> None:
    """If an interrupt can leave it acquired, the rest of the contract holds, and the place is named."""
    report = rejection(check_rwlock, broken_shared.LeavesReaderBehind)
    found = {one.clause: one.happened for one in report.broken}
    assert "the lock is still taken" in found["an interrupt anywhere in a with on read() leaves the lock free"]
