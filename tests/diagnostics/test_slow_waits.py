"""Slow waits cause a warning while they last, once each."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, wait_for
from syncprims import CallbackPool, TimedLock
from syncprims._core.clock import monotonic
from syncprims._core.waits import Waiting, all_waits
from syncprims.diagnostics import SlowWaits, warn_slow


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
    """The library's log messages during the test."""
    handler, logger = Kept(), logging.getLogger("syncprims")
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)


def enter(lock: TimedLock, *further: TimedLock) -> None:
    """Acquire locks one after the other, and release them."""
    with lock:
        if further:
            enter(*further)


def grow_old(watching: SlowWaits, lock: TimedLock, number: int = 1) -> None:
    """Pretend that the waits for the lock have lasted for an hour, and let a look see them."""
    eventually(lambda: lock.waiting == number)
    for waiting in all_waits():
        if waiting.node is lock:
            waiting.since -= 3600.0
    watching._look()


@pytest.fixture
def watching() -> Iterator[SlowWaits]:
    """A watch that looks when a test asks for it, and by itself only after half an hour."""
    with warn_slow(after=3600.0) as watching:
        yield watching


def test_a_slow_wait_is_warned_of_while_it_is_on() -> None:
    """A wait that lasts longer than the time gets a warning, with the report, before it has ended."""
    lock = TimedLock(name="slow")
    with warnings_kept() as texts, Actors() as actors, held_elsewhere(lock, "sleeper") as let_go, warn_slow(after=0.05):
        actors.start(lambda: enter(lock), "first")
        eventually(lambda: texts)
        assert lock.waiting == 1
        let_go()
    (text,) = texts
    assert text.startswith("Thread 'first' (ident")
    assert "for 'slow' and still waits; it is held by Thread 'sleeper'" in text
    assert "TimedLock 'slow': held by" in text


def test_a_jam_is_warned_of_once(watching: SlowWaits) -> None:
    """Of fifty threads that wait for one lock, only the first that gets old causes a warning."""
    lock = TimedLock(name="stock")
    with warnings_kept() as texts, Actors() as actors, held_elsewhere(lock) as let_go:
        for number in range(50):
            actors.start(lambda: enter(lock), f"queuer-{number}")
            if number in (0, 1, 49):
                grow_old(watching, lock, number + 1)
        let_go()
    assert len(texts) == 1
    assert texts[0].startswith("Thread 'queuer-0'")


def test_those_that_wait_as_well_are_counted(watching: SlowWaits) -> None:
    """The one line of a jam says how many threads wait beside the one that has waited longest."""
    lock = TimedLock(name="stock")
    with warnings_kept() as texts, Actors() as actors, held_elsewhere(lock) as let_go:
        actors.start(lambda: enter(lock), "queuer-0")
        eventually(lambda: lock.waiting == 1)
        for number in (1, 2):
            actors.start(lambda: enter(lock), f"queuer-{number}")
        grow_old(watching, lock, 3)
        let_go()
    lines = texts[0].splitlines()
    assert lines[0].startswith("Thread 'queuer-0'")
    assert lines[0].endswith("; 2 more threads wait for it")
    assert lines[1].startswith("syncprims in process")


def pretend_to_wait(lock: TimedLock, end: Event) -> None:
    """Register a wait for the lock that a test can end."""
    waiting = Waiting(lock, takes_part=False)
    waiting.publish()
    try:
        wait_for(end)
    finally:
        waiting.withdraw()


def test_a_jam_lasts_as_long_as_a_wait_that_got_old(watching: SlowWaits) -> None:
    """As long as one of its waits lasts, even if not the first, it is the same jam; after the last, another one."""
    lock = TimedLock(name="stock")
    ends = [Event() for _ in range(4)]
    with warnings_kept() as texts, Actors() as actors:
        first = actors.start(lambda: pretend_to_wait(lock, ends[0]))
        grow_old(watching, lock)
        second = actors.start(lambda: pretend_to_wait(lock, ends[1]))
        grow_old(watching, lock, 2)
        ends[0].set()
        first.result()
        third = actors.start(lambda: pretend_to_wait(lock, ends[2]))
        grow_old(watching, lock, 2)
        assert len(texts) == 1
        for job, end in ((second, ends[1]), (third, ends[2])):
            end.set()
            job.result()
        watching._look()
        actors.start(lambda: pretend_to_wait(lock, ends[3]), "later")
        grow_old(watching, lock)
        ends[3].set()
    assert len(texts) == 2
    assert texts[1].startswith("Thread 'later'")


