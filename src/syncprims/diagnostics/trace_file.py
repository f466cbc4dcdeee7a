"""`trace`: a recording in Chrome's trace-event format."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from .._core.foreign import printable
from .spans import Span, hand_offs, in_lanes, micros
from .table import Durations, LockUse

# The format: "Trace Event Format" of the Chromium project. "X" is a complete event with a duration, "M" metadata, and
# "s" and "f" are the ends of an arrow. Times are in microseconds. Events of one track must be nested or apart, so a
# thread has another track for those that are neither.


def trace(spans: Sequence[Span], dropped: int, recorded: str = "", uses: Sequence[LockUse] = ()) -> str:
    """Return the trace as JSON text.

    Args:
        spans: In the order of their starts.
        dropped: How many others there were.
        recorded: When and where they were recorded.
        uses: The use of locks by where they were made, as far as that is known.
    """
    pid = os.getpid()
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "syncprims"}}
    ]
    track_of: dict[int, int] = {}
    tid = 0
    for (_, thread), lanes in in_lanes(spans).items():
        for number, lane in enumerate(lanes):
            tid += 1
            name = printable(thread) if number == 0 else f"{printable(thread)} +{number}"
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}})
            events.append({"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}})
            track_of.update(dict.fromkeys(lane, tid))
    for place, span in enumerate(spans):
        args: dict[str, object] = {"site": printable(span.site)}
        if span.ident is not None:
            args["ident"] = span.ident
        if span.waited:
            args["waited_us"] = micros(span.waited)
        if span.outcome:
            args["outcome"] = printable(span.outcome)
        if span.holder:
            args["holder"] = printable(span.holder)
        events.append(
            {
                "ph": "X",
                "cat": span.kind,
                "name": f"{span.kind} {printable(span.name)}"
                + (f" ({printable(span.outcome)})" if span.outcome else ""),
                "pid": pid,
                "tid": track_of[place],
                "ts": micros(span.start),
                "dur": micros(span.seconds),
                "args": args,
            }
        )
    for number, (giver, taker) in enumerate(hand_offs(spans), 1):
        # An arrow's end belongs to the span that is active at that time, so it must come before the giver's last
        # moment.
        left = max(spans[giver].start, min(spans[giver].end, spans[taker].start) - 1e-6)
        common = {"cat": "hand-off", "name": "hand-off", "id": number, "pid": pid}
        events.append({"ph": "s", **common, "tid": track_of[giver], "ts": micros(left)})
        arrived = micros(spans[taker].start)
        events.append({"ph": "f", "bp": "e", **common, "tid": track_of[taker], "ts": arrived})
    about: dict[str, object] = {"dropped": dropped, "producer": "syncprims", "recorded": recorded}
    if uses:
        about["locks"] = [_use_object(use) for use in uses]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about})


def _use_object(use: LockUse) -> dict[str, object]:
    return {
        "name": printable(use.name),
        "file": printable(use.file),
        "line": use.line,
        "locks": use.locks,
        "taken": use.taken,
        "waited": use.waited,
        "wait_us": _durations_object(use.wait),
        "hold_us": _durations_object(use.hold),
    }


def _durations_object(durations: Durations) -> dict[str, float]:
    names = ("total", "mean", "p99", "longest")
    return {name: micros(seconds) for name, seconds in zip(names, durations.all(), strict=True)}
