"""Several threads take turns, fail, stop, abort and reset at once, as if one after another."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history import Call, Recorder, linearizable, record
from syncprims import BrokenSequenceError, OrderedRunner, SequenceFinishedError, StepTimeoutError, Turn
from syncprims.testing import patience

ORDER = ("a", "b", "a", "c")
ROUNDS = 2
ENDS = {BrokenSequenceError: "broken", SequenceFinishedError: "finished", StepTimeoutError: "timeout"}


class State(NamedTuple):
    """The state of a runner whose callers come one after another."""

    sequence: int = 0
    """How often it was reset."""
    status: str = "open"
    turn: int = 0
    """Index of the one that is next or in progress."""
    starting: int | None = None
    """The thread that was the first to come, and is about to open the first gate."""
    started: bool = False
    ending: int | None = None
    """The thread in stop() that has ensured that no thread enters any more, and is about to announce the end."""
    inside: int | None = None
    """The thread whose step is active."""
    stopping: bool = False
    left_over: frozenset[int] = frozenset()
    """Threads in a step of a sequence that was reset, or in stop() of one."""


def model(state: State, call: Call[State]) -> State | None:
    """The state after the call, or None if the call can't have that outcome."""
    name, *arguments = call.what if isinstance(call.what, tuple) else (call.what,)
    match name:
        case "arrive" if state.status == "open" and not state.started and state.starting is None:
            return state._replace(starting=call.thread)
        case "start" if state.starting == call.thread:
            over = state.status == "open" and state.stopping
            return state._replace(starting=None, started=True, status="finished" if over else state.status)
        case "enter":
            return entered(state, call, arguments[0])
        case "leave":
            return left(state, call.thread, arguments[0])
        case "state":
            return state if call.outcome == state.status else None
        case "keep out" if state.status == "open" and not busy(state):
            return state._replace(ending=call.thread)
        case "stop":
            return stopped(state, call.thread)
        case "abort" | "end by reset" if state.status == "open":
            return state._replace(status="broken")
        case "begin by reset":
            busy_still = {thread for thread in (state.inside, state.ending) if thread is not None}
            return State(state.sequence + 1, left_over=state.left_over | busy_still)
    return state


def busy(state: State) -> bool:
    """Whether there is a thread that will check `stopping` when it is done."""
    return any(thread is not None for thread in (state.inside, state.starting, state.ending))


def stopped(state: State, thread: int) -> State | None:
    """The state after a stop, which takes effect at once unless some thread is busy."""
    if thread in state.left_over:
        return state._replace(left_over=state.left_over - {thread})
    if state.status != "open":
        return state
    if state.ending == thread:
        return state._replace(status="finished", ending=None)
    return state._replace(stopping=True) if busy(state) else None


def entered(state: State, call: Call[State], step: str) -> State | None:
    """The state after a try to enter the step."""
    free = state.started and not state.stopping and not busy(state)
    may_enter = state.status == "open" and free and ORDER[state.turn % len(ORDER)] == step
    if isinstance(call.outcome, tuple):
        return state._replace(inside=call.thread) if may_enter and call.outcome == (step, state.turn) else None
    if call.outcome == "timeout":
        return state if state.status == "open" and not may_enter else None
    return state if state.status == call.outcome else None


def left(state: State, thread: int, how: str) -> State | None:
    """The state after leaving the step, which may belong to an earlier sequence."""
    if thread in state.left_over:
        return state._replace(left_over=state.left_over - {thread})
    assert state.inside == thread
    if state.status == "open" and how == "fails":
        return state._replace(inside=None, status="broken")
    if state.status == "open":
        over = state.stopping or state.turn + 1 == ROUNDS * len(ORDER)
        return state._replace(inside=None, turn=state.turn + 1, status="finished" if over else "open")
    return state._replace(inside=None)


# -- the threads --------------------------------------------------------------------------------------------------


class OwnError(Exception):
    """The failure of a step."""


Plan = list[tuple[str, ...]]


def carrying_out(runner: OrderedRunner, plan: Plan) -> Callable[[Recorder[State]], None]:
    """Return a function that carries out the plan."""

    def carry_out(note: Recorder[State]) -> None:
        for name, *arguments in plan:
            match name:
                case "turn":
                    take_a_turn(note, runner, *arguments)
                case "reset":
                    note("end by reset", runner.reset, then=("begin by reset",))
                case "stop":
                    note("keep out", runner.stop, then=("stop",))
                case "state":
                    note("state", lambda: runner.state)
                case _:
                    note(name, getattr(runner, name))

    return carry_out


def take_a_turn(note: Recorder[State], runner: OrderedRunner, step: str, how: str) -> None:
    """Enter the step, if possible, and leave it in that manner."""
    context = runner.step(step, timeout=0.003)
    came = note("arrive", lambda: enter(context.__enter__), then=("start", ("enter", step)))
    if isinstance(came, tuple):
        error = OwnError() if how == "fails" else None
        note(("leave", how), lambda: context.__exit__(None if error is None else OwnError, error, None))


def enter(take: Callable[[], Turn]) -> Hashable:
    """Return which turn it was, or why there was none."""
    try:
        turn = take()
    except (BrokenSequenceError, SequenceFinishedError, StepTimeoutError) as error:
        return ENDS[type(error)]
    return turn.step, turn.index


