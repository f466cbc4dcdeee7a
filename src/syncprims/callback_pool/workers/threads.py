"""`ThreadWorkers`: the pool's own threads; an endless task can neither starve them nor keep the pool from ending."""

from __future__ import annotations

from _queue import SimpleQueue
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import BrokenExecutor
from logging import WARNING
from threading import Thread, current_thread
from typing import Any

from ..._core.clock import monotonic
from ..._core.deadline import Deadline
from ..._core.foreign import error_words, log
from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock
from ..job import Job
from ..own_threads import enter, why_no_thread
from .backend import Backend, BackendOptions, not_up

# The submitter's path acquires no mutex: it puts the task into a C queue, and takes one token from `_idle`. A token is
# a worker's promise to take one task from the queue. A thread that finds none starts a worker while there may be more.
#
# A token may outlive its promise: a worker that found the queue empty adds a token although a task has just come, and
# takes that task. This is harmless as long as the worker comes back. So whenever a worker is lost, or leaves, all
# tokens are dropped. If there are too few of them, that costs an unnecessary check for room; if there are too many, a
# task may wait without a worker.
#
# A task that expires removes its worker from the count (`abandon`), so another one may start. When the late task ends,
# its worker finds the outcome refused and leaves. It is removed from the count *before* the task is settled: the worker
# must not find its outcome refused while it is still counted.


