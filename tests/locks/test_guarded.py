"""`Guarded`: the value can be reached only under the lock, and `update` replaces it completely or not at all."""

from __future__ import annotations

import copy
import os
import pickle
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import starmap
from typing import Any

import pytest

from hostile import HostileObject
from locks.actors import LIMIT, Actors, eventually, held_elsewhere
from syncprims import DeadlockError, Guarded, LockTimeoutError, SingleFlight, TimedLock, acquire_all, once
from syncprims.diagnostics import check_lock_order, record, snapshot
from syncprims.testing import MODES, Mode, check_lock, interrupts, patience

each_mode = pytest.mark.parametrize("mode", MODES)
each_mode_but_slow = pytest.mark.parametrize("mode", [*MODES[:-1], pytest.param(MODES[-1], marks=pytest.mark.slow)])


# -- what it promises --------------------------------------------------------------------------------------------------


def gives_the_value(kind: type[Guarded[Any]]) -> None:
    """Each way to enter gives the value itself, with the lock held."""
    shelves = {"bolts": 3}
    stock = kind(shelves, timeout=LIMIT, name="stock")
    for entrance in (stock, stock.hold(LIMIT), stock.hold(None)):
        with entrance as inside:
            assert inside is shelves
            assert stock.held_by_me()
            assert stock.value is shelves
        assert not stock.locked()


def replaces_the_value(kind: type[Guarded[Any]]) -> None:
    """`update` returns the function's result, which is the value then."""
    total = kind(1)
    assert total.update(lambda n: n + 5) == 6
    assert not total.locked()
    with total as now:
        assert now == 6
        total.value = 7
    assert total.update(str) == "7"


