"""The end of a pool: when its tasks have ended, at once, or with the program."""

from __future__ import annotations

import gc
from contextlib import suppress
from logging import WARNING
from typing import Any

from .._core.clock import monotonic
from .._core.deadline import Deadline
from .._core.foreign import log
from .._core.gil import HAS_GIL
from .._core.report import attach_report
from .._core.waits import wait_visibly
from ..errors import DeadlockError, PoolClosedError, PoolTimeoutError
from .dispatcher import Dispatcher
from .job import Open
from .own_threads import role_in
from .task import Task
from .timeouts import Timer
from .unseen_errors import UnseenErrors
from .workers.backend import Backend

_ABORT_PATIENCE = 2.0  # seconds that `abort` gives the callbacks of cancelled tasks
_MORE_THAN_GRACE = 5.0  # seconds that the interpreter's exit gives a backend to end workers after their grace
_STARTS = 4  # times the grace: the exit gives workers this long for their start; other waits warn after it


class _SlowStart:
    """A wait without a timeout for a pool whose workers have not finished their start: it warns after a while."""

    def __init__(self, open_tasks: Open, backend: Backend, patience: float) -> None:
        self._open_tasks = open_tasks
        self._backend = backend
        self._patience = patience

    def done(self) -> bool:
        """Whether there is nothing to report."""
        return not self._open_tasks.jobs or not self._backend.starting()

    def expire(self) -> None:
        """Log it."""
        log(
            WARNING,
            f"{self._open_tasks.name!r} has waited {self._patience:g} s for the end of its tasks, and no worker has "
            f"come through its start: {'; '.join(self._backend.starting())}. It waits on; close it with a timeout, or "
            "terminate() it",
        )


