"""`AtomicCounter`: an integer that threads change together, with bounds, compare-and-set and waiting."""

from __future__ import annotations

import sys
from _thread import RLock
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from itertools import compress, filterfalse
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from .._core.foreign import words
from .._core.integers import Bounds, integer, shown
from .._core.interrupts import exhaust
from .._core.lazy import refuse_lazy
from .._core.observing import Observable
from .._core.registry import InnerName, check_name, default_name, new_serial, register
from .._core.speedups import core, put
from .._core.state import State
from .._locks.timed_lock import TimedRLock
from ..errors import DeadlockError
from .surface import CounterSurface
from .waiting import ValueWaiter, forget_others, telling

# How a change is made
# --------------------
# Under a re-entrant lock, as one read-modify-write that ends in one store, without a call in between. Interrupts and
# signal handlers come in after calls only, so a change is made or not made, and a handler or a finalizer that changes
# the same counter does so before or after, never in the middle; re-entrancy lets it.
#
# The lock is the C one, entered by `with`. On 3.14 and later an interrupt may come between that entering and the body
# (gh-148874), so there it is the library's own, which lets none in.
#
# Those who wait are told right after the store, by one C call that was prepared before it (see `_waiters`). Should a
# signal handler change the value during the preparation, it is made anew.
#
# `_special` says which way a change goes. None: the short way, in place. "bounded": the short way too, if the bounds
# allow the new value. True: the long way, `_change`; for hooks, during update(), and from the coming of a thread that
# waits to the first change that finds no thread waiting. So a plain counter on which no thread waits pays for one look
# at a None.
#
# With the compiled core the short way is C's, `_special` is False while it is open, and the Python methods always take
# the long one. C changes the value without the lock, but never while `_special` is true. See `_speedups.c`.

_BOUNDED: Final = "bounded"

# What `n` is, as nearly always; looking whether it is costs less than looking what type it has.
_ONE: Final = 1

_Lock: Any = TimedRLock if sys.version_info >= (3, 14) else RLock
_Guard: Callable[[], Any] = partial(_Lock, name=InnerName("the lock of a counter")) if _Lock is TimedRLock else _Lock
_lock_of = attrgetter("_lock")
_special_of = attrgetter("_special")

if TYPE_CHECKING or core is None:

    class _Number:
        """Where the number is, and what is looked at whenever it changes."""

        __slots__ = ("_greatest", "_least", "_special", "_value")

        _value: int
        _special: object
        _least: float  # infinite if there is no bound
        _greatest: float
else:
    _Number = core.Counter


