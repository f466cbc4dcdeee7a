"""Explore interleavings of threads at the shared locks, run as a program: ``explore_shared.py SCENARIO BOUND SECONDS``.

frontrun schedules Python code, and changes threads between any two instructions. So models in Python replace the C lock
under the guard, and the mailbox that a waiter reads, before the library is imported. The exploration shows the
behaviour without the GIL: the fast path, with changes of threads in the middle of it, and tries that take the slow
path. A release is one call of C here too, but the bell that it rings is a model, so threads change in the middle of it.
"""

from __future__ import annotations

import _thread
import sys
import time
from _queue import Empty
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import repeat
from operator import call
from typing import Any, ClassVar

from frontrun._cooperative import (  # type: ignore[import-untyped]  # it has no types
    CooperativeSemaphore,
    patch_locks,
)

from exploring import main
from locks.explore_locks import ModelOfCLock

_true, _thread.RLock = _thread.RLock, ModelOfCLock  # type: ignore[misc,assignment]  # before the library looks it up

from syncprims import DeadlockError, LockTimeoutError, QueuedLock, TimedRWLock, TimedSemaphore  # noqa: E402  the model came first
from syncprims._core import deadlocks as _deadlocks  # noqa: E402  the same
from syncprims._core import waits as _waits  # noqa: E402  the same
from syncprims._core.interrupts import exhaust  # noqa: E402  the same
from syncprims._locks import shared_lock  # noqa: E402  the same

_thread.RLock = _true  # type: ignore[misc]  # imports use it too, from 3.12 on
_waits.monotonic = shared_lock.monotonic = lambda: time.monotonic()  # type: ignore[attr-defined]
_deadlocks.sleep = lambda seconds: time.sleep(seconds)  # type: ignore[attr-defined]
_deadlocks._stands_in = lambda waiting, frame: True


class ModelOfMailbox:
    """The behaviour of `Mailbox` for one reader."""

    def __init__(self) -> None:
        """Begin empty."""
        self._rung = CooperativeSemaphore(0)

    def putting(self, item: object) -> Callable[[], None]:
        """Return the function that rings."""
        return partial(self._rung.release)

    def get(self, seconds: float) -> None:
        """Wait for a ring."""
        if not self._rung.acquire(timeout=None if seconds >= shared_lock._SLICE else seconds):
            raise Empty


class SeenList(list[Any]):
    """A list whose uses frontrun sees: it sees each read and write of an attribute."""

    __slots__ = ("c_version",)

    c_version: object

    def _read(self) -> None:
        _ = self.c_version

    def _write(self) -> None:
        self.c_version = None

    def __getitem__(self, index: Any) -> Any:
        self._read()
        return super().__getitem__(index)

    def __contains__(self, item: object) -> bool:
        self._read()
        return super().__contains__(item)

    def __len__(self) -> int:
        self._read()
        return super().__len__()

    def __setitem__(self, index: Any, items: Any) -> None:
        self._write()
        super().__setitem__(index, items)

    def __iadd__(self, items: Any) -> Any:  # type: ignore[misc]  # no other form of adding is used
        self._write()
        return super().__iadd__(items)

    def insert(self, index: Any, item: Any) -> None:
        """Insert the item."""
        self._write()
        super().insert(index, item)

    def remove(self, item: Any) -> None:
        """Remove the item."""
        self._write()
        super().remove(item)


_init = shared_lock.SharedLock.__init__


def init_with_seen_lists(lock: Any, *args: Any) -> None:
    """Make a shared lock with two such lists."""
    _init(lock, *args)
    lock._held, lock._line = SeenList(), SeenList(lock._line)
    lock._held.c_version = lock._line.c_version = None
    lock._ring = partial(next, lock._ringing())


shared_lock.SharedLock.__init__ = init_with_seen_lists  # type: ignore[method-assign,assignment]
shared_lock.Mailbox = ModelOfMailbox  # type: ignore[attr-defined,assignment]
# Waits have slices only because of signals. Here a wait of this length stands for one without a limit.
shared_lock._SLICE = 1e9  # type: ignore[misc]