turns = st.tuples(st.just("turn"), st.sampled_from(["a", "b", "c"]), st.sampled_from(["passes"] * 5 + ["fails"]))
others = st.sampled_from([("state",), ("stop",), ("abort",), ("reset",)])
plans = st.lists(st.lists(st.one_of(turns, turns, turns, others), min_size=1, max_size=6), min_size=2, max_size=3)
some = settings(max_examples=60, deadline=None, database=None)


def check(ways: list[Plan], seed: int) -> None:
    """Let a thread for each plan carry it out, and search for an order in which the model has the same outcomes."""
    runner = OrderedRunner(*ORDER, rounds=ROUNDS)
    history = record([carrying_out(runner, plan) for plan in ways], Random(seed))
    assert linearizable(history, State(), model), history
    assert runner.waiting == 0


@some
@given(plans, st.integers(0, 1 << 16))
def test_histories_are_linearizable(ways: list[Plan], seed: int) -> None:
    """The calls of two or three threads at once have outcomes as if they had come one after another."""
    check(ways, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(some, max_examples=1000)
@given(plans, st.integers(0, 1 << 16))
def test_a_thousand_histories_are_linearizable(ways: list[Plan], seed: int) -> None:
    """The same, a thousand times."""
    check(ways, seed)


@settings(some, max_examples=30)
@given(st.integers(0, 1 << 16))
def test_all_turns_of_threads_that_keep_to_the_order_are_taken(seed: int) -> None:
    """Three threads that come for the turns of their own steps take every one of them in order, however they meet."""
    runner = OrderedRunner(*ORDER, rounds=ROUNDS, timeout=patience())

    def serve(step: str) -> Callable[[Recorder[State]], None]:
        def take(note: Recorder[State]) -> None:
            context = runner.step(step)
            for _ in range(ORDER.count(step) * ROUNDS):
                note("arrive", lambda: enter(context.__enter__), then=("start", ("enter", step)))
                note(("leave", "passes"), lambda: context.__exit__(None, None, None))

        return take

    history = record([serve(step) for step in ("a", "b", "c")], Random(seed))
    assert linearizable(history, State(), model), history
    assert runner.state == "finished"


# -- the check bites ----------------------------------------------------------------------------------------------


def call(thread: int, what: Hashable, outcome: Hashable, began: int, ended: int) -> Call[State]:
    """A call in the form of a note."""
    first, *then = {A: ("arrive", "start", A), B: ("arrive", "start", B), **WHOLE}.get(what, (what,))
    return Call(thread, first, outcome, began, ended, tuple(then))


WHOLE: dict[Hashable, tuple[Hashable, ...]] = {
    "stop": ("keep out", "stop"),
    "reset": ("end by reset", "begin by reset"),
}
A, B = ("enter", "a"), ("enter", "b")
OUT, FAIL = ("leave", "passes"), ("leave", "fails")
BY_HAND: list[tuple[str, list[Call[State]], bool]] = [
    (
        "in order",
        [call(0, A, ("a", 0), 0, 1), call(1, B, ("b", 1), 0, 5), call(0, OUT, None, 2, 4)],
        True,
    ),
    (
        "two inside",
        [call(0, A, ("a", 0), 0, 1), call(1, B, ("b", 1), 2, 3), call(0, OUT, None, 4, 5)],
        False,
    ),
    ("out of order", [call(0, B, ("b", 0), 0, 1)], False),
    (
        "refused though it is its turn",
        [call(0, A, ("a", 0), 0, 1), call(0, OUT, None, 2, 3), call(1, B, "timeout", 4, 5)],
        False,
    ),
    (
        "broken by a failure",
        [call(0, A, ("a", 0), 0, 1), call(1, B, "broken", 0, 9), call(0, FAIL, None, 2, 4)],
        True,
    ),
    ("broken by nobody", [call(1, B, "broken", 0, 9)], False),
    (
        "an end that comes back",
        [call(0, "stop", None, 0, 1), call(0, "abort", None, 2, 3), call(0, "state", "broken", 4, 5)],
        False,
    ),
    (
        "stopped while another thread starts it",
        [call(1, A, "finished", 0, 9), call(0, "stop", None, 2, 3), call(0, "state", "open", 4, 5)],
        True,
    ),
    (
        "a turn after one's own stop",
        [call(1, A, "finished", 0, 9), call(0, "stop", None, 2, 3), call(0, A, ("a", 0), 4, 5)],
        False,
    ),
    (
        "a waiter of before the reset",
        [call(0, "reset", None, 2, 5), call(1, B, "broken", 0, 9), call(0, "state", "open", 6, 7)],
        True,
    ),
    (
        "broken after the reset",
        [call(0, "reset", None, 2, 5), call(1, B, "broken", 6, 9)],
        False,
    ),
]


@pytest.mark.parametrize(
    ("history", "verdict"), [case[1:] for case in BY_HAND], ids=[case[0].replace(" ", "-") for case in BY_HAND]
)
def test_the_check_itself(history: list[Call[State]], verdict: bool) -> None:
    """Histories with a known verdict get that verdict."""
    assert linearizable(history, State(), model) is verdict
