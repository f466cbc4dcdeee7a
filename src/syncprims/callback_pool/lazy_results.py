"""`LazyResults`: the iterator of `imap`, which reads its items only as results are taken."""

from __future__ import annotations

from _queue import Empty
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, Self, TypeVar

from .._core.deadline import Deadline
from .._core.deadlocks import wait_or_refuse
from .._core.mailbox import Mailbox
from .job import Open
from .mapping import Submit, call_with_each, chunks_of
from .task import Task, count_as_seen
from .up_to import AnyDone

# The requirements: a slow, endless or large source costs no more than the tasks in flight, and an available result does
# not wait for the source. So no item is read before the first result is requested, and before each item this checks
# whether a result has come.

T = TypeVar("T")


class LazyResults(Iterator[T], Generic[T]):
    """The results of `CallbackPool.imap` or `CallbackPool.imap_unordered`: an iterator, with multiprocessing's `next`.

    No item is read from the source until a result is requested. Then at most ``max_workers + 1`` tasks (the pool's
    ``max_pending`` if that is smaller) are in flight: submitted, but their results not taken yet. The exception of a
    task is raised when its turn comes, and the iterator goes on after it. An exception of the source is raised after
    the results of its earlier items. An iterator that is dropped cancels the tasks that have not begun.

    Example:
        >>> from itertools import count
        >>> from syncprims import CallbackPool
        >>> with CallbackPool(max_workers=2) as pool:
        ...     squares = pool.imap(lambda n: n * n, count())  # without end
        ...     [next(squares) for _ in range(4)]
        [0, 1, 4, 9]

    **Fairness**: like the pool.

    **Thread safety**: only one thread at a time may use it, like any iterator.

    **Differences from multiprocessing**: `multiprocessing.pool.Pool` reads the whole source at once, even if you never
    take a result.

    **Subclassing**: the pool makes it, and there is no hook to make it use a subclass.
    """

    def __init__(
        self,
        open_tasks: Open,
        submit: Submit[T],
        fn: Callable[[Any], T],
        label: str,
        source: Iterable[Any],
        chunksize: int,
        most: int,
        *,
        in_order: bool,
    ) -> None:
        self._tasks: list[Task[list[T]]] = []  # in flight
        self._open_tasks = open_tasks
        self._submit = submit
        self._fn = fn
        self._label = label
        self._chunks = chunks_of(source, chunksize)
        self._most = most
        self._done: Mailbox[Task[list[T]]] | None = None if in_order else Mailbox()
        self._results: list[T] = []  # of the chunk that was taken last; the next result is at the end
        self._exhausted = False
        self._source_error: Exception | None = None
        self._one_read = False

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next result; blocks until it is there.

        Raises:
            StopIteration: There are no more results.
            DeadlockError: The result would never come: the task, or every worker, waits for this thread.
            PoolClosedError: The pool accepts no more tasks, and the source has more items. See `CallbackPool.submit`,
                also for `TransportError`.
        """
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result like ``next()``, with a timeout for the task (not for the source).

        Args:
            timeout: Seconds to wait for a task; None waits forever.

        Raises:
            PoolTimeoutError: The time was up; it is also a `multiprocessing.TimeoutError`. Call ``next()`` again to
                continue waiting.
            StopIteration: There are no more results. Other errors are those of ``next()``.
        """
        deadline = Deadline(timeout)
        while not self._results:
            task = self._finished()
            if task is None:
                if self._pulled():
                    continue
                if not self._tasks:
                    self._stop()
                task = self._awaited(deadline)
            self._tasks.remove(task)
            self._results = self._taken(task)
        return self._results.pop()  # only the code that takes the result keeps it alive

    def _stop(self) -> None:
        error, self._source_error = self._source_error, None
        if error is None:
            raise StopIteration
        try:
            raise error
        finally:
            del error

    def _taken(self, task: Task[list[T]]) -> list[T]:
        try:
            results = task.result()
        except BaseException:
            self._one_read = True  # if code has read one error, the others count as seen
            for other in self._tasks:
                count_as_seen(other)
            raise
        results.reverse()
        return results

    def _pulled(self) -> bool:
        """Submit one more task, if one may be submitted and the source has an item."""
        if self._exhausted or len(self._tasks) >= self._most:
            return False
        try:
            chunk = next(self._chunks, None)
        except Exception as error:  # noqa: BLE001  raised when its turn comes
            self._source_error = error
            chunk = None
        if chunk is None:
            self._exhausted = True
            return False
        task = self._submit(self._label, call_with_each, (self._fn, chunk), chunk)
        self._tasks.append(task)
        if self._one_read:
            count_as_seen(task)
        if self._done is not None:
            task.add_done_callback(self._done.put)  # type: ignore[arg-type]  # the future is the task
        return True

    def _finished(self) -> Task[list[T]] | None:
        """Return the task whose turn it is, if it is done."""
        if self._done is None:
            return self._tasks[0] if self._tasks and self._tasks[0].done() else None
        try:
            return self._done.get_nowait()
        except Empty:
            return None

    def _awaited(self, deadline: Deadline) -> Task[list[T]]:
        """Wait for the task whose turn it is."""
        left = deadline.remaining()
        if self._done is None:
            first = self._tasks[0]
            first.wait(left)
            if first.done():
                return first
        else:
            try:
                return wait_or_refuse(
                    AnyDone(self._open_tasks, self._label, lambda: list(self._tasks)),
                    left,
                    partial(self._done.get, left),
                )
            except Empty:
                pass
        from .get_timeout import GetTimeoutError  # here, because it imports multiprocessing

        raise GetTimeoutError(
            f"waited {deadline.waited():.1f} s for the next result of {self._label} in {self._open_tasks.name!r}: "
            f"{len(self._tasks)} tasks are in flight. Call next() again to continue waiting",
            pending=len(self._tasks),
            timeout=deadline.timeout,
            waited=deadline.waited(),
        )

    def __del__(self) -> None:
        for task in self.__dict__.get("_tasks", ()):
            task.cancel()
