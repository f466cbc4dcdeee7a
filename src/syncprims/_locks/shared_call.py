"""`SharedCalls`: one call for all threads that ask for it at the same time; for `once` and `SingleFlight`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Self, TypeVar

from .._core import foreign
from .._core.deadlocks import own_deadlock
from .._core.foreign import context_of, is_interrupt, set_context, set_traceback, traceback_of
from .._core.holders import describe
from .._core.interrupts import attempt
from .._core.state import State
from ..errors import LockTimeoutError
from .timed_lock import TimedLock

# A call is a lock. All threads that ask at the same time find the same call and acquire its lock. The first runs the
# function and stores the outcome; the others find the outcome. So timeout, holder, wait-for graph, reports, recordings,
# fork and interrupts are those of `TimedLock`. A later call has its own lock, so no later thread can get in before the
# threads that wait for the outcome.
#
# The open call is in a dictionary with one entry, because `setdefault` is one call of C. The thread that stores the
# outcome removes the call before it releases the lock. A call stays open if an interrupt ended it, or if its thread
# vanished in a fork. Then the next thread that gets the lock runs its own function as this call.
#
# The outcome is stored without a call in between, so an interrupt right after the function does not make it run twice.
#
# An exception refers to its traceback, the traceback to the frames, and the frames to the call. So the functions here
# delete the variables that would complete that reference cycle.

R = TypeVar("R")


class SharedCalls(Generic[R]):
    """Calls of which at most one is open at a time.

    Args:
        kind: The kind of this object in reports.
        limit: How long to wait for another thread, in seconds; None waits forever.
        say_name: Returns its name in messages.
    """

    __slots__ = ("__weakref__", "_kind", "_limit", "_open", "_say_name")

    def __init__(self, kind: str, limit: float | None, say_name: Callable[[], str]) -> None:
        self._kind = kind
        self._limit = limit
        self._say_name = say_name
        self._open: dict[None, _SharedCall[R]] = {}

    def share(self, fn: Callable[[], R]) -> R:
        """Return the result of the call that is open, or call `fn` if none is.

        Raises:
            LockTimeoutError: The call of another thread did not end in time.
            DeadlockError: This thread runs the call itself, or the call waits for this thread.
            BaseException: What the function raises.
        """
        call = self._open.get(None)
        try:
            if call is None:
                call = self._open.setdefault(None, _SharedCall(self._kind, self._limit, self._say_name))
            try:
                with call:
                    if call.is_open:
                        call.run(fn, self._open)
            except LockTimeoutError:
                if call.is_open:  # otherwise the lock was only held by threads that fetch the outcome
                    raise
            return call.outcome()
        finally:
            del call


class _SharedCall(TimedLock, Generic[R]):
    """One call. It is a lock, which the thread that runs the function holds.

    Attributes:
        is_open: Whether it has no outcome yet.
    """

    __slots__ = ("_context", "_error", "_kind", "_result", "_say_name", "_traceback", "is_open")

    def __init__(self, kind: str, limit: float | None, say_name: Callable[[], str]) -> None:
        self._kind = kind
        self._say_name = say_name
        self._result: tuple[R] | None = None
        self._error: BaseException | None = None
        self.is_open = True
        super().__init__(limit)

    @property
    def name(self) -> str:
        """Its name in messages, made only when it is needed."""
        return self._say_name()

    def run(self, fn: Callable[[], R], known: dict[None, Self]) -> None:
        """Call the function; keep the outcome if it may be shared, and then remove the call from `known`."""
        try:
            self._result = (attempt(fn),)
            self.is_open = False
        except BaseException as error:
            # Any other exception, such as Ctrl-C, belongs to the thread in which it was raised.
            if isinstance(error, Exception) and not is_interrupt(error):
                self._traceback, self._context = traceback_of(error), context_of(error)
                self._error = error
                self.is_open = False
            raise
        finally:
            if not self.is_open:
                known.clear()
            del self, known

    def outcome(self) -> R:
        """Return the result, or raise the error."""
        if self._result is not None:
            return self._result[0]
        assert self._error is not None
        error, traceback, context = self._error, self._traceback, self._context
        del self
        if not foreign.SEVERAL_MAY_RAISE:  # each waiter raises a copy; the thread that ran `fn` raises the original
            error = foreign.own_copy(error)
        # The traceback begins with the function's for each thread; otherwise it would grow with each of them. And the
        # error's context must not be an exception that this thread happens to be handling.
        try:
            raise set_traceback(error, traceback)
        finally:
            set_context(error, context)
            del error, traceback, context

    def _late(self, limit: float | None, waited: float, why: str | None = None) -> LockTimeoutError:
        holder = self.holder
        return super()._late(limit, waited, f"which runs in {describe(holder)}" if holder else why)

    def _enter_again(self) -> Self:
        raise own_deadlock(self.name, "do not ask for it inside of its own function")

    def _state(self) -> State:
        return State(self, self._kind, self.name, self._owner(), is_lock=True)
