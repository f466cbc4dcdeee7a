"""Where in the user's program something happens: the innermost frame that is not ours."""

from __future__ import annotations

import os
import sys
from traceback import FrameSummary
from types import CodeType, FrameType

from .._core.foreign import printable
from .._core.stacks import is_passed_over, own_places, summaries, without_ours

# A code object and a line: cheap to note, and put into words only when somebody looks.
Site = tuple[CodeType, int]


def call_site() -> Site | None:
    """Return the place in the program from which the library was called, or None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_passed_over(frame.f_code.co_filename):
            return frame.f_code, frame.f_lineno
        frame = frame.f_back
    return None


def own_stack() -> tuple[FrameSummary, ...]:
    """Return the stack of the calling thread down to its call into the library, outermost frame first."""
    return without_ours(summaries(own_places()))


def say_site(site: Site | None) -> str:
    """Put a site into words, like ``billing.py:41 in charge``."""
    if site is None:
        return "a thread of the library"
    code, line = site
    return printable(f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}")
