"""The contract of a runner in trouble: failures, `abort`, `stop`, `reset`, deadlocks, interrupts."""

from __future__ import annotations

import threading

from ..._locks.timed_lock import TimedLock
from ..._runner.ordered_runner import OrderedRunner, Turn
from ...errors import (
    BrokenSequenceError,
    DeadlockError,
    ForkedError,
    SequenceFinishedError,
    StepTimeoutError,
    SyncError,
)
from ..threads import Running
from .contract import Contract
from .runner_order import InStep, Make, take
from .trial import (
    aside,
    expect,
    expect_that,
    finish,
    in_child,
    limit,
    moment,
    raises,
    start,
    still,
    sweep,
    told,
)

ends: Contract[Make] = Contract()


def _waiter(runner: OrderedRunner, step: str) -> Running[Turn]:
    """Another thread that waits for the step."""
    waiter = start(take, runner, step)
    still(waiter, f"a thread that came for {step!r} before its turn")
    return waiter


def _expect_error(waiter: Running[Turn], kind: type[BaseException], what: str) -> BaseException:
    return raises(kind, what, finish, waiter, what)


# -- failures ---------------------------------------------------------------------------------------------------------


@ends.clause("an exception of a step comes out of it", "raised exceptions in steps")
def _comes_out(make: Make) -> None:
    for error in (ValueError("in the step"), KeyboardInterrupt("in the step")):
        got = InStep(make("a", "b"), "a", error).fail()
        expect_that(got is error, f"of {error!r} in a step came {'nothing' if got is None else told(got)}")


@ends.clause(
    "a step that raises breaks the sequence: who waits, or comes later, gets BrokenSequenceError from it",
    "raised in a step that a thread waited behind, then came again",
)
def _breaks(make: Make) -> None:
    for error in (ValueError("in the step"), SystemExit("in the step")):
        runner = make("a", "b")
        inside = InStep(runner, "a", error)
        waiter = _waiter(runner, "b")
        inside.fail()
        expect("state", runner.state, "broken")
        for what, heard in (
            ("a thread that waited", _expect_error(waiter, BrokenSequenceError, "a thread that waited")),
            ("one that came later", aside(raises, BrokenSequenceError, "coming later", take, runner, "b")),
            ("wait()", aside(raises, BrokenSequenceError, "wait()", runner.wait)),
        ):
            expect_that(heard.__cause__ is error, f"the cause that {what} was told is {heard.__cause__!r}")
            expect(f"the step that {what} was told", getattr(heard, "step", None), "a")


@ends.clause("run() raises the first failure, when all its threads have ended", "failed in the second of three steps")
def _run_error(make: Make) -> None:
    error = ValueError("in the body")
    ran: list[str] = []
    threads: list[threading.Thread] = []

    def body(turn: Turn) -> None:
        threads.append(threading.current_thread())
        ran.append(turn.step)
        if turn.step == "b":
            raise error

    runner = make("a", "b", "c")
    got = raises(ValueError, "run()", aside, runner.run, dict.fromkeys(("a", "b", "c"), body), timeout=limit())
    expect_that(got is error, f"run() raised {got!r}, not the body's own exception")
    expect("the bodies that ran", ran, ["a", "b"])
    expect("the threads that run() left behind", [one.name for one in threads if one.is_alive()], [])


@ends.clause("a run() that is not done in time raises StepTimeoutError", "ran a body that goes on for longer")
def _run_timeout(make: Make) -> None:
    go = threading.Event()
    runner = make("a", "b")
    bodies = {"a": lambda _turn: go.wait(limit()), "b": lambda _turn: None}
    try:
        error = raises(StepTimeoutError, "run(timeout=...)", aside, runner.run, bodies, timeout=moment())
        name = None if error.holder is None else error.holder.name
        expect_that(name and name in str(error), f"the error does not name the thread ({name!r}) in the body: {error}")
    finally:
        go.set()


@ends.clause("serve() raises the error that broke the sequence", "served a step behind one that raised")
def _serve_error(make: Make) -> None:
    runner = make("a", "b", rounds=None)
    error = ValueError("in the step")
    serving = start(runner.serve, "b", lambda _turn: None)
    InStep(runner, "a", error).fail()
    heard = raises(BrokenSequenceError, "serve()", finish, serving, "serve()")
    expect_that(heard.__cause__ is error, f"its cause is {heard.__cause__!r}")


@ends.clause("entering a step inside a step of the same runner raises at once", "did it in one thread")
def _nested(make: Make) -> None:
    runner = make("a", "b")

    def nest() -> None:
        with runner.step("a", timeout=limit()):
            for step in ("a", "b"):
                raises(SyncError, f"entering {step!r} in 'a'", take, runner, step)
            raises(SyncError, "wait() in a step", runner.wait, timeout=limit())

    aside(nest)
    expect("the turn of b, after that", take(runner, "b").index, 1)


# -- steering ---------------------------------------------------------------------------------------------------------


@ends.clause("abort() breaks the sequence, with its cause", "aborted while one thread was in a step and one waited")
def _abort(make: Make) -> None:
    runner = make("a", "b")
    cause = ValueError("the cause")
    inside = InStep(runner, "a")
    waiter = _waiter(runner, "b")
    aside(runner.abort, cause)
    expect("state", runner.state, "broken")
    heard = _expect_error(waiter, BrokenSequenceError, "a thread that waited")
    expect_that(heard.__cause__ is cause, f"the cause it was told is {heard.__cause__!r}")
    inside.leave()
    aside(raises, BrokenSequenceError, "coming later", take, runner, "b")
    idle = make("a")
    idle.abort()
    aside(raises, BrokenSequenceError, "coming to a runner that was aborted idle", take, idle, "a")


