"""`ProcessWorkers`: a standard process executor that is replaced when it breaks, fed from a queue of the pool's own."""

from __future__ import annotations

import sys
from _queue import Empty, SimpleQueue
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._core.deadline import Deadline
from ..helper_thread import HelperThread
from ..task import Task
from ..travel.envelope import run_packed
from .backend import Backend
from .borrowed import deliver
from .crew import Crew

if TYPE_CHECKING:
    from .crew import MakeExecutor

# Only one thread, the feeder, talks to the executor. It is never the main thread, so no signal splits a submission;
# and it is not the executor's own thread, which from 3.13 on calls done-callbacks with the lock that `submit` takes.
# The executor is handed many tasks ahead, so that no worker waits for the feeder, which wakes rarely; whether a
# task has really begun, the start board tells. When the executor breaks, tasks that had not begun are handed to its
# successor; those that had begun fail. Where none ever began, twice, the workers can't start at all, and all fail.
#
# At its exit, 3.12 starts no thread any more, and the executor and its queue need three. So there the first submission
# waits until they are up, lest a program that ends right after it lose its tasks.

_THREADS_EARLY = sys.version_info[:2] == (3, 12)
_SLICE = 0.5  # seconds between two looks whether the feeder is still there


class ProcessWorkers(Backend):
    """Worker processes for packed calls.

    **Thread safety**: all methods may be called from any thread. No mutex: the queues and the dict of handed tasks are
    C, each with one consumer.
    """

    packs = True
    fate = "its result will be dropped, and its process is killed when the pool ends or all processes are stuck"
    rest: float = 0.001

    def __init__(
        self, name: str, max_workers: int, make: MakeExecutor, *, dumps_blob: bytes | None, flush: bool
    ) -> None:
        super().__init__()
        self._name = name
        self._max_workers = max_workers
        self._make = make
        self._dumps_blob = dumps_blob
        self._flush = flush
        # Refilled when half empty: the feeder wakes for many tasks, and no worker waits for it.
        self._window = max(8 * max_workers, 128)
        self._low = self._window // 2
        self._queue: deque[Task[Any]] = deque()
        self._again: deque[Task[Any]] = deque()
        # By hand-over, not by task: a task may be handed over again before its first inner future is through.
        self._handed: dict[object, Task[Any]] = {}
        self._kicks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._feeder = HelperThread(f"{name}-feeder", _serve, self._kicks)
        self._kicked = False
        self._stopped = False
        # Written by the feeder only:
        self._threads_are_up = False
        self._crew: Crew | None = None
        self._leaving: Crew | None = None

    def start(self, task: Task[Any]) -> None:
        """Queue the task, and wake the feeder if there may be a worker for it."""
        self._feeder.ensure()
        if _THREADS_EARLY and not self._threads_are_up:
            self._await_threads()
        self._queue.append(task)
        if len(self._handed) <= self._low:
            self._kick()

    def _await_threads(self) -> None:
        gate = allocate_lock()
        gate.acquire()
        self._kicks.put(partial(self._start_threads, gate.release))
        while not gate.acquire(timeout=_SLICE):
            if self._feeder.over():
                return  # an abort was quicker

    def _start_threads(self, done: Callable[[], object]) -> None:
        try:
            if not self._threads_are_up:
                # A call that goes through all of them; if it fails, the next ones will say so.
                self._hire().executor.submit(abs, 0).exception()
        except BaseException:  # noqa: BLE001  the feeder must live, also where the program ends meanwhile
            if self._crew is not None:
                self._crew.broken = True
                self._crew.dismiss(kill=True)  # as in _hand
        finally:
            self._threads_are_up = True
            done()

    def _kick(self) -> None:
        if not self._kicked:
            self._kicked = True
            self._kicks.put(self._feed)
            if self._feeder.over():
                _forget(self._kicks)  # else it holds these workers, and their last crew's descriptors

    def _feed(self) -> None:
        self._kicked = False  # before looking, so that what comes after the look kicks again
        while len(self._handed) < self._window and (self._again or self._queue):
            self._hand((self._again or self._queue).popleft())
        if self._stopped and not self._queue and not self._again and len(self._handed) <= len(self._stuck):
            self._dismiss()
            self._kicks.put(None)

    def _hand(self, task: Task[Any]) -> None:
        if task.done():
            return
        crew = self._crew
        ticket = object()
        try:
            if crew is None or crew.broken:
                crew = self._hire()
            crew.post(task)
            assert isinstance(task._call, bytes)
            self._handed[ticket] = task
            inner: Future[bytes] = crew.executor.submit(
                run_packed, task._call, self._dumps_blob, crew.path, task._slot, self._flush
            )
        except BrokenExecutor:
            assert crew is not None
            crew.broken = True
            self._again.appendleft(task)
            self._handed.pop(ticket, None)
        except BaseException as error:  # noqa: BLE001  the feeder must live; the task gets whatever it is
            self._handed.pop(ticket, None)
            task._fail(error)
            if crew is not None:
                # It may have started processes and not the thread that ends them: exit would wait for them for ever.
                crew.broken = True
                crew.dismiss(kill=True)
        else:
            crew.custody.prepare(inner)
            task._inner = inner
            if task._timeout is not None:
                task._pool._timer.watch(task)
            inner.add_done_callback(partial(self._done, ticket, task, crew))
            if crew.custody.take(inner):
                crew.broken = True
            if task.cancelled():  # while it had no inner future to cancel
                inner.cancel()

    def _hire(self) -> Crew:
        self._dismiss()
        crew = self._crew = Crew(self._make)
        return crew

    def _dismiss(self) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            self._leaving = crew
            crew.dismiss(kill=bool(self._stuck or self._handed))

    def _done(self, ticket: object, task: Task[Any], crew: Crew, inner: Future[bytes]) -> None:
        crew.custody.give_back(inner)
        began = crew.withdraw(task)
        self._stuck.discard(task)
        error = deliver(task, inner)
        if error is not None and not task.done():
            self._failed(task, crew, began, error)
        if task._inner is inner:
            task._inner = None  # whose callback holds task and crew: a task that is kept must not keep those
        self._handed.pop(ticket, None)
        if self._again or self._stopped or (self._queue and len(self._handed) <= self._low):
            self._kick()

    def _failed(self, task: Task[Any], crew: Crew, began: bool, error: BaseException) -> None:
        if not isinstance(error, BrokenExecutor):
            task._fail(error)
            return
        crew.broken = True
        if began:
            what = (
                f"a worker process of {self._name!r} died (killed, crashed or exited) while {task._label} ran; "
                "tasks that had not begun go on in new processes"
            )
        elif (proved := crew.proved(list(self._handed.values()))) or not task._retried:
            # Where a task had begun, it was that one's doing: each round takes one such task away, so it ends.
            task._retried = not proved
            task._inner = None
            self._again.append(task)
            return
        else:
            what = (
                f"the worker processes of {self._name!r} died twice before {task._label} could begin: does "
                "the initializer fail, or does the main module start work without its __main__ guard?"
            )
        died = type(error)(what)
        died.__cause__ = error
        task._fail(died)
        if not began:
            self._fail_queued(died)

    def _fail_queued(self, error: BaseException) -> None:
        """Fail what waits: two executors in a row could not begin a single task (a failing initializer, mostly)."""
        while self._queue:
            try:
                self._queue.popleft()._fail(error)
            except IndexError:  # the feeder was quicker
                return

    def abandon(self, task: Task[Any]) -> None:
        """Count the task's process as lost; replace all of them when all are."""
        super().abandon(task)
        if self._stopped:
            self._kick()
        elif len(self._stuck) >= self._max_workers:
            self._kicks.put(self._replace)

    def _replace(self) -> None:
        """Kill workers that are all stuck in expired tasks: nothing else could ever run."""
        if len(self._stuck) >= self._max_workers:
            self._dismiss()

    def stop(self) -> None:
        """Let the processes end after what they have; the feeder sees to it."""
        self._stopped = True
        if self._feeder.started:
            self._kick()

    def finish(self, deadline: Deadline) -> None:
        """Kill the workers that still run something, and wait for the others' end."""
        if not self._feeder.started:
            return
        self._kicks.put(self._dismiss)
        self._kicks.put(None)
        if self._feeder.thread is not None:
            self._feeder.thread.join(deadline.remaining())
            if self._feeder.over():
                _forget(self._kicks)
        if self._leaving is not None and self._leaving.join(deadline):
            self._leaving = None  # lest a task that is kept keep its descriptors


def _serve(kicks: SimpleQueue[Callable[[], object] | None]) -> None:
    while (kick := kicks.get()) is not None:
        kick()
        del kick  # while idle, the thread keeps no pool alive
    _forget(kicks)


def _forget(kicks: SimpleQueue[Callable[[], object] | None]) -> None:
    try:
        while True:
            kicks.get_nowait()
    except Empty:
        pass
