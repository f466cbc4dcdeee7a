"""Synchronization primitives that never hang in silence.

Every wait has a timeout or a way out. A wait that fails says who holds what. Every callback runs. An order is kept or
reported as broken.

- `TimedLock`, `TimedRLock`, `acquire_all`: locks with a timeout that name their holder and refuse to deadlock.
  `LockAdapter` gives the same to a lock that you already have.
- `KeyedLock`, `Guarded`: a lock for each key; a value that code can reach only under its lock.
- `once`, `SingleFlight`: a function that runs once; callers that share one call.
- `TimedRWLock`, `TimedSemaphore`: many readers or one writer, and a number of permits, with the same guarantees.
- `QueuedLock`: the base for a lock of your own. You write only the rule that says which threads may hold it together.
- `OrderedRunner`: threads that take turns in a predefined order.
- `AtomicCounter`: a thread-safe integer with bounds, compare-and-set and waiting.
- `CallbackPool`: an executor that runs every callback and loses no error. Its `TaskGroup` holds tasks that fail
  together.

``syncprims.diagnostics`` shows which threads wait for which, ``syncprims.testing`` tests your subclasses, and
``syncprims.adapters`` has locks and counters on a server. ``python -m syncprims.watch PROGRAM.py`` reports why a
program hangs, even if it does not use this library. ``python -m syncprims`` is the tour.

Example:
    >>> from syncprims import TimedLock
    >>> accounts = TimedLock(timeout=2.0, name="accounts")
    >>> with accounts:
    ...     print("at most two seconds of waiting, and then an answer")
    at most two seconds of waiting, and then an answer
"""

from __future__ import annotations

from os import environ as _environ
from typing import TYPE_CHECKING

from ._core.speedups import core as _compiled_core
from ._counter.atomic_counter import AtomicCounter
from ._locks.acquire_all import acquire_all
from ._locks.timed_lock import TimedLock, TimedRLock
from ._runner.ordered_runner import OrderedRunner, StepContext, Turn
from .adapters import LockAdapter
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
    PatchedThreadsError,
    PoolClosedError,
    PoolTimeoutError,
    SequenceFinishedError,
    StepTimeoutError,
    SyncError,
    SyncTimeoutError,
    TaskTimeoutError,
    TransportError,
)
from .facts import Holder, Wait

if TYPE_CHECKING:
    from . import diagnostics as diagnostics
    from . import testing as testing
    from . import watch as watch
    from ._locks.guarded import Guarded
    from ._locks.keyed import KeyedLock
    from ._locks.once import once
    from ._locks.queued_lock import QueuedLock
    from ._locks.rw_lock import TimedRWLock
    from ._locks.semaphore import TimedSemaphore
    from ._locks.single_flight import SingleFlight
    from .callback_pool import CallbackPool, Cancellation, LazyResults, PoolStats, Task, TaskGroup

__all__ = [
    "AtomicCounter",
    "BrokenSequenceError",
    "CallbackErrors",
    "CallbackExit",
    "CallbackPool",
    "Cancellation",
    "CounterBoundsError",
    "CounterTimeoutError",
    "DeadlockError",
    "ForkedError",
    "Guarded",
    "Holder",
    "KeyedLock",
    "LazyResults",
    "LockAdapter",
    "LockOrderError",
    "LockTimeoutError",
    "OrderedRunner",
    "PatchedThreadsError",
    "PoolClosedError",
    "PoolStats",
    "PoolTimeoutError",
    "QueuedLock",
    "SequenceFinishedError",
    "SingleFlight",
    "StepContext",
    "StepTimeoutError",
    "SyncError",
    "SyncTimeoutError",
    "Task",
    "TaskGroup",
    "TaskTimeoutError",
    "TimedLock",
    "TimedRLock",
    "TimedRWLock",
    "TimedSemaphore",
    "TransportError",
    "Turn",
    "Wait",
    "acquire_all",
    "compiled",
    "once",
]

compiled: bool = _compiled_core is not None
"""Whether the compiled core is used."""

_MODULES = ("diagnostics", "testing", "watch")

# Names that are imported only when they are used, each with its module. The pool needs concurrent.futures, which takes
# longer to import than all the rest. The modules are here so that they work at once in a program that runs already:
# `syncprims.diagnostics.report()` in a debugger.
_LATER = {
    "CallbackPool": "callback_pool",
    "Cancellation": "callback_pool",
    "Guarded": "_locks.guarded",
    "KeyedLock": "_locks.keyed",
    "LazyResults": "callback_pool",
    "PoolStats": "callback_pool",
    "QueuedLock": "_locks.queued_lock",
    "SingleFlight": "_locks.single_flight",
    "Task": "callback_pool",
    "TaskGroup": "callback_pool",
    "TimedRWLock": "_locks.rw_lock",
    "TimedSemaphore": "_locks.semaphore",
    "once": "_locks.once",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    thing: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    public = {*__all__, "adapters", "errors", *_MODULES}
    return sorted(public | {name for name in globals() if name.startswith("__")})


if "SYNCPRIMS_LOCK_ORDER" in _environ:  # see diagnostics.check_lock_order: it has to see every lock
    from .diagnostics.lock_order import check_as_environment_says

    check_as_environment_says()

if "SYNCPRIMS_WATCH" in _environ:  # see watch.install: the earlier, the more locks it sees
    from .watch.environment import install_as_environment_says

    install_as_environment_says()
