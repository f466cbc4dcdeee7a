"""Both forms of the library in one process: the compiled one, and a second copy in Python alone."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from functools import cache
from types import ModuleType
from typing import Any, Final

import pytest

from syncprims import compiled

outcomes: Final = Counter[str]()
"""How many calls have come to an outcome that was compared, under the one key "calls"."""

needs_the_core = pytest.mark.skipif(not compiled, reason="the core is not compiled here, or refused")


@cache
def pure() -> Any:
    """Import the library once more, without the core, and restore `sys.modules`."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "syncprims"}
    before = os.environ.get("SYNCPRIMS_PURE")
    os.environ["SYNCPRIMS_PURE"] = "1"
    try:
        return importlib.import_module("syncprims")
    finally:
        if before is None:
            del os.environ["SYNCPRIMS_PURE"]
        else:
            os.environ["SYNCPRIMS_PURE"] = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "syncprims"]:
            del sys.modules[name]
        sys.modules.update(kept)


def examples(usually: int) -> int:
    """Return how many examples a comparison has, usually this many; `python -m evidence core` asks for more."""
    return usually * int(os.environ.get("SYNCPRIMS_EXAMPLES", "1"))


def outcome(call: Any, *args: Any, **kwargs: Any) -> tuple[object, ...]:
    """The outcome of a call: its result with its type, or the error with its text and attributes."""
    outcomes["calls"] += 1
    try:
        result = call(*args, **kwargs)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "value", None), getattr(error, "limit", None)
    return type(result).__name__, None if isinstance(result, ModuleType) else result
