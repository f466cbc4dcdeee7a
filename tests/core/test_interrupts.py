"""Each idiom of `_core.interrupts` keeps its promise at every interruption point, and shorter code does not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import repeat
from operator import attrgetter, call
from threading import Lock
from typing import Any, Self

import pytest

from syncprims._core.interrupts import (
    Entered,
    Leave,
    LeaveInC,
    attempt,
    exhaust,
    finish,
    leave_at_once,
    leave_by,
    leaving,
)
from syncprims.testing import MODES, Mode, interrupts

pytestmark = pytest.mark.untraceable

each_mode = pytest.mark.parametrize("mode", MODES)


def still_locked(locks: list[Any]) -> str | None:
    return "still locked" if any(lock.locked() for lock in locks) else None


# -- attempt ----------------------------------------------------------------------------------------------------------


def by_attempt(locks: list[Any]) -> None:
    taken = False
    try:
        taken = attempt(locks[0].acquire)
    finally:
        if taken:
            locks[0].release()


def by_attempt_in_place(locks: list[Any]) -> None:
    taken = False
    try:
        (taken,) = map(locks[0].acquire, (False,))
    finally:
        if taken:
            locks[0].release()


def by_attempt_prepared(locks: list[Any]) -> None:
    taken = False
    tries = map(locks[0].acquire, repeat(False))
    try:
        for taken in tries:  # noqa: B007  used below
            break
    finally:
        if taken:
            locks[0].release()


def by_a_plain_call(locks: list[Any]) -> None:
    taken = False
    try:
        taken = locks[0].acquire()
    finally:
        if taken:
            locks[0].release()


@each_mode
@pytest.mark.parametrize("scenario", [by_attempt, by_attempt_in_place, by_attempt_prepared])
def test_an_attempt_is_stored_before_an_interrupt_comes(scenario: Callable[[list[Any]], None], mode: Mode) -> None:
    """The outcome of the call is known in every form of the idiom, so that it can be released."""
    interrupts(lambda: [Lock()], scenario, still_locked, mode=mode).check()


@each_mode
def test_a_plain_call_loses_what_it_took(mode: Mode) -> None:
    """The control: an interrupt comes between the call and the store."""
    assert interrupts(lambda: [Lock()], by_a_plain_call, still_locked, mode=mode).leaks


# -- exhaust ----------------------------------------------------------------------------------------------------------


def taken_locks() -> list[Any]:
    locks = [Lock() for _ in range(3)]
    for lock in locks:
        lock.acquire()
    return locks


def by_exhaust(locks: list[Any]) -> None:
    releases = map(call, [lock.release for lock in locks])
    try:
        len("work")
    finally:
        exhaust(releases)


def by_a_loop(locks: list[Any]) -> None:
    releases = map(call, [lock.release for lock in locks])
    try:
        len("work")
    finally:
        for _ in releases:
            pass


def all_or_none(locks: list[Any]) -> str | None:
    return None if len({lock.locked() for lock in locks}) == 1 else "some are locked, and some are not"


@each_mode
def test_what_is_exhausted_is_one_piece(mode: Mode) -> None:
    """All of it happens or nothing, wherever an interrupt comes."""
    interrupts(taken_locks, by_exhaust, all_or_none, mode=mode).check()


@each_mode
def test_a_loop_is_cut_off(mode: Mode) -> None:
    """The control: an interrupt comes at the loop's jump back."""
    assert interrupts(taken_locks, by_a_loop, all_or_none, mode=mode).leaks


# -- leaving ----------------------------------------------------------------------------------------------------------


