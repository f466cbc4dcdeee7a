"""The search for deadlocks alone, with stand-ins for locks and threads: its results, and its cost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import permutations
from threading import get_ident
from time import monotonic
from types import FrameType
from typing import Final

import pytest

from core import graphs
from core.graphs import Group, Node, all_of, any_of, forget, waits
from locks.actors import Actors, eventually
from syncprims import DeadlockError, Wait
from syncprims._core import deadlocks as _deadlocks
from syncprims._core import wait_graph
from syncprims._core import waits as _waits
from syncprims._core.deadlocks import FREE, UNSURE, Knot, find_deadlocks, look, refuse_deadlock
from syncprims._core.wait_graph import within
from syncprims._core.waits import NOT_DRAWN, SETTLED, Awaited, Waiting, all_waits, count_waits, waits_of
from syncprims.facts import nameless

ME: Final = -1  # idents that no thread has
OTHER: Final = -2
THIRD: Final = -3
FOURTH: Final = -4

Answer = Knot | bool | None


@pytest.fixture(autouse=True)
def graph() -> Iterator[None]:
    """Begin with an empty graph, once the threads of earlier tests have ended; a test leaves its own graph."""
    eventually(lambda: not all_waits())
    yield
    forget(ident for ident in _waits._innermost if ident < 0)
    assert not all_waits()


def names(found: Answer) -> list[str] | Answer:
    """The names that the threads wait for, in the reported order; or that the thread is free, or may be."""
    return [wait.node.name for wait, _ in found.edges()] if isinstance(found, Knot) else found


# -- who is stuck ------------------------------------------------------------------------------------------------------


def test_a_wait_for_a_free_node_ends() -> None:
    """No thread has to act before it."""
    assert look(waits(ME, Node("a", None))) is FREE


def test_a_wait_for_a_running_thread_ends() -> None:
    """A thread without waits is free."""
    assert look(waits(ME, Node("a", OTHER))) is FREE


def test_two_threads_that_wait_for_each_other_are_stuck() -> None:
    """The result begins with the thread that asks."""
    mine = waits(ME, Node("a", OTHER))
    theirs = waits(OTHER, Node("b", ME))
    assert names(look(mine)) == ["a", "b"]
    assert names(look(theirs)) == ["b", "a"]


def test_a_thread_that_waits_for_stuck_threads_is_stuck_and_not_the_reason() -> None:
    """It is not part of the core; the threads of the core come after it."""
    waits(OTHER, Node("b", THIRD))
    waits(THIRD, Node("c", OTHER))
    found = look(waits(ME, Node("a", OTHER)))
    assert names(found) == ["a", "b", "c"]
    assert isinstance(found, Knot)
    assert not found.core


def test_a_node_that_its_waiter_has_just_got_is_passed_over() -> None:
    """This is an edge from a thread to itself, of the searcher or of another thread."""
    assert look(waits(ME, Node("a", ME))) is FREE
    waits(OTHER, Node("b", OTHER))
    assert look(waits(THIRD, Node("c", OTHER))) is FREE


def test_expired_and_monitored_waits_do_not_count() -> None:
    """A wait whose time is up withdraws by itself, and a wait that takes no part never counts."""
    mine = waits(ME, Node("a", OTHER))
    theirs = waits(OTHER, Node("b", ME), deadline_at=monotonic() - 1)
    assert look(mine) is FREE
    theirs.deadline_at = monotonic() + 60
    assert names(look(mine)) == ["a", "b"]
    theirs.takes_part = False
    assert look(mine) is FREE
    assert count_waits(theirs.node) == 1


def test_a_thread_that_searches_counts_as_waiting() -> None:
    """Without the GIL, the file of its innermost function shows that. All functions of a search are in such files."""
    mine = waits(ME, Node("a", any_of(OTHER, THIRD)))
    waits(OTHER, Node("b", all_of(ME, THIRD)))
    waits(THIRD, Node("c", ME))
    entered: set[str] = set()

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            entered.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        found = look(mine)
    finally:
        sys.setprofile(before)
    assert isinstance(found, Knot)
    of_the_nodes = {graphs.__file__}
    assert {_deadlocks.__file__, wait_graph.__file__} <= entered
    assert entered - of_the_nodes <= {*_deadlocks._OURS}


def test_any_of_some_threads_is_stuck_only_with_all_of_them() -> None:
    """One thread that can act is enough, even an unknown one."""
    mine = waits(ME, Node("a", any_of(OTHER, THIRD)))
    waits(OTHER, Node("b", ME))
    assert look(mine) is FREE
    waits(THIRD, Node("c", ME))
    assert names(look(mine)) == ["a", "b", "c"]
    forget([ME])
    assert look(waits(ME, Node("a", any_of(OTHER, THIRD, None)))) is FREE
    forget([ME])
    assert look(waits(ME, Node("a", any_of()))) is FREE


def test_all_of_some_threads_is_stuck_with_one_of_them() -> None:
    """The others don't matter, nor does an unknown thread."""
    mine = waits(ME, Node("a", all_of(OTHER, THIRD, None)))
    assert look(mine) is FREE
    waits(OTHER, Node("b", ME))
    assert names(look(mine)) == ["a", "b"]


