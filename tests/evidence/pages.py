"""The tables of the page on evidence, made of what was kept on each interpreter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from callback_pool.cpython_left_out import OF_EXECUTORS, OF_POOLS, OF_PROCESS_EXECUTORS, OF_THREAD_POOLS
from list_table import list_table
from locks.left_out import LEFT_OUT
from syncprims.testing import MODES

Results = dict[str, dict[str, Any]]

SWEPT: Final = (
    *("TimedLock", "TimedRLock", "acquire_all", "TimedSemaphore", "TimedRWLock"),
    *("OrderedRunner", "AtomicCounter", "CallbackPool"),
)
EXPLORED: Final = {
    "locks": "interleavings of `TimedLock` and the search for deadlocks",
    "runner": "interleavings of `OrderedRunner`",
    "counter": "interleavings of `AtomicCounter`",
    "pool": "orders of `CallbackPool`'s steps",
}
COUNTED: Final = {
    "mutations caught": "mutations caught, of the locks, the runner, the counter and the pool",
    "cycles with one victim": "cycles of two, three and eight threads, each with one victim",
    "seconds of ordered acquisition": "seconds of ordered acquisition, without a report",
    "signals survived": "real signals at random moments, survived",
    "forks survived": "forks under load, survived",
}
OVER_THE_CORE: Final = {
    "calls compared": "calls that were compared with Python alone, or a bare lock",
    "CPython's tests of locks and conditions passed": "CPython's tests of locks and conditions passed",
    "states of the protocol": "states of the model of the lock",
    "mutations of the protocol caught": "mutations of the model, caught",
}
NOT_RUN: Final = "\N{EN DASH}"


def write(folder: Path) -> None:
    """Write every table of what is kept in the folder, beside it."""
    for name, table in tables(folder).items():
        (folder / name).write_text(table, encoding="utf-8")


def tables(folder: Path) -> dict[str, str]:
    """Each table by the name of its file."""
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("3.*.json")}
    pythons = sorted(kept, key=lambda name: (int(name.removesuffix("t").partition(".")[2]), name))
    results: Results = {name: kept[name] for name in pythons}
    heading = ["", *pythons]
    return {
        "core.txt": list_table([heading, *_core(results)]),
        "sweeps.txt": list_table([heading, *_sweeps(results)]),
        "explorations.txt": list_table([heading, *_explorations(results)]),
        "stress.txt": list_table([heading, *_stress(results)]),
        "peers.txt": list_table([heading, *_peers(results)]),
        "runs.txt": list_table([["", "interpreter", "tests", "failed", "skipped", "time"], *_runs(results)]),
        "left-out.txt": list_table([["CPython's test", "left out for", "because"], *_left_out()], widths="28 22 50"),
    }


def _sweeps(results: Results) -> Iterator[list[str]]:
    for subject in SWEPT:
        for mode in MODES:
            key = f"{subject} {mode}"
            yield [f"`{subject}`, {mode}", *(_points(one.get("sweeps"), key) for one in results.values())]
    yield ["**all**", *(_points(one.get("sweeps"), None) for one in results.values())]
    yield ["controls that leaked, as they should", *(_controls(one.get("sweeps")) for one in results.values())]


def _core(results: Results) -> Iterator[list[str]]:
    parts = [one.get("core") for one in results.values()]
    for subject in ("TimedLock", "TimedRLock", "acquire_all", "AtomicCounter"):
        for mode in MODES:
            yield [f"`{subject}`, {mode}", *(_points(part, f"{subject} {mode}") for part in parts)]
    yield ["**all**", *(_points(part, None) for part in parts)]
    yield ["controls that leaked, as they should", *(_controls(part) for part in parts)]
    for name, says in OVER_THE_CORE.items():
        yield [says, *(_number(part["recorded"] if part else {}, name) for part in parts)]


def _points(part: dict[str, Any] | None, key: str | None) -> str:
    if part is None or (key is not None and not part["swept"].get(key)):
        return NOT_RUN
    points, leaks = (part[name][key] if key else sum(part[name].values()) for name in ("swept", "leaks"))
    return f"{points:,} / **{leaks}**"


def _controls(part: dict[str, Any] | None) -> str:
    return NOT_RUN if part is None else str(sum(part["controls"].values()))


def _explorations(results: Results) -> Iterator[list[str]]:
    for word, says in EXPLORED.items():
        yield [
            says,
            *(_explored(one.get("explorations", {}).get("recorded", {}), word) for one in results.values()),
        ]
    yield [
        COUNTED["mutations caught"],
        *(_number(one.get("explorations", {}).get("recorded", {}), "mutations caught") for one in results.values()),
    ]


def _explored(recorded: dict[str, int], word: str) -> str:
    names = [name for name in recorded if name.startswith("interleavings") and name.endswith(f" {word}")]
    if not names:
        return NOT_RUN
    return f"{sum(recorded[name] for name in names):,} in {recorded[f'scenarios of {word}']}"


def _number(recorded: dict[str, float], name: str) -> str:
    return f"{recorded[name]:,.0f}" if name in recorded else NOT_RUN


def _stress(results: Results) -> Iterator[list[str]]:
    for name, says in COUNTED.items():
        if name != "mutations caught":
            yield [says, *(_number(one.get("stress", {}).get("recorded", {}), name) for one in results.values())]


def _peers(results: Results) -> Iterator[list[str]]:
    for name in ("locks and conditions passed", "executors passed", "executors skipped by themselves"):
        key = f"CPython's tests of {name}"
        yield [key, *(_number(one.get("peers", {}).get("recorded", {}), key) for one in results.values())]


def _runs(results: Results) -> Iterator[list[str]]:
    for part in ("sweeps", "explorations", "peers", "stress", "core"):
        for python, one in results.items():
            if ran := one.get(part):
                numbers = [str(ran["passed"]), f"**{len(ran['failed'])}**", str(len(ran["skipped"]))]
                yield [part, f"{python} ({ran['python']})", *numbers, f"{ran['seconds']:,} s"]


def _left_out() -> Iterator[list[str]]:
    for subject, tests in LEFT_OUT.items():
        for name, reason in tests.items():
            yield [f"``{name}``", f"`{subject}`" if "(" not in subject else f"``{subject}``", reason]
    for kinds, pool_tests in (
        ("`CallbackPool`", OF_EXECUTORS),
        ('``CallbackPool("process")``', OF_PROCESS_EXECUTORS),
        ("``Pool`` of the how-to", OF_POOLS),
        ("``ThreadPool`` of the how-to", OF_THREAD_POOLS),
    ):
        for name, each in pool_tests.items():
            yield [f"``{name}``", kinds, re.sub(r"\b(_\w+|\w+_\w+)\b", r"``\1``", each.why)]
