"""``python -m benchmarks.constructions``: the pool's processes beside the construction that was rejected.

That is several executors of the standard library with one worker each, as many as there are workers. They give the same
promise: a worker that dies affects only one task. They are built here as lean as possible, without callbacks, time
limits, groups or more detailed errors. ``--save`` keeps the results of this interpreter in ``docs/benchmarks`` and
writes the table of the page that shows them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Any, Final

from syncprims import CallbackPool

from .measuring import OURS, STDLIB, Case, Group, Work, measure, python
from .pools import CHUNK, WORKERS, nothing, with_callbacks
from .tables import list_table

MANY: Final = 8  # workers, whose resources are counted
LIMIT: Final = 100.0
KEPT: Final = Path(__file__).parents[1] / "docs" / "benchmarks"
Call = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def _context() -> multiprocessing.context.BaseContext:
    return multiprocessing.get_context("forkserver")


class SideBySide(Executor):
    """Standard executors of one worker, each of which gets one call at a time and is replaced when it breaks."""

    def __init__(self, workers: int) -> None:
        self._mutex = threading.Lock()
        self._idle = [ProcessPoolExecutor(1, mp_context=_context()) for _ in range(workers)]
        self._all = list(self._idle)
        self._queue: deque[Call] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give the call to an executor that is idle, or queue it."""
        call: Call = (Future(), fn, args, kwargs)
        with self._mutex:
            if not self._idle:
                self._queue.append(call)
                return call[0]
            executor = self._idle.pop()
        self._give(executor, call)
        return call[0]

    def _give(self, executor: ProcessPoolExecutor, call: Call) -> None:
        future, fn, args, kwargs = call
        future.set_running_or_notify_cancel()
        executor.submit(fn, *args, **kwargs).add_done_callback(partial(self._done, executor, future))

    def _done(self, executor: ProcessPoolExecutor, future: Future[Any], inner: Future[Any]) -> None:
        error = inner.exception()
        if isinstance(error, BrokenExecutor):
            self._all.remove(executor)
            executor = ProcessPoolExecutor(1, mp_context=_context())
            self._all.append(executor)
        with self._mutex:
            call = self._queue.popleft() if self._queue else None
            if call is None:
                self._idle.append(executor)
        if call is not None:
            self._give(executor, call)
        if error is None:
            future.set_result(inner.result())
        else:
            future.set_exception(error)

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], chunksize: int = 1, **_: Any) -> Iterator[Any]:
        """Map in chunks, like the standard process executor."""
        items = iter(iterables[0])
        chunks = iter(lambda: tuple(islice(items, chunksize)), ())
        for results in super().map(partial(_run_chunk, fn), chunks):
            yield from results

    def shutdown(self, wait: bool = True, **_: Any) -> None:
        """Shut all of them down."""
        for executor in self._all:
            executor.shutdown(wait=wait)


def _run_chunk(fn: Callable[[Any], Any], chunk: tuple[Any, ...]) -> list[Any]:
    return [fn(item) for item in chunk]


NAMES: Final = ("ProcessPoolExecutor", "one-worker executors side by side", 'CallbackPool("process")')


def make(name: str, workers: int) -> Executor:
    """Make one of the three."""
    if name == NAMES[0]:
        return ProcessPoolExecutor(workers, mp_context=_context())
    return SideBySide(workers) if name == NAMES[1] else CallbackPool("process", max_workers=workers)


# -- throughput --------------------------------------------------------------------------------------------------------


def _callbacks(name: str, stack: ExitStack) -> Work:
    pool = stack.enter_context(make(name, WORKERS))
    if isinstance(pool, CallbackPool):
        return with_callbacks(lambda callback: pool.apply_async(nothing, callback=callback))
    return with_callbacks(lambda callback: pool.submit(nothing).add_done_callback(callback))


def _maps(name: str, stack: ExitStack) -> Work:
    pool = stack.enter_context(make(name, WORKERS))

    def work(operations: int) -> float:
        started = perf_counter()
        assert sum(1 for _ in pool.map(nothing, range(operations), chunksize=CHUNK)) == operations
        return perf_counter() - started

    return work


def _group(key: str, open_: Callable[[str, ExitStack], Work], operations: int) -> Group:
    cases = [Case(name, OURS if name == NAMES[2] else STDLIB, partial(open_, name)) for name in NAMES]
    return Group(key, key, tuple(cases), better="more", operations=operations)


