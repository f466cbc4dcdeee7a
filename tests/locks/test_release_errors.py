"""A lock whose release fails, as one on a server may: no error is hidden, and no lock stays held."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from syncprims import LockAdapter, LockTimeoutError, TimedLock, acquire_all
from syncprims.testing import MODES, Threads, interrupts


class Failing:
    """A lock whose release works, and then raises an error."""

    def __init__(self) -> None:
        """Make it free."""
        self.lock = threading.Lock()
        self.failure: BaseException = ConnectionError("the server has gone")

    def acquire(self, *, timeout: float = -1) -> bool:
        """Acquire it."""
        return self.lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Release it, and raise."""
        self.lock.release()
        raise self.failure


WAYS: dict[str, Callable[[LockAdapter], AbstractContextManager[object]]] = {
    "with": lambda lock: lock,
    "hold": lambda lock: lock.hold(1.0),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
def test_a_failed_release_comes_out_of_the_block(way: Callable[[LockAdapter], AbstractContextManager[object]]) -> None:
    """It is raised if the block itself succeeded, and the adapter regards the lock as released."""
    lock = LockAdapter(Failing(), name="theirs")
    with pytest.raises(ConnectionError, match="the server has gone"), way(lock):
        assert lock.held_by_me()
    assert not lock.held_by_me()


@each_way
def test_a_failed_release_does_not_mask_what_the_block_raised(
    way: Callable[[LockAdapter], AbstractContextManager[object]],
) -> None:
    """The block's exception is raised, unchanged except for a note."""
    lock = LockAdapter(Failing(), name="theirs")
    raised = ZeroDivisionError("in the block")
    with pytest.raises(ZeroDivisionError) as caught, way(lock):
        raise raised
    assert caught.value is raised
    assert raised.__notes__ == ["then the release of 'theirs' failed too: ConnectionError: the server has gone"]
    assert not lock.held_by_me()


def test_an_interrupt_of_the_release_is_not_made_a_note() -> None:
    """If it is not an `Exception` it is raised, whatever the block raised."""
    inside = Failing()
    inside.failure = KeyboardInterrupt()
    lock = LockAdapter(inside)
    with pytest.raises(KeyboardInterrupt) as caught, lock:
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert not lock.held_by_me()


def test_a_failed_release_does_not_mask_what_a_hook_raised() -> None:
    """The lock is released, and the hook's exception is raised with a note."""

    class Refusing(LockAdapter):
        def _on_acquired(self, waited: float) -> None:
            raise LookupError("the hook")

    lock = Refusing(Failing())
    with pytest.raises(LookupError, match="the hook") as caught, lock:
        pytest.fail("the body ran")
    assert "ConnectionError" in "".join(caught.value.__notes__)
    assert not lock.held_by_me()


def test_acquire_all_releases_all_others_where_one_release_fails() -> None:
    """This holds for locks before it and after it, and for two failures."""
    first, last = TimedLock(), TimedLock()
    failing = [LockAdapter(Failing()) for _ in range(2)]
    locks: list[TimedLock | LockAdapter] = [first, *failing, last]
    with pytest.raises(ConnectionError), acquire_all(*locks):
        assert first.held_by_me()
    assert not any(lock.held_by_me() for lock in locks)


def test_acquire_all_does_not_mask_what_the_block_raised() -> None:
    """The block's exception is raised, with each failed release as a note on it or on the first of them."""
    failing = [LockAdapter(Failing()) for _ in range(2)]
    raised = ZeroDivisionError("in the block")
    with pytest.raises(ZeroDivisionError) as caught, acquire_all(*failing):
        raise raised
    assert caught.value is raised
    assert raised.__notes__ == ["then the release of a lock failed too: ConnectionError: the server has gone"]
    assert not any(lock.held_by_me() for lock in failing)


def test_acquire_all_does_not_mask_why_it_could_not_enter() -> None:
    """A timeout is reported as one, with a failed release of an acquired lock as a note."""
    had, taken = LockAdapter(Failing()), TimedLock()
    late = LockAdapter(taken)
    with Threads() as threads, taken:
        error = threads.start(acquire_all(had, late, timeout=0.02).__enter__).exception()
    assert isinstance(error, LockTimeoutError)
    assert "ConnectionError" in "".join(error.__notes__)
    assert not had.held_by_me()


def test_acquire_all_lets_an_interrupt_of_a_release_out() -> None:
    """If it is not an `Exception` it is raised, and the other locks are free."""
    interrupted, failing = Failing(), LockAdapter(Failing())
    interrupted.failure = KeyboardInterrupt()
    lock = LockAdapter(interrupted)
    with pytest.raises(KeyboardInterrupt) as caught, acquire_all(failing, lock):
        raise ZeroDivisionError
    assert "ConnectionError" in "".join(caught.value.__notes__)
    assert not lock.held_by_me()
    assert not failing.held_by_me()


def test_an_interrupt_anywhere_leaves_a_lock_of_c_free() -> None:
    """Checking the block's exception has opened no gap: a threading.Lock is always released."""

    def scenario(lock: LockAdapter) -> None:
        try:
            with lock:
                raise LookupError
        except LookupError:
            pass

    for mode in MODES:
        report = interrupts(
            lambda: LockAdapter(threading.Lock()),
            scenario,
            lambda lock: "it is locked" if lock.locked() else None,
            mode=mode,
        )
        assert report.points > 10
        assert not report.leaks
