"""Files that a pool shares with workers that others have started: in memory if the system has that, and all there."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from weakref import finalize

# Workers of an executor that was handed in inherit nothing of the pool's, and have to open a path: on Linux that is the
# descriptor of this process as /proc shows it, elsewhere a temporary file. Whether they can is found out, not assumed:
# see `start_board`.
#
# A file with holes that is mapped kills the process which touches a page that the system has no room for (SIGBUS). So
# `allocate` fills it beforehand, and fails where that can't be done.


class SharedFile:
    """An open file, which goes when this object does.

    Attributes:
        fd: Its descriptor.
        path: Where other processes of this machine may open it.
    """

    def __init__(self, label: str) -> None:
        self.path: str
        self.fd: int
        if sys.platform == "linux" and (fd := _in_memory(label)) is not None:
            self.fd, self.path = fd, f"/proc/{os.getpid()}/fd/{fd}"
            finalize(self, _close, fd, None, os.getpid())
            return
        from tempfile import mkstemp

        self.fd, self.path = mkstemp(prefix=f"{label}-")
        finalize(self, _close, self.fd, self.path, os.getpid())

    def allocate(self, size: int) -> None:
        """Make the file that long, with all its bytes there; `OSError` if there is no room for them."""
        missing = size - os.fstat(self.fd).st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.fd, 0, size)
        else:
            os.lseek(self.fd, 0, os.SEEK_END)
            while missing > 0:
                missing -= os.write(self.fd, bytes(missing))


def _in_memory(label: str) -> int | None:
    try:
        return os.memfd_create(label)
    except (AttributeError, OSError):  # a C library without it, or a sandbox that forbids it
        return None


def _close(fd: int, path: str | None, owner: int) -> None:
    with suppress(OSError):
        os.close(fd)
    if path is not None and os.getpid() == owner:  # a forked child's exit must not take the parent's file
        with suppress(OSError):
            os.unlink(path)
