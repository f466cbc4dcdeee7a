"""Holders: the names of threads, their stacks, and the description of a holder in messages."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from types import FrameType
from typing import TYPE_CHECKING

from ..facts import Holder
from .foreign import guarded
from .sites import taking_of, thread_of
from .stacks import FRAMES_ARE_SHARED, frames_of_threads, places, summaries, whereabouts
from .waits import waits_of

if TYPE_CHECKING:
    from traceback import FrameSummary


def thread_name(ident: int) -> str:
    """The name of the thread with this ident, or ``""`` if `threading` knows none."""
    thread = thread_of(ident)
    # In a subclass of Thread, the name may be any object.
    name = None if thread is None else guarded(None, getattr, thread, "name")
    return str.__str__(name) if isinstance(name, str) else ""


# Listing the frames of all threads takes longer with every thread. A caller that looks at many threads lists the frames
# once, by `with_frames`, and passes them as `frames`.


def stack_of(ident: int, frames: Mapping[int, FrameType] | None = None) -> tuple[FrameSummary, ...]:
    """The present stack of the thread, outermost frame first; empty if there is no such thread."""
    return stack_at((frames_of_threads() if frames is None else frames).get(ident), ident)


def stack_at(frame: FrameType | None, ident: int) -> tuple[FrameSummary, ...]:
    """The stack of the thread with this innermost frame, outermost frame first."""
    try:
        if frame is None:
            return ()
        if ident == get_ident() or FRAMES_ARE_SHARED:
            return summaries(places(frame))
        # Only this frame can be read safely. The outer ones are known if the thread waits.
        inner, line = frame.f_code, frame.f_lineno
    finally:
        del frame
    found = [(inner, line)]
    for waiting in waits_of(ident)[:1]:
        # Compared by identity: functions of two files may have equal code.
        outer = (at for at, (code, _) in enumerate(waiting.places, 1) if code is inner)
        found += waiting.places[next(outer, 0) :]
    return summaries(found)


def holder_of(ident: int | None, frames: Mapping[int, FrameType] | None = None) -> Holder | None:
    """A snapshot of the thread with this ident; None for None."""
    if ident is None:
        return None
    frame = (frames_of_threads() if frames is None else frames).get(ident)
    try:
        return Holder(thread_name(ident), ident, frame is not None, stack_at(frame, ident))
    finally:
        del frame


def describe(holder: Holder | None, of: object = None) -> str:
    """Describe a holder: its thread, where it is now, and where it acquired the lock, if that was recorded."""
    if holder is None:
        return "a holder that is not known"
    taking = None if of is None else taking_of(of, holder.ident)
    if taking is not None and taking.has_ended():
        return (
            f"{taking.who()} (ident {holder.ident}), which took it at {taking.where()} and ended without releasing it; "
            f"use `with`, which always releases"
        )
    if not holder.alive:
        return (
            f"a thread (ident {holder.ident}) that ended without releasing it, as far as its ident shows; "
            f"use `with`, which always releases"
        )
    took = "" if taking is None else f", and took it at {taking.where()}"
    who = f"Thread {holder.name!r}" if holder.name else "a thread without a name"
    return f"{who} (ident {holder.ident}, alive) which is {whereabouts(holder.stack)}{took}"
