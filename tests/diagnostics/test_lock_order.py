"""The lock-order check: its reports, the uses that it allows, and its memory."""

from __future__ import annotations

import gc
import itertools
import random
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Barrier
from typing import Any

import pytest

from locks.actors import LIMIT, Actors, eventually
from programs import environment
from syncprims import DeadlockError, LockAdapter, LockOrderError, TimedLock, TimedRLock, acquire_all
from syncprims.diagnostics import LockOrderWarning, check_lock_order, ignore_lock_order, lock_order
from syncprims.testing.conformance import lock_waits

AnyLock = TimedLock | LockAdapter


def timed(name: str) -> AnyLock:
    """A lock."""
    return TimedLock(name=name)


def adapted(name: str) -> AnyLock:
    """A lock of another kind."""
    return LockAdapter(threading.Lock(), name=name)


each_kind = pytest.mark.parametrize("make", [timed, adapted, lambda name: TimedRLock(name=name)])


def take(*locks: AbstractContextManager[object]) -> None:
    """Acquire the locks one inside the other."""
    if locks:
        with locks[0]:
            take(*locks[1:])


def take_in_order(first: AnyLock, second: AnyLock) -> None:
    """A place that can be recognized by its name."""
    with first, second:
        pass


def take_in_disorder(first: AnyLock, second: AnyLock) -> None:
    """Another."""
    with second, first:
        pass


@each_kind
def test_an_inversion_is_reported_though_nothing_deadlocks(make: Callable[[str], AnyLock]) -> None:
    """Two orders, one after the other in one thread, are an error with both stacks that leaves no lock acquired."""
    a, b = make("a"), make("b")
    with check_lock_order() as check:
        take_in_order(a, b)
        with pytest.raises(LockOrderError) as caught:
            take_in_disorder(a, b)
        assert not a.locked()
        assert not b.locked()
    assert "in take_in_order" in caught.value.first_seen
    assert "in take_in_disorder" in caught.value.now
    assert "with second, first:" in caught.value.now
    assert "diagnostics" not in caught.value.now.replace(__file__, "")
    last = str(caught.value).splitlines()[-1]
    assert "this thread takes 'a' while it held 'b'" in last
    assert "a thread took 'b' while it held 'a'" in last
    assert "acquire_all()" in last
    assert len(check.inversions) == 1


def test_the_first_order_may_be_anothers() -> None:
    """The order of one thread counts against that of another."""
    a, b = timed("a"), timed("b")
    with check_lock_order(), Actors() as actors:
        assert actors.start(lambda: take(a, b)).error() is None
        assert isinstance(actors.start(lambda: take(b, a)).error(), LockOrderError)


@pytest.mark.parametrize("size", [3, 5])
def test_a_longer_cycle_is_an_inversion(size: int) -> None:
    """Orders that together make a cycle, though no two of them conflict, are reported with every stack."""
    locks = [timed(str(number)) for number in range(size)]
    with check_lock_order() as check:
        for first, second in itertools.pairwise(locks):
            take(first, second)
        with pytest.raises(LockOrderError) as caught:
            take(locks[-1], locks[0])
    assert caught.value.first_seen.count("in test_a_longer_cycle") == size - 1
    assert len(check.inversions) == 1


def test_every_seeded_inversion_is_found_and_nothing_else() -> None:
    """Among many nestings in one order, each of the swapped pairs is reported once, and no other."""
    order = random.Random(7)
    locks = [timed(f"lock-{number}") for number in range(12)]
    swapped = [(1, 2), (4, 9), (3, 11)]
    with check_lock_order("warn") as check, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(300):
            take(*(locks[number] for number in sorted(order.sample(range(12), 3))))
        for first, second in pairs(12):
            take(locks[first], locks[second])
        found_before = len(check.inversions)
        for _ in range(2):
            for first, second in swapped:
                take(locks[second], locks[first])
    assert found_before == 0
    assert len(check.inversions) == len(caught) == len(swapped)
    for (first, second), error in zip(swapped, check.inversions, strict=True):
        assert f"'lock-{first}' while it held 'lock-{second}'" in str(error).splitlines()[-1]


def pairs(size: int) -> list[tuple[int, int]]:
    """All pairs in order."""
    return [(first, second) for first in range(size) for second in range(first + 1, size)]


def test_raising_goes_on_and_counts_once() -> None:
    """Each further attempt is refused like the first, the right order stays allowed, and the list has it once."""
    a, b = timed("a"), timed("b")
    with check_lock_order() as check:
        take(a, b)
        for _ in range(3):
            with pytest.raises(LockOrderError):
                take(b, a)
            take(a, b)
    assert len(check.inversions) == 1


def test_warnings_point_to_the_program() -> None:
    """With "warn" the locks are acquired, and the warning has its own category and the line that acquires them."""
    a, b = timed("a"), timed("b")
    with check_lock_order("warn"):
        take_in_order(a, b)
        with pytest.warns(LockOrderWarning) as caught:
            take_in_disorder(a, b)
    assert caught[0].filename == __file__
    assert issubclass(LockOrderWarning, RuntimeWarning)


