"""The tables of the page on evidence, made from the kept results of each interpreter."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from callback_pool.cpython_left_out import OF_EXECUTORS, OF_POOLS, OF_PROCESS_EXECUTORS, OF_THREAD_POOLS
from list_table import list_table
from locks.left_out import LEFT_OUT
from syncprims.testing import MODES

Results = dict[str, dict[str, Any]]

# The subjects of each part's sweeps.
SWEEPS: Final = {
    "sweeps": ("TimedLock", "TimedRLock", "acquire_all", "OrderedRunner", "AtomicCounter", "CallbackPool"),
    "shared": ("TimedSemaphore", "TimedRWLock", "QueuedLock", "acquire_all"),
    "built": ("KeyedLock", "Guarded", "once", "SingleFlight"),
    "core": ("TimedLock", "TimedRLock", "acquire_all", "AtomicCounter"),
}
EXPLORED: Final = {
    "locks": "interleavings of `TimedLock` and the search for deadlocks",
    "holders": "interleavings of `TimedSemaphore`, `TimedRWLock` and `QueuedLock`",
    "calls": "interleavings of `KeyedLock`, `once` and `SingleFlight`",
    "runner": "interleavings of `OrderedRunner`",
    "counter": "interleavings of `AtomicCounter`",
    "pool": "orders of `CallbackPool`'s steps",
}
COUNTED: Final = {
    "histories judged": "histories of `TimedSemaphore`, `TimedRWLock` and `QueuedLock`, judged by a model",
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
    """Write every table of the results kept in the folder, beside them."""
    for name, table in tables(folder).items():
        (folder / name).write_text(table, encoding="utf-8")


def tables(folder: Path) -> dict[str, str]:
    """Return each table by the name of its file."""
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("3.*.json")}
    pythons = sorted(kept, key=lambda name: (int(name.removesuffix("t").partition(".")[2]), name))
    results: Results = {name: kept[name] for name in pythons}
    heading = ["", *pythons]
    return {
        "core.txt": list_table([heading, *_sweeps(results, "core"), *_over_the_core(results)]),
        "shared.txt": list_table([heading, *_sweeps(results, "shared")]),
        "built.txt": list_table([heading, *_sweeps(results, "built")]),
        "sweeps.txt": list_table([heading, *_sweeps(results, "sweeps")]),
        "explorations.txt": list_table([heading, *_explorations(results)]),
        "stress.txt": list_table([heading, *_stress(results)]),
        "peers.txt": list_table([heading, *_peers(results)]),
        "runs.txt": list_table([["", "interpreter", "tests", "failed", "skipped", "time"], *_runs(results)]),
        "left-out.txt": list_table([["CPython's test", "left out for", "because"], *_left_out()], widths="28 22 50"),
    }


def _sweeps(results: Results, name: str) -> Iterator[list[str]]:
    parts = [one.get(name) for one in results.values()]
    keys = {subject: [f"{subject} {mode}" for mode in MODES] for subject in SWEEPS[name]}
    for subject, each in keys.items():
        for mode, key in zip(MODES, each, strict=True):
            yield [f"`{subject}`, {mode}", *(_points(part, [key]) for part in parts)]
    everything = [key for each in keys.values() for key in each]
    yield ["**all**", *(_points(part, everything) for part in parts)]
    yield ["controls that leaked, as they should", *(_controls(part, everything) for part in parts)]


def _over_the_core(results: Results) -> Iterator[list[str]]:
    for name, says in OVER_THE_CORE.items():
        yield [says, *(_number(_recorded(one, "core"), name) for one in results.values())]


def _points(part: dict[str, Any] | None, keys: list[str]) -> str:
    if part is None or not any(part["swept"].get(key) for key in keys):
        return NOT_RUN
    points, leaks = (sum(part[name].get(key, 0) for key in keys) for name in ("swept", "leaks"))
    return f"{points:,} / **{leaks}**"


def _controls(part: dict[str, Any] | None, keys: list[str]) -> str:
    return NOT_RUN if part is None else str(sum(part["controls"].get(key, 0) for key in keys))


def _recorded(one: dict[str, Any], *parts: str) -> Counter[str]:
    """The records of these parts, added up."""
    recorded: Counter[str] = Counter()
    for part in parts:
        recorded.update(one.get(part, {}).get("recorded", {}))
    return recorded


def _explorations(results: Results) -> Iterator[list[str]]:
    every = [_recorded(one, "explorations", "orders", "built") for one in results.values()]
    for word, says in EXPLORED.items():
        yield [says, *(_explored(recorded, word) for recorded in every)]
    for name in ("histories judged", "mutations caught"):
        yield [COUNTED[name], *(_number(recorded, name) for recorded in every)]


def _explored(recorded: Counter[str], word: str) -> str:
    names = [name for name in recorded if name.startswith("interleavings") and name.endswith(f" {word}")]
    if not names:
        return NOT_RUN
    return f"{sum(recorded[name] for name in names):,} in {recorded[f'scenarios of {word}']}"


def _number(recorded: Mapping[str, float], name: str) -> str:
    return f"{recorded[name]:,.0f}" if name in recorded else NOT_RUN


def _stress(results: Results) -> Iterator[list[str]]:
    for name, says in COUNTED.items():
        if name not in ("histories judged", "mutations caught"):
            yield [says, *(_number(one.get("stress", {}).get("recorded", {}), name) for one in results.values())]


def _peers(results: Results) -> Iterator[list[str]]:
    for name in ("locks and conditions passed", "executors passed", "executors skipped by themselves"):
        key = f"CPython's tests of {name}"
        yield [key, *(_number(one.get("peers", {}).get("recorded", {}), key) for one in results.values())]


def _runs(results: Results) -> Iterator[list[str]]:
    for part in ("sweeps", "shared", "built", "explorations", "orders", "peers", "stress", "core"):
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
