"""Slow waits are warned of while they are on, once each."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from locks.crew import LIMIT, Crew, eventually, held_elsewhere
from syncprims import TimedLock
from syncprims._core.waits import Waiting
from syncprims.diagnostics import warn_slow


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert record.levelno == logging.WARNING
        self.texts.append(record.getMessage())


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """What the library logs meanwhile."""
    handler, logger = Kept(), logging.getLogger("syncprims")
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)


def test_a_slow_wait_is_warned_of_once_while_it_is_on() -> None:
    """Each wait that lasts longer than the time gets one warning, with the report, before it has ended."""
    lock = TimedLock(name="slow")

    def queue() -> None:
        with lock:
            pass

    with warnings_kept() as texts, Crew() as crew, held_elsewhere(lock, "sleeper") as let_go, warn_slow(after=0.05):
        crew.start(queue, "first")
        eventually(lambda: texts)
        assert lock.waiting == 1
        crew.start(queue, "second")
        eventually(lambda: len(texts) == 2)
        # A third look, at which the first two waits are still on, warns of the third alone.
        crew.start(queue, "third")
        eventually(lambda: len(texts) == 3)
        let_go()
    for name, text in zip(("first", "second", "third"), texts, strict=True):
        assert text.startswith(f"Thread {name!r} (ident")
        assert "for 'slow' and still waits; it is held by Thread 'sleeper'" in text
        assert "TimedLock 'slow': held by" in text


def test_a_short_wait_is_not_warned_of() -> None:
    """A wait that ends in time passes without a word."""
    lock = TimedLock()

    def queue() -> None:
        with lock:
            pass

    with warnings_kept() as texts, Crew() as crew, warn_slow(after=LIMIT), held_elsewhere(lock) as let_go:
        crew.start(queue)
        eventually(lambda: lock.waiting)
        let_go()
    assert texts == []


def test_it_looks_again_when_a_wait_comes_of_age() -> None:
    """The next look comes no later than the moment at which a wait that is known gets slow."""
    with warn_slow(after=1000.0) as watching:
        assert watching._look() == 500.0
        waiting = Waiting(TimedLock())
        waiting.publish()
        try:
            waiting.since -= 900.0
            assert 90.0 < watching._look() <= 100.0
        finally:
            waiting.withdraw()


def test_its_thread_ends_when_it_is_stopped() -> None:
    """Stopping ends the thread that looks, at once, however long its pause; stopping again does no harm."""
    watching = warn_slow(after=1000.0)
    assert [thread for thread in threading.enumerate() if thread.name == "syncprims-slow-waits"]
    watching.stop()
    watching.stop()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "syncprims-slow-waits"])
    watching.stop()


@pytest.mark.parametrize("after", [0, -1.0, math.nan])
def test_a_time_that_makes_no_sense_is_refused(after: float) -> None:
    """The time must be positive, and no thread is started otherwise."""
    with pytest.raises(ValueError, match=r"positive|after"):
        warn_slow(after=after)
    assert not [thread for thread in threading.enumerate() if thread.name == "syncprims-slow-waits"]
