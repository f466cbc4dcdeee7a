"""The counter against a model: any calls of one thread, and of several at once."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from counter.cases import Recording, nothing
from counter.sequential import Operation, Outcome, Sequential, outcome
from history import Call, Recorder, linearizable, overlaps, record
from syncprims import AtomicCounter

# -- one thread -------------------------------------------------------------------------------------------------

NAMES = [
    *("increment", "decrement", "add", "get_and_add", "set", "get_and_set"),
    *("reset", "compare_and_set", "update", "wait_until", "wait_for"),
]

small = st.integers(-4, 4)
integers = small | st.integers()
bound = st.none() | st.integers(0, 6)


def operations() -> st.SearchStrategy[Operation]:
    by_one = st.tuples(
        st.sampled_from(["increment", "decrement", "add", "get_and_add", "set", "get_and_set"]), integers
    )
    return st.one_of(
        by_one.map(lambda pair: (pair[0], (pair[1],))),
        st.tuples(small, integers).map(lambda pair: ("compare_and_set", pair)),
        st.sampled_from([("reset", ()), ("increment", ()), ("decrement", ()), ("get_and_add", ())]),
        st.sampled_from([abs, int.__neg__, lambda value: value * value - 3]).map(lambda fn: ("update", (fn,))),
        integers.map(lambda value: ("wait_until", (value, 0))),
        small.map(lambda value: ("wait_for", (value.__eq__, 0))),
    )


class CounterMachine(RuleBasedStateMachine):
    """Does the same with a counter, with one that has a hook, and with the model."""

    @initialize(value=small, minimum=bound, maximum=bound)
    def make(self, value: int, minimum: int | None, maximum: int | None) -> None:
        lower = None if minimum is None else value - minimum
        upper = None if maximum is None else value + maximum
        self.model = Sequential(value, lower, upper)
        self.plain = AtomicCounter(value, minimum=lower, maximum=upper)
        self.hooked = Recording(value, minimum=lower, maximum=upper)
        self.changes: list[tuple[int, int]] = []

    @rule(operation=operations())
    def operate(self, operation: Operation) -> None:
        before = self.model.value
        expected = outcome(self.model, operation)
        if self.model.value != before:
            self.changes.append((before, self.model.value))
        for counter in (self.plain, self.hooked):
            came = outcome(counter, operation)
            assert came == expected
            assert type(came[1]) is type(expected[1])

    @invariant()
    def alike(self) -> None:
        for counter in (self.plain, self.hooked):
            assert counter.value == int(counter) == self.model.value
            assert f"{counter:d}" == str(self.model.value)
            assert counter._waiters == {}
        assert self.hooked.told == self.changes


TestCounterMachine = CounterMachine.TestCase
TestCounterMachine.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# -- several threads --------------------------------------------------------------------------------------------


def run(counter: object, plans: list[list[Operation]], random: Random) -> list[Call[int]]:
    """Let each thread carry out its plan, all at once, and return the outcomes."""

    def carry_out(plan: list[Operation], do: Recorder[int]) -> None:
        for operation in plan:
            do(operation, partial(outcome, counter, operation))

    return record([partial(carry_out, plan) for plan in plans], random)


def follow(value: int, call: Call[int], minimum: int | None = None, maximum: int | None = None) -> int | None:
    """The value after the call, or None if the call can't have that outcome at this value."""
    # The initial value, which reset() restores, is 0 for all of these models, whatever the value is now.
    model = Sequential(0, minimum, maximum)
    model.value = value
    return model.value if outcome(model, cast(Operation, call.what)) == call.outcome else None


def restlessly_triple(value: int) -> int:
    nothing()
    return value * 3 % 17


def some_operation(random: Random) -> Operation:
    name = random.choice(NAMES)
    number = random.randint(-2, 3)
    match name:
        case "reset":
            return name, ()
        case "compare_and_set":
            return name, (number, random.randint(-2, 3))
        case "update":
            return name, (restlessly_triple,)
        case "wait_until":
            return name, (number, 0)
        case "wait_for":
            return name, (number.__eq__, 0)
        case _:
            return name, (number,)


@pytest.mark.parametrize("bounds", [(None, None), (-3, 4)], ids=["plain", "bounded"])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))])
def test_histories_are_linearizable(seed: int, bounds: tuple[int | None, int | None]) -> None:
    """The calls of three threads at once have outcomes as if they had come one after another."""
    random = Random(seed)
    overlapping = 0
    for _ in range(40):
        plans = [[some_operation(random) for _ in range(5)] for _ in range(3)]
        history = run(AtomicCounter(minimum=bounds[0], maximum=bounds[1]), plans, random)
        assert linearizable(history, 0, partial(follow, minimum=bounds[0], maximum=bounds[1])), history
        overlapping += overlaps(history)
    assert overlapping > 20, "the threads hardly met, so this proves nothing"


def test_a_counter_without_a_lock_is_not_linearizable() -> None:
    """The check finds a fault in the histories of the model itself, which has no lock."""
    random = Random(0)
    for _ in range(200):
        plans = [[("get_and_add", (random.randint(1, 3),)) for _ in range(8)] for _ in range(3)]
        if not linearizable(run(Sequential(), plans, random), 0, follow):
            return
    pytest.fail("the unguarded counter's histories all passed, so the check proves nothing")


def done(operation: Operation, came: Outcome, began: int, ended: int) -> Call[int]:
    return Call(0, operation, came, began, ended)


BY_HAND: list[tuple[str, list[Call[int]], bool]] = [
    ("nothing", [], True),
    (
        "one after the other",
        [done(("increment", ()), ("returned", 1), 0, 1), done(("increment", ()), ("returned", 2), 2, 3)],
        True,
    ),
    (
        "in the wrong order",
        [done(("increment", ()), ("returned", 2), 0, 1), done(("increment", ()), ("returned", 1), 2, 3)],
        False,
    ),
    (
        "in either order, as they overlap",
        [done(("increment", ()), ("returned", 2), 0, 3), done(("increment", ()), ("returned", 1), 2, 4)],
        True,
    ),
    (
        "a lost change",
        [done(("get_and_add", (1,)), ("returned", 0), 0, 9), done(("get_and_add", (2,)), ("returned", 0), 0, 9)],
        False,
    ),
    (
        "two winners",
        [done(("compare_and_set", (0, n)), ("returned", True), 0, 9) for n in (1, 2)],
        False,
    ),
    (
        "a value that never was",
        [done(("set", (5,)), ("returned", None), 0, 9), done(("wait_until", (1, 0)), ("returned", 4), 0, 9)],
        False,
    ),
    (
        "a failure that was none",
        [done(("set", (5,)), ("returned", None), 0, 1), done(("wait_until", (1, 0)), ("CounterTimeoutError", 0), 2, 3)],
        False,
    ),
]


@pytest.mark.parametrize(
    ("history", "verdict"), [case[1:] for case in BY_HAND], ids=[case[0].replace(" ", "-") for case in BY_HAND]
)
def test_the_check_itself(history: list[Call[int]], verdict: bool) -> None:
    """Histories with a known verdict get that verdict."""
    assert linearizable(history, 0, follow) is verdict
