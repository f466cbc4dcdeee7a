"""The observed lock of the compiled core looks like a bare lock, and its owner and place are exact."""

from __future__ import annotations

import _thread
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from both_forms import examples, needs_the_core, outcome
from programs import environment
from syncprims import CallbackPool
from syncprims._core.gil import HAS_GIL
from syncprims._core.speedups import core
from syncprims.testing import Threads, patience
from syncprims.watch import Watching, install
from syncprims.watch.observed import ObservedLock, factory_of

pytestmark = needs_the_core

make = factory_of(ObservedLock)
SHORT = 0.001


@pytest.fixture(scope="module")
def other() -> Iterator[CallbackPool]:
    """Another thread. On 3.13t a `ThreadPoolExecutor` may not notice that it has work."""
    with CallbackPool(max_workers=1) as pool:
        yield pool


arguments = st.sampled_from([True, False, 0, 1, -1, None, SHORT, "1", 1e300, -2, float("nan"), 0.0, -1.0])
calls: st.SearchStrategy[tuple[str, tuple[Any, ...], dict[str, Any]]] = st.one_of(
    st.sampled_from(
        [
            ("acquire", (), {}),
            ("acquire", (True,), {}),
            ("acquire", (False,), {}),
            ("acquire_lock", (False,), {}),
            ("acquire", (True, SHORT), {}),
            ("acquire", (), {"timeout": SHORT}),
            ("acquire", (), {"blocking": False}),
            ("release", (), {}),
            ("release", (), {}),
            ("release_lock", (), {}),
            ("__enter__", (), {}),
            ("__exit__", (None, None, None), {}),
            ("locked", (), {}),
            ("locked_lock", (), {}),
            ("_at_fork_reinit", (), {}),
        ]
    ),
    st.tuples(st.just("acquire"), st.lists(arguments, min_size=1, max_size=2).map(tuple), st.just({})),
)


