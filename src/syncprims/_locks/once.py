"""`once`: a decorator that makes a function run once, even if many threads call it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType
from typing import Final, TypeVar, overload

from .._core.deadline import check_timeout
from .._core.foreign import guarded, name_of, words
from .._core.interrupts import attempt
from .._core.lazy import check_runs
from .shared_call import SharedCalls

R = TypeVar("R")

# The flags of code objects for ``*args`` and ``**kwargs``: a wrapper has these, whatever the wrapped function takes.
_NAMELESS: Final = 0x04 | 0x08


@overload
def once(fn: Callable[[], R], *, timeout: float | None = None) -> Callable[[], R]: ...
@overload
def once(fn: None = None, *, timeout: float | None = None) -> Callable[[Callable[[], R]], Callable[[], R]]: ...
def once(
    fn: Callable[[], R] | None = None, *, timeout: float | None = None
) -> Callable[[], R] | Callable[[Callable[[], R]], Callable[[], R]]:
    """Make a function run once, even if many threads call it; every call returns the result of that one run.

    Use it for things that are made on first use: a connection, a table that takes long to load. Think of a mountain
    hut: the first guest lights the stove, guests who come at the same time wait, and later guests find it warm.

    ``@once`` and ``@once(timeout=2.0)`` both work. The function must not take arguments, so it can't be a method. For a
    result of each object, wrap the bound method in ``__init__``: ``self.table = once(self._load_table)``. The decorated
    function has the name, the docstring and the ``__wrapped__`` that `functools.wraps` sets.

    Args:
        fn: The function.
        timeout: How long a call waits for another thread that runs the function, in seconds. None, the default, waits
            forever; 0 does not wait. It does not limit the run itself.

    Raises:
        TypeError: At the decoration: the function can't be called, takes arguments, or is a coroutine or generator
            function, and a call would run none of its code. Or the timeout is not a number.
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        LockTimeoutError: At a call: another thread ran the function for longer than the timeout. The error says which
            thread and where it is.
        DeadlockError: At a call: the function calls itself, or the wait for the thread that runs it would complete a
            cycle.

    Example:
        >>> from syncprims import once
        >>> @once
        ... def settings():
        ...     print("loading")
        ...     return {"colour": "blue"}
        ...
        >>> settings() is settings()
        loading
        True

    **Errors.** If the function raises an exception, its caller and all threads that wait at that time get this
    exception. (On Python 3.13 without the GIL, those that waited get copies. A StopIteration becomes a RuntimeError, as
    in a generator.) The next call runs the function again. An interrupt (Ctrl-C, the exception of a signal handler, or
    any exception that is not an `Exception`) is raised only in the thread in which it came, and one of the waiting
    threads runs the function again.

    **Fairness.** None is needed, because all callers get the same result.

    **Thread safety.** The decorated function may be called from any thread, and from signal handlers and finalizers.
    Once the function has returned, its result is kept, even if an interrupt comes right after. A call that finds the
    result acquires no lock. A forked child has the result if there was one. If another thread was running the function,
    the child runs it itself.

    **Differences from functools.** Of two threads that call a function with `functools.cache` at once, both run it.
    """
    limit = check_timeout(timeout)
    if fn is None:
        return partial(_run_once, limit=limit)
    return _run_once(fn, limit)


def _run_once(fn: Callable[[], R], limit: float | None) -> Callable[[], R]:
    check_runs(fn, "the function of once()")
    _refuse_arguments(fn)
    calls = _Once(fn, limit)

    @wraps(fn)
    def run_once() -> R:
        kept = calls.kept
        return calls.share(calls.run) if kept is None else kept[0]

    return run_once


class _Once(SharedCalls[R]):
    """The calls of one function, until there is a result.

    Attributes:
        kept: The result, as the one item of a tuple; None as long as there is none.
    """

    __slots__ = ("_fn", "kept")

    def __init__(self, fn: Callable[[], R], limit: float | None) -> None:
        super().__init__("once", limit, partial(name_of, fn))
        self._fn = fn
        self.kept: tuple[R] | None = None

    def run(self) -> R:
        """Call the function, unless it has run since this thread last looked, and keep its result."""
        if self.kept is None:
            self.kept = (attempt(self._fn),)
        return self.kept[0]


def _takes_any(fn: FunctionType) -> int:
    code = fn.__code__
    return code.co_argcount or code.co_kwonlyargcount or code.co_flags & _NAMELESS


def _refuse_arguments(fn: Callable[..., object]) -> None:
    if type(fn) is FunctionType and not _takes_any(fn):
        return  # the usual case; `inspect` takes long to import
    from inspect import Parameter, signature

    found = guarded(None, signature, fn)
    named = [
        each.name
        for each in ([] if found is None else found.parameters.values())
        if each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and (each.default is Parameter.empty or type(fn) is FunctionType)
    ]
    if named:
        raise TypeError(
            f"once() takes a function without arguments, and {words(name_of(fn))} takes {', '.join(named)}: its result "
            f"would depend on them. For a method use functools.cached_property; for calls with a key, SingleFlight"
        )
