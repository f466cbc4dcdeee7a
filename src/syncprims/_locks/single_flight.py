"""`SingleFlight`: callers that ask for the same key at the same time share one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, NoReturn, TypeVar

from .._core.deadline import check_timeout
from .._core.foreign import words
from .._core.lazy import check_runs
from .._core.registry import check_name, default_name, new_serial
from .in_use import InUse
from .shared_call import SharedCalls

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class SingleFlight(Generic[K, R]):
    """Callers that ask for the same key at the same time share one call: no cache stampede.

    Use it if many threads may notice at the same time that something is missing, such as an expired cache entry, and
    all of them would fetch it. Think of guests at a table who ask about the soup: the waiter goes to the kitchen once,
    and all guests who ask before the answer comes get it. A guest who asks later sends the waiter again.

    It keeps no result; use a cache for that. The name comes from Go's ``singleflight``.

    Args:
        timeout: How long a caller waits for the call of another thread, in seconds. None, the default, waits forever; 0
            does not wait. It does not limit the caller's own call.
        name: The name in messages. The default is like ``SingleFlight-7``.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number, or the name is not a string.

    Example:
        >>> from syncprims import SingleFlight
        >>> pages: SingleFlight[str, str] = SingleFlight(timeout=10.0, name="pages")
        >>> pages.do("/soup", lambda: "tomato")
        'tomato'

    **Fairness.** A caller that waits for a call gets its outcome. A later caller has its own call.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. An interrupt
    at any point leaves no waiting caller and no key behind. Only ``__hash__`` and ``__eq__`` of a key are called, with
    no lock held. A key is dropped at the next call with any key. In a forked child the calls of other threads don't
    exist, so a caller there makes its own call.

    **Differences from threading.** `threading` has nothing like it. A lock around the fetch makes the callers fetch one
    after the other.

    **Subclassing.** There are no hooks. `do` may be overridden.
    """

    __slots__ = ("__weakref__", "_calls", "_name", "_serial", "_timeout")

    def __init__(self, timeout: float | None = None, *, name: str | None = None) -> None:
        self._timeout = check_timeout(timeout)
        self._name = check_name(name)
        self._serial = new_serial()
        self._calls: _CallsByKey[K, R] = _CallsByKey(self.name, self._timeout)

    @property
    def name(self) -> str:
        """The name in messages."""
        return default_name(self, self._serial) if self._name is None else self._name

    @property
    def timeout(self) -> float | None:
        """How long a caller waits for the call of another thread, in seconds; None waits forever."""
        return self._timeout

    def do(self, key: K, fn: Callable[[], R]) -> R:
        """Call the function, or wait for the call that another thread makes for the same key, and return its result.

        The result always comes from a call that was still running when this method was called, or that began later.

        Args:
            key: What the result is for: anything that can be a dictionary's key.
            fn: Called without arguments if no call for the key is running.

        Returns:
            The result of the call: the same object for all callers that share it.

        Raises:
            LockTimeoutError: The call of another thread did not end in time. The error says which thread and where it
                is. That call goes on, and other callers get its result.
            DeadlockError: The function of a key asks for the same key, or the wait for the thread that runs the call
                would complete a cycle.
            TypeError: The key can't be hashed, or the function can't be called or is a coroutine or generator function,
                and a call would run none of its code.
            RuntimeError: The function raised StopIteration, which becomes a RuntimeError as in a generator.
            BaseException: The function raised it. All callers that share the call get it; on Python 3.13 without the
                GIL, those that waited get copies. An interrupt (Ctrl-C, the
                exception of a signal handler, or any exception that is not an `Exception`) is raised only in the thread
                in which it came. One of the other callers then makes another call, with its own function.

        Example:
            >>> from syncprims import SingleFlight
            >>> cache: dict[int, int] = {}
            >>> flight: SingleFlight[int, int] = SingleFlight()
            >>> def square(n: int) -> int:
            ...     if n not in cache:
            ...         cache[n] = flight.do(n, lambda: n * n)
            ...     return cache[n]
            ...
            >>> square(12)
            144
        """
        check_runs(fn, "the function of do()")
        return self._calls[key].share(fn)

    def __repr__(self) -> str:
        return f"<syncprims.{type(self).__name__} {self.name!r}, {len(self._calls)} calls>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {self!r}: it belongs to one process; make one where it is needed")


class _CallsByKey(InUse[K, SharedCalls[R]]):
    """The calls that are running, by their keys."""

    __slots__ = ("_limit", "_of")

    def __init__(self, of: str, limit: float | None) -> None:
        super().__init__()
        self._of = of
        self._limit = limit

    def _make(self, key: K) -> SharedCalls[R]:
        return SharedCalls("SingleFlight", self._limit, partial(_say_name, self._of, key))


def _say_name(of: str, key: object) -> str:
    return f"{of}[{words(key)}]"
