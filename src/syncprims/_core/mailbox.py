"""`Mailbox`: a queue for one reader, whose waits end in time even if signals come."""

from __future__ import annotations

from _queue import Empty
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from operator import call, is_not
from threading import get_ident, main_thread
from typing import Final, Generic, TypeVar

from .deadline import Deadline
from .interrupts import exhaust

# `SimpleQueue.get` does nearly the same. But before Python 3.13 it waits forever if a signal handler runs just when its
# timeout ends: the remaining time is negative then, which means no limit. So a reader of a mailbox waits at a gate. A
# gate is a lock that is released once: if two threads released the same one, one of them would get an error.
#
# The writer adds the item and then takes the gate; the reader puts up a gate and then looks for an item. So at least
# one of them sees the other.

T = TypeVar("T")

_SLICE: Final = 0.5  # seconds; see `gates`

# A writer calls this if the reader has put up no gate: a function of C that does nothing.
_no_gate: Final = list[object]().clear


class Mailbox(Generic[T]):
    """A queue that any thread may put items into, and from which one thread at a time takes them.

    **Thread safety**: putting is one call of C, so no interrupt splits it, and it is safe in signal handlers.
    """

    __slots__ = ("_gates", "_items", "_wake")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._gates: dict[None, Callable[[], None]] = {}
        self._wake = self._waking()

    def _waking(self) -> Iterator[None]:
        """Make an iterator that takes the gate and opens it with each `next`."""
        return map(call, map(self._gates.pop, repeat(None), repeat(_no_gate)))

    def put(self, item: T) -> None:
        """Add an item."""
        exhaust(map(call, (partial(self._items.append, item), partial(next, self._wake))))

    def putting(self, item: T) -> Callable[[], None]:
        """Return a C function that adds this item each time it is called, and returns None."""
        # One call of C iterates over both, in this order: it adds the item, then wakes the reader.
        steps = map(is_not, map(self._items.append, repeat(item)), self._wake)
        return partial(max, (None,), key=partial(next, steps))

    def get(self, seconds: float | None) -> T:
        """Remove the oldest item and return it.

        Args:
            seconds: How long to wait for one; None waits forever.

        Raises:
            queue.Empty: No item came in time.
        """
        deadline = Deadline(seconds)
        # Only the main thread has to look again from time to time, because signals interrupt it alone.
        longest = _SLICE if get_ident() == main_thread().ident else -1.0
        while True:
            gate = allocate_lock()
            gate.acquire()
            self._gates[None] = gate.release
            if self._items:
                return self._items.popleft()
            left = deadline.remaining()
            if left == 0:
                raise Empty
            if left is None:
                gate.acquire(True, longest)
            else:
                gate.acquire(True, left if longest < 0 else min(left, longest))

    def get_nowait(self) -> T:
        """Remove the oldest item and return it; raise `queue.Empty` if there is none."""
        try:
            return self._items.popleft()
        except IndexError:
            raise Empty from None
