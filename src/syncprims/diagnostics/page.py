"""`page`: a recording as a page for a browser, complete in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from .._core.foreign import printable
from .spans import Span, hand_offs, held_meanwhile, in_lanes, micros
from .table import LockUse, rows

_KINDS = ("wait", "hold", "turn", "task", "callback")
# The files that the page is composed of, by the place in it that each takes.
_PARTS = {"/* the style */": ("style.css",), "/* the program */": ("draw.js", "use.js")}
_PLACE = "/* the recording */ null"


def page(spans: Sequence[Span], note: str, about: str = "", uses: Sequence[LockUse] = ()) -> str:
    """Return the page as HTML text.

    Args:
        spans: In the order of their starts.
        note: A warning about the spans, or "".
        about: When and where they were recorded.
        uses: The use of locks by where they were made, as far as that is known.
    """
    folder = files(__package__ or "").joinpath("timeline")
    html = folder.joinpath("page.html").read_text(encoding="utf-8")
    for place, names in _PARTS.items():
        html = html.replace(place, "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))
    # No text of the program must end the script that contains it.
    data = json.dumps(_data(spans, note, about, uses), separators=(",", ":")).replace("<", "\\u003c")
    return html.replace(_PLACE, data)


def _data(spans: Sequence[Span], note: str, about: str, uses: Sequence[LockUse]) -> dict[str, object]:
    names, sites, outcomes, holders = _Texts(), _Texts(), _Texts(), _Texts()
    table = [
        [
            names.number(row.name),
            sites.number(row.site),
            row.count,
            *(micros(seconds) for part in (row.wait, row.hold) for seconds in part.all()),
            row.ended,
        ]
        for row in rows(spans)
    ]
    # The names with the longest waits get the first numbers, and the page assigns its colours by the numbers.
    threads, lane_of = _threads(spans)
    holds, behind = held_meanwhile(spans)
    return {
        "note": note,
        "about": about,
        "kinds": _KINDS,
        "threads": threads,
        "spans": [
            [
                *lane_of[place],
                _KINDS.index(span.kind),
                names.number(span.name),
                sites.number(span.site),
                micros(span.start),
                micros(span.seconds),
                micros(span.waited),
                outcomes.number(span.outcome),
                holders.number(span.holder) if span.holder else -1,
            ]
            for place, span in enumerate(spans)
        ],
        "names": names.texts,
        "sites": sites.texts,
        "outcomes": outcomes.texts,
        "holders": holders.texts,
        "arrows": hand_offs(spans),
        "holds": holds,
        "behind": behind,
        "table": table,
        "uses": [
            [
                printable(use.name),
                *(use.locks, use.taken, use.waited),
                *(micros(seconds) for part in (use.wait, use.hold) for seconds in part.all()),
            ]
            for use in uses
        ],
    }


def _threads(spans: Sequence[Span]) -> tuple[list[dict[str, object]], dict[int, tuple[int, int]]]:
    """Return the threads, and for each span the number of its thread and of its row there."""
    threads: list[dict[str, object]] = []
    lane_of: dict[int, tuple[int, int]] = {}
    for (ident, thread), lanes in in_lanes(spans).items():
        depth = 0
        for lane in lanes:
            # Within a lane, nested spans are drawn one below the other.
            ends: list[float] = []
            lane_depth = 0
            for place in lane:
                while ends and ends[-1] <= spans[place].start:
                    ends.pop()
                lane_of[place] = (len(threads), depth + len(ends))
                ends.append(spans[place].end)
                lane_depth = max(lane_depth, len(ends))
            depth += lane_depth
        threads.append({"name": printable(thread), "ident": None if ident is None else str(ident), "depth": depth})
    return threads, lane_of


class _Texts:
    """Numbers texts, so that the page contains each of them once, in a form that it can show."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        shown = printable(text)
        if shown not in self._numbers:
            self._numbers[shown] = len(self.texts)
            self.texts.append(shown)
        return self._numbers[shown]
