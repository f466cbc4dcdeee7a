"""Deliberately broken semaphores, reader-writer locks and locks of one's own, each with one common fault."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Self

from syncprims import Holder, LockTimeoutError, QueuedLock, TimedRWLock, TimedSemaphore
from syncprims._core.waits import UpTo

# -- semaphores --------------------------------------------------------------------------------------------------------


class KeepsPermitOnError(TimedSemaphore):
    """Forgets to give the permit back when the body raises."""

    def __exit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            super().__exit__(*exc_info)


class LosesPermit(TimedSemaphore):
    """Has an ``__exit__`` in Python, where an interrupt can come before the permit is given back."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)


class LetsOneMoreIn(TimedSemaphore):
    """Counts from zero."""

    def __init__(self, permits: int) -> None:
        super().__init__(permits + 1)

    @property
    def value(self) -> int:
        """One fewer than there are."""
        return max(0, super().value - 1)


class GrowsWithReleases(TimedSemaphore):
    """Accepts a release too many, as `threading.Semaphore` does."""

    def release(self, n: int = 1) -> None:
        try:
            super().release(n)
        except ValueError:
            pass


class ReleasesOne(TimedSemaphore):
    """Ignores how many permits are given back."""

    def release(self, n: int = 1) -> None:
        super().release(n and 1)


class ForgetsTakers(TimedSemaphore):
    """Can't say which threads have a permit."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Return none."""
        return ()


class OvertakesLine(TimedSemaphore):
    """Waits by trying again and again: a thread that comes at the right moment goes first, and no wait is seen."""

    def __enter__(self) -> Self:
        while not self.acquire(False):
            threading.Event().wait(0.001)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class BlindToOwnPermits(TimedSemaphore):
    """Assumes that some thread will end every wait."""

    def _up_to(self, waiter: int) -> UpTo:
        return None


class WaitsWithoutLimit(TimedSemaphore):
    """Waits as long as it takes, up to a minute."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        return super().acquire(timeout=60.0) if blocking and timeout != 0 else super().acquire(False)


# -- reader-writer locks -----------------------------------------------------------------------------------------------


class OneAtATime(QueuedLock):
    """Correct: a lock for one thread."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds


class LetsTwoIn(OneAtATime):
    """Its rule lets a second thread in."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return len(kinds) < 2


class HidesHolder(OneAtATime):
    """It names no holder."""

    @property
    def holder(self) -> None:
        """No thread."""


class KeepsHoldOnError(OneAtATime):
    """It stays acquired if the body raises."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.release()


class FreesInSilence(OneAtATime):
    """It raises nothing if it is released although it is free."""

    def release(self) -> None:
        """Release it, if it is held."""
        if self.locked():
            super().release()


class OneReaderAtATime(TimedRWLock):
    """Reads as if it wrote."""

    def read(self, timeout: Any = ...) -> Any:
        return self.write(timeout)


class WritersSideBySide(TimedRWLock):
    """Writes as if it read."""

    def write(self, timeout: Any = ...) -> Any:
        return self.read(timeout)


class ReadersFirst(TimedRWLock):
    """Lets readers in as long as any reader is inside, whichever thread waits."""

    def read(self, timeout: Any = ...) -> Any:
        return self._reading_first(self.timeout if timeout is ... else timeout)

    @contextmanager
    def _reading_first(self, timeout: float | None) -> Iterator[Self]:
        if self.read_locked():
            self._held.append(threading.get_ident())
        else:
            self._read_within(timeout)
        try:
            yield self
        finally:
            self._release_of(threading.get_ident())()


class UpgradesInSilence(TimedRWLock):
    """Lets a reader wait for its own read to end."""

    def write(self, timeout: Any = ...) -> Any:
        if self.held_by_me() == "read":
            return self._waiting_for_itself(self.timeout if timeout is ... else timeout)
        return super().write(timeout)

    @contextmanager
    def _waiting_for_itself(self, timeout: float | None) -> Iterator[Self]:
        threading.Event().wait(timeout)
        if timeout is not None:
            raise LockTimeoutError("not in time")
        yield self


class LeavesReaderBehind(TimedRWLock):
    """Has a ``with`` in Python, where an interrupt can come before the reader has left."""

    def read(self, timeout: Any = ...) -> Any:
        return ReadingInPython(super().read(timeout))


class ReadingInPython:
    """Leaves in Python."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, *exc_info: object) -> Any:
        return self._inner.__exit__(*exc_info)


class BlindToReaders(TimedRWLock):
    """Assumes that some thread will end the wait of a writer."""

    def _must_act(self, queued: Any, /) -> Collection[UpTo]:
        return ()


class NamesOneReader(TimedRWLock):
    """Names the first holder alone."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The first one."""
        return super().holders[:1]