class Sharing:
    """The notes of each thread: which threads are inside together, and the outcomes."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.inside: list[str] = []
        self.crowds: list[tuple[str, ...]] = []
        self.ends: list[str] = []

    def visit(self, entering: AbstractContextManager[object], what: str) -> None:
        """Enter, and note which threads are inside; or note why this failed."""
        try:
            with entering:
                self.inside += (what,)
                self.crowds += (tuple(self.inside),)
                self.inside.remove(what)
            self.ends += (what,)
        except DeadlockError:
            self.ends += (f"{what} refused",)
        except LockTimeoutError:
            self.ends += (f"{what} late",)

    def note(self) -> None:
        """Note the outcome."""
        outcome = " ".join(sorted(self.ends))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1


class Permit(Sharing):
    """Threads that want the only permit."""

    permits = 1

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.semaphore = TimedSemaphore(self.permits)

    def take(self) -> None:
        """The work of each thread."""
        self.visit(self.semaphore, "in")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (take, take)

    def holds(self) -> bool:
        """There were never more threads inside than permits, and all of them succeeded."""
        self.note()
        crowded = max(map(len, self.crowds), default=0) > self.permits
        free = self.semaphore.value == self.permits and not self.semaphore.waiting
        return not crowded and free and len(self.ends) == len(self.workers)


class TwoPermits(Permit):
    """Three threads want two permits."""

    permits = 2
    workers = (Permit.take, Permit.take, Permit.take)


class LatePermit(Permit):
    """One thread waits with a limit."""

    clock = "explored"

    def take_in_time(self) -> None:
        """The work of one thread."""
        self.visit(self.semaphore.hold(1.0), "timed")

    workers = (Permit.take, take_in_time)


class LentPermit(Permit):
    """One thread takes a permit that the other gives back."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        assert self.semaphore.acquire()

    def give_back(self) -> None:
        """The work of one thread."""
        self.semaphore.release()
        self.ends += ("gave",)

    workers = (Permit.take, give_back)


class Sides(Sharing):
    """One reads, and one writes."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.lock = TimedRWLock()

    def read(self) -> None:
        """The work of a reader."""
        self.visit(self.lock.read(), "r")

    def write(self) -> None:
        """The work of a writer."""
        self.visit(self.lock.write(), "w")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (read, write)

    def holds(self) -> bool:
        """No writer was inside with any other thread, and all of them succeeded."""
        self.note()
        beside = any("w" in crowd and len(crowd) > 1 for crowd in self.crowds)
        return not beside and not self.lock.holders and not self.lock.waiting and len(self.ends) == len(self.workers)


class Writers(Sides):
    """Two write."""

    workers = (Sides.write, Sides.write)


class ReadersAndWriter(Sides):
    """Two read and one writes."""

    workers = (Sides.read, Sides.write, Sides.read)


class LateWriter(Sides):
    """The writer waits with a limit."""

    clock = "explored"

    def write_in_time(self) -> None:
        """The work of the writer."""
        self.visit(self.lock.write(1.0), "w")

    workers = (Sides.read, write_in_time)


class Tries(Permit):
    """One thread releases and tries again at once, while the other one tries too."""

    def take_and_try_again(self) -> None:
        """The work of one thread."""
        self.visit(self.semaphore, "in")
        self.visit(self.semaphore.hold(0), "again")
        self.visit(self.semaphore, "in")

    def try_once(self) -> None:
        """The work of the other one."""
        self.visit(self.semaphore.hold(0), "other")

    workers = (take_and_try_again, try_once)

    def holds(self) -> bool:
        """No try failed because of another one that failed."""
        self.note()
        free = self.semaphore.value == self.permits and not self.semaphore.waiting
        both_late = "again late" in self.ends and "other late" in self.ends
        return free and max(map(len, self.crowds), default=0) == 1 and len(self.ends) == 4 and not both_late


class Crossed(Sharing):
    """Two threads read one lock each and want to write the other one."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.one, self.other = TimedRWLock(name="one"), TimedRWLock(name="other")

    def take(self, mine: TimedRWLock, theirs: TimedRWLock, what: str) -> None:
        """Read one, and write the other, or be refused."""
        with mine.read():
            self.visit(theirs.write(), what)

    def forth(self) -> None:
        """The work of one thread."""
        self.take(self.one, self.other, "a")

    def back(self) -> None:
        """The work of the other."""
        self.take(self.other, self.one, "b")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (forth, back)

    def holds(self) -> bool:
        """At most one was refused, and the other one succeeded."""
        self.note()
        free = not any(lock.holders or lock.waiting for lock in (self.one, self.other))
        return free and sorted(self.ends) in (["a", "b"], ["a", "b refused"], ["a refused", "b"])