def test_a_thread_may_be_one_of_those_that_it_waits_for() -> None:
    """The only worker waits for any worker."""
    assert names(look(waits(ME, Node("a", any_of(ME))))) == ["a"]
    forget([ME])
    assert look(waits(ME, Node("a", any_of(ME, OTHER)))) is FREE
    forget([ME])
    assert names(look(waits(ME, Node("a", all_of(ME, OTHER))))) == ["a"]


def test_groups_are_in_groups() -> None:
    """A wait is for all of a dispatcher and any of two workers."""
    workers = any_of(THIRD, FOURTH)
    mine = waits(ME, Node("a", all_of(OTHER, workers)))
    waits(THIRD, Node("c", ME))
    assert look(mine) is FREE
    waits(FOURTH, Node("d", ME))
    assert names(look(mine)) == ["a", "c", "d"]
    waits(OTHER, Node("b", ME))
    assert names(look(mine)) == ["a", "b", "c", "d"]


def test_threads_that_are_stuck_for_a_reason_of_their_own_free_nobody() -> None:
    """A wait for any worker, one of them stuck elsewhere: the searcher closes its own deadlock with the other."""
    waits(OTHER, Node("b", FOURTH))
    waits(FOURTH, Node("d", OTHER))
    waits(THIRD, Node("c", ME))
    found = look(waits(ME, Node("a", any_of(OTHER, THIRD))))
    assert isinstance(found, Knot)
    assert {wait.node.name for wait, _ in found.edges()} == {"a", "b", "c", "d"}
    assert {each for each in found.core if isinstance(each, int)} == {ME, THIRD}


# -- waits inside waits ------------------------------------------------------------------------------------------------


def test_a_thread_is_stuck_in_its_innermost_wait() -> None:
    """The thing that it waits for inside the other wait has to come first."""
    waits(OTHER, Node("outer", FOURTH))
    waits(OTHER, Node("inner", THIRD))
    waits(THIRD, Node("c", ME))
    assert names(look(waits(ME, Node("a", OTHER)))) == ["a", "inner", "c"]


def test_a_thread_that_is_stuck_in_an_outer_wait_alone_may_be_freed_by_what_it_does_inside() -> None:
    """So the result is not known yet."""
    waits(OTHER, Node("outer", ME))
    waits(OTHER, Node("inner", THIRD))
    assert look(waits(ME, Node("a", OTHER))) is UNSURE


# -- confirmation ------------------------------------------------------------------------------------------------------


def owner_that_moved_on() -> Answer:
    """Search for a wait whose node is free at the second reading."""
    mine = waits(ME, Node("a", OTHER, None))
    waits(OTHER, Node("b", ME))
    return look(mine)


def member_that_came() -> Answer:
    """Search for a wait for any of some threads, with one more thread at the second reading."""
    mine = waits(ME, Node("a", Group(True, [OTHER], [OTHER, THIRD])))
    waits(OTHER, Node("b", ME))
    return look(mine)


def member_that_left() -> Answer:
    """Search for a wait for any of some threads, without one that could act at the second reading."""
    mine = waits(ME, Node("a", OTHER))
    waits(OTHER, Node("b", all_of(any_of(ME), Group(True, [ME], [ME, THIRD]), Group(False, [ME], []))))
    return look(mine)


