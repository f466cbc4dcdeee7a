"""The line of the shared locks while threads leave it: no joining thread is lost, and reads are one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import combinations
from operator import call
from threading import Barrier, Event, get_ident
from typing import Any, Final

import pytest

from locks.actors import LIMIT, Actors, eventually, wait_for
from syncprims import DeadlockError, QueuedLock, TimedRWLock, TimedSemaphore
from syncprims._core.interrupts import exhaust
from syncprims._core.mailbox import Mailbox
from syncprims._locks import shared_lock
from syncprims.diagnostics import find_deadlocks

Entering = AbstractContextManager[object]

# -- joining the line ------------------------------------------------------------------------------------------------


class Interrupt(BaseException):
    """Ends the wait of a thread."""


class Bell(Mailbox[Any]):
    """A bell that may interrupt its listener, which then leaves the line without the mutex."""

    __slots__ = ("listens",)

    def __init__(self) -> None:
        """Begin without a listener."""
        super().__init__()
        self.listens = False

    def get(self, seconds: float | None) -> Any:
        """Wait for a ring."""
        self.listens = True
        rung = super().get(seconds)
        if isinstance(rung, Event):
            wait_for(rung)
            raise Interrupt
        return None


class Urgent(QueuedLock):
    """Lets in one thread at a time, the lowest kind first; while a place is sought, something else may happen once."""

    happens: Callable[[], object] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[list[int | None]] = []  # after each thread has joined: the kinds, and None for the end mark

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds

    def _place(self, kind: int, kinds: tuple[int, ...], /) -> int:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return sum(each <= kind for each in kinds)

    def _join_line(self, queued: Any, leave_line: Callable[[], object]) -> None:
        self.join_line(queued, leave_line)
        self.lines.append([kind_of(each) if isinstance(each, shared_lock.Queued) else None for each in self._line])

    def join_line(self, queued: Any, leave_line: Callable[[], object]) -> None:
        """The method that the controls replace."""
        super()._join_line(queued, leave_line)


class CountsBefore(Urgent):
    """A broken control: a place is counted, and used afterwards."""

    def join_line(self, queued: Any, leave_line: Callable[[], object]) -> None:
        """Join."""
        place = len(self._waiters()) - len(self._overtakes(queued.token))
        self._line[place:place] = (queued,)


class StaysTooFarAhead(Urgent):
    """A broken control: a thread that joins does not check which threads are behind it."""

    def join_line(self, queued: Any, leave_line: Callable[[], object]) -> None:
        """Join."""
        self._line.insert(-1 - len(self._overtakes(queued.token)), queued)


class LeavesOnce(Urgent):
    """A broken control: a thread can leave the line once."""

    def _removing(self, items: list[Any], which: Iterator[object]) -> Callable[[], object]:
        remove = super()._removing(items, which)
        return partial(exhaust, map(call, (remove,))) if items is self._line else remove


def kind_of(queued: Any) -> int:
    """The kind of hold that a waiter wants."""
    return int(queued.token >> 64)


WAITING: Final = (2, 4, 6)


class Joining:
    """A thread joins a line that others leave at this moment."""

    def __init__(self, lock: Urgent, newcomer: int, leaving: tuple[int, ...]) -> None:
        """Let it happen; finally interrupt all threads that did not come in."""
        self.came: list[int] = []
        self.lock = lock
        self.stay = sorted({*WAITING, newcomer} - {*leaving})
        lock.acquire()
        with Actors() as actors:
            for number, kind in enumerate(WAITING, start=1):
                actors.start(partial(self.come, kind))
                eventually(lambda number=number: len(lock.lines) == number)  # type: ignore[misc]  # bound now
            # From then on they don't need the mutex to leave. The newcomer has the mutex at that time.
            eventually(lambda: all(queued.bell.listens for queued in self.waiters()))
            lock.happens = partial(self.interrupt, leaving)
            actors.start(partial(self.come, newcomer))
            eventually(lambda: len(lock.lines) > len(WAITING))
            self.line = lock.lines[-1]
            lock.release()
            if type(lock) is Urgent:
                eventually(lambda: len(self.came) == len(self.stay))
            at_once = Event()
            at_once.set()
            for queued in self.waiters():  # of a broken control
                queued.bell.put(at_once)
        self.left_over = lock._line[:-1]

    def come(self, kind: int) -> None:
        """The work of each thread."""
        with suppress(Interrupt), self.lock.of(kind, LIMIT):
            self.came.append(kind)

    def interrupt(self, kinds: tuple[int, ...]) -> None:
        """Interrupt the waits for these kinds, before any other ring, and wait until their threads have left."""
        all_are_told = Event()  # the first to leave rings for the next one, which would then wait for the mutex
        for queued in self.waiters():
            if kind_of(queued) in kinds:
                queued.bell.put(all_are_told)
        all_are_told.set()
        eventually(lambda: not {*kinds} & {*map(kind_of, self.waiters())})

    def waiters(self) -> list[Any]:
        """All waiters in the line, also behind its end."""
        return [each for each in self.lock._line[:] if isinstance(each, shared_lock.Queued)]


LEAVING: Final = [some for number in range(len(WAITING) + 1) for some in combinations(WAITING, number)]


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that can be interrupted, and in which no waiter looks at the line unless it is rung."""
    monkeypatch.setattr(shared_lock, "Mailbox", Bell)
    monkeypatch.setattr(shared_lock, "_SLICE", LIMIT)