def throughput(rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of the ratios to the first one's throughput."""
    found = {}
    for group in (_group("callbacks", _callbacks, 1000), _group("map", _maps, CHUNK * 200)):
        found[group.key] = {each.name: median(each.ratios) for each in measure(group, rounds, report=print)}
    return found


# -- resources, each in its own program ---------------------------------------------------------------------------


def meet(folder: str, count: int) -> int:
    """Return this worker's process id once so many workers are here."""
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < count:
        sleep(0.001)
    return os.getpid()


def _usage() -> tuple[int, int, float]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), threading.active_count(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _share(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def resources(name: str) -> dict[str, float]:
    """Start MANY workers, twice; return the time of each start, and the resources of the first."""
    before = _usage()
    seconds = []
    with ExitStack() as stack:
        for again in range(2):
            started = perf_counter()
            pool = stack.enter_context(make(name, MANY))
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            futures = [pool.submit(meet, folder, MANY) for _ in range(MANY)]
            pids = {future.result(LIMIT) for future in futures}
            seconds.append(perf_counter() - started)
            assert len(pids) == MANY
            if not again:
                used = [after - earlier for after, earlier in zip(_usage(), before, strict=True)]
                share = sum(map(_share, pids)) / MANY
    return {
        "start": seconds[0],
        "again": seconds[1],
        "descriptors": used[0] / MANY,
        "threads": used[1] / MANY,
        "memory here": used[2] / MANY,
        "memory there": share,
    }


def all_resources(times: int) -> dict[str, dict[str, float]]:
    """Return the medians of several programs for each of the three, which run in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for _ in range(times):
        for name, each in found.items():
            command = [sys.executable, "-m", "benchmarks.constructions", "--resources", name]
            each.append(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=LIMIT).stdout))
    return {name: {key: median(one[key] for one in each) for key in each[0]} for name, each in found.items()}


# -- from the limit of a task to the death of its process --------------------------------------------------------------


def endless(path: str) -> None:
    """Report its process and when it began, and never return."""
    part = Path(path + ".part")
    part.write_text(f"{os.getpid()} {monotonic()}")
    part.rename(path)
    threading.Event().wait()


def _note_time(called: list[float], _: object) -> None:
    called.append(monotonic())


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def latency(rounds: int, limit: float = 0.3) -> dict[str, Sequence[float]]:
    """Return how long after its limit a process was dead and its callback called: median, least and most, in ms."""
    dead, told = [], []
    with CallbackPool("process", max_workers=WORKERS) as pool, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            path = os.path.join(folder, str(number))
            called: list[float] = []
            task = pool.apply_async(endless, (path,), error_callback=partial(_note_time, called), timeout=limit)
            while not os.path.exists(path):
                sleep(0.0005)
            pid, began = Path(path).read_text().split()
            while not _is_gone(int(pid)):
                sleep(0.0002)
            dead.append(monotonic() - float(began) - limit)
            task.wait_settled(LIMIT)
            told.append(called[0] - float(began) - limit)
    return {name: [1000 * f(each) for f in (median, min, max)] for name, each in (("dead", dead), ("told", told))}


# -- the table ---------------------------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """Return the table of the page."""
    lines = [["", *(f"{name}, {version}" for version in results for name in ("standard", "side by side", "ours"))]]

    def line(title: str, shown: Callable[[dict[str, Any], str], str]) -> None:
        lines.append([title, *(shown(result, name) for result in results.values() for name in NAMES)])

    def resource(key: str, form: str) -> Callable[[dict[str, Any], str], str]:
        return lambda result, name: format(result["resources"][name][key], form)

    line("throughput, with a callback for each task", lambda result, name: f"{result['callbacks'][name]:.2f}")
    line("throughput of ``map(chunksize=64)``", lambda result, name: f"{result['map'][name]:.2f}")
    line("descriptors per worker", resource("descriptors", ".1f"))
    line("threads per worker", resource("threads", ".1f"))
    line("memory per worker, in the program, MB", resource("memory here", ".1f"))
    line("memory per worker, its share of its own, MB", resource("memory there", ".1f"))
    line(f"start of {MANY} workers, first pool, s", resource("start", ".2f"))
    line(f"start of {MANY} workers, second pool, s", resource("again", ".2f"))
    text = [list_table(lines), ""]
    for version, result in results.items():
        dead, told = ([round(ms, 1) for ms in result["latency"][key]] for key in ("dead", "told"))
        text.append(
            f"On {version} the process of a late task was dead {dead[0]} ms after the limit ({dead[1]} to {dead[2]}), "
            f"and the callback was called {told[0]} ms after it ({told[1]} to {told[2]})."
        )
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure everything, print it, and keep it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.constructions", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="rounds of each measurement (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help="keep the results and write the table of the page")
    parser.add_argument("--resources", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resources:
        print(json.dumps(resources(options.resources)))
        return
    found = {
        **throughput(options.rounds),
        "resources": all_resources(max(1, options.rounds // 6)),
        "latency": latency(options.rounds),
    }
    path = KEPT / "constructions.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if options.save and path.exists() else {}
    kept[python()] = found
    print(table(kept))
    if options.save:
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".txt").write_text(table(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
