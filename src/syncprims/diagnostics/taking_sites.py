"""`record_sites`: records where each lock is acquired, so that errors and reports can show it."""

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
    """The context manager that `record_sites` returns. `stop` or the end of its ``with`` stops the recording.

    Example:
        >>> from syncprims.diagnostics import record_sites
        >>> with record_sites() as recording:
        ...     pass
        ...
        >>> recording.stop()
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop recording. The last one that stops forgets all recorded places. Stopping again does nothing."""
        locks.remove(self)
        if not any(isinstance(observer, SiteRecording) for observer in locks.observers):
            forget_all()

    # -- events of locks ------------------------------------------------------------------------------------------

    def asks(self, lock: ObservableLock, endless: bool) -> None:
        """Do nothing: a lock that the thread does not hold yet has no site."""

    def taken(self, lock: ObservableLock, at: int) -> None:  # noqa: ARG002  when does not matter here
        """Note where the thread acquired it."""
        note_taking(lock, call_site())

    def taken_again(self, lock: ObservableLock) -> None:
        """Refuse the lock if a thread that has ended left it acquired, and this thread has the same ident."""
        taking = taking_of(lock, get_ident())
        if taking is not None and taking.has_ended():
            raise own_deadlock(lock.name, "", lock)

    def refused(self, lock: ObservableLock, error: BaseException | None) -> None:
        """Do nothing: a lock that the thread did not get has no site."""

    def released(self, lock: ObservableLock, at: int) -> None:  # noqa: ARG002  the same
        """Forget the place."""
        forget_taking(lock)


def record_sites() -> SiteRecording:
    """Record, from now on, which thread acquires each lock, and where in the program.

    While it is on, a `DeadlockError` shows where each thread acquired the locks that it holds. A `LockTimeoutError` and
    `report` show where the holder acquired the lock, and they know the name of a holder that ended without releasing
    it. (The system may give the ident of such a holder to a new thread. If the holder left a `TimedRLock` acquired,
    that thread could enter it as if it were its own. With the recording it gets a `DeadlockError`.)

    It blocks nothing and starts no thread. While it is on, acquiring and releasing a free lock takes 10 to 18 times as
    long, and an interrupt may leak a lock, as with `record`. It does not know where locks were acquired before it
    began. Nor does it see calls of a method that was looked up before, like those of a `threading.Condition` that was
    made before. Several recordings may be on at the same time, in any thread. In a forked child they go on.

    Returns:
        An object that stops it. Use it in a ``with``, or ignore it to go on until the program ends.

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
