"""`record_sites`: notes where each lock is taken, so that errors and reports can say it."""

from __future__ import annotations

from threading import get_ident
from types import TracebackType
from typing import Self

from .._core.deadlocks import own_deadlock
from .._core.observing import ObservableLock
from .._core.sites import forget_all, forget_taking, note_taking, taking_of
from .call_sites import call_site
from .lock_events import locks


class SiteRecording:
    """What `record_sites` returns: a context manager, and what stops it.

    Example:
        >>> from syncprims.diagnostics import record_sites
        >>> with record_sites() as recording:
        ...     pass
        >>> recording.stop()
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Note nothing from now on; the last one that stops forgets what was noted. To stop it again does no harm."""
        locks.remove(self)
        if not any(isinstance(observer, SiteRecording) for observer in locks.observers):
            forget_all()

    # -- what locks tell ------------------------------------------------------------------------------------------

    def asks(self, lock: ObservableLock, endless: bool) -> None:
        """What a thread does not have yet has no site."""

    def taken(self, lock: ObservableLock, at: int) -> None:  # noqa: ARG002  when does not matter here
        """Note where it was."""
        note_taking(lock, call_site())

    def taken_again(self, lock: ObservableLock) -> None:
        """Refuse it if the lock was left behind by a thread that has ended, whose ident this one has now."""
        taking = taking_of(lock, get_ident())
        if taking is not None and taking.has_ended():
            raise own_deadlock(lock.name, "", lock)

    def refused(self, lock: ObservableLock, error: BaseException | None) -> None:
        """What a thread did not get has no site."""

    def released(self, lock: ObservableLock, at: int) -> None:  # noqa: ARG002  the same
        """Forget it."""
        forget_taking(lock)


def record_sites() -> SiteRecording:
    """Note from now on, for every lock that is taken, by which thread and where in the program.

    Then a `DeadlockError` says where each thread took what it holds, a `LockTimeoutError` and `report` say where the
    holder took the lock, and a holder that ended without releasing is known by name. A thread that was given the ident
    of such a holder is refused a `TimedRLock` that the other left behind, with a `DeadlockError`: otherwise it would
    enter in silence, since the operating system gives the idents of threads that ended to new ones.

    It blocks nothing and starts no thread. While it is on, taking and releasing a free lock takes 10 to 18 times as
    long, and the guarantee that an interrupt never leaks a lock is suspended, as with `record`. Locks that were taken
    before have no site, and a method that was looked up before (as a `threading.Condition` does when it is made) is not
    noticed. Any number may be on at once, in any thread; a forked child goes on.

    Returns:
        What stops it; it may be used in a ``with``, or ignored to go on to the end of the program.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import record_sites, report
        >>> ledger = TimedLock(name="ledger")
        >>> with record_sites(), ledger:
        ...     "and took it at" in report()
        True
    """
    recording = SiteRecording()
    locks.add(recording)
    return recording
