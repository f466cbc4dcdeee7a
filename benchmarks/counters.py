"""Counters: adding one, alone and among four threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from syncprims import AtomicCounter

from .measuring import OURS, STDLIB, Case, Group, Work, loop, package
from .together import together


class Inline:
    """The code without a library: a lock beside the number."""

    def __init__(self, make: Callable[[], Any] = threading.Lock) -> None:
        self.lock = make()
        self.n = 0


_INLINE = "with counter.lock: counter.n += 1"

Make = Callable[[], Any]


def _alone(make: Make, statement: str) -> Callable[[ExitStack], Work]:
    return lambda _: loop(statement, counter=make())


INLINE = Case("with lock: n += 1", STDLIB, _alone(Inline, _INLINE))


def _cases(goal: float | None, using: Callable[[Make, str], Callable[[ExitStack], Work]]) -> tuple[Case, ...]:
    return (
        Case("with lock: n += 1", STDLIB, using(Inline, _INLINE)),
        Case("AtomicCounter.increment", OURS, using(AtomicCounter, "counter.increment()"), goal),
        Case(
            "cereggii (native)",
            "cereggii",
            using(lambda: package("cereggii").AtomicInt64(0), "counter.increment_and_get()"),
        ),
        Case("atomicx (native)", "atomicx", using(lambda: package("atomicx").AtomicInt(0), "counter.inc()")),
        Case("prometheus_client", "prometheus-client", using(_prometheus, "counter.inc()")),
    )


def _prometheus() -> Any:
    return package("prometheus_client").Counter("operations", "of this round", registry=None)


def _among_four(make: Make, statement: str) -> Callable[[ExitStack], Work]:
    def open_(_: ExitStack) -> Work:
        counter = make()
        return lambda operations: together([loop(statement, counter=counter)] * 4, operations // 4)

    return open_


GROUPS = (
    Group("counter", "Adding one to a counter", _cases(1.3, _alone)),
    Group(
        "counter-contended",
        "Four threads add to one counter",
        _cases(None, _among_four),
        better="more",
        operations=8000,
    ),
)
