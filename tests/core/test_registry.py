"""The registry of live primitives, while other threads make and drop some."""

from __future__ import annotations

from threading import Event

import pytest

from locks.actors import Actors
from syncprims import TimedLock, TimedRLock
from syncprims._core.registry import live


def test_live_primitives_come_in_the_order_of_their_creation() -> None:
    """Primitives that are gone are not among them."""
    locks = [TimedLock(), TimedRLock(), TimedLock()]
    assert [lock for lock in live() if lock in locks] == locks
    del locks[1]
    assert [lock for lock in live() if lock in locks] == locks


@pytest.mark.usefixtures("restless")
def test_looking_while_others_make_and_drop_locks() -> None:
    """Primitives that live all the time are always found, in order, and nothing is raised."""
    locks = [TimedLock() for _ in range(1000)]
    ids = [id(lock) for lock in locks]
    stop = Event()

    def churn() -> None:
        while not stop.is_set():
            assert len([TimedLock() for _ in range(20)]) == 20

    with Actors() as actors:
        for _ in range(2):
            actors.start(churn)
        try:
            for _ in range(100):
                found = {id(lock) for lock in live()}
                assert found.issuperset(ids)
        finally:
            stop.set()
    assert [id(lock) for lock in live() if id(lock) in set(ids)] == ids
