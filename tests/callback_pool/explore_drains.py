"""Explore interleavings of submitters and drains, run as a program: ``explore_drains.py SCENARIO PREEMPTIONS SECONDS``.

The queue is one that frontrun sees into. Stand-ins for the rest are an executor that keeps its calls until a thread
comes for them, and tasks that only note that they ran. The clock advances by a fixed step each time that it is read: on
a busy machine, a real one would sometimes say that a task was long, and then each task gets its own drain, which hides
the effect of a mutation. Everything else is the library's own code.
"""

from __future__ import annotations

import pickle
import sys
from collections import deque
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, ClassVar

from exploring import main
from syncprims.callback_pool.workers import drains
from syncprims.callback_pool.workers.backend import BackendOptions
from syncprims.callback_pool.workers.drains import Drained


class SeenQueue(deque[Any]):
    """A queue whose reads and changes frontrun sees, because it does not look into one."""

    def __init__(self) -> None:
        """Make it empty."""
        super().__init__()
        self.seen = 0

    def append(self, job: Any) -> None:
        """Add one."""
        self.seen += 1
        super().append(job)

    def popleft(self) -> Any:
        """Remove the first item."""
        self.seen += 1
        return super().popleft()

    def __bool__(self) -> bool:
        return self.seen >= 0 and len(self) > 0


class Call:
    """The future that the executor returns."""

    def add_done_callback(self, fn: object) -> None:
        """Do nothing: no call fails here."""


class Executor:
    """Keeps the calls that it is given."""

    _max_workers = 1
    _shutdown = False

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def submit(self, fn: Callable[..., object], *args: object) -> Call:
        """Keep a call."""
        self.calls.append(lambda: fn(*args))
        return Call()


class Job:
    """A task."""

    def fail(self, error: BaseException) -> None:
        """Let the exploration fail."""
        raise error


outcomes: dict[str, int] = {}


class Scene:
    """Submitters and threads of an executor, with one queued task and all drains due at first."""

    kind: ClassVar[type[Drained]] = Drained
    tasks: ClassVar[int] = 3
    step: ClassVar[int] = 0  # seconds between two readings of the clock
    workers: ClassVar[tuple[Callable[[Any], object], ...]]

    def __init__(self) -> None:
        """Make the state of one execution."""
        readings = count(0, self.step)
        vars(drains)["monotonic"] = lambda: float(next(readings))
        executor: Any = Executor()
        self.executor = executor
        options: Any = BackendOptions(
            SimpleNamespace(name="explored"),  # type: ignore[arg-type]  # only its name is used
            SimpleNamespace(),  # type: ignore[arg-type]  # no task has a time limit
            0,
            None,
            (),
            pickle.dumps,
            False,
            None,
        )
        self.backend = self.kind(executor, options)
        self.ran: list[object] = []
        self.backend.run = self.note  # type: ignore[method-assign]  # the tasks are stand-ins
        self.backend._jobs = SeenQueue()
        self.backend._one_each = False
        self.jobs: list[Any] = [Job() for _ in range(self.tasks)]
        for _ in range(self.backend._sent.maxlen or 0):
            self.backend._send()
        self.backend._jobs.append(self.jobs[0])

    def note(self, job: object, now: float | None = None) -> bool:
        """Run a task."""
        self.ran.append(job)
        return True

    def work(self) -> None:
        """Run the next call, like a thread of the executor."""
        if self.executor.calls:
            self.executor.calls.pop(0)()

    def holds(self) -> bool:
        """Each task runs once, if the executor reaches the end of its calls."""
        left = len(self.backend._jobs)
        outcomes[f"{left} left"] = outcomes.get(f"{left} left", 0) + 1
        while self.executor.calls:
            self.work()
        return len(self.ran) == self.tasks and {*self.ran} == {*self.jobs}


def first(scene: Scene) -> None:
    """Submit a task."""
    scene.backend.start(scene.jobs[1])


def second(scene: Scene) -> None:
    """Submit another one."""
    scene.backend.start(scene.jobs[2])


def both(scene: Scene) -> None:
    """Submit both."""
    first(scene)
    second(scene)


def drain(scene: Scene) -> None:
    """Run all calls that are due at first."""
    for _ in range(2):
        scene.work()


class OneSubmitter(Scene):
    """A thread submits while drains run."""

    tasks = 2
    workers = (first, drain)


class LongTasks(OneSubmitter):
    """The same with tasks that each take the whole turn of a drain."""

    step = 1


class TwoSubmitters(Scene):
    """Two threads submit while drains run."""

    workers = (first, second, drain)


class TwoDrains(Scene):
    """One thread submits two tasks while two threads of the executor drain."""

    workers = (both, Scene.work, Scene.work)


class LooksFirst(Drained):
    """A broken one: it checks whether drains are due before it queues the task."""

    def start(self, job: Any) -> None:
        """Queue it too late."""
        if not self._sent[0].due:
            self._send()
        self._jobs.append(job)


class LooksBeforeItQueues(OneSubmitter):
    """With it a task may be left."""

    kind = LooksFirst


class StaysDue(Drained):
    """A broken one: a drain does not mark itself as not due."""

    def _drain(self, drain: drains._Drain) -> None:
        super()._drain(drains._Drain(due=False))


class SaysNothing(OneSubmitter):
    """A task may be left with that one too."""

    kind = StaysDue


if __name__ == "__main__":
    main(
        {
            each.__name__: each
            for each in (OneSubmitter, LongTasks, TwoSubmitters, TwoDrains, LooksBeforeItQueues, SaysNothing)
        },
        outcomes,
        *sys.argv[1:],
    )