def test_each_lock_has_its_own_jam(watching: SlowWaits) -> None:
    """While one lock is jammed, another one that gets jammed causes a warning too."""
    locks = [TimedLock(name=name) for name in ("stock", "prices")]
    with (
        warnings_kept() as texts,
        Actors() as actors,
        held_elsewhere(locks[0]) as first,
        held_elsewhere(locks[1]) as second,
    ):
        for lock in locks:
            actors.start(lambda lock=lock: enter(lock))  # type: ignore[misc]  # bound now
            grow_old(watching, lock)
        first()
        second()
    assert ["for 'stock'" in texts[0], "for 'prices'" in texts[1], len(texts)] == [True, True, 2]


def test_those_that_wait_behind_a_jam_are_part_of_it(watching: SlowWaits) -> None:
    """A wait for a lock that a jammed thread holds causes no warning until that thread is out of its jam."""
    database, account, printer = (TimedLock(name=name) for name in ("database", "account", "printer"))
    with (
        warnings_kept() as texts, Actors() as actors,
        held_elsewhere(database) as database_goes, held_elsewhere(printer) as printer_goes,
    ):  # fmt: skip
        actors.start(lambda: enter(account, database, printer))
        grow_old(watching, database)
        actors.start(lambda: enter(account))
        grow_old(watching, account)
        assert len(texts) == 1
        database_goes()
        eventually(lambda: printer.waiting)
        watching._look()
        printer_goes()
    assert [text.splitlines()[0].count("for 'account' and still waits") for text in texts] == [0, 1]


def test_many_jams_at_once_are_one_message(watching: SlowWaits) -> None:
    """Jams that one look finds share a message with one report, which does not name each of them."""
    locks = [TimedLock(name=f"lock-{number}") for number in range(13)]
    with warnings_kept() as texts, Actors() as actors, ExitStack() as held:
        let_go = [held.enter_context(held_elsewhere(lock)) for lock in locks]
        for lock in locks:
            actors.start(lambda lock=lock: enter(lock))  # type: ignore[misc]  # bound now
        eventually(lambda: all(lock.waiting for lock in locks))
        for waiting in all_waits():
            waiting.since -= 3600.0
        watching._look()
        for each in let_go:
            each()
    (text,) = texts
    assert text.count("and still waits") == 10
    assert text.splitlines()[10] == "and so have threads for 3 other things"
    assert text.count("syncprims in process") == 1


def test_a_pool_that_is_joined_for_long_hides_no_other_wait(watching: SlowWaits) -> None:
    """The target of a wait for a pool counts: its end, a result and room are three jams."""
    gate = Event()
    with warnings_kept() as texts, Actors() as actors, CallbackPool(max_workers=1, name="mill") as pool:
        task = pool.submit(wait_for, gate)
        for wait in (pool.join, task.result):
            actors.start(lambda wait=wait: wait(LIMIT))  # type: ignore[misc]  # bound now
            eventually(lambda: len(all_waits()) > len(texts))
            for waiting in all_waits():
                waiting.since = monotonic() - 3600.0
            watching._look()
        gate.set()
    assert ["the end of all tasks" in texts[0], "the result of" in texts[1], len(texts)] == [True, True, 2]


class Broken(logging.Handler):
    """A handler that raises SystemExit."""

    def __init__(self) -> None:
        super().__init__()
        self.called = Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Refuse."""
        self.called.set()
        raise SystemExit("no")


class Unnamed(TimedLock):
    """A lock whose name raises."""

    @property
    def name(self) -> str:
        """Refuse."""
        raise LookupError("no name")


def test_its_thread_survives_what_the_program_does_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a log handler that raises nor a lock without a name ends the watch: the next jam causes a warning."""
    handler, logger = Broken(), logging.getLogger("syncprims")
    nameless, other = Unnamed(), TimedLock(name="other")
    with Actors() as actors, held_elsewhere(other) as let_other_go, warn_slow(after=0.05):
        nameless.acquire()
        logger.addHandler(handler)
        try:
            actors.start(lambda: enter(nameless))
            wait_for(handler.called)
        finally:
            logger.removeHandler(handler)
        with warnings_kept() as texts:
            actors.start(lambda: enter(other))
            eventually(lambda: texts)
        assert "for 'other'" in texts[0]
        nameless.release()
        let_other_go()
    assert "a handler of the logger 'syncprims' failed" in capsys.readouterr().err


def test_a_short_wait_is_not_warned_of() -> None:
    """A wait that ends in time causes no message."""
    lock = TimedLock()

    def queue() -> None:
        with lock:
            pass

    with warnings_kept() as texts, Actors() as actors, warn_slow(after=LIMIT), held_elsewhere(lock) as let_go:
        actors.start(queue)
        eventually(lambda: lock.waiting)
        let_go()
    assert texts == []


def test_it_looks_again_when_a_wait_comes_of_age() -> None:
    """The next look comes no later than the moment at which a known wait gets slow."""
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
    """Stopping ends the thread at once, however long its pause; stopping again does no harm."""
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
