"""The maps of a pool: calls are grouped into chunks, each chunk is one task, and the results are put together."""

from __future__ import annotations

from _queue import Empty
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from .._core.deadline import Deadline
from .._core.deadlocks import wait_or_refuse
from .._core.lazy import check_runs
from .._core.mailbox import Mailbox
from .._core.report import attach_report
from ..errors import PoolTimeoutError
from .arguments import count, label_of
from .job import Job, Open
from .task import Outcome, Task, count_as_seen, outcome_of
from .up_to import AllDone, AnyDone

# A chunk is one task; there is no task for each item. Most maps have one iterable, whose items need no tuples: making
# tuples, pickling them and calling with them costs as much as small calls themselves.

T = TypeVar("T")


def call_with_each(fn: Callable[[Any], T], items: tuple[Any, ...]) -> list[T]:
    """Call the function with each item."""
    return [fn(item) for item in items]


def call_with_all(fn: Callable[..., T], chunk: tuple[tuple[Any, ...], ...]) -> list[T]:
    """Call the function with the arguments of each tuple."""
    return [fn(*args) for args in chunk]


Submit = Callable[[str, Callable[..., list[T]], tuple[Any, ...], tuple[Any, ...]], Task[list[T]]]


class MapOfChunks(Generic[T]):
    """A map in progress: it submits its first chunks at `start`, and one more for each chunk that is taken."""

    def __init__(
        self,
        open_tasks: Open,
        submit: Submit[T],
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
    ) -> None:
        size = count("chunksize", chunksize) or 1
        check_runs(fn, "the function of a map", generators=True)
        open_tasks.check_open()
        self._open_tasks = open_tasks
        self._submit_chunk = submit
        self._deadline = Deadline(timeout)
        self._fn = fn
        self._label = f"map of {label_of(fn)}"
        arguments: Iterator[Any]
        self._call: Callable[..., list[T]]
        if len(iterables) == 1:
            self._call, arguments = call_with_each, iter(iterables[0])
        else:
            self._call, arguments = call_with_all, zip(*iterables)  # noqa: B905  Executor.map ends with the shortest
        self._chunks = chunks_of(arguments, size)
        self._tasks: list[Task[list[T]]] = []
        self._done: Mailbox[Task[list[T]]] | None = None

    def start(self, buffersize: int | None, *, in_order: bool) -> Iterator[T]:
        """Submit the first chunks (this many, or as many as the pool may have pending, or all); return the results."""
        buffersize = count("buffersize", buffersize)
        if not in_order:
            self._done = Mailbox()
        self._submit(self._open_tasks.max_pending if buffersize is None else buffersize)
        return self._results(self._first if in_order else self._first_done)

    def _submit(self, most: int | None) -> None:
        """Submit this many more chunks; None means all."""
        try:
            for chunk in islice(self._chunks, most):
                task = self._submit_chunk(self._label, self._call, (self._fn, chunk), chunk)
                self._tasks.append(task)
                if self._done is not None:
                    task.add_done_callback(self._done.put)  # type: ignore[arg-type]  # the future is the task
        except BaseException:
            self._cancel()
            raise

    def _cancel(self) -> None:
        """Cancel the tasks that have not begun."""
        for task in self._tasks:
            task.cancel()

    def _results(self, next_task: Callable[[], Task[list[T]]]) -> Iterator[T]:
        """Yield the results chunk by chunk; cancel the rest when one raises or the iterator is dropped."""
        try:
            while self._tasks:
                chunk = self._result_of(self._taken(next_task()))
                chunk.reverse()
                while chunk:
                    yield chunk.pop()  # only the code that takes the result keeps it alive
        finally:
            self._cancel()

    def _result_of(self, task: Task[list[T]]) -> list[T]:
        """Return the results of a chunk; if it raises, the errors of the other chunks count as seen."""
        try:
            return task.result()
        except BaseException:
            if task.done():
                for other in self._tasks:
                    count_as_seen(other)
            raise

    def _taken(self, task: Task[list[T]]) -> Task[list[T]]:
        """Submit another chunk in the task's place, and return it."""
        self._tasks.remove(task)
        self._submit(1)
        return task

    def _first(self) -> Task[list[T]]:
        """Wait for the oldest chunk."""
        task = self._tasks[0]
        if not task.done():
            task.wait(self._deadline.remaining())
            if not task.done():
                raise self._late()
        return task

    def _first_done(self) -> Task[list[T]]:
        """Wait for the next chunk that is done."""
        assert self._done is not None
        try:
            return self._done.get_nowait()
        except Empty:
            pass
        left = self._deadline.remaining()
        try:
            return wait_or_refuse(
                AnyDone(self._open_tasks, self._label, lambda: list(self._tasks)),
                left,
                partial(self._done.get, left),
            )
        except Empty:
            raise self._late() from None

    def _late(self) -> PoolTimeoutError:
        pending = sum(not task.done() for task in list(self._tasks))
        error = PoolTimeoutError(
            f"waited {self._deadline.waited():.1f} s for the results of map in {self._open_tasks.name!r}: "
            f"{pending} submitted chunks are not done, and those that had not begun are cancelled now. "
            "Give it a longer timeout or smaller chunks",
            pending=pending,
            timeout=self._deadline.timeout,
            waited=self._deadline.waited(),
        )
        attach_report(error)
        return error