class AtomicCounter(CounterSurface, _Number):
    """An integer that any number of threads may change without losing a change.

    Use it for counts that several threads add to, for identifiers, for limits (``maximum=``), and as a latch that
    threads wait for. It is the turnstile at a stadium's gates: everybody passes one at a time, the number on it is
    always right, and the steward can wait until it shows a thousand.

    Args:
        value: What it starts with and what `reset` returns it to.
        minimum: The least value allowed; None, the default, sets no limit.
        maximum: The greatest value allowed; None, the default, sets no limit.
        name: What messages call it; by default ``AtomicCounter-7`` or the like.

    Raises:
        TypeError: A number is not an integer (`bool` is not one here), or the name not a string.
        ValueError: The minimum is greater than the maximum.
        CounterBoundsError: The value is outside them.

    Example:
        >>> from syncprims import AtomicCounter
        >>> served = AtomicCounter()
        >>> served.increment()
        1
        >>> served.get_and_add(10)
        1
        >>> served.value, f"{served:05d}"
        (11, '00011')

    The names say which value comes back, as those of Java's ``AtomicInteger`` do: `increment`, `decrement`, `add` and
    `update` return the new one, `get_and_add`, `get_and_set` and `reset` the old one. There is no ``+=``, since it
    would read as ``counter = counter + 1``. Comparing counters compares identity; ``if counter:`` and comparing
    one with a number raise `TypeError`, since it is its ``value`` that is meant.

    **Fairness.** None: whoever comes at the right moment goes first.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. A change is
    made whole or not at all, also when an interrupt (Ctrl-C, or any asynchronous exception) comes in the middle.

    **Differences from threading.** `threading` has no counter. ``n += 1`` on a plain integer loses changes.

    **Subclassing.** One hook is there to be overridden: `_on_change`, called after a change that was one, in the thread
    that made it, with no lock held; it must be short and costs nothing unless overridden. Hooks of several threads may
    run out of order. Public methods may be overridden; none of them calls another.
    """

    __slots__ = (
        "__weakref__",
        "_bounds",
        "_initial",
        "_lock",
        "_name",
        "_ordinarily",
        "_serial",
        "_updating",
        "_waiters",
    )

    def __init__(
        self, value: int = 0, *, minimum: int | None = None, maximum: int | None = None, name: str | None = None
    ) -> None:
        # Immutable:
        self._initial = integer(value, "value")
        self._bounds = Bounds(minimum, maximum)
        self._name = check_name(name)
        self._least = -inf if self._bounds.minimum is None else self._bounds.minimum
        self._greatest = inf if self._bounds.maximum is None else self._bounds.maximum
        bounded = minimum is not None or maximum is not None
        hooked = type(self)._on_change is not AtomicCounter._on_change
        self._ordinarily: object = True if hooked else _BOUNDED if bounded else None
        if core is not None and not hooked:
            self._ordinarily = False
        self._lock = _Guard()
        # Guarded by _lock:
        self._value = self._initial
        self._updating = False
        self._waiters: dict[ValueWaiter, None] = {}
        self._special = self._ordinarily
        self._serial = new_serial()
        self._bounds.check(self._initial, self, self._initial)
        register(self, self._serial)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def value(self) -> int:
        """The value at this moment; never blocks."""
        return self._value

    @property
    def name(self) -> str:
        """What messages call the counter."""
        return default_name(self, self._serial) if self._name is None else self._name

    def __repr__(self) -> str:
        kind = type(self)
        module = "syncprims" if kind.__module__ == __name__ else kind.__module__
        return f"<{module}.{kind.__qualname__} object {self.name!r} at {shown(self._value)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: a counter belongs to one process; send its value, and let callbacks of "
            f"a CallbackPool count in this process"
        )

    # -- changing it --------------------------------------------------------------------------------------------
    # The short way stands in each of these, since a call costs as much as the whole change.

    def increment(self, n: int = 1) -> int:
        """Add `n` and return the new value. May wait for another thread's change, for ever if its `update` hangs.

        Args:
            n: What to add; any integer, by default 1.

        Raises:
            TypeError: It is not an integer.
            CounterBoundsError: The sum is out of bounds. The value stays.
            DeadlockError: The call comes from inside this counter's own `update`.
        """
        if n is not _ONE and type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            if self._special is None:
                value = self._value = self._value + n
                return value
            if self._special is _BOUNDED and self._least <= (value := self._value + n) <= self._greatest:
                self._value = value
                return value
        return self._change(n)[1]

    def decrement(self, n: int = 1) -> int:
        """Subtract `n` and return the new value; in all else as `increment`."""
        if n is not _ONE and type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            if self._special is None:
                value = self._value = self._value - n
                return value
            if self._special is _BOUNDED and self._least <= (value := self._value - n) <= self._greatest:
                self._value = value
                return value
        return self._change(-n)[1]

    def add(self, n: int) -> int:
        """Add `n` and return the new value; in all as `increment`."""
        if type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            if self._special is None:
                value = self._value = self._value + n
                return value
            if self._special is _BOUNDED and self._least <= (value := self._value + n) <= self._greatest:
                self._value = value
                return value
        return self._change(n)[1]

    def get_and_add(self, n: int = 1) -> int:
        """Add `n` and return the old value; in all else as `increment`.

        Example:
            >>> from syncprims import AtomicCounter
            >>> ticket = AtomicCounter(100)
            >>> ticket.get_and_add(), ticket.get_and_add()
            (100, 101)
        """
        if n is not _ONE and type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            if self._special is None:
                old = self._value
                self._value = old + n
                return old
            if self._special is _BOUNDED and self._least <= (value := (old := self._value) + n) <= self._greatest:
                self._value = value
                return old
        return self._change(n)[0]

    def set(self, new: int) -> None:
        """Set the value.

        Args:
            new: The new value; any integer.

        Raises:
            TypeError: It is not an integer.
            CounterBoundsError: It is out of bounds. The value stays.
            DeadlockError: The call comes from inside this counter's own `update`.
        """
        self._change(0, integer(new, "new"))

    def get_and_set(self, new: int) -> int:
        """Set the value and return the old one; in all else as `set`."""
        return self._change(0, integer(new, "new"))[0]

    def reset(self) -> int:
        """Set the value back to what the counter was made with, and return the old one."""
        return self._change(0, self._initial)[0]

    def compare_and_set(self, expected: int, new: int) -> bool:
        """Set the value if it is the expected one, in one step.

        Args:
            expected: The value that it must have.
            new: The value that it is to get.

        Returns:
            Whether it was the expected one, and so was set.

        Raises:
            TypeError: One of them is not an integer.
            CounterBoundsError: The new value is out of bounds, whatever the present one is. The value stays.
            DeadlockError: The call comes from inside this counter's own `update`.

        Example:
            >>> from syncprims import AtomicCounter
            >>> state = AtomicCounter(0)
            >>> state.compare_and_set(0, 1), state.compare_and_set(0, 2)
            (True, False)
        """
        if type(expected) is not int:
            expected = integer(expected, "expected")
        if type(new) is not int:
            new = integer(new, "new")
        with self._lock:
            way = self._special
            if way is None or (way is _BOUNDED and self._least <= new <= self._greatest):
                if self._value == expected:
                    self._value = new
                    return True
                return False
        self._bounds.check(new, self, self._value)
        old, _ = self._change(0, new, expected)
        return old == expected

    def update(self, fn: Callable[[int], int]) -> int:
        """Set the value to what a function makes of it, and return that.

        The function runs exactly once, in this thread, and under the counter's lock: changes by other threads wait
        for it. So it must be short and must not wait for anything.

        Args:
            fn: Takes the present value and returns the new one.

        Raises:
            TypeError: It is not callable, or what it returned is not an integer (as of a coroutine function). The value
                stays.
            CounterBoundsError: What it returned is out of bounds. The value stays.
            DeadlockError: It, or a signal handler that came in, tried to change this same counter, whose change one of
                the two would have undone. The value stays.
            Exception: Whatever the function raises. The value stays.

        Example:
            >>> from syncprims import AtomicCounter
            >>> AtomicCounter(5).update(lambda value: value * 2)
            10
        """
        if not callable(fn):
            raise TypeError(f"update needs a function of the value, not {words(fn)}")
        with self._lock:
            self._refuse_in_update()
            self._updating = self._special = True
            try:
                # User code under a lock: the one place where the design says so.
                answer = fn(self._value)
                if type(answer) is not int:
                    refuse_lazy(answer, "the function of update()")
                new = integer(answer, "what the function returned")
                old, _ = self._store(0, new)
            finally:
                self._updating = False
                self._special = True if self._waiters else self._ordinarily
        if old != new:
            self._on_change(old, new)
        return new

    def _change(self, n: int, new: int | None = None, expected: int | None = None) -> tuple[int, int]:
        """Add `n` to the value, or to `new` in its place, and return the old and the new value."""
        with self._lock:
            self._refuse_in_update()
            try:
                old, value = self._store(n, new, expected)
            finally:
                self._special = True if self._waiters else self._ordinarily
        if old != value:
            self._on_change(old, value)
        return old, value

    def _store(self, n: int, new: int | None, expected: int | None = None) -> tuple[int, int]:
        while True:
            old = self._value
            if expected is not None and old != expected:
                return old, old
            value = old + n if new is None else new
            self._bounds.check(value, self, old)
            news = telling(self._waiters, value)
            # A signal handler may have changed the value since. From here until all are told none comes in. Nor does
            # another thread, as the core's short way is closed.
            self._special = True
            if self._value == old:
                self._value = value
                self._updating = False  # if this was an update, handlers may come again: their change is not undone now
                exhaust(news)
                return old, value

    def _refuse_in_update(self) -> None:
        if self._updating:
            raise DeadlockError(
                f"the function that {self.name!r}.update() runs has used the same counter, whose change would be lost; "
                f"let the function return the new value and do nothing else"
            )

    def _on_change(self, old: int, new: int, /) -> None:
        """Called after the value has changed, in the thread that changed it, with no lock held; for subclasses.

        Args:
            old: The value before.
            new: The value after; other threads may have changed it again.
        """

    # -- waiting for it -----------------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[int], bool], timeout: float | None = None) -> int:
        """Wait until the predicate is true of the value, and return that value.

        The predicate runs in this thread, under no lock, first at once and then after changes. As with
        `threading.Condition.wait_for`, a value that comes and goes between two looks may never be looked at; to wait
        for a value that may be passed, use `wait_until`.

        Args:
            predicate: Takes a value and says whether it is the one.
            timeout: How long to wait, in seconds; None, the default, waits for ever and 0 looks once.

        Raises:
            CounterTimeoutError: The time was up; it carries the value then.
            TypeError: The predicate is not callable, or is a coroutine function or the like.
            ValueError: The timeout is negative or NaN.
            OverflowError: It is larger than `threading.TIMEOUT_MAX`.
            DeadlockError: The call comes from inside this counter's own `update`.
            Exception: Whatever the predicate raises.

        Example:
            >>> from syncprims import AtomicCounter
            >>> AtomicCounter(6).wait_for(lambda value: value % 2 == 0, timeout=1.0)
            6
        """
        if not callable(predicate):
            raise TypeError(f"wait_for needs a function of the value, not {words(predicate)}")
        return ValueWaiter(predicate, "a value that the predicate accepts").wait(self, timeout)

    def wait_until(self, value: int, timeout: float | None = None) -> int:
        """Wait until the value is at least this one, as a latch, and return what it then is.

        Args:
            value: What to wait for.
            timeout: How long to wait, in seconds; None, the default, waits for ever and 0 looks once.

        Raises:
            CounterTimeoutError: The time was up; it carries the value then.
            TypeError: The value is not an integer.
            ValueError: The timeout is negative or NaN.
            OverflowError: It is larger than `threading.TIMEOUT_MAX`.
            DeadlockError: The call comes from inside this counter's own `update`.

        Example:
            >>> import threading
            >>> from syncprims import AtomicCounter
            >>> arrived = AtomicCounter()
            >>> for _ in range(3):
            ...     threading.Thread(target=arrived.increment).start()
            >>> arrived.wait_until(3, timeout=10.0)
            3
        """
        goal = integer(value, "value")
        return ValueWaiter(goal.__le__, f"{shown(goal)} or more", goal).wait(self, timeout)

    def _admit(self, waiter: ValueWaiter) -> None:
        with self._lock:
            self._refuse_in_update()
            self._waiters[waiter] = None
            self._special = True

    def _up_to(self, waiter: int) -> None:
        """No thread that is known has to act before a waiter can go on."""

    def _is_mine(self) -> bool:
        return False

    def _state(self) -> State:
        return State(self, type(self).__name__, self.name, value=self._value)

    _observable: ClassVar[Observable] = Observable({})  # there is nothing but its waits

    @staticmethod
    def _after_fork(counters: Collection[AtomicCounter]) -> None:
        for counter in compress(counters, map(_special_of, counters)):
            forget_others(counter._waiters)
            if not counter._lock._is_owned():
                counter._updating = False
                counter._special = True if counter._waiters else counter._ordinarily
        deque(map(_Lock._at_fork_reinit, filterfalse(_Lock._is_owned, map(_lock_of, counters))), 0)


put(AtomicCounter, "increment", "decrement", "add", "get_and_add", "set", "get_and_set", "compare_and_set")
if core is not None:
    AtomicCounter.value = core.Counter.value  # type: ignore[method-assign]  # the same, in C
