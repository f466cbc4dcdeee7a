"""Suspended: the waits of the tasks of event loops, as each loop reports them when it is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from math import inf
from types import FrameType
from typing import Any, Final
from weakref import ref

from .._core.clock import monotonic
from .._core.foreign import guarded, is_interrupt, log, type_name
from .._core.stacks import Place, variable_in
from .._core.waits import UpTo, innermost_of
from .blocked import Awaitable, Blocked, Question, age
from .event_loops import (
    LockWait,
    TaskFacts,
    TaskLock,
    frames_of_task,
    lock_waits,
    number_of_task,
    running_loops,
    source_of,
    tasks_of,
)
from .observed import ObservedLock, ObservedRLock, taker_of, task_holders
from .parts import FutureResult, Notification, Several, loop_that_brings
from .with_blocks import BlocksEntered, add_blocks_of

# A task that is suspended can't answer, and another thread must not look at its frames (see `_core.stacks`). So a
# callback asks the loop, in the loop's own thread, what its tasks wait for, and in which blocks they are. All of one
# answer is true at one moment. A wait in two answers is the same wait if the task waits for the same object: then it
# has lasted all the time between them. Like the wait of a thread, it counts once it has answered the search's question.
#
# A loop is asked only if there is a reason: a task has waited long for an asyncio lock, or a thread waits long for a
# lock that the loop's thread took, or for a coroutine that was handed to the loop. The longer no deadlock is found, the
# less often the loop is asked. A loop whose thread blocks can't answer, and need not: then everything is up to that
# thread.
#
# Any wait of a task can end by `cancel`. A timeout cancels, so tasks under a timeout are left out; only asyncio's own
# loops show which timers there are. Any other cancellation is a doubt, which the report names.

_SOON: Final = 0.05
_SELDOM: Final = 5.0
_SLOWER: Final = 1.5
_MOST: Final = 10_000  # tasks that are examined
_SHARE: Final = 50  # a loop is not asked again for this many times as long as its answer took
_TIMERS: Final = ("asyncio.", "async_timeout.", "anyio.")


class AwaitedTasks:
    """The end of other tasks that a task waits for.

    Attributes:
        name: Its name in reports.
        numbers: The numbers of those tasks.
    """

    __slots__ = ("_up_to", "name", "numbers")

    def __init__(self, tasks: Sequence[Any], name: str) -> None:
        self.name: str = name
        self.numbers: tuple[int | None, ...] = tuple(number_of_task(task) or None for task in tasks)
        numbers = self.numbers
        self._up_to: UpTo = numbers[0] if len(tasks) == 1 else Several(lambda: numbers, one_is_enough=True)

    def up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  it does not matter
        """Those tasks; the failure of one is enough."""
        return self._up_to


class TaskWait(Blocked):
    """One wait of a suspended task.

    Attributes:
        task: The task's name in reports.
        thread: The ident of the thread that runs its loop.
        stack: Where it is suspended, innermost first.
        sign: An object that stays the same as long as the wait lasts.
    """

    __slots__ = ("sign", "stack", "task", "thread")

    def __init__(self, target: Awaitable, task: Any, thread: int, sign: object) -> None:
        super().__init__(target, is_endless=True)
        self.note_of(number_of_task(task))
        self.task: TaskFacts = TaskFacts(task)
        self.thread: int = thread
        self.stack: list[Place] = []
        self.sign: object = sign

    def go_on(self, target: Awaitable) -> None:
        """Note the present target of the same wait: some of several tasks may have ended."""
        old = self.target
        if isinstance(old, AwaitedTasks) and isinstance(target, AwaitedTasks) and old.numbers != target.numbers:
            self.is_now_for(target)

    def is_of(self, sign: object) -> bool:
        """Whether a wait with this sign is the same one."""
        mine = self.sign
        return (mine() if isinstance(mine, ref) else mine) is (sign() if isinstance(sign, ref) else sign)


class TaskWaits:
    """The waits of suspended tasks, if there is a reason to look at them."""

    def __init__(self) -> None:
        self._views: dict[int, _View] = {}
        self._has_failed = False

    def look(self, waits: Sequence[Blocked], after: float) -> dict[int, TaskWait]:
        """Ask the loops that matter; return the known waits, by the numbers of the tasks.

        Args:
            waits: The waits of threads.
            after: How many seconds a wait must have lasted to be a reason.
        """
        now = monotonic()
        for number, wait in list(lock_waits.items()):
            if wait.is_over:
                _forget(number, wait)
        loops = running_loops()
        self._views = {ident: view for ident, view in self._views.items() if loops.get(ident) is view.loop()}
        found: dict[int, TaskWait] = {}
        holders: dict[tuple[int, int], int] = {}
        for ident, loop in loops.items():
            reasons, things = _reasons(ident, waits, now, after)
            if innermost_of(ident) is not None or not reasons:
                self._views.pop(ident, None)
                continue
            view = self._views.get(ident)
            if view is None:
                view = self._views[ident] = _View(loop, ident)
            view.ask(reasons, things, now)
            error, view.error = view.error, None
            if error is not None and not self._has_failed:
                self._has_failed = True
                log(logging.ERROR, "syncprims.watch could not look at the tasks of an event loop", error)
            found.update(view.waits)
            holders.update(view.holders)
        task_holders.clear()
        task_holders.update(holders)
        return found


def oldest_lock_wait(now: float) -> float:
    """How many seconds the longest wait of a task for an asyncio lock has lasted."""
    return max((now - wait.since for wait in list(lock_waits.values()) if not wait.is_over), default=0.0)


def _forget(number: int, wait: LockWait) -> None:
    # The task may have begun another wait.
    if lock_waits.get(number) is wait:
        taken = lock_waits.pop(number, None)
        if taken is not None and taken is not wait:
            lock_waits.setdefault(number, taken)


def _reasons(ident: int, waits: Sequence[Blocked], now: float, after: float) -> tuple[frozenset[int], list[object]]:
    """The waits that are reasons to ask a loop, and the locks for which it matters if a task is in their blocks."""
    reasons = {id(wait) for wait in list(lock_waits.values()) if wait.loop == ident and now - wait.since >= after}
    things: list[object] = []
    for wait in waits:
        if not wait.is_endless or age(wait, now) < after:
            continue
        target = wait.target
        if isinstance(target, (ObservedLock, ObservedRLock)):
            if taker_of(target) == ident:
                reasons.add(wait.number)
                things.append(target)
        elif isinstance(target, Notification) and loop_that_brings(target.future) is not None:
            reasons.add(wait.number)
    return frozenset(reasons), things


class _View:
    """The last answer of one loop."""

    def __init__(self, loop: Any, ident: int) -> None:
        self.loop: ref[Any] = ref(loop)
        self.ident = ident
        self.waits: dict[int, TaskWait] = {}
        self.holders: dict[tuple[int, int], int] = {}
        self._reasons: frozenset[int] = frozenset()
        self._asked_at = -inf
        self._pause = _SOON
        self._is_asked = False
        self.error: BaseException | None = None

    def ask(self, reasons: frozenset[int], things: Sequence[object], now: float) -> None:
        is_new = reasons != self._reasons
        if is_new:
            self._pause = _SOON
        is_open = any(wait.asked is not wait.answered for wait in list(self.waits.values()))
        if self._is_asked or (not is_new and not is_open and now - self._asked_at < self._pause):
            return
        self._reasons, self._asked_at, self._is_asked = reasons, now, True
        self._pause = min(self._pause * _SLOWER, _SELDOM)
        loop: Any = self.loop()
        if guarded(None, lambda: loop.call_soon_threadsafe(self._answer, Question(things))) is None:
            self._is_asked = False

    def _answer(self, question: Question) -> None:
        """Answer, in the thread of the loop."""
        try:
            begun = monotonic()
            holders, waits = _read(self.loop(), self.ident, question.things, self.waits)
            self.holders, self.waits = holders, waits
            self._pause = max(self._pause, _SHARE * (monotonic() - begun))
        except Exception as error:  # noqa: BLE001  the loop goes on, whatever its tasks are
            self.error = error
        except BaseException as error:
            if is_interrupt(error):
                raise
            self.error = error
        finally:
            self._is_asked = False


# -- in the thread of the loop -----------------------------------------------------------------------------------------


def _read(
    loop: Any, ident: int, things: Sequence[object], before: dict[int, TaskWait]
) -> tuple[dict[tuple[int, int], int], dict[int, TaskWait]]:
    tasks = {number_of_task(task): task for task in tasks_of(loop)[:_MOST]}
    tasks.pop(0, None)
    holders: dict[tuple[int, int], int] = {}
    for number, task in tasks.items() if things else ():
        inside = _blocks(frames_of_task(task), things)
        holders.update({(key, ident): number for key in inside.places})
    timed = _timed(loop, tasks)
    waits: dict[int, TaskWait] = {}
    for number, task in tasks.items():
        if id(task) in timed:
            continue
        frames = frames_of_task(task)
        awaited = guarded(None, _awaited, number, task, frames)
        if awaited is None:
            continue
        target, sign, since = awaited
        if isinstance(target, TaskLock) and id(target.lock()) in timed:
            continue  # a timer releases the lock
        wait = before.get(number)
        if wait is None or not wait.is_of(sign):
            wait = TaskWait(target, task, ident, sign)
            wait.note_since(since)
        else:
            wait.go_on(target)
        wait.stack = [(frame.f_code, frame.f_lineno) for frame in reversed(frames)]
        wait.answer(partial(_blocks, frames))
        waits[number] = wait
    return holders, waits


def _blocks(frames: Iterable[FrameType], things: Sequence[object]) -> BlocksEntered:
    found = BlocksEntered()
    add_blocks_of(frames, things, found)
    return found


def _awaited(number: int, task: Any, frames: Sequence[FrameType]) -> tuple[Awaitable, object, float | None] | None:
    """The target of a task's wait, its sign, and its beginning; None if no known thread or task can end the wait."""
    lock_wait = lock_waits.get(number)
    if lock_wait is not None and not lock_wait.is_over:
        return lock_wait.lock, lock_wait, lock_wait.since
    future = task._fut_waiter
    if future is None:
        return None
    sign: object = ref(future)
    several = _several(future, frames)
    if several is not None:
        tasks, words = several
        return (AwaitedTasks(tasks, words), sign, None) if tasks else None
    if hasattr(future, "get_coro") and number_of_task(future):
        return AwaitedTasks([future], f"the end of {TaskFacts(future).words()}"), sign, None
    source = source_of(future)
    if isinstance(source, Future):
        return FutureResult(source), sign, None
    return None


