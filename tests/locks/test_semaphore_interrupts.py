"""An interrupt anywhere loses no permit of a semaphore, leaves no thread in its line, and runs no body without one."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from locks.taken import Taken, interrupted_in_a_wait
from syncprims import DeadlockError, LockTimeoutError, TimedLock, TimedSemaphore, acquire_all
from syncprims.testing import MODES, Mode, interrupts, patience

pytestmark = pytest.mark.untraceable

each_mode = pytest.mark.parametrize("mode", MODES)
long = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("cold", "storm", "worker")]
each_mode_of_a_wait = pytest.mark.parametrize("mode", ["warm", "cold storm", *long])


class Permits:
    """A semaphore with one permit, a lock beside it, and the notes of the body."""

    def __init__(self) -> None:
        self.semaphore, self.other = TimedSemaphore(1), TimedLock()
        self.bodies_without = 0

    def body(self) -> None:
        self.bodies_without += not self.semaphore.held_by_me()

    def broken(self) -> str | None:
        semaphore = self.semaphore
        if semaphore.value != 1:
            return f"a permit is gone: {semaphore!r}"
        if semaphore.waiting or semaphore._is_mine() or semaphore._up_to(threading.get_ident()):
            return "a thread is still in the line"
        if self.other.locked():
            return "the lock beside it is still locked"
        return "the body ran without a permit" if self.bodies_without else None


class TakenPermits(Taken, Permits):
    """A thread has its permit until it is asked to give it back."""

    def __init__(self) -> None:
        super().__init__()
        self.be_taken(self.semaphore, self.semaphore)

    def broken_after_all(self) -> str | None:
        self.let_go()
        return self.broken()


def by_with(subject: Permits) -> None:
    with subject.semaphore:
        subject.body()


def by_hold(subject: Permits) -> None:
    with subject.semaphore.hold(patience()):
        subject.body()


def by_acquire_all(subject: Permits) -> None:
    with acquire_all(subject.other, subject.semaphore, timeout=patience()):
        subject.body()


WAYS = [by_with, by_hold, by_acquire_all]


@each_mode
@pytest.mark.parametrize("scenario", WAYS)
def test_a_free_permit_is_never_lost(scenario: Callable[[Permits], None], mode: Mode) -> None:
    """Taking a free permit either completes or undoes itself, and leaving always completes."""
    interrupts(Permits, scenario, Permits.broken, mode=mode).check()


@each_mode_of_a_wait
@pytest.mark.parametrize("scenario", WAYS)
def test_a_permit_that_was_waited_for_is_never_lost(scenario: Callable[[Permits], None], mode: Mode) -> None:
    """An interrupt before, in or after a wait, or on the way out of one, leaves nothing behind."""
    interrupted_in_a_wait(TakenPermits, scenario, TakenPermits.broken, mode).check()


def by_giving_up(subject: Permits) -> None:
    try:
        with subject.semaphore.hold(0.001):
            subject.body()
    except LockTimeoutError:
        pass


def by_trying(subject: Permits) -> None:
    subject.semaphore.acquire(False)
    subject.semaphore.acquire(timeout=0.001)


@each_mode_of_a_wait
@pytest.mark.parametrize("scenario", [by_giving_up, by_trying])
def test_a_wait_that_gives_up_leaves_the_line(scenario: Callable[[Permits], None], mode: Mode) -> None:
    """A wait that times out is withdrawn, even if an interrupt comes while its error is made."""
    interrupts(TakenPermits, scenario, TakenPermits.broken_after_all, mode=mode).check()


def by_deadlock(subject: Permits) -> None:
    with subject.semaphore:
        try:
            with subject.semaphore:
                raise AssertionError("a permit was taken twice")
        except DeadlockError:
            subject.body()


@pytest.mark.parametrize("mode", ["cold storm", pytest.param("warm", marks=pytest.mark.slow), *long])
def test_a_refused_wait_leaves_the_line(mode: Mode) -> None:
    """A thread that would wait for its own permit leaves nothing behind, and keeps its permit to the end."""
    interrupts(Permits, by_deadlock, Permits.broken, mode=mode).check()


class Handed(TakenPermits):
    """Another thread waits behind the one that is interrupted."""

    def one_more_waits(self) -> bool:
        return self.both_wait(self.semaphore.hold(patience()))

    def broken(self) -> str | None:
        return super().broken() if self.next_was_let_in() else "the next one in the line was never let in"


@pytest.mark.parametrize("mode", ["warm", *long[:2]])
def test_the_next_one_is_let_in_whoever_is_interrupted(mode: Mode) -> None:
    """A waiter that is interrupted rings the next one, even if it was its own turn just then."""
    sweep = interrupts(
        Handed, by_with, Handed.broken, mode=mode, when_blocked=Handed.one_more_waits, unblock=Handed.let_go
    )
    sweep.check()


RELEASE = TimedSemaphore.release.__qualname__


def by_acquire(subject: Permits) -> None:
    subject.semaphore.acquire()
    try:
        len("work")
    finally:
        subject.semaphore.release()


@each_mode
def test_acquire_loses_nothing_but_at_the_entry_of_release(mode: Mode) -> None:
    """As documented: `release` is in Python, and an interrupt right at its call comes first."""
    report = interrupts(Permits, by_acquire, Permits.broken, mode=mode)
    if mode in ("warm", "cold"):  # a storm may begin before, and a worker's exception is set before
        assert {leak.where.rpartition(" ")[2] for leak in report.leaks} == {RELEASE}, report


class LeavingInPythonToo(TimedSemaphore):
    """The override that the documentation warns of."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)


@each_mode
def test_an_exit_in_python_loses_a_permit(mode: Mode) -> None:
    """The control: a Python `__exit__` opens the gap that the documentation names, and the sweep finds it."""

    def make() -> Permits:
        subject = Permits()
        subject.semaphore = LeavingInPythonToo(1)
        return subject

    assert interrupts(make, by_with, Permits.broken, mode=mode).leaks
