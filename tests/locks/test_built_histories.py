"""Several threads use `KeyedLock`, `Guarded` and `once` at the same time, as if one after another."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable
from itertools import count
from random import Random
from typing import Any, Final, cast

import pytest

from history import Call, Recorder, linearizable, record
from syncprims import DeadlockError, Guarded, KeyedLock, TimedLock, once
from syncprims.testing import Threads, patience

Make = Callable[..., Any]
Model = Callable[[Any, Call[Any]], Any]

MOMENT: Final = 0.0005
ERRORS: Final = (DeadlockError, TimeoutError, RuntimeError, LookupError)


def do(act: Callable[[], Hashable]) -> Hashable:
    """Do it, and return the outcome."""
    try:
        return act()
    except ERRORS as error:
        return next(kind.__name__ for kind in ERRORS if isinstance(error, kind))


# -- KeyedLock: which thread holds the lock of which key ---------------------------------------------------------------

Holders = frozenset[tuple[str, int]]  # keys, and the holder of the lock of each

KEYS: Final = "ab"
TAKING: Final[dict[str, Callable[[TimedLock], bool]]] = {
    "try": lambda lock: lock.acquire(False),
    "acquire": lambda lock: lock.acquire(),
    "enter": lambda lock: lock.__enter__() is lock,
    "enter for a moment": lambda lock: lock.hold(MOMENT).__enter__() is lock,
}
GIVING: Final[dict[str, Callable[[TimedLock], None]]] = {
    "release": lambda lock: lock.release(),
    "leave": lambda lock: lock.__exit__(None, None, None),
}


def act_on_key(keyed: KeyedLock, how: str, key: str, blocks: dict[str, TimedLock]) -> Hashable:
    """Do one thing; `blocks` holds the entered objects, as a `with` does."""
    if how == "len":
        return len(keyed)
    lock = keyed[key]
    if how == "mine":
        return lock.held_by_me()
    if how in GIVING:
        blocks.pop(key, None)
        return GIVING[how](lock)
    taken = TAKING[how](lock)
    if taken and how.startswith("enter"):
        blocks[key] = lock
    return taken


def keyed_model(state: Holders, call: Call[Holders]) -> Holders | None:
    """The state of the locks if their callers come one after another."""
    how, key = cast("tuple[str, str]", call.what)
    me = call.thread
    holder = dict(state).get(key)
    if how == "len":
        # A lock counts as long as anything refers to it, so a call of another thread may add to the held locks; and the
        # locks are counted one by one. Only the caller's own locks are certain.
        assert isinstance(call.outcome, int)
        return state if sum(each == me for _, each in state) <= call.outcome <= len(KEYS) else None
    if how == "mine":
        return state if call.outcome is (holder == me) else None
    if how in GIVING:
        if call.outcome == "RuntimeError":
            return state if holder != me else None
        return state - {(key, me)} if holder == me else None
    if call.outcome is True:
        return state | {(key, me)} if holder is None else None
    if call.outcome == "DeadlockError":
        holds_another = any(each == me and of != key for of, each in state)
        return state if how != "try" and (holder == me or (holder is not None and holds_another)) else None
    return state if holder is not None and (holder != me or how == "try") else None


def keyed_fits(make: Make, seed: int) -> bool:
    """Let some threads use two keys, and judge the outcomes."""
    random = Random(seed)
    keyed: KeyedLock = make()

    def carrying_out(plan: list[tuple[str, str]]) -> Callable[[Recorder[Holders]], None]:
        def carry_out(note: Recorder[Holders]) -> None:
            blocks: dict[str, TimedLock] = {}

            def act(how: str, key: str) -> object:
                return note((how, key), lambda: do(lambda: act_on_key(keyed, how, key, blocks)))

            for how, key in plan:
                act(how, key)
            for key in KEYS:
                if act("mine", key):
                    act("release", key)
            blocks.clear()

        return carry_out

    ways = [(how, key) for how in (*TAKING, *GIVING, "mine", "len") for key in KEYS]
    plans = [random.choices(ways, k=random.randint(2, 7)) for _ in range(random.randint(2, 3))]
    history = record([carrying_out(plan) for plan in plans], random)
    # The error of a deadlock or a timeout leaves no reference to a lock behind.
    return linearizable(history, frozenset(), keyed_model) and len(keyed) == 0


class ForgetsTheHeld(KeyedLock):
    """Broken: a lock acquired by `acquire` is not noted, so it goes away while it is held."""

    def _note_acquired(self, lock: TimedLock) -> None:
        pass


class MakesTwo(KeyedLock):
    """Broken: it looks for a key's lock and stores one in two steps, so two threads may each store their own."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: dict[Hashable, TimedLock] = {}

    def __getitem__(self, key: Hashable) -> TimedLock:
        if key not in self.locks:
            made = TimedLock()
            self.locks[key] = made
        return self.locks[key]

    def __len__(self) -> int:
        return sum(lock.locked() for lock in list(self.locks.values()))


# -- Guarded: one value, and who has the lock --------------------------------------------------------------------------

Value = tuple[int, int | None]


