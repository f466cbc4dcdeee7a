"""Parts: the waits of `threading`, `queue` and `concurrent.futures` that are not for a lock."""

from __future__ import annotations

import sys
import threading
from _thread import get_ident
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as pool_threads
from functools import partial, update_wrapper
from types import FrameType
from typing import Any, Final, Generic, TypeVar
from weakref import ref

from .._core.foreign import guarded, words
from .._core.holders import thread_name
from .._core.stacks import FILE_OF_THREADING, file_of, variable_in
from .._core.waits import UpTo
from .blocked import Blocked
from .observed import is_observed, number_of, origin_of
from .origins import Origin, forget_thread, name_made

# Each function here replaces one of the standard library and calls it, with a record of the wait around the call.
# `replacements` makes these functions, so an import of this module replaces nothing.

_SLICE: Final = 0.5
_MOST: Final = 1000  # ended threads whose names are kept


class Several:
    """Several threads that a wait is up to."""

    __slots__ = ("_members", "one_is_enough")

    def __init__(self, members: Callable[[], Collection[UpTo]], *, one_is_enough: bool) -> None:
        self._members = members
        self.one_is_enough: bool = one_is_enough

    def members(self) -> Collection[UpTo]:
        """The threads as of now."""
        return self._members()


# -- conditions, and the classes that use them -------------------------------------------------------------------------

# The waiting functions of the standard library, with what each waits for. The first one outside of the condition
# counts.
_SOUGHT: Final = {
    "Queue.get": "an item from",
    "Queue.put": "room in",
    "Queue.join": "all tasks to be done of",
    "Event.wait": "",
    "Semaphore.acquire": "a permit of",
    "Barrier.wait": "the other threads at",
    "Barrier._enter": "the other threads at",
    "Future.result": "the result of",
    "Future.exception": "the result of",
    "Thread.start": "the start of",
}
_START: Final = (FILE_OF_THREADING, "Thread.start")


class Notification:
    """The target of a thread that waits for a condition.

    Attributes:
        condition: The condition.
        future: The future whose result it brings, or None.
        function: The qualified name of the waiting function of the library, like ``"Queue.get"``.
        kind: The function's class.
    """

    __slots__ = ("_result", "condition", "function", "future", "kind")

    def __init__(self, condition: threading.Condition, frame: FrameType | None) -> None:
        self.condition: threading.Condition = condition
        self.future: Future[Any] | None = None
        self.function: str = ""
        self.kind: str = "Condition"
        while frame is not None and frame.f_code.co_filename in _files:
            name = frame.f_code.co_qualname
            if name in _SOUGHT:
                outer = frame.f_back
                if outer is not None and (outer.f_code.co_filename, outer.f_code.co_qualname) == _START:
                    name = outer.f_code.co_qualname  # this function waits for an Event
                self.function = name
                self.kind = name.partition(".")[0]
                if self.kind == "Future":
                    future = variable_in(frame, "self")
                    self.future = future if isinstance(future, Future) else None
                break
            frame = frame.f_back
        self._result: FutureResult | None = None if self.future is None else FutureResult(self.future)

    @property
    def is_start(self) -> bool:
        """Whether it is for the start of a thread, which the system brings about."""
        return self.function == "Thread.start"

    @property
    def name(self) -> str:
        """Its name in reports."""
        sought = _SOUGHT.get(self.function, "")
        if self.kind == "Future":
            return f"{sought} {say_future(self.future)}"
        origin = self.origin()
        if origin is None:
            named = f"{'an' if self.kind[0] in 'AEIO' else 'a'} {self.kind}"
        else:
            named = name_made(*origin, self.kind)
            named = named if named.startswith("the ") else f"the {self.kind} {named}"
        return f"{sought} {named}" if sought else (f"a notification of {named}" if not self.function else named)

    def origin(self) -> tuple[Origin, int] | None:
        """The place that made its lock, and the lock's number there."""
        lock = guarded(None, getattr, self.condition, "_lock", None)
        if not is_observed(lock):  # the lock may be older than the watch
            return None
        made = origin_of(lock)
        found = Origin(made.code, made.line, "", made.column)
        found.many = made.many
        return found, number_of(lock)

    def up_to(self, waiter: int) -> UpTo:
        """The threads that can notify: the one that runs the task of the future, or any worker of its pool."""
        return None if self._result is None else self._result.up_to(waiter)


