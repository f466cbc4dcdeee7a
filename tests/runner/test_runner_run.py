"""`run` does all the work of a sequence, in its own threads or an executor's, and leaves no thread behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from ctypes import c_ulong, py_object, pythonapi
from multiprocessing import get_context
from threading import Event, current_thread, get_ident

import pytest

from syncprims._runner.ordered_runner import OrderedRunner, Turn
from syncprims.errors import BrokenSequenceError, DeadlockError, SequenceFinishedError, StepTimeoutError
from syncprims.testing import Threads, assert_blocks, patience

Bodies = dict[str, Callable[[Turn], object]]


def nothing(turn: Turn) -> None:
    """A body that does nothing."""


class Immediate(Executor):
    """An executor that runs everything in the submitting thread, and counts calls."""

    def __init__(self) -> None:
        self.open = self.most = self.submitted = 0

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]  # no generics here
        self.submitted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        future: Future[object] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        self.open -= 1
        return future


class Lenient(OrderedRunner):
    """A runner that goes on after every Exception."""

    def _on_error(self, turn: Turn, exc: Exception) -> bool:
        return True


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    """Assert that no thread of a run outlives its test."""
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(patience())
            assert not thread.is_alive(), thread.name


@pytest.fixture(params=["threads", "thread pool", "immediate"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    """Each way to run bodies."""
    if request.param == "thread pool":
        with ThreadPoolExecutor(1) as pool:
            yield pool
    else:
        yield None if request.param == "threads" else Immediate()


def test_results_come_in_the_order_of_the_turns(executor: Executor | None) -> None:
    """There is one for each turn, whichever thread it came from."""
    runner = OrderedRunner("zero", "odd", "zero", "even", rounds=50)
    results = runner.run({name: lambda turn: turn for name in ("zero", "odd", "even")}, executor=executor)
    steps = ["zero", "odd", "zero", "even"] * 50
    assert results == [Turn(step, index, index // 4) for index, step in enumerate(steps)]
    assert (runner.state, runner.rounds_completed) == ("finished", 50)


def test_each_step_has_a_thread_of_its_own() -> None:
    """All turns of a step are in one thread, with the step in its name."""
    runner = OrderedRunner("a", "b", rounds=3, name="order")
    names = runner.run({"a": lambda turn: current_thread().name, "b": lambda turn: current_thread().name})
    assert names == ["order:a", "order:b"] * 3


def test_with_an_executor_one_body_runs_at_a_time() -> None:
    """The order is kept here: the next body is submitted when the last is done, and the pool stays open."""
    pool = Immediate()
    OrderedRunner("a", "b", rounds=5).run({"a": nothing, "b": nothing}, executor=pool)
    assert (pool.most, pool.submitted) == (1, 10)


def test_bodies_may_run_in_processes() -> None:
    """Turns and results are pickled, and the order is kept."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        runner = OrderedRunner("a", "b", rounds=2)
        assert runner.run({"a": repr, "b": repr}, executor=pool)[::2] == [
            "Turn(step='a', index=0, round=0)",
            "Turn(step='a', index=2, round=1)",
        ]


def test_the_first_failure_is_raised(executor: Executor | None) -> None:
    """A body that fails ends the run, and nothing runs after it."""
    runner = OrderedRunner("a", "b", "c", rounds=2)
    ran: list[str] = []
    failure = ValueError("bad")

    def fail(turn: Turn) -> None:
        raise failure

    bodies: Bodies = {"a": lambda turn: ran.append("a"), "b": fail, "c": lambda turn: ran.append("c")}
    with pytest.raises(ValueError, match="bad") as caught:
        runner.run(bodies, executor=executor)
    assert caught.value is failure
    assert (ran, runner.state) == (["a"], "broken")
    assert not hasattr(failure, "__notes__")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit(2)], ids=repr)
def test_what_is_no_exception_is_raised_too(failure: BaseException, executor: Executor | None) -> None:
    """run() raises a SystemExit of a body."""

    def fail(turn: Turn) -> None:
        raise failure

    with pytest.raises(type(failure)):
        OrderedRunner("a", "b").run({"a": fail, "b": nothing}, executor=executor)


def test_failures_that_pass_are_raised_at_the_end(executor: Executor | None) -> None:
    """If `_on_error` lets them pass all turns run; then the first is raised, with the others as notes."""
    runner = Lenient("a", "b", rounds=2)
    ran: list[int] = []

    def fail(turn: Turn) -> None:
        ran.append(turn.index)
        raise LookupError(f"{turn.step}{turn.index}")

    with pytest.raises(LookupError, match="a0") as caught:
        runner.run({"a": fail, "b": fail}, executor=executor)
    assert ran == [0, 1, 2, 3]
    assert caught.value.__notes__ == [f"then also failed: LookupError: {name}" for name in ("b1", "a2", "b3")]
    assert runner.state == "finished"


