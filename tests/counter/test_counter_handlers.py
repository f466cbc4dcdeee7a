"""No change of a signal handler or finalizer is lost, wherever it comes in a change of the same counter."""

from __future__ import annotations

import gc
import signal
import sys
from _queue import Empty
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import pytest

from counter.cases import EXACT, Change, Recording, each_exact, each_kind, each_zero, nothing
from syncprims import AtomicCounter, DeadlockError, compiled
from syncprims._core.deadline import Deadline
from syncprims._counter.waiting import ValueWaiter
from syncprims.testing import patience

pytestmark = pytest.mark.untraceable


class _Rearm:
    """A unary minus on it makes a SIGINT pending, without a call that would deliver it."""

    __neg__ = staticmethod(interrupt_main)


def at_each_point(
    make: Callable[[], AtomicCounter], scenario: Change, intrude: Change
) -> Iterator[tuple[AtomicCounter, Exception | None]]:
    """Run the scenario with the intruder in a signal handler, at the next delivery point in each run.

    Yields the counter and the exception of the scenario.
    """
    rearm = _Rearm()
    for point in range(1, 1000):
        run = _Run(make(), point)

        def handle(signum: int, frame: FrameType | None, run: _Run = run) -> None:
            if run.armed:
                run.points += 1
                if run.points == run.chosen:
                    run.armed = False
                    intrude(run.counter)
                else:
                    _ = -rearm  # no call from here on, or this handler would be called inside itself

        before = signal.signal(signal.SIGINT, handle)
        error = None
        try:
            _ = -rearm
            try:
                scenario(run.counter)
            except Exception as raised:
                error = raised
            reached, run.armed = not run.armed, False
            nothing()  # delivers the last one
        finally:
            signal.signal(signal.SIGINT, before)
        if not reached:
            assert point > (2 if compiled else 3), "the handler hardly ever came in"  # the core's methods are one call
            return
        yield run.counter, error
    pytest.fail("the scenario does not end")


@dataclass
class _Run:
    counter: AtomicCounter
    chosen: int
    points: int = 0
    armed: bool = True


@each_kind
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
@each_exact
def test_a_handler_may_come_in_anywhere(make: Callable[[], AtomicCounter], watched: bool, change: Change) -> None:
    """A handler that adds 10 at any point of a change adds it, or an update refuses it and is undone itself."""
    waiters: list[ValueWaiter] = []

    def prepare() -> AtomicCounter:
        counter = make()
        if watched:
            waiters.append(ValueWaiter((8).__le__, "8 or more", 8))
            counter._admit(waiters[-1])
        return counter

    for counter, error in at_each_point(prepare, change, lambda counter: counter.increment(10)):
        if error is None:
            assert counter.value == 18
            assert not watched or waiters[-1].told.get_nowait() >= 8
        else:
            assert isinstance(error, DeadlockError)
            assert counter.value == 7
            if watched:
                with pytest.raises(Empty):
                    waiters[-1].told.get_nowait()
        assert not counter._updating
        assert counter._special is (True if counter._waiters else counter._ordinarily)
        assert not counter._lock._is_owned()


@each_exact
def test_only_an_update_refuses_a_handler(change: Change) -> None:
    """It is refused while an update's function runs or its value is not stored yet, and never otherwise."""
    errors = [error for _, error in at_each_point(AtomicCounter, change, lambda counter: counter.increment())]
    is_update = change is dict(EXACT)["update"]
    assert any(errors) == is_update
    assert not all(errors)


@each_exact
def test_a_handler_may_update_anywhere(change: Change) -> None:
    """A handler's update at any point sees a whole value, and its result is not undone."""
    for counter, error in at_each_point(AtomicCounter, change, lambda c: c.update(lambda value: value + 10)):
        assert counter.value == (0 if error else 11)


def test_a_handler_by_timer_loses_nothing() -> None:
    """A timer's handler that changes the counter during the main thread's changes neither hangs nor loses a change."""
    counter, hooked = AtomicCounter(), Recording()
    came = AtomicCounter()

    def handle(signum: int, frame: FrameType | None) -> None:
        for one in (counter, hooked):
            try:
                one.increment()
            except DeadlockError:
                one_refused.append(one)
        came.increment()

    one_refused: list[AtomicCounter] = []
    made = 0
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        deadline = Deadline(patience(20))
        while came.value < 200 and deadline.remaining():
            for _, change in EXACT:
                change(counter)
                change(hooked)
            made += len(EXACT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came.value >= 200
    for one in (counter, hooked):
        assert one.value == made + came.value - one_refused.count(one)


# -- finalizers -------------------------------------------------------------------------------------------------


@each_zero
@each_exact
@pytest.mark.usefixtures("small_heap")
def test_a_finalizer_may_come_in_anywhere(make: Callable[[], AtomicCounter], change: Change) -> None:
    """Finalizers that the garbage collector runs during changes neither hang nor lose a change."""
    counter = make()
    refused: list[object] = []
    alive: list[object] = []

    class Dying:
        def __init__(self) -> None:
            self.cycle = self
            alive.append(None)

        def __del__(self) -> None:
            alive.pop()
            try:
                counter.increment()
            except DeadlockError:
                refused.append(None)

    threshold = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for _ in range(500):
            Dying()
            change(counter)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert alive == []
    assert counter.value == 1000 - len(refused)
    assert not refused or change is dict(EXACT)["update"]


def test_a_finalizer_in_an_update_is_refused_and_heard() -> None:
    """A finalizer that changes the counter inside the counter's own update gets the error, which is printed."""
    counter = AtomicCounter(7)
    heard: list[object] = []

    class Dying:
        def __del__(self) -> None:
            counter.increment()

    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: heard.append(unraisable.exc_type)
    try:
        assert counter.update(lambda value: (Dying(), value + 1)[1]) == 8
    finally:
        sys.unraisablehook = hook
    assert heard == [DeadlockError]
    assert counter.value == 8
