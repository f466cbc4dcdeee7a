"""Synchronization primitives that never hang in silence."""

from __future__ import annotations

from ._facts import Holder, Wait
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

__all__ = [
    "BrokenSequenceError",
    "CallbackErrors",
    "CallbackExit",
    "CounterBoundsError",
    "CounterTimeoutError",
    "DeadlockError",
    "ForkedError",
    "Holder",
    "LockOrderError",
    "LockTimeoutError",
    "PoolClosedError",
    "PoolTimeoutError",
    "SequenceFinishedError",
    "StepTimeoutError",
    "SyncError",
    "SyncTimeoutError",
    "TaskTimeoutError",
    "TransportError",
    "Wait",
]
