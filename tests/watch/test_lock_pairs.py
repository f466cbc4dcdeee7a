"""Locks that are acquired in both orders, in this process; `test_hangs` has a program, and the options."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncprims.watch import Incident, Watching, install
from syncprims.watch.wording import as_text

LIMIT = 30.0


@pytest.fixture
def watching() -> Iterator[Watching]:
    """A watch that looks only if a test does."""
    watching = install(after=60.0, asleep=None, order=True, ignore=["ledger.py:7", "ledger.py:8,ledger.py:9"])
    watching.watcher.stop()
    watching.watcher.on_incident.append(lambda _incident, _text: True)  # no report is written
    yield watching
    watching.uninstall()


def take(*locks: Any) -> None:
    """Acquire each while the thread holds the ones before it."""
    if locks:
        with locks[0]:
            take(*locks[1:])


def orders(watching: Watching) -> list[Incident]:
    """The new inversions, of these kinds of locks and not of other threads of the process."""
    return [incident for incident in watching.look() if any("test_lock_pairs.py" in note for note in incident.notes)]


@pytest.mark.parametrize("make", [lambda: threading.Lock(), lambda: threading.RLock()], ids=["Lock", "RLock"])
def test_both_orders_are_reported_once(watching: Watching, make: Callable[[], Any]) -> None:
    """The report has the places of each, as soon as both orders were seen, even in one thread."""
    stock = make()
    till = make()
    take(stock, till)
    assert orders(watching) == []
    take(till, stock)
    (incident,) = orders(watching)
    assert incident.heading == "LOCK ORDER"
    text = as_text(incident)
    assert "2 locks were taken in both orders; threads that do so at the same time can deadlock" in text
    assert text.count("held ") == text.count("when it took ") == 2
    assert text.count("taken at test_lock_pairs.py:") == 2
    take(stock, till)
    take(till, stock)
    assert orders(watching) == []


def test_three_locks_in_a_cycle(watching: Watching) -> None:
    """No two of them are acquired in both orders."""
    locks = [threading.Lock() for _ in range(3)]
    for number in range(3):
        assert orders(watching) == []
        with locks[number]:
            locks[(number + 1) % 3].acquire()
            locks[(number + 1) % 3].release()
    (incident,) = orders(watching)
    assert "3 locks were taken in a cycle" in incident.summary
    assert len(incident.notes) == 3


def test_what_can_not_deadlock_is_no_order(watching: Watching) -> None:
    """Under a third lock, with a limit, again by the owner, and one that another thread has released meanwhile."""
    gate, one, other, again = threading.Lock(), threading.Lock(), threading.Lock(), threading.RLock()
    take(gate, one, other)
    take(gate, other, one)
    take(again, one, again)
    with one:
        assert again.acquire(timeout=LIMIT)
        again.release()
    assert orders(watching) == []
    baton, box = threading.Lock(), threading.Lock()
    take(box, baton)
    baton.acquire()
    helper = threading.Thread(target=baton.release)
    helper.start()
    helper.join(LIMIT)
    take(box)
    assert orders(watching) == []


@pytest.mark.parametrize("lines", [(7, 70), (8, 9)], ids=["a place", "a pair"])
def test_orders_are_ignored_by_places(watching: Watching, lines: tuple[int, int]) -> None:
    """One place is enough, or two that are given together: where the locks are made, or acquired."""
    made: dict[str, Any] = {}
    for name, line in zip(("stock", "till"), lines, strict=True):
        exec(compile(f"{chr(10) * (line - 1)}{name} = threading.Lock()", "ledger.py", "exec"), globals(), made)
    take(made["stock"], made["till"])
    take(made["till"], made["stock"])
    assert watching.look() == []


def test_a_marked_line_makes_no_order(watching: Watching) -> None:
    """The comment is on a line that acquires one of them."""
    stock = threading.Lock()
    till = threading.Lock()
    take(stock, till)
    with till, stock:  # syncprims: any order
        pass
    assert orders(watching) == []