class Door:
    """An object for `leaving`: it is entered in Python and released in C."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.mine = Entered()
        self.noted: list[tuple[BaseException, BaseException]] = []

    def __enter__(self) -> Self:
        token, self.mine.expected = self.mine.expected, None
        taken = False
        try:
            taken = attempt(self.lock.acquire)
            self.mine.append(token)
            return self
        except BaseException:
            if taken:
                try:
                    self.lock.release()
                finally:
                    self.mine *= 0  # not a call
            raise

    def _leave(self) -> Leave:
        token = self.mine.expected = object()
        return leave_by(leaving(self, self.mine, token, self._steps()))

    __exit__ = LeaveInC(_leave)

    def _steps(self) -> Iterator[object]:
        return map(call, (self.mine.pop, self.lock.release))

    def _letting_go(self) -> Iterator[object]:
        if not self.mine:
            raise RuntimeError("not entered")
        return self._steps()

    def _note(self, error: BaseException, failure: BaseException) -> None:
        self.noted.append((error, failure))

    def broken(self) -> str | None:
        return "still locked" if self.lock.locked() or self.mine else None


class PythonDoor(Door):
    """The control: its ``__exit__`` is a Python function."""

    def __exit__(self, *exc_info: object) -> None:
        exhaust(self._letting_go())


def go_through(door: Door) -> None:
    with door:
        len("work")


@each_mode
def test_a_block_is_left_wherever_an_interrupt_comes(mode: Mode) -> None:
    """The interrupt comes before, in or after the block; an entry is always left."""
    interrupts(Door, go_through, Door.broken, mode=mode).check()


@each_mode
def test_an_exit_in_python_is_cut_off_on_entry(mode: Mode) -> None:
    """The control: the gap that leaving in C closes."""
    assert interrupts(PythonDoor, go_through, Door.broken, mode=mode).leaks


# -- leave_at_once ----------------------------------------------------------------------------------------------------


class Gate:
    """An object that is entered by one store, and left by one call of C."""

    def __init__(self) -> None:
        self.inside: list[int] = []
        self._leave = leave_at_once(self.inside.clear)

    def __enter__(self) -> Self:
        inside = self.inside
        inside += (1,)
        return self

    __exit__ = LeaveInC(attrgetter("_leave"))

    def broken(self) -> str | None:
        return "still inside" if self.inside else None


class PythonGate(Gate):
    """The control: its ``__exit__`` is a Python function."""

    def __exit__(self, *exc_info: object) -> None:
        self.inside.clear()


def pass_gate(gate: Gate) -> None:
    with gate:
        len("work")


@each_mode
def test_a_block_that_is_left_at_once_is_left_wherever_an_interrupt_comes(mode: Mode) -> None:
    """The interrupt comes before, in or after the block."""
    interrupts(Gate, pass_gate, Gate.broken, mode=mode).check()


@each_mode
def test_the_same_in_python_is_cut_off(mode: Mode) -> None:
    """The control."""
    assert interrupts(PythonGate, pass_gate, Gate.broken, mode=mode).leaks


def test_what_leaves_at_once_drops_no_exception_and_does_nothing_when_it_goes() -> None:
    """It may be used again; exceptions of the block and of the release propagate."""
    calls: list[int] = []
    leave = leave_at_once(partial(calls.append, 1))
    for _ in range(2):
        assert not leave(ValueError, ValueError("in the block"), None)
    with pytest.raises(ZeroDivisionError):
        leave_at_once(partial(divmod, 1, 0))(None, None, None)
    del leave
    gc.collect()
    assert calls == [1, 1]


def generator_of(leave: Any) -> Generator[int, Any, None]:
    generator: Generator[int, Any, None] = leave.keywords["key"].__self__
    return generator


def test_what_leaves_lets_go_when_it_is_dropped_instead_of_called() -> None:
    """C drops it if it has no memory to call it. It releases only a block that was entered after the look-up."""
    door = Door()
    unused = door.__exit__
    del unused
    assert not door.lock.locked()
    leave = door.__exit__
    door.__enter__()
    other = door.__exit__  # looked up inside
    del other
    assert door.lock.locked()
    del leave
    assert door.broken() is None


def test_what_was_looked_up_before_belongs_to_no_later_block() -> None:
    """If it is looked up, kept, and dropped in a later block, it releases nothing."""
    door = Door()
    kept = door.__exit__
    with door:
        del kept
        assert door.lock.locked()
    assert door.broken() is None


def test_what_leaves_may_be_used_again_and_late() -> None:
    """It leaves one block after another, even one that was entered before it was looked up."""
    door = Door()
    leave = door.__exit__
    for _ in range(3):
        door.__enter__()
        leave(None, None, None)
        assert door.broken() is None
    door.__enter__()
    door.__exit__(None, None, None)
    assert door.broken() is None


def test_leaving_what_was_not_entered_is_an_error() -> None:
    """It releases nothing that another thread may have."""
    door = Door()
    door.lock.acquire()
    with pytest.raises(RuntimeError, match="not entered"):
        door.__exit__(None, None, None)
    assert door.lock.locked()


# -- finish -----------------------------------------------------------------------------------------------------------


def failing(*errors: BaseException | None) -> tuple[Iterator[object], list[int]]:
    """Steps of which some raise, and the numbers of those that were made."""
    made: list[int] = []

    def step(number: int, error: BaseException | None) -> None:
        made.append(number)
        if error is not None:
            raise error

    return map(step, range(len(errors)), errors), made


def test_all_is_let_go_of_whatever_fails() -> None:
    """The first failure is raised, with the others as its notes."""
    first, second = OSError("first"), OSError("second")
    door, (steps, made) = Door(), failing(None, second, None)
    with pytest.raises(OSError, match="first") as caught:
        finish(steps, [first], None, door)
    assert caught.value is first
    assert made == [0, 1, 2]
    assert door.noted == [(first, second)]


def test_failures_are_notes_of_the_exception_that_is_on_its_way() -> None:
    """That exception is not replaced, even if it is false."""

    class FalseError(Exception):
        def __bool__(self) -> bool:
            return False

    error, failure = FalseError(), OSError()
    door, (steps, made) = Door(), failing(None)
    finish(steps, [failure], error, door)
    assert made == [0]
    assert door.noted == [(error, failure)]


def test_an_interrupt_among_the_failures_comes_out() -> None:
    """It is not a failure that could be a note."""
    error, failure, interrupt = ValueError(), OSError(), KeyboardInterrupt()
    door, (steps, made) = Door(), failing(interrupt, None)
    with pytest.raises(KeyboardInterrupt) as caught:
        finish(steps, [failure], error, door)
    assert caught.value is interrupt
    assert made == [0, 1]
    assert door.noted == [(interrupt, failure)]


@pytest.mark.parametrize("kind", [MemoryError, RecursionError])
def test_it_gives_up_where_nothing_can_be_called(kind: type[Exception]) -> None:
    """A call that never succeeds is not repeated forever."""

    class Endless:
        def __iter__(self) -> Self:
            return self

        def __next__(self) -> object:
            raise kind

    door = Door()
    with pytest.raises(kind):
        finish(Endless(), [kind()], None, door)
    assert len(door.noted) == 10
