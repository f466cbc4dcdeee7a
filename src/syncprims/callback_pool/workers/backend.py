"""`Backend`: the place where a pool's tasks run, with the methods that the pool uses; running a task in a thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from threading import get_ident
from typing import Any, NamedTuple
from weakref import ref

from ..._core.deadline import Deadline
from ..job import Job, Open
from ..timeouts import Timer
from ..travel.envelope import Dumps


class BackendOptions(NamedTuple):
    """The options that a pool gives to each kind of backend.

    Attributes:
        open_tasks: Those of the pool; they have the pool's name, and workers enter them while they work.
        timer: Lets tasks expire.
        max_workers: How many; 0 if the user passed in an executor, which knows it itself.
        initializer: Called in each worker at its start, with ``initargs``.
        initargs: See ``initializer``.
        dumps: The pickler, if calls and results are pickled.
        flush: Whether workers flush their output after each task, if calls are pickled.
        grace: How many seconds workers have to end, once their tasks are done; None means no limit.
        mp_context: How processes start: None, a start method, or a context of multiprocessing.
        max_tasks_per_child: How many tasks a process runs before it is replaced; None means no limit.
    """

    open_tasks: Open
    timer: Timer
    max_workers: int
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    dumps: Dumps
    flush: bool
    grace: float | None
    mp_context: Any = None
    max_tasks_per_child: int | None = None


def not_up(pool_name: str, waited: float) -> str:
    """Return the message of an error for tasks whose workers have not finished their start."""
    return (
        f"the program ends, and no worker of {pool_name!r} has come through its start in {waited:.0f} s: its "
        "initializer has not returned. Close the pool before the program ends, or make it with a longer grace"
    )


class Backend(ABC):
    """Runs jobs, and counts those that expired and still occupy a worker.

    **Thread safety**: all methods may be called from any thread.

    Attributes:
        packs: Whether calls are sent as bytes.
        fate: What happens to the worker of a task that expired, for its error.
        max_workers: How many workers there are at most; None if only the owner of the executor knows.
        rest: How many seconds the dispatcher may let results gather while many tasks are open.
    """

    packs: bool
    fate: str
    max_workers: int | None
    rest: float = 0.0

    def __init__(self, options: BackendOptions) -> None:
        self._name = options.open_tasks.name
        self._open_tasks = options.open_tasks
        self._timer = options.timer
        self.max_workers = options.max_workers or None
        self._stuck: set[Job[Any]] = set()
        # Written by each thread for itself: the last task with a limit that it ran.
        self._limited: dict[int, ref[Job[Any]]] = {}

    @abstractmethod
    def start(self, job: Job[Any]) -> None:
        """Accept the job; an exception means that it was not accepted."""

    def abandon(self, job: Job[Any]) -> None:
        """Count the worker of a task that is about to expire as lost."""
        self._stuck.add(job)

    def take_back(self, job: Job[Any]) -> None:
        """Undo `abandon`: the task was done before it could expire."""
        self._stuck.discard(job)

    def takers(self) -> Collection[int | None]:
        """The threads of which any may take a queued task; None is one that is not known or may still be started."""
        return (None,)

    def at_work(self) -> Collection[int]:
        """The threads that run tasks without a limit."""
        return ()

    def watch(self, job: Job[Any]) -> None:
        """Note that this thread's job will end in time, and let it expire if it has its own timeout."""
        self._limited[get_ident()] = ref(job)
        if job.timeout is not None:
            self._timer.watch(job, self)

    def _has_limit(self, ident: int) -> bool:
        """Whether the thread runs a task that will expire."""
        limited = self._limited.get(ident)
        job = None if limited is None else limited()
        return job is not None and not job.done()

    def abandoned(self) -> int:
        """Return how many expired tasks still occupy a worker."""
        return len(self._stuck)

    @abstractmethod
    def stop(self) -> None:
        """Let the workers end once their tasks are done; it does not block."""

    @abstractmethod
    def finish(self, deadline: Deadline) -> list[str]:
        """After `stop`: kill stuck workers if that is possible, and wait for the others, but not past the deadline.

        Returns:
            A description of the workers that have not ended.
        """

    def kill(self) -> None:
        """Cancel the tasks in the pool's own processes, and kill these; tasks elsewhere go on."""
        self.stop()

    def starting(self) -> list[str]:
        """Name the workers that have not finished their start, if none has."""
        return []

    def give_up_start(self, patience: float) -> float | None:  # noqa: ARG002  it is for executors of the pool's own
        """Fail the tasks that wait for workers if no worker has finished its start within that many seconds.

        Returns:
            After how many seconds to ask again; None means never.
        """
        return None

    def after_fork(self) -> None:  # noqa: B027  nothing to do for threads
        """In a forked child: drop the parent's resources."""

    def run(self, job: Job[Any], now: float | None = None) -> bool:
        """Run the job in this thread and set its outcome; return False if the job expired before that.

        Args:
            job: The job.
            now: The time, if the caller has just looked.
        """
        try:
            if not job.begin(now=now):
                return True
            if job.limited:
                self.watch(job)
            fn, args, kwargs = job.call
            if job.carrier is None:
                result = fn(*args, **kwargs)
            else:
                assert not isinstance(job.carrier, bytes)
                result = job.carrier.run(fn, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001  a task may raise anything, SystemExit too, and only it must fail
            return job.fail(error)
        else:
            return job.finish(result)
        finally:
            self = fn = args = kwargs = job = None  # type: ignore[assignment]  # its traceback holds this frame: avoid a cycle