def keeps_the_value_on_errors(kind: type[Guarded[Any]]) -> None:
    """If the function raises, the value does not change, and the lock is free."""
    total = kind(1)
    for error in (ValueError("no"), KeyboardInterrupt()):

        def refuse(_: object, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            total.update(refuse)
        assert caught.value is error
        assert not total.locked()
        assert total.update(lambda n: n) == 1


def runs_the_function_under_the_lock(kind: type[Guarded[Any]]) -> None:
    """No other thread gets in between the read of the value and its replacement."""
    total = kind(0)

    def add(value: int) -> int:
        assert total.held_by_me()
        return value + 1

    def work() -> None:
        for _ in range(200):
            total.update(add)

    with Actors() as actors:
        for _ in range(4):
            actors.start(work)
    assert total.update(lambda n: n) == 800


def is_not_reached_without_the_lock(kind: type[Guarded[Any]]) -> None:
    """Reading or setting `value` without the lock is refused, even while another thread holds it."""
    secret = kind("secret", name="safe")

    def refused() -> None:
        with pytest.raises(RuntimeError, match="'safe' can be reached only by the thread that holds it"):
            _ = secret.value
        with pytest.raises(RuntimeError, match="inside of `with`"):
            secret.value = "known"

    refused()
    with held_elsewhere(secret):
        refused()
    with secret as value:
        assert value == "secret"


def waits_no_longer_than_it_says(kind: type[Guarded[Any]]) -> None:
    """Each way to enter has a limit, and the error names the holder; the function of `update` is not called."""
    stock = kind({}, timeout=0.01, name="stock")
    called: list[object] = []
    with held_elsewhere(stock, "keeper"):
        for way in (stock.__enter__, stock.hold(0.01).__enter__, lambda: stock.update(called.append)):
            with pytest.raises(LockTimeoutError, match="'stock', held by Thread 'keeper'") as caught:
                way()
            assert caught.value.holder is not None
            assert caught.value.holder.name == "keeper"
    assert called == []


def refuses_to_wait_for_itself(kind: type[Guarded[Any]]) -> None:
    """Entering again, or an `update` inside an `update`, is a deadlock."""
    total = kind(0, name="total")
    with total, pytest.raises(DeadlockError, match="'total'"):
        total.update(lambda n: n + 1)
    with pytest.raises(DeadlockError):
        total.update(lambda n: n + total.update(lambda m: m))
    assert total.update(lambda n: n) == 0


CLAIMS = [
    gives_the_value,
    replaces_the_value,
    keeps_the_value_on_errors,
    runs_the_function_under_the_lock,
    is_not_reached_without_the_lock,
    waits_no_longer_than_it_says,
    refuses_to_wait_for_itself,
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_it_keeps_its_promises(claim: Callable[[type[Guarded[Any]]], None]) -> None:
    """Every promise above holds."""
    claim(Guarded)


# -- broken versions ---------------------------------------------------------------------------------------------------


class GivesACopy(Guarded[Any]):
    """Gives another object than the value."""

    def __enter__(self) -> Any:
        return dict(super().__enter__())


class GivesTheLock(Guarded[Any]):
    """Gives the lock itself."""

    def _enter_within(self, timeout: float | None) -> Any:
        super()._enter_within(timeout)
        return self


class ForgetsToStore(Guarded[Any]):
    """Returns the new value, and keeps the old one."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self as value:
            return fn(value)


class ReturnsTheOld(Guarded[Any]):
    """Returns the old value."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self as value:
            self.value = fn(value)
            return value


class KeepsTheLockOnErrors(Guarded[Any]):
    """Releases only after success."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        value = self.__enter__()
        self.value = new = fn(value)
        self.release()
        return new


class SetsNoneOnErrors(Guarded[Any]):
    """Stores a value before the function has returned."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self as value:
            self.value = None
            self.value = fn(value)
            return self.value


class CallsOutside(Guarded[Any]):
    """Calls the function without the lock."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self as value:
            pass
        new = fn(value)
        with self:
            self.value = new
        return new


class IsOpen(Guarded[Any]):
    """Gives the value to every thread."""

    def _check_held(self) -> None:
        pass


class IgnoresALimit(Guarded[Any]):
    """Does not wait at all, and goes in."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        self._value = fn(self._value)
        return self._value


class HoldsACopy(Guarded[Any]):
    """Keeps a copy of the value that it was given."""

    def __init__(self, value: Any, timeout: float | None = None, *, name: str | None = None) -> None:
        super().__init__(copy.copy(value), timeout, name=name)


class StoresTwice(Guarded[Any]):
    """Calls the function once for the value and once for the result."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self as value:
            self.value = fn(fn(value))
            return self.value


class SwallowsErrors(Guarded[Any]):
    """Drops the exceptions of the function."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self as value:
            try:
                self.value = fn(value)
            except BaseException:
                pass
            return self.value


class ReadsOutside(Guarded[Any]):
    """Reads the value before it has the lock."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        value = self._value
        time.sleep(0)
        with self:
            self._value = fn(value)
            return self._value


class OpensToRead(Guarded[Any]):
    """Lets every thread read the value."""

    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._check_held()
        self._value = value


class OpensWhileHeld(Guarded[Any]):
    """Checks whether any thread holds it."""

    def _check_held(self) -> None:
        if not self.locked():
            super()._check_held()


class TakesItsTime(Guarded[Any]):
    """Waits without a limit in `hold`."""

    def _enter_within(self, timeout: float | None) -> Any:
        return super()._enter_within(None)


class NamesNobody(Guarded[Any]):
    """Says only that it is late."""

    def _late(self, limit: float | None, waited: float, why: str | None = None) -> LockTimeoutError:
        return LockTimeoutError("too late")


class GivesUpOnItself(Guarded[Any]):
    """Takes the calling thread for another thread."""

    def _enter_again(self) -> Any:
        raise LockTimeoutError("too late")


BROKEN = [
    (GivesACopy, gives_the_value),
    (GivesTheLock, gives_the_value),
    (HoldsACopy, gives_the_value),
    (ForgetsToStore, replaces_the_value),
    (ReturnsTheOld, replaces_the_value),
    (StoresTwice, replaces_the_value),
    (KeepsTheLockOnErrors, keeps_the_value_on_errors),
    (SetsNoneOnErrors, keeps_the_value_on_errors),
    (SwallowsErrors, keeps_the_value_on_errors),
    (CallsOutside, runs_the_function_under_the_lock),
    (IgnoresALimit, runs_the_function_under_the_lock),
    (ReadsOutside, runs_the_function_under_the_lock),
    (IsOpen, is_not_reached_without_the_lock),
    (OpensToRead, is_not_reached_without_the_lock),
    (OpensWhileHeld, is_not_reached_without_the_lock),
    (IgnoresALimit, waits_no_longer_than_it_says),
    (NamesNobody, waits_no_longer_than_it_says),
    (TakesItsTime, waits_no_longer_than_it_says),
    (IgnoresALimit, refuses_to_wait_for_itself),
    (CallsOutside, refuses_to_wait_for_itself),
    (GivesUpOnItself, refuses_to_wait_for_itself),
]


@pytest.mark.parametrize(("kind", "claim"), BROKEN)
def test_broken_versions_are_caught(
    kind: type[Guarded[Any]], claim: Callable[[type[Guarded[Any]]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of each claim detects the fault that breaks it."""
    monkeypatch.setattr("locks.actors.LIMIT", 0.2)  # then the holder releases it
    with pytest.raises((AssertionError, pytest.fail.Exception, BaseExceptionGroup, LockTimeoutError)):
        claim(kind)


# -- interrupts --------------------------------------------------------------------------------------------------------


class Subject:
    """A value, and whether the function of `update` has returned."""

    def __init__(self, kind: type[Guarded[Any]] = Guarded) -> None:
        self.total = kind(1)
        self.other: Guarded[int] = Guarded(1)
        self.unlocked_bodies = 0

    def broken(self) -> str | None:
        if self.total.locked() or self.other.locked():
            return "still locked"
        if self.total.waiting:
            return "still waiting"
        if self.unlocked_bodies:
            return "the body ran without the lock"
        with self.total as value:
            return None if value in (1, 2) else f"the value is {value!r}"


def by_with(subject: Subject) -> None:
    with subject.total as value:
        subject.unlocked_bodies += not subject.total.held_by_me()
        subject.total.value = value + 1


def by_hold(subject: Subject) -> None:
    with subject.total.hold(patience()):
        subject.unlocked_bodies += not subject.total.held_by_me()


def by_update(subject: Subject) -> None:
    subject.total.update(lambda value: value + 1)


def both_at_once(subject: Subject) -> None:
    with acquire_all(subject.other, subject.total):
        subject.total.value += 1


@pytest.mark.untraceable
@each_mode_but_slow
@pytest.mark.parametrize("scenario", [by_with, by_hold, by_update, both_at_once])
def test_an_interrupt_leaks_nothing(scenario: Callable[[Subject], None], mode: Mode) -> None:
    """Afterwards the lock is free, and the value is the old or the new one."""
    interrupts(Subject, scenario, Subject.broken, mode=mode).check()


class Drained:
    """A queue from which a C function takes items: a removed item must become the value."""

    def __init__(self, kind: type[Guarded[Any]] = Guarded) -> None:
        self.left = [2]
        self.last = kind(self.left)

    def broken(self) -> str | None:
        with self.last as value:
            return f"taken and lost: {value!r}" if self.left == [] and value != 2 else None


def draining(subject: Drained) -> None:
    subject.last.update(list.pop)


@pytest.mark.untraceable
@each_mode
def test_what_the_function_has_returned_is_not_lost(mode: Mode) -> None:
    """Once the function has returned, its result is stored before an interrupt comes."""
    interrupts(Drained, draining, Drained.broken, mode=mode).check()


class StoresLater(Guarded[Any]):
    """Stores by an assignment after a call, where an interrupt can come."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        with self:
            self._value = fn(self._value)
            return self._value


class TakesBare(Guarded[Any]):
    """Acquires and releases by hand."""

    def update(self, fn: Callable[[Any], Any]) -> Any:
        self.acquire()
        len("work")
        (self._value,) = starmap(fn, ((self._value,),))
        self.release()
        return self._value


@pytest.mark.untraceable
def test_the_sweeps_find_leaks_in_broken_versions() -> None:
    """These are the controls."""
    assert interrupts(partial(Drained, StoresLater), draining, Drained.broken).leaks
    assert interrupts(partial(Subject, TakesBare), by_update, Subject.broken).leaks


# -- in the house ------------------------------------------------------------------------------------------------------


WITH_GIVES_IT = "a with holds the lock for its body and gives the lock itself"
HOLD_GIVES_IT = "hold() holds the lock for the body, and can be kept and used again"


def test_it_keeps_the_contract_of_a_lock() -> None:
    """It passes `check_lock`, except that a ``with`` gives the lock."""
    report = check_lock(lambda: Guarded(None), without=(WITH_GIVES_IT, HOLD_GIVES_IT))
    assert set(report.not_kept) == {WITH_GIVES_IT, HOLD_GIVES_IT}


def test_acquire_all_takes_several() -> None:
    """`value` reaches each of them inside."""
    mine, yours, gate = Guarded(30), Guarded(0), TimedLock()
    with acquire_all(yours, gate, mine, timeout=LIMIT):
        mine.value, yours.value = mine.value - 10, yours.value + 10
    assert mine.update(lambda n: n) == 20
    assert yours.update(lambda n: n) == 10


def test_values_are_never_touched() -> None:
    """The constructor, entering, `update`, `repr`, snapshots and errors call no method of a value."""
    value, other = HostileObject(), HostileObject()
    guarded: Guarded[object] = Guarded(value, timeout=0)
    with guarded as inside:
        assert inside is value
    assert guarded.update(lambda _: other) is other
    assert "Guarded" in repr(guarded)
    with held_elsewhere(guarded):
        assert [state.name for state in snapshot() if state.kind == "Guarded"] == [guarded.name]
        with pytest.raises(LockTimeoutError), guarded:
            pass
    assert guarded.update(lambda _: value) is value


def test_a_function_that_would_not_run_is_refused() -> None:
    """A coroutine function would store a coroutine."""
    total = Guarded(0)

    async def later(value: int) -> int:
        return value

    with pytest.raises(TypeError, match=r"function of update\(\).*coroutine function"):
        total.update(later)  # type: ignore[arg-type]  # this is refused
    with pytest.raises(TypeError, match="must be callable"):
        total.update(5)  # type: ignore[arg-type]
    assert not total.locked()


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"timeout": -1}, ValueError),
    ({"timeout": 1e300}, OverflowError),
    ({"name": 5}, TypeError),
]


def test_bad_arguments_are_refused() -> None:
    """They are the same errors as for a lock."""
    for arguments, error in BAD_ARGUMENTS:
        with pytest.raises(error):
            Guarded(0, **arguments)
    with pytest.raises(TypeError):
        pickle.dumps(Guarded(0))


@pytest.mark.inverts
def test_two_threads_that_wait_for_each_other_are_a_deadlock() -> None:
    """One gets the error, and the other one's update happens."""
    one, other = Guarded(0, name="one"), Guarded(0, name="other")
    outcomes: list[str] = []

    def cross(first: Guarded[int], second: Guarded[int]) -> None:
        with first:
            eventually(lambda: one.locked() and other.locked())
            try:
                outcomes.append(str(second.update(lambda n: n + 1)))
            except DeadlockError as error:
                outcomes.append(f"deadlock of {len(error.cycle)}")

    with Actors() as actors:
        actors.start(lambda: cross(one, other))
        actors.start(lambda: cross(other, one))
    assert sorted(outcomes) == ["1", "deadlock of 2"]


def test_observers_see_it() -> None:
    """Recordings and the check of lock orders see it like any lock."""
    one, other = Guarded(0, name="one"), Guarded(0, name="other")
    with record() as recording, check_lock_order("warn") as check:
        with one, other:
            pass
        with pytest.warns(RuntimeWarning, match="inverted"):
            other.update(lambda n: one.update(lambda m: m) + n)
        with one.hold(1):
            pass
    assert len(check.inversions) == 1
    assert {span.name for span in recording.spans} >= {"one", "other"}


@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_value_and_lock() -> None:
    """A lock that another thread held is free there, and the value is the one at the fork."""
    from locks.test_lock_fork import in_child

    stock = Guarded({"bolts": 3})

    def check() -> None:
        assert not stock.locked()
        assert stock.update(lambda shelves: {**shelves, "nuts": 1}) == {"bolts": 3, "nuts": 1}

    with held_elsewhere(stock):
        in_child(check)
    with stock as shelves:
        assert shelves == {"bolts": 3}


def test_a_function_that_raises_stop_iteration_is_a_clear_error() -> None:
    """This holds in `update`, `once` and `SingleFlight`, as in generators; nothing changes, and the next call works."""
    empty: Iterator[int] = iter(())
    guarded = Guarded(1)
    flight: SingleFlight[str, int] = SingleFlight()
    calls: list[Callable[[], object]] = [
        lambda: guarded.update(lambda _: next(empty)),
        lambda: flight.do("a", empty.__next__),
        once(lambda: next(empty)),
    ]
    for call in calls:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the function raised StopIteration; raise another exception"):
                call()
    assert guarded.update(lambda n: n + 1) == 2
    assert flight.do("a", lambda: 3) == 3
