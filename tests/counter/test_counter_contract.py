"""The guarantees of `AtomicCounter` to a single thread: results of changes, bounds, and allowed integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from counter.cases import Change, Recording, each_change, each_kind, each_unchanging
from syncprims import AtomicCounter, CounterBoundsError, SyncError

HUGE = 10**40


class Index:
    """An object that is an integer only by its ``__index__``."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value  # type: ignore[return-value]  # some tests return a wrong type on purpose


class Score(int):
    """A subclass of `int` with wrong arithmetic."""

    def __add__(self, other: int) -> int:
        raise AssertionError("the counter's arithmetic must be int's own")

    __radd__ = __add__


@each_kind
@each_change
def test_changes_return_what_their_names_say(
    make: Callable[[], AtomicCounter], change: Change, returned: object, left: int
) -> None:
    """Each change returns the old or the new value, as its name says, and leaves the new one."""
    counter = make()
    assert change(counter) == returned
    assert counter.value == left
    assert counter.reset() == left
    assert counter.value == 7


@each_kind
@each_unchanging
def test_changes_that_change_nothing(make: Callable[[], AtomicCounter], change: Change, returned: object) -> None:
    """A change to the present value, or a comparison that fails, leaves the value and reports that."""
    counter = make()
    assert change(counter) == returned
    assert type(change(counter)) is type(returned)
    assert counter.value == 7


def test_it_starts_at_zero_without_bounds() -> None:
    """Without arguments the value is 0, and nothing limits it."""
    counter = AtomicCounter()
    assert (counter.value, counter.minimum, counter.maximum) == (0, None, None)


def test_integers_of_any_size() -> None:
    """No value overflows, in either direction."""
    counter = AtomicCounter(HUGE)
    assert counter.increment(HUGE) == 2 * HUGE
    assert counter.decrement(5 * HUGE) == -3 * HUGE
    assert counter.update(lambda value: value**3) == -27 * HUGE**3
    assert counter.compare_and_set(-27 * HUGE**3, 1)
    assert counter.wait_until(-HUGE, timeout=0) == 1


# -- bounds -----------------------------------------------------------------------------------------------------


OUT_OF_BOUNDS: list[Change] = [
    lambda c: c.increment(4),
    lambda c: c.decrement(8),
    lambda c: c.add(HUGE),
    lambda c: c.get_and_add(-8),
    lambda c: c.set(11),
    lambda c: c.get_and_set(-1),
    lambda c: c.compare_and_set(7, 11),
    lambda c: c.compare_and_set(0, 11),  # out of bounds, for any present value
    lambda c: c.update(lambda value: value - 8),
]


@pytest.mark.parametrize("change", OUT_OF_BOUNDS)
def test_bounds_are_all_or_nothing(change: Change) -> None:
    """A change out of bounds raises an error with all facts, changes nothing, and calls no hook."""
    counter = Recording(7, minimum=0, maximum=10)
    with pytest.raises(CounterBoundsError) as caught:
        change(counter)
    error = caught.value
    assert isinstance(error, SyncError)
    assert isinstance(error, ValueError)
    assert (error.value, error.minimum, error.maximum) == (7, 0, 10)
    assert counter.name in str(error)
    assert "stays at 7" in str(error)
    assert (counter.value, counter.told) == (7, [])
    assert counter.increment() == 8


def test_bounds_themselves_are_allowed() -> None:
    """The minimum and the maximum can be reached, and either may be missing."""
    counter = AtomicCounter(5, minimum=0, maximum=10)
    assert counter.increment(5) == 10
    assert counter.decrement(10) == 0
    assert AtomicCounter(5, minimum=5).increment(HUGE) == HUGE + 5
    assert AtomicCounter(5, maximum=5).decrement(HUGE) == 5 - HUGE
    assert AtomicCounter(3, minimum=3, maximum=3).value == 3


@pytest.mark.parametrize(("minimum", "maximum"), [(0, None), (None, 0), (0, 0)])
def test_a_bound_of_zero_is_one(minimum: int | None, maximum: int | None) -> None:
    """Zero is a limit like every other number."""
    counter = AtomicCounter(minimum=minimum, maximum=maximum)
    assert (counter.minimum, counter.maximum) == (minimum, maximum)
    with pytest.raises(CounterBoundsError):
        counter.add(-1 if maximum is None else 1)
    assert counter.value == 0


