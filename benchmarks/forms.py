"""The two forms of locks and counters, the compiled core and Python alone, beside bare ones and a compiled peer."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from types import ModuleType
from typing import Any

import syncprims

from .counters import Inline
from .measuring import OURS, STDLIB, Case, Group, Work, loop, package
from .together import together

# Both are measured in one process, in turn. The other groups measure Python alone: `__main__` ensures that.


_OBSERVED = "syncprims.watch.observed"


@cache
def form(*, compiled: bool) -> ModuleType:
    """Return the library in this form: the imported one, or a second import.

    Raises:
        ImportError: The core is not compiled here.
    """
    if syncprims.compiled == compiled:
        importlib.import_module(_OBSERVED)
        return syncprims
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "syncprims"}
    before = os.environ.get("SYNCPRIMS_PURE")
    os.environ["SYNCPRIMS_PURE"] = "" if compiled else "1"
    try:
        found = importlib.import_module("syncprims")
        importlib.import_module(_OBSERVED)
    finally:
        del os.environ["SYNCPRIMS_PURE"]
        if before is not None:
            os.environ["SYNCPRIMS_PURE"] = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "syncprims"]:
            del sys.modules[name]
        sys.modules.update(kept)
    if found.compiled != compiled:
        raise ImportError("the core is not compiled here")
    return found


Make = Callable[[Any], Any]
Using = Callable[[Callable[[], Any], str], Callable[[ExitStack], Work]]


def _alone(make: Callable[[], Any], statement: str) -> Callable[[ExitStack], Work]:
    return lambda _: loop(statement, it=make())


def _among_four(make: Callable[[], Any], statement: str) -> Callable[[ExitStack], Work]:
    def open_(_: ExitStack) -> Work:
        shared = make()
        return lambda operations: together([loop(statement, it=shared)] * 4, operations // 4)

    return open_


def _both(make: Make, statement: str, using: Using = _alone) -> tuple[Case, Case]:
    return (
        Case("Python alone", OURS, using(lambda: make(form(compiled=False)), statement)),
        Case("compiled", OURS, using(lambda: make(form(compiled=True)), statement)),
    )


def _observed(form: Any) -> Any:
    module = form.watch.observed
    return module.factory_of(module.ObservedLock)()


_WITH = "with it: pass"
_INLINE = "with it.lock: it.n += 1"


def _cereggii(statement: str, using: Using = _alone) -> Case:
    return Case("cereggii (native)", "cereggii", using(lambda: package("cereggii").AtomicInt64(0), statement))


GROUPS = (
    Group(
        "core-lock",
        "The compiled core: taking a free lock in a ``with``",
        (
            Case("threading.Lock", STDLIB, _alone(threading.Lock, _WITH)),
            *_both(lambda form: form.TimedLock(), _WITH),
        ),
    ),
    Group(
        "core-hold",
        "The compiled core: taking a free lock by ``hold(1.0)``",
        (
            Case("with threading.Lock", STDLIB, _alone(threading.Lock, _WITH)),
            *_both(lambda form: form.TimedLock(), "with it.hold(1.0): pass"),
        ),
    ),
    Group(
        "core-observed",
        "The compiled core: a free observed lock of the watch in a ``with``",
        (
            Case("threading.Lock", STDLIB, _alone(threading.Lock, _WITH)),
            *_both(_observed, _WITH),
        ),
    ),
    Group(
        "core-counter",
        "The compiled core: adding one to a counter",
        (
            Case("with lock: n += 1", STDLIB, _alone(Inline, _INLINE)),
            Case("with an RLock: n += 1", STDLIB, _alone(partial(Inline, threading.RLock), _INLINE)),
            *_both(lambda form: form.AtomicCounter(), "it.increment()"),
            _cereggii("it.increment_and_get()"),
        ),
    ),
    Group(
        "core-bounds",
        "The compiled core: adding one to a counter with bounds",
        (
            Case("with lock: n += 1", STDLIB, _alone(Inline, _INLINE)),
            *_both(lambda form: form.AtomicCounter(minimum=0, maximum=10**12), "it.increment()"),
            _cereggii("it.increment_and_get()"),
        ),
    ),
    Group(
        "core-compare",
        "The compiled core: ``compare_and_set`` of a counter",
        (
            Case("with lock: n += 1", STDLIB, _alone(Inline, _INLINE)),
            *_both(lambda form: form.AtomicCounter(), "it.compare_and_set(0, 0)"),
            _cereggii("it.compare_and_set(0, 0)"),
        ),
    ),
    Group(
        "core-lock-by-four",
        "The compiled core: four threads at one lock",
        (
            Case("threading.Lock", STDLIB, _among_four(threading.Lock, _WITH)),
            *_both(lambda form: form.TimedLock(), _WITH, _among_four),
        ),
        better="more",
        operations=40_000,
    ),
    Group(
        "core-counter-by-four",
        "The compiled core: four threads add to one counter",
        (
            Case("with lock: n += 1", STDLIB, _among_four(Inline, _INLINE)),
            *_both(lambda form: form.AtomicCounter(), "it.increment()", _among_four),
            _cereggii("it.increment_and_get()", _among_four),
        ),
        better="more",
        operations=40_000,
    ),
)