def member_that_is_not_needed_any_more() -> Answer:
    """Search for a wait for all of some threads, without the stuck one at the second reading."""
    mine = waits(ME, Node("a", Group(False, [OTHER, THIRD], [THIRD])))
    waits(OTHER, Node("b", ME))
    return look(mine)


def wait_that_ended() -> Answer:
    """Search for a wait for a thread that does not wait any more at the second reading."""

    class Ending(Node):
        def _up_to(self, waiter: int) -> _waits.UpTo:
            if self.asked:
                _waits._innermost.pop(OTHER, None)
            return super()._up_to(waiter)

    mine = waits(ME, Ending("a", OTHER))
    waits(OTHER, Node("b", ME))
    return look(mine)


def wait_that_began_again() -> Answer:
    """Search for a wait for a thread that ended its wait and began another, similar one."""
    node = Node("b", ME)

    class Renewing(Node):
        def _up_to(self, waiter: int) -> _waits.UpTo:
            if self.asked == 1:
                del _waits._innermost[OTHER]
                waits(OTHER, node)
            return super()._up_to(waiter)

    mine = waits(ME, Renewing("a", OTHER))
    waits(OTHER, node)
    return look(mine)


def wait_that_expired() -> Answer:
    """Search for a wait for a thread whose wait reached its limit between the two readings."""
    theirs = waits(OTHER, Node("b", ME), deadline_at=monotonic() + 60)

    class Late(Node):
        def _up_to(self, waiter: int) -> _waits.UpTo:
            if self.asked:
                theirs.deadline_at = monotonic() - 1
            return super()._up_to(waiter)

    return look(waits(ME, Late("a", OTHER)))


STALE: Final = [
    owner_that_moved_on,
    member_that_came,
    member_that_is_not_needed_any_more,
    wait_that_ended,
    wait_that_began_again,
    wait_that_expired,
]


@pytest.mark.parametrize("scenario", STALE)
def test_what_has_gone_makes_no_deadlock(scenario: Callable[[], Answer]) -> None:
    """A deadlock that only the first reading shows is not reported."""
    assert scenario() is UNSURE


