"""An interrupt at any point leaves no lock acquired and no wait published, and runs no body without the lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from locks.taken import Taken, interrupted_in_a_wait
from syncprims import LockAdapter, LockTimeoutError, TimedLock, TimedRLock, acquire_all
from syncprims.testing import MODES, Mode, interrupts, patience

pytestmark = pytest.mark.untraceable

each_mode = pytest.mark.parametrize("mode", MODES)
worker_is_slow = pytest.param("worker", marks=pytest.mark.slow)
each_mode_of_a_wait = pytest.mark.parametrize("mode", ["warm", "cold", "storm", "cold storm", worker_is_slow])
main_modes = pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "worker"])  # a thread's own locks
each_kind = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])


class Subject:
    """Two locks, and the notes of the body."""

    def __init__(self, kind: type[TimedLock]) -> None:
        self.lock, self.other = kind(), kind()
        self.unlocked_bodies = 0

    def body(self, *locks: TimedLock) -> None:
        for lock in locks:
            self.unlocked_bodies += not lock.held_by_me()

    def broken(self) -> str | None:
        for lock in (self.lock, self.other):
            if lock.locked():
                return f"still locked: {lock!r}"
            if lock.waiting:
                return f"{lock.waiting} still waiting"
        return "the body ran without its lock" if self.unlocked_bodies else None


class TakenSubject(Taken, Subject):
    """A thread holds its lock until it is asked to release it."""

    def __init__(self, kind: type[TimedLock]) -> None:
        super().__init__(kind)
        self.be_taken(self.lock, self.lock)


def by_with(subject: Subject) -> None:
    with subject.lock:
        subject.body(subject.lock)


def by_hold(subject: Subject) -> None:
    with subject.lock.hold(patience()):
        subject.body(subject.lock)


def by_acquire(subject: Subject) -> None:
    subject.lock.acquire()
    try:
        subject.body(subject.lock)
    finally:
        subject.lock.release()


def by_timed_acquire(subject: Subject) -> None:
    if subject.lock.acquire(timeout=patience()):
        try:
            subject.body(subject.lock)
        finally:
            subject.lock.release()


def by_acquire_all(subject: Subject) -> None:
    with acquire_all(subject.other, subject.lock, timeout=patience()):
        subject.body(subject.lock, subject.other)


def by_taking_it_again(subject: Subject) -> None:
    lock = subject.lock
    with lock:
        with lock:
            subject.body(lock)
        with lock.hold(0):
            subject.body(lock)
        if lock.acquire(timeout=1):
            try:
                subject.body(lock)
            finally:
                lock.release()
        subject.body(lock)


def by_giving_up(subject: Subject) -> None:
    try:
        with subject.lock.hold(0.001):
            subject.body(subject.lock)
    except LockTimeoutError:
        pass
    if subject.lock.acquire(timeout=0.001):
        try:
            subject.body(subject.lock)
        finally:
            subject.lock.release()


def in_condition(subject: Subject) -> None:
    condition = threading.Condition(cast(threading.Lock, subject.lock))  # typeshed wants one of threading's own
    with subject.lock:  # not the condition, whose own `__exit__` is a Python function
        try:
            condition.wait(0.0001)
        finally:
            subject.body(subject.lock)


def in_condition_twice(subject: Subject) -> None:
    with subject.lock:
        in_condition(subject)


WAYS = [by_with, by_hold, by_acquire, by_timed_acquire, by_acquire_all]


@each_mode
@each_kind
@pytest.mark.parametrize("scenario", WAYS)
def test_free_lock_never_leaks(scenario: Callable[[Subject], None], kind: type[TimedLock], mode: Mode) -> None:
    """Acquiring a free lock either completes or undoes itself, and leaving always completes."""
    interrupts(lambda: Subject(kind), scenario, Subject.broken, mode=mode).check()


@each_mode_of_a_wait
@each_kind
@pytest.mark.parametrize("scenario", WAYS)
def test_contended_lock_never_leaks(scenario: Callable[[Subject], None], kind: type[TimedLock], mode: Mode) -> None:
    """An interrupt before, in or after a wait, or on the way out of one, leaves nothing behind."""
    interrupted_in_a_wait(lambda: TakenSubject(kind), scenario, TakenSubject.broken, mode).check()


@each_mode
def test_lock_taken_again_never_leaks(mode: Mode) -> None:
    """An interrupt never changes how often a reentrant lock is held."""
    interrupts(lambda: Subject(TimedRLock), by_taking_it_again, Subject.broken, mode=mode).check()


@each_mode_of_a_wait
@each_kind
def test_wait_that_gives_up_never_leaks(kind: type[TimedLock], mode: Mode) -> None:
    """A wait that times out is withdrawn, even if an interrupt comes while its error is made."""

    def broken(subject: TakenSubject) -> str | None:
        subject.let_go()
        return subject.broken()

    interrupts(lambda: TakenSubject(kind), by_giving_up, broken, mode=mode).check()


def adapted_lock() -> LockAdapter:
    return LockAdapter(threading.Lock())


def adapted_rlock() -> LockAdapter:
    return LockAdapter(threading.RLock())


@each_mode
@pytest.mark.parametrize(
    ("kind", "scenario"),
    [
        (TimedLock, in_condition),
        (TimedRLock, in_condition),
        (TimedRLock, in_condition_twice),
        (adapted_lock, in_condition),
        (adapted_rlock, in_condition),
        (adapted_rlock, in_condition_twice),
    ],
)
def test_condition_never_leaks(kind: Any, scenario: Callable[[Subject], None], mode: Mode) -> None:
    """With or without interrupts, a `threading.Condition` never keeps the lock, and its wait never ends without it."""
    interrupts(lambda: Subject(kind), scenario, Subject.broken, mode=mode).check()


class Foreign:
    """Adapters over two C locks and one whose release fails, with locks of our own before, between and after."""

    def __init__(self) -> None:
        self.inside = threading.Lock(), threading.Lock()
        self.first, self.one = TimedLock(), LockAdapter(self.inside[0])
        self.failing = LockAdapter(FailingLock())
        self.other, self.last = LockAdapter(self.inside[1]), TimedLock()

    def broken(self) -> str | None:
        ours = self.first, self.last, *self.inside
        locked = [lock for lock in ours if lock.locked()]
        held = [lock for lock in (self.one, self.failing, self.other) if lock.held_by_me()]
        waited = [lock for lock in (self.first, self.one, self.failing, self.other, self.last) if lock.waiting]
        return f"{locked=} {held=} {waited=}" if locked or held or waited else None


class FailingLock:
    """A lock in Python, which an interrupt may leave acquired, and whose release always raises."""

    def acquire(self, *, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        raise ConnectionError


def adapter_by_with(subject: Foreign) -> None:
    with subject.one:
        assert subject.one.held_by_me()


def adapter_by_hold(subject: Foreign) -> None:
    with subject.one.hold(patience()):
        assert subject.one.held_by_me()


def adapters_together(subject: Foreign) -> None:
    with acquire_all(subject.one, subject.other, subject.first):
        assert subject.other.held_by_me()


def one_that_fails(subject: Foreign) -> None:
    try:
        with subject.failing:
            pass
    except ConnectionError:
        pass


def one_of_all_fails(subject: Foreign) -> None:
    try:
        with acquire_all(subject.first, subject.one, subject.failing, subject.other, subject.last):
            assert subject.last.held_by_me()
    except ConnectionError:
        pass


@each_mode
@pytest.mark.parametrize(
    "scenario", [adapter_by_with, adapter_by_hold, adapters_together, one_that_fails, one_of_all_fails]
)
def test_adapters_of_locks_in_c_never_leak(scenario: Callable[[Foreign], None], mode: Mode) -> None:
    """Alone and together with others they are free afterwards, even if the release of another one fails."""
    interrupts(Foreign, scenario, Foreign.broken, mode=mode).check()


def entered_by_hand(subject: Foreign) -> None:
    acquire_all(subject.first, subject.one, subject.failing, subject.other, subject.last).__enter__()


def all_or_none(subject: Foreign) -> str | None:
    taken = [subject.first.locked(), subject.last.locked(), *(lock.locked() for lock in subject.inside)]
    taken += [lock.held_by_me() for lock in (subject.one, subject.failing, subject.other)]
    return f"some are taken, and some are not: {taken}" if len(set(taken)) > 1 else None


@main_modes
def test_entering_by_hand_takes_all_or_none(mode: Mode) -> None:
    """This holds even if no `__exit__` was looked up before, as with an `ExitStack`."""
    interrupts(Foreign, entered_by_hand, all_or_none, mode=mode).check()


class TakenOutside:
    """An adapter over a lock that its thread has acquired once before."""

    def __init__(self) -> None:
        self.inside = threading.RLock()
        self.inside.acquire()
        self.lock = LockAdapter(self.inside)

    def broken(self) -> str | None:
        try:
            self.inside.release()
        except RuntimeError:
            return "it was released too often"
        free = not self.inside._is_owned()  # type: ignore[attr-defined]  # typeshed does not know it
        return None if free and not self.lock.held_by_me() else "it is still taken"


def taken_inside(subject: TakenOutside) -> None:
    with subject.lock:
        len("work")


@main_modes
def test_an_adapted_lock_is_released_as_often_as_it_was_taken(mode: Mode) -> None:
    """It is not released once more, because that would release another's hold."""
    interrupts(TakenOutside, taken_inside, TakenOutside.broken, mode=mode).check()


class LeavingInPython(TimedLock):
    """The override that the documentation of `TimedLock` warns of."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)


@each_mode
def test_exit_in_python_leaks(mode: Mode) -> None:
    """The control: a Python `__exit__` opens the gap that the documentation names, and the sweep finds it."""
    report = interrupts(lambda: Subject(LeavingInPython), by_with, Subject.broken, mode=mode)
    assert report.leaks
    if mode in ("warm", "cold"):  # a storm may begin before, and a worker's exception is set before
        assert {leak.where.rpartition(" ")[2] for leak in report.leaks} == {"LeavingInPython.__exit__"}
