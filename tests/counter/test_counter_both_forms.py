"""A compiled counter and one in Python alone do the same with any arguments: outcomes, errors and their texts."""

from __future__ import annotations

import gc
import inspect
import operator
import re
import sys
import weakref
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from both_forms import examples, needs_the_core, outcome, pure
from syncprims import AtomicCounter
from syncprims._core.speedups import core
from syncprims.testing import Threads

pytestmark = needs_the_core

METHODS = ["increment", "decrement", "add", "get_and_add", "set", "get_and_set", "compare_and_set"]


class Index:
    """An object that is not an integer and can be converted to one, or refuses."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        if self.number == 13:
            raise LookupError("unlucky")
        return self.number

    def __repr__(self) -> str:
        return f"Index({self.number})"


class Own(int):
    """An integer of its own class."""

    def __add__(self, other: object) -> int:
        raise AssertionError("a method of the user's ran")

    __radd__ = __eq__ = __le__ = __ge__ = __add__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


# The limits of CPython's compact integers, of the core's word, and of 64 bits, and numbers beyond them.
EDGES = [sign * (2**bits + off) for bits in (30, 60, 61, 62, 63, 64, 200) for off in (-1, 0, 1) for sign in (1, -1)]
numbers = st.one_of(st.integers(-3, 3), st.sampled_from(EDGES), st.integers())
arguments = st.one_of(
    *[numbers] * 5,
    numbers.map(Own),
    st.integers(8, 15).map(Index),
    st.sampled_from([True, False, None, 1.0, float("nan"), "1", b"", [], 1j]),
)
names = st.sampled_from(["n", "new", "expected", "self", "other"])
functions = st.sampled_from([operator.neg, lambda value: value * 3, str, int])
calls: st.SearchStrategy[tuple[str, tuple[Any, ...], dict[str, Any]]] = st.one_of(
    st.tuples(st.sampled_from(METHODS), st.tuples(arguments), st.just({})),
    st.tuples(st.just("compare_and_set"), st.tuples(arguments, arguments), st.just({})),
    st.tuples(st.just("compare_and_set"), st.tuples(st.just("the value"), arguments), st.just({})),
    st.tuples(
        st.sampled_from([*METHODS, "reset", "update", "wait_until", "__init__"]),
        st.lists(arguments, max_size=3).map(tuple),
        st.dictionaries(names, arguments, max_size=2),
    ),
    st.tuples(st.just("update"), functions.map(lambda fn: (fn,)), st.just({})),
)
bounds = st.one_of(st.none(), numbers, st.sampled_from([True, Own(5), Index(9), 2.5]))


def kinds(module: Any) -> dict[str, Any]:
    """The classes to compare: the counter, one with its hook, one that overrides and calls up."""

    class Hooked(module.AtomicCounter):  # type: ignore[misc]
        def _on_change(self, old: int, new: int) -> None:
            if new % 5 == 0:
                raise ArithmeticError(f"from {old} to {new}")

    class Above(module.AtomicCounter):  # type: ignore[misc]
        def increment(self, n: int = 1) -> int:
            return super().increment(n) * 2  # type: ignore[no-any-return]

    return {"plain": module.AtomicCounter, "hooked": Hooked, "above": Above}


COMPILED, PURE = kinds(sys.modules["syncprims"]), kinds(pure())


def _timeless(came: object) -> str:
    # The length of a wait depends on the machine, even if the wait gives up at once.
    return re.sub(r"waited \d+\.\d s", "waited", repr(came))


@settings(max_examples=examples(400), deadline=None)
@given(
    st.sampled_from(sorted(COMPILED)),
    numbers,
    bounds,
    bounds,
    st.booleans(),
    st.lists(calls, max_size=12),
)
def test_both_forms_do_the_same(
    kind: str, value: int, minimum: Any, maximum: Any, bounded: bool, calls: list[tuple[str, Any, Any]]
) -> None:
    """Any call with any arguments has the same outcome, the same error with the same text, and the same value."""
    limits = {"minimum": minimum, "maximum": maximum} if bounded else {}
    made = [outcome(partial(form[kind], value, name="it", **limits)) for form in (COMPILED, PURE)]
    counters: list[Any] = [one[1] for one in made]
    if not isinstance(counters[0], AtomicCounter):
        assert made[0] == made[1]
        return
    for name, args, kwargs in calls:
        if name == "wait_until":
            kwargs = {**kwargs, "timeout": 0}
        if name == "__init__":
            kwargs = {**kwargs, "name": "it"}  # otherwise it would get a name with a serial
        given = [[c.value if type(arg) is str and arg == "the value" else arg for arg in args] for c in counters]
        ours, theirs = (outcome(getattr(c, name), *arg, **kwargs) for c, arg in zip(counters, given, strict=True))
        assert _timeless(ours) == _timeless(theirs), (name, args, kwargs)
        assert counters[0].value == counters[1].value
        assert type(counters[0].value) is int
        assert repr(counters[0]) == repr(counters[1])


@pytest.mark.parametrize("name", [*METHODS, "value"])
def test_the_methods_look_the_same(name: str) -> None:
    """Help, names and parameters of the core's methods are those of the Python methods."""
    ours, theirs = getattr(AtomicCounter, name), getattr(pure().AtomicCounter, name)
    assert ours is not theirs
    assert ours.__doc__ == theirs.__doc__
    if name != "value":
        assert (ours.__name__, ours.__qualname__) == (theirs.__name__, theirs.__qualname__)

        def shape(method: object) -> list[tuple[str, object]]:
            return [(each.name, each.default) for each in inspect.signature(method).parameters.values()]  # type: ignore[arg-type]

        assert shape(ours) == shape(theirs)
        assert inspect.ismethoddescriptor(ours)
        assert inspect.isroutine(ours)
        assert not isinstance(theirs, type(ours)), "this compares the core with itself"