@pytest.mark.parametrize("scenario", STALE)
def test_without_confirmation_a_deadlock_would_be_invented(
    scenario: Callable[[], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a search that reads only once reports every one of the scenarios above."""
    believe_the_first_look(monkeypatch)
    assert names(scenario()) == ["a", "b"]


def believe_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the confirmation."""

    def confirm(first: _deadlocks._Reading, only: object) -> _deadlocks._Confirmed:
        waits = {ident: found[0][0] for ident, found in first.waits.items() if found}
        return waits, {vertex: within(first.arrows[vertex], first.stuck) for vertex in first.stuck}

    monkeypatch.setattr(_deadlocks, "_confirm", confirm)


def test_threads_that_come_and_go_beside_a_deadlock_do_not_hide_it() -> None:
    """Of the tasks that a pool runs one is stuck; the others are different at each reading."""
    mine = waits(ME, Node("a", Group(False, [OTHER, THIRD], [OTHER, FOURTH])))
    waits(OTHER, Node("b", ME))
    assert names(look(mine)) == ["a", "b"]


def test_a_worker_that_has_ended_makes_a_deadlock_only_if_it_could_not_act_before() -> None:
    """A worker that was free at the first reading, and is gone at the second, may have acted in between."""
    mine = waits(ME, Node("a", Group(True, [OTHER, THIRD], [OTHER])))
    waits(OTHER, Node("b", ME))
    assert look(mine) is FREE
    assert names(look(mine)) == ["a", "b"]


def test_who_looks_on_looks_twice_as_well() -> None:
    """A deadlock that the second reading does not show was pieced together from different moments."""
    waits(ME, Node("a", OTHER, None))
    waits(OTHER, Node("b", ME))
    assert find_deadlocks() == ()
    forget([ME])
    waits(ME, Node("a", OTHER))
    assert find_deadlocks() == ((Wait("ident -1", "a", "ident -2"), Wait("ident -2", "b", "ident -1")),)


# -- who gives way -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_the_last_of_those_that_look_gives_way(order: tuple[int, ...]) -> None:
    """Every thread that sees the deadlock chooses the same one."""
    idents = (ME, OTHER, THIRD)
    ring = [
        waits(ident, Node(str(ident), owner), serial=serial)
        for ident, owner, serial in zip(idents, (OTHER, THIRD, ME), order, strict=True)
    ]
    for mine in ring:
        found = look(mine)
        assert isinstance(found, Knot)
        assert found.last()[0] is ring[order.index(2)]


def test_a_thread_that_has_not_drawn_its_serial_counts_as_the_last() -> None:
    """It is about to search, and a thread that finds it has to search again."""
    mine = waits(ME, Node("a", OTHER), serial=7)
    theirs = waits(OTHER, Node("b", ME), serial=NOT_DRAWN)
    found = look(mine)
    assert isinstance(found, Knot)
    assert found.last()[0] is theirs


@pytest.mark.parametrize("serial", [3, 9])
def test_a_wait_that_cannot_be_refused_leaves_it_to_the_others(serial: int) -> None:
    """It does so whether it is the last or not."""
    mine = waits(ME, Node("a", OTHER), serial=7)
    theirs = waits(OTHER, Node("b", ME), serial=serial, victim=False)
    for each in (mine, theirs):
        found = look(each)
        assert isinstance(found, Knot)
        assert found.last()[0] is mine


def test_a_wait_that_is_settled_can_not_give_way() -> None:
    """Its thread is already blocked, so the searching thread gives way."""
    mine = waits(ME, Node("a", OTHER), serial=7)
    waits(OTHER, Node("b", ME), serial=SETTLED)
    found = look(mine)
    assert isinstance(found, Knot)
    assert found.last()[0] is mine


# -- refusing ----------------------------------------------------------------------------------------------------------


def refuse(waiting: Waiting, *, then: Callable[[], object] = int) -> DeadlockError | None:
    """Publish a wait of this thread and withdraw it; return the error that this raised."""
    waiting.publish()
    try:
        refuse_deadlock(waiting)
        then()
    except DeadlockError as error:
        return error
    finally:
        waiting.withdraw()
    return None


def test_what_closes_a_cycle_is_refused() -> None:
    """The error has each wait; a thread without a name is named by its ident."""
    waits(OTHER, Node("b", get_ident()))
    error = refuse(Waiting(Node("a", OTHER)))
    me = threading.current_thread().name
    assert error is not None
    assert [(wait.thread, wait.lock_name, wait.holder) for wait in error.cycle] == [
        (me, "a", "ident -2"),
        ("ident -2", "b", me),
    ]
    assert len(error.stacks) == 2


class Result(Awaited):
    """A result that another thread has to bring."""

    def __init__(self, of: Node) -> None:
        """Make it for a name."""
        self.of = of
        self.group = any_of(OTHER)

    sought = "the result of 'use'"
    advice = "ask the group"

    def _up_to(self, waiter: int) -> _waits.UpTo:
        return self.group

    def why(self, thread: Callable[[int], str]) -> str:
        """Name it."""
        return f"which {thread(OTHER)} must bring"


def test_a_wait_for_several_threads_says_so_in_words() -> None:
    """They say what is awaited, which threads bring it, and how to avoid the deadlock."""
    waits(OTHER, Node("b", get_ident()))
    error = refuse(Waiting(Result(Node("pool", None))))
    assert error is not None
    me = threading.current_thread().name
    wait, other = error.cycle
    assert (wait.thread, wait.lock_name, wait.holder) == (me, "the result of 'use'", "ident -2")
    said = f"Thread {me!r} waits for the result of 'use', which a thread without a name (ident -2) must bring"
    assert str(wait) == said
    assert str(other) == f"a thread without a name (ident -2) waits for 'b' held by {me!r}"
    first, *_, last = str(error).splitlines()
    assert first == f"deadlock: {said}, {other}"
    assert last == f"so Thread {me!r} does not wait for the result of 'use': ask the group"


def test_a_deadlock_of_very_many_threads_makes_a_short_message() -> None:
    """It shows the first and the last few threads; the data has all of them."""
    many = 5000
    for number in range(1, many):
        waits(-number, Node(f"{number}", -number - 1 if number < many - 1 else get_ident()))
    error = refuse(Waiting(Node("0", -1)))
    assert error is not None
    assert len(error.cycle) == len(error.stacks) == many
    assert len(str(error)) < 10_000
    for name in ("'1'", "'2'", f"'{many - 1}'", "4992 more threads"):
        assert name in str(error).splitlines()[0]


def test_a_wait_leaves_it_to_another_that_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that finds a deadlock which a later one is about to break goes on, and blocks."""
    waits(OTHER, Node("b", get_ident()), serial=1 << 60)
    mine = Waiting(Node("a", OTHER))
    assert refuse(mine) is None
    assert mine.serial == SETTLED


def test_a_wait_looks_again_at_one_that_has_not_drawn_its_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """If that one turns out to be later, it decides; if it turns out to be earlier, this one is refused."""
    theirs = waits(OTHER, Node("b", get_ident()), serial=NOT_DRAWN)
    monkeypatch.setattr(_deadlocks, "sleep", lambda seconds: setattr(theirs, "serial", 1 << 60))
    assert refuse(Waiting(Node("a", OTHER))) is None
    theirs.serial = NOT_DRAWN
    monkeypatch.setattr(_deadlocks, "sleep", lambda seconds: setattr(theirs, "serial", -0.5))
    assert refuse(Waiting(Node("a", OTHER))) is not None


def test_who_gives_way_in_one_deadlock_does_not_hide_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait is for two threads: one is about to give way, and with the other there is still a deadlock."""
    waits(OTHER, Node("b", get_ident()), serial=1 << 60)
    waits(THIRD, Node("c", get_ident()))
    error = refuse(Waiting(Node("a", all_of(OTHER, THIRD))))
    assert error is not None
    assert [wait.lock_name for wait in error.cycle] == ["a", "c"]


def test_what_cannot_be_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The deadlock is in the log, because it can't be raised; later waits know that there may be stuck threads."""
    waits(OTHER, Node("b", get_ident()), victim=False)
    try:
        assert refuse(Waiting(Node("a", OTHER), victim=False)) is None
        assert [record.name for record in caplog.records] == ["syncprims"]
        assert "'a'" in caplog.text
        assert _deadlocks._unbroken
    finally:
        _deadlocks._unbroken.clear()


def test_what_cannot_be_refused_is_not_logged_if_another_gives_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It searches again until the deadlock is gone."""
    waits(OTHER, Node("b", get_ident()), serial=0)
    monkeypatch.setattr(_deadlocks, "sleep", lambda seconds: forget([OTHER]))
    assert refuse(Waiting(Node("a", OTHER), victim=False)) is None
    assert not caplog.records


def test_a_wait_for_threads_that_are_stuck_already_is_refused() -> None:
    """No thread will ever break their deadlock, so it would never end."""
    waits(OTHER, Node("b", THIRD))
    waits(THIRD, Node("c", OTHER))
    error = refuse(Waiting(Node("a", OTHER)))
    assert error is not None
    assert [wait.lock_name for wait in error.cycle] == ["a", "b", "c"]
    assert refuse(Waiting(Node("a", OTHER), victim=False)) is None


def test_a_wait_for_threads_of_which_one_gives_way_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It searches again as long as one of them has not settled."""
    waits(OTHER, Node("b", THIRD))
    waits(THIRD, Node("c", OTHER), serial=5)
    monkeypatch.setattr(_deadlocks, "sleep", lambda seconds: forget([THIRD]))
    assert refuse(Waiting(Node("a", OTHER))) is None


def test_a_wait_for_threads_of_which_one_gives_up_by_itself_is_not_refused() -> None:
    """A limit of one of them ends all of it."""
    waits(OTHER, Node("b", THIRD))
    waits(THIRD, Node("c", OTHER), deadline_at=monotonic() + 60)
    assert refuse(Waiting(Node("a", OTHER))) is None


def test_a_wait_that_expires_while_it_looks_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is about to give up anyway."""
    waits(OTHER, Node("b", get_ident()), serial=NOT_DRAWN)
    mine = Waiting(Node("a", OTHER), monotonic() + 60)
    monkeypatch.setattr(_deadlocks, "sleep", lambda seconds: setattr(mine, "deadline_at", monotonic()))
    assert refuse(mine) is None


# -- records -----------------------------------------------------------------------------------------------------------


def test_waits_of_one_thread_are_a_stack() -> None:
    """The innermost comes first, and withdrawing it uncovers the one below."""
    outer, inner = Waiting(Node("outer", None)), Waiting(Node("inner", None))
    outer.withdraw()  # before the wait is published, this does nothing
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

    with Actors() as actors:
        assert actors.start(wait).result() == 2
    assert count_waits(node) == 1
    mine.withdraw()


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 10, 1000])
def test_a_search_asks_each_node_of_a_chain_once(length: int) -> None:
    """The cost is linear in a chain that ends, and no recursion limit matters."""
    nodes = [Node(f"{number}", -number - 2) for number in range(length)]
    records = [waits(-number - 1, node) for number, node in enumerate(nodes)]
    assert look(records[0]) is FREE
    assert [node.asked for node in nodes] == [1] * length


@pytest.mark.parametrize("length", [2, 10, 1000])
def test_a_search_asks_each_node_of_a_cycle_twice(length: int) -> None:
    """Once to find it, and once to confirm it."""
    nodes = [Node(f"{number}", -((number + 1) % length) - 1) for number in range(length)]
    records = [waits(-number - 1, node) for number, node in enumerate(nodes)]
    found = look(records[0])
    assert isinstance(found, Knot)
    assert [wait for wait, _ in found.edges()] == records
    assert [node.asked for node in nodes] == [2] * length


@pytest.mark.parametrize("threads", [10, 1000])
def test_a_group_is_asked_once_however_many_wait_for_it(threads: int) -> None:
    """A thousand workers that each wait for any of the thousand are not a million arrows."""
    workers = any_of(*(-number - 1 for number in range(threads)))
    records = [waits(-number - 1, Node(f"{number}", workers)) for number in range(threads)]
    found = look(records[0])
    assert isinstance(found, Knot)
    assert len(found.edges()) == threads
    assert workers.asked == 2


def test_a_long_chain_is_left_where_nobody_waits_for_the_searcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """No path can lead back to the searcher, so the rest of the chain does not matter."""
    length = 1000
    nodes = [Node(f"{number}", -number - 2) for number in range(length)]
    records = [waits(-number - 1, node) for number, node in enumerate(nodes)]
    for node in nodes:
        monkeypatch.setattr(node, "_is_mine", bool, raising=False)
    monkeypatch.setattr(_deadlocks, "_unbroken", [])
    assert look(records[0]) is FREE
    assert sum(node.asked for node in nodes) == _deadlocks._FAR


def test_a_long_chain_is_followed_where_threads_may_be_stuck_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a thread that no thread waits for does so, because it would wait forever."""
    length = 1000
    nodes = [Node(f"{number}", -number - 2 if number < length - 1 else -2) for number in range(length)]
    records = [waits(-number - 1, node) for number, node in enumerate(nodes)]
    for node in nodes:
        monkeypatch.setattr(node, "_is_mine", bool, raising=False)
    monkeypatch.setattr(_deadlocks, "_unbroken", [])
    assert look(records[0]) is FREE
    monkeypatch.setattr(_deadlocks, "_unbroken", [None])
    assert isinstance(look(records[0]), Knot)


def test_waits_that_do_not_matter_are_not_looked_at() -> None:
    """A thousand waits elsewhere cost nothing."""
    elsewhere = [Node(f"{number}", -number - 101) for number in range(1000)]
    for number, node in enumerate(elsewhere):
        waits(-number - 100, node)
    assert look(waits(ME, Node("a", OTHER))) is FREE
    assert not any(node.asked for node in elsewhere)


def test_a_thread_reached_on_many_paths_is_looked_at_once() -> None:
    """Paths that fork and join again do not multiply."""
    depth = 30
    joints = [[Node(f"{level}{side}", -level - 2) for side in "lr"] for level in range(depth)]
    for level, sides in enumerate(joints):
        for node in sides:
            waits(-level - 1, node)
    assert look(waits_of(-1)[0]) is FREE
    assert sum(node.asked for sides in joints for node in sides) == 2 * depth - 1


def test_threads_without_names_are_told_apart_in_plain_words() -> None:
    """Their idents distinguish them, in the data and in the text; names are quoted, and idents are not."""
    wait = Wait(nameless(-2), "a", nameless(-1))
    assert str(wait) == "a thread without a name (ident -2) waits for 'a' held by a thread without a name (ident -1)"
    assert str(Wait("ident card", "a", "b")) == "Thread 'ident card' waits for 'a' held by 'b'"
    waits(OTHER, Node("b", get_ident()))
    error = refuse(Waiting(Node("a", OTHER)))
    assert error is not None
    assert "Thread 'ident" not in str(error)
    assert "a thread without a name (ident -2) is at" in str(error)
