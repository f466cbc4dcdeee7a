"""Random programs of three threads at one runner, against a model of the outcome of each step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from queue import Empty
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from locks.actors import LIMIT, Worker, eventually
from syncprims import BrokenSequenceError, OrderedRunner, SequenceFinishedError, StepTimeoutError, Turn

WORKERS: Final = 3
ORDER: Final = ("a", "b", "a", "c")
ROUNDS: Final = 2

workers = st.integers(0, WORKERS - 1)
steps = st.sampled_from(["next", "next", "a", "b", "c"])


class OwnError(Exception):
    """The failure of a step."""


class Programs(RuleBasedStateMachine):
    """The model: the current turn, its thread, and the step that each thread waits for."""

    def __init__(self) -> None:
        """Begin with a runner to which no thread has come, and idle workers."""
        super().__init__()
        self.runner = OrderedRunner(*ORDER, rounds=ROUNDS)
        self.workers = [Worker(f"worker {number}") for number in range(WORKERS)]
        self.contexts: dict[int, AbstractContextManager[Turn]] = {}
        self.awaited: dict[int, str] = {}
        self.begin()

    def begin(self) -> None:
        """The state of a fresh sequence."""
        self.status = "open"
        self.turn = 0
        self.inside: int | None = None
        self.stopping = False

    def is_next(self, step: str) -> bool:
        """Whether that step can be entered now."""
        return self.inside is None and not self.stopping and ORDER[self.turn % len(ORDER)] == step

    def is_busy(self, worker: int) -> bool:
        """Whether the worker waits, or is in a step, of this sequence or of one before a reset."""
        return worker in self.awaited or worker in self.contexts

    def error(self) -> type[Exception] | None:
        """The error of a thread that comes when the sequence is over."""
        return {"open": None, "broken": BrokenSequenceError, "finished": SequenceFinishedError}[self.status]

    @rule(worker=workers, step=steps, waits=st.booleans())
    def enter(self, worker: int, step: str, waits: bool) -> None:
        """A turn, a timeout, the end reported at once, or a thread that blocks."""
        if self.is_busy(worker):
            return
        if step == "next":
            step = ORDER[self.turn % len(ORDER)]
        context = self.runner.step(step, timeout=LIMIT if waits else 0)
        mine = self.workers[worker]
        if (over := self.error()) is not None:
            assert isinstance(mine.do(context.__enter__), over)
        elif self.is_next(step):
            self.takes(worker, context, mine.do(context.__enter__))
        elif not waits:
            assert isinstance(mine.do(context.__enter__), StepTimeoutError)
        else:
            self.awaited[worker] = step
            self.contexts[worker] = context
            mine.begin(context.__enter__)
            eventually(lambda: self.runner.waiting == len(self.awaited))

    def takes(self, worker: int, context: AbstractContextManager[Turn], outcome: object) -> None:
        """The worker takes the next turn."""
        assert outcome == Turn(ORDER[self.turn % len(ORDER)], self.turn, self.turn // len(ORDER))
        self.inside = worker
        self.contexts[worker] = context

    @rule(first=st.booleans(), fails=st.sampled_from([False, False, False, True]))
    def leave(self, first: bool, fails: bool) -> None:
        """The first or the last of the threads that are in a step leaves it."""
        inside = [worker for worker in self.contexts if worker not in self.awaited]
        if inside:
            self.leaves(inside[0 if first else -1], fails)

    def leaves(self, worker: int, fails: bool) -> None:
        """The end of a step releases the next, finishes or breaks; in a sequence that is over it does nothing."""
        context = self.contexts.pop(worker)
        failure = (OwnError, OwnError(), None) if fails else (None, None, None)
        assert not self.workers[worker].do(lambda: context.__exit__(*failure))
        if self.inside != worker:
            return
        self.inside = None
        if self.status != "open":
            return
        if fails:
            self.end("broken", BrokenSequenceError)
            return
        self.turn += 1
        if self.stopping or self.turn == ROUNDS * len(ORDER):
            self.end("finished", SequenceFinishedError)
        else:
            self.hand_over()

    def hand_over(self) -> None:
        """Wait until one of the threads that wait for the next step has it."""
        waiting = [worker for worker, step in self.awaited.items() if self.is_next(step)]
        got: list[tuple[int, object]] = []

        def look() -> bool:
            for worker in waiting:
                try:
                    got.append((worker, self.workers[worker].outcome(timeout=0)))
                except Empty:
                    continue
            return bool(got)

        if waiting:
            eventually(look)
            ((worker, outcome),) = got
            del self.awaited[worker]
            self.takes(worker, self.contexts[worker], outcome)

    def end(self, status: str, error: type[Exception]) -> None:
        """Every waiting thread gets the error of the end."""
        self.status = status
        self.tell(error)

    def tell(self, error: type[Exception]) -> None:
        """Every waiting thread gets that error."""
        for worker in list(self.awaited):
            assert isinstance(self.workers[worker].outcome(), error)
            del self.awaited[worker], self.contexts[worker]

    @rule(worker=workers, way=st.sampled_from(["stop", "abort", "reset"]))
    def end_it(self, worker: int, way: str) -> None:
        """Some thread ends the sequence or resets it, unless that thread waits."""
        if worker not in self.awaited:
            getattr(self, way)(worker)

    def stop(self, worker: int) -> None:
        """It is over after the turn in progress, or at once."""
        assert self.workers[worker].do(self.runner.stop) is None
        if self.status == "open" and self.inside is not None:
            self.stopping = True
        elif self.status == "open":
            self.end("finished", SequenceFinishedError)

    def abort(self, worker: int) -> None:
        """It is broken, unless it was over."""
        assert self.workers[worker].do(self.runner.abort) is None
        if self.status == "open":
            self.end("broken", BrokenSequenceError)

    def reset(self, worker: int) -> None:
        """Waiting threads get the error, and the sequence begins again, even if a thread is still in a step."""
        assert self.workers[worker].do(self.runner.reset) is None
        self.tell(BrokenSequenceError)
        self.begin()

    @invariant()
    def the_runner_is_as_the_model_says(self) -> None:
        """The state and the number of waiting threads are right."""
        assert self.runner.state == self.status
        assert self.runner.waiting == len(self.awaited)

    def teardown(self) -> None:
        """Abort; then every waiting thread must get the error."""
        idle = [worker for worker in range(WORKERS) if worker not in self.awaited]
        self.abort(idle[0]) if idle else self.runner.abort()
        if not idle:
            self.end("broken", BrokenSequenceError)
        for worker in list(self.contexts):
            self.leaves(worker, fails=False)
        for stopping in self.workers:
            stopping.stop()


TestRunner = Programs.TestCase
TestRunner.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, database=None)