def _several(future: Any, frames: Sequence[FrameType]) -> tuple[list[Any], str] | None:
    """The tasks that a task waits for by `gather`, in a `TaskGroup` or by `wait`, with words for them."""
    found: Iterable[Any]
    if type_name(future) == "asyncio.tasks._GatheringFuture":
        found, words = future._children, "the tasks of a gather()"
    elif not frames:
        return None
    else:
        inner, module = frames[-1], str(frames[-1].f_globals.get("__name__"))
        function = inner.f_code.co_name
        if module == "asyncio.taskgroups" and function in ("__aexit__", "_aexit"):
            found, words = variable_in(inner, "self")._tasks, "the tasks of a TaskGroup"
        elif module == "asyncio.tasks" and function == "_wait":
            found, words = variable_in(inner, "fs"), "the tasks of a wait()"
            found = found if variable_in(inner, "timeout_handle") is None else ()
        else:
            return None
    return [each for each in found if not each.done()], words


def _timed(loop: Any, tasks: dict[int, Any]) -> set[int]:
    """The ids of the tasks that a timer cancels if their wait does not end before, and of other objects of timers."""
    timed: set[int] = set()
    futures: set[int] = set()
    none: tuple[Any, ...] = ()
    for timer in guarded(none, lambda: tuple(loop._scheduled)):
        if guarded(True, timer.cancelled):
            continue
        futures.update(map(id, guarded(none, lambda: timer._args or none)))  # noqa: B023  called at once
        of = guarded(None, getattr, timer._callback, "__self__", None)
        timed.add(id(of))
        if type_name(of).startswith(_TIMERS):
            timed.update(id(getattr(of, name, None)) for name in ("_task", "_host_task"))
            timed.update(map(id, getattr(of, "_tasks", ())))
    for task in tasks.values():
        if id(task._fut_waiter) in futures or guarded(False, _is_released_by, task, futures):
            timed.add(id(task))
    todo = [task for task in tasks.values() if id(task) in timed]
    while todo:
        future = todo.pop()._fut_waiter
        for each in getattr(future, "_children", (future,)):
            if id(each) not in timed:
                timed.add(id(each))
                if hasattr(each, "_fut_waiter"):
                    todo.append(each)
    return timed


def _is_released_by(task: Any, futures: set[int]) -> bool:
    # Until 3.11 `wait_for` runs its argument in a task of its own, which has a callback with the future that the timer
    # sets.
    callbacks: Iterable[tuple[Callable[..., object], object]] = task._callbacks or ()
    return any(id(arg) in futures for callback, _ in callbacks for arg in getattr(callback, "args", ()))
