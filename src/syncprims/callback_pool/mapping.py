"""`map` and `map_unordered`: chunks of calls, each chunk one task, and the iterators over their results."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._awaited import wait_visibly
from .._deadline import Deadline
from ..errors import PoolTimeoutError
from .checks import check_count
from .engine import name_of
from .task import Task

if TYPE_CHECKING:
    from .engine import Engine

T = TypeVar("T")
_Chunk = tuple[tuple[Any, ...], ...]


def call_all(fn: Callable[..., T], chunk: _Chunk) -> list[T]:
    """Call the function with each of the chunk's argument tuples; one task, not one for each."""
    return [fn(*args) for args in chunk]


class Mapping(Generic[T]):
    """A map under way: submits its first chunks when it is made, and the rest as results are taken."""

    def __init__(
        self,
        pool: Engine,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
    ) -> None:
        check_count("chunksize", chunksize)
        if not callable(fn):
            raise TypeError(f"map needs a function to call, not {type(fn).__name__}")
        pool._intake.check_open()
        self._pool = pool
        self._deadline = Deadline(timeout)
        self._call = partial(call_all, fn)
        self._label = f"map of {name_of(fn)}"
        arguments = zip(*iterables)  # noqa: B905  Executor.map ends with the shortest
        self._chunks = iter(lambda: tuple(islice(arguments, chunksize)), ())
        self.tasks: deque[Task[list[T]]] = deque()
        self.done: SimpleQueue[Task[list[T]]] | None = None

    def start(self, buffersize: int | None) -> None:
        """Submit the first chunks: so many, or else as many as the pool may have pending, or else all."""
        check_count("buffersize", buffersize)
        self.submit(self._pool._intake.max_pending if buffersize is None else buffersize)

    def submit(self, most: int | None) -> None:
        """Submit that many more chunks; None is all there are."""
        try:
            for chunk in islice(self._chunks, most):
                task = self._pool._submit_quietly(self._label, self._call, chunk)
                self.tasks.append(task)
                if self.done is not None:
                    task.add_done_callback(self.done.put)  # type: ignore[arg-type]  # it is the task
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel what has not begun."""
        for task in self.tasks:
            task.cancel()

    def late(self) -> PoolTimeoutError:
        """Return the error for a result that did not come in time."""
        pending = sum(not task.done() for task in list(self.tasks))
        return PoolTimeoutError(
            f"waited {self._deadline.waited():.1f} s for the results of map in {self._pool.name!r}: "
            f"{pending} submitted chunks are not done",
            pending=pending,
            timeout=self._deadline.timeout,
            waited=self._deadline.waited(),
        )

    def next_in_order(self) -> list[T]:
        """Return the results of the oldest chunk, and submit another one in its place."""
        task = self.tasks[0]
        if not task.done():
            task.wait(self._deadline.remaining())
            if not task.done():
                raise self.late()
        self.tasks.popleft()
        self.submit(1)
        return task.result()

    def next_done(self) -> list[T]:
        """Return the results of the next chunk that is done, and submit another one in its place."""
        assert self.done is not None
        try:
            task = self.done.get_nowait()
        except Empty:
            task = self._await_done(self.done)
        self.tasks.remove(task)
        self.submit(1)
        return task.result()

    def _await_done(self, done: SimpleQueue[Task[list[T]]]) -> Task[list[T]]:
        left = self._deadline.remaining()
        wait = partial(done.get, timeout=left)
        try:
            return wait_visibly(self._pool._intake, f"the next result of {self._label}", left, wait)
        except Empty:
            raise self.late() from None


def in_order(
    pool: Engine,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[T]:
    """Start a map, and return the results in the order of the items."""
    mapping = Mapping(pool, fn, iterables, timeout, chunksize)
    mapping.start(buffersize)
    return _results(mapping, mapping.next_in_order)


def as_done(
    pool: Engine,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[T]:
    """Start a map, and return the results in the order in which their chunks are done."""
    mapping = Mapping(pool, fn, iterables, timeout, chunksize)
    mapping.done = SimpleQueue()
    mapping.start(buffersize)
    return _results(mapping, mapping.next_done)


def _results(mapping: Mapping[T], take: Callable[[], list[T]]) -> Iterator[T]:
    """Yield the results chunk by chunk; cancel the rest when one raises or the iterator is dropped."""
    try:
        while mapping.tasks:
            chunk = take()
            chunk.reverse()
            while chunk:
                yield chunk.pop()  # so that it is kept by nobody but its taker
    finally:
        mapping.cancel()