def act_on_value(guarded: Guarded[int], how: str, number: int, limit: float | None) -> Hashable:
    """Do one thing with the value, within a limit; `update` has none."""
    if how == "add":
        return guarded.update(lambda value: value + number)
    if how == "fail":

        def fail(value: int) -> int:
            raise LookupError

        return guarded.update(fail)
    if how == "reach":
        return guarded.value
    with guarded if limit is None else guarded.hold(limit) as before:
        if how != "get":
            guarded.value = number
        return None if how == "set" else before


def guarded_model(state: Value, call: Call[Value]) -> Value | None:
    """The state of the value. A call acquires the lock, and later does its work and releases the lock."""
    part, how, number = cast("tuple[str, str, int]", call.what)
    value, holder = state
    if how == "reach":
        return state if call.outcome == "RuntimeError" else None
    if call.outcome == "TimeoutError":
        return state if part == "does" or holder is not None else None
    if part == "takes":
        return (value, call.thread) if holder is None else None
    after, outcome = {
        "get": (value, value),
        "set": (number, None),
        "replace": (number, value),
        "add": (value + number, value + number),
        "fail": (value, "LookupError"),
    }[how]
    return (after, None) if call.outcome == outcome else None


def guarded_fits(make: Make, seed: int) -> bool:
    """Let some threads read and write a value, and judge the outcomes."""
    random = Random(seed)
    guarded: Guarded[int] = make(0)
    numbers = count(1)  # so that each value comes from only one call

    def carrying_out(plan: list[tuple[str, int, float | None]]) -> Callable[[Recorder[Value]], None]:
        def carry_out(note: Recorder[Value]) -> None:
            for how, number, limit in plan:
                act = (guarded, how, number, limit)
                parts = (("does", how, number),) if how != "reach" else ()
                note(("takes", how, number), lambda act=act: do(lambda: act_on_value(*act)), parts)  # type: ignore[misc]  # bound now

        return carry_out

    ways = ("get", "set", "replace", "add", "fail", "reach")
    plans = [
        [(random.choice(ways), 1 << next(numbers), random.choice((None, None, MOMENT, 0))) for _ in range(5)]
        for _ in range(random.randint(2, 3))
    ]
    history = record([carrying_out(plan) for plan in plans], random)
    return linearizable(history, (0, None), guarded_model) and not guarded.locked()


class ReadsTooEarly(Guarded[int]):
    """Broken: `with` gives the value from before the lock was acquired."""

    def __enter__(self) -> int:  # type: ignore[override]  # as `Guarded` itself
        early = self._value
        super().__enter__()
        return early


class UpdatesOutside(Guarded[int]):
    """Broken: `update` calls the function before it has the lock."""

    def update(self, fn: Callable[[int], int]) -> int:
        """Replace the value."""
        made = fn(self._value)
        with self:
            self.value = made
        return made


# -- once: how often the function ran, and how that came out -----------------------------------------------------------

Runs = tuple[int, frozenset[tuple[int, int]]]  # how many, and how many there were when each waiting thread asked


class CutOffError(BaseException):
    """Stands for an interrupt."""


def once_model(state: Runs, call: Call[Runs], *, fates: tuple[str, ...]) -> Runs | None:
    """The runs of a function that runs until it returns. A call asks, and later gets the outcome of a run."""
    runs, asked = state
    me = call.thread
    if call.what == "asks":
        return runs, asked | {(me, runs)}
    fate, number = cast("tuple[str, int]", call.outcome)
    before = dict(asked)[me]
    after = max(runs, number), asked - {(me, before)}
    if runs < number - 1 or fate != (fates[number - 1] if number <= len(fates) else "returned"):
        return None
    if fate == "returned":
        return after if number == len(fates) + 1 else None
    if fate == "failed":  # for all that asked before the run was over, and for no later call
        return after if before < number and runs <= number else None
    return after if runs == number - 1 else None  # an interrupt belongs to its own thread


def once_fits(make: Make, seed: int) -> bool:
    """Let some threads call a function whose first runs may fail or be interrupted, and judge the outcomes."""
    random = Random(seed)
    fates = tuple(random.choices(("failed", "cut off"), k=random.randint(0, 3)))
    runs = count(1)
    latest: list[int] = []

    def load() -> Hashable:
        number = next(runs)
        latest.append(number)
        fate = fates[number - 1] if number <= len(fates) else "returned"
        if fate == "failed":
            raise LookupError(number)
        if fate == "cut off":
            raise CutOffError(number)
        return fate, number

    call = make(load)

    def ask() -> Hashable:
        try:
            return call()  # type: ignore[no-any-return]  # the function's result
        except LookupError as error:
            return "failed", error.args[0]
        except CutOffError as error:
            return "cut off", error.args[0]

    def body(note: Recorder[Runs]) -> None:
        for _ in range(3):
            note("asks", ask, ("gets",))

    history = record([body] * random.randint(2, 3), random)
    fits = linearizable(history, (0, frozenset()), lambda state, call: once_model(state, call, fates=fates))
    return fits and len(latest) == max(cast("tuple[str, int]", each.outcome)[1] for each in history)


