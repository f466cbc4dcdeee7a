"""The contract of a runner whose steps all succeed: their order, the facts of a turn, `serve`, `run` and `wait`."""

from __future__ import annotations

import math
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from ..._runner.ordered_runner import OrderedRunner, Turn
from ...errors import SequenceFinishedError, StepTimeoutError
from ..threads import Running
from .contract import Contract
from .trial import aside, expect, expect_that, finish, limit, moment, raises, settled, start, still, wait

Make: TypeAlias = Callable[..., OrderedRunner]

order: Contract[Make] = Contract()

_NUMBERS = ("zero", "odd", "zero", "even")


def take(runner: OrderedRunner, step: str, log: list[str] | None = None) -> Turn:
    """Take one turn of the step, and log it."""
    with runner.step(step, timeout=limit()) as turn:
        if log is not None:
            log.append(step)
    return turn


class InStep:
    """Another thread that is in a step, until it is asked to leave."""

    def __init__(self, runner: OrderedRunner, step: str, error: BaseException | None = None) -> None:
        self._in, self._go = threading.Event(), threading.Event()
        self._error = error
        self.running: Running[Turn] = start(self._stay, runner, step)
        try:
            wait(self._in, f"the turn of {step!r}")
        except BaseException:
            if self.running.done():
                finish(self.running)  # the thread's own exception says more
            raise

    def _stay(self, runner: OrderedRunner, step: str) -> Turn:
        with runner.step(step, timeout=limit()) as turn:
            self._in.set()
            self._go.wait(2 * limit())
            if self._error is not None:
                raise self._error
        return turn

    def leave(self) -> Turn:
        """Make the thread leave the step and end; return its turn."""
        self._go.set()
        return finish(self.running, "the thread in the step")

    def fail(self) -> BaseException | None:
        """Make the thread leave with its exception and end; return the exception that left the step."""
        self._go.set()
        self.running.thread.join(limit())
        expect_that(self.running.done(), "the thread whose step raised did not end")
        return self.running.exception(0)


def _stop_after(turns: int, turn: Turn) -> None:
    """End a sequence that goes on after its last turn; otherwise its threads would run forever."""
    expect_that(turn.index < turns, f"a turn number {turn.index + 1} came, though there should be {turns}")


# -- order ------------------------------------------------------------------------------------------------------------


@order.clause(
    "steps are taken in their order, whichever thread comes first", "came for three steps in the reverse order"
)
def _order(make: Make) -> None:
    runner = make("a", "b", "c")
    log: list[str] = []
    threads = []
    for step in ("c", "b"):
        threads.append(start(take, runner, step, log))
        still(threads[-1], f"a thread that came for {step!r} before its turn")
    threads.append(start(take, runner, "a", log))
    for thread in threads:
        finish(thread, "a step's thread")
    expect("the order", log, ["a", "b", "c"])


@order.clause("the last step of a round lets the first step of the next one go", "went three rounds of two steps")
def _rounds(make: Make) -> None:
    runner = make("a", "b", rounds=3)
    log: list[str] = []

    def thrice(step: str) -> None:
        for _ in range(3):
            take(runner, step, log)

    for thread in [start(thrice, step) for step in ("b", "a")]:
        finish(thread, "a step's thread")
    expect("the order", log, ["a", "b"] * 3)
    expect("rounds_completed", runner.rounds_completed, 3)
    expect("state", runner.state, "finished")


@order.clause("steps may repeat in the order", "went three rounds of zero, odd, zero, even in three threads")
def _repeat(make: Make) -> None:
    runner = make(*_NUMBERS, rounds=3)
    log: list[str] = []

    def times(step: str, count: int) -> None:
        for _ in range(count):
            take(runner, step, log)

    threads = [start(times, step, 3 * _NUMBERS.count(step)) for step in ("even", "odd", "zero")]
    for thread in threads:
        finish(thread, "a step's thread")
    expect("the order", log, list(_NUMBERS) * 3)


@order.clause("rounds=None repeats forever", "went a hundred rounds")
def _endless(make: Make) -> None:
    runner = make("a", "b", rounds=None)
    for _ in range(100):
        take(runner, "a")
        take(runner, "b")
    expect("state after 100 rounds", runner.state, "open")
    expect("rounds_completed", runner.rounds_completed, 100)


@order.clause("one hand-off lets one thread in", "let three threads wait for the same step, and took turns about")
def _one_at_a_time(make: Make) -> None:
    runner = make("a", "b", rounds=3)
    log: list[str] = []
    waiters = [start(take, runner, "b", log) for _ in range(3)]
    settled(lambda: runner.waiting == 3)
    for number in (1, 2, 3):
        take(runner, "a", log)
        settled(lambda number=number: log.count("b") == number, limit())  # type: ignore[misc]  # bound in the loop
        settled(lambda number=number: log.count("b") > number)  # type: ignore[misc]  # a moment for a turn too many
        expect(f"the order after {number} hand-offs", log, ["a", "b"] * number)
    for waiter in waiters:
        finish(waiter, "a waiter")


