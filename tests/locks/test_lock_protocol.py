"""The protocol of the compiled lock, step by step: all interleavings of a model of it, and of mutations of the model.

No tool explores interleavings inside C code. So this is a model of `let_go`, `let_go_of` and `wait_for` in
`_speedups.c`. Each step is one access to shared data, and a change there needs the same change here. There are so few
steps that every state which some threads can reach can be visited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import pytest

HANDED: Final = -1  # the lock is promised to a waiting thread
FREE: Final = 0


class Thread(NamedTuple):
    """One thread: its position, its knowledge, and how often it still has to acquire the lock."""

    at: str
    rounds: int
    patient: bool  # it waits without a limit, and no interrupt comes
    passed: bool = False
    expired: bool = False
    seen: int = 0


class State(NamedTuple):
    """The shared data, and the threads, which are called 1, 2, 3."""

    threads: tuple[Thread, ...]
    owner: int = FREE
    waiters: int = 0
    posted: int = 0
    starving: int = 0
    handed_by: int = 0
    gate_open: bool = False
    by_any: bool = False  # any thread may release it: the observed lock


class BrokenError(Exception):
    """Raised if the model reaches a forbidden state."""


MUTATIONS: Final = (
    "looks for waiters before it releases",
    "looks at the lock before it is counted",
    "never closes the gate behind itself",
    "looks at the lock before it closes the gate behind itself",
    "leaves a promise behind when it gives up",
    "leaves a promise behind when it releases",
    "opens a gate that is open",
    "gives up after the gate without another look",
    "does not wake a second waiter",
)


ANY_MUTATION: Final = "does not look whether another thread has released what it took"


def steps(state: State, number: int, mutation: str = "") -> Iterator[State]:
    """Yield each state to which the next step of this thread may lead; none if it sleeps or has ended."""
    me = state.threads[number - 1]

    def to(at: str, *, over: bool = False, thread: dict[str, int] | None = None, **shared: int) -> State:
        after = me._replace(at=at, **(thread or {}))  # type: ignore[arg-type]  # its own fields
        if over:  # the round is over
            after = Thread("begin" if me.rounds > 1 else "ended", me.rounds - 1, me.patient)
        threads = (*state.threads[: number - 1], after, *state.threads[number:])
        return state._replace(threads=threads, **shared)  # type: ignore[arg-type]  # its own fields

    match me.at:
        # -- taking it
        case "begin":
            if state.owner == FREE:
                yield to("held", owner=number)
            else:
                yield to("look early" if mutation == MUTATIONS[1] else "count")
        case "look early":
            yield to("count" if state.owner not in (FREE, HANDED) else "begin")
        case "count":
            yield to("sleep" if mutation == MUTATIONS[1] else "look", waiters=state.waiters + 1)
        case "look":
            if state.owner == HANDED and not me.passed:
                yield to("look who promised")
            elif state.owner in (FREE, HANDED):
                yield to("swap", thread={"seen": state.owner})
            elif me.expired:
                yield to("leave")
            elif mutation == MUTATIONS[3] and me.passed:
                yield to("close late", thread={"passed": False})
            else:
                yield to("sleep")
                if me.passed:
                    yield to("starve")
        case "look who promised":
            if state.handed_by != number:
                yield to("swap", thread={"seen": HANDED})
            else:
                yield to("leave" if me.expired else "sleep")
        case "swap":
            if state.owner == me.seen:
                yield to("taken", owner=number)
            else:
                yield to("look")
        case "starve":
            yield to("sleep", starving=1)
        case "sleep":
            if state.gate_open:
                late = mutation in (MUTATIONS[2], MUTATIONS[3])
                yield to("look" if late else "close", thread={"passed": True}, gate_open=False)
            if not me.patient:
                yield to("look", thread={"expired": True})
                yield to("leave")  # a signal handler has raised
        case "close":
            if mutation == MUTATIONS[7] and not me.patient:
                yield to("leave", posted=0)
            yield to("look", posted=0)
        case "close late":
            yield to("sleep", posted=0)
        case "taken":
            yield to("uncount", starving=0)
        case "uncount":
            done = not state.by_any or mutation == ANY_MUTATION
            yield to("held" if done else "unhand own", waiters=state.waiters - 1)
        # Another thread may have released it, and then saw this one among the waiters.
        case "unhand own":
            yield to("look at own", owner=FREE if state.owner == HANDED else state.owner)
        case "look at own":
            yield to("anybody" if state.owner == FREE else "held")
        # -- giving up
        case "leave":
            yield to("look after" if mutation == MUTATIONS[4] else "unhand", waiters=state.waiters - 1)
        case "unhand":
            yield to("look after", owner=FREE if state.owner == HANDED else state.owner)
        case "look after":
            if state.owner == FREE and mutation != MUTATIONS[7]:
                yield to("anybody")
            else:
                yield to("", over=True)
        case "anybody":
            if state.waiters:
                yield to("post")
            else:
                yield to("", over=True)
        # -- releasing it, whichever thread has it; but only the hold that was seen
        case "held" | "any" if state.by_any:
            if state.owner in (FREE, HANDED):
                yield to("", over=True)  # an error: another thread has released it
            else:
                yield to("any with waiters" if state.waiters else "any free", thread={"seen": state.owner})
        case "any with waiters":
            yield to("any note" if state.starving else "any free")
        case "any note" | "note":
            yield to("any hand" if me.at == "any note" else "hand", handed_by=number)
        case "any free" | "any hand":
            after = FREE if me.at == "any free" else HANDED
            following = "look for waiters" if after == FREE else "look after the promise"
            yield to(following, owner=after) if state.owner == me.seen else to("any")
        # -- releasing it
        case "held":
            if state.owner != number:
                raise BrokenError("two threads have the lock")
            yield to("choose" if state.waiters else "free", thread={"seen": state.waiters})
        case "choose":
            yield to("note" if state.starving else "free")
        case "free":
            yield to("look for waiters", owner=FREE)
        case "hand":
            yield to("look after the promise", owner=HANDED)
        case "look for waiters" | "look after the promise":
            if me.seen if mutation == MUTATIONS[0] else state.waiters:
                yield to("post")
            elif me.at == "look for waiters" or mutation == MUTATIONS[5]:
                yield to("", over=True)
            else:
                yield to("take back")
        case "take back":
            yield to("", over=True, owner=FREE if state.owner == HANDED else state.owner)
        case "post":
            kept = mutation == MUTATIONS[8] and state.waiters > 1
            if kept or (state.posted and mutation != MUTATIONS[6]):
                yield to("", over=True)
            else:
                yield to("open", posted=1)
        case "open":
            if state.gate_open:
                raise BrokenError("the gate is opened twice")
            yield to("", over=True, gate_open=True)


def explore(threads: list[Thread], mutation: str = "", *, by_any: bool = False) -> int:
    """Visit all states, and return their number; raise for a forbidden one."""
    start = State(tuple(threads), by_any=by_any)
    seen, left = {start}, [start]
    while left:
        state = left.pop()
        following = [after for number in range(1, len(threads) + 1) for after in steps(state, number, mutation)]
        if not following:
            if any(thread.at != "ended" for thread in state.threads):
                raise BrokenError(f"a thread sleeps forever: {state}")
            if state.owner != FREE or state.waiters:
                raise BrokenError(f"the lock is not as it was: {state}")
        for after in following:
            if after not in seen:
                seen.add(after)
                left.append(after)
    return len(seen)


def patient(rounds: int = 1) -> Thread:
    """A thread whose waits have no limit."""
    return Thread("begin", rounds, patient=True)


def hasty(rounds: int = 1) -> Thread:
    """A thread whose waits may end at any time, by a limit or an interrupt."""
    return Thread("begin", rounds, patient=False)


@pytest.mark.parametrize(
    "threads",
    [
        [patient(3), patient(3)],
        [patient(2), hasty(3)],
        [patient(), patient(), hasty()],
        pytest.param([hasty(2), hasty(2)], marks=pytest.mark.slow),
        pytest.param([patient(2), patient(2), patient()], marks=pytest.mark.slow),
        pytest.param([patient(2), patient(), hasty()], marks=pytest.mark.slow),
        pytest.param([patient(), patient(), patient(), patient()], marks=pytest.mark.slow),
    ],
)
def test_in_every_order_of_steps_one_thread_has_the_lock_and_all_come_to_an_end(
    threads: list[Thread], record_property: Callable[[str, object], None]
) -> None:
    """There are never two holders, a sleeping thread that none will wake, or a promise that is not kept."""
    states = explore(threads)
    assert states > 100
    record_property("states of the protocol", states)


def meddler() -> Thread:
    """A thread that only releases."""
    return Thread("any", 1, patient=True)


@pytest.mark.parametrize("threads", [[patient(2), patient(), meddler()], [patient(), hasty(), meddler(), meddler()]])
def test_if_any_thread_may_release_it_all_come_to_an_end_too(
    threads: list[Thread], record_property: Callable[[str, object], None]
) -> None:
    """Threads that release the holds of others leave no thread asleep, and no promise that is not kept."""
    states = explore(threads, by_any=True)
    assert states > 100
    record_property("states of the protocol", states)


@pytest.mark.parametrize("mutation", [MUTATIONS[2], MUTATIONS[4], MUTATIONS[5], ANY_MUTATION])
def test_a_step_in_the_wrong_place_is_caught_there_too(
    mutation: str, record_property: Callable[[str, object], None]
) -> None:
    """The steps that both kinds of release share matter in both, and so does the step that only this kind needs."""
    with pytest.raises(BrokenError):
        explore([patient(2), patient() if mutation != MUTATIONS[4] else hasty(), meddler()], mutation, by_any=True)
    record_property("mutations of the protocol caught", 1)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_step_in_the_wrong_place_is_caught(mutation: str, record_property: Callable[[str, object], None]) -> None:
    """Each step has its place for a reason: if it is moved or missing, some order of steps goes wrong."""
    caught = 0
    for threads in ([patient(2), patient(2)], [patient(2), hasty(2)], [patient(2), patient(), hasty()]):
        try:
            explore(threads, mutation)
        except BrokenError:
            caught += 1
            break
    assert caught
    record_property("mutations of the protocol caught", 1)
