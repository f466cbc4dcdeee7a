"""Lock pairs: two locks that are acquired in both orders, although nothing hangs."""

from __future__ import annotations

import linecache
import os
import sys
from _thread import get_ident
from collections import deque
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Final
from weakref import ref

from .._core.foreign import guarded, printable, words
from .._core.holders import thread_name
from ..diagnostics.order_graph import OrderGraph
from .blocked import rouse
from .exact import ExactLock, ExactRLock, serial_of_exact
from .incident_facts import ORDER, Incident
from .observed import origin_of
from .origins import is_maker

# The graph has an edge from A to B if a thread waited for B, or would have, without a limit, while it held A. A path
# back from B to A is an inversion: threads that go along its edges at once can deadlock. A third lock that was held at
# each of the edges keeps them apart. So an edge remembers which locks were held every time it was seen.
#
# Threads of the program call this, with any lock and in any handler, so nothing here waits. A thread first stores an
# edge, and only then looks for a path back (see `OrderGraph`). Locks are identified by serial numbers.

MARKER: Final = "syncprims: any order"
"""A comment on a line that acquires a lock, which then makes no edge."""


class _Place:
    """The place where a lock was acquired."""

    __slots__ = ("code", "line")

    def __init__(self, frame: FrameType | None) -> None:
        while frame is not None and is_maker(frame.f_code):
            frame = frame.f_back
        self.code: CodeType | None = None if frame is None else frame.f_code
        self.line: int = 0 if frame is None else frame.f_lineno or 0

    def where(self) -> str:
        return printable(f"{self.file()}:{self.line}") if self.code is not None else "an unknown place"

    def file(self) -> str:
        return "" if self.code is None else os.path.basename(self.code.co_filename)

    def words(self) -> str:
        return self.where() if self.code is None else printable(f"{self.where()} in {self.code.co_name}")

    def is_marked(self) -> bool:
        if self.code is None:
            return False
        return MARKER in guarded("", linecache.getline, self.code.co_filename, self.line)


class _Held:
    __slots__ = ("lock", "place", "serial")

    def __init__(self, lock: ExactLock | ExactRLock, place: _Place) -> None:
        self.serial = serial_of_exact(lock)
        self.lock = ref(lock)
        self.place = place


class _Edge:
    __slots__ = ("guards", "held", "held_at", "reported", "taken", "taken_at", "thread")

    def __init__(
        self, held: str, held_at: _Place, taken: str, taken_at: _Place, guards: frozenset[int], thread: str
    ) -> None:
        self.held = held
        self.held_at = held_at
        self.taken = taken
        self.taken_at = taken_at
        self.guards = guards
        self.thread = thread
        self.reported = False

    def words(self) -> str:
        return (
            f"Thread {words(self.thread)} held {self.held}, taken at {self.held_at.words()}, "
            f"when it took {self.taken} at {self.taken_at.words()}"
        )


class LockOrders:
    """The orders in which the locks of a program were acquired.

    Attributes:
        ignored: Places like ``bank.py:12``, or pairs of them with a comma, where locks were made or acquired. The order
            of these locks does not matter.
    """

    def __init__(self, ignored: Iterable[str] = ()) -> None:
        self.ignored: tuple[frozenset[str], ...] = tuple(frozenset(each.split(",")) for each in ignored)
        self._held: dict[int, list[_Held]] = {}  # the locks that each thread holds, latest last
        self._graph: OrderGraph[int, _Edge] = OrderGraph()
        self._found: deque[Incident] = deque()
        self._pairs: set[tuple[str, str]] = set()

    def found(self) -> Iterator[Incident]:
        """Yield the inversions that were found since the last time."""
        while self._found:
            yield self._found.popleft()

    def forget_threads(self) -> None:
        """In a forked child, forget the locks of the other threads."""
        me = get_ident()
        self._held = {me: self._held.get(me, [])}

    def asks(self, lock: ExactLock | ExactRLock, endless: bool) -> None:
        """Note that the thread is about to wait for a lock."""
        serial = serial_of_exact(lock)
        held = [each for each in list(self._held.get(get_ident(), ())) if each.serial != serial] if endless else []
        if held:
            frame = sys._getframe(1)
            guards = frozenset(each.serial for each in held)
            for each in held:
                edge = self._graph.edge(each.serial, serial)
                others = guards - {each.serial}
                if edge is None or not edge.guards <= others:
                    self._see(each, lock, others, frame)

    def taken(self, lock: ExactLock | ExactRLock, at: int) -> None:  # noqa: ARG002  the time does not matter
        """Note that the thread has the lock."""
        me = get_ident()
        self._graph.watch(serial_of_exact(lock), lock)
        entry = _Held(lock, _Place(sys._getframe(1)))
        held = self._held.get(me)
        if held is None:
            self._held[me] = [entry]
        else:
            held.append(entry)

    def refused(self, lock: ExactLock | ExactRLock, error: BaseException | None) -> None:
        """Remove a note that the thread has the lock, which it did not get."""
        if error is not None:
            self.released(lock, 0, get_ident())

    def released(self, lock: ExactLock | ExactRLock, at: int, by: int) -> None:  # noqa: ARG002  the time does not matter
        """Note that a thread has released the lock."""
        held = self._held.get(by)
        if held is not None:
            serial = serial_of_exact(lock)
            left = [each for each in held if each.serial != serial]
            if left:
                self._held[by] = left
            else:
                self._held.pop(by, None)

    def _see(self, held: _Held, lock: ExactLock | ExactRLock, guards: frozenset[int], frame: FrameType) -> None:
        graph = self._graph
        graph.forget_gone()
        holder, place = held.lock(), _Place(frame)
        if holder is None or self._is_ignored(holder, held.place, lock, place):
            return
        serial = serial_of_exact(lock)
        edge = graph.edge(held.serial, serial)
        if edge is None:
            made = _Edge(holder.name, held.place, lock.name, place, guards, thread_name(get_ident()))
            edge = graph.add(held.serial, serial, made)
        edge.guards &= guards
        path = graph.path(serial, held.serial, edge.guards, through_reported=True)
        if path is None or edge.reported:
            return
        edge.reported = True
        chain = [edge, *path]
        pair = tuple(sorted({(each.taken_at.where()) for each in chain}))
        if pair in self._pairs:
            return
        self._pairs.add(pair)  # type: ignore[arg-type]  # of any length
        places = f"{origin_of(holder).where()},{origin_of(lock).where()}"
        self._found.append(
            Incident(
                ORDER,
                f"{len(chain)} locks were taken in both orders; threads that do so at the same time can deadlock"
                if len(chain) == 2
                else f"{len(chain)} locks were taken in a cycle; threads that do so at the same time can deadlock",
                [],
                f"take these locks in one order everywhere; if the order can't matter, say so by the comment "
                f'"# {MARKER}" on a line that takes one of them, or by --ignore {places}',
                notes=[each.words() for each in chain],
            )
        )
        rouse()

    def _is_ignored(
        self, held: ExactLock | ExactRLock, held_at: _Place, taken: ExactLock | ExactRLock, taken_at: _Place
    ) -> bool:
        if held_at.is_marked() or taken_at.is_marked():
            return True
        places = {held_at.where(), taken_at.where(), origin_of(held).where(), origin_of(taken).where()}
        return any(each <= places for each in self.ignored)
