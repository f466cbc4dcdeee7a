"""Several threads use a lock that several may hold at the same time, as if one after another."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from random import Random
from time import monotonic
from typing import Any, Final, NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history import Call, Recorder, linearizable, record
from syncprims import DeadlockError, QueuedLock, TimedRWLock, TimedSemaphore

PERMITS: Final = 2


class State(NamedTuple):
    """The holds of each thread, and the waiting threads.

    A wait is a call of two parts, because other threads may see that a thread waits: then a try fails.
    """

    held: tuple[tuple[int, str], ...] = ()
    waiting: frozenset[int] = frozenset()

    def took(self, thread: int, what: str) -> State:
        return self._replace(held=tuple(sorted((*self.held, (thread, what)))))

    def gave(self, thread: int, what: str) -> State | None:
        held = list(self.held)
        if (thread, what) not in held:
            return None
        held.remove((thread, what))
        return self._replace(held=tuple(held))

    def asks(self, thread: int) -> State:
        return self._replace(waiting=self.waiting | {thread})

    def asks_no_more(self, thread: int) -> State:
        return self._replace(waiting=self.waiting - {thread})


Way = tuple[str, str]  # the method, and its argument
ERRORS: Final = (DeadlockError, TimeoutError, ValueError, RuntimeError)


class Rooms(QueuedLock):
    """Lets in threads of one kind together."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return all(each == kind for each in kinds)


def do(act: Callable[[], object]) -> Hashable:
    """Do it, and return the outcome."""
    try:
        outcome = act()
    except ERRORS as error:
        return next(kind.__name__ for kind in ERRORS if isinstance(error, kind))
    return outcome if isinstance(outcome, bool) else None


def sides(thing: Any, what: str, timeout: float) -> Any:
    if isinstance(thing, Rooms):
        return thing.of(int(what), timeout)
    return thing.hold(timeout) if what == "permit" else getattr(thing, what)(timeout)


def act_of(thing: Any, way: Way) -> Callable[[], object]:
    how, what = way
    if how == "leave":
        return lambda: None if sides(thing, what, 0).__exit__(None, None, None) is not True else True
    if how == "try":
        return lambda: sides(thing, what, 0).__enter__()
    if how == "wait":
        return lambda: sides(thing, what, 0.0005).__enter__()
    return (lambda: thing.acquire(False)) if how == "lend" else thing.release


def model(state: State, call: Call[State], *, fits: Callable[[State, int, str], bool]) -> State | None:
    """The state of the lock if its callers come one after another."""
    how, what = cast(Way, call.what)
    me, failed = call.thread, call.outcome in ("TimeoutError", False)
    if how == "leave":
        left = state.gave(me, what)
        return left if call.outcome is None else state if left is None else None
    if how == "give back":
        lender = next((thread for thread, each in state.held if each == "lent"), me)
        left = state.gave(lender, "lent")
        return left if call.outcome is None else state if left is None else None
    if how == "asks":
        return state.asks(me)
    others_wait = bool(state.waiting - {me})
    after = state.asks_no_more(me)
    if call.outcome == "DeadlockError":
        mine = [each for thread, each in state.held if thread == me]
        return after if how in ("try", "gets") and mine else None
    if failed:
        return after if others_wait or not fits(after, me, what) else None
    return after.took(me, "lent" if how == "lend" else what) if fits(after, me, what) else None


def permit_fits(state: State, thread: int, what: str) -> bool:
    return len(state.held) < PERMITS


def side_fits(state: State, thread: int, what: str) -> bool:
    mine = {each for holder, each in state.held if holder == thread}
    others = {each for holder, each in state.held if holder != thread}
    if "write" in mine:
        return True
    return "write" not in others if what == "read" else not others and not mine


def room_fits(state: State, thread: int, what: str) -> bool:
    return all(holder != thread and each == what for holder, each in state.held)


def room_model(state: State, call: Call[State]) -> State | None:
    """A thread leaves the room that it is in, by any way to leave."""
    how, what = cast(Way, call.what)
    if how == "leave":
        what = next((each for thread, each in state.held if thread == call.thread), what)
    return model(state, replace(call, what=(how, what)), fits=room_fits)


def carrying_out(thing: Any, plan: list[Way]) -> Callable[[Recorder[State]], None]:
    """Return a function that carries out the plan, and finally leaves all holds."""

    def carry_out(note: Recorder[State]) -> None:
        for way in plan:
            parts: tuple[Way, ...] = (("asks", way[1]), ("gets", way[1])) if way[0] == "wait" else (way,)
            note(parts[0], lambda way=way: do(act_of(thing, way)), parts[1:])  # type: ignore[misc]  # bound now
        for what in {what for how, what in plan if how in ("try", "wait")}:
            while note(("leave", what), lambda what=what: do(act_of(thing, ("leave", what)))) is None:  # type: ignore[misc]  # bound now
                pass

    return carry_out


PERMIT_WAYS: Final = [("try", "permit"), ("wait", "permit"), ("leave", "permit"), ("lend", "permit"), ("give back", "")]
ROOM_WAYS: Final = [(how, what) for how in ("try", "wait", "leave") for what in ("0", "1")]
SIDE_WAYS: Final = [(how, what) for how in ("try", "wait", "leave") for what in ("read", "write")]


Plan = list[list[Way]]
MOST, FEWEST = 6, 1


