"""`Mailbox`: a queue for one reader, whose waits end in time whatever signals come."""

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
# timeout ends: the rest of the time is negative then, which means no limit. So a mailbox waits by a gate. It is a lock
# that is released once: two threads that release the same one would be an error in one of them.
#
# The writer adds the item and then takes the gate; the reader puts up a gate and then looks for an item. So at least
# one of them sees the other.

T = TypeVar("T")

_SLICE: Final = 0.5  # seconds; see `gates`

# What a writer calls if the reader has put up no gate: a function of C that does nothing.
_no_gate: Final = list[object]().clear


class Mailbox(Generic[T]):
    """A queue that any thread may put items into, and that one thread at a time takes them out of.

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
        # The two are iterated in this order, in one call of C.
        steps = map(is_not, map(self._items.append, repeat(item)), self._wake)
        return partial(max, (None,), key=partial(next, steps))

    def get(self, seconds: float | None) -> T:
        """Take the oldest item out.

        Args:
            seconds: How long to wait for one; None waits forever.

        Raises:
            queue.Empty: There was none in time.
        """
        deadline = Deadline(seconds)
        # Only the main thread has to look again, for signals.
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
        """Take the oldest item out, or raise `queue.Empty` if there is none."""
        try:
            return self._items.popleft()
        except IndexError:
            raise Empty from None
