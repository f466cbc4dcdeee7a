"""The saved trace keeps to Chrome's trace-event format."""

from __future__ import annotations

import json
import random
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from locks.actors import LIMIT, Actors
from syncprims import CallbackPool, OrderedRunner, TimedLock
from syncprims.diagnostics import record

TraceEvent = dict[str, Any]

NEEDED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "s": {"name", "cat", "pid", "tid", "ts", "id"},
    "f": {"name", "cat", "pid", "tid", "ts", "id", "bp"},
}


def check(trace: Any) -> dict[str, list[TraceEvent]]:
    """Raise unless every reader of the format accepts the trace; return its events by phase."""
    assert set(trace) <= {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events: dict[str, list[TraceEvent]] = {phase: [] for phase in NEEDED}
    for event in trace["traceEvents"]:
        assert NEEDED[event["ph"]] <= set(event), event
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert 0 <= event["tid"] < 2**31
        assert isinstance(event.get("args", {}), dict)
        for field in ("ts", "dur"):
            if field in event:
                assert isinstance(event[field], (int, float))
                assert event[field] >= 0
        events[event["ph"]].append(event)
    check_names(events)
    for tid in {event["tid"] for event in events["X"]}:
        check_nesting([event for event in events["X"] if event["tid"] == tid])
    check_arrows(events)
    return events


def check_names(events: dict[str, list[TraceEvent]]) -> None:
    """Every track has one name, and the process has one."""
    named = [event["tid"] for event in events["M"] if event["name"] == "thread_name"]
    assert len(named) == len(set(named))
    assert {event["tid"] for event in events["X"]} == set(named)
    assert [event["args"]["name"] for event in events["M"] if event["name"] == "process_name"] == ["syncprims"]
    assert all(isinstance(event["args"]["name"], str) for event in events["M"] if event["name"] == "thread_name")


def check_nesting(track: list[TraceEvent]) -> None:
    """Complete events of one track are nested or apart, which Perfetto needs to show them."""
    ends: list[float] = []
    for event in sorted(track, key=lambda event: (event["ts"], -event["dur"])):
        end = event["ts"] + event["dur"]
        while ends and ends[-1] <= event["ts"] + 0.0015:  # times are rounded to a nanosecond
            ends.pop()
        assert not ends or end <= ends[-1] + 0.0015, event
        ends.append(end)


def check_arrows(events: dict[str, list[TraceEvent]]) -> None:
    """Each arrow has two ends with one id, each in an event of its track, the second not before the first."""
    starts = {event["id"]: event for event in events["s"]}
    finishes = {event["id"]: event for event in events["f"]}
    assert len(starts) == len(events["s"])
    assert len(finishes) == len(events["f"])
    assert starts.keys() == finishes.keys()
    for number, start in starts.items():
        finish = finishes[number]
        assert (start["name"], start["cat"]) == (finish["name"], finish["cat"])
        assert finish["bp"] == "e"
        assert start["ts"] <= finish["ts"] + 0.0015
        for end in (start, finish):
            assert any(
                event["tid"] == end["tid"] and event["ts"] - 0.0015 <= end["ts"] <= event["ts"] + event["dur"] + 0.0015
                for event in events["X"]
            )


def test_everything_together_makes_a_valid_trace(tmp_path: Path) -> None:
    """Overlapping locks, a runner and a pool, recorded together, give a trace in the right format."""
    locks = [TimedLock(name=f"lock-{number}") for number in range(3)]

    def cross(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(30):
            first, second = choose.sample(locks, 2)
            with first:
                if second.acquire(timeout=0.001):
                    first_held = choose.random() < 0.5
                    if first_held:
                        first.release()
                        first.acquire()
                    second.release()

    with record() as recording:
        with Actors() as actors:
            for seed in range(4):
                actors.start(lambda seed=seed: cross(seed), f"crosser-{seed}")  # type: ignore[misc]  # bound now
        OrderedRunner("ping", "pong", rounds=2, name="game").run({"ping": str, "pong": str}, timeout=LIMIT)
        with CallbackPool(max_workers=2, name="mill") as pool:
            for number in range(4):
                pool.apply_async(str, (number,), callback=str)
    recording.save(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text("utf-8"))
    events = check(trace)
    assert {event["cat"] for event in events["X"]} >= {"hold", "turn", "task", "callback"}
    assert len(events["X"]) == len(recording.spans)
    assert len(events["s"]) >= 3 + 4
    tracks = {event["args"]["name"] for event in events["M"] if event["name"] == "thread_name"}
    assert {"crosser-0", "crosser-1", "crosser-2", "crosser-3", "mill-dispatcher"} <= tracks
    assert trace["otherData"]["dropped"] == 0


def test_times_are_microseconds(tmp_path: Path) -> None:
    """A hold of so many seconds lasts a million times as many units, and has its place."""
    with record() as recording, TimedLock(name="timed"):
        Event().wait(0.02)
    recording.save(tmp_path / "trace.json")
    (event,) = check(json.loads((tmp_path / "trace.json").read_text("utf-8")))["X"]
    assert event["dur"] == pytest.approx(recording.spans[0].seconds * 1e6, abs=0.01)
    assert 20_000 <= event["dur"] < LIMIT * 1e6
    assert event["name"] == "hold timed"
    assert event["args"]["site"] == recording.spans[0].site


def test_locks_that_cross_get_a_further_track(tmp_path: Path) -> None:
    """Overlapping holds of one thread are on two tracks, because on one the trace would be invalid."""
    a, b = TimedLock(name="a"), TimedLock(name="b")
    with record() as recording:
        a.acquire()
        b.acquire()
        a.release()
        b.release()
    recording.save(tmp_path / "trace.json")
    events = check(json.loads((tmp_path / "trace.json").read_text("utf-8")))
    names = [event["args"]["name"] for event in events["M"] if event["name"] == "thread_name"]
    assert names == ["MainThread", "MainThread +1"]


def test_the_checker_refuses_what_is_no_trace() -> None:
    """The checker of these tests notices an overlap, an arrow without an end and a track without a name."""
    name = {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "t"}}
    process = {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "syncprims"}}

    def span(start: int, duration: int) -> TraceEvent:
        return {"ph": "X", "name": "x", "cat": "c", "pid": 1, "tid": 1, "ts": start, "dur": duration, "args": {}}

    arrow = {"ph": "s", "name": "h", "cat": "h", "pid": 1, "tid": 1, "ts": 1, "id": 1}
    good: list[TraceEvent] = [process, name, span(0, 5)]
    check({"traceEvents": good, "displayTimeUnit": "ms"})
    for bad in ([*good, span(3, 5)], [*good, arrow], [process, span(0, 5)], [name, span(0, 5)]):
        with pytest.raises(AssertionError):
            check({"traceEvents": bad, "displayTimeUnit": "ms"})