def plans(ways: list[Way]) -> st.SearchStrategy[Plan]:
    return st.lists(st.lists(st.sampled_from(ways), min_size=FEWEST, max_size=MOST), min_size=2, max_size=3)


def planned(ways: list[Way], random: Random) -> Plan:
    """One of these, at random."""
    return [random.choices(ways, k=random.randint(FEWEST, MOST)) for _ in range(random.randint(2, 3))]


some = settings(max_examples=40, deadline=None, database=None)


def check_semaphore(ways: Plan, seed: int) -> None:
    semaphore = TimedSemaphore(PERMITS)
    history = record([carrying_out(semaphore, plan) for plan in ways], Random(seed))
    assert linearizable(history, State(), lambda state, call: model(state, call, fits=permit_fits)), history
    assert not semaphore.waiting
    assert len([token for token in semaphore._held if token > 0]) == 0


def check_rw_lock(ways: Plan, seed: int) -> None:
    lock = TimedRWLock()
    history = record([carrying_out(lock, plan) for plan in ways], Random(seed))
    assert linearizable(history, State(), lambda state, call: model(state, call, fits=side_fits)), history
    assert (lock.waiting, lock.holders) == (0, ())


def check_rooms(ways: Plan, seed: int) -> None:
    rooms = Rooms()
    history = record([carrying_out(rooms, plan) for plan in ways], Random(seed))
    assert linearizable(history, State(), room_model), history
    assert (rooms.waiting, rooms.holders) == (0, ())


each_lock = pytest.mark.parametrize(
    ("check", "ways"),
    [(check_semaphore, PERMIT_WAYS), (check_rw_lock, SIDE_WAYS), (check_rooms, ROOM_WAYS)],
    ids=["semaphore", "rw_lock", "lock_of_ones_own"],
)
Check = Callable[[Plan, int], None]
Note = Callable[[str, object], None]


@each_lock
def test_histories_are_linearizable(check: Check, ways: list[Way], record_property: Note) -> None:
    """The calls of two or three threads at once have outcomes as if they had come one after another."""

    @some
    @given(plans(ways), st.integers(0, 1 << 16))
    def judge(plan: Plan, seed: int) -> None:
        check(plan, seed)

    judge()
    record_property("histories judged", some.max_examples)


# Nearly all of the time goes into the runs, whose threads let others run before every third line; the search takes less
# than a millisecond for most histories. So the number of histories in a given time depends on the machine's other work.
SECONDS: Final = 300


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
@each_lock
def test_a_thousand_histories_are_linearizable(check: Check, ways: list[Way], record_property: Note) -> None:
    """The same up to a thousand times, as many as there is time for; the number is the seed."""
    end = monotonic() + SECONDS
    judged = 0
    while judged < 1000 and monotonic() < end:
        check(planned(ways, Random(judged)), judged)
        judged += 1
    assert judged >= 20
    record_property("histories judged", judged)


@pytest.mark.parametrize(("how", "verdict"), [("DeadlockError", True), (None, False)])
def test_the_model_of_rooms_itself(how: Hashable, verdict: bool) -> None:
    """A second hold of a thread is refused, and nothing else."""
    history = [one(0, ("try", "0"), None, 0, 1), one(0, ("try", "0"), how, 2, 3)]
    assert linearizable(history, State(), room_model) is verdict


def one(thread: int, way: Way, outcome: Hashable, began: int, ended: int) -> Call[State]:
    return Call(thread, way, outcome, began, ended)


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([one(0, ("try", "read"), None, 0, 1), one(1, ("try", "read"), None, 2, 3)], True),
        ([one(0, ("try", "read"), None, 0, 1), one(1, ("try", "write"), None, 2, 3)], False),
        ([one(0, ("try", "write"), None, 0, 1), one(1, ("try", "read"), "TimeoutError", 2, 3)], True),
        ([one(0, ("try", "read"), "TimeoutError", 0, 1)], False),
        ([one(0, ("try", "read"), None, 0, 1), one(0, ("try", "write"), "DeadlockError", 2, 3)], True),
        ([one(0, ("leave", "read"), None, 0, 1)], False),
    ],
)
def test_the_model_itself(history: list[Call[State]], verdict: bool) -> None:
    """Histories with a known verdict get that verdict."""
    assert linearizable(history, State(), lambda state, call: model(state, call, fits=side_fits)) is verdict


def test_a_lock_that_looks_before_it_enters_is_found_out() -> None:
    """The control: a naive lock lets a reader in beside a writer, and its histories show that."""

    class Naive(TimedRWLock):
        def read(self, timeout: Any = ...) -> Any:
            lock = self

            class Side:
                def __enter__(self) -> None:
                    if lock.write_locked():
                        raise TimeoutError
                    place = len(lock._held)
                    lock._held.insert(place, 1)

                def __exit__(self, *exc_info: object) -> None:
                    lock._held.remove(1)

            return Side()

    ways = (
        [("try", "read"), ("leave", "read"), ("try", "read"), ("try", "read")],
        [("try", "write"), ("leave", "write")],
    )
    random = Random(5)
    for _ in range(400):
        lock = Naive()
        history = record([carrying_out(lock, [*way] * 2) for way in ways], random)
        if not linearizable(history, State(), lambda state, call: model(state, call, fits=side_fits)):
            return
    pytest.fail("the histories of a naive lock all passed, so the check proves nothing")
