"""`Guarded`: a value that code can reach only under its lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import starmap
from typing import Generic, TypeVar, cast

from .._core.foreign import words
from .._core.interrupts import STOPPED
from .._core.lazy import check_runs
from .timed_lock import TimedLock

# `Guarded` is a lock; it does not contain one. So a `with` costs the same as on a lock, and it works with everything
# that takes locks (`acquire_all`, the wait-for graph, fork, reports, recordings).

T = TypeVar("T")


class Guarded(TimedLock, Generic[T]):
    """A value together with its lock: the only way to the value is through the lock.

    Use it for state that several threads share, so that no code can forget the lock. Think of a bank counter behind
    glass: customers must come to the window, and there is only one window.

    It is a `TimedLock` whose ``with`` gives the value. What is not described here works like `TimedLock`.

    Args:
        value: The value; it is never compared, copied or printed.
        timeout: How long ``with`` and `update` wait, in seconds. None, the default, waits forever; 0 does not wait.
        name: The name in messages. The default is like ``Guarded-7``.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number, or the name is not a string.

    Example:
        >>> from syncprims import Guarded
        >>> stock = Guarded({"bolts": 3}, timeout=2.0, name="stock")
        >>> with stock as shelves:
        ...     shelves["bolts"] -= 1
        ...
        >>> total = Guarded(0)
        >>> total.update(lambda n: n + 5)
        5

    Change a value that can be changed in place, such as a dictionary, inside the ``with``. Replace any other value,
    such as a number, by `update`, or by setting `value` inside the ``with``. Do not keep the object that the ``with``
    gives: after the block the lock no longer guards it.

    **Fairness.** None, as with `TimedLock`.

    **Thread safety.** Like `TimedLock`. After an interrupt in `update` the value is either the old or the new one, and
    the lock is free. After an interrupt in a block, the block may have changed only a part of the value, as after any
    exception.

    **Differences from threading.** `threading` has nothing like it. The lock differs like `TimedLock`: only the holder
    may release it, and a thread that enters it twice gets a `DeadlockError`.

    **Subclassing.** Like `TimedLock`, with the same hooks. `update` acquires the lock by ``with``, so it calls an
    overridden ``__enter__`` and ``__exit__``.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T, timeout: float | None = None, *, name: str | None = None) -> None:
        self._value = value
        super().__init__(timeout, name=name)

    # No interrupt is delivered between the return of a Python function and the return of its caller. The lock's own
    # methods are looked up on its class, because recordings and the check of lock orders replace them there. So does
    # the compiled core once a class has an `__enter__` of its own.

    def __enter__(self) -> T:  # type: ignore[override]  # it gives the value
        """Acquire the lock, wait at most the constructor's timeout, and return the value.

        Raises:
            LockTimeoutError: It was not free in time. The error names the holder.
            DeadlockError: This thread holds it already, or the wait would complete a cycle.
        """
        TimedLock.__enter__(self)
        return self._value

    def _enter_within(self, timeout: float | None) -> T:  # type: ignore[override]  # the same
        TimedLock._enter_within(self, timeout)
        return self._value

    def hold(self, timeout: float | None) -> AbstractContextManager[T]:  # type: ignore[override]  # the same
        """Return a context manager that acquires the lock with its own timeout and gives the value.

        You may keep it and use it again, even in several threads.

        Args:
            timeout: How long ``with`` waits, in seconds. None waits forever; 0 does not wait.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.

        Example:
            >>> from syncprims import Guarded
            >>> names = Guarded(["Ada"])
            >>> with names.hold(0.5) as known:
            ...     known.append("Grace")
        """
        return cast("AbstractContextManager[T]", super().hold(timeout))

    def update(self, fn: Callable[[T], T]) -> T:
        """Replace the value by the function's result for it, under the lock; return the new value.

        It waits for the lock at most the constructor's timeout.

        Args:
            fn: Called once with the value, while this thread holds the lock; keep it short.

        Returns:
            What the function returned, which is the value now.

        Raises:
            LockTimeoutError: The lock was not free in time; the function was not called.
            DeadlockError: This thread holds it already, for example because the function calls `update` itself.
            TypeError: The function can't be called, or is a coroutine or generator function, and a call would run none
                of its code.
            RuntimeError: The function raised StopIteration, which becomes a RuntimeError as in a generator.
            BaseException: The function raised it. The value is unchanged, and the lock is free.

        Example:
            >>> from syncprims import Guarded
            >>> best = Guarded(float("inf"))
            >>> best.update(lambda now: min(now, 3.5))
            3.5
        """
        check_runs(fn, "the function of update()")
        with self:
            # `attempt`, inlined: the function's result becomes the value before an interrupt can come.
            for made in starmap(fn, ((self._value,),)):
                self._value = made
                return made
            raise RuntimeError(STOPPED)

    @property
    def value(self) -> T:
        """The value, for the thread that holds the lock, which may also set it.

        It is for blocks that hold several locks, and for values that can't be changed in place.

        Raises:
            RuntimeError: The calling thread does not hold the lock.

        Example:
            >>> from syncprims import Guarded, acquire_all
            >>> mine, yours = Guarded(30), Guarded(0)
            >>> with acquire_all(mine, yours, timeout=1.0):
            ...     mine.value, yours.value = mine.value - 10, yours.value + 10
        """
        self._check_held()
        return self._value

    @value.setter
    def value(self, value: T) -> None:
        self._check_held()
        self._value = value

    def _check_held(self) -> None:
        if not self._is_owned():
            raise RuntimeError(
                f"the value of {words(self.name)} can be reached only by the thread that holds it: use it inside of "
                f"`with`"
            )
