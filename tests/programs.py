"""Programs that tests start: their environment, in which they find the library, and their Python."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Final

import syncprims

TESTS: Final = Path(__file__).parent


def environment(*, tests: bool = False, without: Collection[str] = ()) -> dict[str, str]:
    """Return this process's environment, with the library of this process on the path.

    Args:
        tests: Put the folder of the tests on the path as well, for programs that import from it.
        without: Variables to leave out.
    """
    folders = [*([TESTS] if tests else []), Path(syncprims.__file__).parents[1]]
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(os.fspath, folders))}


def this_python() -> str:
    """The version of this Python as its command and the tables call it: ``3.13``, or ``3.13t`` without the GIL."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}{'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''}"
