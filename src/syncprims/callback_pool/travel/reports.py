"""Reports: what a worker process says about itself to its pool, beside the outcomes of calls."""

from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from typing import Any, NamedTuple

from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock
from .shared_file import SharedFile

# An executor tells of a worker that could not start, or does not end, only that it died, or nothing at all. So workers
# inherit this file and append to it. A file, not a pipe: no report is too long for it, and a worker never waits for one
# who reads. One `write` to a file opened for appending is whole, whoever else writes.

_HEAD = struct.Struct("@q")


class Report(NamedTuple):
    """What one worker says.

    Attributes:
        pid: The worker's.
        event: ``"started"``; ``"ready"`` after its initializer; ``"failed"``, where `facts` says what did (``"main"``,
            ``"unpickling"`` or ``"initializer"``) and has the packed error; or ``"left"`` at its end, where `facts` are
            the threads and processes that tasks have left there and that it waits for.
        facts: See `event`.
    """

    pid: int
    event: str
    facts: tuple[Any, ...]


class Reports:
    """What the workers of one pool have reported.

    **Thread safety**: all methods may be called from any thread.

    Raises:
        OSError: There is no room for the file.
    """

    def __init__(self) -> None:
        import fcntl

        self._file = SharedFile("syncprims-reports", named=False)
        self.fd: int = self._file.fd
        fcntl.fcntl(self.fd, fcntl.F_SETFL, fcntl.fcntl(self.fd, fcntl.F_GETFL) | os.O_APPEND)
        self._mutex = TimedLock(name=InnerName("workers' reports"))
        # Guarded by _mutex:
        self._all: list[Report] = []
        self._offset = 0

    def read(self) -> list[Report]:
        """Return all that was reported so far."""
        with self._mutex:
            while (head := os.pread(self.fd, _HEAD.size, self._offset)) and len(head) == _HEAD.size:
                (length,) = _HEAD.unpack(head)
                self._all.append(Report(*pickle.loads(os.pread(self.fd, length, self._offset + _HEAD.size))))
                self._offset += _HEAD.size + length
            return list(self._all)

    def of(self, pid: int) -> list[Report]:
        """Return what one worker has reported."""
        return [report for report in self.read() if report.pid == pid]


# -- the worker's side -------------------------------------------------------------------------------------------------

_inherited: tuple[int, int, int] | None = None  # the descriptor, and which file it was


def take_over(fd: int | None) -> None:
    """Report to that file from now on."""
    global _inherited
    if fd is not None:
        status = os.fstat(fd)
        _inherited = (fd, status.st_dev, status.st_ino)


def report(event: str, *facts: Any) -> None:
    """Report something; what can't be written is lost, as nothing depends on it."""
    if _inherited is None:
        return
    fd, device, inode = _inherited
    with suppress(OSError):
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == (device, inode):  # else a task has closed it, and the number is another's
            packed = pickle.dumps((os.getpid(), event, facts))
            os.write(fd, _HEAD.pack(len(packed)) + packed)