def test_the_core_puts_its_methods_once_and_where_they_belong() -> None:
    """A wrong call of the core's own function is an error, and never a crash."""
    for cls, name, error in [
        (int, "add", TypeError),
        (AtomicCounter, "add", RuntimeError),
        (AtomicCounter, "multiply", ValueError),
    ]:
        with pytest.raises(error):
            core.put(cls, name, "")
    wrongs: list[Any] = [5, object(), pure().AtomicCounter()]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            AtomicCounter.increment(wrong)
        with pytest.raises(TypeError):
            AtomicCounter.value.__get__(wrong)


def test_an_unfinished_counter_is_no_hazard() -> None:
    """A counter whose constructor was not called, or failed, raises and does not crash."""
    ours, theirs = AtomicCounter.__new__(AtomicCounter), pure().AtomicCounter.__new__(pure().AtomicCounter)
    for name in ("_value", "value"):
        with pytest.raises(AttributeError, match="_value"):
            getattr(ours, name)
    for name, args in [("increment", ()), ("set", (5,)), ("compare_and_set", (0, 1)), ("reset", ())]:
        assert outcome(getattr(ours, name), *args) == outcome(getattr(theirs, name), *args)
    for name in ("_value", "_special", "_least"):
        with pytest.raises(AttributeError):
            delattr(AtomicCounter(), name)
    with pytest.raises(TypeError):
        AtomicCounter()._value = "1"  # type: ignore[assignment]


def test_no_reference_is_lost_or_kept() -> None:
    """Counters, their numbers and their classes go away when nothing refers to them any more."""
    number = 2**200 + 1
    before = sys.getrefcount(number)

    def use(base: Any) -> list[weakref.ref[Any]]:
        class Mine(base):  # type: ignore[misc]
            pass

        counter = Mine(2**100)
        counter.set(number)
        assert counter.value is number
        counter.set(5)
        assert counter.get_and_set(number) == 5
        for _ in range(100):
            counter.compare_and_set(number, number)
            counter.compare_and_set(1, number)
        counter.set(5)
        return [weakref.ref(counter), weakref.ref(Mine)]

    gone, control = use(AtomicCounter), use(pure().AtomicCounter)
    gc.collect()
    assert gone[0]() is None
    assert (gone[1]() is None) == (control[1]() is None)  # 3.13t keeps every class once a thread has been started
    assert sys.getrefcount(number) == before


def test_nothing_is_lost_on_the_way_between_word_and_big_number() -> None:
    """Threads that add across the limit of the word, in both directions, lose nothing; readers see whole numbers."""
    edge, rounds = 2**61, 2000
    counter = AtomicCounter(edge - 3)
    sums = [0] * 4

    def work(number: int) -> None:
        for turn in range(rounds):
            step = 7 if (turn + number) % 2 else -7
            counter.add(step)
            sums[number] += step
            assert abs(counter.value - edge) < 100 * rounds

    with Threads() as threads:
        for number in range(4):
            threads.start(work, number)
    assert counter.value == edge - 3 + sum(sums)


def test_waits_miss_no_change_of_the_core() -> None:
    """A waiting thread gets every value that it waits for while others take the fast path."""
    counter = AtomicCounter()

    def push() -> None:
        for _ in range(3000):
            counter.increment()

    def wait() -> None:
        for goal in range(0, 6001, 60):
            assert counter.wait_until(goal, timeout=60) >= goal

    with Threads() as threads:
        for work in (push, push, wait, wait):
            threads.start(work)
    assert counter.value == 6000
