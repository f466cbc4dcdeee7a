"""Floors: the cost of the cheapest construction with each guarantee, and so the cost of the guarantee."""

from __future__ import annotations

import threading
from _thread import RLock
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from queue import SimpleQueue
from typing import Any, Self

from syncprims import AtomicCounter, TimedLock
from syncprims._core import reentrant
from syncprims._core.deadlocks import refuse_deadlock
from syncprims._core.interrupts import LeaveInC, leave_by
from syncprims._core.waits import Waiting

from .counters import INLINE
from .measuring import OURS, STDLIB, Case, Group, Work, loop
from .orders import TURNS, play, runner
from .pools import CHUNK, HANDED_IN, OUR_MAP, THREAD_POOL_MAP, WORKERS, Submit, mapping, nothing, with_callbacks
from .sharing import alone
from .together import together

_CLock: Any = RLock
_acquire = _CLock.acquire
_release = _CLock.release
_ONE = 1


class Inherited(_CLock):  # type: ignore[misc]  # typeshed calls it final
    """Only a subclass: C enters and leaves."""

    __slots__ = ()


class OneCall(_CLock):  # type: ignore[misc]
    """A Python ``__enter__`` with one C call: the least cost of a time limit. An interrupt leaks the lock."""

    __slots__ = ()

    def __enter__(self) -> Self:
        _CLock.__enter__(self)
        return self


class Undone(_CLock):  # type: ignore[misc]
    """Tries without waiting, and undoes the acquisition after an interrupt. It is reentrant."""

    __slots__ = ()

    def __enter__(self) -> Self:
        try:
            if self.acquire(False):
                return self
            raise AssertionError("no other thread is here")
        except BaseException:
            try:
                _release(self)
            except RuntimeError:
                pass
            raise


class Composed:
    """All of `TimedLock`'s way to enter, around a C lock instead of on top of one.

    The interpreter's shortcuts for calls of C methods are for the exact type, so these calls are cheaper. But a
    ``with`` keeps only the C lock alive: in ``with locks.setdefault(key, Composed()):`` over a weak dictionary the lock
    is gone at once, and the next thread gets another one for the same key.
    """

    __slots__ = ("_exit", "_lock")

    def __init__(self) -> None:
        self._lock = _CLock()
        self._exit = self._lock.__exit__

    def __enter__(self) -> Self:
        lock = self._lock
        if lock._is_owned():
            raise AssertionError("no thread enters twice here")
        try:
            if lock.acquire(False):
                return self
            raise AssertionError("no other thread is here")
        except BaseException:
            try:
                lock.release()
            except RuntimeError:
                pass
            raise

    __exit__ = LeaveInC(attrgetter("_exit"))


class Slotted(Composed):
    """The same with ``__exit__`` in a slot, as fast as possible; `contextlib.ExitStack` can't take it."""

    __slots__ = ("__exit__",)

    def __init__(self) -> None:
        super().__init__()
        self.__exit__ = self._exit


class Method:
    """A lock and a number, with a method that adds one: the cost of an object."""

    __slots__ = ("lock", "n")

    def __init__(self) -> None:
        self.lock = RLock()  # reentrant, because signal handlers and finalizers may count as well
        self.n = 0

    def increment(self) -> None:
        """Add one."""
        with self.lock:
            self.n += 1


class Returning(Method):
    """It returns the new value, which may no longer be the counter's by then."""

    __slots__ = ()

    def increment(self) -> int:  # type: ignore[override]
        """Add one."""
        with self.lock:
            value = self.n = self.n + 1
        return value


class AnyNumber(Method):
    """It adds any integer, and refuses everything else."""

    __slots__ = ()

    def increment(self, n: int = 1) -> int:  # type: ignore[override]
        """Add an integer."""
        if n is not _ONE and type(n) is not int:
            raise TypeError(n)
        with self.lock:
            value = self.n = self.n + n
        return value


