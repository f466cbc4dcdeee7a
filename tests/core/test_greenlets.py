"""If gevent or eventlet has put greenlets in place of threads, every primitive refuses to work."""

from __future__ import annotations

import _thread
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from syncprims import (
    AtomicCounter,
    CallbackPool,
    LockAdapter,
    OrderedRunner,
    PatchedThreadsError,
    SyncError,
    TimedLock,
    TimedRLock,
    acquire_all,
)
from syncprims.testing import Threads, patience

CONSTRUCTORS: dict[str, Callable[[], object]] = {
    "TimedLock": TimedLock,
    "TimedRLock": TimedRLock,
    "LockAdapter": lambda: LockAdapter(threading.Lock()),
    "OrderedRunner": lambda: OrderedRunner("a"),
    "AtomicCounter": AtomicCounter,
    "CallbackPool": CallbackPool,
}

PROGRAM = """
import sys
which, when, *ways = sys.argv[1:]
def patch():
    if which == "gevent":
        from gevent import monkey
        monkey.patch_all(thread="threads" in ways)
    else:
        import eventlet
        eventlet.monkey_patch(thread="threads" in ways)
if when == "before":
    patch()
import syncprims, syncprims.adapters, syncprims.diagnostics, syncprims.testing
syncprims.CallbackPool
old = syncprims.TimedRLock() if when == "after" else None
if when == "after":
    patch()
for make in (syncprims.TimedLock, syncprims.TimedRLock, syncprims.AtomicCounter, lambda: syncprims.OrderedRunner("a"),
             syncprims.CallbackPool, lambda: syncprims.LockAdapter(old or object.__new__(type("L", (), {
                 "acquire": lambda self, *, timeout=-1: True, "release": lambda self: None})))):
    try:
        made = make()
    except syncprims.PatchedThreadsError as error:
        print("refused", which + "." in str(error) or which + "_" in str(error))
    else:
        print("made")
        if isinstance(made, syncprims.CallbackPool):
            made.close()
if old is not None:
    with old:
        try:
            old.acquire()
        except syncprims.PatchedThreadsError:
            print("refused too")
        else:
            print("taken again" if type(old) is syncprims.TimedRLock else "replaced")
"""


def here(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))


@pytest.mark.untraceable
@pytest.mark.parametrize("which", [here("gevent"), here("eventlet")])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("threads", [True, False])
def test_programs_that_are_patched(which: str, when: str, threads: bool) -> None:
    """The import always works; a primitive works if threads are not replaced, and otherwise refuses with a reason."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, which, when, *(["threads"] if threads else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    expected = ["refused True" if threads else "made"] * 6
    if when == "after":
        # eventlet replaces every lock that it finds by its own.
        expected.append(("replaced" if which == "eventlet" else "refused too") if threads else "taken again")
    assert done.stdout.splitlines() == expected, done.stderr[-2000:]


def get_ident() -> int:
    """The function that gevent puts in place of the system's: it returns the ident of a greenlet."""
    return 1


get_ident.__module__ = "gevent.thread"


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Replace threads, like gevent, for the rest of the test."""
    return lambda: monkeypatch.setattr(_thread, "get_ident", get_ident)


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_nothing_is_made_there(kind: str, patched: Callable[[], None]) -> None:
    """The error is one of this library's and a RuntimeError, and says what to use instead."""
    patched()
    with pytest.raises(PatchedThreadsError, match=r"gevent has put .* Use gevent.lock and .*patch_all\(thread=False\)"):
        CONSTRUCTORS[kind]()
    assert issubclass(PatchedThreadsError, SyncError)
    assert issubclass(PatchedThreadsError, RuntimeError)


def test_another_culprit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any library with its own idea of a thread does not work with these locks."""

    def other() -> int:
        return 1

    other.__module__ = "fibers.thread"
    monkeypatch.setattr(_thread, "get_ident", other)
    with pytest.raises(PatchedThreadsError, match=r"fibers has put greenlets .* its own locks and pools"):
        TimedLock()


def test_locks_from_before_let_no_greenlet_in_a_second_time(patched: Callable[[], None]) -> None:
    """All greenlets of a thread are one thread for these locks; a lock that is held can be released nevertheless."""
    lock, relock, adapter = TimedLock(), TimedRLock(), LockAdapter(threading.RLock())
    with lock, relock, adapter:
        patched()
        for again in (
            lock.acquire,
            lambda: lock.acquire(timeout=0.1),
            lock.__enter__,
            relock.acquire,
            relock.__enter__,
            acquire_all(relock).__enter__,
            adapter.acquire,
            adapter.__enter__,
        ):
            with pytest.raises(PatchedThreadsError):
                again()
    assert not any((lock.locked(), relock.locked(), adapter.held_by_me()))


def test_nothing_waits_that_would_stop_all_greenlets(patched: Callable[[], None]) -> None:
    """There is no wait for a lock of another thread, a value or a turn, and no wait is left behind."""
    lock, counter, runner = TimedLock(), AtomicCounter(), OrderedRunner("a", "b")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(patience())

    with Threads() as threads:
        threads.start(hold)
        assert held.wait(patience())
        patched()
        try:
            for wait in (
                lock.acquire,
                lock.__enter__,
                lambda: counter.wait_until(1),
                runner.step("b").__enter__,
                runner.wait,
            ):
                with pytest.raises(PatchedThreadsError):
                    wait()
        finally:
            done.set()
    assert (lock.waiting, runner.waiting, counter.increment()) == (0, 0, 1)
