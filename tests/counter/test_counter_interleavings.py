"""Every interleaving, instruction by instruction, of two or three threads at a counter; mutations are caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from syncprims import AtomicCounter
from syncprims._core import waits as _waits
from syncprims._core.interrupts import exhaust
from syncprims._counter import atomic_counter
from syncprims._counter import waiting as _waiters
from syncprims._counter.waiting import ValueWaiter, telling

frontrun = pytest.importorskip("frontrun")
cooperative = pytest.importorskip("frontrun._cooperative")
pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.pure,
    pytest.mark.skipif(
        "site-packages" in atomic_counter.__file__,
        reason="frontrun looks into no installed package: run it on the sources",
    ),
]

# frontrun runs one thread at a time and decides at each bytecode which is next, so no thread may block in C. It has its
# own locks, which report to it which thread waits for which, and under its virtual clock it knows at once if all block.
#
# It tries every order of the instructions that touch the same attribute or lock, as far as it sees them. That must not
# be overrated: of its verdicts with threads, `exhausted` is always None, and one of the mutations below passes if the
# waiter is the first of the threads, but not if it is the last. So each set of threads is explored in both orders,
# without a bound on preemptions, executions or time, and the mutations show how much that is worth.


class NeverToldError(Exception):
    """Raised in a thread that waits when all others have ended."""


class Bell:
    """`Mailbox`, made of parts that frontrun sees."""

    def __init__(self) -> None:
        self._items: list[int] = []
        self._count = cooperative.CooperativeSemaphore(0)

    def put(self, item: int) -> None:
        self._items.append(item)
        self._count.release()

    def putting(self, item: int) -> Callable[[], None]:
        return partial(self.put, item)

    def get(self, seconds: float | None) -> int:
        if not self._count.acquire(timeout=seconds):
            raise NeverToldError
        return self._items.pop(0)


@pytest.fixture(autouse=True)
def _seen_by_frontrun(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(atomic_counter, "RLock", cooperative.CooperativeRLock)
    monkeypatch.setattr(_waiters, "Mailbox", Bell)
    cooperative.patch_locks()
    yield
    cooperative.unpatch_locks()
    _waits._innermost.clear()  # a mutation that is caught leaves its threads behind


class Noting(AtomicCounter):
    """A counter with a list for the outcomes of the threads."""

    def __init__(self, value: int = 0) -> None:
        self.came: list[object] = []
        super().__init__(value)


Work = Callable[[Any], object]


def noting(work: Work) -> Work:
    """Let the result of the work be noted."""

    def run(counter: Noting) -> None:
        counter.came.append(work(counter))

    return run


def explore(
    make: type[Noting], works: Sequence[Work], invariant: Callable[[Any], bool], preemptions: int | None = None
) -> tuple[bool | None, int]:
    """Return frontrun's verdict, and the number of interleavings that it explored."""
    explored = 0
    for order in (works, works[::-1]):
        try:
            result = frontrun.explore(
                setup=make,
                workers=[noting(work) for work in order],
                invariant=lambda counter: (
                    invariant(counter) and counter._waiters == {} and not _waits.count_waits(counter)
                ),
                preemption_bound=preemptions,
                clock="virtual",
                detect_io=False,
                reproduce_on_failure=0,
            )
        except NeverToldError:
            return False, explored
        explored += result.num_explored
        if not result.property_holds:
            return result.property_holds, explored
    return True, explored


def increment(counter: AtomicCounter) -> int:
    return counter.increment()


def reset(counter: AtomicCounter) -> int:
    return counter.reset()


def double(counter: AtomicCounter) -> int:
    return counter.update(lambda value: value * 2)


def set_to_1(counter: AtomicCounter) -> bool:
    return counter.compare_and_set(0, 1)


def set_to_2(counter: AtomicCounter) -> bool:
    return counter.compare_and_set(0, 2)


def until_1(counter: AtomicCounter) -> int:
    return counter.wait_until(1)


def until_2(counter: AtomicCounter) -> int:
    return counter.wait_until(2)


def for_1(counter: AtomicCounter) -> int:
    return counter.wait_for(lambda value: value == 1)


def for_2(counter: AtomicCounter) -> int:
    return counter.wait_for(lambda value: value == 2)


def set_and_leave(counter: AtomicCounter) -> int:
    """Set 1, and set the old value again at once if a thread already waits for 1."""
    waited_for = bool(counter._waiters)
    counter.set(1)
    return counter.reset() if waited_for else 1


