"""Synchronization primitives that never hang in silence."""

from __future__ import annotations

from ._acquire_all import acquire_all
from ._facts import Holder, Wait
from .adapters import LockAdapter
from .atomic_counter import AtomicCounter
from .errors import (
    BrokenSequenceError,
    CallbackErrors,
    CallbackExit,
    CounterBoundsError,
    CounterTimeoutError,
    DeadlockError,
    ForkedError,
    LockOrderError,
    LockTimeoutError,
    PoolClosedError,
    PoolTimeoutError,
    SequenceFinishedError,
    StepTimeoutError,
    SyncError,
    SyncTimeoutError,
    TaskTimeoutError,
    TransportError,
)
from .timed_lock import TimedLock, TimedRLock

__all__ = [
    "AtomicCounter",
    "BrokenSequenceError",
    "CallbackErrors",
    "CallbackExit",
    "CounterBoundsError",
    "CounterTimeoutError",
    "DeadlockError",
    "ForkedError",
    "Holder",
    "LockAdapter",
    "LockOrderError",
    "LockTimeoutError",
    "PoolClosedError",
    "PoolTimeoutError",
    "SequenceFinishedError",
    "StepTimeoutError",
    "SyncError",
    "SyncTimeoutError",
    "TaskTimeoutError",
    "TimedLock",
    "TimedRLock",
    "TransportError",
    "Wait",
    "acquire_all",
]
