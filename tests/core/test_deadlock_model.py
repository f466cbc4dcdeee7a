"""The search for deadlocks agrees with the definition, tried on every set of threads, over random graphs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.graphs import Group, Node, all_of, any_of, forget, stuck_by_definition, waits
from locks.actors import eventually
from syncprims import DeadlockError
from syncprims._core import waits as _waits
from syncprims._core.deadlocks import FREE, UNSURE, Knot, find_deadlocks, look, refuse_deadlock
from syncprims._core.waits import UpTo, Waiting, all_waits, waits_of

THREADS: Final = 8
Note = Callable[[str, object], None]
LONG: Final = float(os.environ.get("SYNCPRIMS_EVIDENCE_SECONDS", "600"))

# -1 to -8: threads that do not exist. They share some of the nodes that they wait for, like the workers of a pool.
idents = st.integers(-THREADS, -1)
members = st.lists(st.one_of(idents, idents, idents, st.none()), max_size=4)
flat = st.builds(lambda enough, found: Group(enough, found), st.booleans(), members)
nested = st.builds(
    lambda enough, found: Group(enough, found), st.booleans(), st.lists(st.one_of(idents, flat), max_size=3)
)
up_tos: st.SearchStrategy[UpTo] = st.one_of(idents, idents, flat, nested, st.none())

# The nested waits of each thread, the outermost first.
Graph = Mapping[int, list[UpTo]]
stacks_of_waits: st.SearchStrategy[list[list[UpTo]]] = st.lists(
    st.lists(up_tos, max_size=2), min_size=1, max_size=THREADS
)
graphs = stacks_of_waits.map(lambda stacks: {-number - 1: stack for number, stack in enumerate(stacks)})

agreeing = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def graph() -> Iterator[None]:
    """Begin with an empty graph, once the threads of earlier tests have ended, and leave it empty."""
    eventually(lambda: not all_waits())
    yield
    forget(ident for ident in _waits._innermost if ident < 0)


class Self(Node):
    """A node that returns its threads even to a thread that waits for itself."""

    def _up_to(self, waiter: int) -> UpTo:
        return self.answers[0]


def publish(stacks: Graph) -> None:
    """Let threads wait like this."""
    forget(ident for ident in _waits._innermost if ident < 0)
    for ident, stack in stacks.items():
        for up_to in stack:
            waits(ident, Self(f"{ident}", up_to))


def known(up_to: UpTo) -> list[UpTo]:
    """A wait in the form that the definition uses."""
    return [] if up_to is None else [up_to]


def may_be_stuck(stacks: Graph, mine: int) -> bool:
    """Whether a thread is stuck if each of its waits counts, and those of others too."""
    every = {ident: stack if ident != mine else stack[-1:] for ident, stack in stacks.items()}
    return mine in stuck_by_definition(every)


def is_stuck(stacks: Graph) -> set[int]:
    """The threads that are stuck if only the innermost waits count."""
    return stuck_by_definition({ident: stack[-1:] for ident, stack in stacks.items()})


@agreeing
@given(graphs)
def test_who_is_stuck_is_found(stacks: Graph) -> None:
    """The search finds the largest set that the definition allows, and with which threads each is stuck."""
    publish(stacks)
    stuck = is_stuck(stacks)
    for ident, stack in stacks.items():
        if stack:
            found = look(waits_of(ident)[0])
            assert (found is FREE) is not may_be_stuck(stacks, ident)
            assert isinstance(found, Knot) is (ident in stuck)
            if isinstance(found, Knot):
                assert found.waits.keys() <= stuck
                check_told(found, ident)


def check_told(found: Knot, ident: int) -> None:
    """The reported cycle begins with the thread, is closed, and leaves no thread out."""
    edges = found.edges()
    assert edges[0][0].ident == ident
    assert len({wait.ident for wait, _ in edges}) == len(edges) == len(found.waits)
    assert {holder for _, holder in edges} <= found.waits.keys()
    if found.core:
        cycle = [ident]
        following = {wait.ident: holder for wait, holder in edges}
        while following[cycle[-1]] != ident:
            cycle.append(following[cycle[-1]])
        assert [wait.ident for wait, _ in edges][: len(cycle)] == cycle


@agreeing
@given(graphs)
def test_the_core_is_the_reason(stacks: Graph) -> None:
    """The core is stuck without the rest; and a searcher that is not in it is not needed for the others."""
    publish(stacks)
    for ident, stack in stacks.items():
        found = look(waits_of(ident)[0]) if stack else FREE
        if found is FREE or found is UNSURE:
            continue
        without = {each: others[-1:] for each, others in stacks.items() if each != ident}
        left = stuck_by_definition(without)
        if not found.core:
            assert left >= found.waits.keys() - {ident}
        else:
            reason = {each for each in found.core if isinstance(each, int)}
            assert reason | left >= found.waits.keys()


@agreeing
@given(graphs)
def test_what_is_found_by_looking_is_stuck(stacks: Graph) -> None:
    """Each deadlock that is found is one, and every thread that is stuck waits for one in the end."""
    publish(stacks)
    stuck = is_stuck(stacks)
    found = find_deadlocks()
    told = {int(wait.thread.removeprefix("ident ")) for deadlock in found for wait in deadlock}
    assert told <= stuck
    assert bool(told) is bool(stuck)


class Grown:
    """Threads that publish one wait after another, like real ones, and get a refusal if one is due."""

    def __init__(self) -> None:
        """Begin without waits."""
        self.up_to: dict[int, UpTo] = {}
        self.refused = self.accepted = 0

    def wait(self, ident: int, up_to: UpTo) -> None:
        """Let a thread wait, unless that is refused; it must be refused exactly if it would be stuck."""
        waiting = Waiting(Self(f"{ident}", up_to))
        waiting.ident = ident
        waiting.publish()
        stuck = stuck_by_definition({**{each: known(end) for each, end in self.up_to.items()}, ident: known(up_to)})
        if ident not in stuck:
            refuse_deadlock(waiting)
            self.accepted += 1
            self.up_to[ident] = up_to
            return
        with pytest.raises(DeadlockError) as caught:
            refuse_deadlock(waiting)
        waiting.withdraw()
        self.refused += 1
        assert caught.value.cycle[0].thread == f"ident {ident}"

    def end(self, ident: int) -> None:
        """Let a wait of a thread end."""
        forget([ident])
        self.up_to.pop(ident, None)


@agreeing
@given(st.lists(st.tuples(idents, up_tos), max_size=30))
def test_a_wait_is_refused_exactly_if_its_thread_would_be_stuck(steps: list[tuple[int, UpTo]]) -> None:
    """They begin one after the other, so the one that closes a deadlock gets the error; all others go on."""
    forget(ident for ident in _waits._innermost if ident < 0)
    grown = Grown()
    for ident, up_to in steps:
        if ident in grown.up_to:
            grown.end(ident)
        else:
            grown.wait(ident, up_to)


@pytest.mark.parametrize(
    "seconds", [1.0, pytest.param(LONG / 4, marks=[pytest.mark.slow, pytest.mark.timeout(LONG + 120)])]
)
def test_large_random_graphs_agree(seconds: float, record_property: Note) -> None:
    """Eight threads, many times, with a generator that is faster than hypothesis."""
    choice = random.Random(seconds)
    end = monotonic() + seconds
    refused = accepted = 0
    while monotonic() < end:
        forget(ident for ident in _waits._innermost if ident < 0)
        grown = Grown()
        workers = any_of(*choice.sample(range(-THREADS, 0), choice.randint(1, 3)))
        for _ in range(20):
            ident = choice.randint(-THREADS, -1)
            if ident in grown.up_to:
                grown.end(ident)
                continue
            some = [choice.randint(-THREADS, -1) for _ in range(choice.randint(1, 3))]
            kinds: list[UpTo] = [some[0], workers, any_of(*some), all_of(*some), all_of(some[0], workers)]
            grown.wait(ident, choice.choice(kinds))
        refused += grown.refused
        accepted += grown.accepted
    assert refused > 100
    assert accepted > 100
    record_property("waits compared with the definition", refused + accepted)
