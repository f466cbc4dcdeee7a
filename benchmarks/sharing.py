"""Locks that several threads hold at once: a permit, a reader and a writer; and two readers side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from syncprims import QueuedLock, TimedLock, TimedRWLock, TimedSemaphore

from .measuring import OURS, STDLIB, Case, Group, Work, loop, package
from .together import together


class _Exclusive(QueuedLock):
    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:  # noqa: ARG002  any two exclude each other
        return not kinds


def alone(make: Callable[[], Any], statement: str = "with lock: pass") -> Callable[[ExitStack], Work]:
    """Run a statement with a lock that no other thread uses."""
    return lambda _: loop(statement, lock=make())


def _readers_writers() -> Any:
    return package("readerwriterlock.rwlock").RWLockFair()


def _fasteners() -> Any:
    return package("fasteners").ReaderWriterLock()


def _culsans() -> Any:
    return package("culsans").RWLock()


def _side_by_side(threads: int, make: Callable[[], Any], statement: str) -> Callable[[ExitStack], Work]:
    """Each of some threads acquires the lock repeatedly, and computes for some tens of microseconds under it."""

    def open_(_: ExitStack) -> Work:
        lock = make()
        return lambda operations: together(
            [loop(statement, lock=lock, busy=range(3000)) for _ in range(threads)], operations // threads
        )

    return open_


_READ = "with lock.read():\n            for _ in busy: pass"
_HOLD = "with lock:\n            for _ in busy: pass"

GROUPS = (
    Group(
        "semaphore",
        "Taking a free permit in a ``with``",
        (
            Case("threading.Lock", STDLIB, alone(threading.Lock)),
            Case("TimedSemaphore", OURS, alone(lambda: TimedSemaphore(2)), 4),
            Case("QueuedLock, one at a time", OURS, alone(_Exclusive)),
            Case("TimedSemaphore.hold(t)", OURS, alone(lambda: TimedSemaphore(2).hold(1.0))),
            Case(
                "TimedSemaphore.acquire, release",
                OURS,
                alone(lambda: TimedSemaphore(2), "lock.acquire(); lock.release()"),
            ),
            Case("threading.Semaphore", STDLIB, alone(lambda: threading.Semaphore(2))),
            Case("threading.BoundedSemaphore", STDLIB, alone(lambda: threading.BoundedSemaphore(2))),
            Case("aiologic.Semaphore", "aiologic", alone(lambda: package("aiologic").Semaphore(2))),
        ),
    ),
    Group(
        "rw-read",
        "Reading a free reader-writer lock in a ``with``",
        (
            Case("threading.Lock", STDLIB, alone(threading.Lock)),
            Case("TimedRWLock.read()", OURS, alone(TimedRWLock, "with lock.read(): pass"), 5),
            Case("TimedRWLock.read(), kept", OURS, alone(lambda: TimedRWLock().read())),
            Case("readerwriterlock", "readerwriterlock", alone(lambda: _readers_writers().gen_rlock())),
            Case("fasteners", "fasteners", alone(_fasteners, "with lock.read_lock(): pass")),
            Case("culsans.RWLock", "culsans", alone(_culsans, "with lock.reading: pass")),
        ),
    ),
    Group(
        "rw-write",
        "Writing under a free reader-writer lock in a ``with``",
        (
            Case("threading.Lock", STDLIB, alone(threading.Lock)),
            Case("TimedRWLock.write()", OURS, alone(TimedRWLock, "with lock.write(): pass"), 5),
            Case("TimedRWLock.write(), kept", OURS, alone(lambda: TimedRWLock().write())),
            Case("readerwriterlock", "readerwriterlock", alone(lambda: _readers_writers().gen_wlock())),
            Case("fasteners", "fasteners", alone(_fasteners, "with lock.write_lock(): pass")),
            Case("culsans.RWLock", "culsans", alone(_culsans, "with lock.writing: pass")),
        ),
    ),
    Group(
        "rw-readers",
        "Readers side by side, which compute for some tens of microseconds each time",
        (
            Case("one thread that reads", OURS, _side_by_side(1, TimedRWLock, _READ)),
            Case("two threads that read", OURS, _side_by_side(2, TimedRWLock, _READ)),
            Case("two threads under one TimedLock", OURS, _side_by_side(2, TimedLock, _HOLD)),
            Case("two threads without any lock", STDLIB, _side_by_side(2, object, "for _ in busy: pass")),
        ),
        better="more",
        operations=400,
    ),
)