class Bounded(AnyNumber):
    """It adds if the sum is between two bounds."""

    __slots__ = ("greatest", "least")

    def __init__(self, make: Callable[[], Any] = RLock) -> None:
        super().__init__()
        self.lock = make()
        self.least, self.greatest = 0, 10**12

    def increment(self, n: int = 1) -> int:  # type: ignore[override]
        """Add an integer."""
        if n is not _ONE and type(n) is not int:
            raise TypeError(n)
        with self.lock:
            if self.least <= (value := self.n + n) <= self.greatest:
                self.n = value
                return value
        raise ValueError(n)


class Comparing(Method):
    """It sets the number if it is the expected one."""

    __slots__ = ()

    def compare_and_set(self, expected: int, new: int) -> bool:
        """Compare and set."""
        with self.lock:
            if self.n == expected:
                self.n = new
                return True
        return False


class ComparingIntegers(Comparing):
    """The same, for nothing but integers."""

    __slots__ = ()

    def __init__(self, make: Callable[[], Any] = RLock) -> None:
        super().__init__()
        self.lock = make()

    def compare_and_set(self, expected: int, new: int) -> bool:
        """Compare and set."""
        if type(expected) is not int or type(new) is not int:
            raise TypeError(expected, new)
        with self.lock:
            if self.n == expected:
                self.n = new
                return True
        return False


