"""The interpreter by which worker processes are started: `multiprocessing` takes `sys.executable` for it."""

from __future__ import annotations

import os
from multiprocessing import spawn

# In a program that embeds Python, `sys.executable` may be that program, as in uWSGI, or empty. There is no way to find
# out whether a program is a Python except to start it, and it may do anything then. So only what can't be started at
# all is refused beforehand; the rest is explained when it has ended.

REMEDY = "name the interpreter by multiprocessing.set_executable('/path/to/python') before the first task"


def path() -> str:
    """Return the path of the interpreter; an empty one if it is not known."""
    return os.fsdecode(spawn.get_executable() or "")


def check_executable(pool_name: str) -> None:
    """Raise if there is no such program.

    Raises:
        RuntimeError: There is none.
    """
    from shutil import which

    program = path()
    if which(program) is None:
        why = f"{program!r}, which multiprocessing would start, is no program" if program else "sys.executable is empty"
        raise RuntimeError(f"{pool_name!r} can't have processes: {why}. If Python is embedded or has moved, {REMEDY}")


def is_it_python() -> str:
    """Return the question that an error asks if a process ended before it did anything."""
    return f"Is {path()!r}, which was started for it, no Python? Then {REMEDY}"
