"""The checks: each is one call that tries a whole contract on the objects that a factory makes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from . import (
    counter_changes,
    counter_waits,
    lock_basics,
    lock_interrupts,
    lock_waits,
    pool_callbacks,
    pool_ends,
    runner_ends,
    runner_order,
    rw_lock_clauses,
    semaphore_clauses,
)
from .contract import Call, check
from .held_lock import Make as LockFactory
from .pool_callbacks import Make as PoolFactory
from .runner_order import Make as RunnerFactory
from .rw_lock_clauses import Make as RWLockFactory
from .semaphore_clauses import Make as SemaphoreFactory
from .verdict import ConformanceReport

__all__ = [
    "check_counter",
    "check_lock",
    "check_pool",
    "check_rlock",
    "check_runner",
    "check_rwlock",
    "check_semaphore",
]


_A_LOCK: Call[LockFactory] = Call(
    lambda make: make(),
    "factory()",
    "check_lock(lambda: Ward('north'))",
)
_A_RUNNER: Call[RunnerFactory] = Call(
    lambda make: make("a", "b", rounds=1),
    "factory('a', 'b', rounds=1)",
    "check_runner(lambda *steps, **options: Relay('red', *steps, **options))",
)
_A_COUNTER: Call[Callable[..., Any]] = Call(
    lambda make: make(0),
    "factory(0)",
    "check_counter(lambda value=0, **options: Stock('bolts', value, **options))",
)
_A_POOL: Call[PoolFactory] = Call(
    lambda make: make(max_workers=2).shutdown(),
    "factory(max_workers=2)",
    "check_pool(lambda **options: Team('red', **options))",
)
_AN_RW_LOCK: Call[RWLockFactory] = Call(
    lambda make: make(),
    "factory()",
    "check_rwlock(lambda: Board('north'))",
)
_A_SEMAPHORE: Call[SemaphoreFactory] = Call(
    lambda make: make(2),
    "factory(2)",
    "check_semaphore(lambda permits: Hooks('north', permits))",
)


def check_lock(factory: LockFactory, *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of a `TimedLock` on the locks that a factory makes, and report the broken clauses.

    Use it for subclasses of `TimedLock`, and for other libraries' locks in a `LockAdapter`. It tries every clause on
    fresh locks in a separate thread, and reports all broken clauses together. A lock that hangs breaks a clause, but
    does not hang the check. Call it in a test, in the main thread: in other threads it can't try the clauses about
    interrupts. On slow machines, set ``SYNCPRIMS_TEST_DELAY_FACTOR`` (see `patience`).

    Args:
        factory: Makes a fresh, free lock at each call, without arguments.
        without: The names of clauses that the locks need not keep, as in reports. They are not tried, and the report
            lists them as not kept.

    Returns:
        The report: the clauses that are kept, those that were left out, and those that could not be tried here, with
        the reason.

    Raises:
        ConformanceError: Clauses are broken. The message says for each what was done and what happened.
        ValueError: ``without`` has the name of no clause; the message lists all clauses.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.testing import check_lock
        >>> class PatientLock(TimedLock):
        ...     def __init__(self) -> None:
        ...         super().__init__(timeout=60.0)
        ...
        >>> report = check_lock(PatientLock)
        >>> report.broken, report.not_kept
        ((), ())
    """
    contracts = (
        lock_basics.basics,
        lock_waits.waits,
        lock_waits.cycles,
        lock_waits.plain_only,
        lock_interrupts.interrupted,
    )
    return check("check_lock", factory, contracts, without, _A_LOCK)


