"""Deliberately broken semaphores, reader-writer locks and locks of one's own, each with one fault that people make."""

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
    """Has an ``__exit__`` in Python, where an interrupt gets in before the permit is given back."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)


class LetsOneMoreIn(TimedSemaphore):
    """Counts from zero."""

    def __init__(self, permits: int) -> None:
        super().__init__(permits + 1)

    @property
    def value(self) -> int:
        """One is kept quiet."""
        return max(0, super().value - 1)


class GrowsWithReleases(TimedSemaphore):
    """Takes a release too many in silence, as `threading.Semaphore` does."""

    def release(self, n: int = 1) -> None:
        try:
            super().release(n)
        except ValueError:
            pass


class ReleasesOne(TimedSemaphore):
    """Takes no notice of how many are given back."""

    def release(self, n: int = 1) -> None:
        super().release(n and 1)


class ForgetsTakers(TimedSemaphore):
    """Can't say who has a permit."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """None that it knows."""
        return ()


class OvertakesLine(TimedSemaphore):
    """Waits by trying again and again: who comes at the right moment goes first, and none is seen to wait."""

    def __enter__(self) -> Self:
        while not self.acquire(False):
            threading.Event().wait(0.001)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class BlindToOwnPermits(TimedSemaphore):
    """Takes every wait for one that some thread will end."""

    def _up_to(self, waiter: int) -> UpTo:
        return None


class WaitsWithoutLimit(TimedSemaphore):
    """Waits for as long as it takes, up to a minute."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        return super().acquire(timeout=60.0) if blocking and timeout != 0 else super().acquire(False)


# -- reader-writer locks -----------------------------------------------------------------------------------------------


class OneAtATime(QueuedLock):
    """Whole: a lock for one thread."""

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
    """It says nothing if it is released although it is free."""

    def release(self) -> None:
        """Release it, if it is held."""
        if self.locked():
            super().release()


class OneReaderAtATime(TimedRWLock):
    """Reads as it writes."""

    def read(self, timeout: Any = ...) -> Any:
        return self.write(timeout)


class WritersSideBySide(TimedRWLock):
    """Writes as it reads."""

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
    """Lets a reader wait for itself to stop reading."""

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
    """Has a ``with`` in Python, where an interrupt gets in before the reader has left."""

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
    """Takes the wait of a writer for one that some thread will end."""

    def _must_act(self, queued: Any, /) -> Collection[UpTo]:
        return ()


class NamesOneReader(TimedRWLock):
    """Names the first holder alone."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The first one."""
        return super().holders[:1]