class OnlyReturning:
    """No lock at all: a Python ``__enter__`` that only returns, and an ``__exit__`` in C that does nothing."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    __exit__ = "".format


class Shortest:
    """The shortest ``with`` that acquires one lock and opens the next, without any guarantee."""

    __slots__ = ("following", "mine")

    def __init__(self, mine: Any, following: Any) -> None:
        self.mine = mine
        self.following = following

    def __enter__(self) -> None:
        self.mine.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.following.release()


class LeftInC(Shortest):
    """The same, left through C: no interrupt can come before the opening. It has no steps, errors, hooks or end."""

    __slots__ = ("_leave",)

    name = "a gate"

    def __init__(self, mine: Any, following: Any) -> None:
        super().__init__(mine, following)
        self._leave = leave_by(_opening(following))

    __exit__ = LeaveInC(attrgetter("_leave"))


class Seen(LeftInC):
    """The same, and its wait is visible: in reports, and for the detection of deadlocks."""

    __slots__ = ()

    def __enter__(self) -> None:
        waiting = Waiting(self)
        try:
            waiting.publish()
            refuse_deadlock(waiting)
            (_,) = map(self.mine.acquire, (True,))
        finally:
            waiting.withdraw()

    def _state(self) -> None:
        """Return None, so that no snapshot shows it."""

    def _up_to(self, waiter: int) -> None:
        """Return None: no known thread has to act."""

    def _is_mine(self) -> bool:
        return False


def _opening(following: Any) -> Generator[int, Any, None]:
    while True:
        try:
            yield 0
            yield 0
        except GeneratorExit:
            raise
        except BaseException:
            following.release()
            raise
        following.release()
        yield 0
        yield 0


def _counting(make: Any, statement: str = "counter.increment()") -> Any:
    return lambda _: loop(statement, counter=make())


def _comparing(make: Any) -> Any:
    return _counting(make, "counter.compare_and_set(0, 0)")


def _among_four(make: Any) -> Any:
    def open_(_: ExitStack) -> Work:
        lock = make()
        return lambda operations: together([loop("with lock: pass", lock=lock)] * 4, operations // 4)

    return open_


def _chain(size: int, before: int, after: int, turns: int) -> float:
    """Pass turns on, with some idle rounds of a loop before and after each opening."""
    locks = [threading.Lock() for _ in range(size)]
    for lock in locks[1:]:
        lock.acquire()

    def player(mine: threading.Lock, following: threading.Lock, rounds: int) -> None:
        for _ in range(rounds):
            mine.acquire()
            for _ in range(before):
                pass
            following.release()
            for _ in range(after):
                pass

    return play([partial(player, locks[i], locks[(i + 1) % size]) for i in range(size)], turns)


def _with(kind: type[Shortest], size: int, turns: int) -> float:
    locks = [threading.Lock() for _ in range(size)]
    for lock in locks[1:]:
        lock.acquire()

    def player(gate: Shortest, rounds: int) -> None:
        for _ in range(rounds):
            with gate:
                pass

    return play([partial(player, kind(locks[i], locks[(i + 1) % size])) for i in range(size)], turns)


def _idle(size: int, before: int, after: int = 0) -> Any:
    return lambda _: partial(_chain, size, before, after)


# -- a task in an executor of threads that was handed in ---------------------------------------------------------------


class _Batches:
    """Each call of the executor runs all queued tasks, each with a future; without any other guarantee."""

    def __init__(self, stack: ExitStack) -> None:
        self.executor = stack.enter_context(ThreadPoolExecutor(WORKERS))
        self.queued: deque[Future[object]] = deque()
        self.is_due = False

    def submit(self, callback: Callable[[object], None]) -> None:
        future: Future[object] = Future()
        future.add_done_callback(callback)
        self.queued.append(future)
        if not self.is_due:
            self.is_due = True
            self.executor.submit(self.run)

    def run(self) -> None:
        self.is_due = False
        while True:
            try:
                future = self.queued.popleft()
            except IndexError:
                return
            if future.set_running_or_notify_cancel():
                future.set_result(nothing())


def _told_apart(stack: ExitStack) -> Submit:
    """The same with callbacks on their own thread, so that a slow one delays no task."""
    batches = _Batches(stack)
    inbox: SimpleQueue[tuple[Callable[[object], None], object] | None] = SimpleQueue()

    def dispatch() -> None:
        while (notice := inbox.get()) is not None:
            callback, future = notice
            callback(future)

    threading.Thread(target=dispatch, daemon=True).start()
    stack.callback(inbox.put, None)
    return lambda callback: batches.submit(lambda future: inbox.put((callback, future)))


# -- a map in chunks ---------------------------------------------------------------------------------------------------


def _each(numbers: tuple[int, ...]) -> list[object]:
    return [nothing(number) for number in numbers]


class _Chunks:
    """The shortest map over an executor: each chunk is a task; without any other guarantee."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.executor = executor

    def submitted(self, numbers: Iterable[int]) -> list[Future[list[object]]]:
        chunks = iter(numbers)
        return [self.executor.submit(_each, chunk) for chunk in iter(lambda: tuple(islice(chunks, CHUNK)), ())]

    def at_once(self, numbers: Iterable[int]) -> Iterable[object]:
        return chain.from_iterable([future.result() for future in self.submitted(numbers)])

    def one_by_one(self, numbers: Iterable[int]) -> Iterable[object]:
        for future in self.submitted(numbers):
            yield from future.result()

    def dropped(self, numbers: Iterable[int]) -> Iterable[object]:
        futures = self.submitted(numbers)
        futures.reverse()
        while futures:
            results = futures.pop().result()
            results.reverse()
            while results:
                yield results.pop()


def _chunks(way: Callable[[_Chunks, Iterable[int]], Iterable[object]]) -> Any:
    return lambda stack: mapping(partial(way, _Chunks(stack.enter_context(ThreadPoolExecutor(WORKERS)))))


def _pool(make: Callable[[ExitStack], Submit]) -> Callable[[ExitStack], Work]:
    return lambda stack: with_callbacks(make(stack))