class Opened(Sharing):
    """One thread releases another one's hold, while others join the line, wait, go in, and leave it."""

    # No thread has this ident; the sign makes it a permit that any thread may give back, or a hold for writing.
    token = -1
    workers: ClassVar[tuple[Callable[[Any], None], ...]] = ()

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.lock = self.make()
        self.lock._held += (self.token,)
        self.open_it = self.lock._removing(self.lock._held, repeat(self.token))

    def make(self) -> Any:
        """Make the lock."""
        return TimedSemaphore(1)

    def open(self) -> None:
        """The work of one thread."""
        self.open_it()
        self.ends += ("opened",)

    def take(self) -> None:
        """The work of another one."""
        self.visit(self.lock, "in")

    def holds(self) -> bool:
        """At most one was inside, all of them succeeded, and none is left in the line or behind it."""
        self.note()
        alone = max(map(len, self.crowds), default=0) <= 1
        left = list(self.lock._line) == [shared_lock._nobody] and not list(self.lock._held)
        refused = any("refused" in end for end in self.ends)
        return alone and left and not refused and len(self.ends) == len(self.workers)


class PermitLine(Opened):
    """Two join the line of a semaphore; one goes in, and leaves the line, while the other one joins."""

    workers = (Opened.open, Opened.take, Opened.take)


class LatePermitLine(Opened):
    """One joins, and the other one may give up."""

    clock = "explored"

    def take_in_time(self) -> None:
        """The work of one thread."""
        self.visit(self.lock.hold(1.0), "timed")

    workers = (Opened.open, Opened.take, take_in_time)


class WriterLine(Opened):
    """The same for two writers."""

    def make(self) -> Any:
        """Make the lock."""
        return TimedRWLock()

    def write(self) -> None:
        """The work of a writer."""
        self.visit(self.lock.write(), "w")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (Opened.open, write, write)


class LateWriterLine(WriterLine):
    """One writer joins, and the other one may give up."""

    clock = "explored"

    def write_in_time(self) -> None:
        """The work of one writer."""
        self.visit(self.lock.write(1.0), "timed")

    workers = (Opened.open, WriterLine.write, write_in_time)


class Urgent(QueuedLock):
    """Lets in one thread at a time, the lowest kind first."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:
        return sum(each <= kind for each in kinds)


class UrgentLine(Opened):
    """The same for a lock of the user's own, in which one thread goes before the other."""

    token = 1

    def make(self) -> Any:
        """Make the lock."""
        lock = Urgent()
        lock._kinds[self.token] = 0
        return lock

    def early(self) -> None:
        """The work of the one that goes first."""
        self.visit(self.lock.of(1), "early")

    def late(self) -> None:
        """The work of the other one."""
        self.visit(self.lock.of(2), "late")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (Opened.open, early, late)


class LateUrgentLine(UrgentLine):
    """The thread that goes before the other may give up."""

    clock = "explored"

    def early_in_time(self) -> None:
        """The work of that one."""
        self.visit(self.lock.of(1, 1.0), "timed")

    workers = (Opened.open, early_in_time, UrgentLine.late)


class Jumped(UrgentLine):
    """The thread behind may give up."""

    clock = "explored"

    def late_in_time(self) -> None:
        """The work of that one."""
        self.visit(self.lock.of(2, 1.0), "timed")

    workers = (Opened.open, UrgentLine.early, late_in_time)


class Left(Sharing):
    """A waiter that is ahead leaves the line, as if it were interrupted, while another one joins.

    Of the two that leave, the one that would be behind a waiter in the middle leaves first.
    """

    def __init__(self) -> None:
        """Make the state of one execution."""
        super().__init__()
        self.lock = self.make()
        self.leaves = [self.lock._removing(self.lock._line, repeat(queued)) for queued in self.queue_up()]

    def make(self) -> Any:
        """Make the lock."""
        return TimedSemaphore(1)

    def queue_up(self) -> list[Any]:
        """Add waiters to the line, and return them in the order in which they leave."""
        queued = shared_lock.Queued(self.lock, -1, True)
        self.lock._open = False
        self.lock._line.insert(0, queued)
        return [queued]

    def leave(self) -> None:
        """The work of one thread."""
        for leave in self.leaves:
            last = leave is self.leaves[-1]
            self.ends += ("left",) if last else ()
            leave()

    def join(self) -> None:
        """The work of the other one."""
        self.visit(self.lock, "in")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (leave, join)

    def holds(self) -> bool:
        """The thread that joined went in after those ahead of it had left; none is left in the line or behind it."""
        self.note()
        left = list(self.lock._line) == [shared_lock._nobody] and not list(self.lock._held)
        return left and self.ends == ["left", "in"]


class PermitLeft(Left):
    """At a semaphore."""


class WriterLeft(Left):
    """At a reader-writer lock."""

    def make(self) -> Any:
        """Make the lock."""
        return TimedRWLock()

    def join(self) -> None:
        """The work of a writer."""
        self.visit(self.lock.write(), "in")

    workers = (Left.leave, join)


