"""`AtomicCounter`: a thread-safe integer with bounds, compare-and-set and waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import compress, filterfalse
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from .._core.foreign import words
from .._core.integers import Bounds, integer, shown
from .._core.interrupts import exhaust
from .._core.lazy import refuse_lazy
from .._core.observing import Observable
from .._core.reentrant import RLock
from .._core.registry import check_name, default_name, new_serial, register
from .._core.speedups import core, put
from .._core.state import State
from ..errors import DeadlockError
from .surface import CounterSurface
from .waiting import ValueWaiter, forget_others, telling

# How a change is made
# --------------------
# A change happens under a reentrant lock, as one read-modify-write that ends in one store, without a call in between.
# Interrupts and signal handlers come only after calls, so a change is made as a whole or not at all. If a handler or a
# finalizer changes the same counter, it does so before or after, never in the middle. The lock is reentrant so that
# this is possible.
#
# Waiters are notified right after the store, by one C call that was prepared before the store (see `waiting`). If a
# signal handler changes the value during the preparation, the notification is prepared again.
#
# `_special` decides how a change is made. None: on the fast path, which is inlined. "bounded": on the fast path too, if
# the bounds allow the new value. True: on the slow path, `_change`; for hooks, during update(), and from the arrival of
# a waiter until the first change that finds no waiter. So a plain counter without waiters pays for one test of None.
#
# With the compiled core the fast path is in C, `_special` is False while it may be used, and the Python methods always
# take the slow path. C changes the value without the lock, but never while `_special` is true. See `_speedups.c`.

_BOUNDED: Final = "bounded"

# `n` is nearly always this object, and a comparison with it costs less than a check of its type.
_ONE: Final = 1

_lock_of = attrgetter("_lock")
_special_of = attrgetter("_special")

if TYPE_CHECKING or core is None:

    class _Number:
        """The number, and the fields that every change reads."""

        __slots__ = ("_greatest", "_least", "_special", "_value")

        _value: int
        _special: object
        _least: float  # infinite if there is no bound
        _greatest: float
else:
    _Number = core.Counter


class AtomicCounter(CounterSurface, _Number):
    """A thread-safe integer: threads can change it at the same time, and no change is lost.

    Use it to count in several threads, for identifiers, for limits (``maximum=``), and as a latch that threads wait
    for. Think of the turnstile of a stadium: visitors pass one at a time, the count is always right, and a steward can
    wait until it shows a thousand.

    Args:
        value: The initial value, which `reset` restores.
        minimum: The least value allowed; None, the default, means no limit.
        maximum: The greatest value allowed; None, the default, means no limit.
        name: The counter's name in messages. The default is like ``AtomicCounter-7``.

    Raises:
        TypeError: A number is not an integer (a `bool` does not count as one), or the name is not a string.
        ValueError: The minimum is greater than the maximum.
        CounterBoundsError: The value is out of bounds.

    Example:
        >>> from syncprims import AtomicCounter
        >>> served = AtomicCounter()
        >>> served.increment()
        1
        >>> served.get_and_add(10)
        1
        >>> served.value, f"{served:05d}"
        (11, '00011')

    As in Java's ``AtomicInteger``, the name shows which value a method returns: `increment`, `decrement`, `add` and
    `update` return the new value, `get_and_add`, `get_and_set` and `reset` the old one. There is no ``+=``, because it
    would read like ``counter = counter + 1``. Counters are compared by identity. ``if counter:`` and a comparison with
    a number raise `TypeError`: use ``counter.value`` there.

    **Fairness.** None: a thread that arrives at the right moment may overtake others.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. A change is
    made as a whole or not at all, even if an interrupt (Ctrl-C, or any asynchronous exception) comes in the middle.

    **Differences from threading.** `threading` has no counter. ``n += 1`` on a plain integer can lose changes.

    **Subclassing.** Override the hook `_on_change`. It is called when the value has changed, in the thread that changed
    it, with no lock held. It must be short, and costs nothing unless overridden. Hooks of several threads may run out
    of order. Public methods may be overridden; none of them calls another.
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
        self._lock = RLock()
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
        """The value right now; never blocks."""
        return self._value

    @property
    def name(self) -> str:
        """The counter's name in messages."""
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

    # -- changing it -------------------------------------------------------------------------------------------- Each
    # of these methods repeats the fast path, because a call costs as much as the whole change.

    def increment(self, n: int = 1) -> int:
        """Add `n` and return the new value. It may wait for another thread's change: forever, if an `update` hangs.

        Args:
            n: Any integer, by default 1.

        Raises:
            TypeError: `n` is not an integer.
            CounterBoundsError: The sum is out of bounds. The value stays the same.
            DeadlockError: The call comes from inside this counter's own `update`.
        """
        if n is not _ONE and type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            way = self._special
            if way is None:
                value = self._value = self._value + n
                return value
            if way is _BOUNDED and self._least <= (value := self._value + n) <= self._greatest:
                self._value = value
                return value
        return self._change(n)[1]

    def decrement(self, n: int = 1) -> int:
        """Subtract `n` and return the new value; otherwise like `increment`."""
        if n is not _ONE and type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            way = self._special
            if way is None:
                value = self._value = self._value - n
                return value
            if way is _BOUNDED and self._least <= (value := self._value - n) <= self._greatest:
                self._value = value
                return value
        return self._change(-n)[1]

    def add(self, n: int) -> int:
        """Add `n` and return the new value; like `increment`."""
        if type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            way = self._special
            if way is None:
                value = self._value = self._value + n
                return value
            if way is _BOUNDED and self._least <= (value := self._value + n) <= self._greatest:
                self._value = value
                return value
        return self._change(n)[1]

    def get_and_add(self, n: int = 1) -> int:
        """Add `n` and return the old value; otherwise like `increment`.

        Example:
            >>> from syncprims import AtomicCounter
            >>> ticket = AtomicCounter(100)
            >>> ticket.get_and_add(), ticket.get_and_add()
            (100, 101)
        """
        if n is not _ONE and type(n) is not int:
            n = integer(n, "n")
        with self._lock:
            way = self._special
            if way is None:
                old = self._value
                self._value = old + n
                return old
            if way is _BOUNDED and self._least <= (value := (old := self._value) + n) <= self._greatest:
                self._value = value
                return old
        return self._change(n)[0]

    def set(self, new: int) -> None:
        """Set the value.

        Args:
            new: The new value; any integer.

        Raises:
            TypeError: It is not an integer.
            CounterBoundsError: It is out of bounds. The value stays the same.
            DeadlockError: The call comes from inside this counter's own `update`.
        """
        self._change(0, integer(new, "new"))

    def get_and_set(self, new: int) -> int:
        """Set the value and return the old one; otherwise like `set`."""
        return self._change(0, integer(new, "new"))[0]

    def reset(self) -> int:
        """Set the value to the initial one, and return the old one."""
        return self._change(0, self._initial)[0]

    def compare_and_set(self, expected: int, new: int) -> bool:
        """Set a new value if the current value is the expected one, in one step.

        Args:
            expected: The value that the counter must have.
            new: The value to set if the counter has the expected one.

        Returns:
            Whether the counter had the expected value, and now has the new one.

        Raises:
            TypeError: One of them is not an integer.
            CounterBoundsError: The new value is out of bounds, even if the counter does not have the expected value.
                The value stays the same.
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
        """Replace the value with ``fn(value)``, and return the new value.

        The function runs exactly once, in this thread, under the counter's lock: changes by other threads wait for it.
        So it must be short, and must not wait for anything.

        Args:
            fn: Takes the current value and returns the new one.

        Raises:
            TypeError: The function can't be called, or its result is not an integer (as with a coroutine function). The
                value stays the same.
            CounterBoundsError: The result is out of bounds. The value stays the same.
            DeadlockError: The function, or a signal handler that ran during it, tried to change this counter. One of
                the two changes would have been lost. The value stays the same.
            Exception: Whatever the function raises. The value stays the same.

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
                # This is the only place where the design allows the user's code to run under a lock.
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
        """Add `n` to the value, or replace the value by `new`, and return the old and the new value."""
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
            # A signal handler may have changed the value since. From here until all waiters are notified, no handler
            # can run. Nor can another thread change the value, because the core's fast path is closed.
            self._special = True
            if self._value == old:
                self._value = value
                # If this was an update, handlers may change the value again: its change is not lost any more.
                self._updating = False
                exhaust(news)
                return old, value

    def _refuse_in_update(self) -> None:
        if self._updating:
            raise DeadlockError(
                f"the function that {self.name!r}.update() runs has used the same counter, whose change would be lost; "
                f"let the function return the new value and do nothing else"
            )

    def _on_change(self, old: int, new: int, /) -> None:
        """Called when the value has changed, in the thread that changed it, with no lock held; for subclasses.

        Args:
            old: The value before.
            new: The value after; other threads may have changed it again.
        """

    # -- waiting for it -----------------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[int], bool], timeout: float | None = None) -> int:
        """Wait until the predicate is true for the value, and return that value.

        The predicate runs in this thread with no lock held: once at the start, and again after changes. As with
        `threading.Condition.wait_for`, it may miss a value that comes and goes between two calls. To wait until a value
        has been reached, use `wait_until`.

        Args:
            predicate: Takes a value and returns whether to stop waiting.
            timeout: How long to wait, in seconds. None, the default, waits forever; 0 checks once.

        Raises:
            CounterTimeoutError: The time was up. The error has the value at that time.
            TypeError: The predicate can't be called, or is a coroutine function or the like.
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
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
        """Wait until the value is at least this one, like a latch, and return the value.

        Args:
            value: The value to wait for.
            timeout: How long to wait, in seconds. None, the default, waits forever; 0 checks once.

        Raises:
            CounterTimeoutError: The time was up. The error has the value at that time.
            TypeError: The value is not an integer.
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
            DeadlockError: The call comes from inside this counter's own `update`.

        Example:
            >>> import threading
            >>> from syncprims import AtomicCounter
            >>> arrived = AtomicCounter()
            >>> for _ in range(3):
            ...     threading.Thread(target=arrived.increment).start()
            ...
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
        """Return None: no known thread has to act before a waiter can go on."""

    def _is_mine(self) -> bool:
        return False

    def _state(self) -> State:
        return State(self, type(self).__name__, self.name, value=self._value)

    _observable: ClassVar[Observable] = Observable({})  # only its waits can be observed

    @staticmethod
    def _after_fork(counters: Collection[AtomicCounter]) -> None:
        for counter in compress(counters, map(_special_of, counters)):
            forget_others(counter._waiters)
            if not counter._lock._is_owned():
                counter._updating = False
                counter._special = True if counter._waiters else counter._ordinarily
        deque(map(RLock._at_fork_reinit, filterfalse(RLock._is_owned, map(_lock_of, counters))), 0)


put(AtomicCounter, "increment", "decrement", "add", "get_and_add", "set", "get_and_set", "compare_and_set")
if core is not None:
    AtomicCounter.value = core.Counter.value  # type: ignore[method-assign]  # the same, in C
