"""Snapshots, reports and cycles: they show the state without disturbing it."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from threading import Barrier, Event

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, wait_for
from syncprims import (
    AtomicCounter,
    CallbackPool,
    LockAdapter,
    LockTimeoutError,
    OrderedRunner,
    TimedLock,
    TimedRLock,
    Wait,
)
from syncprims._core.stacks import FRAMES_ARE_SHARED
from syncprims._core.state import State
from syncprims._core.waits import Waiting
from syncprims.diagnostics import PrimitiveState, attach_report, find_deadlocks, report, snapshot


def state_of(name: str) -> PrimitiveState | None:
    """The snapshot's entry of the one primitive with this name."""
    states = [state for state in snapshot() if state.name == name]
    assert len(states) <= 1
    return states[0] if states else None


@pytest.mark.parametrize("use", ["syncprims.diagnostics.report()", "syncprims.testing.Threads()"])
def test_the_package_alone_is_enough_to_reach_it(use: str) -> None:
    """After `import syncprims`, as in a debugger, the other modules are available, and imported only when used."""
    program = (
        "import sys, syncprims\n"
        "assert {'diagnostics', 'testing'} <= set(dir(syncprims))\n"
        "assert not {'syncprims.diagnostics', 'syncprims.testing'} & set(sys.modules)\n"
        f"{use}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_idle_primitives_are_left_out() -> None:
    """A primitive that no thread holds or waits for is in no snapshot, and an empty report says so."""
    gc.collect()
    idle = TimedLock(name="idle"), AtomicCounter(name="idle too"), OrderedRunner("a", name="idle as well")
    assert idle
    assert [state for state in snapshot() if "idle" in state.name] == []


def test_a_held_lock_tells_its_holder_and_its_waiters() -> None:
    """A snapshot has the holder of a lock and its waiters, with stacks and durations, the longest wait first."""
    lock = TimedRLock(name="accounts")

    def queue() -> None:
        with lock:
            pass

    with Actors() as actors, held_elsewhere(lock, "billing") as let_go:
        actors.start(queue, "audit")
        eventually(lambda: lock.waiting == 1)
        actors.start(queue, "report")
        eventually(lambda: lock.waiting == 2)
        seen = state_of("accounts")
        let_go()
    assert seen is not None
    assert (seen.kind, seen.step, seen.pending) == ("TimedRLock", None, None)
    assert seen.holder is not None
    assert (seen.holder.name, seen.holder.alive) == ("billing", True)
    if FRAMES_ARE_SHARED:
        assert "charge" in [frame.name for frame in seen.holder.stack]
    assert all("queue" in [frame.name for frame in waiter.stack] for waiter in seen.waiters)
    assert [waiter.name for waiter in seen.waiters] == ["audit", "report"]
    assert seen.waiters[0].waited >= seen.waiters[1].waited >= 0
    assert state_of("accounts") is None


def test_a_snapshot_is_frozen_and_can_be_pickled() -> None:
    """The states can't be changed, compare by value, and travel to another process."""
    with TimedLock(name="sent"):
        seen = state_of("sent")
    assert seen is not None
    assert pickle.loads(pickle.dumps(seen)) == seen
    with pytest.raises(AttributeError):
        seen.name = "other"


def test_a_runner_tells_whose_turn_it_is() -> None:
    """A running runner is in the snapshot with its step, the thread in it and the threads that wait for turns."""
    runner = OrderedRunner("load", "store", name="etl")

    def store() -> None:
        with runner.step("store", timeout=LIMIT):
            pass

    with Actors() as actors, runner.step("load"):
        actors.start(store, "storer")
        eventually(lambda: runner.waiting == 1)
        seen = state_of("etl")
        text = report()
    assert seen is not None
    assert (seen.kind, seen.step) == ("OrderedRunner", "load")
    assert seen.holder is not None
    assert seen.holder.ident == threading.get_ident()
    assert [waiter.name for waiter in seen.waiters] == ["storer"]
    assert "OrderedRunner 'etl': turn of 'load', held by Thread 'MainThread'" in text
    assert state_of("etl") is None


def test_what_belongs_to_no_primitive_is_shown_while_somebody_waits_for_it() -> None:
    """A thread that waits for a vanished thing, like a runner's sequence before its reset, is not forgotten."""

    class Orphan:
        name = "orphan"

        def _up_to(self, waiter: int) -> None:
            """Return None: no thread."""

        def _is_mine(self) -> bool:
            return False

        def _state(self) -> State:
            return State(self, "Orphan", self.name)

    waiting = Waiting(Orphan())
    waiting.publish()
    try:
        seen = state_of("orphan")
    finally:
        waiting.withdraw()
    assert seen is not None
    assert (seen.kind, [waiter.name for waiter in seen.waiters]) == ("Orphan", ["MainThread"])
    assert state_of("orphan") is None


def test_who_waits_in_a_former_pass_of_a_runner_is_shown() -> None:
    """A thread that has not noticed the reset yet is listed under the runner's name, apart from the new pass."""
    runner = OrderedRunner("load", "store", name="etl")
    waiting = Waiting(runner._sequence)
    runner.reset()
    waiting.publish()
    try:
        with runner.step("load"):
            old, new = sorted(
                (state for state in snapshot() if state.name == "etl"), key=lambda state: state.step or ""
            )
    finally:
        waiting.withdraw()
    assert (old.kind, old.step, [waiter.name for waiter in old.waiters]) == ("OrderedRunner", None, ["MainThread"])
    assert (new.kind, new.step, new.waiters) == ("OrderedRunner", "load", ())


def test_one_primitive_that_fails_when_it_is_asked_spoils_no_snapshot() -> None:
    """A subclass whose name raises is listed without its name while threads wait for it; the others as usual."""

    class Nameless(TimedLock):
        @property
        def name(self) -> str:
            raise LookupError("no name")

    waiting = Waiting(Nameless())
    waiting.publish()
    try:
        with TimedLock(name="sound"):
            names = {(each.kind, each.name) for each in snapshot()}
            text = report()
    finally:
        waiting.withdraw()
    assert names >= {("Nameless", "a name that can't be read"), ("TimedLock", "sound")}
    assert "TimedLock 'sound': held by" in text


def test_a_pool_tells_what_is_pending_and_running() -> None:
    """A pool with open tasks is in the snapshot, with its running tasks and their age."""
    begun, end = Event(), Event()

    def crunch() -> None:
        begun.set()
        wait_for(end)

    with CallbackPool(max_workers=1, name="mill") as pool:
        pool.submit(crunch)
        pool.submit(int)
        wait_for(begun)
        seen, text = state_of("mill"), report()
        end.set()
    assert seen is not None
    assert (seen.kind, seen.pending) == ("CallbackPool", 2)
    assert len(seen.running) == 1
    assert "crunch" in seen.running[0][0]
    assert "CallbackPool 'mill': 2 pending, 1 running" in text
    assert state_of("mill") is None


def test_a_counter_tells_who_waits_for_its_value() -> None:
    """A counter is in the snapshot while a thread waits for its value."""
    counter = AtomicCounter(name="arrivals")
    with Actors() as actors:
        actors.start(lambda: counter.wait_until(1, timeout=LIMIT), "gate")
        eventually(lambda: state_of("arrivals") is not None)
        seen, text = state_of("arrivals"), report()
        counter.increment()
    assert seen is not None
    assert (seen.holder, seen.value) == (None, 0)
    assert [waiter.name for waiter in seen.waiters] == ["gate"]
    assert "AtomicCounter 'arrivals': at 0\n" in text
    assert "Thread 'gate'" in text


def test_a_snapshot_asks_no_foreign_lock() -> None:
    """For an adapted lock the snapshot shows the adapter's knowledge; it calls no method that might block."""

    class Remote:
        """A lock that can't be asked."""

        def acquire(self, *, timeout: float = -1) -> bool:
            return True

        def release(self) -> None:
            pass

        def locked(self) -> bool:
            raise AssertionError("it was asked")

    with LockAdapter(Remote(), name="remote"):
        seen = state_of("remote")
    assert seen is not None
    assert seen.holder is not None
    assert seen.holder.name == "MainThread"


def test_the_report_says_who_holds_and_who_waits() -> None:
    """A report has the lock, its holder and waiters, with the places in the program, and no frame of the library."""
    lock = TimedLock(name="ledger")

    def want_the_ledger() -> None:
        with lock:
            pass

    with Actors() as actors, held_elsewhere(lock, "billing") as let_go:
        actors.start(want_the_ledger, "audit")
        eventually(lambda: lock.waiting)
        text = report()
        let_go()
    assert "TimedLock 'ledger': held by Thread 'billing' (ident" in text
    assert "Thread 'audit' (ident" in text
    assert "in want_the_ledger" in text
    assert "timed_lock.py" not in text
    assert "DEADLOCK" not in text


def test_only_of_a_lock_it_is_news_that_its_holder_is_not_known() -> None:
    """If a lock was acquired without its adapter, its holder is unknown; a counter never has a holder."""
    inner = threading.Lock()
    adapter, counter = LockAdapter(inner, name="past"), AtomicCounter(name="number")
    inner.acquire()
    with Actors() as actors:
        actors.start(lambda: adapter.acquire(timeout=LIMIT), "guest")
        actors.start(lambda: counter.wait_until(1, LIMIT), "counting")
        eventually(lambda: adapter.waiting and state_of("number"))
        text = report()
        counter.increment()
        inner.release()
    assert "LockAdapter 'past': held by no known thread\n" in text
    assert "AtomicCounter 'number': at 0\n" in text


def test_many_waiters_make_no_endless_report() -> None:
    """If there are many, the report shows some of them, and says how many more there are."""
    lock = TimedLock(name="crowded")

    def queue() -> None:
        with lock:
            pass

    with Actors() as actors, held_elsewhere(lock) as let_go:
        for _ in range(13):
            actors.start(queue)
        eventually(lambda: lock.waiting == 13)
        text = report()
        let_go()
    assert "and 3 more threads wait for it" in text


@pytest.mark.usefixtures("restless")
def test_snapshots_are_safe_while_everything_runs() -> None:
    """While threads make, use and drop primitives, snapshots and reports neither fail nor disturb."""
    done = Event()

    def churn() -> None:
        while not done.is_set():
            lock = TimedLock()
            with lock:
                AtomicCounter().increment()
            with OrderedRunner("a").step("a"):
                pass

    with Actors() as actors:
        for _ in range(4):
            actors.start(churn)
        try:
            for _ in range(150):
                snapshot()
                find_deadlocks()
            report()
        finally:
            done.set()


def test_a_cycle_of_adapted_locks_is_found() -> None:
    """Two threads that wait for each other's adapted locks, which nothing prevents, are reported as a cycle."""
    locks = [LockAdapter(threading.Lock(), name=name) for name in ("red", "blue")]
    barrier = Barrier(2)
    way_out = Event()

    def cross(first: LockAdapter, second: LockAdapter) -> None:
        with first:
            barrier.wait(LIMIT)
            while True:
                try:
                    with second.hold(0.2 if way_out.is_set() else 3.0):
                        return
                except LockTimeoutError:
                    if way_out.is_set():
                        return

    with Actors() as actors:
        actors.start(lambda: cross(*locks), "left")
        actors.start(lambda: cross(*reversed(locks)), "right")
        eventually(find_deadlocks)
        found, text = find_deadlocks(), report()
        way_out.set()
    assert len(found) == 1
    assert set(found[0]) == {Wait("left", "blue", "right"), Wait("right", "red", "left")}
    assert "DEADLOCK: Thread" in text
    assert find_deadlocks() == ()


@pytest.mark.parametrize("make", [TimedLock, lambda: LockAdapter(threading.Lock())], ids=["TimedLock", "LockAdapter"])
def test_timed_acquires_that_wait_for_each_other_are_no_deadlock(make: Callable[[], TimedLock | LockAdapter]) -> None:
    """A cycle that a timeout of acquire() will end is not a deadlock; nor is such a wait for the thread's own lock."""
    locks = [make(), make()]
    barrier = Barrier(3)
    over = Event()

    def cross(first: TimedLock | LockAdapter, second: TimedLock | LockAdapter) -> None:
        with first:
            barrier.wait(LIMIT)
            while not over.is_set():
                assert not second.acquire(timeout=0.05)
            barrier.wait(LIMIT)

    def own() -> None:
        lock = make()
        with lock:
            while not over.is_set():
                assert not lock.acquire(timeout=0.05)

    with Actors() as actors:
        actors.start(lambda: cross(*locks))
        actors.start(lambda: cross(*reversed(locks)))
        actors.start(own)
        barrier.wait(LIMIT)
        try:
            eventually(lambda: all(lock.waiting for lock in locks))
            found = [find_deadlocks() for _ in range(50)]
        finally:
            over.set()
            barrier.wait(LIMIT)
    assert found == [()] * 50


def test_a_report_becomes_a_note() -> None:
    """An error that is about to be raised gets the report as its note."""
    error = TimeoutError("too late")
    with TimedLock(name="noted"):
        attach_report(error)
    assert "TimedLock 'noted': held by" in error.__notes__[0]
