"""Deadlocks through hidden waits: of a Condition that acquires its lock again, and of signal handlers."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack
from threading import Event, Thread
from types import CodeType

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, on_signal, stuck_on, wait_for
from syncprims import DeadlockError, LockTimeoutError, TimedLock, TimedRLock

both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])

pytestmark = pytest.mark.inverts  # each deadlock is an inversion


def innermost(thread: Thread) -> CodeType | None:
    """The function that the thread runs at this moment."""
    frame = sys._current_frames().get(thread.ident or 0)
    return None if frame is None else frame.f_code


# -- Condition ----------------------------------------------------------------------------------------------------
# A condition releases its lock by _release_save() and acquires it again by _acquire_restore(). Between the two calls a
# test can arrange the waits.


@both
def test_taking_a_lock_back_is_logged_and_not_raised(kind: type[TimedLock], caplog: pytest.LogCaptureFixture) -> None:
    """A Condition whose second acquisition closes a cycle gets its lock as soon as the other thread gives up."""
    guard, resource = kind(name="guard"), kind(name="resource")
    given_up, wanted = Event(), Event()

    def keep_resource() -> bool:
        with guard, resource:
            state = guard._release_save()
            given_up.set()
            wait_for(wanted)
            # Once it has searched for cycles, and found none: the keeper has to find the next one.
            eventually(lambda: resource.waiting == 1 and innermost(wanter.thread) is TimedLock._wait.__code__)
            guard._acquire_restore(state)
            return guard.held_by_me() and resource.held_by_me()

    def want_resource() -> None:
        with guard, pytest.raises(LockTimeoutError), resource.hold(0.5):
            pytest.fail("the body ran without the lock")

    with Actors() as actors:
        keeper = actors.start(keep_resource, "keeper")
        wait_for(given_up)
        wanter = actors.start(want_resource, "wanter")
        wanted.set()
        assert keeper.result()
    (record,) = [record for record in caplog.records if record.name == "syncprims"]
    assert record.levelname == "ERROR"
    for fact in ("'keeper'", "'wanter'", "'guard'", "'resource'"):
        assert fact in record.getMessage()
    assert not guard.locked()


@both
def test_taking_a_lock_back_is_an_edge_for_others(kind: type[TimedLock], caplog: pytest.LogCaptureFixture) -> None:
    """The thread that closes a cycle with it is the victim, and the other one gets its lock again."""
    guard, resource = kind(name="guard"), kind(name="resource")
    given_up, go_on = Event(), Event()

    def keep_resource() -> bool:
        with guard, resource:
            state = guard._release_save()
            given_up.set()
            wait_for(go_on)
            guard._acquire_restore(state)
            return guard.held_by_me() and resource.held_by_me()

    with Actors() as actors:
        keeper = actors.start(keep_resource, "keeper")
        wait_for(given_up)
        with guard:
            go_on.set()
            eventually(lambda: guard.waiting == 1)
            with pytest.raises(DeadlockError) as caught, resource:
                pytest.fail("the body ran without the lock")
        assert keeper.result()
    assert [wait.lock_name for wait in caught.value.cycle] == ["resource", "guard"]
    assert not caplog.records


# -- waits inside waits -------------------------------------------------------------------------------------------


needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system has no pthread_kill")


@needs_signals
@both
def test_a_signal_handler_waits_inside_a_wait(kind: type[TimedLock]) -> None:
    """Both waits are visible while they last, both end with their lock, and none is left."""
    outer, inner = kind(name="outer"), kind(name="inner")
    handled: list[bool] = []

    def handle() -> None:
        with inner.hold(LIMIT):
            handled.append(inner.held_by_me() and not outer.held_by_me())

    with Actors() as actors, ExitStack() as stack:
        free_outer = stack.enter_context(held_elsewhere(outer))
        free_inner = stack.enter_context(held_elsewhere(inner))
        interrupt = stack.enter_context(on_signal(handle))

        def direct() -> None:
            eventually(lambda: outer.waiting == 1)
            interrupt()
            eventually(lambda: inner.waiting == 1 and outer.waiting == 1)
            free_inner()
            eventually(lambda: inner.waiting == 0 and outer.waiting == 1)
            free_outer()

        actors.start(direct)
        with outer.hold(LIMIT):
            assert handled == [True]
    assert (outer.waiting, inner.waiting) == (0, 0)


@needs_signals
@pytest.mark.parametrize("closing", ["handler", "other thread"])
def test_a_cycle_through_a_signal_handler_is_noticed(closing: str) -> None:
    """Its wait is an edge, whether it closes the cycle or another thread does."""
    mine, outer, inner = TimedLock(name="mine"), TimedLock(name="outer"), TimedLock(name="inner")
    errors: list[DeadlockError] = []
    entered, go_on = Event(), Event()

    def handle() -> None:
        try:
            with inner.hold(LIMIT):
                pass
        except DeadlockError as error:
            errors.append(error)

    def hold_inner_and_want_mine() -> None:
        with inner:
            entered.set()
            wait_for(go_on)
            try:
                with mine.hold(LIMIT):
                    pass
            except DeadlockError as error:
                errors.append(error)

    with Actors() as actors, ExitStack() as stack:
        free_outer = stack.enter_context(held_elsewhere(outer))
        interrupt = stack.enter_context(on_signal(handle))
        actors.start(hold_inner_and_want_mine, "other")
        wait_for(entered)

        def direct() -> None:
            eventually(lambda: outer.waiting == 1)
            if closing == "handler":
                go_on.set()
                eventually(lambda: stuck_on(mine) == 1)
                interrupt()
            else:
                interrupt()
                eventually(lambda: stuck_on(inner) == 1)
                go_on.set()
            eventually(lambda: errors)
            free_outer()

        actors.start(direct)
        with mine, outer.hold(LIMIT):
            pass
    (error,) = errors
    assert {wait.lock_name for wait in error.cycle} == {"mine", "inner"}
    assert error.cycle[0].thread == (threading.main_thread().name if closing == "handler" else "other")
    assert not any(lock.waiting or lock.locked() for lock in (mine, outer, inner))


@needs_signals
def test_a_handler_that_wants_what_its_own_thread_holds_is_told_at_once() -> None:
    """The classical deadlock of signal handlers is an error in the handler, and the interrupted wait goes on."""
    mine, outer = TimedLock(name="mine"), TimedLock(name="outer")
    told: list[DeadlockError] = []

    def handle() -> None:
        with pytest.raises(DeadlockError) as caught, mine:
            pytest.fail("the body ran without the lock")
        told.append(caught.value)

    with Actors() as actors, held_elsewhere(outer) as free_outer, on_signal(handle) as interrupt:

        def direct() -> None:
            eventually(lambda: outer.waiting == 1)
            interrupt()
            eventually(lambda: told)
            free_outer()

        actors.start(direct)
        with mine, outer.hold(LIMIT):
            assert mine.held_by_me()
    assert [error.cycle[0].lock_name for error in told] == ["mine"]
