"""Releasing a lock that this thread does not hold, in every way: an error, and nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from threading import Event, Semaphore
from typing import Any, Final

import pytest

from locks.actors import Actors, wait_for
from locks.test_lock_fork import in_child
from syncprims import Guarded, KeyedLock, LockAdapter, QueuedLock, TimedRWLock, TimedSemaphore

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Exclusive(QueuedLock):
    """Lets in one thread at a time."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds


def leave(manager: AbstractContextManager[object]) -> None:
    """Leave it by hand."""
    manager.__exit__(None, None, None)


def leave_by_class(manager: AbstractContextManager[object]) -> None:
    """Leave it as an `ExitStack` does."""
    with ExitStack() as stack:
        stack.push(manager)


@dataclass
class Way:
    """One way to release a lock, and the text of its error."""

    make: Callable[[], Any]
    held: Callable[[Any], AbstractContextManager[object]]
    release: Callable[[Any], object]
    error: type[Exception]
    says: str


def keyed() -> Any:
    """The lock of a key; its `KeyedLock` is dropped, and the lock is kept."""
    return KeyedLock(name="accounts")["alice"]


def adapter() -> LockAdapter:
    """An adapter around a semaphore of one permit."""
    return LockAdapter(Semaphore(1), name="theirs")


# Leaving these is one call of C without a check; see "What is not promised" on the page on shared locks.
OF_THE_LIST: Final = (ValueError, "not in list")
UNACQUIRED: Final = (RuntimeError, "cannot release un-acquired lock")
PERMITS: Final = (lambda: TimedSemaphore(3, name="permits"), lambda lock: lock)
BOARD: Final = lambda: TimedRWLock(name="board")  # noqa: E731  one of several
WAYS: Final = {
    "semaphore.__exit__": Way(*PERMITS, leave, *OF_THE_LIST),
    "semaphore.__exit__ by class": Way(*PERMITS, leave_by_class, *OF_THE_LIST),
    "semaphore.hold().__exit__": Way(*PERMITS, lambda lock: leave(lock.hold(1.0)), *OF_THE_LIST),
    "semaphore.release": Way(*PERMITS, lambda lock: lock.release(), ValueError, "cannot release 1 of 'permits'"),
    "semaphore.release(2)": Way(*PERMITS, lambda lock: lock.release(2), ValueError, "cannot release 2 of 'permits'"),
    "read().__exit__": Way(BOARD, lambda lock: lock.read(), lambda lock: leave(lock.read()), *OF_THE_LIST),
    "read().__exit__ of a writer": Way(BOARD, lambda lock: lock.write(), lambda lock: leave(lock.read()), *OF_THE_LIST),
    "write().__exit__": Way(BOARD, lambda lock: lock.write(), lambda lock: leave(lock.write()), *OF_THE_LIST),
    "write().__exit__ of a reader": Way(
        BOARD, lambda lock: lock.read(), lambda lock: leave(lock.write()), *OF_THE_LIST
    ),
    "read(timeout).__exit__": Way(BOARD, lambda lock: lock.read(), lambda lock: leave(lock.read(1)), *OF_THE_LIST),
    "queued.__exit__": Way(Exclusive, lambda lock: lock, leave, *UNACQUIRED),
    "queued.release": Way(Exclusive, lambda lock: lock.of(3), lambda lock: lock.release(), *UNACQUIRED),
    "queued.of().__exit__": Way(Exclusive, lambda lock: lock.of(3), lambda lock: leave(lock.of(3)), *UNACQUIRED),
    "queued.hold().__exit__": Way(Exclusive, lambda lock: lock, lambda lock: leave(lock.hold(1.0)), *UNACQUIRED),
    "keyed.__exit__": Way(keyed, lambda lock: lock, leave, *UNACQUIRED),
    "keyed.release": Way(keyed, lambda lock: lock, lambda lock: lock.release(), *UNACQUIRED),
    "keyed.hold().__exit__": Way(keyed, lambda lock: lock, lambda lock: leave(lock.hold(1.0)), *UNACQUIRED),
    "guarded.__exit__": Way(lambda: Guarded(0), lambda lock: lock, leave, *UNACQUIRED),
    "guarded.release": Way(lambda: Guarded(0), lambda lock: lock, lambda lock: lock.release(), *UNACQUIRED),
    "guarded.hold().__exit__": Way(
        lambda: Guarded(0), lambda lock: lock, lambda lock: leave(lock.hold(1.0)), *UNACQUIRED
    ),
    "adapter.__exit__": Way(adapter, lambda lock: lock, leave, RuntimeError, "cannot release 'theirs'"),
    "adapter.release": Way(adapter, lambda lock: lock, lambda lock: lock.release(), RuntimeError, "cannot release"),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def look(lock: Any) -> tuple[object, ...]:
    """All of its visible state."""
    holders = [lock.holder, *getattr(lock, "holders", ())]
    return (repr(lock), [each and each.ident for each in holders], lock.waiting, lock.held_by_me())


def refuses(way: Way, lock: Any) -> None:
    """The release is refused, and nothing is changed."""
    before = look(lock)
    with pytest.raises(way.error, match=way.says):
        way.release(lock)
    assert look(lock) == before


def works(way: Way, lock: Any) -> None:
    """It can be acquired and released as usual."""
    with way.held(lock):
        assert lock.held_by_me()
    assert not lock.held_by_me()
    assert lock.holder is None


@each_way
def test_without_an_entry_and_twice(way: Way) -> None:
    """A free lock is not released, however often that is tried, and neither is one that its thread has left."""
    lock = way.make()
    for _ in range(2):
        refuses(way, lock)
    works(way, lock)
    refuses(way, lock)
    works(way, lock)


@each_way
def test_of_another_thread(way: Way) -> None:
    """The hold of another thread stays."""
    lock, held, go = way.make(), Event(), Event()

    def hold() -> None:
        with way.held(lock):
            held.set()
            wait_for(go)

    with Actors() as actors:
        holding = actors.start(hold)
        wait_for(held)
        try:
            refuses(way, lock)
            assert lock.holder is not None
            assert lock.holder.ident == holding.thread.ident
        finally:
            go.set()
    works(way, lock)


@pytest.mark.parametrize(
    ("held", "release"),
    [(lambda lock: lock.read(), lambda lock: lock.write()), (lambda lock: lock.write(), lambda lock: lock.read())],
    ids=["a reader leaves write()", "a writer leaves read()"],
)
def test_the_other_side_of_ones_own(held: Callable[[Any], Any], release: Callable[[Any], Any]) -> None:
    """A thread can leave only the side that it has entered."""
    lock = TimedRWLock()
    with held(lock):
        before = look(lock)
        with pytest.raises(ValueError, match="not in list"):
            leave(release(lock))
        assert look(lock) == before
    assert lock.holders == ()


def test_a_permit_of_the_other_kind() -> None:
    """`with` can't release a permit from `acquire`, and `release` can't give back one from `with`."""
    permits = TimedSemaphore(2)
    assert permits.acquire()
    with pytest.raises(ValueError, match="not in list"):
        leave(permits)
    assert permits.value == 1
    with permits:
        permits.release()
        with pytest.raises(ValueError, match="by `with` or hold"):
            permits.release()
        assert permits.value == 1
    assert permits.value == 2


@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("names", [[*WAYS][::2], [*WAYS][1::2]], ids=["half of them", "the others"])
def test_what_another_thread_held_before_a_fork(names: list[str]) -> None:
    """In the child it is free, so that hold can't be released, and the lock works."""
    ways = [WAYS[name] for name in names]
    locks = [way.make() for way in ways]
    held, go = Event(), Event()

    def hold() -> None:
        with ExitStack() as stack:
            for way, lock in zip(ways, locks, strict=True):
                stack.enter_context(way.held(lock))
            held.set()
            wait_for(go)

    def check() -> None:
        for way, lock in zip(ways, locks, strict=True):
            if not isinstance(lock, LockAdapter):  # the lock inside decides what happens at a fork
                assert lock.holder is None
                refuses(way, lock)
                works(way, lock)

    with Actors() as actors:
        actors.start(hold)
        wait_for(held)
        try:
            in_child(check)
        finally:
            go.set()
