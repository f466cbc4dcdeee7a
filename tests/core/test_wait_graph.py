"""The wait-for graph by itself, with stand-ins for locks and for threads: what is found, and what it costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import permutations
from threading import get_ident
from time import monotonic
from typing import Final

import pytest

from locks.crew import Crew
from syncprims import DeadlockError
from syncprims._core import deadlocks as _deadlocks
from syncprims._core import waits as _waits
from syncprims._core.deadlocks import find_circle, refuse_deadlock
from syncprims._core.waits import Waiting, all_waits, count_waits, waits_of

ME: Final = -1  # idents that no thread has
OTHER: Final = -2
THIRD: Final = -3


class Node:
    """Something to wait for, whose owner is told by a list: one entry for each time it is asked, the last for ever."""

    def __init__(self, name: str, *owners: int | None) -> None:
        """Make it with the owners that it will tell."""
        self.name = name
        self.owners = [*owners]
        self.asked = 0

    def _owner(self) -> int | None:
        self.asked += 1
        return self.owners.pop(0) if len(self.owners) > 1 else self.owners[0]

    def _state(self) -> None:
        """In no snapshot."""


@pytest.fixture(autouse=True)
def graph() -> Iterator[None]:
    """Begin with an empty graph, and see that a test leaves it as it makes it."""
    assert not all_waits()
    yield
    for ident in (ident for ident in list(_waits._innermost) if ident < 0):
        del _waits._innermost[ident]
    assert not all_waits()


def waits(
    ident: int,
    node: Node,
    *,
    deadline_at: float | None = None,
    takes_part: bool = True,
    victim: bool = True,
) -> Waiting:
    """Have a thread that does not exist wait, as `publish` would."""
    waiting = Waiting(node, deadline_at, takes_part=takes_part, victim=victim)
    waiting.ident = ident
    waiting.below = _waits._innermost.get(ident)
    _waits._innermost[ident] = waiting
    return waiting


def names(circle: list[Waiting] | None) -> list[str] | None:
    """The names of the nodes of a circle."""
    return None if circle is None else [waiting.node.name for waiting in circle]


# -- what is a circle ---------------------------------------------------------------------------------------------


def test_a_wait_for_a_free_node_is_no_circle() -> None:
    """Nobody has to act before it."""
    assert find_circle(waits(ME, Node("a", None))) is None


def test_a_wait_for_a_running_thread_is_no_circle() -> None:
    """A thread without waits ends every path."""
    assert find_circle(waits(ME, Node("a", OTHER))) is None


def test_two_threads_that_wait_for_each_other_are_a_circle() -> None:
    """It begins with the one that asks."""
    mine = waits(ME, Node("a", OTHER))
    theirs = waits(OTHER, Node("b", ME))
    assert names(find_circle(mine)) == ["a", "b"]
    assert names(find_circle(theirs)) == ["b", "a"]


def test_a_circle_that_the_thread_only_leads_to_is_not_its_own() -> None:
    """The walk ends all the same."""
    waits(OTHER, Node("b", THIRD))
    waits(THIRD, Node("c", OTHER))
    assert find_circle(waits(ME, Node("a", OTHER))) is None


def test_a_node_that_its_waiter_has_just_got_is_no_edge() -> None:
    """A self edge, of the walker or of another, is passed over."""
    assert find_circle(waits(ME, Node("a", ME))) is None
    waits(OTHER, Node("b", OTHER))
    assert find_circle(waits(THIRD, Node("c", OTHER))) is None


@pytest.mark.parametrize("inner_first", [True, False])
def test_every_wait_of_a_thread_is_an_edge(inner_first: bool) -> None:
    """A thread that waits inside a wait reaches through both, and is reached through both."""
    owners = (THIRD, OTHER) if inner_first else (OTHER, THIRD)
    waits(OTHER, Node("outer", owners[0]))
    waits(OTHER, Node("inner", owners[1]))
    mine = waits(ME, Node("a", OTHER))
    waits(THIRD, Node("c", ME))
    assert names(find_circle(mine)) == ["a", "outer" if inner_first else "inner", "c"]


def test_expired_and_monitored_waits_are_no_edges() -> None:
    """A wait whose time is up withdraws by itself, and one that takes no part never counts."""
    mine = waits(ME, Node("a", OTHER))
    theirs = waits(OTHER, Node("b", ME), deadline_at=monotonic() - 1)
    assert find_circle(mine) is None
    theirs.deadline_at = monotonic() + 60
    assert names(find_circle(mine)) == ["a", "b"]
    theirs.takes_part = False
    assert find_circle(mine) is None
    assert count_waits(theirs.node) == 1


# -- confirmation -------------------------------------------------------------------------------------------------


def owner_that_moved_on() -> list[Waiting] | None:
    """Look for a circle whose first edge has gone when it is looked at again."""
    mine = waits(ME, Node("a", OTHER, None))
    waits(OTHER, Node("b", ME))
    return find_circle(mine)


def wait_that_ended() -> list[Waiting] | None:
    """Look for a circle in which a thread has stopped waiting when it is looked at again."""

    class Ending(Node):
        def _owner(self) -> int | None:
            if self.asked:
                _waits._innermost.pop(OTHER, None)
            return super()._owner()

    mine = waits(ME, Ending("a", OTHER))
    waits(OTHER, Node("b", ME))
    return find_circle(mine)


def wait_that_began_anew() -> list[Waiting] | None:
    """Look for a circle in which a thread ended its wait and began another like it."""
    node = Node("b", ME)

    class Renewing(Node):
        def _owner(self) -> int | None:
            if self.asked == 1:
                del _waits._innermost[OTHER]
                waits(OTHER, node)
            return super()._owner()

    mine = waits(ME, Renewing("a", OTHER))
    waits(OTHER, node)
    return find_circle(mine)


def wait_that_expired() -> list[Waiting] | None:
    """Look for a circle in which a wait came to its limit between the two looks."""
    theirs = waits(OTHER, Node("b", ME), deadline_at=monotonic() + 60)

    class Late(Node):
        def _owner(self) -> int | None:
            if self.asked:
                theirs.deadline_at = monotonic() - 1
            return super()._owner()

    return find_circle(waits(ME, Late("a", OTHER)))


STALE: Final = [owner_that_moved_on, wait_that_ended, wait_that_began_anew, wait_that_expired]


@pytest.mark.parametrize("scenario", STALE)
def test_an_edge_that_has_gone_makes_no_circle(scenario: Callable[[], list[Waiting] | None]) -> None:
    """What the first look found and the second did not is not reported."""
    assert scenario() is None


@pytest.mark.parametrize("scenario", STALE)
def test_without_confirmation_a_circle_would_be_invented(
    scenario: Callable[[], list[Waiting] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scenarios above bite: a graph that does not look twice reports every one of them."""
    monkeypatch.setattr(_deadlocks, "_confirmed", lambda circle: True)
    assert names(scenario()) == ["a", "b"]