# -- like multiprocessing: all results at once -------------------------------------------------------------------------

_CHUNKS_FOR_EACH_WORKER = 4  # the same number as in multiprocessing


class MapAtOnce(Generic[T]):
    """The parts of a map whose results are one list, and how many of them have ended.

    **Thread safety**: parts may end in several threads at once. If two threads find that all have ended, both set the
    outcome, and only the first counts.

    Args:
        open_tasks: Those of the pool.
        whole: The job that is done when all parts are. It gets their results in order, or the exception of the first
            one to fail, but only when all have ended.
    """

    def __init__(self, open_tasks: Open, whole: Job[list[T]]) -> None:
        self._whole: Job[list[T]] | None = whole  # until it is done: parts may live longer, and refer to this object
        self._parts: list[Task[list[T]]] = []
        self._ended: dict[Task[list[T]], None] = {}
        self._complete = False
        whole.parts = AllDone(open_tasks, lambda: list(self._parts))

    def start(
        self,
        submit: Submit[T],
        take_in: Callable[[Job[list[T]]], object],
        call: Callable[..., list[T]],
        fn: Callable[..., T],
        chunks: Iterable[tuple[Any, ...]],
    ) -> Task[list[T]]:
        """Submit all parts, and return the task of the whole."""
        whole = self._whole
        assert whole is not None
        try:
            for chunk in chunks:
                part = submit(whole.label, call, (fn, chunk), chunk)
                self._parts.append(part)
                part.add_done_callback(self._note_end)
            take_in(whole)
        except BaseException:
            self._cancel()
            raise
        whole.task.add_done_callback(self._cancel_if_cancelled)
        self._complete = True
        self._finish_if_over()
        return whole.task

    def _note_end(self, part: Any) -> None:
        try:
            self._end(part)
        except BaseException:
            self._end(part)  # an interrupt came: what has been done is not done again
            raise

    def _end(self, part: Task[list[T]]) -> None:
        self._ended[part] = None
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        whole, parts, ended = self._whole, list(self._parts), list(self._ended)
        if whole is None or not self._complete or len(ended) < len(parts):
            return
        if not whole.done():
            _settle(whole, {part: outcome_of(part) for part in (*ended, *parts)}, parts)
        # Last, because another thread, or this one after an interrupt, begins again as long as there is a whole.
        self._whole = None
        self._parts.clear()  # each of them refers to this object
        self._ended.clear()

    def _cancel_if_cancelled(self, whole: Any) -> None:
        if whole.cancelled():
            self._cancel()

    def _cancel(self) -> None:
        for part in list(self._parts):
            part.cancel()


def _settle(
    whole: Job[list[T]], outcomes: dict[Task[list[T]], Outcome[list[T]]], parts: Iterable[Task[list[T]]]
) -> None:
    """Set the outcome of the whole by those of its parts, which are in the order in which they ended."""
    results: dict[Task[list[T]], list[T]] = {}
    for part, outcome in outcomes.items():
        if outcome[0] == "done":
            results[part] = outcome[1]
            continue
        for each in parts:
            count_as_seen(each)
        if outcome[0] == "cancelled":
            whole.cancel()
        else:
            whole.fail(outcome[1])
        return
    if whole.finish([result for part in parts for result in results[part]]):
        for some in results.values():
            some.clear()  # the part may live a little longer


def chunk_for(items: int, workers: int) -> int:
    """Return the default for the number of items in one task."""
    return max(1, -(-items // (_CHUNKS_FOR_EACH_WORKER * workers)))


def chunks_of(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Return an iterator over the items in tuples of this size; the last may be shorter."""
    rest = iter(items)
    return iter(lambda: tuple(islice(rest, size)), ())
