"""Several threads use one lock at the same time, with outcomes as if they had used it one after another."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from history import Call, Recorder, linearizable, overlaps, record
from syncprims import DeadlockError, TimedLock, TimedRLock

# The holder of the lock, and how often it holds it.
State = tuple[int | None, int]
FREE: State = (None, 0)

# `locked()` is not among them: CPython's own lock may be acquired a moment before its state says so.
WAYS: dict[str, Callable[[Any], Hashable]] = {
    "try": lambda lock: lock.acquire(False),
    "try for a moment": lambda lock: lock.acquire(timeout=0.0005),
    "hold for a moment": lambda lock: lock.hold(0.0005).__enter__() is lock,
    "enter": lambda lock: lock.__enter__() is lock,
    "acquire": lambda lock: lock.acquire(),
    "release": lambda lock: lock.release(),
    "leave": lambda lock: lock.__exit__(None, None, None),
    "is it mine": lambda lock: lock.held_by_me(),
}


def do(lock: Any, way: str) -> Hashable:
    """Do it, and return the outcome."""
    try:
        return WAYS[way](lock)
    except (DeadlockError, RuntimeError, TimeoutError) as error:
        return next(kind.__name__ for kind in (DeadlockError, TimeoutError, RuntimeError) if isinstance(error, kind))


def model(state: State, call: Call[State], *, reentrant: bool) -> State | None:
    """The state of a lock if its callers come one after another."""
    owner, depth = state
    me = call.thread
    if call.what == "is it mine":
        return state if call.outcome == (owner == me) else None
    if call.what in ("release", "leave"):
        if call.outcome == "RuntimeError":
            return state if owner != me else None
        return ((me, depth - 1) if depth > 1 else FREE) if owner == me else None
    taken_by_me_alone = owner == me and not reentrant
    if call.outcome is True:
        return (me, depth + 1) if owner is None or (owner == me and reentrant) else None
    if call.outcome == "DeadlockError":
        return state if taken_by_me_alone and call.what in ("hold for a moment", "enter", "acquire") else None
    assert call.outcome in (False, "TimeoutError")
    return state if taken_by_me_alone or owner not in (None, me) else None


def carrying_out(lock: Any, plan: list[str]) -> Callable[[Recorder[State]], None]:
    """Return a function that carries out the plan, and finally releases its locks."""

    def carry_out(note: Recorder[State]) -> None:
        for way in plan:
            note(way, lambda way=way: do(lock, way))  # type: ignore[misc]  # bound now
        while note("is it mine", lambda: do(lock, "is it mine")):
            note("release", lambda: do(lock, "release"))

    return carry_out


plans = st.lists(st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=6), min_size=2, max_size=3)
some = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(some, max_examples=1000)


def history_of(lock: Any, ways: list[list[str]], seed: int) -> list[Call[State]]:
    """Let a thread for each plan carry it out, all at once."""
    return record([carrying_out(lock, plan) for plan in ways], Random(seed))


def check(kind: type[TimedLock], ways: list[list[str]], seed: int) -> None:
    """Carry out the plans, and search for an order in which the model has the same outcomes."""
    lock = kind()
    history = history_of(lock, ways, seed)
    reentrant = issubclass(kind, TimedRLock)
    assert linearizable(history, FREE, lambda state, call: model(state, call, reentrant=reentrant)), history
    assert not lock.locked()
    assert not lock.waiting


@pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
@some
@given(plans, st.integers(0, 1 << 16))
def test_histories_are_linearizable(kind: type[TimedLock], ways: list[list[str]], seed: int) -> None:
    """The calls of two or three threads at once have outcomes as if they had come one after another."""
    check(kind, ways, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
@many
@given(plans, st.integers(0, 1 << 16))
def test_a_thousand_histories_are_linearizable(kind: type[TimedLock], ways: list[list[str]], seed: int) -> None:
    """The same, a thousand times."""
    check(kind, ways, seed)


# -- the check bites ----------------------------------------------------------------------------------------------


class LooksBeforeItTakes:
    """A lock that looks and acquires in two steps, so that two threads may both find it free."""

    def __init__(self) -> None:
        """Make it free."""
        self.owner: Any = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it, if it is free."""
        me = object()
        if self.owner is not None:
            return False
        self.owner = me
        return True

    def release(self) -> None:
        """Release it, whichever thread has it."""
        if self.owner is None:
            raise RuntimeError("free")
        self.owner = None


def test_a_lock_that_looks_before_it_takes_is_not_linearizable() -> None:
    """Two threads that both acquired it, without a release in between, are detected."""
    random = Random(3)
    for _ in range(300):
        history = history_of_tries(LooksBeforeItTakes(), random)
        if not linearizable(history, FREE, lambda state, call: model(state, call, reentrant=False)):
            assert overlaps(history)
            return
    pytest.fail("the histories of a lock that excludes no thread all passed, so the check proves nothing")


def history_of_tries(lock: Any, random: Random) -> list[Call[State]]:
    """Let two threads try to acquire the lock at once."""
    return record([lambda note: note("try", lambda: lock.acquire(False))] * 2, random)


def one(thread: int, what: str, outcome: Hashable, began: int, ended: int) -> Call[State]:
    """A call in the form of a note."""
    return Call(thread, what, outcome, began, ended)


BY_HAND: list[tuple[str, list[Call[State]], bool]] = [
    ("taken and given back", [one(0, "try", True, 0, 1), one(0, "release", None, 2, 3)], True),
    ("taken by two", [one(0, "try", True, 0, 9), one(1, "try", True, 0, 9)], False),
    (
        "handed over",
        [one(0, "try", True, 0, 1), one(1, "enter", True, 2, 9), one(0, "release", None, 3, 8)],
        True,
    ),
    (
        "got before the other let go",
        [one(0, "try", True, 0, 1), one(1, "enter", True, 2, 3), one(0, "release", None, 4, 5)],
        False,
    ),
    ("refused though free", [one(0, "try", False, 0, 1)], False),
    ("refused while taken", [one(0, "try", True, 0, 9), one(1, "try", False, 0, 9)], True),
    ("given back by a stranger", [one(0, "try", True, 0, 1), one(1, "release", None, 2, 3)], False),
    ("taken twice", [one(0, "try", True, 0, 1), one(0, "enter", "DeadlockError", 2, 3)], True),
    ("called a deadlock though free", [one(0, "enter", "DeadlockError", 2, 3)], False),
]


@pytest.mark.parametrize(
    ("history", "verdict"), [case[1:] for case in BY_HAND], ids=[case[0].replace(" ", "-") for case in BY_HAND]
)
def test_the_check_itself(history: list[Call[State]], verdict: bool) -> None:
    """Histories with a known verdict get that verdict."""
    assert linearizable(history, FREE, lambda state, call: model(state, call, reentrant=False)) is verdict