GROUPS = (
    Group(
        "floor-lock",
        "What each guarantee adds to a free lock",
        (
            Case("threading.Lock", STDLIB, alone(threading.Lock)),
            Case("a subclass of C's RLock", STDLIB, alone(Inherited)),
            Case("+ a Python __enter__", STDLIB, alone(OneCall)),
            Case("+ a first try, and its undoing", STDLIB, alone(Undone)),
            Case("+ not re-entrant: TimedLock", OURS, alone(TimedLock)),
            Case("the same around a C lock (not kept alive)", STDLIB, alone(Composed)),
            Case("the same, __exit__ in a slot (no ExitStack)", STDLIB, alone(Slotted)),
        ),
    ),
    Group(
        "floor-counter",
        "What each guarantee adds to a count",
        (
            INLINE,
            Case("+ a method", STDLIB, _counting(Method)),
            Case("+ the new value", STDLIB, _counting(Returning)),
            Case("+ any integer", STDLIB, _counting(AnyNumber)),
            Case("+ bounds, hooks, waiting: AtomicCounter", OURS, _counting(AtomicCounter)),
        ),
    ),
    Group(
        "floor-bounds",
        "What each guarantee adds to a count with bounds",
        (
            INLINE,
            Case("a method, any integer", STDLIB, _counting(AnyNumber)),
            Case("+ two bounds", STDLIB, _counting(Bounded)),
            Case("+ no gap after entering (on 3.14)", STDLIB, _counting(partial(Bounded, reentrant.RLock))),
            Case("AtomicCounter", OURS, _counting(partial(AtomicCounter, minimum=0, maximum=10**12))),
        ),
    ),
    Group(
        "floor-compare",
        "What each guarantee adds to comparing and setting",
        (
            INLINE,
            Case("a method", STDLIB, _comparing(Comparing)),
            Case("+ nothing but integers", STDLIB, _comparing(ComparingIntegers)),
            Case("+ no gap after entering (on 3.14)", STDLIB, _comparing(partial(ComparingIntegers, reentrant.RLock))),
            Case("AtomicCounter", OURS, _comparing(AtomicCounter)),
        ),
    ),
    Group(
        "floor-lock-by-four",
        "Four threads at one lock, and at none that is entered in Python",
        (
            Case("threading.Lock", STDLIB, _among_four(threading.Lock)),
            Case("no lock, entered in Python", STDLIB, _among_four(OnlyReturning)),
        ),
        better="more",
        operations=40_000,
    ),
    Group(
        "floor-order",
        "What a little Python adds to a hand-off between two threads",
        (
            Case("chained Locks", STDLIB, _idle(2, 0)),
            Case("the shortest with", STDLIB, lambda _: partial(_with, Shortest, 2)),
            Case("+ left through C", STDLIB, lambda _: partial(_with, LeftInC, 2)),
            Case("+ seen while it waits", STDLIB, lambda _: partial(_with, Seen, 2)),
            Case("with runner.step()", OURS, lambda _: partial(runner, 2)),
            *(Case(f"chained Locks, {idle} idle loops", STDLIB, _idle(2, idle)) for idle in (50, 100, 200, 400)),
            Case("the same 200 after the opening", STDLIB, _idle(2, 0, 200)),
        ),
        operations=TURNS,
    ),
    Group(
        "floor-pool",
        "What each guarantee takes from a no-op task with a callback, in an executor of threads that was handed in",
        (
            HANDED_IN[0],
            Case("many tasks in one call", STDLIB, _pool(lambda stack: _Batches(stack).submit)),
            Case("+ a thread for callbacks", STDLIB, _pool(_told_apart)),
            HANDED_IN[1],
        ),
        better="more",
        operations=256,
    ),
    Group(
        "floor-map",
        "What each guarantee takes from a map in chunks of 64, in threads",
        (
            THREAD_POOL_MAP,
            Case("chunks in a ThreadPoolExecutor", STDLIB, _chunks(_Chunks.at_once)),
            Case("+ a generator, which can be closed", STDLIB, _chunks(_Chunks.one_by_one)),
            Case("+ no result kept after it was taken", STDLIB, _chunks(_Chunks.dropped)),
            OUR_MAP,
        ),
        better="more",
        operations=CHUNK * 32,
    ),
)