# -- futures -----------------------------------------------------------------------------------------------------------

V = TypeVar("V")


class Notes(Generic[V]):
    """Notes about objects of the program, without calling their `==` and `hash`. A note goes away with its object."""

    def __init__(self) -> None:
        self._notes: dict[int, tuple[ref[Any], V]] = {}

    def note(self, thing: object, value: V) -> None:
        """Note something about an object."""
        key, notes = id(thing), self._notes
        notes[key] = ref(thing, lambda _: notes.pop(key, None)), value

    def of(self, thing: object) -> V | None:
        """The note about an object, or None."""
        found = self._notes.get(id(thing))
        return None if found is None or found[0]() is not thing else found[1]


# By the id of a future: the thread that runs its task, as long as it does.
_runners: dict[int, int] = {}
# The pool that made a future.
_pools: Final[Notes[ref[ThreadPoolExecutor]]] = Notes()
# For a future of a coroutine that was handed to an event loop: returns the thread or task that brings its result.
_brought: Final[Notes[Callable[[], UpTo]]] = Notes()


def brought_by(future: Future[Any], who: Callable[[], UpTo]) -> None:
    """Note the thread or task that brings the result of a future that no pool has made."""
    _brought.note(future, who)


def loop_that_brings(future: object) -> Callable[[], UpTo] | None:
    """The function that returns the thread or task for a future of a coroutine in an event loop, or None."""
    return _brought.of(future)


class FutureResult:
    """The result of a future, while a thread waits for it; this does not keep the future alive."""

    __slots__ = ("_group", "future")

    def __init__(self, future: object) -> None:
        self.future: Callable[[], object] = ref(future)
        self._group: Several | None = None

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"the result of {say_future(self.future())}"

    def up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  it does not matter
        """The thread that runs its task or the task's event loop, or any worker of its pool; None if none is known."""
        future = self.future()
        if future is None:
            return None
        loop = loop_that_brings(future)
        if loop is not None:
            return loop()
        runner = _runners.get(id(future))
        if runner is not None:
            return runner
        pool = _pools.of(future) if self._group is None else None
        if pool is not None:
            self._group = Several(partial(_workers, pool), one_is_enough=True)
        return self._group


def pool_of(future: object) -> ThreadPoolExecutor | None:
    """The pool that made a future, if it is alive."""
    pool = _pools.of(future)
    return None if pool is None else pool()


def _workers(of: ref[ThreadPoolExecutor]) -> Collection[UpTo]:
    pool = of()
    none: tuple[threading.Thread, ...] = ()
    threads = guarded(none, lambda: tuple(pool._threads)) if pool is not None else none
    if pool is None or not threads or len(threads) < pool._max_workers:
        return (None,)  # another worker may be started
    return tuple(thread.ident for thread in threads)


def say_future(future: object) -> str:
    """Describe a future."""
    ident = _runners.get(id(future))
    if loop_that_brings(future) is not None:
        return "a coroutine that was handed to an event loop"
    if ident is not None:
        return f"a task that runs in Thread {thread_name(ident) or ident!r}"
    pool = pool_of(future)
    if pool is None:
        return "a Future"
    prefix = guarded("", getattr, pool, "_thread_name_prefix")
    return f"a task that is queued in the ThreadPoolExecutor {words(prefix)} of {pool._max_workers} worker(s)"


# -- threads and the end of the program --------------------------------------------------------------------------------

ended: OrderedDict[int, str] = OrderedDict()
"""The names of threads that have ended, by their idents."""


def threads_of_parent() -> None:
    """Note the names of all threads except this one, because a forked child has none of them."""
    me = get_ident()
    active: dict[int, threading.Thread] = dict(threading._active)  # type: ignore[attr-defined]
    for ident in active:
        if ident != me:
            ended[ident] = thread_name(ident)


