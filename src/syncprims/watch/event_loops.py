"""Event loops: which thread runs which loop, and notes that asyncio's functions take of locks, tasks and futures."""

from __future__ import annotations

from _thread import get_ident
from concurrent.futures import Future
from functools import partial, update_wrapper
from itertools import count
from types import ModuleType
from typing import Any, Final
from weakref import ref

from .._core.clock import monotonic
from .._core.foreign import guarded, name_of, text_of
from .._core.waits import UpTo, innermost_of
from .blocked import also_look_in, rouse
from .origins import Origin, name_made, origin_here
from .parts import Notes, Replacement, brought_by
from .with_blocks import BlocksEntered, add_blocks_of

# asyncio is never imported for this: `installing` calls `replacements` once the program has imported it.
#
# A task is a vertex of the wait-for graph like a thread. It has a negative number in place of an ident. The code here
# runs in the thread of the loop, in the middle of the program, so it only takes notes. `suspended` reads the waits of
# tasks.
#
# Like asyncio's own, the replaced `Lock.acquire` guarantees that no interrupt leaves the lock taken: after the await
# there are stores and no calls. `run_forever` is replaced, and not `_set_running_loop`, which is C: an interrupt on the
# entry to a Python function in its place would leave a loop marked as running that has ended.

_running: dict[int, ref[Any]] = {}
# By the id of a task: its number, and the task.
_numbers: dict[int, tuple[int, ref[Any]]] = {}
_count = count(1)
# By the number of a task, as long as it lives.
_tasks: dict[int, ref[Any]] = {}
# By the id of a lock of asyncio's.
_locks: dict[int, TaskLock] = {}
lock_waits: dict[int, LockWait] = {}
"""The last wait of each task for a lock of asyncio's, by the task's number; it may be over."""
# By future, the task or future that brings its result: an asyncio task for a future of threads, or the reverse.
_sources: Final[Notes[ref[Any]]] = Notes()

_asyncio: list[Any] = []  # the module, once it is imported


class TaskFacts:
    """The description of an asyncio task in reports.

    Attributes:
        name: Its name.
        coroutine: The name of the function that it runs.
    """

    __slots__ = ("coroutine", "name")

    def __init__(self, task: Any) -> None:
        self.name: str = text_of(guarded("?", lambda: task.get_name()), 100)
        self.coroutine: str = name_of(guarded(None, lambda: task.get_coro()))

    def words(self) -> str:
        """The name and the function in words."""
        return f"Task {self.name!r} ({self.coroutine})"


class TaskLock:
    """The notes about an `asyncio.Lock`.

    Attributes:
        lock: The lock.
        holder: The task that has it, as a weak reference, or None.
        origin: The place that made it.
        number: Its number among the locks that were made there.
    """

    __slots__ = ("holder", "lock", "number", "origin")

    def __init__(self, lock: Any, origin: Origin) -> None:
        key = id(lock)
        self.lock: ref[Any] = ref(lock, lambda _: _locks.pop(key, None))
        self.holder: ref[Any] | None = None
        self.origin: Origin = origin
        self.number: int = origin.next_number()

    @property
    def name(self) -> str:
        """Its name in reports."""
        named = name_made(self.origin, self.number, "asyncio.Lock")
        return named if named.startswith("the ") else f"the asyncio.Lock {named}"

    def up_to(self, waiter: int) -> int | None:  # noqa: ARG002  it may be the waiter itself
        """The task that has it; None if other tasks than the holders release the locks of that place."""
        holder = self.holder
        task = None if holder is None or self.origin.is_signal else holder()
        return None if task is None else number_of_task(task) or None


class LockWait:
    """One wait of a task for a lock.

    Attributes:
        lock: The lock.
        loop: The ident of the thread that runs the loop.
        since: When it began.
        is_over: Whether it has ended.
    """

    __slots__ = ("is_over", "lock", "loop", "since")

    def __init__(self, lock: TaskLock) -> None:
        self.lock: TaskLock = lock
        self.loop: int = get_ident()
        self.since: float = monotonic()
        self.is_over: bool = False


def running_loops() -> dict[int, Any]:
    """The loops that run now, by the idents of their threads."""
    found: dict[int, Any] = {ident: each() for ident, each in _running.copy().items()}
    return {ident: loop for ident, loop in found.items() if guarded(False, lambda: loop.is_running())}  # noqa: B023  called at once


def task_of(loop: Any) -> TaskFacts | None:
    """The task that a loop runs at this moment. Another thread may ask only while the loop's thread blocks."""
    task = guarded(None, lambda: _asyncio[0].current_task(loop)) if _asyncio else None
    return None if task is None else TaskFacts(task)


def tasks_of(loop: Any) -> list[Any]:
    """The tasks of a loop that have not ended. Call this in the loop's own thread."""
    none: list[Any] = []
    return guarded(none, lambda: list(_asyncio[0].all_tasks(loop))) if _asyncio else none


def number_of_task(task: Any) -> int:
    """The number of a task; 0 if it can't have one."""
    key = id(task)
    entry = _numbers.get(key)
    if entry is not None and entry[1]() is task:
        return entry[0]
    number = -next(_count)

    def forget(_: object) -> None:
        _numbers.pop(key, None)
        _tasks.pop(number, None)

    found = guarded(None, ref, task, forget)
    if found is None:
        return 0
    number, found = _numbers.setdefault(key, (number, found))  # the watcher may number the task at the same time
    _tasks[number] = found
    return number


def say_task(number: int) -> str:
    """The name in reports of the task with this number."""
    found = _tasks.get(number)
    task = None if found is None else found()
    return "a task that has ended" if task is None else TaskFacts(task).words()


