"""A lock for the programs of one machine or with a shared folder: `filelock` under a `LockAdapter`.

The system frees a file lock when its holder dies, so there is no lease. It does not notify waiters: filelock polls. On
a network file system it is as good as that system's locks.

Run it: ``python file_lock.py``. It needs filelock: ``pip install filelock``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec

from syncprims import LockAdapter, LockTimeoutError


class FileLock:
    """The methods that `LockAdapter` needs of a lock, by a `filelock.FileLock`.

    A `filelock.FileLock` raises when the time is up; this returns False. It holds a file for each thread, so it
    excludes threads as well as processes. A thread that acquires it twice has to release it twice.

    Args:
        path: The file, which is made if it is not there.
        look: Seconds between two polls of a waiter.
    """

    def __init__(self, path: str | os.PathLike[str], look: float = 0.01) -> None:
        import filelock

        self._lock = filelock.FileLock(os.fspath(path), poll_interval=look)
        self._late = filelock.Timeout

    def acquire(self, *, timeout: float = -1) -> bool:
        """Acquire it, within this many seconds if they are not negative."""
        try:
            self._lock.acquire(timeout=timeout)
        except self._late:
            return False
        return True

    def release(self) -> None:
        """Release it."""
        self._lock.release()


def file_lock(path: str | os.PathLike[str], timeout: float | None = None) -> LockAdapter:
    """Make a lock for that file."""
    return LockAdapter(FileLock(path), timeout, name=os.path.basename(path))


def main() -> int:
    """Keep another out."""
    if find_spec("filelock") is None:
        print("needs filelock: pip install filelock")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cache.lock")
        with file_lock(path) as lock:
            try:
                with file_lock(path, timeout=0.05):
                    print("both are inside")
            except LockTimeoutError as error:
                print(
                    f"kept out: {type(error).__name__} for {error.lock_name}, held by this thread: {lock.held_by_me()}"
                )
        with file_lock(path, timeout=0):
            print("and let in")
    return 0


if __name__ == "__main__":
    sys.exit(main())
