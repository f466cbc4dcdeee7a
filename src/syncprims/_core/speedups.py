"""The one place that chooses between the compiled core and Python alone."""

from __future__ import annotations

import os
from types import FunctionType, ModuleType
from typing import Any, Final

# The core is a file beside the package. It is compiled from `_speedups.c` when the package is installed. If there was
# no compiler, or the package is not installed, Python does all of the work, and only the speed differs. The page "The
# compiled core" says how it is built.

_REVISION: Final = 4  # of the interface between Python and C; the C file has the same number


def _choose() -> ModuleType | None:
    if os.environ.get("SYNCPRIMS_PURE", "0") not in ("", "0"):
        return None
    try:
        from .. import _speedups
    except (ImportError, SystemError):  # the second from CPython, for a core that was compiled with the GIL or without
        return None
    # A core compiled from an older source, for example before a `git pull`, is not used.
    return _speedups if getattr(_speedups, "REVISION", None) == _REVISION else None


core: Final[Any] = _choose()
"""The module of the core, or None."""

if core is not None and hasattr(os, "register_at_fork"):
    # This runs first in a child: from then on a lock forgets the threads that waited for it in the parent.
    os.register_at_fork(after_in_child=core.note_fork)


def put(cls: type, *names: str) -> None:
    """If there is a core, replace these Python methods of a class by the core's methods.

    The core keeps the Python methods, and calls them for every case that it does not handle itself.
    """
    if core is not None:
        for name in names:
            core.put(cls, name, _text(getattr(cls, name)))


def own(cls: type, *names: str) -> None:
    """Make a class's own copies of methods that it inherits from the core's type, which are faster to call."""
    if core is not None:
        for name in names:
            core.own(cls, name)


def _text(method: FunctionType) -> str:
    """The signature and the docstring of a method, in the form that C functions use."""
    code = method.__code__
    names = code.co_varnames[: code.co_argcount]
    defaults = method.__defaults__ or ()
    required = len(names) - len(defaults)
    shown = [f"${names[0]}", *names[1:required]]
    shown += [f"{name}={default!r}" for name, default in zip(names[required:], defaults, strict=True)]
    return f"{method.__name__}({', '.join(shown)})\n--\n\n{method.__doc__ or ''}"