def task_lock_of(lock: Any, origin: Origin | None = None) -> TaskLock | None:
    """The notes about a lock; None if it can't have any."""
    key = id(lock)
    found = _locks.get(key) if origin is None else None
    if found is not None:
        return found
    found = guarded(None, TaskLock, lock, Origin(None, 0, "") if origin is None else origin)
    if found is not None:
        _locks[key] = found
    return found


def source_of(future: object) -> Any:
    """The task or future that a future's result comes from, from threads to asyncio or back; None if none is known."""
    source = _sources.of(future)
    return None if source is None else source()


def forget_loops() -> None:
    """Forget, in a forked child, the loops and tasks of the parent."""
    _running.clear()
    lock_waits.clear()


def brings(loop: ref[Any], future: ref[Any]) -> UpTo:
    """What must act for the result of a coroutine that was handed to a loop: the loop's thread, or the task."""
    found = loop()
    ident = next((ident for ident, each in running_loops().items() if each is found), None)
    if ident is None or innermost_of(ident) is not None:
        return ident
    task = source_of(future())
    return ident if task is None else number_of_task(task) or ident


def replacements(asyncio: ModuleType) -> list[Replacement]:
    """Make the replacements of asyncio's functions: for each the object, the attribute's name, and the new value."""
    module: Any = asyncio
    _asyncio[:] = [module]
    also_look_in(_look_in_suspended_tasks)
    loop = guarded(None, lambda: ref(module._get_running_loop()))
    if loop is not None:
        _running[get_ident()] = loop
    lock, futures, tasks, base = module.locks.Lock, module.futures, module.tasks, module.base_events.BaseEventLoop
    make, acquire, release = lock.__init__, lock.acquire, lock.release
    chain, hand_over = futures._chain_future, tasks.run_coroutine_threadsafe
    current_task = module.current_task

    def current() -> ref[Any] | None:
        try:
            return ref(current_task())
        except (RuntimeError, TypeError):  # there is no loop, or no task
            return None

    def make_observed(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        task_lock_of(self, origin_here())

    async def acquire_observed(self: Any) -> bool:
        found = task_lock_of(self)
        me = current()
        if found is None:
            return await acquire(self)  # type: ignore[no-any-return]
        wait = None
        if me is not None and (self._locked or self._waiters):
            wait = lock_waits[number_of_task(me())] = LockWait(found)
            rouse()
        try:
            taken: bool = await acquire(self)
        except BaseException:
            if wait is not None:
                wait.is_over = True
            raise
        found.holder = me
        if wait is not None:
            wait.is_over = True
        return taken

    def release_observed(self: Any) -> None:
        found = _locks.get(id(self))
        if found is not None:
            holder, found.holder = found.holder, None
            if holder is not None and ((me := current()) is None or me() is not holder()):
                found.origin.note_release(0)
        release(self)

    def chain_observed(source: Any, destination: Any) -> None:
        chain(source, destination)
        guarded(None, lambda: _sources.note(destination, ref(source)))

    def hand_over_observed(coro: Any, loop: Any) -> Any:
        future = hand_over(coro, loop)
        if isinstance(future, Future):
            guarded(None, lambda: brought_by(future, partial(brings, ref(loop), ref(future))))
        return future

    replaced: list[Replacement] = [
        (lock, "__init__", update_wrapper(make_observed, make)),
        (lock, "acquire", update_wrapper(acquire_observed, acquire)),
        (lock, "release", update_wrapper(release_observed, release)),
        (futures, "_chain_future", update_wrapper(chain_observed, chain)),
        run_observed(base),
    ]
    handed: Any = update_wrapper(hand_over_observed, hand_over)
    return [*replaced, *((owner, "run_coroutine_threadsafe", handed) for owner in (tasks, module))]


def run_observed(kind: Any) -> Replacement:
    """Make the replacement of `run_forever` for a class of loops."""
    run = kind.run_forever

    def run_forever(self: Any) -> None:
        me = get_ident()
        before = _running.get(me)
        _running[me] = ref(self)
        try:
            run(self)
        finally:
            if before is None:
                _running.pop(me, None)
            else:
                _running[me] = before

    return kind, "run_forever", update_wrapper(run_forever, run)


# -- tasks that are suspended ------------------------------------------------------------------------------------------

_DEEPEST: Final = 200  # coroutines that await each other


def frames_of_task(task: Any) -> list[Any]:
    """The frames of a suspended task, outermost first. Call this in the thread of its loop."""
    found: list[Any] = []
    thing = guarded(None, lambda: task.get_coro())
    while thing is not None and len(found) < _DEEPEST:
        kind = next((each for each in ("cr", "gi", "ag") if hasattr(thing, f"{each}_frame")), None)
        if kind is None:
            break
        frame = getattr(thing, f"{kind}_frame")
        if frame is not None:
            found.append(frame)
        thing = getattr(thing, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return found


def _look_in_suspended_tasks(found: BlocksEntered, things: Any) -> None:
    """Add the blocks in which the other tasks of the loop are that the calling thread runs."""
    loop = guarded(None, lambda: _asyncio[0]._get_running_loop())
    if loop is None:
        return
    current = guarded(None, lambda: _asyncio[0].current_task(loop))
    for task in tasks_of(loop):
        if task is not current:
            inside = BlocksEntered()
            guarded(None, lambda: add_blocks_of(frames_of_task(task), things, inside))  # noqa: B023  called at once
            for key, place in inside.places.items():
                if key not in found.places:
                    found.places[key] = place
                    found.tasks[key] = TaskFacts(task).words()
