"""Files that a pool shares with workers of handed-in executors: in memory if possible, and fully allocated."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from weakref import finalize

# Workers of a handed-in executor inherit nothing from the pool, and have to open a path: on Linux the descriptor of
# this process in /proc, elsewhere a temporary file. Whether they can open it is tested, not assumed: see `start_board`.
#
# If a mapped file has holes, a process that touches a page for which the system has no room is killed (SIGBUS). So
# `allocate` fills the file beforehand, and fails if that is not possible.


class SharedFile:
    """An open file, which is removed together with this object.

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
        """Give the file this length, with all its bytes allocated; `OSError` if there is no room."""
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