class Ending:
    """The ways in which one pool ends.

    **Thread safety**: all methods may be called from any thread.
    """

    def __init__(
        self,
        open_tasks: Open,
        backend: Backend,
        dispatcher: Dispatcher,
        timer: Timer,
        unseen: UnseenErrors,
        grace: float | None,
    ) -> None:
        self._open_tasks = open_tasks
        self._backend = backend
        self._dispatcher = dispatcher
        self._unseen = unseen
        self._timer = timer
        self._grace = grace
        self._slow_start: _SlowStart | None = None

    # -- when its tasks have ended -----------------------------------------------------------------------------------

    def refuse_inside(self, method: str) -> None:
        """Raise in a callback or a task of the pool, which must not wait for the pool; and in a forked child."""
        self._open_tasks.check_fork()
        role = role_in(self._open_tasks)
        if role is not None:
            raise DeadlockError(
                f"{method} of {self._open_tasks.name!r} was called by a {role} of the same pool, so it would wait for "
                "itself; call it outside"
            )

    def await_idle(self, deadline: Deadline) -> None:
        """Block until no task is open; an interrupt aborts the pool.

        Raises:
            PoolTimeoutError: The time was up.
        """
        try:
            if deadline.timeout is None:
                self._watch_start()
            idle = self._open_tasks.await_idle(deadline)
        except DeadlockError:  # the wait did not happen
            raise
        except BaseException:
            self.abort()
            raise
        if not idle:
            raise self._late(deadline)

    def _watch_start(self) -> None:
        # The timer does this. If the wait itself gave up now and then, it would take no part in the search for
        # deadlocks.
        if self._grace and self._slow_start is None and self._backend.starting():
            self._slow_start = _SlowStart(self._open_tasks, self._backend, _STARTS * self._grace)
            with suppress(RuntimeError):  # if no thread can be started for the timer
                self._timer.prepare()
                self._timer.watch_until(monotonic() + _STARTS * self._grace, self._slow_start)

    def _late(self, deadline: Deadline) -> PoolTimeoutError:
        jobs = list(self._open_tasks.jobs.values())
        running = [job.label for job in jobs if job.running()]
        facts = [f"{len(jobs)} pending"]
        if running:
            facts.append(f"running: {', '.join(running[:3])}{', …' if len(running) > 3 else ''}")
        starting = self._backend.starting()
        if starting:
            facts.append(f"no worker has come through its start: {', '.join(starting)}")
        settling = self._dispatcher.settling
        if settling is not None:
            facts.append(f"the callback of {settling} has not ended")
        why = self._open_tasks.why_not_idle() if deadline.timeout else ""
        error = PoolTimeoutError(
            f"waited {deadline.waited():.1f} s for {self._open_tasks.name!r}: {'; '.join(facts)}. "
            f"{why or 'Wait again, or abort()'}",
            pending=len(jobs),
            timeout=deadline.timeout,
            waited=deadline.waited(),
        )
        attach_report(error)
        return error

    def await_end(self, deadline: Deadline) -> None:
        """After `OpenTasks.close`: block until no task is open and the workers have ended.

        Raises:
            PoolTimeoutError: The time was up.
        """
        self.await_idle(deadline)
        self._dispatcher.stop_if_over()
        left = self._await_workers(deadline)
        if left:
            raise PoolTimeoutError(
                f"waited {deadline.waited():.1f} s for {self._open_tasks.name!r}: its tasks are done, but not over is: "
                f"{'; '.join(left)}. Close it again to continue waiting, or call terminate()",
                pending=0,
                timeout=deadline.timeout,
                waited=deadline.waited(),
            )

    def _await_workers(self, deadline: Deadline) -> list[str]:
        return wait_visibly(
            self._open_tasks, "the end of its workers", deadline.timeout, self._backend.finish, deadline
        )

    def collect_unseen(self, deadline: Deadline, *, for_good: bool) -> UnseenErrors:
        """Return all errors that no code has looked at; with `for_good`, later ones are logged."""
        if self._unseen.watched:
            # A task that no code refers to goes away as soon as the dispatcher has finished with it, and not earlier.
            self._unseen.watched = False
            self._dispatcher.catch_up(deadline)
            if not HAS_GIL:
                # Without the GIL an object is destroyed when the thread that made it runs next; the garbage collector
                # does not wait for that.
                gc.collect()
        if for_good:
            self._unseen.close()
        return self._unseen

    # -- at once -----------------------------------------------------------------------------------------------------

    def abort(self) -> list[Task[Any]]:
        """Cancel the tasks that have not begun, give their callbacks a moment, and return the running ones."""
        self._open_tasks.check_fork()
        self._open_tasks.abort()
        cancelled = [job for job in list(self._open_tasks.jobs.values()) if job.task.cancel()]
        self._backend.stop()
        if role_in(self._open_tasks) is None:
            deadline = Deadline(_ABORT_PATIENCE)
            for job in cancelled:
                job.await_settled(deadline)
        self._dispatcher.stop_if_over()
        return [task for task in list(self._open_tasks.jobs) if not task.done()]

    def kill(self) -> list[Task[Any]]:
        """After `abort`: kill the pool's own processes, whose tasks are cancelled; return tasks that run elsewhere."""
        self._backend.kill()
        if role_in(self._open_tasks) is None:
            deadline = Deadline(_ABORT_PATIENCE)
            for job in list(self._open_tasks.jobs.values()):
                if job.done():
                    job.await_settled(deadline)
        self._dispatcher.stop_if_over()
        return [task for task in list(self._open_tasks.jobs) if not task.done()]

    def fork(self) -> None:
        """In a forked child: refuse everything, and drop the parent's resources."""
        self._open_tasks.fork()
        self._backend.after_fork()

    def forget(self) -> None:
        """End a pool without references and open tasks."""
        if not self._open_tasks.is_forked():
            # None of these calls waits for the pool's threads.
            self._open_tasks.close()
            self._dispatcher.stop_if_over()
            self._unseen.close()
            self._unseen.settle_in_log()

    # -- with the program: see at_exit.py ----------------------------------------------------------------------------

    def must_drain(self) -> bool:
        """Whether it has tasks that no abort has given up."""
        open_tasks = self._open_tasks
        return not open_tasks.is_forked() and open_tasks.phase in ("open", "closing", "shut") and bool(open_tasks.jobs)

    def drain(self) -> None:
        """Block until it has no tasks. Tasks whose workers don't finish their start are given up."""
        if self._grace is None:
            self._open_tasks.await_idle(Deadline(None))
            return
        while self.must_drain():
            again = self._backend.give_up_start(_STARTS * self._grace)
            self._open_tasks.await_idle(Deadline(again))

    def end_with_program(self) -> None:
        """Close it. Tasks that an abort left running get an error, so that no thread waits for them forever."""
        if self._open_tasks.is_forked():
            return
        self._open_tasks.close()
        deadline = Deadline(_ABORT_PATIENCE)
        left = list(self._open_tasks.jobs.values())
        for job in left:
            if job.done():  # only its callback has not ended: its worker is not stuck
                continue
            self._backend.abandon(job)
            error = PoolClosedError(f"{job.pool_name!r} was aborted, and the program ends while {job.label} runs")
            if not job.fail(error):
                self._backend.take_back(job)
        for job in left:
            job.await_settled(deadline)
        self._dispatcher.stop_if_over()
        self._await_workers(Deadline(None if self._grace is None else self._grace + _MORE_THAN_GRACE))
        self._backend.kill()  # the workers that have not ended even then
        self.collect_unseen(Deadline(_ABORT_PATIENCE), for_good=True).settle_in_log()