@ends.clause("stop() finishes the sequence after the turn in progress", "stopped an endless one with waiters")
def _stop(make: Make) -> None:
    runner = make("a", "b", rounds=None)
    serving = start(runner.serve, "b", lambda _turn: None)
    inside = InStep(runner, "a")
    waiter = _waiter(runner, "a")
    aside(runner.stop)
    inside.leave()
    expect("serve() of the other step", finish(serving, "serve()"), 0)
    _expect_error(waiter, SequenceFinishedError, "a thread that waited")
    aside(runner.wait, timeout=limit())
    expect("state", runner.state, "finished")


@ends.clause(
    "reset() starts again, and waiting threads get an error", "reset a runner in use, a broken and a finished one"
)
def _reset(make: Make) -> None:
    runner = make("a", "b")
    inside = InStep(runner, "a")
    waiter = _waiter(runner, "b")
    aside(runner.reset)
    _expect_error(waiter, BrokenSequenceError, "a thread that waited")
    inside.leave()
    for what in ("reset in use", "reset when finished", "reset when broken"):
        expect(f"state after {what}", runner.state, "open")
        turns = [take(runner, step).index for step in ("a", "b")]
        expect(f"the turns after {what}", turns, [0, 1])
        runner.reset()
        if what == "reset when finished":
            runner.abort()
            runner.reset()


# -- deadlocks, forks, interrupts -------------------------------------------------------------------------------------


@ends.clause(
    "a cycle of a step and a lock is a DeadlockError",
    "let the thread in a step enter a lock whose holder came for the next step",
)
def _cycle_of_step_and_lock(make: Make) -> None:
    runner = make("a", "b")
    lock = TimedLock()
    meet = threading.Barrier(2)

    def in_step() -> None:
        with runner.step("a", timeout=limit()):
            meet.wait(limit())
            with lock.hold(limit()):
                pass

    def in_lock() -> None:
        with lock:
            meet.wait(limit())
            take(runner, "b")

    pair = [start(in_step), start(in_lock)]
    for one in pair:
        one.thread.join(limit() + moment())
    expect_that(all(one.done() for one in pair), "the two threads hung")
    errors = [error for one in pair if (error := one.exception(0)) is not None]
    victims = [error for error in errors if isinstance(error, DeadlockError)]
    expect_that(len(victims) == 1, f"the two threads raised {', '.join(map(told, errors)) or 'nothing'}")


@ends.clause("a runner raises ForkedError in a forked child", "forked, and used it")
def _fork(make: Make) -> None:
    runner = make("a", "b")

    def child() -> None:
        raises(ForkedError, "entering a step", take, runner, "a")
        raises(ForkedError, "run()", runner.run, dict.fromkeys(("a", "b"), lambda _turn: None))
        raises(ForkedError, "wait()", runner.wait)

    in_child(child)
    expect("the turn of a in the parent", take(runner, "a").index, 0)


def _problem(runner: OrderedRunner) -> str | None:
    """Return the problem of a runner of a and b after an interrupt somewhere in a turn of a, or None."""
    step = runner.current or "a"
    if runner.state == "broken":
        waiter = start(take, runner, step)
        waiter.thread.join(limit())
        if not waiter.done():
            return "it is broken, but a thread that comes hangs"
        error = waiter.exception(0)
        return None if isinstance(error, BrokenSequenceError) else f"it is broken, but who comes gets {error!r}"
    came = start(lambda: runner.step(step, timeout=moment()).__enter__())
    came.thread.join(limit())
    if not came.done():
        return f"it is the turn of {step!r}, but a thread that comes for it hangs"
    error = came.exception(0)
    return None if error is None else f"it is the turn of {step!r}, but a thread that comes for it gets {told(error)}"


def _turn_of_a(runner: OrderedRunner) -> None:
    with runner.step("a"):
        len("work")


@ends.clause(
    "an interrupt anywhere in a step breaks the sequence or leaves its turn to others",
    "interrupted a step at every point",
    main_thread=True,
)
def _interrupts(make: Make) -> None:
    sweep(lambda: make("a", "b"), _turn_of_a, _problem, "warm", "cold", "storm", "cold storm")


class Behind:
    """A runner, while another thread is in its first step."""

    def __init__(self, runner: OrderedRunner) -> None:
        self.runner = runner
        self.inside: InStep = InStep(runner, "a")


@ends.clause(
    "an interrupt while a thread waits for its turn breaks the sequence or leaves the turn to others",
    "interrupted a thread that waited for the second step",
    main_thread=True,
)
def _interrupted_wait(make: Make) -> None:
    def scenario(subject: Behind) -> None:
        with subject.runner.step("b", timeout=limit()):
            len("work")

    def problem(subject: Behind) -> str | None:
        return None if subject.runner.state == "finished" else _problem(subject.runner)

    sweep(
        lambda: Behind(make("a", "b")),
        scenario,
        problem,
        "warm",
        when_blocked=lambda subject: subject.runner.waiting == 1,
        unblock=lambda subject: subject.inside.leave(),
    )