EXACT: list[tuple[list[Work], Callable[[Any], bool]]] = [
    ([increment, increment], lambda c: c.value == 2 and sorted(c.came) == [1, 2]),
    ([increment, increment, increment], lambda c: c.value == 3 and sorted(c.came) == [1, 2, 3]),
    ([increment, double], lambda c: (c.value, sorted(c.came)) in ((2, [1, 2]), (1, [0, 1]))),
    ([increment, reset], lambda c: (c.value, sorted(c.came)) in ((0, [1, 1]), (1, [0, 1]))),
    ([set_to_1, set_to_2], lambda c: sorted(c.came) == [False, True] and c.value in (1, 2)),
    ([until_1, increment], lambda c: c.came == [1, 1]),
    ([for_1, increment], lambda c: c.came == [1, 1]),
    ([until_1, set_and_leave], lambda c: c.came == [1, 1]),
    ([for_1, set_to_1], lambda c: c.came in ([True, 1], [1, True])),
]
# Three threads have more interleavings than there is time for: these are all with at most so many preemptions.
LONG: list[tuple[list[Work], Callable[[Any], bool], int | None]] = [
    ([increment, double, reset], lambda c: c.value in (0, 1, 2), None),
    ([until_2, increment, increment], lambda c: sorted(c.came) == [1, 2, 2], 1),
    ([for_2, increment, increment], lambda c: sorted(c.came) == [1, 2, 2], 1),
    ([until_1, for_1, increment], lambda c: c.came == [1, 1, 1], 1),
]


def name(case: object) -> str | None:
    return "-".join(work.__name__ for work in case) if isinstance(case, list) else None


@pytest.mark.parametrize(
    ("works", "invariant", "preemptions"),
    [
        *((*case, None) for case in EXACT),
        *(pytest.param(*case, marks=[pytest.mark.slow, pytest.mark.timeout(600)]) for case in LONG),
    ],
    ids=name,
)
def test_every_interleaving_is_right(
    works: list[Work],
    invariant: Callable[[Any], bool],
    preemptions: int | None,
    record_property: Callable[[str, object], None],
) -> None:
    """Whatever the order of the threads' instructions, changes are exact and no wake-up is lost."""
    verdict, explored = explore(Noting, works, invariant, preemptions)
    assert verdict is True
    assert explored >= 4, "there was one order only, so this proves nothing"
    record_property("interleavings of the counter", explored)


# -- mutations --------------------------------------------------------------------------------------------------


class WithoutLock(Noting):
    """Its change is one read and one write, without a lock."""

    def increment(self, n: int = 1) -> int:
        value = self._value + n
        self._value = value
        return value


class ComparesTooEarly(Noting):
    """It compares first, and takes the lock only to set."""

    def compare_and_set(self, expected: int, new: int) -> bool:
        if self._value != expected:
            return False
        self.set(new)
        return True


class TellsTooEarly(Noting):
    """It notifies the waiting threads before it changes the value."""

    def increment(self, n: int = 1) -> int:
        exhaust(telling(self._waiters, self._value + n))
        with self._lock:
            value = self._value = self._value + n
        return value


class TellsTooFew(Noting):
    """It looks for the waiting threads before it acquires the lock."""

    def increment(self, n: int = 1) -> int:
        waiters = dict(self._waiters)
        with self._lock:
            value = self._value = self._value + n
        exhaust(telling(waiters, value))
        return value


class LooksTooEarly(Noting):
    """A waiting thread looks first and registers afterwards."""

    def wait_for(self, predicate: Callable[[int], bool], timeout: float | None = None) -> int:
        value = self._value
        if predicate(value):
            return value
        waiter = ValueWaiter(predicate, "")
        self._admit(waiter)
        waiter.told.get(timeout)
        self._waiters.pop(waiter, None)
        return self._value


MUTATIONS: list[tuple[type[Noting], list[Work], Callable[[Any], bool]]] = [
    (WithoutLock, [increment, increment], lambda c: c.value == 2),
    (ComparesTooEarly, [set_to_1, set_to_2], lambda c: sorted(c.came) == [False, True]),
    (TellsTooEarly, [for_1, increment], lambda c: True),
    (TellsTooFew, [until_1, increment], lambda c: True),
    (LooksTooEarly, [for_1, increment], lambda c: True),
]


@pytest.mark.parametrize(("mutation", "works", "invariant"), MUTATIONS, ids=[case[0].__name__ for case in MUTATIONS])
def test_mutations_are_caught(
    mutation: type[Noting],
    works: list[Work],
    invariant: Callable[[Any], bool],
    record_property: Callable[[str, object], None],
) -> None:
    """If one step has the wrong place, some interleaving loses a change or hangs, and it is found."""
    verdict, _ = explore(mutation, works, invariant)
    assert verdict is False
    record_property("mutations caught", 1)