class ThreadEnd:
    """The end of a thread that another thread waits for in `join`."""

    __slots__ = ("thread",)

    def __init__(self, thread: threading.Thread) -> None:
        self.thread: threading.Thread = thread

    @property
    def name(self) -> str:
        """Its name in reports."""
        name = guarded("?", getattr, self.thread, "name")
        return f"the end of Thread {words(name)}"

    def up_to(self, waiter: int) -> int | None:  # noqa: ARG002  it does not matter
        """The thread."""
        return self.thread.ident


class ProgramsEnd:
    """The end of all threads that are not daemons; the main thread waits for it before the program ends."""

    def __init__(self) -> None:
        self._group = Several(self._idents, one_is_enough=False)

    def threads(self) -> list[threading.Thread]:
        """The threads."""
        active: dict[int, threading.Thread] = dict(threading._active)  # type: ignore[attr-defined]
        main = threading.main_thread()
        return [each for each in active.values() if each is not main and not each.daemon]

    def _idents(self) -> Collection[UpTo]:
        return [each.ident for each in self.threads()]

    @property
    def name(self) -> str:
        """Its name in reports."""
        names = [words(guarded("?", getattr, each, "name")) for each in self.threads()]
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        return f"the end of {'Thread' if len(names) == 1 else 'the threads'} {shown} (not daemon), to end the program"

    def up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  it does not matter
        """All of these threads."""
        return self._group


_files: Final = frozenset(
    {FILE_OF_THREADING, *(file_of(sys.modules[name]) for name in ("queue", "concurrent.futures._base"))}
)

Replacement = tuple[Any, str, object]


def replacements() -> list[Replacement]:
    """Make the replacements of library functions: for each the object, the attribute's name, and the new value."""
    condition_wait = threading.Condition.wait
    join = threading.Thread.join
    is_alive = threading.Thread.is_alive
    delete = threading.Thread._delete  # type: ignore[attr-defined]
    shutdown = threading._shutdown  # type: ignore[attr-defined]
    submit = ThreadPoolExecutor.submit
    run = pool_threads._WorkItem.run

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        record = Blocked(Notification(self, sys._getframe(1)), is_endless=timeout is None, answers=False)
        try:
            record.publish()
            return condition_wait(self, timeout)
        finally:
            record.withdraw()

    def join_observed(self: threading.Thread, timeout: float | None = None) -> None:
        if timeout is not None or not guarded(False, is_alive, self):
            return join(self, timeout)
        record = Blocked(ThreadEnd(self), is_endless=True)
        try:
            record.publish()
            while True:
                join(self, _SLICE)
                if not is_alive(self):
                    return None
                record.beat()
        finally:
            record.withdraw()

    def delete_observed(self: threading.Thread) -> None:
        ident = get_ident()
        forget_thread(ident)
        ended[ident] = thread_name(ident)
        while len(ended) > _MOST:
            ended.popitem(last=False)
        delete(self)

    def shutdown_observed() -> None:
        record = Blocked(ProgramsEnd(), is_endless=True, answers=False)
        try:
            record.publish()
            shutdown()
        finally:
            record.withdraw()

    def submit_observed(self: ThreadPoolExecutor, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = submit(self, *args, **kwargs)
        _pools.note(future, ref(self))
        return future

    def run_observed(self: Any, *args: Any) -> None:
        key = id(self.future)
        _runners[key] = get_ident()
        try:
            run(self, *args)
        finally:
            _runners.pop(key, None)
            del self, args  # the traceback of the task's error leads to this frame: avoid a reference cycle

    return [
        (threading.Condition, "wait", _dressed(wait, condition_wait)),
        (threading.Thread, "join", _dressed(join_observed, join)),
        (threading.Thread, "_delete", _dressed(delete_observed, delete)),
        (threading, "_shutdown", _dressed(shutdown_observed, shutdown)),
        (ThreadPoolExecutor, "submit", _dressed(submit_observed, submit)),
        (pool_threads._WorkItem, "run", _dressed(run_observed, run)),
    ]


def _dressed(function: Any, like: Any) -> Any:
    """Give a function the name, the docstring and the signature of the function that it replaces."""
    return update_wrapper(function, like)
