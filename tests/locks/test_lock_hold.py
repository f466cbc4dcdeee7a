"""`hold()`: a ``with`` with its own timeout, through a token that may be kept."""

from __future__ import annotations

import pickle
import threading
from threading import Barrier

import pytest

from locks.actors import LIMIT, Actors, gets_it_in_the_end, held_elsewhere, held_in
from syncprims import DeadlockError, LockTimeoutError, TimedLock, TimedRLock

both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])


@both
def test_hold_does_not_take_the_lock(kind: type[TimedLock]) -> None:
    """Only entering acquires it."""
    lock = kind()
    token = lock.hold(1.0)
    assert not lock.locked()
    with token as got:
        assert got is lock
        assert lock.held_by_me()
    assert not lock.locked()


@both
def test_the_last_token_is_kept(kind: type[TimedLock]) -> None:
    """The same timeout gives the same token; another timeout gives another one, and the first still works."""
    lock = kind()
    first = lock.hold(1.0)
    assert lock.hold(1.0) is first
    second = lock.hold(None)
    assert second is not first
    assert lock.hold(None) is second
    for token in (first, second, lock.hold(1.0)):
        with token:
            assert lock.held_by_me()
    assert not lock.locked()


@both
def test_tokens_of_two_locks_are_not_mixed_up(kind: type[TimedLock]) -> None:
    """A token acquires the lock that it came from."""
    one, other = kind(), kind()
    with one.hold(1.0):
        assert (one.locked(), other.locked()) == (True, False)


@both
@pytest.mark.parametrize("timeout", [0, 0.02])
def test_hold_replaces_the_constructors_timeout(kind: type[TimedLock], timeout: float) -> None:
    """It may be shorter, and the error shows which it was."""
    lock = kind(LIMIT)
    with held_elsewhere(lock):
        with pytest.raises(LockTimeoutError) as caught, lock.hold(timeout):
            pytest.fail("the body ran without the lock")
        assert caught.value.timeout == timeout


@both
@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_hold_may_wait_longer_than_the_constructor_said(kind: type[TimedLock], timeout: float | None) -> None:
    """It may be longer, and without a limit too."""
    lock = kind(0)
    assert gets_it_in_the_end(lock, lambda: held_in(lock.hold(timeout), lock))


@both
def test_threads_share_a_token(kind: type[TimedLock]) -> None:
    """One token in several threads at once excludes them from each other."""
    lock = kind()
    token = lock.hold(LIMIT)
    start = Barrier(4)
    inside: list[int] = []
    most = 0

    def enter() -> None:
        nonlocal most
        start.wait(LIMIT)
        for _ in range(100):
            with token:
                inside.append(threading.get_ident())
                most = max(most, len(inside))
                inside.pop()

    with Actors() as actors:
        for _ in range(4):
            actors.start(enter)
    assert most == 1
    assert not lock.locked()


def test_a_token_of_a_reentrant_lock_nests() -> None:
    """The same token may be entered again before it is left."""
    lock = TimedRLock()
    token = lock.hold(1.0)
    with token:
        with token:
            assert lock.held_by_me()
        assert lock.held_by_me()
    assert not lock.locked()


def test_a_token_of_a_plain_lock_does_not_nest() -> None:
    """Entering again is a deadlock with itself, reported at once, and the outer block keeps the lock."""
    lock = TimedLock()
    token = lock.hold(LIMIT)
    with token:
        with pytest.raises(DeadlockError), token:
            pytest.fail("the body ran twice")
        assert lock.held_by_me()
    assert not lock.locked()


@both
def test_the_repr_of_a_token_names_its_lock_and_time(kind: type[TimedLock]) -> None:
    """A log can distinguish it from others."""
    text = repr(kind(name="accounts").hold(1.5))
    assert "accounts" in text
    assert "1.5" in text


@both
def test_a_token_is_not_pickled(kind: type[TimedLock]) -> None:
    """It stands for a lock of this process."""
    with pytest.raises(TypeError):
        pickle.dumps(kind().hold(1.0))
