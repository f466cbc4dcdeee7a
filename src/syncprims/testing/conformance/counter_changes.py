"""The contract of a counter's changes: which value a method returns, the bounds, and that no change is lost."""

from __future__ import annotations

import pickle
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from ..._counter.atomic_counter import AtomicCounter
from ...errors import CounterBoundsError, DeadlockError
from .contract import Contract
from .trial import aside, expect, expect_that, finish, in_child, limit, raises, start, still, sweep, wait

Make: TypeAlias = Callable[..., AtomicCounter]

changes: Contract[Make] = Contract()

_THREADS = 4
_TIMES = 200


class _Seven:
    """An object that `operator.index` accepts as an integer."""

    def __index__(self) -> int:
        return 7


# -- which value a method returns -------------------------------------------------------------------------------------


@changes.clause("value, int() and format() read it", "made counters and read them")
def _value(make: Make) -> None:
    expect("value of a counter made without one", make().value, 0)
    counter = make(42)
    expect("value", counter.value, 42)
    expect("int(counter)", int(counter), 42)
    expect("f'{counter:05d}'", f"{counter:05d}", "00042")


@changes.clause("increment(), decrement() and add() return the new value", "called each with and without a number")
def _new(make: Make) -> None:
    counter = make(5)
    expect("increment()", counter.increment(), 6)
    expect("increment(4)", counter.increment(4), 10)
    expect("decrement()", counter.decrement(), 9)
    expect("decrement(4)", counter.decrement(4), 5)
    expect("add(-15)", counter.add(-15), -10)
    expect("value after that", counter.value, -10)


@changes.clause("get_and_add() and get_and_set() return the old value", "called both")
def _old(make: Make) -> None:
    counter = make(5)
    expect("get_and_add()", counter.get_and_add(), 5)
    expect("get_and_add(4)", counter.get_and_add(4), 6)
    expect("get_and_set(1)", counter.get_and_set(1), 10)
    expect("value after that", counter.value, 1)


@changes.clause("set() sets it, and reset() goes back to the start and returns the old value", "called both")
def _set(make: Make) -> None:
    counter = make(5)
    counter.set(9)
    expect("value after that", counter.value, 9)
    expect("reset()", counter.reset(), 9)
    expect("value after that", counter.value, 5)


@changes.clause(
    "compare_and_set() sets it only if it has the expected value, and tells", "called it with the value and another"
)
def _compare(make: Make) -> None:
    counter = make(5)
    expect("compare_and_set(4, 9)", counter.compare_and_set(4, 9), False)
    expect("value after that", counter.value, 5)
    expect("compare_and_set(5, 9)", counter.compare_and_set(5, 9), True)
    expect("value after that", counter.value, 9)


@changes.clause("an integer of any size is exact", "counted beyond 64 and 200 bits")
def _large(make: Make) -> None:
    for start_value in (2**63 - 1, 2**200):
        counter = make(start_value)
        expect(f"increment() of {start_value}", counter.increment(), start_value + 1)
        expect("decrement() by it", counter.decrement(start_value), 1)


@changes.clause(
    "a value that is not an integer raises TypeError and changes nothing",
    "handed True, 1.5, '1' and None to all methods",
)
def _type(make: Make) -> None:
    counter = make(5)
    wrong: Any
    for wrong in (True, 1.5, "1", None):
        for name in ("increment", "decrement", "add", "get_and_add", "set", "get_and_set"):
            raises(TypeError, f"{name}({wrong!r})", getattr(counter, name), wrong)
        raises(TypeError, f"compare_and_set(5, {wrong!r})", counter.compare_and_set, 5, wrong)
        raises(TypeError, f"update() to {wrong!r}", counter.update, _always(wrong))
        raises(TypeError, f"a counter of {wrong!r}", make, wrong)
    expect("value after that", counter.value, 5)


@changes.clause("anything with __index__ is an integer", "handed such an object to the methods")
def _index(make: Make) -> None:
    counter = make(_Seven())
    expect("value", counter.value, 7)
    add: Callable[[Any], int] = counter.add
    expect("add(seven)", add(_Seven()), 14)
    expect_that(type(counter.value) is int, f"value gave a {type(counter.value).__name__}")


def _always(answer: int) -> Callable[[int], int]:
    return lambda _value: answer


# -- bounds -----------------------------------------------------------------------------------------------------------


