"""Waits that look like a deadlock and will end by themselves are not reported as one."""

from __future__ import annotations

import signal
import threading
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from threading import Event

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, on_signal, wait_for
from syncprims import (
    BrokenSequenceError,
    DeadlockError,
    LockTimeoutError,
    OrderedRunner,
    TimedLock,
    TimedRLock,
)
from syncprims._core import deadlocks as _deadlocks
from syncprims._core import waits as _waits
from syncprims._core.deadlocks import FREE, Knot
from syncprims._core.stacks import FRAMES_ARE_SHARED, frames_of_threads
from syncprims._core.waits import Waiting
from syncprims._runner import sequence as _sequence

Answer = Knot | bool | None
both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system has no pthread_kill")


def take(lock: TimedLock) -> bool:
    """Acquire the lock, and return whether that was refused as a deadlock."""
    try:
        with lock.hold(LIMIT):
            return False
    except DeadlockError:
        return True


# -- what a handler took on top of a wait -------------------------------------------------------------------------


class Handled:
    """The main thread waits for `outer`, which another thread has; a handler on top of that wait has `inner`."""

    def __init__(self, kind: type[TimedLock]) -> None:
        """Make the locks."""
        self.outer, self.inner = kind(name="outer"), kind(name="inner")
        self.owns_outer, self.wants_inner = Event(), Event()
        self.searches = 0

    def other(self) -> bool:
        """Acquire `outer` and wait for `inner`, when asked to."""
        with self.outer:
            self.owns_outer.set()
            wait_for(self.wants_inner)
            return take(self.inner)

    def interrupt_its_wait(self, interrupt: Callable[[], object]) -> None:
        """Send the signal once the main thread waits."""
        eventually(lambda: self.outer.waiting == 1)
        interrupt()

    def counting(self, look: Callable[..., Answer]) -> Callable[..., Answer]:
        """Count how often a seeming deadlock is found."""

        def look_and_count(*arguments: object) -> Answer:
            found = look(*arguments)
            self.searches += found is not FREE
            return found

        return look_and_count

    def the_cycle_is_seen_twice(self) -> None:
        """Wait until the other thread has found a seeming cycle, and has searched again."""
        self.wants_inner.set()
        eventually(lambda: self.searches >= 2)


