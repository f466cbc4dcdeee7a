"""`report`: what every thread holds and waits for, as text; and a report as the note of an error."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING

from ..facts import Holder
from .clock import strftime
from .deadlocks import find_deadlocks, say_cycle
from .foreign import note, printable, words
from .holders import describe, stack_of, thread_name
from .snapshot import PrimitiveState, busy, look_at
from .stacks import FRAMES_ARE_SHARED, programs_own, say_frame, whereabouts, with_frames, without_library
from .state import State
from .waits import Waiting

if TYPE_CHECKING:
    from traceback import FrameSummary

_FRAMES = 8  # of a stack; the outer ones explain little
_WAITERS = 10  # of one primitive; more stacks explain nothing new
_PRIMITIVES = 100
_CYCLES = 10


def report(*, all_threads: bool = False) -> str:
    """Return the results of `snapshot` and `find_deadlocks` as text for a log.

    The first line has the process, the number of busy primitives and of waiting threads, the date and the interpreter.
    If more than a hundred primitives are busy, it shows those that most threads wait for. The stack traces leave out
    the frames of this library. It blocks no thread, and may be called at any time and from any thread, also from signal
    handlers.

    Args:
        all_threads: Whether to add every other Python thread with its stack trace, also threads that do not use this
            library. Without the GIL, only the innermost frame of a thread can be read, unless the thread waits for a
            primitive.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import report
        >>> with TimedLock(name="accounts"):
        ...     "TimedLock 'accounts': held by Thread 'MainThread'" in report()
        True
    """
    found = busy()
    lines = [_heading(found)]
    shown = found if len(found) <= _PRIMITIVES else sorted(found, key=_urgency)[:_PRIMITIVES]
    states = look_at(shown)
    for state, (asked, _) in zip(states, shown, strict=True):
        lines.extend(_say_state(state, asked))
    if len(found) > len(shown):
        lines.append(f"and {len(found) - len(shown)} more, that fewer threads wait for; snapshot() has them all")
    cycles = find_deadlocks()
    lines.extend(f"DEADLOCK: {say_cycle(cycle)}" for cycle in cycles[:_CYCLES])
    if len(cycles) > _CYCLES:
        lines.append(f"and {len(cycles) - _CYCLES} more deadlocks; find_deadlocks() has them all")
    if all_threads:
        shown_threads = {ident for state in states for ident in _threads_of(state)}
        lines.extend(with_frames(lambda frames: list(_say_threads(shown_threads, frames))))
    return "\n".join(lines)


_Found = tuple[State, list[Waiting]]


def _urgency(found: _Found) -> tuple[int, float]:
    """A sort key: first the states that most threads wait for, and among these the longest waits."""
    _, waits = found
    return -len(waits), min((waiting.since for waiting in waits), default=0.0)


def _heading(found: list[_Found]) -> str:
    waiting = len({waiting.ident for _, waits in found for waiting in waits})
    busy = f"{len(found)} {'is' if len(found) == 1 else 'are'} busy" if found else "nothing is held or waited for"
    wait = f"{waiting or 'no'} {'thread waits' if waiting == 1 else 'threads wait'}"
    return f"syncprims in process {os.getpid()}: {busy}, {wait}; {date()}, {interpreter()}"


def date() -> str:
    """Return the local time, with its offset from UTC."""
    return strftime("%Y-%m-%d %H:%M:%S %z")


def interpreter() -> str:
    """Return the name and version of the interpreter."""
    kind = "CPython" if sys.implementation.name == "cpython" else sys.implementation.name
    return f"{kind} {sys.version.split()[0]}{'' if FRAMES_ARE_SHARED else ' without the GIL'}"


def _threads_of(state: PrimitiveState) -> Iterator[int]:
    """The threads that a report shows with a primitive."""
    if state.holder is not None:
        yield state.holder.ident
    yield from (holder.ident for holder in state.others[:_WAITERS])
    yield from (waiter.ident for waiter in state.waiters[:_WAITERS])
    yield from (work.ident for work in state.work[:_WAITERS] if work.ident is not None)


def _say_threads(shown: set[int], frames: Mapping[int, FrameType]) -> Iterator[str]:
    main = threading.main_thread().ident
    names = {ident: thread_name(ident) for ident in frames if ident not in shown}
    if names:
        yield "other threads:"
    for ident, name in sorted(names.items(), key=lambda thread: (thread[0] != main, thread[1], thread[0])):
        stack = stack_of(ident, frames)
        me = ", which writes this," if ident == threading.get_ident() else ""
        yield f"  {_say_thread(name, ident)}{me} is {_where(stack)}"
        yield from _say_stack(programs_own(stack) or without_library(stack))


def _where(stack: tuple[FrameSummary, ...]) -> str:
    stack = programs_own(stack) or without_library(stack)
    return whereabouts(stack) if stack else "in no code of the program that can be seen from here"


def _say_thread(name: str, ident: int) -> str:
    return f"Thread {words(name) if name else 'without a name'} (ident {ident})"


def _say_state(state: PrimitiveState, asked: State) -> Iterator[str]:
    facts = []
    if state.step is not None:
        facts.append(f"turn of {state.step!r}{f'; {state.lost}' if state.lost else ''}")
    if state.holder is not None:
        facts.append(f"held by {describe(state.holder, asked.waited_for)}")
        if asked.is_lock and not state.others and any(waiter.ident == state.holder.ident for waiter in state.waiters):
            facts.append(
                "which waits for it too: this thread, or one that had its ident and ended without releasing it"
            )
    elif asked.is_lock:
        facts.append("held by no known thread")
    if state.pending is not None:
        facts.append(f"{state.pending} pending, {len(state.running)} running")
    if state.value is not None:
        facts.append(f"at {state.value}")
    yield f"{printable(state.kind)} {words(state.name)}: {', '.join(facts) or 'waited for'}"
    if state.holder is not None:
        yield from _say_stack(programs_own(state.holder.stack))
    for holder in state.others[:_WAITERS]:
        yield f"  and held by {describe(holder, asked.waited_for)}"
        yield from _say_stack(programs_own(holder.stack))
    if len(state.others) > _WAITERS:
        yield f"  and held by {len(state.others) - _WAITERS} more threads"
    for work in state.work[:_WAITERS]:
        age = "" if work.seconds is None else f" for {work.seconds:.1f} s"
        what = printable(work.what)
        if work.ident is None:
            place = "outside this process" if work.pid is None else f"in process {work.pid}"
            yield f"  runs {what}{age} {place}"
        else:
            yield f"  runs {what}{age} in {_say_thread(work.thread, work.ident)}, {_where(work.stack)}"
            yield from _say_stack(programs_own(work.stack))
    if len(state.work) > _WAITERS:
        yield f"  and runs {len(state.work) - _WAITERS} more"
    for waiter in state.waiters[:_WAITERS]:
        yield (
            f"  {_say_thread(waiter.name, waiter.ident)} has waited {waiter.waited:.1f} s for "
            f"{printable(waiter.sought) or 'it'}, {whereabouts(waiter.stack)}"
        )
        yield from _say_stack(programs_own(waiter.stack))
    if len(state.waiters) > _WAITERS:
        yield f"  and {len(state.waiters) - _WAITERS} more threads wait for it"


def _say_stack(stack: tuple[FrameSummary, ...]) -> Iterator[str]:
    if len(stack) > _FRAMES:
        yield f"      ... {len(stack) - _FRAMES} outer {'frame' if len(stack) == _FRAMES + 1 else 'frames'}"
    for frame in stack[-_FRAMES:]:
        yield f"      {say_frame(frame)}"


def say_holder(holder: Holder | None) -> str:
    """Describe a holder, for a log line."""
    return "no known thread" if holder is None else describe(holder)


def attach_report(error: BaseException) -> None:
    """Add the report to an error as a note; for code that waits for many things at once and reaches its timeout.

    Args:
        error: Usually a timeout error that is about to be raised.

    Raises:
        TypeError: It is not an exception.

    Example:
        >>> from syncprims.diagnostics import attach_report
        >>> error = TimeoutError("too late")
        >>> attach_report(error)
        >>> error.__notes__[0].startswith("syncprims in process")
        True
    """
    if not isinstance(error, BaseException):
        raise TypeError(f"the report is attached to an exception, not to {words(error)}")
    note(error, report())
