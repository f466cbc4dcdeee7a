"""`Custody`: keeps a broken standard process executor from forgetting futures, as it may before Python 3.12."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

# Before 3.12 the thread that fails all futures of a broken executor uses no lock against `submit`. A future that comes
# in later is never notified. If a future comes in at the same time, the thread ends because a dict has changed: then
# several futures are never notified, and some processes are not ended, so the exit waits for them. In all of these
# cases the executor is found broken *after* the future was handed over. The same thread also ends at the first
# cancelled future that it has to fail; `_Tolerant` prevents this.

_JOINING = 1.0  # seconds; an executor that is busy for longer already waits for its workers
_BREAKING = 10.0  # seconds that a broken executor has to fail its futures, more than it ever needs


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
        """Keep the future from now on. If the executor turns out to be broken, fail all futures.

        It blocks only in that case, until the executor's own thread has ended.
        """
        self._inners[inner] = None
        if inner.done():
            self._inners.pop(inner, None)
        if getattr(self._executor, "_broken", False):
            self._tell_all()

    def refused(self, error: Exception) -> None:
        """Fail all futures and raise, if `submit` failed half-way because the executor just broke."""
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
                except InvalidStateError:  # the executor has failed it after all
                    pass


def _broken() -> BrokenExecutor:
    from concurrent.futures.process import BrokenProcessPool

    return BrokenProcessPool("the process executor broke while it took this task: make a new one")


def end(executor: ProcessPoolExecutor) -> None:
    """Shut the executor down without waiting, and kill its processes: one of them might never end by itself."""
    inside: Any = executor
    for process in list((inside._processes or {}).values()):
        _kill(process)
    # Not by `shutdown`. From 3.13 on the executor's own thread holds the executor's lock while it waits for its
    # workers, and it does so by itself once the program ends. Then a worker that does not end would block us too.
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
