"""`Guarded`: a value that is reached under its lock alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import starmap
from typing import Generic, TypeVar, cast

from .._core.foreign import words
from .._core.lazy import check_runs
from .timed_lock import TimedLock

# It is a lock, and does not have one: a `with` on it costs what one on a lock costs, and everything that knows locks
# knows it (`acquire_all`, the wait-for graph, fork, reports, recordings).

T = TypeVar("T")


class Guarded(TimedLock, Generic[T]):
    """A value together with its lock: the only way to the value is through the lock.

    Use it for state that several threads share, so that no code can forget the lock. It is the bank's counter behind
    glass: who wants something from it has to stand at the window, and there is room for one.

    It is a `TimedLock` whose ``with`` gives the value, so all that this page does not name is as there.

    Args:
        value: The value; it is never compared, copied or printed.
        timeout: How long ``with`` and `update` wait, in seconds; None, the default, is forever and 0 is not at all.
        name: What messages call it; by default ``Guarded-7`` or the like.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: It is larger than `threading.TIMEOUT_MAX`.
        TypeError: It is not a number, or the name is not a string.

    Example:
        >>> from syncprims import Guarded
        >>> stock = Guarded({"bolts": 3}, timeout=2.0, name="stock")
        >>> with stock as shelves:
        ...     shelves["bolts"] -= 1
        >>> total = Guarded(0)
        >>> total.update(lambda n: n + 5)
        5

    A value that can be changed in place, such as a dictionary, is changed in the ``with``. One that can't, such as a
    number, is replaced by `update`, or by setting `value` in the ``with``. Do not keep the object that the ``with``
    gives: after the block the lock no longer guards it.

    **Fairness.** None, as with `TimedLock`.

    **Thread safety.** As `TimedLock`. An interrupt in `update` either leaves the old value or has set the new one, and
    the lock is free. A block that is cut off leaves a value in place that it has changed in part, as any exception
    there does.

    **Differences from threading.** `threading` has nothing like it. As a lock, it differs as `TimedLock` does: only the
    holder may release it, and a thread that enters it twice gets a `DeadlockError`.

    **Subclassing.** As `TimedLock`, with the same hooks. `update` takes the lock by ``with``, so it reaches an
    overridden ``__enter__`` and ``__exit__``.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T, timeout: float | None = None, *, name: str | None = None) -> None:
        self._value = value
        super().__init__(timeout, name=name)

    # Between the return of a Python function and that of its caller no interrupt is delivered. The lock's own functions
    # are looked up on its class, since recordings and the check of lock orders replace them there.

    def __enter__(self) -> T:  # type: ignore[override]  # the value is what it is for
        """Take the lock, waiting at most the constructor's timeout, and return the value.

        Raises:
            LockTimeoutError: It was not free in time; the error says which thread held it.
            DeadlockError: This thread holds it already, or waiting would close a cycle of waiting threads.
        """
        TimedLock.__enter__(self)
        return self._value

    def _enter_within(self, timeout: float | None) -> T:  # type: ignore[override]  # the same
        TimedLock._enter_within(self, timeout)
        return self._value

    def hold(self, timeout: float | None) -> AbstractContextManager[T]:  # type: ignore[override]  # the same
        """Return a context manager that takes the lock and gives the value, with a timeout of its own.

        It may be kept and used again, and by several threads.

        Args:
            timeout: In seconds, instead of the constructor's; None is forever and 0 is not at all.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: It is larger than `threading.TIMEOUT_MAX`.

        Example:
            >>> from syncprims import Guarded
            >>> names = Guarded(["Ada"])
            >>> with names.hold(0.5) as known:
            ...     known.append("Grace")
        """
        return cast("AbstractContextManager[T]", super().hold(timeout))

    def update(self, fn: Callable[[T], T]) -> T:
        """Replace the value by what the function makes of it, under the lock; return the new value.

        It waits for the lock at most the constructor's timeout.

        Args:
            fn: Called once with the value, while this thread holds the lock; keep it short.

        Returns:
            What the function returned, which is the value now.

        Raises:
            LockTimeoutError: The lock was not free in time; the function was not called.
            DeadlockError: This thread holds it already, as when the function calls `update` itself.
            TypeError: The function can't be called, or is a coroutine function or a generator function, of which a call
                would run nothing.
            BaseException: What the function raises. The value is unchanged, and the lock is free.

        Example:
            >>> from syncprims import Guarded
            >>> best = Guarded(float("inf"))
            >>> best.update(lambda now: min(now, 3.5))
            3.5
        """
        check_runs(fn, "the function of update()")
        with self:
            # `attempt`, in place: what the function returned is the value before an interrupt comes.
            (self._value,) = starmap(fn, ((self._value,),))
            return self._value

    @property
    def value(self) -> T:
        """The value, for the thread that holds the lock; it may be set in the same way.

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
