"""`TaskGroup`: tasks of a pool that all end before a block does, and fail together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, ParamSpec, Self, TypeVar
from weakref import ref

from .._core.clock import monotonic
from .._core.deadline import Deadline
from .._core.foreign import guarded, note, words
from .._core.gates import open_all, pass_through, put_up
from .._core.interrupts import Leave, LeaveInC, leave_by
from .._core.report import attach_report
from .._core.waits import wait_visibly
from ..errors import DeadlockError, PoolClosedError, PoolTimeoutError, TaskTimeoutError, TransportError
from .intake import Intake
from .job import Job, Open
from .mapping import MapOfChunks
from .own_threads import role_in
from .task import Task, count_as_seen, outcome_of
from .timeouts import Timer, Workplace
from .unseen_errors import as_exception, say
from .up_to import GroupDone

if TYPE_CHECKING:
    from _thread import LockType

# The semantics are those of asyncio.TaskGroup as far as possible: the first failure cancels the rest. A cancelled task
# is not a failure, and neither is a `CancelledError` that a task raises, for example because it checks `cancelled`. The
# differences come from threads, which can't be cancelled: tasks can check `cancelled`, and a group with a timeout
# leaves the tasks behind that don't end.
#
# A done-callback notifies the group of the end of a task. So this happens on the thread that ends the task, and not on
# the dispatcher, which a callback may block. Leaving waits for the tasks one by one, until each has settled.
#
# As in `open_tasks`, there is no mutex. A submitting thread first stores its job and *then* checks whether the group
# has failed or been left. A thread that fails or leaves the group first marks that and *then* looks at the jobs. So at
# least one sees the other.
#
# The done-callback stays in the task, and the task may be kept alive. So it refers to the group weakly.

P = ParamSpec("P")
T = TypeVar("T")

_MOMENT = 2.0  # seconds that tasks and callbacks have to end after an interrupt leaves the block
_MANY = 1024  # jobs; with more of them, settled ones are searched and dropped


class Cancellation:
    """Tells the tasks of a group when they should stop: `TaskGroup.cancelled`.

    Pass it to tasks that run for a long time in threads, because nothing else can end them early. It can't be pickled,
    so a task in another process or interpreter can't use it.

    **Fairness**: all waiting threads are released at once.

    **Thread safety**: every method may be called from any thread.

    **Differences from threading.Event**: only the group sets it, and nothing resets it.

    **Subclassing**: the group makes it, and there is no hook to make it use a subclass.
    """

    def __init__(self, open_tasks: Open) -> None:
        self._open_tasks = open_tasks
        self._set = False
        self._gates: deque[LockType] = deque()

    def is_set(self) -> bool:
        """True once the group has failed."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the group has failed, or the time is up; return `is_set`. Use it to sleep in a task.

        Args:
            timeout: Seconds; None waits forever.

        Raises:
            ValueError: ``timeout`` is negative or NaN.
        """
        deadline = Deadline(timeout)
        gate = put_up(self._gates)
        if not self._set:
            sought = "the cancellation of a group"
            wait_visibly(self._open_tasks, sought, deadline.timeout, pass_through, gate, deadline)
        return self._set

    def raise_if_set(self) -> None:
        """Raise if the group has failed; otherwise do nothing.

        Raises:
            concurrent.futures.CancelledError: The group has failed. If a task lets it propagate, the group does not
                count it as another failure.
        """
        if self._set:
            raise CancelledError(f"a group of {words(self._open_tasks.name)} has failed, and its tasks are to stop")

    def _tell(self) -> None:
        self._set = True
        open_all(self._gates)  # a thread that adds a gate now checks `_set` once more

    def __reduce__(self) -> NoReturn:
        raise TransportError(
            "the `cancelled` of a group can't be pickled: a task in another process or interpreter can't ask it"
        )

    def __repr__(self) -> str:
        return (
            f"<syncprims.Cancellation of a group of {words(self._open_tasks.name)}, {'' if self._set else 'not '}set>"
        )


class _Failure(NamedTuple):
    job: Job[Any] | None
    error: BaseException


class TaskGroup:
    """Tasks of a pool that all end before a ``with`` block does, made by `CallbackPool.group`.

    The end of the block waits for all tasks of the group and their callbacks, including those that tasks and callbacks
    submit while it waits. When a task fails, the group fails: queued tasks are cancelled, tasks in the pool's own
    processes are killed, `cancelled` is set for the tasks that run in threads, and the end of the block raises all
    errors as one `ExceptionGroup`.

    Example:
        >>> from syncprims import CallbackPool
        >>> with CallbackPool(max_workers=2) as pool:
        ...     with pool.group() as group:
        ...         tasks = [group.submit(pow, 2, n) for n in range(3)]
        ...     [task.result() for task in tasks]
        [1, 2, 4]

        >>> with CallbackPool(max_workers=2) as pool:
        ...     try:
        ...         with pool.group() as group:
        ...             waits = group.submit(group.cancelled.wait)
        ...             fails = group.submit(int, "seven")
        ...     except* ValueError as failed:
        ...         print(*failed.exceptions)
        ...     waits.result()
        invalid literal for int() with base 10: 'seven'
        True

    **Fairness**: like the pool.

    **Thread safety**: every method may be called from any thread, from tasks and from callbacks. The ``with`` block
    belongs to one thread, which must not be the one that runs the pool's callbacks.

    **Differences from asyncio.TaskGroup**: a thread can't be stopped. So `cancelled` asks a task in a thread to stop,
    and the end of the block waits until it has ended. A group with a ``timeout`` waits for such a task for the pool's
    ``grace`` and then leaves it behind, like a task with its own ``timeout``. If the block raises an exception that is
    not an `Exception`, such as a KeyboardInterrupt, that exception propagates, with the others as notes. Running tasks
    then have two seconds to end, and otherwise go on in the pool. If a task raises ``SystemExit``, the group raises a
    `CallbackExit` with that cause. The error of submitting to a failed group does not count as another failure.

    **Subclassing**: the pool makes it, and there is no hook to make it use a subclass.

    Attributes:
        cancelled: Shows tasks whether they should stop.
    """

    def __init__(
        self,
        open_tasks: Open,
        timer: Timer,
        place: Workplace,
        intake: Intake,
        pool: object,
        timeout: float | None,
        grace: float | None,
    ) -> None:
        self._deadline = Deadline(timeout)  # its time begins when the block is entered
        self.cancelled: Cancellation = Cancellation(open_tasks)
        self._open_tasks = open_tasks
        self._timer = timer
        self._place = place
        self._intake = intake
        self._pool = pool
        self._grace = grace
        self._phase: Literal["new", "entered", "left"] = "new"
        self._expiry: _Expiry | None = None
        self._expired = False  # written by the timer
        self._on_end = partial(_note_end, ref(self))
        self._jobs: dict[Task[Any], Job[Any]] = {}
        self._purge_at = _MANY
        self._failures: list[_Failure] = []
        self._failed = False
        self._why: BaseException | None = None  # why it has failed; the cause of its refusals

    # -- submitting --------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start ``fn(*args, **kwargs)`` in the group and return its task; otherwise like `CallbackPool.submit`.

        Raises:
            PoolClosedError: The group has failed, is not entered or has been left, or the pool accepts no more tasks.
                It is a `RuntimeError`.
            DeadlockError: See `CallbackPool.submit`, also for `TransportError`, `ForkedError` and `TypeError`.
        """
        self._check_open()
        return self._start(self._intake.make(self._pool, None, fn, args, kwargs))

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> Task[T]:
        """Start ``func(*args, **kwds)`` in the group, with callbacks; otherwise like `CallbackPool.apply_async`.

        A failed task makes the group fail even if it has an ``error_callback``. An exception of a callback does not:
        the pool raises it, as always.

        Raises:
            PoolClosedError: As for `submit`.
            ValueError: See `CallbackPool.apply_async`, also for the other errors.
        """
        self._check_open()
        return self._start(self._intake.prepare(self._pool, func, args, kwds, callback, error_callback, timeout))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call ``fn`` with each item, in tasks of the group; otherwise like `CallbackPool.map`.

        An error makes the group fail even if you never read its result. With ``buffersize`` (or the pool's
        ``max_pending``), ``fn`` may not be called for items whose results you don't read inside the block.

        Raises:
            PoolClosedError: As for `submit`, even while iterating.
            PoolTimeoutError: See `CallbackPool.map`, also for the other errors.
        """
        self._check_open()
        mapping: MapOfChunks[T] = MapOfChunks(self._open_tasks, self._submit_chunk, fn, iterables, timeout, chunksize)
        return mapping.start(buffersize, in_order=True)

    def _submit_chunk(self, label: str, fn: Callable[..., T], args: tuple[Any, ...], shown: tuple[Any, ...]) -> Task[T]:
        return self._start(self._intake.part(self._pool, label, fn, args, shown))

    def _start(self, job: Job[T]) -> Task[T]:
        job.errors = "pool"  # unless this method raises it
        job.limited = job.limited or self._will_end()
        task = job.task
        task.add_done_callback(self._on_end)
        if len(self._jobs) >= self._purge_at:
            self._purge()
        self._jobs[task] = job
        try:
            self._check_open()  # after the store: see the top of this module
            return self._intake.start(job)
        except BaseException:
            self._jobs.pop(task, None)
            job.cancel()
            job.course.settle()  # a thread that leaves the group may already wait for it
            raise

    def _purge(self) -> None:
        for task, job in list(self._jobs.items()):
            if job.course.settled:
                self._jobs.pop(task, None)
        self._purge_at = max(_MANY, 2 * len(self._jobs))

    def _will_end(self) -> bool:
        """Whether the group certainly ends in time, whatever its tasks do."""
        return self._deadline.timeout is not None and self._grace is not None

    def _check_open(self) -> None:
        if self._phase == "entered" and not self._failed:
            return
        if self._phase == "new":
            what = "was not entered yet: write `with pool.group() as group:`"
        elif self._phase == "left":
            what = "was left and takes no more tasks: make a new one"
        else:
            what = "has failed and takes no more tasks: let the block end, which raises why"
        raise PoolClosedError(f"a group of {words(self._open_tasks.name)} {what}") from self._why

    # -- failing -----------------------------------------------------------------------------------------------------

    def _fail(self, why: BaseException | None = None) -> None:
        """Stop the tasks. It may be called again, to complete the work after an interrupt."""
        if self._why is None:
            self._why = why
        self._failed = True
        try:
            for job in list(self._jobs.values()):
                guarded(False, job.task.kill)  # it calls functions that users gave to add_done_callback()
        finally:
            self.cancelled._tell()  # last: a task that ends because of it makes room for a queued one

    def _heard(self, task: Task[Any]) -> None:
        """Record how a task has ended."""
        outcome, error = outcome_of(task)
        if outcome == "failed":
            if self._follows(error):
                count_as_seen(task)
                return
            self._failures.append(_Failure(self._jobs.get(task), error))
            self._fail(error)

    def _follows(self, error: BaseException) -> bool:
        """Whether an error is not a failure itself: a cancellation, or a refusal after the group has failed."""
        if issubclass(type(error), CancelledError):
            return True
        if type(error) is not PoolClosedError or (cause := error.__cause__) is None:
            return False
        return cause is self._why or any(cause is each.error for each in list(self._failures))

    def _expire(self) -> None:
        """Fail because the time is up. When that is done, leave the tasks behind that have not ended by then."""
        if self._expired:
            self._leave_behind()
            return
        self._expired = True
        if self._grace is not None and self._expiry is not None:
            self._timer.watch_until(monotonic() + self._grace, self._expiry)
        late = self._late()
        self._failures.append(_Failure(None, late))
        self._fail(late)

    def _late(self) -> PoolTimeoutError:
        jobs = [job for job in list(self._jobs.values()) if not job.course.settled]
        running = [job.label for job in jobs if job.running()]
        facts = [f"{len(jobs)} of its tasks were pending"]
        if running:
            facts.append(f"running: {', '.join(running[:3])}{', …' if len(running) > 3 else ''}")
        timeout = self._deadline.timeout
        error = PoolTimeoutError(
            f"a group of {words(self._open_tasks.name)} was not left in {timeout} s: {'; '.join(facts)}. "
            "Give it longer, or let its tasks ask group.cancelled",
            pending=len(jobs),
            timeout=timeout,
            waited=self._deadline.waited(),
        )
        attach_report(error)
        return error

    # -- entering and leaving ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Return the group, and start its time.

        Raises:
            DeadlockError: A callback of the pool called it: leaving would wait for later callbacks.
            PoolClosedError: It was entered before; or the pool accepts no more tasks.
            ForkedError: This is a forked child of the process that made the pool.
        """
        self._open_tasks.check_open()
        if role_in(self._open_tasks) == "callback":
            raise DeadlockError(
                f"a group of {words(self._open_tasks.name)} was entered by a callback of the same pool, which runs "
                "callbacks one at a time: leaving would wait for itself. Enter it in a task, or use another pool"
            )
        if self._phase != "new":
            raise PoolClosedError(f"a group of {words(self._open_tasks.name)} can be entered once: make a new one")
        if self._deadline.timeout is not None:
            self._deadline = Deadline(self._deadline.timeout)
            self._timer.prepare()
            self._expiry = _Expiry(self)
            self._timer.watch_until(self._deadline.at or 0.0, self._expiry)
        self._phase = "entered"
        return self

    @LeaveInC
    def __exit__(self) -> Leave:  # noqa: PYI036  a property whose value takes the arguments
        """Wait for all tasks and callbacks; cancel them first if an exception leaves the block.

        Raises:
            ExceptionGroup: The block raised an `Exception`, which is the first in it; or tasks did; or the time was up
                (`PoolTimeoutError`).
            DeadlockError: The group has no timeout, and a task or callback waits for this thread, or no worker is left
                to run it. The group has failed, and tasks that it can't wait for go on in the pool.
            ForkedError: This is a forked child.
        """
        return leave_by(self._leaving())

    def _leaving(self) -> Generator[int, Any, None]:
        try:
            yield 0
            yield 0
            error: BaseException | None = yield 0
            outcome = self._leave(error)
            self._failures, self._why = [], None  # the objects of the failures may refer to the group
        except GeneratorExit:  # the block was never entered
            raise
        except DeadlockError:  # the wait did not happen, and will not
            self._fail()
            self._phase = "left"
            raise
        except BaseException:  # an interrupt, at any point of leaving
            self._leave_at_once()
            raise
        if outcome is not None:
            try:
                raise outcome
            finally:
                del outcome, error
        while True:
            yield 0

    def _leave(self, error: BaseException | None) -> Exception | None:
        """Wait for all tasks, and return the exception to raise instead of the block's."""
        self._open_tasks.check_fork()
        if error is not None:
            self._fail(error)
        if error is None or issubclass(type(error), Exception):
            self._await_all()
        else:
            self._leave_at_once()
        failures = [
            each for each in self._failures if each.error is not error
        ]  # not the one of a task that the block raised itself
        for job, _ in failures:
            if job is not None:
                count_as_seen(job.task)
        if error is None:
            return self._group(failures) if failures else None
        if not issubclass(type(error), Exception):
            for each in failures:
                note(error, f"besides, in the group: {self._say(each)}")
            return None
        if failures and self._follows(error):
            return self._group(failures)
        return None if issubclass(type(error), CancelledError) else self._group([_Failure(None, error), *failures])

    def _group(self, failures: list[_Failure]) -> ExceptionGroup[Exception]:
        count = "an error" if len(failures) == 1 else f"{len(failures)} errors"
        first = "" if len(failures) == 1 else ", the first one"
        pool_name = self._open_tasks.name
        return ExceptionGroup(
            f"{count} in a group of {words(pool_name)}{first}: {self._say(failures[0])}",
            [
                as_exception(error, None if job is None else f"raised by task {job.call_as_text()} of {pool_name!r}")
                for job, error in failures
            ],
        )

    def _say(self, failure: _Failure) -> str:
        return say("its block" if failure.job is None else failure.job.call_as_text(), failure.error)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _await_all(self) -> None:
        limit = None
        if self._will_end():  # the timer ensures this; only a callback may take longer
            limit = (self._deadline.remaining() or 0.0) + (self._grace or 0.0) + _MOMENT
        if not self._wait(Deadline(limit)):
            self._phase = "left"

    def _wait(self, deadline: Deadline) -> bool:
        """Block until all have settled, and leave; False if the time is up."""
        awaited = GroupDone(self._open_tasks, lambda: list(self._jobs), limited=deadline.timeout is not None)
        while True:
            for task, job in list(self._jobs.items()):
                if not job.course.await_settled(awaited, deadline):
                    return False
                self._jobs.pop(task, None)
            if not self._jobs:
                self._phase = "left"
                if not self._jobs:  # no other task was added before that
                    return True
                self._phase = "entered"

    def _leave_behind(self) -> None:
        """Make the tasks fail that have not ended although they were notified."""
        for job in list(self._jobs.values()):
            if job.done():
                continue
            self._place.abandon(job)
            since = job.running_since()
            error = TaskTimeoutError(
                f"task {job.label} of {job.pool_name!r} has not ended {self._grace} s after the time of its group; "
                f"{self._place.fate}",
                pending=1,
                timeout=self._deadline.timeout,
                waited=0.0 if since is None else monotonic() - since,
            )
            if not job.fail(error):
                self._place.take_back(job)

    def _leave_at_once(self) -> None:
        """Stop the tasks, give them a moment, and leave."""
        try:
            self._fail()
            if not self._open_tasks.is_forked():
                self._wait(Deadline(_MOMENT))
        finally:
            self._phase = "left"

    def __repr__(self) -> str:
        state = "failed" if self._failed else self._phase
        return f"<{state} syncprims.TaskGroup of {words(self._open_tasks.name)}, {len(self._jobs)} open>"


class _Expiry:
    """The end of a group's time, for the timer; it refers to the group weakly as well."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = ref(group)

    def done(self) -> bool:
        """Whether the block was left."""
        group = self._group()
        return group is None or group._phase == "left"

    def expire(self) -> None:
        """Make the group fail."""
        group = self._group()
        if group is not None:
            group._expire()


def _note_end(group: ref[TaskGroup], task: Any) -> None:
    alive = group()
    if alive is not None:
        alive._heard(task)