@pytest.mark.usefixtures("bells")
@pytest.mark.parametrize("newcomer", [1, 3, 5, 7])
@pytest.mark.parametrize("leaving", LEAVING, ids=str)
def test_one_that_joins_while_others_leave_gets_its_place(newcomer: int, leaving: tuple[int, ...]) -> None:
    """If waiters before or behind them leave, all others still get in, in the order of the line."""
    joining = Joining(Urgent(), newcomer, leaving)
    assert joining.line == [*joining.stay, None]
    assert joining.came == joining.stay
    assert joining.left_over == []


@pytest.mark.usefixtures("bells")
@pytest.mark.parametrize(
    ("control", "newcomer", "leaving", "line"),
    [
        (CountsBefore, 7, (2,), [4, 6, None, 7]),
        (CountsBefore, 3, (2,), [4, 3, 6, None]),
        (StaysTooFarAhead, 5, (6,), [2, 5, 4, None]),
        (LeavesOnce, 5, (6,), [2, 4, 5, None]),
    ],
)
def test_what_would_lose_it_is_noticed(
    control: type[Urgent], newcomer: int, leaving: tuple[int, ...], line: list[int | None]
) -> None:
    """The control: it shows that the test works."""
    joining = Joining(control(), newcomer, leaving)
    assert joining.line == line
    assert line != [*joining.stay, None] or joining.left_over != []


# -- reading the holds without the GIL -------------------------------------------------------------------------------


class Missing(list[Any]):
    """A list in which a search may miss an item without the GIL, because other threads move it."""

    def __contains__(self, item: object) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def index(self, *args: Any) -> int:
        """Find no item."""
        raise ValueError("missed")

    def count(self, item: object) -> int:
        """Count no item."""
        return 0


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks with such lists."""
    init = shared_lock.SharedLock.__init__

    def init_with_missing(lock: Any, *args: Any) -> None:
        init(lock, *args)
        lock._held, lock._line = Missing(), Missing(lock._line[:])
        lock._ring = partial(next, lock._ringing())

    monkeypatch.setattr(shared_lock.SharedLock, "__init__", init_with_missing)


def waits_behind(lock: Any, holding: Entering, entering: Entering, how: Callable[[], object]) -> object:
    """Let one thread wait for another one's hold; return how the first one has the lock when it is in."""
    ins: list[object] = []

    def enter() -> None:
        with entering:
            ins.append(how())

    with Actors() as actors:
        with holding:
            actors.start(enter)
            eventually(lambda: lock.waiting == 1)
        eventually(lambda: ins)
    return ins[0]


@pytest.mark.usefixtures("missing")
def test_no_permit_is_missed() -> None:
    """A thread knows that it has one, gives it back, and lets the next one in."""
    permits = TimedSemaphore(2)
    with permits:
        assert permits.held_by_me()
        assert len(permits.holders) == 1
        assert permits.acquire()
        assert waits_behind(permits, permits_of(permits), permits, permits.held_by_me) is True
        assert permits.acquire()
    assert permits.value == 1
    permits.release()
    assert permits.value == 2


@contextmanager
def permits_of(permits: TimedSemaphore) -> Iterator[None]:
    """Finally give the lent permit back."""
    yield
    permits.release()


@pytest.mark.usefixtures("missing")
def test_no_side_is_missed() -> None:
    """A thread that reads or writes may do so again, and knows how it holds the lock."""
    lock = TimedRWLock(LIMIT)
    with lock.read(), lock.read():
        assert lock.held_by_me() == "read"
        with pytest.raises(DeadlockError, match="leave read"):
            lock.write().__enter__()
    with lock.write(), lock.write(), lock.read():
        assert lock.held_by_me() == "write"
        assert lock.write_locked()
        assert lock.read_locked()
    assert waits_behind(lock, lock.read(), lock.write(), lock.held_by_me) == "write"
    assert waits_behind(lock, lock.write(), lock.read(), lock.held_by_me) == "read"
    assert lock.holders == ()


@pytest.mark.usefixtures("missing")
def test_no_hold_of_a_lock_of_ones_own_is_missed() -> None:
    """It is found when it is released, and when it is acquired again."""
    lock = Urgent()
    with lock:
        with pytest.raises(DeadlockError, match="release it first"):
            lock.acquire()
        assert lock.held_by_me()
    assert lock.acquire()
    lock.release()
    assert waits_behind(lock, lock.of(1), lock.of(2), lock.held_by_me) is True
    with pytest.raises(RuntimeError, match="it is free"):
        lock.release()
    assert not lock.locked()


