"""The changes of a counter, and the kinds of counter, that several tests use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from syncprims import AtomicCounter

Change = Callable[[AtomicCounter], object]


class Recording(AtomicCounter):
    """A counter that notes the calls of its hook."""

    def __init__(self, *args: int, **kwargs: Any) -> None:
        self.told: list[tuple[int, int]] = []
        super().__init__(*args, **kwargs)

    def _on_change(self, old: int, new: int) -> None:
        self.told.append((old, new))


# Each change with its result and the value that it leaves, beginning at 7 (which is also the initial value).
CHANGES: list[tuple[str, Change, object, int]] = [
    ("increment", lambda c: c.increment(), 8, 8),
    ("increment by", lambda c: c.increment(5), 12, 12),
    ("increment by name", lambda c: c.increment(n=-5), 2, 2),
    ("decrement", lambda c: c.decrement(), 6, 6),
    ("decrement by", lambda c: c.decrement(n=10), -3, -3),
    ("decrement by less than nothing", lambda c: c.decrement(-10), 17, 17),
    ("add", lambda c: c.add(n=-7), 0, 0),
    ("get_and_add", lambda c: c.get_and_add(), 7, 8),
    ("get_and_add by", lambda c: c.get_and_add(n=3), 7, 10),
    ("set", lambda c: c.set(new=100), None, 100),
    ("get_and_set", lambda c: c.get_and_set(new=-1), 7, -1),
    ("compare_and_set", lambda c: c.compare_and_set(expected=7, new=9), True, 9),
    ("update", lambda c: c.update(fn=lambda value: value * 3), 21, 21),
]
UNCHANGING: list[tuple[str, Change, object]] = [
    ("increment by 0", lambda c: c.increment(0), 7),
    ("set to the same", lambda c: c.set(7), None),
    ("reset", lambda c: c.reset(), 7),
    ("compare_and_set with the wrong one", lambda c: c.compare_and_set(8, 9), False),
    ("compare_and_set to the same", lambda c: c.compare_and_set(7, 7), True),
    ("update to the same", lambda c: c.update(abs), 7),
]
each_change = pytest.mark.parametrize(
    ("change", "returned", "left"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES]
)
each_unchanging = pytest.mark.parametrize(
    ("change", "returned"), [case[1:] for case in UNCHANGING], ids=[case[0] for case in UNCHANGING]
)
# The plain counter takes the fast path and the two others the slow one; all must do the same.
each_kind = pytest.mark.parametrize(
    "make",
    [lambda: AtomicCounter(7), lambda: AtomicCounter(7, minimum=-1000, maximum=1000), lambda: Recording(7)],
    ids=["plain", "bounded", "hooked"],
)


def nothing() -> None:
    """Do nothing; CPython may let another thread go on when a function is entered."""


# Each way to add one.
EXACT: list[tuple[str, Change]] = [
    ("increment", lambda c: c.increment()),
    ("decrement", lambda c: c.decrement(-1)),
    ("add", lambda c: c.add(1)),
    ("get_and_add", lambda c: c.get_and_add()),
    ("update", lambda c: c.update(lambda value: (nothing(), value + 1)[1])),  # type: ignore[func-returns-value]
    ("compare_and_set", lambda c: add_by_comparing(c)),
]
each_exact = pytest.mark.parametrize("change", [case[1] for case in EXACT], ids=[case[0] for case in EXACT])


def add_by_comparing(counter: AtomicCounter) -> None:
    """Add one like a lock-free program."""
    while not counter.compare_and_set(value := counter.value, value + 1):
        pass


each_zero = pytest.mark.parametrize(
    "make",
    [AtomicCounter, lambda: AtomicCounter(minimum=0, maximum=10**6), Recording],
    ids=["plain", "bounded", "hooked"],
)
