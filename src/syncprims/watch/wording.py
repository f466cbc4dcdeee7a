"""Wording: an incident as a block of text, as a JSON object, and as an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from traceback import FrameSummary
from typing import Any, Final

from .._core.clock import strftime
from .._core.foreign import printable, words
from .._core.report import date, interpreter
from .._core.stacks import STANDARD_LIBRARY, programs_own, say_frame, without_library
from ..errors import DeadlockError
from ..facts import Wait
from .incident_facts import DEADLOCK, Holding, Incident, WaitingThread

_FRAMES: Final = 8
_PASSED: Final = ("<frozen ", os.path.join(STANDARD_LIBRARY, "asyncio", ""))  # left out if others remain
_THREADS: Final = 12
SCHEMA: Final = 1
"""The version of the JSON objects; it changes when a field changes its meaning."""


def as_text(incident: Incident) -> str:
    """Describe an incident in one block, whose last line says what to do."""
    lines = [f"==== syncprims.watch: {incident.heading} in process {os.getpid()}; {date()}, {interpreter()}"]
    lines.append(f"{'; '.join((incident.summary, *incident.doubts))}:")
    for thread in incident.threads[:_THREADS]:
        lines += _say_thread(thread)
    if len(incident.threads) > _THREADS:
        lines.append(f"  and {len(incident.threads) - _THREADS} more threads")
    lines += [f"  {note}" for note in incident.notes]
    lines.append(f"==== what to do: {incident.advice}")
    return "\n".join(lines) + "\n"


def _say_thread(thread: WaitingThread) -> Iterator[str]:
    yield f"  {_who(thread)} has waited {thread.seconds:.1f} s for {thread.sought}"
    for holder in thread.holders:
        yield f"    {_say_holder(holder, thread)}"
    yield from (f"      {line}" for line in say_stack(thread.stack))


def _who(thread: WaitingThread) -> str:
    who = _name(thread.thread, thread.runs)
    if not thread.task:
        return who
    return f"{thread.task} in {who}" if thread.ident < 0 else f"{who}, which runs {thread.task},"


def _say_holder(holder: Holding, thread: WaitingThread) -> str:
    if not holder.is_alive:
        who = f"Thread {words(holder.thread)}" if holder.thread else "a thread"
        return f"held by {who} (ident {holder.ident}), which has ended or is not in this process"
    who = "itself" if holder.ident == thread.ident else holder.task or ""
    if holder.ident >= 0 and holder.ident != thread.ident:
        who = _name(holder.thread, holder.ident)
    if holder.words:
        return f"up to {who}, {holder.words}"
    taken = holder.taken
    where = "" if taken is None else f", taken at {say_place(taken)}"
    suspended = f", by {holder.task}, which is suspended" if holder.task and holder.ident >= 0 else ""
    return f"held by {who}{where}{suspended}"


def say_place(place: tuple[str, int, str]) -> str:
    """Describe a file, a line and a function."""
    filename, line, function = place
    return printable(f"{os.path.basename(filename)}:{line} in {function}")


def _name(name: str, ident: int) -> str:
    return f"Thread {words(name)}" if name else f"a thread without a name (ident {ident})"


def say_stack(stack: tuple[FrameSummary, ...]) -> list[str]:
    """The lines of the program on a thread's stack, outermost first."""
    shown = programs_own(stack) or without_library(stack)
    shown = tuple(frame for frame in shown if not frame.filename.startswith(_PASSED)) or shown
    left_out = [f"... {len(shown) - _FRAMES} more ..."] if len(shown) > _FRAMES else []
    return left_out + [say_frame(frame) for frame in shown[-_FRAMES:]]


def as_object(incident: Incident) -> dict[str, Any]:
    """Return an incident as an object for JSON; the reference page describes the fields."""
    return {
        "syncprims_watch": SCHEMA,
        "heading": incident.heading,
        "certain": incident.heading == DEADLOCK,
        "summary": incident.summary,
        "doubts": list(incident.doubts),
        "advice": incident.advice,
        "notes": list(incident.notes),
        "time": strftime("%Y-%m-%dT%H:%M:%S%z"),
        "pid": os.getpid(),
        "python": interpreter(),
        "threads": [
            {
                "name": thread.thread,
                "ident": thread.runs,
                "task": thread.task or None,
                "waits_for": thread.sought,
                "seconds": round(thread.seconds, 3),
                "up_to": [
                    {
                        "name": holder.thread,
                        "ident": holder.ident,
                        "task": holder.task or None,
                        "alive": holder.is_alive,
                        "taken_at": None if holder.taken is None else _place_object(*holder.taken),
                        "why": holder.words or "holds it",
                    }
                    for holder in thread.holders
                ],
                "stack": [_place_object(frame.filename, frame.lineno or 0, frame.name) for frame in thread.stack],
            }
            for thread in incident.threads
        ],
    }


def _place_object(filename: str, line: int, function: str) -> dict[str, Any]:
    return {"file": printable(filename), "line": line, "function": printable(function)}


def error_of(incident: Incident, ident: int) -> DeadlockError:
    """Make the error that breaks a deadlock in a thread: its text is the report, its cycle begins with that thread."""
    threads = list(incident.threads)
    first = next((index for index, each in enumerate(threads) if each.ident == ident), 0)
    threads = threads[first:] + threads[:first]
    cycle = [Wait(each.thread, each.sought, each.holders[0].thread if each.holders else "") for each in threads]
    text = as_text(incident).rstrip("\n").partition("\n")[2]
    return DeadlockError(f"{incident.heading}: {text}", cycle=cycle, stacks=[each.stack for each in threads])