@order.clause("no two steps are ever active together", "ran three steps for twenty rounds, and looked who was in")
def _exclusion(make: Make) -> None:
    runner = make("a", "b", "c", rounds=20)
    inside: list[str] = []
    crowds: list[int] = []

    def body(turn: Turn) -> None:
        _stop_after(60, turn)
        inside.append(turn.step)
        crowds.append(len(inside))
        inside.pop()

    for thread in [start(runner.serve, step, body) for step in ("a", "b", "c")]:
        finish(thread, "a step's thread")
    expect("the largest number of steps active together", max(crowds), 1)
    expect("the number of turns", len(crowds), 60)


@order.clause("a turn has its step, its index and its round", "read the turns of two rounds of a, b, a")
def _turn(make: Make) -> None:
    runner = make("a", "b", "a", rounds=2)
    turns = [take(runner, step) for step in ("a", "b", "a") * 2]
    told = [(turn.step, turn.index, turn.round) for turn in turns]
    expect("the turns", told, [("a", 0, 0), ("b", 1, 0), ("a", 2, 0), ("a", 3, 1), ("b", 4, 1), ("a", 5, 1)])


@order.clause("state, current, rounds_completed and waiting show how far it is", "asked before, in and after turns")
def _facts(make: Make) -> None:
    runner = make("a", "b")
    expect("state at first", runner.state, "open")
    expect("rounds_completed at first", runner.rounds_completed, 0)
    with runner.step("a", timeout=limit()):
        expect("current in a", runner.current, "a")
        waiter = start(take, runner, "b")
        settled(lambda: runner.waiting == 1, limit())
        expect("waiting with one thread there for b", runner.waiting, 1)
    finish(waiter, "the thread that waited for b")
    expect("current after the last step", runner.current, None)
    expect("rounds_completed after it", runner.rounds_completed, 1)
    expect("waiting after it", runner.waiting, 0)
    expect("state after it", runner.state, "finished")


@order.clause(
    "a thread that comes after the end gets SequenceFinishedError", "waited for a step, and came for one, after it"
)
def _finished(make: Make) -> None:
    runner = make("a", "b")
    take(runner, "a")
    waiter = start(raises, SequenceFinishedError, "waiting for a after the last round", take, runner, "a")
    still(waiter, "a thread that came for 'a' again")
    take(runner, "b")
    finish(waiter, "the thread that waited for a turn that never comes")
    for step in ("a", "b"):
        aside(raises, SequenceFinishedError, f"coming for {step!r} after the end", take, runner, step)


# -- waiting ----------------------------------------------------------------------------------------------------------


@order.clause("a wait for a turn that times out raises StepTimeoutError, and changes nothing", "let it, then went on")
def _timeout(make: Make) -> None:
    runner = make("a", "b")
    inside = InStep(runner, "a")
    try:
        with_limit = runner.step("b", timeout=moment())
        error = aside(raises, StepTimeoutError, "entering b while a thread was in a", with_limit.__enter__)
        aside(raises, StepTimeoutError, "entering b with timeout=0", runner.step("b", timeout=0).__enter__)
        expect("step and current of the error", (error.step, error.current), ("b", "a"))
        name = None if error.holder is None else error.holder.name
        expect("the name of the error's holder", name, inside.running.thread.name)
        expect_that(error.waited > 0.9 * moment(), f"the error's waited is {error.waited!r} of {moment():g} s")
        expect("state after the timeouts", runner.state, "open")
    finally:
        turn = inside.leave()
    expect("the turn of a", turn.index, 0)
    expect("the turn of b, tried again", take(runner, "b").index, 1)


@order.clause("wait() returns when the sequence has finished, or so many rounds are done", "waited for both")
def _wait(make: Make) -> None:
    runner = make("a", rounds=2)
    one, end = start(runner.wait, rounds=1), start(runner.wait)
    for waiter in (one, end):
        still(waiter, "a wait for what is not done")
    raises(StepTimeoutError, "wait(timeout=...)", aside, runner.wait, timeout=moment())
    take(runner, "a")
    finish(one, "wait(rounds=1) after a round")
    still(end, "wait() after one round of two")
    take(runner, "a")
    finish(end, "wait() after the last round")
    aside(runner.wait)
    aside(raises, SequenceFinishedError, "wait(rounds=3) of a sequence of two", runner.wait, rounds=3)


# -- serve and run ----------------------------------------------------------------------------------------------------


