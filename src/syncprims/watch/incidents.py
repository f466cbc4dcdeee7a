"""Incidents: the search for threads that can't go on, and the certainty of what it finds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import thread as pool_threads
from functools import partial
from traceback import FrameSummary
from types import CodeType
from typing import Final

from .._core.clock import monotonic
from .._core.deadlocks import Knot, knots
from .._core.foreign import guarded
from .._core.holders import stack_of, thread_name
from .._core.stacks import codes_of_threads, programs_own, summaries, with_frames
from .._core.waits import Awaited, UpTo, Waiting, all_waits, innermost_of, waits_of
from .blocked import Blocked, Question, age
from .event_loops import TaskLock, running_loops
from .imports import ModuleImport, import_waits
from .incident_facts import ASLEEP, DEADLOCK, LIKELY, LOOP, SLOW, Holding, Incident, WaitingThread
from .observed import ObservedLock, ObservedRLock, origin_of, took_by_acquire
from .parts import FutureResult, Notification, ProgramsEnd, ThreadEnd, loop_that_brings
from .suspended import AwaitedTasks, TaskWait, TaskWaits
from .with_blocks import BlocksEntered
from .wording import error_of, say_stack

# What is certain
# ---------------
# A knot is a set of threads each of which waits, through others, for itself; `_core.deadlocks` finds it. An edge of a
# knot is certain if only the thread at its end can remove it: the lock is an RLock, or the wait is for the end of a
# thread or of an import. For a plain lock the edge is certain if the holder is in the block of the `with` that acquired
# the lock. If the lock was taken by `acquire`, any thread may release it, but in few programs another thread does. So
# the edge counts as certain until a thread was seen to release a lock of another one, among the locks made at the same
# place. From then on the edge is only likely, and nothing is reported as long as a thread that did so before can run.
#
# Before anything is reported, every thread that waits for a lock of the knot answers (see `blocked`).

_ORDER_ADVICE: Final = (
    "take the locks in the same order in all threads, or hold only one at a time; --break raises an error in one of "
    "the threads instead"
)


def _is_endless(wait: Waiting) -> bool:
    if isinstance(wait, Blocked):
        # A thread that starts another may have to wait for the system, which no frame shows.
        return wait.is_endless and not (isinstance(wait.target, Notification) and wait.target.is_start)
    return wait.counts() or (not wait.takes_part and wait.deadline_at is None)


def _number(wait: Waiting) -> int:
    return wait.number if isinstance(wait, Blocked) else -id(wait)


class Search:
    """Looks for incidents repeatedly, and finds each once.

    Attributes:
        breaks: Whether to break a certain deadlock.
    """

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks: bool = breaks
        self._ignored: frozenset[int] = frozenset()  # the idents of threads that are not the program's
        self._questions: dict[frozenset[int], Question] = {}
        self._reported: dict[frozenset[int], None] = {}
        self._judged: set[frozenset[int]] = set()
        self._slow: set[int] = set()
        self._blocking: set[tuple[int, float]] = set()  # the waits that blocked one, by number and beginning
        self._asleep: frozenset[int] = frozenset()
        self._imports: dict[int, Waiting] = {}
        self._task_waits: TaskWaits = TaskWaits()
        self._tasks: dict[int, TaskWait] = {}
        self._loops: dict[tuple[str, int], None] = {}  # the places that blocked one

    def look(
        self,
        after: float,
        asleep: float | None = None,
        slow: float | None = None,
        ignored: Iterable[int] = (),
    ) -> Iterator[Incident]:
        """Yield new incidents.

        Args:
            after: How many seconds threads must have waited for each other.
            asleep: How many seconds all threads must have waited, if that is reported.
            slow: How many seconds a thread must have waited, if that is reported.
            ignored: The threads that are not the program's.
        """
        self._ignored = frozenset(ignored)
        self._imports = import_waits()
        now = monotonic()
        waits = [*(wait for wait in all_waits() if wait.ident not in self._ignored), *self._imports.values()]
        self._tasks = self._task_waits.look([wait for wait in waits if isinstance(wait, Blocked)], after)
        waits += self._tasks.values()
        if not waits:
            self._forget(waits)
            return
        if slow is not None:
            yield from self._look_for_slow(waits, now, slow)
        if all(age(wait, now) < after for wait in waits):
            return
        self._forget(waits)
        found = knots([wait.ident for wait in waits], self._select, self._innermost)
        stuck: set[int] = set()
        for knot in found:
            core = [wait for ident, wait in knot.waits.items() if ident in knot.core]
            key = frozenset(map(_number, core))
            if key not in self._reported and min(age(wait, now) for wait in core) >= after:
                question = self._ask(key, core, waits)
                if question is not None:
                    self._judged.add(key)
                    incident = self._judge(knot, core, question, now)
                    if incident is not None:
                        self._reported[key] = None
                        if self.breaks and incident.heading == DEADLOCK:
                            self._break(core, incident)
                        yield incident
            if key in self._reported or key not in self._judged:
                stuck.update(knot.waits)
        yield from self._look_for_blocked_loops(now, after, stuck)
        yield from self._look_for_gone(waits, now, after)
        if asleep is not None and not found and not self._reported:
            yield from self._look_for_sleep(now, asleep)

    def has_questions(self) -> bool:
        """Whether threads that seemed stuck in the last look have not answered yet."""
        return any(key not in self._reported and key not in self._judged for key in list(self._questions))

    def _forget(self, waits: Iterable[Waiting]) -> None:
        numbers = set(map(_number, waits))
        self._reported = {key: None for key in self._reported if key <= numbers}
        self._questions = {key: asked for key, asked in self._questions.items() if key <= numbers}
        self._judged = {key for key in self._judged if key <= numbers}
        self._slow &= numbers
        self._blocking = {key for key in self._blocking if key[0] in numbers}

    # -- the waits that count -------------------------------------------------------------------------------------

    def _select(self, ident: int) -> list[Waiting]:
        if ident < 0:
            return [wait] if (wait := self._tasks.get(ident)) is not None else []
        found = [wait for wait in waits_of(ident)[:1] if _is_endless(wait)]
        return found or [self._imports[ident]] if ident in self._imports else found

    def _innermost(self, ident: int) -> Waiting | None:
        if ident < 0:
            return self._tasks.get(ident)
        wait = innermost_of(ident) or self._imports.get(ident)
        return wait if wait is not None and _is_endless(wait) else None

    def _ask(self, key: frozenset[int], core: Sequence[Waiting], waits: Sequence[Waiting]) -> Question | None:
        """Ask all threads that matter; return the question once each has answered it, and otherwise None."""
        locks = [lock for lock in map(_lock_of, core) if lock is not None]
        asked = [wait for wait in core if isinstance(wait, Blocked) and wait.answers]
        asked += [wait for wait in waits if isinstance(wait, Blocked) and wait.answers and _is_for(wait, locks)]
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = Question(locks)
            for wait in asked:
                wait.asked = question
            return None
        left = [wait for wait in asked if wait.answered is not question]
        for wait in left:
            wait.asked = question
        return None if left else question

    # -- knots ----------------------------------------------------------------------------------------------------

    def _judge(self, knot: Knot, core: Sequence[Waiting], question: Question, now: float) -> Incident | None:
        doubts: list[str] = []
        found: dict[Waiting, list[Holding]] = {}
        codes = codes_of_threads()
        for wait, holder in knot.edges():
            if wait not in core:
                continue
            lock = wait.target if isinstance(wait, Blocked) else None
            holding = Holding(holder, True)
            if isinstance(wait, TaskWait):
                doubts.append("unless one of these tasks is cancelled")
            if isinstance(lock, (ObservedLock, ObservedRLock)):
                # Without the GIL a thread may be between taking the lock and noting that; but not if the lock still
                # shows it now.
                if lock.up_to(wait.ident) != holder:
                    return None
                inside = self._inside(knot, holder, question)
                if inside is not None:
                    holding.taken = inside.places.get(id(lock))
                    holding.task = inside.tasks.get(id(lock), holding.task)
                if isinstance(lock, ObservedLock):
                    doubt = self._doubt(lock, holding, knot, codes, unknown=inside is None or inside.unknown)
                    if doubt is None:
                        return None
                    doubts += filter(None, [doubt])
            elif isinstance(lock, TaskLock):
                if lock.up_to(wait.ident) != holder:
                    return None
                inside = self._inside(knot, holder, question)
                holding.taken = None if inside is None else inside.places.get(id(lock.lock()))
                if holding.taken is None:
                    if len(core) == 1:
                        return None  # it may be a signal
                    doubts.append("unless another task releases the lock")
            elif isinstance(lock, Notification) and loop_that_brings(lock.future) is not None:
                holding.words = "which runs it" if holder < 0 else "which runs that event loop"
            elif isinstance(lock, Notification):
                if lock.up_to(wait.ident) == holder:
                    holding.words = "which runs that task"
                    doubts.append("unless another thread sets the result of that task")
                else:
                    holding.words = "which is one of the workers of that pool, and none is free"
                    doubts.append("unless the pool gets another worker")
            else:
                holding.words = _words_of(wait)
            found[wait] = [holding]
        threads = _threads(found, now)
        more = len(knot.waits) - len(core)
        notes = [f"{more} more thread(s) wait for these"] if more > 0 else []
        return Incident(
            LIKELY if doubts else DEADLOCK,
            _summary(core),
            threads,
            _advice(core, over_await=any(each.task for thread in threads for each in thread.holders)),
            doubts,
            notes,
        )

    def _inside(self, knot: Knot, holder: int, question: Question) -> BlocksEntered | None:
        wait = knot.waits.get(holder)
        return wait.inside if isinstance(wait, Blocked) and wait.answered is question else None

    def _doubt(
        self, lock: ObservedLock, holding: Holding, knot: Knot, codes: dict[int, CodeType], *, unknown: bool
    ) -> str | None:
        """Return the event that could remove the edge, or "" if none could; None if the edge is not worth a report."""
        alone = holding.ident in knot.waits and knot.waits[holding.ident].node is not None and len(knot.core) == 1
        origin = origin_of(lock)
        others = [ident for ident in codes if ident not in knot.waits and self._can_run(ident, codes)]
        if origin.is_signal:
            if any(ident in origin.released_by for ident in others):
                return None
            if alone and others:
                return None
            return "unless another thread releases the lock: one did so with a lock that was made at the same place"
        if holding.taken is not None:
            return ""
        if alone:
            return None if others else ""
        if took_by_acquire(lock) or unknown:
            return ""
        return "unless another thread releases the lock: it was taken in a block that the thread is not in any more"

    def _can_run(self, ident: int, codes: dict[int, CodeType]) -> bool:
        return ident not in self._ignored and self._innermost(ident) is None and not _is_idle_worker(codes.get(ident))

    def _break(self, core: Sequence[Waiting], incident: Incident) -> None:
        refusable = [wait for wait in core if isinstance(wait, Blocked) and wait.by_with and wait.answers]
        if refusable:
            last = max(refusable, key=lambda wait: wait.number)
            last.refusal = partial(error_of, incident, last.ident)

    # -- event loops that are blocked -----------------------------------------------------------------------------

    def _look_for_blocked_loops(self, now: float, after: float, stuck: Iterable[int]) -> Iterator[Incident]:
        for ident in running_loops():
            wait = innermost_of(ident)
            is_start = isinstance(wait, Blocked) and isinstance(wait.target, Notification) and wait.target.is_start
            if wait is None or is_start or ident in stuck or age(wait, now) < after:
                continue
            key = _number(wait), wait.since
            if key in self._blocking:
                continue
            (thread,) = _threads({wait: self._holders(wait, codes_of_threads())}, now)
            place = _place(thread.stack)
            if innermost_of(ident) is not wait:
                continue
            self._blocking.add(key)
            if place not in self._loops:
                self._loops[place] = None
                yield Incident(
                    LOOP,
                    "a blocking wait in the thread of an event loop stops all tasks of that loop",
                    [thread],
                    "do not block in the thread of a loop: await asyncio's own lock, event or queue, or wait in a "
                    "thread of its own by `await asyncio.to_thread(...)`",
                )

    # -- holders that are gone ------------------------------------------------------------------------------------

    def _look_for_gone(self, waits: Sequence[Waiting], now: float, after: float) -> Iterator[Incident]:
        locks: dict[int, list[Blocked]] = {}
        for wait in waits:
            if isinstance(wait, Blocked) and wait.is_endless and isinstance(wait.target, (ObservedLock, ObservedRLock)):
                locks.setdefault(id(wait.target), []).append(wait)
        if not locks:
            return
        codes = codes_of_threads()
        for waiters in locks.values():
            lock = waiters[0].target
            owner = lock.up_to(0)
            if not isinstance(owner, int) or self._is_alive(owner, codes):
                continue
            key = frozenset(map(_number, waiters[:1]))
            if key in self._reported or max(age(wait, now) for wait in waiters) < after:
                continue
            others = [ident for ident in codes if self._can_run(ident, codes)]
            if isinstance(lock, ObservedLock) and others:
                continue  # one of these threads may release it
            if self._ask(key, waiters, waits) is None or lock.up_to(0) != owner:
                continue
            self._reported[key] = None
            yield Incident(
                DEADLOCK,
                f"{len(waiters)} thread(s) wait for a lock whose holder is gone, and can never go on",
                _threads({wait: [Holding(owner, False)] for wait in waiters}, now),
                "release the lock in the thread that took it: use `with`, which always does; after a fork, take no "
                "lock in the child that another thread of the parent may have had: start children by spawn or "
                "forkserver, or before any thread",
            )

    # -- all asleep, and slow ------------------------------------------------------------------------------------

    def _look_for_sleep(self, now: float, asleep: float) -> Iterator[Incident]:
        if _alarm_is_set():
            return
        codes = codes_of_threads()
        waits = []
        for ident, code in codes.items():
            if ident in self._ignored:
                continue
            wait = self._innermost(ident)
            if wait is None and _is_idle_worker(code):
                continue
            if wait is None or age(wait, now) < asleep:
                self._asleep = frozenset()
                return
            waits.append(wait)
        key = frozenset(map(_number, waits))
        if not key or key in self._reported:
            return
        if key != self._asleep:
            self._asleep = key  # the next look decides
            return
        if self._ask(key, waits, waits) is None:
            return
        self._reported[key] = None
        waits.sort(key=lambda wait: (wait.ident != threading.main_thread().ident, wait.since))
        threads = _threads({wait: self._holders(wait, codes) for wait in waits}, now)
        yield Incident(
            ASLEEP,
            f"all {len(threads)} threads wait without a limit, so that none can wake another"
            if len(threads) > 1
            else "the only thread waits without a limit, so that no other can wake it",
            threads,
            "find out which thread should have woken the first of them, and why it ended or waits itself; give waits a "
            "timeout",
            ["only a signal or code in C could wake one"],
        )

    def _look_for_slow(self, waits: Sequence[Waiting], now: float, slow: float) -> Iterator[Incident]:
        for wait in waits:
            if age(wait, now) < slow or _number(wait) in self._slow:
                continue
            if isinstance(wait, Blocked) and not isinstance(wait.target, AwaitedTasks):
                self._slow.add(wait.number)
                holders = self._holders(wait, codes_of_threads())
                yield Incident(
                    SLOW,
                    f"a {'task' if wait.ident < 0 else 'thread'} has waited for more than {slow:g} s",
                    _threads({wait: holders}, now),
                    "shorten what is done while that is held, or raise the limit",
                    notes=_stack_lines(holders, wait),
                )

    def _holders(self, wait: Waiting, codes: dict[int, CodeType]) -> list[Holding]:
        up_to: UpTo = guarded(None, wait.up_to)
        if up_to is None:
            return []
        named = (up_to,) if isinstance(up_to, int) else up_to.members()
        idents = dict.fromkeys(each for each in named if isinstance(each, int))  # a thread may hold several permits
        words = "" if _lock_of(wait) is not None else _words_of(wait)
        return [Holding(ident, self._is_alive(ident, codes), words=words) for ident in list(idents)[:10]]

    def _is_alive(self, ident: int, codes: dict[int, CodeType]) -> bool:
        # A thread of the watch may have the ident of a thread that ended.
        return ident < 0 or (ident in codes and ident not in self._ignored)


def _lock_of(wait: Waiting) -> object:
    """The lock that a wait is for, if it is for an observed lock."""
    target = wait.target if isinstance(wait, Blocked) else None
    if isinstance(target, TaskLock):
        return target.lock()
    return target if isinstance(target, (ObservedLock, ObservedRLock)) else None


def _threads(found: dict[Waiting, list[Holding]], now: float) -> list[WaitingThread]:
    """Describe waits and the threads that could end them. Only a report holds frames (see `codes_of_threads`)."""
    stacks = with_frames(
        lambda frames: [
            summaries(wait.stack) if isinstance(wait, TaskWait) else stack_of(wait.ident, frames) for wait in found
        ]
    )
    return [
        WaitingThread(wait, age(wait, now), holders, stack)
        for (wait, holders), stack in zip(found.items(), stacks, strict=True)
    ]


def _place(stack: tuple[FrameSummary, ...]) -> tuple[str, int]:
    own = programs_own(stack) or stack
    return (own[-1].filename, own[-1].lineno or 0) if own else ("", 0)


def _summary(core: Sequence[Waiting]) -> str:
    kinds = {wait.ident < 0 for wait in core}
    what = "thread" if kinds == {False} else "task" if kinds == {True} else "thread and task"
    if len(core) == 1:
        return f"1 {what} waits for itself, and can never go on"
    return f"{len(core)} {what.replace(' and ', 's and ')}s wait for each other, and can never go on"


def _stack_lines(holders: Sequence[Holding], wait: Waiting) -> list[str]:
    """Describe where the holders are, except the waiting thread itself, whose stack is in the report anyway."""
    shown = [each for each in holders if each.is_alive and each.ident >= 0 and each.ident != wait.ident]
    stacks = with_frames(lambda frames: [stack_of(each.ident, frames) for each in shown])
    return [
        line
        for holder, stack in zip(shown, stacks, strict=True)
        for line in (f"Thread {holder.thread!r} is here:", *say_stack(stack))
    ]


def _is_for(wait: Blocked, locks: Sequence[object]) -> bool:
    return any(wait.target is lock for lock in locks)


def _words_of(wait: Waiting) -> str:
    node = wait.node
    if isinstance(node, Awaited):
        return guarded("", lambda: node.why(thread_name))
    if isinstance(wait, Blocked):
        if isinstance(wait.target, (ThreadEnd, ProgramsEnd, AwaitedTasks)):
            return "which has not ended"
        if isinstance(wait.target, ModuleImport):
            return "which is importing it"
        if isinstance(wait.target, FutureResult):
            return "which runs that task"
        if isinstance(wait.target, Notification) and wait.target.future is not None:
            return "which runs it"
    return ""


def _advice(core: Sequence[Waiting], *, over_await: bool) -> str:
    targets = [wait.target for wait in core if isinstance(wait, Blocked)]
    if any(isinstance(each, Notification) and loop_that_brings(each.future) is not None for each in targets):
        return (
            "in the thread of a loop await the coroutine itself; from elsewhere wait for it without a lock that the "
            "loop's thread may want"
        )
    if over_await:
        if any(isinstance(each, (ObservedLock, ObservedRLock)) for each in targets):
            return (
                "hold no lock of threading over an await: release it before, or use asyncio.Lock between tasks and "
                "no lock at all over `await asyncio.to_thread(...)`"
            )
        if len(core) == 1:
            return "an asyncio.Lock can't be taken again by the task that has it: let one function take it"
        return (
            "take the locks in the same order in all tasks, and do not await a task under a lock that it needs; a "
            "timeout, `async with asyncio.timeout(...)`, would end the wait"
        )
    if len(core) == 1 and isinstance(targets[0] if targets else None, ObservedLock):
        return (
            "use threading.RLock if one thread takes the lock again; in a signal handler or `__del__` take no lock "
            "that the interrupted code may hold: set a flag, or use queue.SimpleQueue"
        )
    if any(isinstance(each, Notification) for each in targets):
        return (
            "let no task wait for another one of its own pool: give the inner tasks a pool of their own, or let the "
            "caller wait"
        )
    if any(isinstance(each, ModuleImport) for each in targets):
        return "do not wait for a thread while a module is imported: start it from a function that is called afterwards"
    if any(isinstance(each, (ThreadEnd, ProgramsEnd)) for each in targets):
        return "release the lock before joining the thread that needs it"
    return _ORDER_ADVICE


def _is_idle_worker(code: CodeType | None) -> bool:
    return code is pool_threads._worker.__code__


def _alarm_is_set() -> bool:
    timers = [
        getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name)
    ]
    return any(signal.getitimer(timer)[0] > 0 for timer in timers)