@pytest.mark.parametrize(("value", "bounds"), [(11, {"maximum": 10}), (-1, {"minimum": 0})])
def test_it_cannot_start_out_of_bounds(value: int, bounds: dict[str, Any]) -> None:
    """The error is the one for bounds, and its message does not mention a value that stays."""
    with pytest.raises(CounterBoundsError, match=rf"can't become {value}.*") as caught:
        AtomicCounter(value, **bounds)
    assert caught.value.value == value
    assert "stays" not in str(caught.value)


def test_bounds_must_leave_room() -> None:
    """A minimum above the maximum is a wrong argument."""
    with pytest.raises(ValueError, match="minimum 2 is greater than maximum 1"):
        AtomicCounter(1, minimum=2, maximum=1)


# -- what is an integer -----------------------------------------------------------------------------------------


TAKES_AN_INTEGER: list[Callable[[AtomicCounter, object], object]] = [
    lambda c, n: AtomicCounter(n),  # type: ignore[arg-type]  # here and below: the wrong type is the point
    lambda c, n: AtomicCounter(minimum=n),  # type: ignore[arg-type]
    lambda c, n: AtomicCounter(maximum=n),  # type: ignore[arg-type]
    lambda c, n: c.increment(n),  # type: ignore[arg-type]
    lambda c, n: c.decrement(n),  # type: ignore[arg-type]
    lambda c, n: c.add(n),  # type: ignore[arg-type]
    lambda c, n: c.get_and_add(n),  # type: ignore[arg-type]
    lambda c, n: c.set(n),  # type: ignore[arg-type]
    lambda c, n: c.get_and_set(n),  # type: ignore[arg-type]
    lambda c, n: c.compare_and_set(n, 0),  # type: ignore[arg-type]
    lambda c, n: c.compare_and_set(7, n),  # type: ignore[arg-type]
    lambda c, n: c.update(lambda value: n),  # type: ignore[arg-type, return-value]
    lambda c, n: c.wait_until(n, timeout=0),  # type: ignore[arg-type]
]
# `None` is allowed for the bounds of a constructor.
WRONG = [True, False, 1.0, "1", b"1", [], 1j, object(), Index("1"), Index(1.0), Index]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("use", TAKES_AN_INTEGER)
def test_only_integers_are_taken(use: Callable[[AtomicCounter, object], object], wrong: object) -> None:
    """A bool, a float, a string and anything else that is not an integer is a TypeError, and changes nothing."""
    counter = AtomicCounter(7)
    with pytest.raises(TypeError):
        use(counter, wrong)
    assert counter.value == 7
    assert counter.increment() == 8


@pytest.mark.parametrize(("good", "value"), [(Index(3), 3), (Score(3), 3), (Index(Score(3)), 3), (Index(-HUGE), -HUGE)])
@pytest.mark.parametrize("use", TAKES_AN_INTEGER)
def test_whatever_has_an_index_is_taken(
    use: Callable[[AtomicCounter, object], object], good: object, value: int
) -> None:
    """An object with ``__index__`` and a subclass of int count as the integer that they represent."""
    counter = AtomicCounter(7, name="same")
    expected = AtomicCounter(7, name="same")
    try:
        outcome = repr(use(expected, value))
    except (CounterBoundsError, TimeoutError) as error:
        with pytest.raises(type(error)):
            use(counter, good)
    else:
        if "AtomicCounter" not in outcome:  # two constructed counters have their own names
            assert repr(use(counter, good)) == outcome
        else:
            use(counter, good)
    assert counter.value == expected.value


def test_the_value_is_always_an_exact_int() -> None:
    """A subclass of int becomes an int, whichever method it was given to."""
    counter = AtomicCounter(Score(1))
    assert type(counter.value) is int
    assert type(counter.increment(Score(1))) is int
    assert type(counter.get_and_set(Score(5))) is int
    assert type(counter.update(lambda value: Score(6))) is int
    assert type(counter.wait_until(Score(6), timeout=0)) is int
    assert type(counter.value) is int