@pytest.mark.parametrize(
    ("bodies", "error", "match"),
    [
        ({"a": nothing}, ValueError, "missing: 'b', 'c'"),
        ({"a": nothing, "b": nothing, "c": nothing, "d": nothing}, ValueError, "has no step 'd'"),
        ({"a": nothing, "b": None, "c": nothing}, TypeError, "body of 'b' must be callable"),
    ],
)
def test_bodies_are_checked_before_anything_starts(
    bodies: dict[str, Callable[[Turn], object]], error: type[Exception], match: str
) -> None:
    """A wrong set of bodies is refused, and the sequence has not begun."""
    runner = OrderedRunner("a", "b", "c")
    with pytest.raises(error, match=match):
        runner.run(bodies)
    assert (runner.state, runner.current) == ("open", "a")


def test_what_is_no_executor_is_refused_before_anything_starts() -> None:
    """An object without ``submit`` is not an executor, and the sequence has not begun."""
    runner = OrderedRunner("a")
    with pytest.raises(TypeError, match="executor must be"):
        runner.run({"a": nothing}, executor=3)  # type: ignore[arg-type]
    assert (runner.state, runner.current) == ("open", "a")


def test_a_body_that_outlives_the_timeout_is_named() -> None:
    """The run returns in time, aborts, and says which thread still runs."""
    runner = OrderedRunner("a", "slow", name="order")
    go, ended = Event(), Event()

    def slow(turn: Turn) -> None:
        go.wait(patience())
        ended.set()

    with pytest.raises(StepTimeoutError, match="it is the turn of 'slow', held by Thread 'order:slow'") as caught:
        runner.run({"a": nothing, "slow": slow}, timeout=0.05)
    assert not ended.is_set()
    error = caught.value
    assert (error.step, error.current, error.timeout) == (None, "slow", 0.05)
    report, note = error.__notes__
    assert "OrderedRunner 'order'" in report
    assert note == "the run was aborted, but Thread 'order:slow' can't be killed: it ends with its body"
    with pytest.raises(BrokenSequenceError) as broken:
        runner.step("a").__enter__()
    assert broken.value.__cause__ is error
    go.set()
    assert ended.wait(patience())


def test_a_body_that_outlives_the_timeout_in_an_executor() -> None:
    """It is aborted there too, whatever `_on_error` says, and no further body is submitted."""
    go = Event()
    runner = Lenient("a", "b", timeout=0.05)
    ran: list[Turn] = []
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(StepTimeoutError, match="with 'a' in <concurrent"):
            runner.run({"a": lambda turn: go.wait(patience()), "b": ran.append}, executor=pool)
        assert runner.state == "broken"
        go.set()
    assert ran == []


def test_a_body_that_raises_timeout_error_is_not_taken_for_a_timeout(executor: Executor | None) -> None:
    """The error is its own."""

    def fail(turn: Turn) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        OrderedRunner("a").run({"a": fail}, timeout=patience(), executor=executor)
    assert type(caught.value) is TimeoutError


def test_the_runs_timeout_replaces_the_steps() -> None:
    """While a run has time its threads may wait for their turns longer than the constructor's timeout."""
    runner = OrderedRunner("a", "b", timeout=0.001)
    go = Event()
    with Threads() as threads:
        running = threads.start(runner.run, {"a": lambda turn: go.wait(patience()), "b": lambda turn: 2}, timeout=60)
        assert_blocks(lambda: go.wait(patience()), look=0.02)
        go.set()
        assert running.result() == [True, 2]


def test_abort_and_reset_end_a_run() -> None:
    """They may come from outside: the run reports that it was broken, and waits for its body in progress."""
    for end in ("abort", "reset"):
        runner = OrderedRunner("a", "b", rounds=None)
        entered, go, ended = Event(), Event(), Event()

        def body(turn: Turn, entered: Event = entered, go: Event = go, ended: Event = ended) -> None:
            entered.set()
            go.wait(patience())
            ended.set()

        with Threads() as threads:
            running = threads.start(runner.run, {"a": body, "b": nothing})
            assert entered.wait(patience())
            getattr(runner, end)()
            go.set()
            assert isinstance(running.exception(), BrokenSequenceError)
            assert ended.is_set()


def test_stop_ends_a_run_cleanly(executor: Executor | None) -> None:
    """The results so far are returned."""
    runner = OrderedRunner("a", "b", rounds=None)

    def body(turn: Turn) -> int:
        if turn.index == 4:
            runner.stop()
        return turn.index

    assert runner.run({"a": body, "b": body}, executor=executor) == [0, 1, 2, 3, 4]
    assert runner.state == "finished"


