"""The cost of an observed lock of `syncprims.watch` beside a bare one: ``python -m benchmarks.observed``.

All are measured in turn, in small pieces, and the best piece of each counts, so that a busy machine disturbs little.
``--save`` keeps the results in ``docs/watch/observed.json``, for this Python and its form: with the compiled core, or
in Python alone (``SYNCPRIMS_PURE=1``). It also makes the tables of the page from the kept results.
"""

from __future__ import annotations

import _thread
import json
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import perf_counter, process_time
from typing import Any, Final

from syncprims import compiled
from syncprims.watch.contention import WatchRecording
from syncprims.watch.exact import exact_classes
from syncprims.watch.observed import ObservedLock, ObservedRLock, factory_of

from .measuring import python
from .observed_floors import CALLS, WITH
from .tables import list_table

PIECE, PIECES = 1000, 400
KEPT: Final = Path(__file__).parents[1] / "docs" / "watch"
FILE: Final = KEPT / "observed.json"
# The columns of the table, and the key of each figure.
COLUMNS: Final = {
    "``with`` a Lock": "with",
    "``acquire``, ``release``": "calls",
    "``with`` an RLock": "with RLock",
    "its ``acquire``, ``release``": "calls RLock",
    "``with`` a Lock, recorded": "recorded",
    "contended": "contended",
}


def with_block(lock: Any) -> Callable[[int], None]:
    """Return a loop of `with`."""

    def loop(times: int) -> None:
        for _ in range(times):
            with lock:
                pass

    return loop


def acquire_and_release(lock: Any) -> Callable[[int], None]:
    """Return a loop of the two calls."""

    def loop(times: int) -> None:
        for _ in range(times):
            lock.acquire()
            lock.release()

    return loop


def ratios(*loops: Callable[[int], None]) -> list[float]:
    """How many times as long as the first one each of the others takes."""
    best = [float("inf")] * len(loops)
    for _ in range(PIECES):
        for index, loop in enumerate(loops):
            begun = perf_counter()
            loop(PIECE)
            best[index] = min(best[index], perf_counter() - begun)
    return [each / best[0] for each in best[1:]]


def recorded() -> Any:
    """Return a lock that is recorded."""
    recording = WatchRecording()
    recording.__enter__()
    return factory_of(exact_classes([recording.recorder()])[0])()


def contended(lock: Any) -> Callable[[int], None]:
    """Return a loop of `with` in four threads."""

    def loop(times: int) -> None:
        threads = [Thread(target=with_block(lock), args=(times,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return loop


def cpu_ratio(bare: Callable[[int], None], observed: Callable[[int], None]) -> float:
    """How many times as much CPU time as the first one the second takes, in turn."""
    used = [0.0, 0.0]
    for _ in range(20):
        for index, loop in enumerate((bare, observed)):
            begun = process_time()
            loop(2000)
            used[index] += process_time() - begun
    return used[1] / used[0]


def measured() -> dict[str, float]:
    """Measure everything on this Python."""
    make = factory_of(ObservedLock)
    bare, bare_again = _thread.allocate_lock, _thread.RLock
    found = dict(
        zip(
            COLUMNS.values(),
            [
                *ratios(with_block(bare()), with_block(make())),
                *ratios(acquire_and_release(bare()), acquire_and_release(make())),
                *ratios(with_block(bare_again()), with_block(ObservedRLock())),
                *ratios(acquire_and_release(bare_again()), acquire_and_release(ObservedRLock())),
                *ratios(with_block(bare()), with_block(recorded())),
                cpu_ratio(contended(bare()), contended(make())),
            ],
            strict=True,
        )
    )
    if not compiled:
        loops = [with_block(kind()) for kind in WITH.values()]
        found |= zip((f"with: {what}" for what in WITH), ratios(with_block(bare()), *loops), strict=True)
        loops = [acquire_and_release(kind()) for kind in CALLS.values()]
        found |= zip((f"calls: {what}" for what in CALLS), ratios(acquire_and_release(bare()), *loops), strict=True)
    return {what: round(figure, 2) for what, figure in found.items()}


def tables(kept: dict[str, dict[str, dict[str, float]]]) -> dict[str, str]:
    """Return the tables of the page: the costs, and the cost of each guarantee in Python alone."""
    pythons = sorted(kept, key=lambda each: [int(number) for number in each.rstrip("t").split(".")])
    costs = [["Python", *COLUMNS]]
    for each in pythons:
        of = [kept[each].get(form, {}) for form in ("pure", "compiled")]
        costs.append([each, *(" / ".join(_short(form.get(column)) for form in of) for column in COLUMNS.values())])
    floors = [["without", *pythons]]
    for kind, ladder in (("with", WITH), ("calls", CALLS)):
        title = {"with": "``with``", "calls": "``acquire``, ``release``"}[kind]
        for what in ladder:
            figures = (kept[each].get("pure", {}).get(f"{kind}: {what}") for each in pythons)
            floors.append([f"{title}: {what}", *map(_short, figures)])
    return {"observed.txt": list_table(costs) + "\n", "observed-floors.txt": list_table(floors) + "\n"}


def _short(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.0f}" if figure >= 20 else f"{figure:.2f}"


def main() -> None:
    """Measure, and keep the figures or print them."""
    found = measured()
    if sys.argv[1:] != ["--save"]:
        sys.stdout.write("".join(f"{figure:7.2f}  {what}\n" for what, figure in found.items()))
        return
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    kept.setdefault(python(), {})["compiled" if compiled else "pure"] = found
    FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for name, text in tables(kept).items():
        (KEPT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
