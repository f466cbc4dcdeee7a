"""Files shared with the workers of executors that users passed in: in memory if possible, and fully allocated."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from weakref import finalize

# The workers of an executor that a user passed in inherit nothing from the pool, and have to open a path: on Linux the
# descriptor of this process in /proc, elsewhere a temporary file. `start_board` tests whether they can open it.
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
    if path is not None and os.getpid() == owner:  # when a forked child exits, the parent still needs the file
        with suppress(OSError):
            os.unlink(path)