@order.clause("a decorated function runs in a turn and returns what it returns", "decorated a function with a step")
def _decorator(make: Make) -> None:
    runner = make("a", "b")
    seen: list[str | None] = []

    @runner.step("a", timeout=limit())
    def add(left: int, *, right: int) -> int:
        seen.append(runner.current)
        return left + right

    expect("the function", aside(add, 1, right=2), 3)
    expect("current in it", seen, ["a"])
    expect("the next turn", take(runner, "b").index, 1)


@order.clause("serve() calls its function in each remaining turn and returns how often", "served both of two steps")
def _serve(make: Make) -> None:
    runner = make("a", "b", rounds=3)
    log: list[tuple[str, int]] = []
    take(runner, "a")

    def body(turn: Turn) -> None:
        _stop_after(6, turn)
        log.append((turn.step, turn.index))

    threads = [start(runner.serve, step, body) for step in ("a", "b")]
    counts = [finish(thread, "serve()") for thread in threads]
    expect("what serve() returned for a, after one turn, and for b", counts, [2, 3])
    expect("the turns", log, [("b", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)])


@order.clause("run() returns the results of the bodies, in the order of the turns", "ran two rounds of three steps")
def _run(make: Make) -> None:
    runner = make("a", "b", "c", rounds=2)
    threads: list[threading.Thread] = []

    def body(turn: Turn) -> str:
        _stop_after(6, turn)
        threads.append(threading.current_thread())
        return f"{turn.step}{turn.round}"

    results = aside(runner.run, {"c": body, "b": body, "a": body}, timeout=limit())
    expect("run()", results, ["a0", "b0", "c0", "a1", "b1", "c1"])
    left = [thread.name for thread in threads if thread.is_alive()]
    expect("the threads that run() left behind", left, [])


@order.clause("run(executor=...) hands over one body at a time, in order", "ran three steps in an executor of three")
def _executor(make: Make) -> None:
    runner = make("a", "b", "c", rounds=2)
    inside: list[str] = []
    crowds: list[int] = []

    def body(turn: Turn) -> str:
        _stop_after(6, turn)
        inside.append(turn.step)
        crowds.append(len(inside))
        inside.pop()
        return f"{turn.step}{turn.round}"

    with ThreadPoolExecutor(3) as executor:
        bodies = {"a": body, "b": body, "c": body}
        results = aside(runner.run, bodies, timeout=limit(), executor=executor)
        expect("run()", results, ["a0", "b0", "c0", "a1", "b1", "c1"])
        expect("the largest number of bodies that ran together", max(crowds), 1)
        expect("the executor afterwards", executor.submit(len, "open").result(limit()), 4)


# -- arguments and what it is -----------------------------------------------------------------------------------------


@order.clause("no steps, no rounds, or an invalid timeout raise ValueError", "made such runners")
def _made(make: Make) -> None:
    raises(ValueError, "a runner without steps", make)
    raises(ValueError, "rounds=0", make, "a", rounds=0)
    raises(ValueError, "timeout=-1", make, "a", timeout=-1)
    raises(ValueError, "step('a', timeout=nan)", make("a").step, "a", timeout=math.nan)


@order.clause("an unknown step raises a ValueError that lists the known ones", "named one in step(), serve() and run()")
def _unknown(make: Make) -> None:
    runner = make("alpha", "beta")
    bodies = dict.fromkeys(("alpha", "beta", "gamma"), _nothing)
    for what, error in (
        ("step('gamma')", raises(ValueError, "step('gamma')", runner.step, "gamma")),
        ("serve('gamma')", raises(ValueError, "serve('gamma')", runner.serve, "gamma", _nothing)),
        ("run() with a body for gamma", raises(ValueError, "run()", aside, runner.run, bodies, timeout=limit())),
    ):
        for step in ("alpha", "beta"):
            expect_that(step in str(error), f"the error of {what} does not name {step!r}: {error}")


@order.clause("run() without a body for each step raises ValueError, and starts nothing", "left out one of two")
def _missing(make: Make) -> None:
    runner = make("a", "b")
    ran: list[Turn] = []
    error = raises(ValueError, "run() without a body for b", aside, runner.run, {"a": ran.append}, timeout=limit())
    expect_that("'b'" in str(error), f"the error does not name the missing step: {error}")
    expect("the turns that were taken", ran, [])


def _nothing(turn: Turn) -> None:
    """A body that does nothing."""


@order.clause("a runner shows its name in repr(), can be weakly referenced, and can't be pickled", "did all three")
def _object(make: Make) -> None:
    runner = make("a")
    expect_that(runner.name and type(runner.name) is str, f"name gave {runner.name!r}")
    inside = InStep(runner, "a")
    try:
        text = aside(repr, runner)
    finally:
        inside.leave()
    expect_that(runner.name in text, f"repr() of {runner.name!r} gave {text!r}")
    expect_that(weakref.ref(runner)() is runner, "a weak reference did not lead to the runner")
    raises(TypeError, "pickle.dumps(runner)", pickle.dumps, runner)
