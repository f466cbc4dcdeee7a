"""The interpreter that runs worker processes: `multiprocessing` uses `sys.executable`."""

from __future__ import annotations

import os
from multiprocessing import spawn

# In a program that embeds Python, `sys.executable` may be that program, as in uWSGI, or empty. The only way to find out
# whether a program is a Python is to start it, and it may do anything then. So only a program that can't be started at
# all is refused beforehand. Otherwise the error explains it after the program has ended.

REMEDY = "name the interpreter by multiprocessing.set_executable('/path/to/python') before the first task"


def path() -> str:
    """Return the path of the interpreter; an empty one if it is not known."""
    return os.fsdecode(spawn.get_executable() or "")


def check_executable(pool_name: str) -> None:
    """Raise if that program does not exist.

    Raises:
        RuntimeError: It does not exist.
    """
    from shutil import which

    program = path()
    if which(program) is None:
        why = f"{program!r}, which multiprocessing would start, is no program" if program else "sys.executable is empty"
        raise RuntimeError(f"{pool_name!r} can't have processes: {why}. If Python is embedded or has moved, {REMEDY}")


def is_it_python() -> str:
    """Return the question that an error asks if a process ended before it did anything."""
    return f"Is {path()!r}, which was started for it, no Python? Then {REMEDY}"
