"""`update` runs its function once and alone, and the hook gets the changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from counter.cases import CHANGES, Change, Recording, each_change, each_kind, each_unchanging
from syncprims import AtomicCounter, DeadlockError


@each_kind
def test_update_calls_its_function_once(make: Callable[[], AtomicCounter]) -> None:
    """The function sees the value once, and its result is the new value and the result of the call."""
    seen: list[int] = []
    counter = make()

    def double(value: int) -> int:
        seen.append(value)
        return value * 2

    assert counter.update(double) == 14
    assert seen == [7]


@each_kind
@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), SystemExit(3), StopIteration()])
def test_update_whose_function_raises_changes_nothing(make: Callable[[], AtomicCounter], error: BaseException) -> None:
    """The function's exception is raised, the value stays, and the counter goes on working."""
    counter = make()

    def fail(value: int) -> int:
        raise error

    with pytest.raises(type(error)) as caught:
        counter.update(fail)
    assert caught.value is error
    assert counter.value == 7
    assert counter.increment() == 8
    assert counter.update(lambda value: value + 1) == 9


INSIDE: list[Change] = [case[1] for case in CHANGES] + [
    lambda c: c.reset(),
    lambda c: c.wait_for(bool, timeout=0),
    lambda c: c.wait_until(0, timeout=0),
]


@each_kind
@pytest.mark.parametrize("change", INSIDE)
def test_using_a_counter_inside_its_own_update_raises(make: Callable[[], AtomicCounter], change: Change) -> None:
    """A change of the counter, or a wait for it, inside its update is a DeadlockError, and nothing changes."""
    counter = make()

    def reenter(value: int) -> int:
        change(counter)
        return value + 1

    with pytest.raises(DeadlockError, match=counter.name):
        counter.update(reenter)
    assert counter.value == 7
    assert counter.increment() == 8


def test_an_update_that_survives_its_own_misuse() -> None:
    """If the function catches the DeadlockError, its value is set, and only that."""
    counter = AtomicCounter(7)

    def stubborn(value: int) -> int:
        with pytest.raises(DeadlockError):
            counter.increment()
        with pytest.raises(DeadlockError):
            counter.update(stubborn)
        return value + 1

    assert counter.update(stubborn) == 8
    assert counter.increment() == 9


def test_inside_an_update_the_value_can_be_read_and_other_counters_used() -> None:
    """Reading the same counter and changing another one is allowed."""
    counter, other = AtomicCounter(7), AtomicCounter()

    def fn(value: int) -> int:
        return value + counter.value + int(counter) + other.update(lambda value: value + 1)

    assert counter.update(fn) == 22


@pytest.mark.parametrize("wrong", [None, 1, "f"])
def test_what_cannot_be_called_is_refused(wrong: object) -> None:
    """An object that is not callable is a TypeError at once, even if the wait would have been over."""
    counter = AtomicCounter(1)
    with pytest.raises(TypeError, match="update needs a function"):
        counter.update(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="wait_for needs a function"):
        counter.wait_for(wrong)  # type: ignore[arg-type]


# -- the hook ---------------------------------------------------------------------------------------------------


@each_change
def test_the_hook_is_told_of_each_change(change: Change, returned: object, left: int) -> None:
    """Each call that changes the value is reported once, with the old and the new value."""
    counter = Recording(7)
    change(counter)
    assert counter.told == [(7, left)]


@each_unchanging
def test_the_hook_is_not_told_of_no_change(change: Change, returned: object) -> None:
    """If the value stays the same, the hook is not called."""
    counter = Recording(7)
    change(counter)
    assert counter.told == []


def test_reset_is_told_to_the_hook() -> None:
    """A reset is a change like others."""
    counter = Recording(7)
    counter.set(9)
    assert counter.reset() == 9
    assert counter.told == [(7, 9), (9, 7)]


def test_the_hook_may_use_the_counter() -> None:
    """The hook runs after the change, outside of an update, so it may change the counter again."""

    class Echo(Recording):
        def _on_change(self, old: int, new: int) -> None:
            super()._on_change(old, new)
            assert self.value == new
            if new < 10:
                self.update(lambda value: value + 1)

    counter = Echo(7)
    assert counter.increment() == 8  # the value that this call made, whatever the hook does
    assert counter.value == 10
    assert counter.told == [(7, 8), (8, 9), (9, 10)]


def test_a_hook_that_raises_leaves_the_change_made() -> None:
    """The caller gets the hook's exception; the change is made, and the counter goes on working."""

    class Failing(AtomicCounter):
        def _on_change(self, old: int, new: int) -> None:
            raise LookupError(new)

    counter = Failing(7)
    for change, left in [(counter.increment, 8), (counter.reset, 7)]:
        with pytest.raises(LookupError):
            change()
        assert counter.value == left


def test_the_hook_costs_nothing_unless_overridden() -> None:
    """A subclass without the hook takes the fast path: the same code as a counter without bounds."""

    class Plain(AtomicCounter):
        pass

    def long_way(self: AtomicCounter, *args: object) -> tuple[int, int]:
        raise AssertionError("the long way")

    class Watched(AtomicCounter):
        _change = long_way  # type: ignore[assignment]

    assert not Plain()._special
    counter = Watched(7)
    assert (counter.increment(), counter.decrement(), counter.add(2), counter.get_and_add()) == (8, 7, 9, 9)
    with pytest.raises(AssertionError, match="the long way"):
        counter.reset()