@needs_signals
@both
def test_what_a_handler_will_give_back_is_waited_for(kind: type[TimedLock], monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a handler holds on top of a wait depends on the handler alone: a waiter gets it afterwards."""
    scene = Handled(kind)
    monkeypatch.setattr(_deadlocks, "look", scene.counting(_deadlocks.look))

    def handle() -> None:
        with scene.inner:
            scene.the_cycle_is_seen_twice()

    with Actors() as actors, on_signal(handle) as interrupt:
        other = actors.start(scene.other, "other")
        wait_for(scene.owns_outer)
        actors.start(partial(scene.interrupt_its_wait, interrupt))
        assert take(scene.outer) is False
        assert other.result() is False


@needs_signals
def test_what_a_handler_does_not_give_back_is_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the handler has ended without releasing the lock, the cycle is real, and is reported."""
    scene = Handled(TimedLock)
    monkeypatch.setattr(_deadlocks, "look", scene.counting(_deadlocks.look))

    def handle() -> None:
        scene.inner.acquire()
        scene.the_cycle_is_seen_twice()

    with Actors() as actors, on_signal(handle) as interrupt:
        other = actors.start(scene.other, "other")
        wait_for(scene.owns_outer)
        actors.start(partial(scene.interrupt_its_wait, interrupt))
        assert take(scene.outer) is False
        assert other.result() is True
        scene.inner.release()


@needs_signals
def test_who_looks_again_gives_up_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that runs on and on does not keep a wait with a limit from its timeout."""
    scene, given_up = Handled(TimedLock), Event()

    def give_up() -> None:
        with scene.outer:
            scene.owns_outer.set()
            wait_for(scene.wants_inner)
            with pytest.raises(LockTimeoutError), scene.inner.hold(0.05):
                pass
            given_up.set()

    def handle() -> None:
        with scene.inner:
            scene.wants_inner.set()
            wait_for(given_up)

    with Actors() as actors, on_signal(handle) as interrupt:
        actors.start(give_up, "other")
        wait_for(scene.owns_outer)
        actors.start(partial(scene.interrupt_its_wait, interrupt))
        assert take(scene.outer) is False


@needs_signals
def test_a_handler_that_waits_hides_the_wait_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the handler waits for another lock, which it will get, its locks are not part of a cycle either."""
    scene, third = Handled(TimedLock), TimedLock(name="third")
    monkeypatch.setattr(_deadlocks, "look", scene.counting(_deadlocks.look))

    def handle() -> None:
        with scene.inner, third:
            pass

    with Actors() as actors, ExitStack() as stack:
        free_third = stack.enter_context(held_elsewhere(third))
        interrupt = stack.enter_context(on_signal(handle))
        other = actors.start(scene.other, "other")
        wait_for(scene.owns_outer)

        def direct() -> None:
            eventually(lambda: scene.outer.waiting == 1)
            interrupt()
            eventually(lambda: third.waiting == 1)
            scene.the_cycle_is_seen_twice()
            free_third()

        actors.start(direct)
        assert take(scene.outer) is False
        assert other.result() is False


# -- waits of a runner that are over ------------------------------------------------------------------------------


class Sluggish:
    """A lock whose waiter goes on a little late after it has got the lock."""

    def __init__(self) -> None:
        """Make it acquired."""
        self.lock = threading.Lock()
        self.lock.acquire()
        self.got, self.go_on = Event(), Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it, and stay here for a while."""
        took = self.lock.acquire(blocking, timeout)
        if took and blocking:
            self.got.set()
            wait_for(self.go_on)
        return took

    def release(self) -> None:
        """Release it."""
        self.lock.release()


def test_a_step_of_a_sequence_that_has_ended_holds_up_nobody() -> None:
    """A thread that waited for a turn will wake up, so a thread in a step can wait for a lock that it holds."""
    runner, lock, gate = OrderedRunner("a", "b"), TimedLock(name="lock"), Sluggish()
    runner._sequence.gates["b"] = gate  # type: ignore[assignment]  # it has the methods of a lock that are used

    def wait_for_the_turn() -> None:
        with lock, pytest.raises(BrokenSequenceError), runner.step("b"):
            pytest.fail("there is no turn any more")

    with Actors() as actors, runner.step("a"):
        actors.start(wait_for_the_turn)
        eventually(lambda: runner.waiting == 1)
        runner.abort()
        wait_for(gate.got)
        assert runner.waiting == 1
        with pytest.raises(LockTimeoutError), lock.hold(0.01):
            pass
        gate.go_on.set()
        assert take(lock) is False


def test_who_has_been_told_that_the_round_is_over_waits_for_no_later_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread in which `wait` has not returned yet is up to no thread, whichever thread is in the next step."""
    runner, lock, bell = OrderedRunner("a", rounds=2), TimedLock(name="lock"), Sluggish()
    monkeypatch.setattr(_sequence, "_locked", lambda: bell)

    def wait_for_the_round() -> None:
        with lock:
            runner.wait(rounds=1)

    with Actors() as actors:
        with runner.step("a"):
            actors.start(wait_for_the_round)
            eventually(lambda: runner.waiting == 1)
        wait_for(bell.got)
        with runner.step("a"):
            assert runner.waiting == 1
            with pytest.raises(LockTimeoutError), lock.hold(0.01):
                pass
            bell.go_on.set()
            assert take(lock) is False


@pytest.mark.parametrize("through", ["turn", "round"])
def test_before_that_it_is_a_deadlock(through: str) -> None:
    """The control: while the sequence and the round go on, the same cycle is reported."""
    runner, lock = OrderedRunner("a", "b"), TimedLock(name="lock")

    def wait_for_the_runner() -> None:
        with lock:
            try:
                if through == "round":
                    runner.wait(rounds=1)
                else:
                    with runner.step("b"):
                        pass
            except BrokenSequenceError:
                pass

    with Actors() as actors:
        with runner.step("a"):
            actors.start(wait_for_the_runner)
            eventually(lambda: runner.waiting == 1)
            assert take(lock) is True
        runner.abort()


# -- where a thread is ---------------------------------------------------------------------------------------------


class Free:
    """A node without an owner."""

    name = "free"

    def _up_to(self, waiter: int) -> None:
        """Return None: no thread has to act."""

    def _is_mine(self) -> bool:
        return False

    def _state(self) -> None:
        """Return None, so that no snapshot shows it."""


@pytest.mark.skipif(
    not FRAMES_ARE_SHARED, reason="without the GIL one frame can be looked at, and it is of this library"
)
@pytest.mark.parametrize("on_top", [False, True], ids=["the wait itself", "a handler"])
def test_who_publishes_is_told_by_the_frame_below(on_top: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that is about to wait is on top of the wait below, although its frame has the old one's place."""
    going_on = allocate_lock()
    going_on.acquire()
    waits: SimpleQueue[Waiting] = SimpleQueue()

    def publish(waiting: Waiting) -> None:
        waiting.publish()
        waiting.withdraw()

    def handle() -> None:
        publish(Waiting(Free()))

    def wait() -> None:
        waiting = Waiting(Free())
        waits.put(waiting)
        handle() if on_top else waiting.publish()
        waiting.withdraw()

    # Reading the clock comes first; here a C function does it slowly.
    monkeypatch.setattr(_waits, "monotonic", partial(going_on.acquire, True, LIMIT))
    with Actors() as actors:
        actors.start(wait)
        waiting = waits.get(timeout=LIMIT)
        eventually(lambda: frames_of_threads()[waiting.ident].f_code.co_name == "publish")
        eventually(lambda: frames_of_threads()[waiting.ident].f_code.co_filename == _waits.__file__)
        assert _deadlocks._stands_in(waiting, frames_of_threads()[waiting.ident]) is not on_top
        going_on.release()
