"""Surroundings: the state of the pool's process when the pool was made, which its workers get too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import finalize

# Workers start when the first task comes, or later. They start from a server, and most of this state can be given to
# them only at the server's start. This file records the environment, the working directory, the umask (on Linux) and
# the three standard streams, as descriptors, at the moment when the pool is made.
#
# The properties that children inherit by themselves (resource limits, niceness, user and groups, ignored or blocked
# signals) are those at the time of the first task. `sys.path` and `sys.argv` are those at the time when the worker
# starts. The state of the interpreter is not passed on: signal handlers, `locale.setlocale`, warning filters, or
# another object as `sys.stdout`.


_LAST_STREAM = 2  # the number of stderr


class Surroundings:
    """The environment, working directory, umask and standard streams of this process as they are now.

    The streams are held open by descriptors of their own until `forget`.
    """

    def __init__(self) -> None:
        self.environ: dict[str, str] = dict(os.environ)
        self.folder: str | None = None
        with suppress(OSError):  # if the directory was deleted
            self.folder = os.getcwd()
        self.umask: int | None = _umask()
        self._streams = [_Stream(number) for number in range(3)] if os.name == "posix" else []
        finalize(self, _close_all, self._streams).atexit = False

    def for_popen(self) -> dict[str, Any]:
        """Return the arguments with which `subprocess.Popen` starts a process in these surroundings."""
        from subprocess import DEVNULL

        given: dict[str, Any] = {"env": self.environ, "cwd": self.folder}
        if self.umask is not None:
            given["umask"] = self.umask
        for name, stream in zip(("stdin", "stdout", "stderr"), self._streams, strict=False):
            fd = stream.fd()
            given[name] = DEVNULL if fd is None else fd
        return given

    def forget(self) -> None:
        """Release the streams."""
        _close_all(self._streams)


class _Stream:
    """A standard stream, which stays open even if the process redirects it later."""

    def __init__(self, number: int) -> None:
        self._fd: int | None = None
        with suppress(OSError):  # if the stream is closed
            self._fd = os.dup(number)
            self._file = _identity(self._fd)

    def fd(self) -> int | None:
        """Return its descriptor, unless the program has closed it (a program that becomes a daemon closes all)."""
        fd = self._fd
        with suppress(OSError):
            if fd is not None and _identity(fd) == self._file:
                return fd
        return None

    def close(self) -> None:
        """Close it, once."""
        fd, self._fd = self.fd(), None
        if fd is not None:
            os.close(fd)


@contextmanager
def keep_streams_apart() -> Iterator[None]:
    """In the block, no file gets the number of a standard stream, even if this process lacks that stream."""
    fillers = []
    try:
        while os.name == "posix":
            fd = os.open(os.devnull, os.O_RDWR)
            fillers.append(fd)
            if fd > _LAST_STREAM:
                break
        yield
    finally:
        for fd in fillers:
            os.close(fd)


def _close_all(streams: list[_Stream]) -> None:
    for stream in streams:
        stream.close()


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _umask() -> int | None:
    # os.umask() returns the mask only by changing it, for a moment in which another thread may create a file.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return None


def enter(environ: dict[str, str], folder: str | None) -> None:
    """Put this process into those surroundings, as far as that is possible after its start."""
    os.environ.clear()
    os.environ.update(environ)
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)
