"""Turns come in the predefined order, one at a time, and waiting for them has a limit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Barrier, get_ident

import pytest

from syncprims._runner.ordered_runner import OrderedRunner, Turn
from syncprims.errors import DeadlockError, SequenceFinishedError, StepTimeoutError
from syncprims.testing import Threads, assert_blocks, patience


def waited_for_by(runner: OrderedRunner, count: int) -> bool:
    return runner.waiting == count


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(
    "steps", [("a",), ("a", "b"), ("zero", "odd", "zero", "even"), tuple("abcdefgh")], ids=lambda steps: "-".join(steps)
)
def test_threads_take_turns_in_the_order_of_the_steps(steps: tuple[str, ...]) -> None:
    """Whatever the scheduler does, the turns are those of the order, each once, and never two at a time."""
    rounds = 400 // len(steps)
    runner = OrderedRunner(*steps, rounds=rounds, timeout=patience())
    names = sorted(set(steps), reverse=True)
    start, turns, active = Barrier(len(names)), [], []

    def take_part(name: str) -> None:
        start.wait(patience())
        for _ in range(rounds * steps.count(name)):
            with runner.step(name) as turn:
                active.append(name)
                turns.append(turn)
                assert active == [name]
                active.remove(name)

    with Threads() as threads:
        for name in names:
            threads.start(take_part, name)
    expected = [Turn(step, index, index // len(steps)) for index, step in enumerate(steps * rounds)]
    assert turns == expected
    assert (runner.state, runner.rounds_completed, runner.current) == ("finished", rounds, None)


@pytest.mark.usefixtures("restless")
def test_many_threads_share_the_turns_of_one_step() -> None:
    """Several threads may serve a step: each turn goes to one of them, and all of them end."""
    runner = OrderedRunner("in", "out", rounds=100, timeout=patience())
    log: list[Turn] = []
    with Threads() as threads:
        served = [threads.start(runner.serve, name, log.append) for name in ("in", "out") for _ in range(4)]
    assert [turn.index for turn in log] == list(range(200))
    assert [turn.step for turn in log] == ["in", "out"] * 100
    assert sum(running.result() for running in served) == 200


def test_coming_after_the_last_round_is_an_error() -> None:
    """A thread that comes after the end gets an error that says so, at once."""
    runner = OrderedRunner("only", name="short")
    with runner.step("only"):
        pass
    with pytest.raises(SequenceFinishedError, match=r"'short' finished after 1 turns .* reset\(\)"):
        runner.step("only", timeout=None).__enter__()


def test_a_step_may_be_a_decorator() -> None:
    """A decorated function waits for a turn at each call, and keeps its name, arguments and result."""
    runner = OrderedRunner("add", rounds=2)

    @runner.step("add")
    def add(a: int, *, b: int) -> int:
        """Add."""
        assert runner.current == "add"
        return a + b

    assert (add(1, b=2), add(3, b=4)) == (3, 7)
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    with pytest.raises(SequenceFinishedError):
        add(5, b=6)


def test_what_cannot_be_called_cannot_be_decorated() -> None:
    """A value that is not a function is refused at the decoration, not at the call."""
    with pytest.raises(TypeError, match="the function for the step 'a' must be callable, not 3"):
        OrderedRunner("a").step("a")(3)  # type: ignore[arg-type]


async def _coroutine() -> None: ...


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("fn", [_coroutine, _generator])
def test_a_decorated_function_must_run_when_called(fn: Callable[[], object]) -> None:
    """A coroutine or generator function would run after its turn, so it is refused."""
    with pytest.raises(TypeError, match="runs none of its code"):
        OrderedRunner("a").step("a")(fn)


def test_a_context_may_be_shared_and_reused() -> None:
    """One context serves several threads and any number of entries."""
    runner = OrderedRunner("a", rounds=60, timeout=patience())
    step = runner.step("a")
    turns: list[int] = []

    def take(count: int) -> None:
        for _ in range(count):
            with step as turn:
                turns.append(turn.index)

    with Threads() as threads:
        for _ in range(3):
            threads.start(take, 20)
    assert turns == list(range(60))


def test_exit_stack_leaves_the_step() -> None:
    """A step works in an ExitStack, which takes `__exit__` from the class."""
    runner = OrderedRunner("a", "b")
    with ExitStack() as stack:
        assert stack.enter_context(runner.step("a")).step == "a"
        assert runner.current == "a"
    assert runner.current == "b"


def test_leaving_a_step_that_was_not_entered_is_an_error() -> None:
    """Only a thread that has entered can leave, and trying changes nothing."""
    runner = OrderedRunner("a")
    with pytest.raises(RuntimeError, match="in no step of this runner"):
        runner.step("a").__exit__(None, None, None)
    assert (runner.state, runner.current) == ("open", "a")


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout_names_the_holder_and_changes_nothing(timeout: float) -> None:
    """The error says whose turn it is, which thread has it and where that thread is; trying again works."""
    runner = OrderedRunner("first", "second", name="order")
    with runner.step("first"), Threads() as threads:
        error = threads.start(runner.step("second", timeout=timeout).__enter__).exception()
        assert isinstance(error, StepTimeoutError)
        assert isinstance(error, TimeoutError)
        assert (error.step, error.current, error.timeout) == ("second", "first", timeout)
        assert error.waited >= timeout
        assert error.holder is not None
        assert error.holder.ident == get_ident()
        assert error.holder.alive
        assert "the turn of 'second' in 'order': it is the turn of 'first', held by Thread 'MainThread'" in str(error)
        assert runner.waiting == 0
    with runner.step("second") as turn:
        assert turn.index == 1


def test_a_timeout_says_when_nobody_has_come() -> None:
    """If no thread has the turn, the error names the step that is missing."""
    runner = OrderedRunner("first", "second", timeout=0)
    with pytest.raises(StepTimeoutError, match="'first', which no thread has come for") as caught:
        runner.step("second").__enter__()
    assert caught.value.holder is None
    assert runner.state == "open"


def test_the_constructors_timeout_is_the_default() -> None:
    """A step's own timeout counts before the constructor's, None included."""
    runner = OrderedRunner("a", "b", timeout=0)
    with pytest.raises(StepTimeoutError):
        runner.step("b").__enter__()
    with runner.step("a"):
        blocked = assert_blocks(runner.step("b", timeout=None).__enter__, until=lambda: runner.waiting == 1)
    assert blocked.result().step == "b"


def test_entering_a_step_inside_a_step_is_an_error_at_once() -> None:
    """A thread would wait for itself: it gets the error in every way to enter, and keeps its turn."""
    runner = OrderedRunner("a", "b", name="order")
    with runner.step("a"):
        attempts: list[Callable[[], object]] = [
            runner.step("b").__enter__,
            runner.step("a").__enter__,
            runner.wait,
            lambda: runner.serve("b", print),
            lambda: runner.run({"a": print, "b": print}),
        ]
        for attempt in attempts:
            with pytest.raises(DeadlockError, match=r"'order'.*is in step 'a' and has to leave it") as caught:
                attempt()
            assert [wait.lock_name for wait in caught.value.cycle] == ["order"]
        assert runner.current == "a"
    assert runner.current == "b"


def test_bad_arguments_are_refused_at_once() -> None:
    """A wrong argument raises in the call that gets it."""
    with pytest.raises(ValueError, match="at least one step"):
        OrderedRunner()
    for rounds in (0, -1):
        with pytest.raises(ValueError, match="rounds must be at least 1"):
            OrderedRunner("a", rounds=rounds)
    with pytest.raises(TypeError, match="rounds must be an integer, not 'two'"):
        OrderedRunner("a", rounds="two")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an argument of its own and a string"):
        OrderedRunner("a", 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name must be"):
        OrderedRunner("a", name=3)  # type: ignore[arg-type]
    runner = OrderedRunner("load", "store", name="etl")
    for bad in (-1, float("nan")):
        for attempt in (
            lambda bad=bad: OrderedRunner("a", timeout=bad),
            lambda bad=bad: runner.step("load", timeout=bad),
            lambda bad=bad: runner.wait(timeout=bad),
            lambda bad=bad: runner.run({"load": print, "store": print}, timeout=bad),
        ):
            with pytest.raises(ValueError, match="timeout"):
                attempt()
    for unknown in (lambda: runner.step("sort"), lambda: runner.serve("sort", print)):
        with pytest.raises(ValueError, match="'etl' has no step 'sort'; it has 'load', 'store'"):
            unknown()
    with pytest.raises(TypeError, match="must be callable"):
        runner.serve("load", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not negative"):
        runner.wait(rounds=-1)
    with pytest.raises(TypeError, match="must be an exception"):
        runner.abort("why")  # type: ignore[arg-type]
    assert (runner.state, runner.current) == ("open", "load")


def test_repr_tells_the_state() -> None:
    """Name, state and turn are there, and reading them does not block."""
    runner = OrderedRunner("load", name="etl")
    assert repr(runner) == f"<syncprims.OrderedRunner 'etl' open at {id(runner):#x}>"
    with runner.step("load"):
        assert repr(runner).startswith("<syncprims.OrderedRunner 'etl' open, turn of 'load' at 0x")
    assert repr(runner).startswith("<syncprims.OrderedRunner 'etl' finished at 0x")
    assert repr(runner.step("load")).startswith("<step 'load' of <syncprims.OrderedRunner 'etl'")
    assert OrderedRunner("a").name.startswith("OrderedRunner-")


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_runner_is_not_picklable(attempt: Callable[[object], object]) -> None:
    """The refusal says what to do instead."""
    with pytest.raises(TypeError, match=r"run\(bodies, executor=...\)"):
        attempt(OrderedRunner("a"))


def test_turns_are_frozen_and_picklable() -> None:
    """A turn is a plain value."""
    turn = Turn("a", 3, 1)
    assert pickle.loads(pickle.dumps(turn)) == turn
    assert (hash(turn), repr(turn)) == (hash(Turn("a", 3, 1)), "Turn(step='a', index=3, round=1)")
    with pytest.raises(AttributeError):
        turn.step = "b"
    assert not hasattr(turn, "__dict__")


class Recorded(OrderedRunner):
    """A runner that goes back and forth, and records which threads asked for the next step."""

    def __init__(self, *steps: str) -> None:
        self.asked: list[tuple[Turn | None, int]] = []
        super().__init__(*steps)

    def _next(self, done: Turn | None) -> str | None:
        self.asked.append((done, get_ident()))
        order = ["left", "right", "right", "left"]
        index = 0 if done is None else done.index + 1
        return order[index] if index < len(order) else None


def test_a_subclass_decides_the_order() -> None:
    """`_next` is called once for each turn, not before a thread comes, in the thread that ends the turn before."""
    runner = Recorded("left", "right")
    assert runner.asked == []
    log: list[Turn] = []
    idents: dict[str, int] = {}

    def serve(name: str) -> int:
        idents[name] = get_ident()
        return runner.serve(name, log.append)

    with runner.step("left") as turn:
        assert runner.asked == [(None, get_ident())]
        log.append(turn)
    with Threads() as threads:
        served = [threads.start(serve, name) for name in ("left", "right")]
    assert [turn.step for turn in log] == ["left", "right", "right", "left"]
    assert [turn.round for turn in log] == [0, 0, 1, 1]
    assert [running.result() for running in served] == [1, 2]
    assert [done for done, _ in runner.asked] == [None, *log]
    assert [ident for _, ident in runner.asked[1:]] == [get_ident(), idents["right"], idents["right"], idents["left"]]


class Broken(OrderedRunner):
    """A runner whose `_next` does what the test says."""

    answer: Callable[[Turn | None], str | None]

    def _next(self, done: Turn | None) -> str | None:
        return self.answer(done)


@pytest.mark.parametrize("at_start", [True, False])
def test_an_unknown_next_step_breaks_the_sequence(at_start: bool) -> None:
    """The thread that asked gets a ValueError that lists the steps; no thread waits for a step that does not exist."""
    runner = Broken("a", "b")
    runner.answer = lambda done: "c" if at_start or done is not None else "a"
    with pytest.raises(ValueError, match="returned 'c', which is none of its steps: 'a', 'b'"), runner.step("a"):
        pass
    assert runner.state == "broken"


def test_a_start_with_no_step_finishes() -> None:
    """If `_next` has no first step, the sequence is finished."""
    runner = Broken("a")
    runner.answer = lambda done: None
    with pytest.raises(SequenceFinishedError):
        runner.step("a").__enter__()
    runner.wait(timeout=0)


def test_current_is_the_first_step_before_anyone_has_come() -> None:
    """It is the first step's turn from the start; if `_next` is overridden, it is unknown before the call."""

    class Computed(OrderedRunner):
        def _next(self, done: Turn | None) -> str | None:
            return "b" if done is None else None

    assert OrderedRunner("a", "b").current == "a"
    assert Computed("a", "b").current is None
