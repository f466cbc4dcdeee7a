"""A crew: one standard process executor with its start board, and how to end it even when a worker is stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from .._deadline import Deadline
from .executors import make_board
from .task import Task

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from threading import Thread

_BREAKING = 10.0  # seconds for a broken executor to tell its futures, more than it ever needs

MakeExecutor = Callable[[], "ProcessPoolExecutor"]


class Crew:
    """An executor's life: hired, proved once any task began, broken when a worker died, dismissed in the end."""

    def __init__(self, make: MakeExecutor) -> None:
        self._board = make_board()
        self.path: str | None = None if self._board is None else self._board.path
        self.executor: ProcessPoolExecutor = make()
        self._manager: Thread | None = None
        self._proved = False
        self.broken: bool = False
        self.inners: dict[Future[bytes], None] = {}  # what the executor has, to be told when nobody else does

    def post(self, task: Task[Any]) -> None:
        """Give the task a slot on the start board."""
        if self._board is not None:
            task._slot = self._board.take()
            task._board = self._board

    def check(self, inner: Future[bytes]) -> None:
        """Look after a future that was just handed to the executor, as it may have broken at that very moment.

        Before 3.12 the thread that tells all futures of a broken executor takes no lock against `submit`. One that
        comes in later hears nothing; one that comes in meanwhile ends that thread by a changed dict, and more than one
        hears nothing. Both find the executor broken *after* having been handed over.
        """
        self.inners[inner] = None
        if inner.done():
            self.inners.pop(inner, None)
        if not getattr(self.executor, "_broken", False):
            return
        self.broken = True
        manager = getattr(self.executor, "_executor_manager_thread", None)
        self.dismiss(kill=True)
        if manager is not None:
            manager.join(_BREAKING)
        from concurrent.futures.process import BrokenProcessPool

        for forgotten in list(self.inners):
            if not forgotten.done():
                try:
                    forgotten.set_exception(BrokenProcessPool("the executor broke while it took this task"))
                except InvalidStateError:  # it was told after all
                    pass

    def withdraw(self, task: Task[Any]) -> bool:
        """Free the task's slot; return whether the task had begun."""
        board = self._board
        if board is None:
            return True  # nobody can tell, and what has begun must not run twice
        task._started = board.read(task._slot)
        task._board = None
        board.give_back(task._slot)
        began = task._started is not None
        self._proved = self._proved or began
        return began

    def proved(self, tasks: Iterable[Task[Any]]) -> bool:
        """Whether any task ever began in this crew, those included."""
        return self._proved or any(task._board is self._board and task._running_since() is not None for task in tasks)

    def dismiss(self, *, kill: bool) -> None:
        """Shut the executor down without waiting; kill its processes if one of them would never end by itself."""
        executor = self.executor
        # All three are gone from the executor after its shutdown.
        processes = list((executor._processes or {}).values())
        self._manager = getattr(executor, "_executor_manager_thread", None)
        executor.shutdown(wait=False)
        if kill:
            _kill(processes)

    def join(self, deadline: Deadline) -> bool:
        """Wait for the dismissed executor's processes to end; False if the time is up."""
        if self._manager is None:
            return True
        self._manager.join(deadline.remaining())
        return not self._manager.is_alive()


def _kill(processes: list[Any]) -> None:
    for process in processes:
        try:
            process.kill()
        except (OSError, ValueError):  # it ended by itself
            pass


def process_executor_maker(
    max_workers: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> MakeExecutor:
    """Return what makes the standard process executor, by any start method but ``fork``."""
    import multiprocessing
    from concurrent.futures.process import ProcessPoolExecutor

    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")

    def make() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers, mp_context=context, initializer=prepare_worker, initargs=(initializer, initargs)
        )

    return make


def prepare_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Set up a worker process: Ctrl-C is the parent's business, and the parent's death is the worker's."""
    import signal
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="syncprims-parent-watch", daemon=True).start()
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
