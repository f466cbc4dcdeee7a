"""A crew: one standard process executor with its start board, and how to end it even when a worker is stuck."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import _ThreadWakeup
from typing import TYPE_CHECKING, Any

from ..._core.deadline import Deadline
from ..cpython.forgotten_futures_before_312 import Custody, end
from ..task import Job
from ..travel.main_module import WithMain
from ..travel.start_board import make_board

if TYPE_CHECKING:
    from threading import Thread

# Before 3.12 nothing keeps `submit` from starting a process while the executor breaks, out of pipes that are just being
# closed. That fails the task that was submitted, and a fork server in the midst of it dies, which every pool of the
# program has to suffer. So there all processes start with the first task.
_ALL_AT_ONCE = sys.version_info < (3, 12)

MakeExecutor = Callable[[], ProcessPoolExecutor]


class Crew:
    """An executor's life: hired, proved once any task began, broken when a worker died, dismissed in the end."""

    def __init__(self, make: MakeExecutor) -> None:
        self._board = make_board()
        self.path: str | None = None if self._board is None else self._board.path
        self.executor: ProcessPoolExecutor = make()
        ring_once(self.executor)
        self._manager: Thread | None = None
        self._proved = False
        self.broken: bool = False
        self.custody: Custody = Custody(self.executor)

    def post(self, job: Job[Any]) -> None:
        """Give the job a place on the start board."""
        if self._board is not None:
            job.take_slot(self._board)

    def withdraw(self, job: Job[Any]) -> bool:
        """Take the job off the board; return whether its call had begun."""
        if self._board is None:
            return True  # that can't be known, and what has begun must not run twice
        began = job.give_slot_back()
        self._proved = self._proved or began
        return began

    def proved(self, jobs: Iterable[Job[Any]]) -> bool:
        """Whether any task ever began in this crew, those included."""
        return self._proved or any(job.is_on(self._board) and job.running_since() is not None for job in jobs)

    def dismiss(self, *, kill: bool) -> None:
        """Shut the executor down without waiting; kill its processes if one of them would never end by itself."""
        self._manager = getattr(self.executor, "_executor_manager_thread", None)  # gone after the shutdown
        end(self.executor, kill=kill)

    def join(self, deadline: Deadline) -> bool:
        """Wait for the dismissed executor's processes to end; False if the time is up."""
        if self._manager is None:
            return True
        self._manager.join(deadline.remaining())
        return not self._manager.is_alive()


# Each `submit` wakes the executor's own thread through a pipe, busy or not, and before each look at its work that
# thread asks the pipe whether there is more in it, with a new selector each time. Together they are a fifth of what a
# small task costs. Nothing is lost by ringing once: work is put down before the bell, and looked for after `clear`.
#
# The reader must be drained before the flag falls. A bell that rings in between finds the flag up, and its work is
# seen by the look that follows; one that has put the flag up and not written yet is heard a round later.


class _Doorbell(_ThreadWakeup):
    _rung = False

    def wakeup(self) -> None:
        if not self._rung:
            self._rung = True
            super().wakeup()

    def clear(self) -> None:
        try:
            os.read(self._reader.fileno(), 4096)
        except BlockingIOError:  # a result woke the thread
            pass
        self._rung = False


def ring_once(executor: ProcessPoolExecutor) -> None:
    """Spare the executor needless wakeups; to be called before its first task."""
    if os.name == "posix":
        bell = executor._executor_manager_thread_wakeup
        os.set_blocking(bell._reader.fileno(), False)
        bell.__class__ = _Doorbell


def process_executor_maker(
    max_workers: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> MakeExecutor:
    """Return what makes the standard process executor, by any start method but ``fork``."""
    import multiprocessing

    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    setup: Any = WithMain((initializer, initargs))  # what arrives is the tuple

    def make() -> ProcessPoolExecutor:
        executor = ProcessPoolExecutor(max_workers, mp_context=context, initializer=prepare_worker, initargs=(setup,))
        if _ALL_AT_ONCE:
            executor._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]  # typeshed lacks it
        return executor

    return make


def prepare_worker(setup: tuple[Callable[..., object] | None, tuple[Any, ...]]) -> None:
    """Set up a worker process: Ctrl-C is the parent's business, and the parent's death is the worker's."""
    import signal
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="syncprims-parent-watch", daemon=True).start()
    initializer, initargs = setup
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait
    from os import _exit

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        _exit(1)
