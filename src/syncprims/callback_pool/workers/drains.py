"""`Drained`: a standard executor of threads that the user passed in; each call that it gets runs many tasks."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from math import inf
from threading import get_ident
from typing import Any, Final, TypeGuard

from ..._core.clock import monotonic
from ..job import Job
from ..own_threads import enter, leave
from .backend import BackendOptions
from .borrowed import Borrowed, busy, crosses_processes

# A future of the executor for each task costs more than the task's own. So tasks wait in a queue of ours, and calls of
# the executor, the drains, wait for them in the queue of the executor. A drain that has its turn runs tasks for about a
# millisecond. Then it ends, and the next drain waits behind the calls of the executor's other users. So those wait for
# us no longer than that, or for one task.
#
# 1. While a task is queued, a drain is due: the executor has not begun it. A submitter first queues the task and *then*
#    checks whether the drains are due. A drain first marks itself as not due and *then* looks for a task. So at least
#    one of the two sees the other.
# 2. If the executor does something to a drain that is due, the queued tasks have to learn of it: the executor was shut
#    down and cancels its calls, or its initializer has failed. So there are as many drains due as there are tasks, or
#    one more than there are workers, because each worker may have begun one and not have sent the next.
# 3. As long as tasks take a millisecond or more, each of them has a drain, and so its place among the calls of others.
#
# The executor begins drains in the order in which they were sent. `_sent` has the last ones, as many as have to be due.
# So if the first of these is due, all are. Two threads may send one at once: one too many does no harm.
#
# Rejected: drains that wait for tasks (the executor has other users); one drain that requeues itself as it ends (while
# it runs no drain is due, so nothing would show that the executor cancels its calls); the same kind of worker for this
# and for the pool's own threads (those wait, and are replaced if a task expires in them, so only the queue is the
# same).

_TURN: Final = 0.001  # seconds


class _Drain:
    """One call of the executor, and whether it is due."""

    __slots__ = ("due",)

    def __init__(self, *, due: bool) -> None:
        self.due: bool = due


class Drained(Borrowed):
    """The threads of a standard executor that the user passed in."""

    _executor: ThreadPoolExecutor

    def __init__(self, executor: ThreadPoolExecutor, options: BackendOptions) -> None:
        super().__init__(executor, False, options)
        self._jobs: deque[Job[Any]] = deque()
        most = executor._max_workers + 1
        self._sent: deque[_Drain] = deque(repeat(_Drain(due=False), most), maxlen=most)
        # Written by each drain after its first task: whether that task has taken the whole turn. A task that waits for
        # the GIL looks long too; the next drain corrects that.
        self._one_each = True

    def start(self, job: Job[Any]) -> None:
        """Queue the task, and send a drain unless enough are due."""
        self._jobs.append(job)
        if self._one_each or not self._sent[0].due or self._executor._shutdown:
            try:
                self._send()
            except BaseException as error:
                try:
                    self._jobs.remove(job)
                except ValueError:  # a drain has taken it nevertheless
                    if isinstance(error, Exception):
                        return
                raise

    def _send(self) -> None:
        drain = _Drain(due=True)
        self._executor.submit(self._drain, drain).add_done_callback(partial(self._over, drain))
        self._sent.append(drain)  # last, because submitters rely on it from now on

    def _sent_another(self) -> bool:
        try:
            self._send()
        except Exception:  # noqa: BLE001  the executor was shut down, or there are no more threads
            return False
        return True

    def _drain(self, drain: _Drain) -> None:
        """Run tasks in a thread of the executor."""
        drain.due = False
        if not self._jobs:
            return
        me = get_ident()
        before = enter(self._open_tasks, "task")
        try:
            self._take_turn(me)
        finally:
            try:
                leave(before)
            finally:
                busy.pop(me, None)

    def _take_turn(self, me: int) -> None:
        jobs, sent, run, now = self._jobs, self._sent, self.run, monotonic
        time = now()
        until = time + _TURN
        first = True
        try:
            for job in iter(jobs.popleft, None):  # an exception from outside must not lose a job: see `serve`
                try:
                    busy[me] = job
                    if jobs and not sent[0].due and not self._sent_another():
                        until = inf  # no other drain may come, so this one runs all tasks
                    run(job, time)
                except BaseException as error:  # noqa: BLE001  only this task shall fail; others wait for this drain
                    job.fail(error)
                if self._stuck:
                    self._stuck.discard(job)
                del job
                time = now()
                late = time >= until
                if first:
                    first, self._one_each = False, late
                if late:
                    return
        except IndexError:  # no task is left
            return

    def _over(self, drain: _Drain, call: Future[None]) -> None:
        """Handle the tasks that a drain has left in the queue."""
        if not drain.due:
            if self._jobs and not self._sent[0].due:  # an exception from outside ended the drain
                self._sent_another()
            return
        drain.due = False
        error = None if call.cancelled() else call.exception()
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:  # another thread has taken the last one
                return
            if error is None:
                job.cancel()
            else:
                job.fail(error)


def has_drains(executor: Executor) -> TypeGuard[ThreadPoolExecutor]:
    """Whether these are standard threads of this interpreter, and no overridden `submit` has to see each task."""
    return (
        isinstance(executor, ThreadPoolExecutor)
        and not crosses_processes(executor)
        and type(executor).submit is ThreadPoolExecutor.submit
        and "submit" not in vars(executor)
        and type(executor._max_workers) is int
    )
