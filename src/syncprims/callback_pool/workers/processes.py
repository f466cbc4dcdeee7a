"""`ProcessWorkers`: a standard process executor that is replaced when it breaks, fed from a queue of the pool's own."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from typing import Any

from ..._core.clock import monotonic
from ..._core.deadline import Deadline
from ..._core.foreign import chain, error_words
from ..cpython.no_threads_at_exit_in_312 import THREADS_EARLY, start_executors_threads
from ..job import Job
from ..own_threads import HelperThread
from ..travel.envelope import portable, run_packed
from ..travel.main_module import GUARD, check_frozen, check_guard, main_source
from ..travel.surroundings import Surroundings
from .backend import Backend, Options, not_up
from .borrowed import deliver
from .crew import Crew, Plan

# Only one thread, the feeder, talks to the executor. It is never the main thread, so no signal splits a submission;
# and it is not the executor's own thread, which from 3.13 on calls done-callbacks with the lock that `submit` takes.
# The executor is handed many tasks ahead, so that no worker waits for the feeder, which wakes rarely; whether a
# task has really begun, the start board tells. When the executor breaks, tasks that had not begun are handed to its
# successor; those that had begun, or of which that can't be told, fail. Where none ever began, twice, the workers can't
# start at all, and all fail.
#
# The feeder also sees the last executor out, once there is nothing left to do: it gives the workers their grace, and
# kills those that have not ended then (a task has left a thread there, say). So nobody needs to wait for that, and the
# program's exit finds nothing that it would wait for without end.

_SLICE = 0.5  # seconds between two looks whether the feeder is still there
_KILLING = 2.0  # seconds that `kill` gives the feeder to notice


class ProcessWorkers(Backend):
    """Worker processes for packed calls.

    **Thread safety**: all methods may be called from any thread. No mutex: the queues and the dict of handed tasks are
    C, each with one consumer.
    """

    packs = True
    fate = "its result will be dropped, and its process is killed when the pool ends or all processes are stuck"
    rest: float = 0.001

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        check_frozen(self._name)
        self._max_workers = options.max_workers
        self._dumps_blob = portable(options.dumps)
        self._flush = options.flush
        # Refilled when half empty: the feeder wakes for many tasks, and no worker waits for it.
        self._window = max(8 * self._max_workers, 128)
        self._low = self._window // 2
        self._around = Surroundings()
        self._plan = Plan(
            name=self._name,
            max_workers=options.max_workers,
            tasks=self._window,
            start_call=(options.initializer, options.initargs),
            dumps=options.dumps,
            main=main_source(),
            around=self._around,
            grace=options.grace,
        )
        self._queue: deque[Job[Any]] = deque()
        self._again: deque[Job[Any]] = deque()
        # By hand-over, not by task: a task may be handed over again before its first inner future is through.
        self._handed: dict[object, Job[Any]] = {}
        self._kicks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._feeder = HelperThread(f"{self._name}-feeder")
        self._kicked = False
        self._stopped = False
        # Written by the feeder only:
        self._threads_are_up = False
        self._crew: Crew | None = None
        self._leaving: list[Crew] = []

    def start(self, job: Job[Any]) -> None:
        """Queue the task, and wake the feeder if there may be a worker for it."""
        if not self._feeder.started:
            check_guard(self._name)
        self._feeder.ensure(_serve, self._kicks)
        if THREADS_EARLY and not self._threads_are_up:
            self._await_threads()
        self._queue.append(job)
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
                start_executors_threads(self._hire().executor)
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
            self._retire()
            self._kicks.put(None)

    def _hand(self, job: Job[Any]) -> None:
        if job.done():
            return
        crew = self._crew
        ticket = object()
        try:
            if crew is None or crew.broken:
                crew = self._hire()
            crew.post(job)
            assert isinstance(job.carrier, bytes)
            self._handed[ticket] = job
            inner = crew.submit(run_packed, job.carrier, self._dumps_blob, crew.address, job.course.slot, self._flush)
        except BrokenExecutor:
            assert crew is not None
            crew.broken = True
            self._again.appendleft(job)
            self._handed.pop(ticket, None)
        except BaseException as error:  # noqa: BLE001  the feeder must live; the task gets whatever it is
            self._handed.pop(ticket, None)
            job.fail(error)
            if crew is not None:
                # It may have started processes and not the thread that ends them: exit would wait for them forever.
                crew.broken = True
                crew.dismiss(kill=True)
        else:
            crew.custody.prepare(inner)
            job.course.hand_to(inner)
            if job.timeout is not None:
                self._timer.watch(job, self)
            inner.add_done_callback(partial(self._done, ticket, job, crew))
            if crew.custody.take(inner):
                crew.broken = True
            if job.cancelled():  # while it had no inner future to cancel
                inner.cancel()

    def _hire(self) -> Crew:
        self._dismiss()
        for crew in [crew for crew in self._leaving if crew.gone()]:
            self._leaving.remove(crew)
            crew.see_out()
        crew = self._crew = Crew(self._plan)
        return crew

    def _dismiss(self) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            self._leaving.append(crew)
            # A job may be done and still among the handed ones, for a moment.
            crew.dismiss(kill=bool(self._stuck) or not all(job.done() for job in list(self._handed.values())))

    def _retire(self) -> None:
        """Dismiss the last crew, and see all of them out."""
        self._dismiss()
        for crew in list(self._leaving):
            crew.see_out()
            self._leaving.remove(crew)
        self._around.forget()

    def _done(self, ticket: object, job: Job[Any], crew: Crew, inner: Future[bytes]) -> None:
        crew.custody.give_back(inner)
        began = crew.withdraw(job)
        self._stuck.discard(job)
        error = deliver(job, inner)
        if error is not None and not job.done():
            self._failed(job, inner, crew, began, error)
        job.course.hand_back(inner)
        self._handed.pop(ticket, None)
        if self._again or self._stopped or (self._queue and len(self._handed) <= self._low):
            self._kick()

    def _failed(
        self, job: Job[Any], inner: Future[bytes], crew: Crew, began: bool | None, error: BaseException
    ) -> None:
        if not isinstance(error, BrokenExecutor):
            job.fail(error)
            return
        crew.broken = True
        if began is False and ((proved := crew.proved(list(self._handed.values()))) or not job.retried):
            # Where a task had begun, it was that one's doing: each round takes one such task away, so it ends.
            job.retried = not proved
            job.course.hand_back(inner)  # before it is handed over again
            self._again.append(job)
            return
        died = self._obituary(job, crew, began, error)
        job.fail(died)
        if began is False:
            self._fail_queued(died)

    def _obituary(self, job: Job[Any], crew: Crew, began: bool | None, error: BrokenExecutor) -> BaseException:
        """Return the error of a task that went down with a worker."""
        kind = type(error)
        if began:
            return chain(
                kind(
                    f"a worker process of {self._name!r} died (killed, crashed or exited) while {job.label} ran; "
                    "tasks that had not begun go on in new processes"
                ),
                error,
            )
        if (failure := crew.failure()) is not None:
            what, cause = failure
            return chain(kind(_not_started(self._name, what, cause)), cause)
        if began is None:
            what = (
                f"a worker process of {self._name!r} died (killed, crashed or exited). Whether {job.label} had begun "
                "can't be told, as there was no room for the memory that says so; it is not run again"
            )
        else:
            place = "its initializer" if crew.began_its_initializer() else "the interpreter's start"
            what = (
                f"the worker processes of {self._name!r} died twice before {job.label} could begin, during {place}: "
                "were they killed, or does that end the process?"
            )
        return chain(kind(what), error)

    def _fail_queued(self, error: BaseException) -> None:
        """Fail what waits: two executors in a row could not begin a single task (a failing initializer, mostly)."""
        while self._queue:
            try:
                self._queue.popleft().fail(error)
            except IndexError:  # the feeder was quicker
                return

    def abandon(self, job: Job[Any]) -> None:
        """Count the task's process as lost; replace all of them when all are."""
        super().abandon(job)
        if self._stopped:
            self._kick()
        elif len(self._stuck) >= self._max_workers:
            self._kicks.put(self._replace)

    def _replace(self) -> None:
        """Kill workers that are all stuck in expired tasks: nothing else could ever run."""
        if len(self._stuck) >= self._max_workers:
            self._dismiss()

    # -- the end -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let the processes end after what they run; the feeder sees to it."""
        self._stopped = True
        for crew in self._crews():
            crew.call_off()
        if self._feeder.started:
            self._kick()

    def finish(self, deadline: Deadline) -> list[str]:
        """Kill the workers that still run something, and wait for the others' end; return which have not ended."""
        if not self._feeder.started:
            self._around.forget()
            return []
        self._kicks.put(self._retire)
        self._kicks.put(None)
        if self._feeder.thread is not None:
            self._feeder.thread.join(deadline.remaining())
            if not self._feeder.over():
                return [each for crew in self._crews() for each in crew.left()] or ["the thread that starts workers"]
            _forget(self._kicks)
        return []

    def kill(self) -> None:
        """Cancel what runs, and kill all processes."""
        self._stopped = True
        crews = self._crews()
        for crew in crews:
            crew.call_off()
        for job in list(self._handed.values()):
            job.cancel()
        for crew in crews:
            crew.broken = True
            crew.force()
        self.finish(Deadline(_KILLING))

    def starting(self) -> list[str]:
        """The workers that are in their start, if none has come through it."""
        crew = self._crew
        return [] if crew is None or crew.is_up() else crew.left()

    def give_up_start(self, patience: float) -> float:
        """Fail what waits for workers none of which has come up in that time."""
        crew = self._crew
        if crew is None or crew.is_up():
            return patience
        waited = monotonic() - crew.hired
        if waited < patience:
            return patience - waited
        error = BrokenExecutor(not_up(self._name, waited))
        self._fail_queued(error)
        for job in [*list(self._again), *list(self._handed.values())]:
            job.fail(error)
        crew.broken = True
        crew.force()
        return patience

    def after_fork(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._around.forget()
        for crew in self._crews():
            crew.forget()

    def _crews(self) -> list[Crew]:
        return [crew for crew in (self._crew, *list(self._leaving)) if crew is not None]


def _not_started(pool_name: str, what: str, error: BaseException) -> str:
    """Return the words for what a worker has reported as the cause that it could not start."""
    said = error_words(error)
    if what == "initializer":
        return f"the initializer of {pool_name!r} raised {said}; no worker could start"
    if what == "unpickling":
        return f"the initializer of {pool_name!r} can't be unpickled in its worker processes: {said}"
    guard = "" if GUARD in said else f". Does it start work without its guard, {GUARD}?"
    return f"the main module can't be imported in the worker processes of {pool_name!r}: {said}{guard}"


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
