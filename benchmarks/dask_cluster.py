"""``python -m benchmarks.dask_cluster``: many small tasks on a Dask cluster beside `client.map`, in one run.

It starts a cluster of two processes on loopback. Each way to run the tasks has its turn in each round. The output is
the median over the rounds of its time, as a multiple of the time of `client.map` in the same round.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from syncprims import CallbackPool

from .measuring import package
from .pools import nothing, with_callbacks
from .together import LIMIT

WORKERS = 2


def _map(client: Any, number: int) -> None:
    found = client.gather(client.map(nothing, range(number), pure=False))
    assert len(found) == number


def _submitted(client: Any, number: int) -> None:
    _results(client.get_executor(pure=False), number)


def _with_results(client: Any, number: int) -> None:
    with CallbackPool(client.get_executor(pure=False)) as pool:
        _results(pool, number)


def _results(executor: Executor, number: int) -> None:
    futures = [executor.submit(nothing, each) for each in range(number)]
    assert sum(1 for future in futures if future.result(LIMIT) is not None) == number


def _with_callbacks(client: Any, number: int) -> None:
    with CallbackPool(client.get_executor(pure=False)) as pool:
        with_callbacks(lambda callback: pool.apply_async(nothing, callback=callback))(number)


WAYS: dict[str, Callable[[Any, int], None]] = {
    "client.map and gather": _map,
    "CallbackPool, submit and result": _with_results,
    "CallbackPool, a callback for each": _with_callbacks,
    "Dask's executor, submit and result": _submitted,
}


def main() -> int:
    """Measure, print, and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dask_cluster", description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1_000, 10_000], help="how many, in turn")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--into", type=Path, metavar="FILE", help="where the table is kept")
    options = parser.parse_args()
    distributed = package("distributed")
    kind = {"processes": True, "dashboard_address": None, "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, **kind) as cluster,
        distributed.Client(cluster) as client,
    ):
        text = "\n".join(_table(client, options.tasks, options.rounds)) + "\n"
    print(text)  # noqa: T201  its job
    if options.into:
        options.into.write_text(text, encoding="utf-8")
    return 0


def _table(client: Any, numbers: list[int], rounds: int) -> list[str]:
    columns = {number: _ratios(client, number, rounds) for number in numbers}
    rule = "  ".join(["=" * 36, *("=" * 14 for _ in numbers)])
    heads = [f"{number:,} tasks".rjust(14) for number in numbers]
    lines = [rule, "  ".join([f"{'way':36}", *heads]).rstrip(), rule]
    for way in WAYS:
        lines.append("  ".join([f"{way:36}", *(f"{columns[number][way]:>14.2f}" for number in numbers)]))
    return [*lines, rule]


def _ratios(client: Any, number: int, rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for run in WAYS.values():  # once, to warm up
        run(client, number // 10)
    for turn in range(rounds):
        seconds = {}
        for way in [*WAYS][:: -1 if turn % 2 else 1]:
            began = perf_counter()
            WAYS[way](client, number)
            seconds[way] = perf_counter() - began
        for way, each in found.items():
            each.append(seconds[way] / seconds["client.map and gather"])
    return {way: median(each) for way, each in found.items()}


if __name__ == "__main__":
    sys.exit(main())