def test_the_search_goes_on_after_a_circle_that_has_gone() -> None:
    """A thread with two waits may close a second circle that is real."""
    mine = waits(ME, Node("a", OTHER))
    waits(OTHER, Node("real", ME))
    waits(OTHER, Node("stale", ME, None))
    assert names(find_circle(mine)) == ["a", "real"]


# -- the victim ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_exactly_one_of_a_circle_gives_way(order: tuple[int, ...]) -> None:
    """Whoever of those that see it is the first to say so, and nobody after."""
    idents = (ME, OTHER, THIRD)
    circle = [waits(ident, Node(str(ident), owner)) for ident, owner in zip(idents, (OTHER, THIRD, ME), strict=True)]
    found = [find_circle(circle[number]) for number in order]  # each sees it before any gives way
    claimed = [circle[number].claimant(seen) for number, seen in zip(order, found, strict=True) if seen is not None]
    assert claimed == [circle[order[0]]] * 3


@pytest.mark.parametrize("first", [0, 1])
def test_a_wait_that_cannot_give_way_leaves_it_to_the_others(first: int) -> None:
    """Whether it sees the circle before or after them, one of those that can is the victim."""
    circle = [waits(ME, Node("a", OTHER)), waits(OTHER, Node("b", ME), victim=False)]
    claimed = {number: circle[number].claimant(circle) is circle[number] for number in (first, 1 - first)}
    assert claimed[0]


def test_two_circles_have_a_victim_each() -> None:
    """A wait that is part of both does not make the second one look claimed."""
    mine = waits(ME, Node("a", OTHER))
    outer, inner = waits(OTHER, Node("outer", ME)), waits(OTHER, Node("inner", ME))
    assert inner.claimant([inner, mine]) is inner
    assert outer.claimant([outer, mine]) is outer