def looks_before_it_runs(fn: Callable[[], object]) -> Callable[[], object]:
    """Broken: two threads may both find that it has not run."""
    kept: list[object] = []

    def call() -> object:
        if not kept:
            kept.append(fn())
        return kept[-1]

    return call


def keeps_errors(fn: Callable[[], object]) -> Callable[[], object]:
    """Broken: a later call gets the error of a run that was over."""

    def outcome() -> tuple[object, BaseException | None]:
        try:
            return fn(), None
        except LookupError as error:
            return None, error

    kept = once(outcome)

    def call() -> object:
        result, error = kept()
        if error is not None:
            raise error
        return result

    return call


def test_a_refused_deadlock_leaves_no_lock_behind() -> None:
    """The locks of a cycle go away when their threads are done, without the garbage collector."""
    keyed = KeyedLock()
    both = threading.Barrier(2)
    refused: list[str] = []

    def cross(first: str, second: str) -> None:
        try:
            with keyed[first]:
                both.wait(patience())
                with keyed[second]:
                    pass
        except DeadlockError:
            refused.append(first)

    enabled = gc.isenabled()
    gc.disable()
    try:
        with Threads() as threads:
            threads.start(cross, *KEYS)
            threads.start(cross, *reversed(KEYS))
        assert (len(refused), len(keyed)) == (1, 0)
    finally:
        if enabled:
            gc.enable()


# -- the judgements ----------------------------------------------------------------------------------------------------

each_one = pytest.mark.parametrize(
    ("fits", "make"), [(keyed_fits, KeyedLock), (guarded_fits, Guarded), (once_fits, once)], ids=lambda it: it.__name__
)


def judge(fits: Callable[[Make, int], bool], make: Make, number: int) -> None:
    assert [seed for seed in range(number) if not fits(make, seed)] == []


@each_one
def test_histories_are_linearizable(fits: Callable[[Make, int], bool], make: Make) -> None:
    """The calls of two or three threads at once have outcomes as if they had come one after another."""
    judge(fits, make, 40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_one
def test_a_thousand_histories_are_linearizable(fits: Callable[[Make, int], bool], make: Make) -> None:
    """The same, a thousand times."""
    judge(fits, make, 1000)


@pytest.mark.parametrize(
    ("fits", "make"),
    [
        (keyed_fits, ForgetsTheHeld),
        (keyed_fits, MakesTwo),
        (guarded_fits, ReadsTooEarly),
        (guarded_fits, UpdatesOutside),
        (once_fits, looks_before_it_runs),
        (once_fits, keeps_errors),
    ],
    ids=lambda it: it.__name__,
)
def test_histories_of_broken_versions_do_not_fit(fits: Callable[[Make, int], bool], make: Make) -> None:
    """Some histories show it; otherwise the judgement would prove nothing."""
    assert not all(fits(make, seed) for seed in range(1000))


def one(thread: int, what: Hashable, outcome: Hashable, *then: Hashable) -> Call[Any]:
    """A call that ended before the next one began, because each has its own time below."""
    return Call(thread, what, outcome, 0, 0, then)


def in_turn(calls: list[Call[Any]]) -> list[Call[Any]]:
    """The same, one after the other."""
    return [
        Call(call.thread, call.what, call.outcome, 2 * turn, 2 * turn + 1, call.then) for turn, call in enumerate(calls)
    ]


def failing_once(state: Any, call: Call[Any]) -> Any:
    """The model of a function whose first run fails."""
    return once_model(state, call, fates=("failed",))


NOTHING: Final[Holders] = frozenset()
FIRST: Final[Runs] = (0, frozenset())


@pytest.mark.parametrize(
    ("model", "start", "calls", "verdict"),
    [
        (keyed_model, NOTHING, [one(0, ("try", "a"), True), one(1, ("try", "b"), True)], True),
        (keyed_model, NOTHING, [one(0, ("try", "a"), True), one(1, ("try", "a"), True)], False),
        (keyed_model, NOTHING, [one(0, ("try", "a"), False)], False),
        (keyed_model, NOTHING, [one(0, ("try", "a"), True), one(0, ("len", "a"), 0)], False),
        (keyed_model, NOTHING, [one(0, ("enter", "a"), "DeadlockError")], False),
        (guarded_model, (0, None), [one(0, ("takes", "set", 4), "TimeoutError", ("does", "set", 4))], False),
        (guarded_model, (0, None), [one(0, ("takes", "replace", 4), 0, ("does", "replace", 4))], True),
        (guarded_model, (0, None), [one(0, ("takes", "get", 4), 4, ("does", "get", 4))], False),
        (failing_once, FIRST, [one(0, "asks", ("failed", 1), "gets"), one(1, "asks", ("returned", 2), "gets")], True),
        (failing_once, FIRST, [one(0, "asks", ("failed", 1), "gets"), one(1, "asks", ("failed", 1), "gets")], False),
        (failing_once, FIRST, [one(0, "asks", ("returned", 2), "gets")], False),
    ],
)
def test_the_models_themselves(model: Model, start: Hashable, calls: list[Call[Any]], verdict: bool) -> None:
    """Histories with a known verdict get that verdict."""
    assert linearizable(in_turn(calls), start, model) is verdict
