"""`Custody`: a broken standard process executor forgets no future, as it can before Python 3.12."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

# Before 3.12 the thread that fails all futures of a broken executor takes no lock against `submit`. A future that comes
# in later is never notified. One that comes in at the same time ends that thread by a changed dict: then several
# futures are never notified, and processes live on that nothing ends, so the exit waits for them. In all of these cases
# the executor is found broken *after* the future was handed over. The same thread also ends at the first cancelled
# future that it has to fail; `_Tolerant` prevents this.

_JOINING = 1.0  # seconds; an executor that is busy for longer waits for its workers already
_BREAKING = 10.0  # seconds for a broken executor to fail its futures, more than it ever needs


class _Tolerant(Future[bytes]):
    """A future that a broken executor may fail although it is cancelled."""

    def set_exception(self, exception: BaseException | None) -> None:
        """Set the error, unless the future is cancelled."""
        try:
            super().set_exception(exception)
        except InvalidStateError:
            pass


class Custody:
    """The futures of one executor that are not done.

    **Thread safety**: all methods may be called from any thread; `take` once for each future.
    """

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor
        self._inners: dict[Future[bytes], None] = {}

    def prepare(self, inner: Future[bytes]) -> None:
        """Make a future that was just handed over safe to cancel."""
        if sys.version_info < (3, 12):
            inner.__class__ = _Tolerant

    def take(self, inner: Future[bytes]) -> None:
        """Look after the future from now on; if the executor turns out to be broken, all futures know then.

        Blocks only in that case, until the executor's own thread has ended.
        """
        self._inners[inner] = None
        if inner.done():
            self._inners.pop(inner, None)
        if getattr(self._executor, "_broken", False):
            self._tell_all()

    def refused(self, error: Exception) -> None:
        """Fail all futures if `submit` failed half-way in an executor that just broke; return the error."""
        if getattr(self._executor, "_broken", False):
            self._tell_all()
            raise _broken() from error

    def give_back(self, inner: Future[bytes]) -> None:
        """Forget a future that is done."""
        self._inners.pop(inner, None)

    def _tell_all(self) -> None:
        manager = getattr(self._executor, "_executor_manager_thread", None)
        end(self._executor)
        if manager is not None:
            manager.join(_BREAKING)
        for forgotten in list(self._inners):
            if not forgotten.done():
                try:
                    forgotten.set_exception(_broken())
                except InvalidStateError:  # it has got the error after all
                    pass


def _broken() -> BrokenExecutor:
    from concurrent.futures.process import BrokenProcessPool

    return BrokenProcessPool("the process executor broke while it took this task: make a new one")


def end(executor: ProcessPoolExecutor) -> None:
    """Shut the executor down without waiting, and kill its processes: one of them might never end by itself."""
    inside: Any = executor
    for process in list((inside._processes or {}).values()):
        _kill(process)
    # Not by `shutdown`: from 3.13 on the executor's own thread holds its lock while it waits for its workers, which it
    # does by itself once the program ends. Then a worker that does not end would hold us up too.
    if inside._shutdown_lock.acquire(timeout=_JOINING):
        try:
            inside._shutdown_thread = True
            if inside._executor_manager_thread_wakeup is not None:
                inside._executor_manager_thread_wakeup.wakeup()
        finally:
            inside._shutdown_lock.release()


def _kill(process: Any) -> None:
    try:
        process.kill()
    except (OSError, ValueError):  # it ended by itself
        pass