class UrgentLeft(Left):
    """At a lock of the user's own, where its place in the line is between two that leave."""

    def make(self) -> Any:
        """Make the lock."""
        return Urgent()

    def queue_up(self) -> list[Any]:
        """Add waiters to the line, and return them in the order in which they leave."""
        self.lock._open = False
        ahead, behind = (shared_lock.Queued(self.lock, kind << 64 | 1, True) for kind in (1, 3))
        self.lock._line.insert(0, behind)
        self.lock._line.insert(0, ahead)
        return [behind, ahead]

    def join(self) -> None:
        """The work of the other one."""
        self.visit(self.lock.of(2), "in")

    workers: ClassVar[tuple[Callable[[Any], None], ...]] = (Left.leave, join)


class LateUrgentLeft(UrgentLeft):
    """The thread that joins has a limit."""

    clock = "explored"

    def join_in_time(self) -> None:
        """The work of that one."""
        self.visit(self.lock.of(2, 1.0), "in")

    workers = (Left.leave, join_in_time)

    def holds(self) -> bool:
        """The same, or it gave up."""
        left = list(self.lock._line) == [shared_lock._nobody] and not list(self.lock._held)
        late = left and sorted(self.ends) == ["in late", "left"]
        return late or super().holds()


# -- mutations ---------------------------------------------------------------------------------------------------------


class OneLook(Sides):
    """A mutation: a reader looks before it goes in, and not again."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        read_within = TimedRWLock._read_within

        def go_in(lock: Any, timeout: float | None) -> Any:
            if lock._open and not lock.write_locked():
                held = lock._held
                held += (_thread.get_ident(),)
                return lock
            return read_within(lock, timeout)

        TimedRWLock._read_within = go_in  # type: ignore[method-assign,assignment]


class RingsFirst(Permit):
    """A mutation: a release looks for the waiter to ring before it removes the hold."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def release_of(lock: Any, token: int) -> Any:
            def release() -> None:
                first = lock._line[0]
                lock._held.remove(token)
                first()

            return release

        shared_lock.SharedLock._release_of = release_of  # type: ignore[method-assign,assignment]


class LooksFirst(Permit):
    """A mutation: a waiter looks for room, and only then joins the line."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        go_in = TimedSemaphore._go_in

        def look(lock: Any, token: int) -> bool:
            queued = next((each for each in lock._waiters() if each.ident == abs(token)), None)
            if queued is None or hasattr(queued, "looked"):
                return go_in(lock, token)
            queued.looked = True
            return False

        TimedSemaphore._go_in = look  # type: ignore[method-assign]


class ReadersPassTheLine(ReadersAndWriter):
    """A mutation: a writer takes its place beside readers."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def go_in(lock: Any, token: int) -> bool:
            if lock._held and lock._held[0] < 0:
                return False
            lock._held += (token,)
            return True

        TimedRWLock._go_in = go_in  # type: ignore[method-assign]
        TimedRWLock._has_fast_path = False


def count_before(lock: Any, queued: Any, leave_line: Any) -> None:
    """Count the place in the line, and use it afterwards."""
    place = len(lock._line) - 1 - len(lock._overtakes(queued.token))
    lock._line[place:place] = (queued,)


class CountsBeforePermit(PermitLeft):
    """A mutation: the place in the line is counted before it is used."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        shared_lock.SharedLock._join_line = count_before  # type: ignore[method-assign,assignment]


class CountsBeforeWriter(WriterLeft):
    """The same for writers."""

    mutate = CountsBeforePermit.mutate


class CountsBeforeUrgent(UrgentLeft):
    """The same for a lock of the user's own."""

    mutate = CountsBeforePermit.mutate


class StaysTooFarAhead(UrgentLeft):
    """A mutation: a waiter that joins the line does not check which waiters are behind it."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def join_line(lock: Any, queued: Any, leave_line: Any) -> None:
            lock._line.insert(-1 - len(lock._overtakes(queued.token)), queued)

        shared_lock.SharedLock._join_line = join_line  # type: ignore[method-assign,assignment]


class LeavesOnce(UrgentLeft):
    """A mutation: the function that leaves the line works only once."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        removing = shared_lock.SharedLock._removing

        def removing_once(lock: Any, items: Any, which: Any) -> Any:
            remove = removing(lock, items, which)
            return partial(exhaust, map(call, [remove])) if items is lock._line else remove

        shared_lock.SharedLock._removing = removing_once  # type: ignore[method-assign,assignment]


class WaitsInside(PermitLine):
    """A mutation: a waiter that has gone in counts as waiting until it has left the line."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        shared_lock.SharedLock._holds_like = lambda lock, queued: 0  # type: ignore[method-assign,assignment]


outcomes: dict[str, int] = {}


if __name__ == "__main__":
    patch_locks()
    main(globals(), outcomes, *sys.argv[1:])
