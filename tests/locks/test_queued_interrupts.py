"""An interrupt at every point of a lock of the user's own leaves no hold, and no thread in the line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from locks.taken import Taken, interrupted_in_a_wait
from syncprims import DeadlockError, LockTimeoutError, QueuedLock
from syncprims.testing import MODES, Mode, interrupts

pytestmark = pytest.mark.untraceable

each_mode = pytest.mark.parametrize("mode", MODES)
long = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("cold", "storm", "worker")]
each_mode_of_a_wait = pytest.mark.parametrize(
    "mode", [pytest.param("warm", marks=pytest.mark.slow), "cold storm", *long]
)


class Urgent(QueuedLock):
    """Lets in one thread at a time, the lowest kind first."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:
        return sum(each <= kind for each in kinds)


def by_with(lock: QueuedLock) -> None:
    with lock:
        pass


def by_kind(lock: QueuedLock) -> None:
    with lock.of(3, 1.0):
        pass


def by_hold(lock: QueuedLock) -> None:
    with lock.hold(1.0):
        pass


def broken(lock: QueuedLock) -> str | None:
    return f"{lock!r}" if lock.locked() or lock.waiting else None


@each_mode
@pytest.mark.parametrize("scenario", [by_with, by_kind, by_hold])
def test_a_free_lock_is_never_left_taken(scenario: Callable[[QueuedLock], None], mode: Mode) -> None:
    """This holds wherever an interrupt comes, in entering and leaving."""
    interrupts(Urgent, scenario, broken, mode=mode).check()


class TakenUrgent(Taken):
    """A lock that a thread holds until it is asked to release it."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Urgent()
        self.be_taken(self.lock, self.lock)

    def broken(self) -> str | None:
        """The remains of a wait, if there are any."""
        self.let_go()
        return broken(self.lock)


@each_mode_of_a_wait
def test_a_lock_that_was_waited_for_is_never_left_taken(mode: Mode) -> None:
    """This holds wherever an interrupt comes, before, in and after the wait."""
    interrupted_in_a_wait(TakenUrgent, lambda subject: by_kind(subject.lock), TakenUrgent.broken, mode).check()


@each_mode_of_a_wait
def test_a_wait_that_gives_up_leaves_the_line(mode: Mode) -> None:
    """This holds wherever an interrupt comes on the way."""

    def wait_in_vain(subject: TakenUrgent) -> None:
        with suppress(LockTimeoutError), subject.lock.of(3, 0.002):
            pass

    interrupts(TakenUrgent, wait_in_vain, TakenUrgent.broken, mode=mode).check()


@each_mode_of_a_wait
def test_a_second_hold_that_is_refused_leaves_the_first(mode: Mode) -> None:
    """This holds wherever an interrupt comes on the way."""

    def hold_twice(lock: QueuedLock) -> None:
        with lock, suppress(DeadlockError), lock.of(3):
            pass

    interrupts(Urgent, hold_twice, broken, mode=mode).check()


class LeavesTheLineInPython(Urgent):
    """A broken control: the function that leaves the line is in Python."""

    def _removing(self, items: list[object], which: object) -> Callable[[], object]:
        remove = super()._removing(items, which)  # type: ignore[arg-type]
        return (lambda: remove()) if items is self._line else remove


class TakenInPython(TakenUrgent):
    """The same with that control."""

    def __init__(self) -> None:
        Taken.__init__(self)
        self.lock = LeavesTheLineInPython()
        self.be_taken(self.lock, self.lock)


def test_a_thread_that_leaves_the_line_in_python_is_found_in_it() -> None:
    """The control: it shows that the test works."""

    def wait_in_vain(subject: TakenUrgent) -> None:
        with suppress(LockTimeoutError), subject.lock.of(3, 0.002):
            pass

    assert interrupts(TakenInPython, wait_in_vain, TakenUrgent.broken, mode="storm").leaks
