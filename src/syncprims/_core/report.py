"""`report`: what everybody holds and waits for, as text; and a report as the note of an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..facts import Holder
from .deadlocks import find_deadlocks, say_cycle
from .holders import describe
from .snapshot import PrimitiveState, busy, look_at
from .stacks import whereabouts, without_ours, without_start

if TYPE_CHECKING:
    from traceback import FrameSummary

_FRAMES = 8  # of a stack; further out, stacks tell little
_WAITERS = 10  # of one primitive; the hundredth stack tells nothing new


def report() -> str:
    """Return what `snapshot` and `find_deadlocks` find, as text for a log.

    It blocks nobody, and may be called at any time and from any thread, signal handlers included.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import report
        >>> with TimedLock(name="accounts"):
        ...     "TimedLock 'accounts': held by Thread 'MainThread'" in report()
        True
    """
    found = busy()
    many = f"{len(found)} {'is' if len(found) == 1 else 'are'} busy" if found else "nothing is held or waited for"
    lines = [f"syncprims in process {os.getpid()}: {many}"]
    for state, waits in found:
        lines.extend(_say_state(look_at(state, waits), state.is_lock))
    lines.extend(f"DEADLOCK: {say_cycle(cycle)}" for cycle in find_deadlocks())
    return "\n".join(lines)


def _say_state(state: PrimitiveState, is_lock: bool) -> Iterator[str]:
    facts = []
    if state.step is not None:
        facts.append(f"turn of {state.step!r}")
    if state.holder is not None:
        facts.append(f"held by {describe(state.holder)}")
    elif is_lock:
        facts.append("held by nobody that is known")
    if state.pending is not None:
        facts.append(f"{state.pending} pending, {len(state.running)} running")
    if state.value is not None:
        facts.append(f"at {state.value}")
    yield f"{state.kind} {state.name!r}: {', '.join(facts) or 'waited for'}"
    if state.holder is not None:
        yield from _say_stack(without_ours(state.holder.stack))
    for label, seconds in state.running[:_WAITERS]:
        yield f"  runs {label}" + ("" if seconds is None else f" for {seconds:.1f} s")
    for waiter in state.waiters[:_WAITERS]:
        name = repr(waiter.name) if waiter.name else "without a name"
        yield (
            f"  Thread {name} (ident {waiter.ident}) has waited {waiter.waited:.1f} s for {waiter.sought or 'it'}, "
            f"{whereabouts(waiter.stack)}"
        )
        yield from _say_stack(without_ours(waiter.stack))
    if len(state.waiters) > _WAITERS:
        yield f"  and {len(state.waiters) - _WAITERS} more threads wait for it"


def _say_stack(stack: tuple[FrameSummary, ...]) -> Iterator[str]:
    stack = without_start(stack)
    if len(stack) > _FRAMES:
        yield f"      ... {len(stack) - _FRAMES} outer {'frame' if len(stack) == _FRAMES + 1 else 'frames'}"
    for frame in stack[-_FRAMES:]:
        yield f"      {frame.filename}:{frame.lineno} in {frame.name}"


def say_holder(holder: Holder | None) -> str:
    """Put a holder into words, for a log line."""
    return "nobody that is known" if holder is None else describe(holder)


def attach_report(error: BaseException) -> None:
    """Add the report to an error as a note; for what waits on many things at once and comes to its time limit.

    Args:
        error: Usually a time-out that is about to be raised.

    Example:
        >>> from syncprims.diagnostics import attach_report
        >>> error = TimeoutError("too late")
        >>> attach_report(error)
        >>> error.__notes__[0].startswith("syncprims in process")
        True
    """
    error.add_note(report())