def check_rlock(factory: LockFactory, *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of a `TimedRLock`; otherwise like `check_lock`.

    Args:
        factory: Makes a fresh, free lock at each call, without arguments.
        without: The clauses to leave out, by their names.

    Returns:
        The report.

    Raises:
        ConformanceError: Clauses are broken.
        ValueError: ``without`` names a clause that there is not.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import TimedRLock
        >>> from syncprims.testing import check_rlock
        >>> check_rlock(TimedRLock).broken
        ()
    """
    contracts = (
        lock_basics.basics,
        lock_waits.waits,
        lock_waits.cycles,
        lock_waits.reentrant_only,
        lock_interrupts.interrupted,
        lock_interrupts.reentrant_interrupted,
    )
    return check("check_rlock", factory, contracts, without, _A_LOCK)


def check_runner(factory: RunnerFactory, *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of an `OrderedRunner`; otherwise like `check_lock`.

    A subclass that computes the order passes if it keeps the given order unless the program asks for another one. If
    `_on_error` of a subclass lets sequences go on after a failure, leave out the clauses that say that they break.

    Args:
        factory: Makes a fresh runner at each call; it is called with ``*steps``, ``rounds=`` and ``timeout=``.
        without: The clauses to leave out, by their names.

    Returns:
        The report.

    Raises:
        ConformanceError: Clauses are broken.
        ValueError: ``without`` names a clause that there is not.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import OrderedRunner
        >>> from syncprims.testing import check_runner
        >>> check_runner(OrderedRunner).broken
        ()
    """
    return check("check_runner", factory, (runner_order.order, runner_ends.ends), without, _A_RUNNER)


def check_counter(factory: Callable[..., Any], *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of an `AtomicCounter`; otherwise like `check_lock`.

    Args:
        factory: Makes a fresh counter at each call; it is called with a value (or without one, for 0), ``minimum=`` and
            ``maximum=``. The counter need not be an `AtomicCounter`.
        without: The clauses to leave out, by their names.

    Returns:
        The report.

    Raises:
        ConformanceError: Clauses are broken.
        ValueError: ``without`` names a clause that there is not.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import AtomicCounter
        >>> from syncprims.testing import check_counter
        >>> check_counter(AtomicCounter).broken
        ()
    """
    return check("check_counter", factory, (counter_changes.changes, counter_waits.waits), without, _A_COUNTER)


def check_pool(factory: PoolFactory, *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of a `CallbackPool`; otherwise like `check_lock`.

    The tasks of the clauses can be pickled, and use only files to communicate with this process. So they also run in
    processes and interpreters, but not on other machines, which can't see those files.

    Args:
        factory: Makes a fresh pool at each call; it is called with ``max_workers=``, ``max_pending=`` and
            ``on_callback_error=``.
        without: The clauses to leave out, by their names.

    Returns:
        The report.

    Raises:
        ConformanceError: Clauses are broken.
        ValueError: ``without`` names a clause that there is not.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import CallbackPool
        >>> from syncprims.testing import check_pool
        >>> check_pool(CallbackPool).broken
        ()
    """
    return check("check_pool", factory, (pool_callbacks.callbacks, pool_ends.ends), without, _A_POOL)


def check_rwlock(factory: RWLockFactory, *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of a `TimedRWLock`; otherwise like `check_lock`.

    Args:
        factory: Makes a fresh, free lock at each call, without arguments.
        without: The clauses to leave out, by their names.

    Returns:
        The report.

    Raises:
        ConformanceError: Clauses are broken.
        ValueError: ``without`` names a clause that there is not.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import TimedRWLock
        >>> from syncprims.testing import check_rwlock
        >>> check_rwlock(TimedRWLock).broken
        ()
    """
    contracts = (rw_lock_clauses.sides, rw_lock_clauses.turns, rw_lock_clauses.interrupted)
    return check("check_rwlock", factory, contracts, without, _AN_RW_LOCK)


def check_semaphore(factory: SemaphoreFactory, *, without: Collection[str] = ()) -> ConformanceReport:
    """Try the whole contract of a `TimedSemaphore`; otherwise like `check_lock`.

    Args:
        factory: Makes a fresh semaphore at each call; it is called with the number of permits.
        without: The clauses to leave out, by their names.

    Returns:
        The report.

    Raises:
        ConformanceError: Clauses are broken.
        ValueError: ``without`` names a clause that there is not.
        TypeError: The factory can't be called, or ``without`` is a single string.

    Example:
        >>> from syncprims import TimedSemaphore
        >>> from syncprims.testing import check_semaphore
        >>> check_semaphore(TimedSemaphore).broken
        ()
    """
    contracts = (semaphore_clauses.permits, semaphore_clauses.line, semaphore_clauses.interrupted)
    return check("check_semaphore", factory, contracts, without, _A_SEMAPHORE)