# -- what is left alone ------------------------------------------------------------------------------------------------


def quietly(*orders: Callable[[], object]) -> None:
    """Do everything under the check, which must report nothing."""
    with check_lock_order() as check:
        for order in orders:
            order()
    assert check.inversions == ()


def test_acquire_all_has_one_order() -> None:
    """However its locks are listed, acquire_all inverts nothing; an order that conflicts with its own is reported."""
    a, b = timed("a"), timed("b")
    with check_lock_order() as check:
        take(acquire_all(a, b))
        take(acquire_all(b, a))
        take(acquire_all(b, a, timeout=1.0))
        take(a, b)
        assert check.inversions == ()
        with pytest.raises(LockOrderError):
            take(b, a)


@each_kind
@pytest.mark.parametrize(
    "attempt",
    [
        lambda lock: lock.acquire(blocking=False),
        lambda lock: lock.acquire(timeout=0),
        lambda lock: lock.acquire(timeout=1.0),
        lambda lock: bool(lock.hold(0).__enter__()),
    ],
    ids=["non-blocking", "timeout 0", "timed acquire", "hold(0)"],
)
def test_a_try_inverts_nothing(make: Callable[[str], AnyLock], attempt: Callable[[AnyLock], bool]) -> None:
    """A thread that tries, and gives up by itself, can't deadlock, and makes no order either."""
    a, b = make("a"), make("b")

    def try_second() -> None:
        with b:
            assert attempt(a)
            a.release()

    quietly(lambda: take(a, b), try_second)
    quietly(try_second, lambda: take(a, b))


def test_what_is_held_by_a_try_counts() -> None:
    """A lock that a try acquired is held like any other: locks acquired after it come after it in the order."""
    a, b = timed("a"), timed("b")
    with check_lock_order():
        take(b, a)
        assert a.acquire(blocking=False)
        with pytest.raises(LockOrderError):
            b.acquire()
        a.release()


def test_taking_a_lock_again_inverts_nothing() -> None:
    """A thread that holds a reentrant lock does not wait for it."""
    a, b = TimedRLock(name="a"), timed("b")
    quietly(lambda: take(a, b, a), lambda: take(a, b, a, a))


def test_orders_that_a_third_lock_keeps_apart_are_no_inversion() -> None:
    """Two orders under one common lock can't meet; as soon as one is seen without it, they can."""
    guard, a, b = timed("guard"), timed("a"), timed("b")
    with check_lock_order() as check:
        take(guard, a, b)
        take(guard, b, a)
        assert check.inversions == ()
        with pytest.raises(LockOrderError):
            take(a, b)


def test_locks_released_in_another_order_are_held_no_more() -> None:
    """Hand over hand, a lock that is released before the next is acquired makes no order with it."""
    a, b, c = timed("a"), timed("b"), timed("c")

    def hand_over_hand() -> None:
        a.acquire()
        assert b.acquire(blocking=False)  # a try, because a before b before c would be an order after all
        a.release()
        take(c)
        b.release()

    quietly(hand_over_hand, lambda: take(c, a))


def test_a_condition_lets_go_of_its_lock() -> None:
    """A thread that waits for a condition does not hold its lock during the wait, but again afterwards."""
    a = timed("a")
    condition = threading.Condition(TimedLock(name="c"))  # type: ignore[arg-type]  # it takes any lock
    with check_lock_order() as check:
        with condition:
            condition.wait(0.001)
            take(a)
        with a, pytest.raises(LockOrderError), condition:
            pass
    assert len(check.inversions) == 1


def test_a_lock_released_unseen_is_not_held() -> None:
    """A release by a function that was looked up before the check began is noticed later."""
    a, b = timed("a"), timed("b")
    release = a.release

    def unseen() -> None:
        a.acquire()
        release()
        take(b)

    quietly(unseen, lambda: take(b, a))


def test_locks_that_are_gone_are_forgotten() -> None:
    """The check keeps no lock alive, and its memory goes with them."""
    with check_lock_order() as check:
        for _ in range(50):
            take(timed("a"), timed("b"))
        short_lived = timed("short")
        gone = weakref.ref(short_lived)
        a, b = timed("a"), timed("b")
        take(a, short_lived, b)
        del short_lived
        gc.collect()
        assert gone() is None
        take(b, timed("other"))
        assert len(check._graph._edges) <= 3