# -- publishing ---------------------------------------------------------------------------------------------------


def test_publishing_what_closes_a_circle_raises() -> None:
    """The error tells the edges; a thread without a name is told by its ident."""
    waits(OTHER, Node("b", get_ident()))
    mine = Waiting(Node("a", OTHER))
    mine.publish()
    with pytest.raises(DeadlockError) as caught:
        refuse_deadlock(mine)
    mine.withdraw()
    me = threading.current_thread().name
    assert [(wait.thread, wait.lock_name, wait.holder) for wait in caught.value.cycle] == [
        (me, "a", "ident -2"),
        ("ident -2", "b", me),
    ]


def test_publishing_what_closes_a_circle_that_has_a_victim_already_waits() -> None:
    """Who finds a circle that another is about to break goes on."""
    theirs = waits(OTHER, Node("b", get_ident()))
    mine = Waiting(Node("a", OTHER))
    assert theirs.claimant([theirs, mine]) is theirs
    mine.publish()
    refuse_deadlock(mine)
    mine.withdraw()


def test_publishing_what_cannot_give_way_logs(caplog: pytest.LogCaptureFixture) -> None:
    """The circle is in the log, since nobody is there to raise it."""
    waits(OTHER, Node("b", get_ident()), victim=False)
    mine = Waiting(Node("a", OTHER), victim=False)
    mine.publish()
    refuse_deadlock(mine)
    mine.withdraw()
    assert [record.name for record in caplog.records] == ["syncprims"]
    assert "'a'" in caplog.text


def test_waits_of_one_thread_are_a_stack() -> None:
    """The innermost comes first, and withdrawing it uncovers the one below."""
    outer, inner = Waiting(Node("outer", None)), Waiting(Node("inner", None))
    outer.withdraw()  # before it is published, this does nothing
    outer.publish()
    inner.publish()
    assert waits_of(get_ident()) == [inner, outer]
    inner.withdraw()
    assert waits_of(get_ident()) == [outer]
    outer.withdraw()
    assert waits_of(get_ident()) == []


def test_waits_of_threads_are_apart() -> None:
    """Each thread has its own stack, and a node's count is that of all threads."""
    node = Node("a", None)
    mine = Waiting(node)
    mine.publish()

    def wait() -> int:
        theirs = Waiting(node)
        theirs.publish()
        try:
            return count_waits(node)
        finally:
            theirs.withdraw()

    with Crew() as crew:
        assert crew.start(wait).result() == 2
    assert count_waits(node) == 1
    mine.withdraw()


# -- cost ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 10, 1000])
def test_a_walk_asks_each_node_of_a_chain_once(length: int) -> None:
    """The cost is linear in the chain that ends, and no recursion limit stands in the way."""
    nodes = [Node(f"{number}", -number - 2) for number in range(length)]
    records = [waits(-number - 1, node) for number, node in enumerate(nodes)]
    assert find_circle(records[0]) is None
    assert [node.asked for node in nodes] == [1] * length


@pytest.mark.parametrize("length", [2, 10, 1000])
def test_a_walk_asks_each_node_of_a_circle_twice(length: int) -> None:
    """Once to find it, and once to confirm it."""
    nodes = [Node(f"{number}", -((number + 1) % length) - 1) for number in range(length)]
    records = [waits(-number - 1, node) for number, node in enumerate(nodes)]
    circle = find_circle(records[0])
    assert circle == records
    assert [node.asked for node in nodes] == [2] * length


def test_waits_that_do_not_matter_are_not_walked() -> None:
    """A thousand waits elsewhere cost nothing."""
    elsewhere = [Node(f"{number}", -number - 101) for number in range(1000)]
    for number, node in enumerate(elsewhere):
        waits(-number - 100, node)
    assert find_circle(waits(ME, Node("a", OTHER))) is None
    assert not any(node.asked for node in elsewhere)


def test_a_thread_reached_on_many_paths_is_walked_once() -> None:
    """Paths that fork and join again do not multiply."""
    depth = 30
    joints = [[Node(f"{level}{side}", -level - 2) for side in "lr"] for level in range(depth)]
    for level, sides in enumerate(joints):
        for node in sides:
            waits(-level - 1, node)
    assert find_circle(waits_of(-1)[0]) is None
    assert all(node.asked <= 2 for sides in joints for node in sides)
    assert sum(node.asked for sides in joints for node in sides) <= 2 * depth
