"""Programs that tests start: the environment in which they find the library, and the tests if they need them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import syncprims

TESTS: Final = Path(__file__).parent


def environment(*, tests: bool = False, without: Collection[str] = ()) -> dict[str, str]:
    """Return this process's environment, with the library of this process on the path.

    Args:
        tests: Put the folder of the tests on the path as well, for programs that use what is in it.
        without: Variables to leave out.
    """
    folders = [*([TESTS] if tests else []), Path(syncprims.__file__).parents[1]]
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(os.fspath, folders))}
