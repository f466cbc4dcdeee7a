"""Functions that the cells run in workers, besides those of `pool_workers`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from polling import until, until_exists

lock = threading.Lock()


def segfault() -> None:
    """Die like a crash in C, and leave no core file."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def take_lock() -> bool:
    """Acquire a lock that a thread of the parent holds: in a forked worker it would never be free."""
    if not lock.acquire(timeout=15):
        return False
    lock.release()
    return True


def say_lines(name: str) -> str:
    """Print two lines, one to each stream, and leave both in their buffers."""
    sys.stdout.write(f"{name} first\n")
    sys.stderr.write(f"{name} aside\n")
    sys.stdout.write(f"{name} second\n")
    return name


def append(path: str, text: str) -> None:
    """Add a line to a file, in one write."""
    with open(path, "a") as file:
        file.write(f"{text}\n")


def meet(folder: str, count: int) -> int:
    """Return this worker's process id once so many workers are here."""
    note_pid(folder)
    until(lambda: len(os.listdir(folder)) >= count)
    return os.getpid()


def note_pid(folder: str) -> int:
    """Write this worker's process id to a file of its own."""
    Path(folder, str(os.getpid())).touch()
    return os.getpid()


def say_who_and_wait(release: str, path: str) -> int:
    """Write this process's id to a file, wait for another one, and return the id."""
    partial = Path(path + ".part")
    partial.write_text(str(os.getpid()))
    partial.rename(path)
    until_exists(release)
    return os.getpid()


def hang_in_the_second(folder: str) -> None:
    """An initializer that hangs in the second worker that comes here."""
    try:
        os.mkdir(os.path.join(folder, "first"))
    except FileExistsError:
        until_exists(os.path.join(folder, "go"))