def _too_far(counter: AtomicCounter) -> dict[str, Callable[[], object]]:
    """Changes that take a counter from 5 out of the bounds 0 to 10."""
    return {
        "increment(6)": partial(counter.increment, 6),
        "decrement(6)": partial(counter.decrement, 6),
        "add(6)": partial(counter.add, 6),
        "get_and_add(-6)": partial(counter.get_and_add, -6),
        "set(11)": partial(counter.set, 11),
        "get_and_set(-1)": partial(counter.get_and_set, -1),
        "compare_and_set(5, 11)": partial(counter.compare_and_set, 5, 11),
        "update() to 11": partial(counter.update, lambda value: value + 6),
    }


@changes.clause(
    "a change out of its bounds raises CounterBoundsError and changes nothing", "tried to leave 0 to 10 in all ways"
)
def _bounds(make: Make) -> None:
    counter = make(5, minimum=0, maximum=10)
    for what, change in _too_far(counter).items():
        error = raises(CounterBoundsError, what, change)
        expect(f"value after {what}", counter.value, 5)
        facts = error.value, error.minimum, error.maximum
        expect(f"value, minimum and maximum of the error of {what}", facts, (5, 0, 10))


@changes.clause("a counter may reach its bounds", "went to the two ends of 0 to 10")
def _reach(make: Make) -> None:
    counter = make(5, minimum=0, maximum=10)
    expect("add(5)", counter.add(5), 10)
    expect("decrement(10)", counter.decrement(10), 0)
    expect("compare_and_set(0, 10)", counter.compare_and_set(0, 10), True)


@changes.clause("a counter can't be made out of its bounds", "made some that are")
def _made(make: Make) -> None:
    raises(CounterBoundsError, "a counter of 11 with maximum=10", make, 11, maximum=10)
    raises(CounterBoundsError, "a counter of -1 with minimum=0", make, -1, minimum=0)
    raises(ValueError, "a counter with minimum=2, maximum=1", make, 2, minimum=2, maximum=1)


# -- threads ----------------------------------------------------------------------------------------------------------


def _together(work: Callable[[], object]) -> None:
    """Do the work many times, in several threads that begin at the same time."""
    begin = threading.Barrier(_THREADS)

    def loop() -> None:
        begin.wait(limit())
        for _ in range(_TIMES):
            work()

    for worker in [start(loop) for _ in range(_THREADS)]:
        finish(worker, "a thread that changes the counter")


@changes.clause("no change of any thread is lost", "changed it in four threads, in every way, and counted")
def _lost(make: Make) -> None:
    counter = make()
    total = _THREADS * _TIMES
    ways: dict[str, Callable[[], object]] = {
        "increment()": counter.increment,
        "add(1)": partial(counter.add, 1),
        "get_and_add()": counter.get_and_add,
        "decrement(-1)": partial(counter.decrement, -1),
        "update()": partial(counter.update, lambda value: value + 1),
    }
    for what, change in ways.items():
        counter.set(0)
        _together(change)
        expect(f"the value after {total} times {what}", counter.value, total)


@changes.clause("no two changes return the same value", "drew tickets in four threads")
def _tickets(make: Make) -> None:
    counter = make()
    new: list[int] = []
    old: list[int] = []

    def draw() -> None:
        new.append(counter.increment())
        old.append(counter.get_and_add())

    _together(draw)
    for what, drawn in (("increment()", new), ("get_and_add()", old)):
        expect(f"the number of different values of {what}", len(set(drawn)), _THREADS * _TIMES)


@changes.clause("compare_and_set() lets one of several threads win", "let four threads race, again and again")
def _race(make: Make) -> None:
    counter = make()
    won: list[int] = []

    def race() -> None:
        seen = counter.value
        if counter.compare_and_set(seen, seen + 1):
            won.append(seen)

    _together(race)
    expect("the number of different values that were won", len(set(won)), len(won))
    expect("the value", counter.value, len(won))


@changes.clause("bounds hold between threads", "took 100 from it in four threads that tried 200 times each")
def _bounds_race(make: Make) -> None:
    counter = make(100, minimum=0)
    refused: list[CounterBoundsError] = []

    def take() -> None:
        try:
            counter.decrement()
        except CounterBoundsError as error:
            refused.append(error)

    _together(take)
    expect("the value", counter.value, 0)
    expect("the number of refusals", len(refused), _THREADS * _TIMES - 100)


# -- update -----------------------------------------------------------------------------------------------------------