def test_two_threads_that_add_the_halves_at_once_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that check for the other half of an inversion at the same moment, exactly one is refused."""
    a, b = timed("a"), timed("b")
    check, barrier = check_lock_order(), Barrier(2)
    find, found = check._graph.path, []

    def find_slowly(*args: Any, **options: Any) -> Any:
        path = find(*args, **options)
        found.append(path)
        # No edge is added before the other thread has checked as well, or waits to do so.
        eventually(lambda: len(found) == 2 or check._mutex.waiting)
        return path

    def cross(first: AnyLock, second: AnyLock) -> bool:
        with first:
            barrier.wait(LIMIT)
            try:
                with second:
                    return True
            except LockOrderError:
                return False

    monkeypatch.setattr(check._graph, "path", find_slowly)
    with check, Actors() as actors:
        jobs = [actors.start(lambda: cross(a, b)), actors.start(lambda: cross(b, a))]
        assert sorted(job.result() for job in jobs) == [False, True]
    assert len(check.inversions) == 1


# -- turning it on -----------------------------------------------------------------------------------------------------


def test_an_unknown_action_is_refused() -> None:
    """Only two actions exist."""
    with pytest.raises(ValueError, match='"raise" or "warn"'):
        check_lock_order("shout")  # type: ignore[arg-type]  # this is the test


# -- exempt ---------------------------------------------------------------------------------------------------------


def test_what_is_exempt_is_not_looked_at() -> None:
    """Inside ignore_lock_order() an inversion is not reported, in any thread and at any depth."""
    a, b = timed("a"), timed("b")
    with check_lock_order() as check:
        take_in_order(a, b)
        with ignore_lock_order():
            with ignore_lock_order():
                take_in_disorder(a, b)
            with Actors() as actors:
                actors.start(lambda: take_in_disorder(a, b))
        assert check.inversions == ()
        with pytest.raises(LockOrderError):
            take_in_disorder(a, b)


def test_what_was_exempt_leaves_no_order_behind() -> None:
    """If an order was seen only inside ignore_lock_order(), the other order is not an inversion later."""
    a, b = timed("a"), timed("b")
    with check_lock_order() as check:
        ignore_lock_order()(take_in_disorder)(a, b)
        take_in_order(a, b)
    assert check.inversions == ()


def test_locks_taken_while_exempt_are_known_to_be_held() -> None:
    """A lock that is acquired there and kept counts for later orders."""
    a, b = timed("a"), timed("b")
    with check_lock_order():
        take_in_order(b, a)
        with ignore_lock_order():
            a.acquire()
        with pytest.raises(LockOrderError), b:
            pass
        a.release()


def test_the_exemption_ends_with_an_exception_too() -> None:
    """A test that fails inside it does not turn the check off for later tests."""
    a, b = timed("a"), timed("b")
    with check_lock_order():
        with pytest.raises(ZeroDivisionError), ignore_lock_order():
            raise ZeroDivisionError
        take_in_order(a, b)
        with pytest.raises(LockOrderError):
            take_in_disorder(a, b)


def test_the_conformance_kit_deadlocks_without_a_report() -> None:
    """Its deadlocks on purpose are still detected, and the check over a suite does not report them."""
    with check_lock_order() as check:
        outcomes, _ = lock_waits._cross(TimedLock)
    assert {type(outcome) for outcome in outcomes} == {bool, DeadlockError}
    assert check.inversions == ()


PROGRAM = """
import sys
import syncprims
a, b = syncprims.TimedLock(name="a"), syncprims.TimedLock(name="b")
with a, b:
    pass
try:
    with b, a:
        print("taken")
except syncprims.LockOrderError:
    print("refused")
print("diagnostics" in str(sorted(sys.modules)))
"""


def run(value: str | None) -> tuple[list[str], str]:
    """Run the program with the environment variable; return its lines and its standard error."""
    inherited = environment(without=["SYNCPRIMS_LOCK_ORDER"])
    seen = inherited if value is None else {**inherited, "SYNCPRIMS_LOCK_ORDER": value}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=seen,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    return done.stdout.split(), done.stderr


def test_the_environment_turns_it_on() -> None:
    """SYNCPRIMS_LOCK_ORDER=raise refuses and =warn warns, without any import of the diagnostics by the program."""
    assert run("raise") == (["refused", "True"], "")
    lines, error = run("warn")
    assert lines == ["taken", "True"]
    assert "LockOrderWarning" in error


def test_without_the_environment_nothing_is_loaded() -> None:
    """With the variable unset or empty there is no check; if it is unset, no diagnostics are even imported."""
    assert run(None) == (["taken", "False"], "")
    assert run("")[0] == ["taken", "True"]


def test_the_environment_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned on twice it is one check, for the rest of the program."""
    monkeypatch.setattr(lock_order, "_for_program", None)
    monkeypatch.setenv("SYNCPRIMS_LOCK_ORDER", "Raise ")
    a, b = TimedLock(name="a"), TimedLock(name="b")
    lock_order.check_as_environment_says()
    check = lock_order._for_program
    assert check is not None
    try:
        lock_order.check_as_environment_says()
        assert lock_order._for_program is check
        with a, b:
            pass
        with pytest.raises(LockOrderError), b, a:
            pass
    finally:
        check.__exit__(None, None, None)


def test_a_value_that_means_nothing_is_warned_of() -> None:
    """A misspelt value causes a warning, and the program runs."""
    lines, error = run("rise")
    assert lines[0] == "taken"
    assert "SYNCPRIMS_LOCK_ORDER='rise' means nothing" in error
    assert "'raise' or 'warn'" in error
