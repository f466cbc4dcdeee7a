"""Locks: alone, with a time limit, contended, and two at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from syncprims import (
    Guarded,
    KeyedLock,
    LockAdapter,
    SingleFlight,
    TimedLock,
    TimedRLock,
    acquire_all,
    once,
)

from .measuring import OURS, STDLIB, Case, Group, Work, loop, package
from .together import together

_WITH = "with lock: pass"


def _of(make: Callable[[], Any], statement: str = _WITH, *, ready: Callable[[Any], Any] | None = None) -> Any:
    def open_(_: ExitStack) -> Work:
        lock = make()
        return loop(statement, lock=ready(lock) if ready else lock)

    return open_


def _file_lock(stack: ExitStack) -> Work:
    folder = stack.enter_context(TemporaryDirectory())
    return loop(_WITH, lock=package("filelock").FileLock(f"{folder}/lock"))


def _writer(lock: Any) -> Any:
    return lock.gen_wlock()


def _contended(make: Callable[[], Any], threads: int = 4) -> Callable[[ExitStack], Work]:
    def open_(_: ExitStack) -> Work:
        lock = make()
        return lambda operations: together([loop(_WITH, lock=lock)] * threads, operations // threads)

    return open_


def _aio() -> Any:
    return package("aiologic").Lock()


def _rw() -> Any:
    return package("readerwriterlock.rwlock").RWLockWrite()


def _two(first: Any, second: Any, statement: str, **names: object) -> Callable[[ExitStack], Work]:
    return lambda _: loop(statement, first=first(), second=second(), **names)


def _keyed(statement: str = 'with locks["a"]: pass') -> Callable[[ExitStack], Work]:
    def open_(stack: ExitStack) -> Work:
        locks = KeyedLock()
        stack.enter_context(nullcontext(locks["a"]))  # this keeps it alive
        return loop(statement, locks=locks)

    return open_


GROUPS = (
    Group(
        "lock",
        "Taking a free lock in a ``with``",
        (
            Case("threading.Lock", STDLIB, _of(threading.Lock)),
            Case("TimedLock", OURS, _of(TimedLock), 1.5),
            Case("TimedRLock", OURS, _of(TimedRLock)),
            Case("LockAdapter(Lock)", OURS, _of(lambda: LockAdapter(threading.Lock()))),
            Case("threading.RLock", STDLIB, _of(threading.RLock)),
            Case("threading.Semaphore", STDLIB, _of(threading.Semaphore)),
            Case("threading.Condition", STDLIB, _of(threading.Condition)),
            Case("aiologic.Lock", "aiologic", _of(_aio)),
            Case("readerwriterlock", "readerwriterlock", _of(_rw, ready=_writer)),
            Case(
                "fasteners",
                "fasteners",
                _of(lambda: package("fasteners").ReaderWriterLock(), "with lock.write_lock(): pass"),
            ),
            Case("filelock", "filelock", _file_lock),
        ),
    ),
    Group(
        "hold",
        "Taking a free lock with a time limit of its own",
        (
            Case("threading.Lock", STDLIB, _of(threading.Lock)),
            Case("hold(t), kept", OURS, _of(TimedLock, ready=lambda lock: lock.hold(1.0)), 2.2),
            Case("hold(t), again", OURS, _of(TimedLock, "with lock.hold(1.0): pass"), 3.0),
            Case(
                "acquire(timeout=t)",
                OURS,
                _of(TimedLock, "lock.acquire(timeout=1.0); lock.release()"),
            ),
            Case(
                "Lock.acquire(timeout=t)",
                STDLIB,
                _of(threading.Lock, "lock.acquire(timeout=1.0); lock.release()"),
            ),
        ),
    ),
    Group(
        "contended",
        "Four threads at one lock",
        (
            Case("threading.Lock", STDLIB, _contended(threading.Lock)),
            Case("TimedLock", OURS, _contended(TimedLock), 0.5),
            Case("threading.RLock", STDLIB, _contended(threading.RLock)),
            Case("aiologic.Lock", "aiologic", _contended(_aio)),
            Case("readerwriterlock", "readerwriterlock", _contended(lambda: _writer(_rw()))),
        ),
        better="more",
        operations=8000,
    ),
    Group(
        "keyed",
        "A lock by its key, and a value with its lock",
        (
            Case("threading.Lock", STDLIB, _of(threading.Lock)),
            Case("TimedLock", OURS, _of(TimedLock)),
            Case("Guarded", OURS, _of(lambda: Guarded(0)), 2.0),
            Case("Guarded.update", OURS, _of(lambda: Guarded(0), "lock.update(int)")),
            Case("KeyedLock, known key", OURS, _keyed(), 4.0),
            Case("KeyedLock, new key", OURS, _keyed('with locks["b"]: pass')),
        ),
    ),
    Group(
        "shared",
        "A function that has run once, and a call that is not shared",
        (
            Case("functools.cache", STDLIB, lambda _: loop("call()", call=cache(int))),
            Case("once", OURS, lambda _: loop("call()", call=once(int))),
            Case("SingleFlight.do", OURS, lambda _: loop('flight.do("a", int)', flight=SingleFlight())),
        ),
    ),
    Group(
        "all",
        "Two free locks at once",
        (
            Case("two nested Locks", STDLIB, _two(threading.Lock, threading.Lock, "with first, second: pass")),
            Case("two nested TimedLocks", OURS, _two(TimedLock, TimedLock, "with first, second: pass")),
            Case(
                "acquire_all",
                OURS,
                _two(TimedLock, TimedLock, "with acquire_all(first, second): pass", acquire_all=acquire_all),
            ),
        ),
    ),
)