def would_hang(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call waits without a limit, or for a second, if the lock is held."""
    if name == "__enter__":
        return True
    return name == "acquire" and not kwargs and (not args or (bool(args[0]) and args[1:] in ((), (-1,), (1,))))


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.booleans(), calls), max_size=12))
def test_it_does_what_a_bare_lock_does(other: CallbackPool, steps: list[tuple[bool, Any]]) -> None:
    """Two threads make any calls in turn: outcomes, errors and texts are a bare lock's, and the owner is right."""
    ours, bare = make(), _thread.allocate_lock()
    owner = 0
    for elsewhere, (name, args, kwargs) in steps:
        if would_hang(name, args, kwargs) and bare.locked():
            continue
        before = bare.locked()

        def do(lock: Any, name: str = name, args: Any = args, kwargs: Any = kwargs) -> tuple[object, int]:
            return outcome(getattr(lock, name), *args, **kwargs), _thread.get_ident()

        (came, who), (expected, _) = (
            other.submit(do, lock).result(patience()) if elsewhere else do(lock) for lock in (ours, bare)
        )
        assert came == expected, (name, args, kwargs)
        assert ours.locked() == bare.locked()
        if not bare.locked():
            owner = 0
        elif not before:
            owner = who
        assert (ours.up_to(0) or 0) == owner
        assert re.sub("0x.*", "", repr(ours)) == re.sub("0x.*", "", repr(bare))


@pytest.mark.usefixtures("restless")
def test_no_owner_is_stale() -> None:
    """Among competing threads, the owner in every block is its thread, even if others release in between."""
    lock, wrong = make(), []
    baton = make()

    def work(number: int) -> None:
        me = _thread.get_ident()
        for turn in range(150):
            if (turn + number) % 3 == 0:
                lock.acquire()
                if lock.up_to(0) != me:
                    wrong.append(turn)
                lock.release()
            else:
                with lock:
                    if lock.up_to(0) != me:
                        wrong.append(turn)

    def pass_on() -> None:  # acquired by any thread, and released by another
        for _ in range(300):
            baton.acquire(timeout=SHORT)
            if baton.up_to(0) is not None:
                outcome(baton.release)

    with Threads() as threads:
        for number in range(4):
            threads.start(work, number)
        for _ in range(3):
            threads.start(pass_on)
    assert not wrong
    assert lock.up_to(0) is None
    assert lock.acquire(False)
    lock.release()


def place_of(lock: ObservedLock) -> tuple[CodeType, int] | None:
    """The place where the calling thread has entered it."""
    return lock.entered_at(_thread.get_ident())


def test_the_place_is_where_the_with_is() -> None:
    """It is the code and the line; there is none for an `acquire`, or for another thread."""
    lock = make()

    def enter() -> tuple[CodeType, int] | None:
        with lock:
            return place_of(lock)

    place = enter()
    assert place is not None
    code, at = place
    lines = [line for line, *_ in code.co_positions()]
    assert code is enter.__code__
    assert lines[at // 2] == enter.__code__.co_firstlineno + 1
    lock.acquire()
    assert place_of(lock) is None
    lock.release()
    with lock:
        assert lock.entered_at(0) is None


AUDITED = """
import sys
from syncprims.watch.observed import ObservedLock, factory_of

lock, raised = factory_of(ObservedLock)(), None

def hook(event, args):
    if event == "sys._getframe" and raised is not None:
        assert not lock.locked()
        raise raised

def enter():
    with lock:
        return lock._place

def enter_elsewhere():
    with lock:
        return lock._place

sys.addaudithook(hook)
for kind in (None, ValueError, KeyboardInterrupt):
    for function in (enter, enter, enter_elsewhere):
        raised = kind
        try:
            code, at = function()
        except KeyboardInterrupt:
            assert kind is KeyboardInterrupt
        else:
            assert code is function.__code__ and at, (kind, code, at)
            assert kind is not KeyboardInterrupt or sys.version_info[:2] != (3, 14)
        raised = None
        assert not lock.locked()
"""


def test_a_hook_that_audits_frames_runs_before_the_lock_is_acquired() -> None:
    """On 3.14 `sys._getframe` finds the place. If the hook refuses, the place is known nevertheless."""
    run = subprocess.run(
        [sys.executable, "-c", AUDITED], env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_place_that_had_to_be_waited_for_is_the_programs_too() -> None:
    """A `with` that waited is noted like one that did not."""
    lock, seen = make(), []
    waits = threading.Event()

    def enter() -> None:
        waits.set()
        with lock:
            seen.append(place_of(lock))

    lock.acquire()
    with Threads() as threads:
        threads.start(enter)
        assert waits.wait(patience())
        lock.release()
    assert seen[0] is not None
    assert seen[0][0] is enter.__code__


SECRET = """
def hang(get, waits):
    try:
        with get():
            waits.set()
            with get():
                pass
    except RuntimeError:
        pass  # in the end another thread releases it
"""


@pytest.mark.parametrize("order", [False, True])
def test_what_a_with_took_is_certain_without_its_source(order: bool) -> None:
    """A thread that waits for itself is found although there is no source, and other threads can run."""
    watching: Watching = install(after=20.0, asleep=None, order=order)
    space: dict[str, Any] = {}
    exec(compile(SECRET, "secret.py", "exec"), space)
    try:
        # At its own place, where no lock was released by another thread before.
        lock, waits = eval(compile("\n" * order + "threading.Lock()", "made.py", "eval")), threading.Event()
        thread = threading.Thread(target=space["hang"], args=(lambda: lock, waits), name="lonely")
        thread.start()
        assert waits.wait(patience())
        found: list[Any] = []
        ends = threading.Event()
        for _ in range(600):
            found = watching.look()
            if found:
                break
            ends.wait(0.05)
        assert [incident.heading for incident in found] == ["DEADLOCK"]
        assert found[0].threads[0].holders[0].taken == ("secret.py", 4, "hang")
    finally:
        lock.release()
        thread.join(patience())
        watching.uninstall()
    assert not thread.is_alive()


def test_a_generator_and_a_call_by_hand_are_not_certain() -> None:
    """A hold that another thread may leave or release does not count as the block of this thread."""
    from syncprims.watch.with_blocks import blocks_of

    def look(*locks: ObservedLock) -> list[bool]:
        entered = blocks_of(sys._getframe(1), locks)
        return [id(lock) in entered.places for lock in locks]

    # Without a source, so that only the notes of C count.
    space: dict[str, Any] = {"look": look}
    exec(
        compile(
            "def by_hand(lock):\n    lock.__enter__()\n    return look(lock)\n"
            "def by_with(lock):\n    with lock:\n        return look(lock)\n"
            "def generator(lock):\n    with lock:\n        yield look(lock)\n",
            "secret.py",
            "exec",
        ),
        space,
    )
    assert space["by_with"](make()) == [True]
    assert space["by_hand"](make()) == [False]
    assert list(space["generator"](make())) == [[False]]


def test_it_goes_with_all_that_it_has() -> None:
    """A lock and the code that acquired it last go away when nothing refers to them."""
    lock = make()
    space: dict[str, Any] = {}
    exec("def enter(lock):\n    with lock:\n        pass", space)
    space["enter"](lock)
    code = weakref.ref(space["enter"].__code__)
    space.clear()
    gc.collect()
    assert code() is not None
    kept = weakref.ref(lock)
    del lock
    gc.collect()
    assert kept() is None
    if sys.version_info[:2] != (3, 13) or HAS_GIL:
        assert code() is None


def test_wrong_uses_of_it_are_errors() -> None:
    """Functions that only the library calls refuse wrong arguments, and never crash."""
    lock = make()
    wrongs: list[Callable[[], object]] = [
        lambda: core.Observed.locked(5),
        lambda: core.pass_over(5),
        lambda: lock._take(),
        lambda: setattr(lock, "_taker", 5),
        lambda: core.own(ObservedLock, "nothing"),
        lambda: core.put(ObservedLock, "acquire", ""),
    ]
    for wrong in wrongs:
        with pytest.raises((TypeError, AttributeError, ValueError, RuntimeError)):
            wrong()
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock._release()


FORKS = """
import os, signal, sys, threading
from syncprims import TimedLock
from syncprims.watch.observed import ObservedLock, factory_of

observed = sys.argv[1] == "observed"
lock = (factory_of(ObservedLock) if observed else TimedLock)()
has_it, let_go = threading.Event(), threading.Event()

def hold():
    with lock:
        has_it.set()
        let_go.wait(60)

threading.Thread(target=hold).start()
has_it.wait(60)
waiters = [threading.Thread(target=lambda: lock.acquire(timeout=60) and lock.release()) for _ in range(3)]
for waiter in waiters:
    waiter.start()
children = []

def use():
    # The observed one stays as it was: taken by a thread that is gone, which any may release. Ours is free.
    if observed:
        assert lock.locked()
        lock.release()
    assert lock.acquire(False) and lock.locked()
    late = threading.Thread(target=lambda: lock.acquire(timeout=60) and lock.release())
    late.start()
    lock.release()
    late.join(60)
    assert not late.is_alive() and lock.acquire(False)

def fork(*_):
    child = os.fork()
    if child == 0:
        children.append(0)
    else:
        children.append(child)

if sys.argv[2] == "waiting":
    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    got = lock.acquire(timeout=1)
else:
    fork()
    got = False
status = 1
if children == [0]:
    try:
        if got:
            assert not observed
            lock.release()
        use()
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)
let_go.set()
for waiter in waiters:
    waiter.join(60)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
print("done", got)
"""


@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(signal, "setitimer"), reason="there is no fork")
@pytest.mark.parametrize("kind", ["observed", "ours"])
@pytest.mark.parametrize("when", ["waiting", "outside"])
def test_a_forked_child_forgets_who_waited(kind: str, when: str) -> None:
    """Threads that waited for a lock at the fork are not the child's; a wait in which a handler forks goes on."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, kind, when],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("done False\n", "")
