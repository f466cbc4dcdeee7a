"""``python -m benchmarks.forms``: the compiled core and Python alone, each as a ratio to the bare primitive."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from statistics import median
from types import ModuleType
from typing import Any, Final

import syncprims

from .counters import Inline
from .measuring import Work, loop, package, python

ROUNDS: Final = 25
OPERATIONS: Final = 20_000


def python_alone() -> ModuleType:
    """Import the library once more, without the core."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "syncprims"}
    before = os.environ.pop("SYNCPRIMS_PURE", None)
    os.environ["SYNCPRIMS_PURE"] = "1"
    try:
        return importlib.import_module("syncprims")
    finally:
        del os.environ["SYNCPRIMS_PURE"]
        if before is not None:
            os.environ["SYNCPRIMS_PURE"] = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "syncprims"]:
            del sys.modules[name]
        sys.modules.update(kept)


def works(form: Any) -> dict[str, Work]:
    """What is measured of each form."""
    bounded = form.AtomicCounter(minimum=0, maximum=10**12)
    return {
        "with lock": loop("with lock: pass", lock=form.TimedLock()),
        "with lock.hold(1.0)": loop("with lock.hold(1.0): pass", lock=form.TimedLock()),
        "increment()": loop("counter.increment()", counter=form.AtomicCounter()),
        "increment(), with bounds": loop("counter.increment()", counter=bounded),
        "compare_and_set()": loop("counter.compare_and_set(0, 0)", counter=form.AtomicCounter()),
    }


def peers() -> dict[str, Work]:
    """The same by a library that is compiled."""
    try:
        make = package("cereggii").AtomicInt64
    except ImportError:
        return {}
    return {
        "increment()": loop("counter.increment_and_get()", counter=make(0)),
        "compare_and_set()": loop("counter.compare_and_set(0, 0)", counter=make(0)),
    }


def main() -> None:
    """Measure in turn, and print the medians of the ratios of each round."""
    bare = {
        "lock": loop("with lock: pass", lock=threading.Lock()),
        "counter": loop("with counter.lock: counter.n += 1", counter=Inline()),
    }
    forms = {"Python": works(python_alone()), "cereggii": peers()}
    if syncprims.compiled:
        forms["compiled"] = works(syncprims)
    all_works = {("bare", name): work for name, work in bare.items()}
    all_works |= {(form, name): work for form, measured in forms.items() for name, work in measured.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in all_works}
    for turn in range(ROUNDS + 1):
        for key in list(all_works)[:: 1 if turn % 2 else -1]:
            seconds[key].append(min(all_works[key](OPERATIONS) for _ in range(3)))
    print(python())
    for name in works(syncprims):
        base = seconds["bare", "lock" if "lock" in name else "counter"]
        ratios = {
            form: median(one / other for one, other in zip(seconds[form, name][1:], base[1:], strict=True))
            for form in ("Python", "compiled", "cereggii")
            if (form, name) in seconds
        }
        print(f"  {name:26}", "  ".join(f"{form} {ratio:.2f}" for form, ratio in ratios.items()))


if __name__ == "__main__":
    main()
