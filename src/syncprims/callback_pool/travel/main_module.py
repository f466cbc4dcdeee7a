"""The program's main module, whose definitions workers have to find, and the main guard that it needs."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any

# CPython removes `__main__.__file__` as soon as a script has ended, before the exit handlers. From then on
# multiprocessing can't tell a new worker where the script is. So a pool records the place when it is made, for workers
# that start, or are replaced, while it drains. It does no more at that time: if a pool is made at module level, a
# worker that imports the module makes it too, and never uses it. The main guard is checked with the first task.

Source = dict[str, Any]
GUARD = 'if __name__ == "__main__":'


def main_source() -> Source:
    """Return the source of the main module, in multiprocessing's form; nothing if it can't be imported."""
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if isinstance(name, str):
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    if not isinstance(path, str) or path == "<stdin>" or getattr(sys, "frozen", False):
        return {}
    from multiprocessing.process import ORIGINAL_DIR  # type: ignore[attr-defined]  # typeshed lacks it

    return {"init_main_from_path": os.path.normpath(os.path.join(ORIGINAL_DIR or "", path))}


def import_main(source: Source) -> None:
    """Import the module under the name ``__mp_main__``, unless that has been done."""
    from multiprocessing.spawn import prepare

    prepare(source)


def has_main() -> bool:
    """Whether this worker has the program's main module."""
    return getattr(sys.modules.get("__main__"), "__file__", None) is not None


# -- the guard ---------------------------------------------------------------------------------------------------------


def check_guard(pool_name: str) -> None:
    """Raise if a task was submitted by a main module that a worker is importing.

    Raises:
        RuntimeError: That is the case: the main guard is missing.
    """
    from multiprocessing.process import current_process

    if getattr(current_process(), "_inheriting", False) or (_frozen() and "--multiprocessing-fork" in sys.argv[1:2]):
        raise RuntimeError(
            f"a task of {pool_name!r} was submitted while a worker process imports the main module: put what starts "
            f"work there under {GUARD}" + (f" {FREEZE_SUPPORT}" if _frozen() else "")
        )


# A frozen program (PyInstaller, cx_Freeze, py2exe) starts itself as its worker. Unless it first calls `freeze_support`,
# each worker runs the program from the start and starts its own workers, without end. The call leaves no trace in the
# first process. So this searches for the call in the code of the functions and modules that run now, or were defined
# there.

FREEZE_SUPPORT = "multiprocessing.freeze_support()"
_found_freeze_support = False


def _frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def check_frozen(pool_name: str) -> None:
    """Raise in a frozen program if it has no call of ``freeze_support`` that can be found.

    Raises:
        RuntimeError: No call was found.
    """
    global _found_freeze_support
    if not _frozen() or _found_freeze_support:
        return
    if not any(map(_calls_freeze_support, _running_code())):
        raise RuntimeError(
            f"{pool_name!r} can't have processes: this program is frozen (sys.frozen), and its main module does not "
            f"call {FREEZE_SUPPORT}, so each worker would run the program again and start workers of its own. Add that "
            f"as the first line under {GUARD}"
        )
    _found_freeze_support = True


def _running_code() -> list[CodeType]:
    from threading import main_thread

    frame: FrameType | None = sys._current_frames().get(main_thread().ident or 0)
    found = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return found


def _calls_freeze_support(code: CodeType) -> bool:
    if "freeze_support" in code.co_names and _loads_it(code):
        return True
    return any(_calls_freeze_support(each) for each in code.co_consts if isinstance(each, CodeType))


def _loads_it(code: CodeType) -> bool:
    from dis import get_instructions

    # Importing the name, or storing it, is not a call.
    return any(each.argval == "freeze_support" and each.opname.startswith("LOAD_") for each in get_instructions(code))
