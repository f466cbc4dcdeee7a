"""The one place that chooses between the compiled core and Python alone."""

from __future__ import annotations

from os import environ
from types import FunctionType, ModuleType
from typing import Any, Final

# The core is a file beside the package, which a compiler made of `_speedups.c` when the package was installed. If there
# was no compiler, or there is no installation, Python does all of it. Nothing differs but the speed; the page
# "The compiled core" says how it is built.

_REVISION: Final = 3  # of what Python and C expect of each other; the C file has the same number


def _choose() -> ModuleType | None:
    if environ.get("SYNCPRIMS_PURE", "0") not in ("", "0"):
        return None
    try:
        from .. import _speedups
    except ImportError:
        return None
    # A core that was compiled from an older file, as after a `git pull` in an editable installation, is left alone.
    return _speedups if _speedups.REVISION == _REVISION else None


core: Final[Any] = _choose()
"""The module of the core, or None."""


def put(cls: type, *names: str) -> None:
    """Put the methods of the core into a class, if there is a core, in the place of the Python methods of these names.

    The core keeps those, and calls them for whatever it does not do itself.
    """
    if core is not None:
        for name in names:
            core.put(cls, name, _text(vars(cls)[name]))


def _text(method: FunctionType) -> str:
    """The signature and the docstring of a method, in the form in which C gives them."""
    code = method.__code__
    names = code.co_varnames[: code.co_argcount]
    defaults = method.__defaults__ or ()
    required = len(names) - len(defaults)
    shown = [f"${names[0]}", *names[1:required]]
    shown += [f"{name}={default!r}" for name, default in zip(names[required:], defaults, strict=True)]
    return f"{method.__name__}({', '.join(shown)})\n--\n\n{method.__doc__ or ''}"