class Shared(QueuedLock):
    """Lets in any number of threads."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return True


@pytest.mark.parametrize("rounds", [1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_hold_is_found_while_other_threads_come_and_go(rounds: int) -> None:
    """Without the GIL, `in` misses about one hold in a million in a list."""
    lock, board, together = Shared(), TimedRWLock(), Barrier(4)

    def come_and_go() -> None:
        together.wait(LIMIT)
        for _ in range(rounds):
            with lock, board.read(), board.read():
                assert lock.held_by_me()
                assert board.held_by_me() == "read"

    with Actors() as actors:
        for _ in range(together.parties):
            actors.start(come_and_go)
    assert (lock.holders, board.holders) == ((), ())


# -- giving back what other threads acquired -------------------------------------------------------------------------


class Racing(list[int]):
    """The tokens of the holders; just before one is removed, something else happens once."""

    happens: Callable[[], object] | None = None

    def remove(self, token: int) -> None:
        """Remove it."""
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        super().remove(token)


@pytest.mark.parametrize("number", [1, 2])
def test_a_permit_that_its_own_thread_gives_back_at_the_same_time_is_not_counted_twice(number: int) -> None:
    """There are enough other permits, so both may be given back."""
    semaphore: Any = TimedSemaphore(3)
    acquired, give_back, given = Event(), Event(), Event()

    def acquire_and_give_back() -> None:
        assert semaphore.acquire()
        acquired.set()
        wait_for(give_back)
        semaphore.release()
        given.set()

    with Actors() as actors:
        actors.start(acquire_and_give_back)
        wait_for(acquired)
        for _ in range(number):
            actors.start(semaphore.acquire).result()
        racing = Racing(semaphore._held)
        its_own = racing[0]
        semaphore._held = racing

        def meanwhile() -> None:
            give_back.set()
            wait_for(given)
            racing.remove(its_own)

        racing.happens = meanwhile
        semaphore.release(number)
    assert len(racing) == 0


# -- a waiter that has gone in ---------------------------------------------------------------------------------------


class Stopping:
    """The guard of a lock; a thread that has gone in under it stops after it."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.guard = lock, lock._guard
        self.stops = True
        self.is_in, self.go = Event(), Event()

    def __enter__(self) -> None:
        self.guard.__enter__()

    def _is_owned(self) -> object:
        return self.guard._is_owned()

    def __exit__(self, *exc_info: object) -> None:
        went_in = self.stops and get_ident() in map(abs, self.lock._held[:])
        self.stops = self.stops and not went_in
        self.guard.__exit__(*exc_info)
        if went_in:
            self.is_in.set()
            wait_for(self.go)


CASES: Final[dict[str, tuple[Callable[[], Any], Callable[[Any], Entering]]]] = {
    "permit": (lambda: TimedSemaphore(1), lambda lock: lock),
    "write": (TimedRWLock, lambda lock: lock.write()),
    "of": (Urgent, lambda lock: lock.of(3)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_waiter_that_has_gone_in_waits_for_no_thread(case: str) -> None:
    """It is in the line for another moment. A thread that waits for it then is not in a cycle."""
    make, entering = CASES[case]
    lock = make()

    def enter() -> None:
        with entering(lock):
            pass

    with Actors() as actors:
        with entering(lock):
            actors.start(enter)
            eventually(lambda: lock.waiting == 1)
            lock._guard = stopping = Stopping(lock)
        wait_for(stopping.is_in)
        assert find_deadlocks() == ()
        late = actors.start(enter)
        eventually(lambda: lock.waiting == 2 or not late.thread.is_alive())
        assert find_deadlocks() == ()
        stopping.go.set()
        late.result()
    assert (lock.holders, lock.waiting) == ((), 0)


# -- a signal handler on top of the mutex ----------------------------------------------------------------------------


class Interrupted(Stopping):
    """The guard of a lock; when it has been acquired, something else happens once, as in a signal handler."""

    def __init__(self, lock: Any, happens: Callable[[], object]) -> None:
        super().__init__(lock)
        self.happens: list[Callable[[], object]] = [happens]

    def __enter__(self) -> None:
        self.guard.__enter__()
        if self.happens:
            self.happens.pop()()

    def __exit__(self, *exc_info: object) -> None:
        self.guard.__exit__(*exc_info)


@pytest.mark.parametrize("case", CASES)
def test_a_handler_on_top_of_the_mutex_goes_first(case: str) -> None:
    """The threads before it in the line need the mutex to go in, which its thread has until it ends."""
    make, entering = CASES[case]
    lock = make()
    came: list[str] = []
    begins, leave = Event(), Event()

    def enter(what: str) -> None:
        with entering(lock):
            came.append(what)

    def handle() -> None:
        begins.set()
        enter("handler")

    def interrupted() -> None:
        enter("interrupted")

    def hold() -> None:
        with entering(lock):
            held.set()
            wait_for(leave)

    held = Event()
    with Actors() as actors:
        actors.start(hold)
        wait_for(held)
        actors.start(lambda: enter("waiter"))
        eventually(lambda: lock.waiting == 1)
        lock._guard = Interrupted(lock, handle)
        actors.start(interrupted)
        wait_for(begins)
        eventually(lambda: lock.waiting == 2)
        leave.set()
        eventually(lambda: came)
    assert came == ["handler", "waiter", "interrupted"]
    assert (lock.holders, lock.waiting) == ((), 0)