class ThreadWorkers(Backend):
    """Daemon threads that take tasks from one queue; at most ``max_workers``, not counting stuck ones.

    **Thread safety**: all methods may be called from any thread.
    """

    packs = False
    _leftover = ""  # another reason that may keep a worker from ending
    fate = "its thread can't be stopped, its result will be dropped, and another thread takes its place"

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self._max_workers = options.max_workers
        self._initializer = options.initializer
        self._initargs = options.initargs
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._idle: deque[None] = deque()
        self._mutex = TimedLock(name=InnerName(f"{self._name} workers"))
        # Guarded by _mutex, like _stuck:
        self._threads: set[Thread] = set()
        self._hired = 0
        # Written by each worker for itself: when it began its initializer.
        self._starting: dict[Thread, float] = {}
        self._grace = options.grace
        # Written by `finish`:
        self._patience: Deadline | None = None
        self._left_behind = False

    def start(self, job: Job[Any]) -> None:
        """Queue the task, and start a worker for it if none is idle."""
        self._jobs.put(job)
        if self._idle:  # an exception instead of this test would cost as much as all the rest
            try:
                self._idle.pop()
                return
            except IndexError:
                pass
        if len(self._threads) < self._max_workers + len(self._stuck):
            self._hire()

    def _hire(self) -> None:
        with self._mutex:
            if len(self._threads) >= self._max_workers + len(self._stuck):
                return
            self._hired += 1
            thread = Thread(target=self._work, name=f"{self._name}-worker-{self._hired}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                # The system has no more threads: the present workers have to be enough.
                if len(self._threads) > len(self._stuck):
                    return
                raise RuntimeError(f"the worker {thread.name!r} {why_no_thread(error)}") from error
            self._threads.add(thread)

    def _work(self) -> None:
        # Again, because an interrupt may have kept the starting thread from doing it.
        self._threads.add(current_thread())
        enter(self._open_tasks, "task")
        self._starting[current_thread()] = monotonic()
        broken: BaseException | None = None
        died = True
        try:
            broken = self._employ()
            died = False
        finally:
            self._starting.pop(current_thread(), None)
            with self._mutex:
                self._threads.discard(current_thread())
            # After the room is made: a thread that submits later finds the room, and starts a worker itself.
            if broken is not None:
                self._fail_queued(broken)
            elif died:  # an exception from outside ended it
                self._make_up_for_a_worker()

    def _employ(self) -> BaseException | None:
        """Run tasks until there are no more; an error means that the worker could not start."""
        if self._initializer is not None:
            try:
                self._initializer(*self._initargs)
            except BaseException as error:  # noqa: BLE001  a SystemExit must not end the worker in silence
                return self._broken_by(error)
        self._serve(self.run)
        return None

    def _broken_by(self, error: BaseException) -> BrokenExecutor:
        broken = BrokenExecutor(f"the initializer of {self._name!r} raised {error_words(error)}; no worker could start")
        broken.__cause__ = error
        return broken

    def _fail_queued(self, error: BaseException) -> None:
        from _queue import Empty

        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is None:
                self._jobs.put(None)
                return
            job.fail(error)

    def _serve(self, run: Callable[[Job[Any]], bool]) -> None:
        jobs, idle = self._jobs, self._idle
        self._starting.pop(current_thread(), None)
        if jobs.empty():
            idle.append(None)
        for job in iter(jobs.get, None):  # an exception from outside must not lose a job: see `serve`
            try:
                if not run(job) and self._leave(job):
                    return
            except BaseException as error:  # noqa: BLE001  only this task must fail; the worker has more to do
                job.fail(error)
            del job  # while idle, a worker keeps nothing alive
            if jobs.empty():
                idle.append(None)
        jobs.put(None)  # for the next worker

    def _leave(self, job: Job[Any]) -> bool:
        """Return whether this worker was replaced when its task expired."""
        with self._mutex:
            if job not in self._stuck:
                return False
            self._threads.discard(current_thread())
            self._stuck.discard(job)
        self._make_up_for_a_worker()
        return True

    def abandon(self, job: Job[Any]) -> None:
        """Remove the task's worker from the count, so that another one may start."""
        with self._mutex:
            self._stuck.add(job)
        self._make_up_for_a_worker()

    def _make_up_for_a_worker(self) -> None:
        self._idle.clear()  # before the check: a thread that took a token has already queued its task
        if not self._jobs.empty():
            try:
                self._hire()
            except RuntimeError as error:  # no thread can be started, as at 3.12's exit: waiting tasks could never run
                self._fail_queued(error)

    def takers(self) -> Collection[int | None]:
        """The workers that are not stuck; None if another one may be started, or has not begun."""
        if len(self._threads) < self._max_workers + len(self._stuck):
            return (None,)
        stuck = self._stuck.copy()
        threads = list(self._threads.copy())
        if len(threads) < self._max_workers + len(stuck):
            return (None,)
        lost = {job.worker for job in stuck}
        return [None if self._will_be_free(thread) else thread.ident for thread in threads if thread.ident not in lost]

    def _will_be_free(self, thread: Thread) -> bool:
        return thread.ident is None or self._has_limit(thread.ident)

    def at_work(self) -> Collection[int]:
        """The workers that are neither stuck, nor in their initializer, nor in a task with a limit."""
        lost = {job.worker for job in self._stuck.copy()}
        return [
            thread.ident
            for thread in list(self._threads.copy())
            if thread.ident is not None
            and thread.ident not in lost
            and thread not in self._starting
            and not self._has_limit(thread.ident)
        ]

    def take_back(self, job: Job[Any]) -> None:
        """Add the task's worker to the count again."""
        with self._mutex:
            self._stuck.discard(job)

    def stop(self) -> None:
        """Let each worker end when it finds the queue empty."""
        self._jobs.put(None)

    def finish(self, deadline: Deadline) -> list[str]:
        """Wait for the workers that are not stuck, at most for their grace; that is enough for daemon threads."""
        with self._mutex:
            threads, stuck = list(self._threads), len(self._stuck)
        if stuck:
            return []
        if self._patience is None:
            self._patience = Deadline(self._grace)
        for thread in threads:
            limits = [left for left in (deadline.remaining(), self._patience.remaining()) if left is not None]
            thread.join(min(limits, default=None))
        late = [self._described(thread) for thread in threads if thread.is_alive()]
        if late and self._patience.remaining() == 0:
            if not self._left_behind:
                self._left_behind = True
                why = f"not over after its grace, {self._grace} s"
                log(WARNING, f"{self._name!r} leaves behind {'; '.join(late)}: {why}")
            return []
        return late

    def _described(self, thread: Thread) -> str:
        if thread in self._starting:
            return f"thread {thread.name!r}, whose initializer has not returned"
        return f"thread {thread.name!r}{self._leftover}"

    def starting(self) -> list[str]:
        """The workers that are in their initializer, if all are."""
        starting = dict(self._starting)
        return [self._described(thread) for thread in starting] if self._threads <= starting.keys() else []

    def give_up_start(self, patience: float) -> float:
        """Fail the tasks that wait for workers if none has started in that time."""
        starting = dict(self._starting)
        if not starting or not self._threads <= starting.keys():
            return patience
        waited = monotonic() - max(starting.values())
        if waited < patience:
            return patience - waited
        self._fail_queued(BrokenExecutor(not_up(self._name, waited)))
        return patience