@changes.clause("update() calls its function once, with the value, and returns the new one", "called it and counted")
def _update(make: Make) -> None:
    counter = make(5)
    calls: list[int] = []

    def double(value: int) -> int:
        calls.append(value)
        return 2 * value

    expect("update(double)", counter.update(double), 10)
    expect("the values that the function got", calls, [5])
    expect("value after that", counter.value, 10)


@changes.clause("no other change comes in the middle of an update()", "incremented while an update() was going on")
def _atomic(make: Make) -> None:
    counter = make(5)
    begun, go = threading.Event(), threading.Event()

    def slowly(value: int) -> int:
        begun.set()
        go.wait(limit())
        return 2 * value

    updating = start(counter.update, slowly)
    try:
        wait(begun, "the call of the function of update()")
        incrementing = start(counter.increment)
        still(incrementing, "increment() in the middle of an update()")
    finally:
        go.set()
    expect("update()", finish(updating), 10)
    expect("increment()", finish(incrementing), 11)


@changes.clause("an update() whose function raises changes nothing", "raised in the function, then used the counter")
def _update_error(make: Make) -> None:
    counter = make(5)
    error = ValueError("from the function")

    def fail(_value: int) -> int:
        raise error

    got = raises(ValueError, "update(fail)", counter.update, fail)
    expect_that(got is error, f"what came out of update() was {got!r}, not the function's own exception")
    expect("value after that", counter.value, 5)
    expect("increment() in another thread", aside(counter.increment), 6)


@changes.clause("a change from within its own update() raises DeadlockError", "incremented in the function of update()")
def _update_again(make: Make) -> None:
    counter = make(5)
    raises(DeadlockError, "increment() in update()", aside, counter.update, lambda _value: counter.increment())
    expect("value after that", counter.value, 5)
    expect("increment() after that", aside(counter.increment), 6)


# -- what it is -------------------------------------------------------------------------------------------------------


@changes.clause("counters compare by identity, and there is no +=", "compared two of the same value, and tried +=")
def _identity(make: Make) -> None:
    one, two = make(1), make(1)
    expect("one == two", one == two, False)
    expect("the number of keys that they are in a dict", len({one: 1, two: 2}), 2)
    for name in ("__iadd__", "__add__"):
        expect_that(not hasattr(one, name), f"it has {name}, so that `counter += 1` would run, and race")


@changes.clause("a counter shows its name in repr(), can be weakly referenced, and can't be pickled", "did all three")
def _object(make: Make) -> None:
    counter = make(41)
    expect_that(counter.name and type(counter.name) is str, f"name gave {counter.name!r}")
    text = repr(counter)
    expect_that(counter.name in text and "41" in text, f"repr() of {counter.name!r} at 41 gave {text!r}")
    expect_that(weakref.ref(counter)() is counter, "a weak reference did not lead to the counter")
    raises(TypeError, "pickle.dumps(counter)", pickle.dumps, counter)


@changes.clause("a counter is usable in a forked child", "forked while another thread was in the middle of update()")
def _fork(make: Make) -> None:
    counter = make(5)
    begun, go = threading.Event(), threading.Event()

    def slowly(value: int) -> int:
        begun.set()
        go.wait(limit())
        return value

    updating = start(counter.update, slowly)
    try:
        wait(begun, "the call of the function of update()")
        in_child(lambda: expect("increment()", counter.increment(), 6))
    finally:
        go.set()
    finish(updating)


# -- interrupts -------------------------------------------------------------------------------------------------------


@changes.clause(
    "an interrupt anywhere in a change leaves it made or not made, and the counter usable",
    "interrupted increment(), get_and_set() and update() at every point",
    main_thread=True,
)
def _interrupts(make: Make) -> None:
    scenarios: tuple[Callable[[AtomicCounter], object], ...] = (
        lambda counter: counter.increment(),
        lambda counter: counter.get_and_set(6),
        lambda counter: counter.update(lambda value: value + 1),
    )

    def problem(counter: AtomicCounter) -> str | None:
        value = counter.value
        if value not in (5, 6):
            return f"the value is {value}, neither 5 nor 6"
        incrementing = start(counter.increment)
        incrementing.thread.join(limit())
        return None if incrementing.done() else "increment() in another thread hangs"

    for scenario in scenarios:
        sweep(partial(make, 5, minimum=0, maximum=10), scenario, problem, "warm", "cold", "storm", "cold storm")
        sweep(partial(make, 5), scenario, problem, "warm", "cold", "storm", "cold storm")
