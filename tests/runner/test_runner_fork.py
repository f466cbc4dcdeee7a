"""A runner in a forked child, which does not have the threads of its steps."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from threading import Event

import pytest

from syncprims import ForkedError, OrderedRunner, SequenceFinishedError, StepContext
from syncprims.testing import Running, Threads, assert_blocks, patience

pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork"),
    # This is the subject of the test.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_a_runner_in_a_forked_child_refuses_to_work() -> None:
    """The child does not have the threads of its steps, so every method raises, even inside a step."""
    runner = OrderedRunner("a", "b")
    uses: list[Callable[[], object]] = [
        runner.step("a").__enter__,
        runner.wait,
        runner.abort,
        runner.stop,
        runner.reset,
        lambda: runner.serve("a", print),
        lambda: runner.run({"a": print, "b": print}),
        lambda: runner.state,
        lambda: runner.current,
        lambda: runner.waiting,
        lambda: runner.rounds_completed,
    ]
    with runner.step("a"):
        child = os.fork()
        if not child:
            failed = 0
            for use in uses:
                try:
                    use()
                except ForkedError:
                    continue
                except BaseException:
                    pass
                failed += 1
            os._exit(failed if repr(runner) else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert runner.current == "b"


@pytest.mark.parametrize("stage", ["new", "begun", "in a step", "waiting", "stopping", "finished", "broken"])
def test_a_runner_refuses_every_thread_of_a_forked_child(stage: str) -> None:
    """In any state of the runner, no thread there waits for a turn, by a new context or an older one."""
    runner = OrderedRunner("a", "b", rounds=None if stage in ("in a step", "waiting", "stopping") else 1)
    contexts = [runner.step("a"), runner.step("b", timeout=None)]
    inside, go = Event(), Event()
    waiting: list[Running[object]] = []

    def stay() -> None:
        with contexts[0]:
            inside.set()
            go.wait(patience())

    def follow() -> None:
        with pytest.raises(SequenceFinishedError), contexts[1]:
            pass

    def refused(context: StepContext) -> bool:
        with pytest.raises(ForkedError, match="make a new one"), context:
            pass
        return True

    with Threads() as threads:
        if stage in ("in a step", "waiting", "stopping"):
            threads.start(stay)
            assert inside.wait(patience())
            if stage == "waiting":
                waiting.append(assert_blocks(follow, until=lambda: runner.waiting == 1))
            if stage == "stopping":
                runner.stop()
        elif stage == "broken":
            runner.abort()
        elif stage != "new":
            for context in contexts[: 1 if stage == "begun" else 2]:
                with context:
                    pass
        child = os.fork()
        if not child:
            code = 1
            signal.alarm(int(patience(20.0)))  # this ends a child that hangs
            try:
                for context in [*contexts, runner.step("a"), runner.step("b")]:
                    assert refused(context)
                    with Threads() as others:
                        assert others.start(refused, context).result()
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(code)
        try:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            runner.stop()
            go.set()
        for waiter in waiting:
            waiter.result()
