"""Locks in a forked child: those of vanished threads are free, and the forking thread keeps its own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event, Lock, RLock, Thread, get_ident
from time import monotonic, process_time

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, take_and_let_go
from syncprims import (
    AtomicCounter,
    CallbackPool,
    DeadlockError,
    ForkedError,
    LockAdapter,
    OrderedRunner,
    TimedLock,
    TimedRLock,
    acquire_all,
)
from syncprims._core import registry
from syncprims._core.gil import HAS_GIL
from syncprims._core.registry import Primitive
from syncprims.testing import Mode, interrupts

pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork"),
    # This is the subject of the test.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])


def in_child(check: Callable[[], None]) -> None:
    """Fork, run the check in the child, and fail if the check fails or hangs."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)  # whatever happens, the child must not go on with the tests
    end = monotonic() + LIMIT
    pause = Event()
    while (status := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        pause.wait(0.001)
    assert os.waitstatus_to_exitcode(status[1]) == 0, "the check failed in the child"


def in_thread(body: Callable[[], object]) -> None:
    """Run the function in another thread of the child, which must end."""
    done: list[object] = []
    thread = Thread(target=lambda: done.append(body()), daemon=True)
    thread.start()
    thread.join(LIMIT / 2)
    assert done


def assert_usable(lock: TimedLock) -> None:
    """Acquire the lock in every way, and check that it still excludes."""
    assert not lock.locked()
    assert lock.holder is None
    assert lock.waiting == 0
    assert lock.acquire(timeout=LIMIT / 4)
    lock.release()
    refused: list[bool] = []
    with lock.hold(LIMIT / 4), acquire_all(TimedLock()):
        assert lock.held_by_me()
        in_thread(lambda: refused.append(not lock.acquire(False)))
        assert refused == [True]
        waiter = Thread(target=take_and_let_go, args=(lock,), daemon=True)
        waiter.start()
        eventually(lambda: lock.waiting == 1)
    waiter.join(LIMIT / 2)
    assert not waiter.is_alive()
    assert not lock.locked()


@both
def test_a_lock_of_a_vanished_thread_is_free(kind: type[TimedLock]) -> None:
    """It can be acquired in the child, and is still held in the parent."""
    lock = kind()
    with held_elsewhere(lock, "owner"):
        in_child(lambda: assert_usable(lock))
        assert lock.locked()
        assert lock.holder is not None
        assert lock.holder.name == "owner"
    assert not lock.locked()


@both
def test_a_lock_that_vanished_threads_wait_for_works(kind: type[TimedLock]) -> None:
    """None of their waits is left, whether another thread holds it or the forking one."""
    lock = kind()

    def enter() -> None:
        with lock:
            pass

    def check_held() -> None:
        assert lock.held_by_me()
        assert lock.waiting == 0
        lock.release()
        assert_usable(lock)

    with Actors() as actors:
        with held_elsewhere(lock):
            waiter = actors.start(enter)
            eventually(lambda: lock.waiting == 1)
            in_child(lambda: assert_usable(lock))
        waiter.result()
        with lock:
            actors.start(enter)
            eventually(lambda: lock.waiting == 1)
            in_child(check_held)
            assert lock.held_by_me()


def test_ones_own_lock_stays_ones_own() -> None:
    """The forking thread holds in the child what it held, as many times as before."""
    plain, reentrant = TimedLock(), TimedRLock()

    def check() -> None:
        assert plain.held_by_me()
        try:
            plain.acquire()
        except DeadlockError:
            pass
        else:
            raise AssertionError("a lock was taken twice")
        plain.release()
        for _ in range(2):
            assert reentrant.held_by_me()
            reentrant.release()
        assert_usable(plain)
        assert_usable(reentrant)

    with plain, reentrant, reentrant:
        in_child(check)


def test_a_thread_may_fork() -> None:
    """The forking thread keeps its locks, and it need not be the main thread."""
    mine, mains = TimedLock(), TimedLock()

    def check() -> None:
        assert mine.held_by_me()
        assert_usable(mains)

    def fork() -> None:
        with mine:
            in_child(check)

    with Actors() as actors, mains:
        actors.start(fork).result()


@pytest.mark.inverts
def test_no_deadlock_is_seen_with_threads_that_vanished() -> None:
    """Their waits are gone, so none of them closes a cycle."""
    mine, theirs = TimedLock(), TimedLock()

    def insist() -> None:
        with theirs, mine:
            pass

    def check() -> None:
        with theirs.hold(LIMIT / 4):
            assert mine.held_by_me()

    with Actors() as actors, mine:
        actors.start(insist)
        eventually(lambda: mine.waiting == 1)
        in_child(check)


def in_thread_with_ident(ident: int, body: Callable[[], object]) -> None:
    """Run the function in a new thread with this ident, which a vanished thread had: the first threads get such idents.

    From 3.14 on, perhaps none of the first threads gets it.
    """
    for _ in range(100):
        with Actors() as actors:
            if actors.start(lambda: (get_ident() == ident, get_ident() == ident and body())).result()[0]:
                return
    assert sys.version_info >= (3, 14), "no new thread got the ident"


def test_a_new_thread_with_a_vanished_holders_ident_holds_nothing() -> None:
    """The system gives the ident to one of the first threads of the child, which must not look like the holder."""
    locks = [TimedLock(), TimedRLock()]
    adapters = [LockAdapter(Lock()), LockAdapter(RLock())]
    counter = AtomicCounter()
    held, done = Event(), Event()
    idents: list[int] = []

    def hold(value: int) -> int:
        with locks[0], locks[1], locks[1], adapters[0], adapters[1]:
            idents.append(get_ident())
            held.set()
            done.wait(LIMIT)
        return value

    def check() -> None:
        def meets_them_free() -> None:
            for adapter in adapters:
                assert not adapter.held_by_me()
            for lock in locks:
                assert not lock.held_by_me()
                assert not lock.acquire(False)  # the main thread has it
            with pytest.raises(RuntimeError):
                locks[1].release()
            assert counter.increment() == 1
            assert counter.update(lambda value: value + 1) == 2

        with locks[0], locks[1]:
            in_thread_with_ident(idents[0], meets_them_free)
        for lock in locks:
            assert not lock.locked()

    with Actors() as actors:
        actors.start(lambda: counter.update(hold))
        assert held.wait(LIMIT)
        try:
            in_child(check)
        finally:
            done.set()


MAKERS: list[Callable[[], Primitive]] = [
    TimedLock,
    TimedRLock,
    AtomicCounter,
    lambda: LockAdapter(Lock()),
    lambda: OrderedRunner("a", "b"),
    CallbackPool,
]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the test's own primitives in the registry, whatever other tests have left."""
    monkeypatch.setattr(registry, "_live", {})


def assert_repaired(made: Sequence[Primitive]) -> None:
    """Check that each of these works in a child, or refuses to."""
    for primitive in made:
        if isinstance(primitive, OrderedRunner):
            with pytest.raises(ForkedError), primitive.step("a"):
                pass
        elif isinstance(primitive, CallbackPool):
            with pytest.raises(ForkedError):
                primitive.submit(len, "")
        elif isinstance(primitive, TimedLock):
            assert_usable(primitive)
        elif isinstance(primitive, LockAdapter):
            assert primitive.holder is None
        else:
            assert isinstance(primitive, AtomicCounter)
            assert primitive.update(lambda value: value + 1) == 1


@pytest.mark.usefixtures("few")
def test_a_primitive_that_was_just_going_disturbs_no_repair() -> None:
    """A fork may come from a finalizer, between the end of a primitive and its removal from the registry."""
    made = [make() for make in MAKERS for _ in range(3)]

    def check() -> None:
        for make in MAKERS:
            going = make()
            registry._live[type(going)._after_fork][0].add(registry._Ref(going))
            del going
        gc.collect()
        assert None in [entry() for refs, _ in registry._live.values() for entry in refs]
        registry._repaired_in = None
        registry._after_fork_in_child()
        assert_repaired(made)

    in_child(check)


class Cycle:
    """Garbage for the collector, with a finalizer that uses everything that it can reach."""

    def __init__(self, primitive: Primitive, finalize: Callable[[], object] = bool) -> None:
        self.primitive = primitive
        self.itself = self
        self.finalize = finalize

    def __del__(self) -> None:
        self.finalize()


@pytest.mark.usefixtures("few")
def test_the_collector_takes_nothing_away_in_the_middle_of_a_repair() -> None:
    """If it ran during the repair, a runner could go away, and all others would stay unrepaired."""
    lock = TimedLock()
    made = [make() for make in MAKERS for _ in range(3)]
    seen: list[bool] = []

    def check() -> None:
        thread = Thread(target=lock.acquire)
        thread.start()
        thread.join(LIMIT / 2)
        gc.disable()
        for make in MAKERS:
            for _ in range(5):
                Cycle(make(), lambda: seen.append(lock.locked()))
        registry._repaired_in = None
        gc.set_threshold(1)
        gc.enable()
        registry._after_fork_in_child()
        assert gc.isenabled()
        gc.collect()
        assert seen == [False] * 30, seen
        assert_repaired(made)

    in_child(check)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_an_interrupt_during_a_repair_leaves_nothing_unrepaired(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython prints it and goes on, and so does this; the second call repairs the rest."""

    def make() -> list[Primitive]:
        registry._live.clear()
        monkeypatch.setattr(registry, "_repaired_in", None)
        locks, counter = [TimedLock(), TimedRLock()], AtomicCounter()
        made: list[Primitive] = [*locks, OrderedRunner("a", "b"), counter]
        counter._special = counter._updating = True  # as while another thread is in update()
        thread = Thread(target=lambda: [lock.acquire() for lock in locks])
        thread.start()
        thread.join(LIMIT)
        return made

    def come_through_fork(_: list[Primitive]) -> None:
        try:
            registry._after_fork_in_child()
        except KeyboardInterrupt:
            registry._after_fork_in_child()

    def unrepaired(made: list[Primitive]) -> str | None:
        lock, other, runner, counter = made
        assert isinstance(lock, TimedLock)
        assert isinstance(other, TimedLock)
        assert isinstance(runner, OrderedRunner)
        assert isinstance(counter, AtomicCounter)
        if not gc.isenabled():
            return "the collector stays off"
        if lock.locked() or other.locked():
            return "a lock stays taken"
        try:
            with runner.step("a"):
                return "a runner goes on"
        except ForkedError:
            pass
        return "a counter stays in update()" if counter._updating else None

    # Not a storm: it would interrupt the second call as well. And not another thread, which might have the holder's
    # ident.
    report = interrupts(make, come_through_fork, unrepaired, mode=mode, timeout=LIMIT)
    # An interrupt in this file comes before the first call or after the last one.
    assert not [leak for leak in report.leaks if "come_through_fork" not in leak.where]
    assert report.points > 3


def test_what_was_off_before_a_fork_is_off_after_it() -> None:
    """The collector pauses only during the repair."""

    def check() -> None:
        assert not gc.isenabled()

    gc.disable()
    try:
        in_child(check)
    finally:
        gc.enable()


@pytest.mark.skipif(not HAS_GIL, reason="without the GIL all are listed before")
def test_a_hundred_thousand_locks_do_not_hold_up_a_fork() -> None:
    """Repairing them takes hardly longer than touching each of them once: most of it is the copying of pages."""
    locks = [TimedLock() for _ in range(100_000)]

    def seconds_in_child(work: Callable[[], object]) -> float:
        ours, childs = os.pipe()
        pid = os.fork()
        if pid == 0:
            work()
            os.write(childs, str(process_time()).encode())  # the time since the fork
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(childs)
        with open(ours) as pipe:
            return float(pipe.read())

    with_locks = min(seconds_in_child(bool) for _ in range(3))
    registered, registry._live = registry._live, {}
    try:
        touching = min(seconds_in_child(lambda: [lock._is_owned() for lock in locks]) for _ in range(3))
    finally:
        registry._live = registered
    assert with_locks < 3 * touching  # 1.4 on the author's machine; one by one, in Python, it was 8.5


@pytest.mark.skipif(not HAS_GIL, reason="without the GIL a fork may leave the mutex of any object locked")
@pytest.mark.parametrize("forks", [25, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_forks_under_load(forks: int, record_property: Callable[[str, object], None]) -> None:
    """Whatever the other threads do at the moment of the fork, every lock works in the child."""
    # A tuple: without the GIL a list has a mutex, which a vanished thread may hold.
    locks = tuple(kind() for kind in (TimedLock, TimedRLock) * 3)
    stop = Event()

    def work(first: int) -> None:
        while not stop.is_set():
            for one, other in zip(locks[first:], locks[first + 1 :], strict=False):
                with one, other.hold(LIMIT):
                    pass
            TimedLock()  # so the registry changes too

    def check() -> None:
        refused: list[bool] = []
        taken: list[bool] = []
        with acquire_all(*locks, timeout=LIMIT / 4):
            in_thread(lambda: refused.extend(not lock.acquire(False) for lock in locks))
        in_thread(lambda: taken.extend(lock.acquire(timeout=LIMIT / 4) for lock in locks))
        assert refused == taken == [True] * len(locks)

    with Actors() as actors:
        try:
            for first in range(4):
                actors.start(partial(work, first))
            for _ in range(forks):
                in_child(check)
        finally:
            stop.set()
    record_property("forks survived", forks)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="such a child ends at once by a fatal error of Python itself")
def test_a_fork_by_c_code_that_calls_only_the_hooks_of_the_child() -> None:
    """The child works as after any other fork, and prints no exception: uWSGI with --py-call-osafterfork forks so."""
    code = """
import ctypes, os, threading
from syncprims import TimedLock
lock = TimedLock(timeout=10.0)
taken, end = threading.Event(), threading.Event()
def hold():
    with lock:
        taken.set()
        end.wait()
threading.Thread(target=hold, daemon=True).start()
assert taken.wait(10)
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    ctypes.pythonapi.PyOS_AfterFork_Child()
    with lock:
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