def test_a_run_goes_on_from_where_the_sequence_is(executor: Executor | None) -> None:
    """Turns that were taken before don't run again; a sequence that is over is refused."""
    runner = OrderedRunner("a", "b", rounds=2)
    with runner.step("a"):
        pass
    bodies = {"a": lambda turn: turn.index, "b": lambda turn: turn.index}
    assert runner.run(bodies, executor=executor) == [1, 2, 3]
    with pytest.raises(SequenceFinishedError):
        runner.run(bodies, executor=executor)
    runner.reset()
    assert runner.run(bodies, executor=executor) == [0, 1, 2, 3]
    runner.reset()
    runner.abort()
    with pytest.raises(BrokenSequenceError):
        runner.run(bodies, executor=executor)


def test_an_executor_run_does_not_wait_for_a_turn_that_another_thread_has() -> None:
    """If another thread takes part, the run might wait forever, so it raises."""
    runner = OrderedRunner("a", "b")
    with runner.step("a"), Threads() as threads:
        running = threads.start(runner.run, {"a": nothing, "b": nothing}, executor=Immediate())
        assert isinstance(running.exception(), StepTimeoutError)
    assert runner.state == "broken"


def test_a_body_may_not_take_a_step_of_its_own_runner() -> None:
    """It would wait for itself."""
    runner = OrderedRunner("a", "b")
    bodies: Bodies = {"a": lambda turn: runner.step("b").__enter__(), "b": nothing}
    with pytest.raises(DeadlockError):
        runner.run(bodies)


def test_ctrl_c_aborts_a_run() -> None:
    """An interrupt in the waiting thread breaks the sequence and is raised; the waiting threads end."""
    runner = OrderedRunner("a", "b", name="order")
    go, main = Event(), get_ident()

    def interrupt(turn: Turn) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        go.wait(patience())

    with pytest.raises(KeyboardInterrupt) as caught:
        runner.run({"a": interrupt, "b": nothing})
    assert runner.state == "broken"
    assert [thread.name for thread in threading.enumerate() if thread.name == "order:b"] == []
    assert caught.value.__notes__ == [
        "the run was aborted, but Thread 'order:a' can't be killed: it ends with its body"
    ]
    go.set()


def test_ctrl_c_aborts_a_run_in_an_executor() -> None:
    """The interrupt is raised at once there too, and nothing further is submitted."""
    runner = OrderedRunner("a", "b")
    go, main = Event(), get_ident()
    ran: list[Turn] = []

    def interrupt(turn: Turn) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        go.wait(patience())

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            runner.run({"a": interrupt, "b": ran.append}, executor=pool)
        go.set()
    assert (runner.state, ran) == ("broken", [])


def test_a_body_that_outlives_an_aborted_run_is_named() -> None:
    """A run that was ended from outside waits for the body in progress, but no longer than its timeout."""
    runner = OrderedRunner("a", name="order")
    go = Event()

    def body(turn: Turn) -> None:
        runner.abort()
        go.wait(patience())

    with pytest.raises(StepTimeoutError, match="turn of 'a', held by Thread 'order:a'"):
        runner.run({"a": body}, timeout=0.05)
    go.set()


@pytest.mark.untraceable
def test_a_thread_that_ends_before_its_turn_breaks_the_order() -> None:
    """An interrupt between two turns ends the thread of a step: the run fails with it, and ends."""

    class StruckError(BaseException):
        pass

    runner = OrderedRunner("load", "store", rounds=2)
    go_on = Event()
    seen: list[Turn] = []

    def load(turn: Turn) -> None:
        assert go_on.wait(patience(10.0))

    bodies: Bodies = {"load": load, "store": seen.append}
    run = assert_blocks(lambda: runner.run(bodies), until=lambda: runner.waiting == 2)
    (ident,) = (thread.ident for thread in threading.enumerate() if thread.name == f"{runner.name}:store")
    assert ident is not None
    assert pythonapi.PyThreadState_SetAsyncExc(c_ulong(ident), py_object(StruckError)) == 1
    go_on.set()
    run.thread.join(patience(10.0))
    assert isinstance(run.exception(), StruckError)
    assert seen == []
    assert runner.state == "broken"


def test_a_thread_that_cannot_start_aborts_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that did start end."""
    start = threading.Thread.start

    def fail_for_b(self: threading.Thread) -> None:
        if self.name.endswith(":b"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", fail_for_b)
    runner = OrderedRunner("a", "b", rounds=2)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        runner.run({"a": nothing, "b": nothing})
    assert runner.state == "broken"
