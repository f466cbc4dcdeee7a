"""The place in the user's program where something happens: the innermost frame that is not ours."""

from __future__ import annotations

import sys
from traceback import FrameSummary
from types import FrameType

from .._core.sites import Site
from .._core.stacks import is_passed_over, own_places, summaries, without_ours


def call_site() -> Site | None:
    """Return the place in the program from which the library was called, or None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_passed_over(frame.f_code.co_filename):
            return frame.f_code, frame.f_lineno
        frame = frame.f_back
    return None


def own_stack() -> tuple[FrameSummary, ...]:
    """Return the stack of the calling thread down to its call into the library, outermost frame first."""
    return without_ours(summaries(own_places()))
