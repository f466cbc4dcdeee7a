"""`SingleFlight`: callers of the same key at the same time share one call, and a later one makes another."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import product
from random import Random
from time import perf_counter_ns, sleep
from typing import Any

import pytest

from history import Call, Recorder, overlaps, record
from hostile import HostileObject
from locks.actors import LIMIT, Actors, eventually, wait_for
from locks.shared_calls import (
    MODES_OF_A_WAIT,
    Followed,
    Following,
    Slow,
    callers,
    depth,
    is_raised_in_all,
    outcome_of,
    waiting,
)
from locks.taken import interrupted_in_a_wait
from locks.test_keyed import Key
from syncprims import DeadlockError, LockTimeoutError, SingleFlight
from syncprims._core import foreign
from syncprims.diagnostics import record as recording_of
from syncprims.diagnostics import report, snapshot
from syncprims.testing import InterruptReport, Mode, interrupts

Make = Callable[..., SingleFlight[Any, Any]]


# -- what it promises --------------------------------------------------------------------------------------------------


def shares_a_call(make: Make) -> None:
    """Threads that come while it runs get the same object, whatever function they bring."""
    flight = make()
    result = object()
    slow = Slow(result)
    assert all(each is result for each in callers(lambda: flight.do("a", lambda: slow()), 4, slow))
    assert slow.runs == 1


def makes_another_later(make: Make) -> None:
    """It keeps neither a result nor an error."""
    flight = make()
    outcomes = iter([1, ValueError("no"), 3])

    def fetch() -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    assert flight.do("a", fetch) == 1
    with pytest.raises(ValueError, match="no"):
        flight.do("a", fetch)
    assert flight.do("a", fetch) == 3


def makes_another_while_the_first_wake_up(make: Make) -> None:
    """This holds even if some threads that waited for the former call have not gone on yet."""
    flight = make()
    slow = Slow("first", "second")
    with Actors() as actors:
        jobs = [actors.start(partial(flight.do, "a", lambda: slow()))]
        wait_for(slow.begun)
        jobs += [actors.start(partial(flight.do, "a", lambda: slow())) for _ in range(8)]
        eventually(lambda: waiting() == 8)
        slow.go.set()
        assert jobs[0].result() == "first"
        assert flight.do("a", lambda: slow()) == "second"
        assert [job.result() for job in jobs] == ["first"] * 9


def keeps_keys_apart(make: Make) -> None:
    """A call for one key never waits for another's, even if it is made inside the other's function."""
    flight = make(LIMIT)
    slow = Slow("slow")
    with Actors() as actors:
        job = actors.start(partial(flight.do, "a", lambda: slow()))
        wait_for(slow.begun)
        assert flight.do("b", lambda: flight.do("c", lambda: "quick")) == "quick"
        slow.go.set()
        assert job.result() == "slow"


def shares_errors(make: Make) -> None:
    """All waiting threads get the same exception."""
    flight = make()
    error = ValueError("no")
    slow = Slow(error, "done")
    assert is_raised_in_all(error, callers(lambda: flight.do("a", lambda: slow()), 4, slow))
    assert depth(error) < 20
    assert flight.do("a", lambda: slow()) == "done"


def keeps_an_interrupt_to_its_thread(make: Make) -> None:
    """One of the waiting threads makes another call, for all of them."""
    flight = make()
    interrupt = KeyboardInterrupt()
    slow = Slow(interrupt, "done", "twice")
    outcomes = callers(lambda: flight.do("a", lambda: slow()), 4, slow)
    assert outcomes[0] is interrupt
    assert outcomes[1:] == ["done"] * 3
    assert slow.runs == 2


def refuses_itself(make: Make) -> None:
    """A function that asks for its own key would wait for itself."""
    flight = make(name="pages")
    with pytest.raises(DeadlockError, match=r"\"pages\['a'\]\" is already .*do not ask for it inside"):
        flight.do("a", lambda: flight.do("b", lambda: flight.do("a", lambda: 1)))
    assert flight.do("a", lambda: 1) == 1


def leaves_nothing_behind(make: Make) -> None:
    """No keys, results or functions are left."""
    flight = make()

    class Page:
        pass

    for number in range(100):
        page = weakref.ref(flight.do(number, Page))
        assert page() is None
    key = Key("a")
    known = weakref.ref(key)
    flight.do(key, Page)
    del key
    flight.do("b", Page)
    assert known() is None


CLAIMS = [
    shares_a_call,
    makes_another_later,
    makes_another_while_the_first_wake_up,
    keeps_keys_apart,
    shares_errors,
    keeps_an_interrupt_to_its_thread,
    refuses_itself,
    leaves_nothing_behind,
]


@pytest.mark.inverts
@pytest.mark.parametrize("claim", CLAIMS)
def test_it_keeps_its_promises(claim: Callable[[Make], None]) -> None:
    """Every promise above holds."""
    claim(SingleFlight)


# -- broken versions ---------------------------------------------------------------------------------------------------


class CallsEach(SingleFlight[Any, Any]):
    """Shares no call."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        return fn()


class Caches(SingleFlight[Any, Any]):
    """Keeps the outcome."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: dict[Any, Any] = {}

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = super().do(key, lambda: outcome_of(fn))
        if isinstance(self.kept[key], BaseException):
            raise self.kept[key]
        return self.kept[key]


class OneForAll(SingleFlight[Any, Any]):
    """Treats all keys as the same."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        return super().do(None, fn)


class OneAfterTheOther(SingleFlight[Any, Any]):
    """A lock for each key, as people write it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.locks: dict[Any, Any] = {}

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        with self.locks.setdefault(key, threading.Lock()):
            return fn()


class SharesInterrupts(SingleFlight[Any, Any]):
    """Takes an interrupt for the outcome."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        outcome = super().do(key, lambda: outcome_of(fn))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Lingers(SingleFlight[Any, Any]):
    """Keeps a call for a while after its end, and gives its result to later threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last: dict[Any, Any] = {}

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        if key in self.last:
            return self.last.pop(key)
        self.last[key] = result = super().do(key, fn)
        return result


class CopiesErrors(SingleFlight[Any, Any]):
    """Gives each thread its own exception."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        try:
            return super().do(key, fn)
        except Exception as error:
            raise type(error)(*error.args) from None


class GivesCopies(SingleFlight[Any, Any]):
    """Gives each caller its own result."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        return [super().do(key, fn)]


class Remembers(SingleFlight[Any, Any]):
    """Keeps the keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keys: list[Any] = []

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        self.keys.append(key)
        return super().do(key, fn)


class OneAtATime(SingleFlight[Any, Any]):
    """Makes one call at a time, whatever the key is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        if not self.lock.acquire(timeout=0.2):
            raise AssertionError("it is in the way")
        try:
            return fn()
        finally:
            self.lock.release()


class RunsInside(SingleFlight[Any, Any]):
    """Lets a thread call again inside its own call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mine = threading.local()

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        if getattr(self.mine, "inside", False):
            return fn()
        self.mine.inside = True
        try:
            return super().do(key, fn)
        finally:
            self.mine.inside = False


class SharesByKeyAndThread(SingleFlight[Any, Any]):
    """Identifies calls by key and thread."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        return super().do((key, threading.get_ident()), fn)


BROKEN = [
    (CallsEach, shares_a_call),
    (GivesCopies, shares_a_call),
    (SharesByKeyAndThread, shares_a_call),
    (GivesCopies, makes_another_later),
    (OneAtATime, keeps_keys_apart),
    (GivesCopies, keeps_keys_apart),
    (Lingers, makes_another_later),
    (RunsInside, refuses_itself),
    (Remembers, leaves_nothing_behind),
    (CallsEach, refuses_itself),
    (Caches, makes_another_later),
    (Caches, makes_another_while_the_first_wake_up),
    (Lingers, makes_another_while_the_first_wake_up),
    (OneAfterTheOther, makes_another_while_the_first_wake_up),
    (Caches, leaves_nothing_behind),
    (OneForAll, keeps_keys_apart),
    (OneForAll, refuses_itself),
    (Caches, shares_errors),
    (CallsEach, shares_errors),
    (CopiesErrors, shares_errors),
    (OneAfterTheOther, shares_a_call),
    (OneAfterTheOther, keeps_an_interrupt_to_its_thread),
    (OneAfterTheOther, leaves_nothing_behind),
    (SharesInterrupts, keeps_an_interrupt_to_its_thread),
    (Caches, keeps_an_interrupt_to_its_thread),
]


@pytest.mark.inverts
@pytest.mark.parametrize(("kind", "claim"), BROKEN)
def test_broken_versions_are_caught(kind: Make, claim: Callable[[Make], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of each claim detects the fault that breaks it."""
    monkeypatch.setattr("locks.actors.LIMIT", 0.2)  # some never reach the event that is awaited
    with pytest.raises((AssertionError, IndexError, RecursionError, DeadlockError, ValueError, pytest.fail.Exception)):
        claim(kind)


# -- histories ---------------------------------------------------------------------------------------------------------


def fits(history: list[Call[Any]]) -> bool:
    """Whether each caller got the result of a call that was not over when it asked, and no two calls overlapped.

    The outcome of each is the key, the begin and the end of the function that it got, and the thread that ran it. The
    call is over when that thread has its own result.
    """
    got: list[tuple[Call[Any], str, int, int]] = []
    over: list[int] = []
    for each in history:
        outcome: Any = each.outcome
        of, began, ended, runner = outcome
        got.append((each, of, began, ended))
        over.append(
            next((one.ended for one in history if one.thread == runner and one.began <= began <= one.ended), ended)
        )
    apart = all(
        one is other or one == other or one[1] < other[0] or other[1] < one[0]
        for key in "ab"
        for one, other in product({(began, ended) for _, of, began, ended in got if of == key}, repeat=2)
    )
    return apart and all(
        each.what == of and each.began <= end and ended <= each.ended
        for (each, of, _, ended), end in zip(got, over, strict=True)
    )


def some_history(make: Make, seed: int) -> list[Call[Any]]:
    """The outcomes of three threads that asked for two keys at the same time."""
    flight = make(LIMIT)
    random = Random(seed)

    def fetch(key: str, thread: int) -> tuple[str, int, int, int]:
        began = perf_counter_ns()
        sleep(0.0005)
        return key, began, perf_counter_ns(), thread

    def ask(note: Recorder[Any]) -> None:
        own = Random(random.random())
        for _ in range(6):
            key = own.choice("ab")
            note(key, partial(flight.do, key, partial(fetch, key, note.thread)))

    return record([ask] * 3, random)


def test_histories_fit_the_model() -> None:
    """The calls of each key come one after the other, and no later caller shares one."""
    histories = [some_history(SingleFlight, seed) for seed in range(12)]
    assert all(map(fits, histories))
    assert any(map(overlaps, histories))


@pytest.mark.parametrize("kind", [CallsEach, Caches, OneForAll])
def test_histories_of_broken_versions_do_not_fit(kind: Make) -> None:
    """Some runs show it."""
    assert not all(fits(some_history(kind, seed)) for seed in range(40))


# -- time, deadlocks, reports ------------------------------------------------------------------------------------------


def test_a_wait_that_is_too_long_names_the_thread_that_runs_the_call() -> None:
    """The call goes on, and the others get its result."""
    flight: SingleFlight[str, Any] = SingleFlight(timeout=0.01, name="pages")
    slow = Slow("done")
    words = r"waited 0\.\d s for \"pages\['a'\]\", which runs in Thread 'fetcher' .* which is"
    with Actors() as actors:
        leader = actors.start(lambda: flight.do("a", lambda: slow()), "fetcher")
        wait_for(slow.begun)
        with pytest.raises(LockTimeoutError, match=words) as caught:
            flight.do("a", lambda: slow())
        assert caught.value.lock_name == "pages['a']"
        assert caught.value.timeout == 0.01
        assert caught.value.holder is not None
        assert caught.value.holder.name == "fetcher"
        assert ("SingleFlight", "pages['a']") in [(state.kind, state.name) for state in snapshot()]
        assert "SingleFlight \"pages['a']\": held by Thread 'fetcher'" in report()
        slow.go.set()
        assert leader.result() == "done"
    assert slow.runs == 1
    assert "pages['a']" not in [state.name for state in snapshot()]


def test_the_time_limit_is_one_for_all_the_calls_that_are_waited_for() -> None:
    """This holds even if the first one was interrupted, and another thread makes the next."""
    flight: SingleFlight[str, Any] = SingleFlight(timeout=0.2)
    slow, slower = Slow(KeyboardInterrupt()), Slow("done")
    with Actors() as actors:
        first = actors.start(partial(outcome_of, lambda: flight.do("a", lambda: slow())))
        wait_for(slow.begun)
        jobs = [actors.start(partial(outcome_of, lambda: flight.do("a", lambda: slower()))) for _ in range(2)]
        eventually(lambda: waiting() == 2)
        slow.go.set()
        wait_for(slower.begun)
        eventually(lambda: any(not job.thread.is_alive() for job in jobs))
        slower.go.set()
        assert isinstance(first.result(), KeyboardInterrupt)
        (late,) = (job.result() for job in jobs if job.result() != "done")
        assert isinstance(late, LockTimeoutError)
        assert late.timeout == 0.2
        assert late.waited >= 0.2


def test_without_the_gil_no_two_threads_raise_the_same_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.13 may crash if they do. So all threads except the one that made the call get a copy."""
    monkeypatch.setattr(foreign, "SEVERAL_MAY_RAISE", False)
    shares_errors(SingleFlight)


@pytest.mark.inverts
def test_two_keys_whose_functions_ask_for_each_other_are_a_deadlock() -> None:
    """One thread gets the error, which is the outcome of its call, so the other gets it as well."""
    flight: SingleFlight[str, Any] = SingleFlight(name="pages")
    meet = threading.Barrier(2)

    def fetch(other: str) -> Any:
        meet.wait(LIMIT)
        return flight.do(other, lambda: "never")

    with Actors() as actors:
        jobs = [actors.start(partial(outcome_of, partial(flight.do, *pair))) for pair in pairs(fetch)]
        errors = [job.result() for job in jobs]
    assert is_raised_in_all(errors[0], errors) or is_raised_in_all(errors[1], errors[::-1])
    assert isinstance(errors[0], DeadlockError)
    assert {wait.lock_name for wait in errors[0].cycle} == {"pages['a']", "pages['b']"}


def pairs(fetch: Callable[[str], Any]) -> list[tuple[str, Callable[[], Any]]]:
    """Two keys, each with a function that asks for the other."""
    return [("a", partial(fetch, "b")), ("b", partial(fetch, "a"))]


def test_recordings_show_who_waited() -> None:
    """A call is a hold."""
    flight: SingleFlight[str, Any] = SingleFlight(name="pages")
    slow = Slow("done")
    with recording_of() as recording:
        callers(lambda: flight.do("a", lambda: slow()), 3, slow)
    assert "pages['a']" in {span.name for span in recording.spans}


# -- what is given -----------------------------------------------------------------------------------------------------


def test_keys_and_functions_that_can_not_be_are_refused_at_once() -> None:
    """No function is called."""
    flight: SingleFlight[Any, Any] = SingleFlight()
    called: list[object] = []

    async def later() -> None:
        called.append(1)

    with pytest.raises(TypeError, match="unhashable"):
        flight.do([], lambda: called.append(1))
    with pytest.raises(TypeError, match=r"the function of do\(\) can't be .*coroutine function"):
        flight.do("a", later)
    with pytest.raises(TypeError, match="must be callable"):
        flight.do("a", 5)  # type: ignore[arg-type]
    for failing in ("hash", "eq"):
        kept, asking = Key("a"), Key("a")
        (asking if failing == "hash" else kept).failing = failing
        with pytest.raises(LookupError, match="no "):
            flight.do(kept, lambda asking=asking: flight.do(asking, lambda: 1))  # type: ignore[misc]
    assert called == []


def test_results_are_never_touched() -> None:
    """Nor are keys, except their hash and comparison, unless a message has to show one."""
    flight: SingleFlight[Any, Any] = SingleFlight()
    result = HostileObject()
    assert flight.do("a", lambda: result) is result
    slow = Slow(result)
    assert all(each is result for each in callers(lambda: flight.do("a", lambda: slow()), 3, slow))


def test_bad_arguments_are_refused() -> None:
    """The errors are those of a lock; and it can't be copied or pickled."""
    with pytest.raises(ValueError, match="timeout"):
        SingleFlight(-1)
    with pytest.raises(TypeError, match="name"):
        SingleFlight(name=5)  # type: ignore[arg-type]
    flight: SingleFlight[str, int] = SingleFlight(2.5, name="pages")
    assert (flight.timeout, flight.name) == (2.5, "pages")
    assert SingleFlight().name.startswith("SingleFlight-")
    assert repr(flight) == "<syncprims.SingleFlight 'pages', 0 calls>"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            copied(flight)


# -- interrupts and fork -----------------------------------------------------------------------------------------------


class Subject:
    """Calls of one key."""

    def __init__(self, make: Make = SingleFlight) -> None:
        self.flight = make()
        self.key: Any = Key("a")
        self.made = 0

    def call(self) -> Any:
        return self.flight.do(self.key, self.fetch)

    def fetch(self) -> str:
        self.made += 1
        return "done"

    def broken(self) -> str | None:
        if waiting():
            return "still waiting"
        made = self.made
        outcome = outcome_of(self.call)
        if outcome != "done":
            return f"the next call gets {outcome!r}"
        if self.made == made:
            return "the next call gets an old result"
        self.flight.do("b", self.fetch)
        self.flight.do("c", self.fetch)
        left = [key for key in self.flight._calls._refs if key != "c"]
        return f"keys are left: {left}" if left else None


def calling(subject: Subject) -> None:
    subject.call()


def calling_inside(subject: Subject) -> None:
    subject.flight.do("outer", subject.call)


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
@pytest.mark.parametrize("scenario", [calling, calling_inside])
def test_an_interrupt_leaks_nothing(scenario: Callable[[Subject], None], mode: Mode) -> None:
    """The next call of the key runs, and no key is left."""
    interrupts(Subject, scenario, Subject.broken, mode=mode).check()


class FollowedFlight(Subject, Followed):
    """The call is interrupted while another thread waits for it."""

    def __init__(self, make: Make = SingleFlight) -> None:
        Followed.__init__(self)
        Subject.__init__(self, make)
        self.key = "a"
        self.start_follower()

    def fetch(self) -> str:
        self.hold_up()
        return super().fetch()

    def broken(self) -> str | None:
        return self.what_the_follower_lacks() or super().broken()


def followed(mode: Mode, make: Make = SingleFlight) -> InterruptReport:
    """Interrupt a call that another thread waits for."""
    return interrupted_in_a_wait(partial(FollowedFlight, make), calling, FollowedFlight.broken, mode)


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
def test_those_who_wait_go_on_if_the_call_is_interrupted(mode: Mode) -> None:
    """They get a result, wherever the interrupt comes."""
    followed(mode).check()


class FollowingFlight(Subject, Following):
    """Another thread makes the call, until it is asked to end."""

    def __init__(self) -> None:
        super().__init__()
        slow = Slow("done")
        self.start_leader(partial(self.flight.do, self.key, slow), slow)


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
def test_an_interrupted_wait_disturbs_nobody(mode: Mode) -> None:
    """The call goes on."""
    interrupted_in_a_wait(FollowingFlight, calling, FollowingFlight.broken, mode).check()


class ByHand(SingleFlight[Any, Any]):
    """Acquires and releases its lock by hand."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from syncprims import TimedLock

        self.lock = TimedLock()

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        if not self.lock.acquire(timeout=0.01):
            raise TimeoutError
        result = fn()
        self.lock.release()
        return result


class Leaves(SingleFlight[Any, Any]):
    """A dictionary of calls, from which each finally removes its own."""

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        calls: Any = self._calls._refs
        token = object()
        calls[token] = None
        result = fn()
        calls.pop(token)
        return result


class Notes(SingleFlight[Any, Any]):
    """Notes which keys run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.running: set[Any] = set()

    def do(self, key: Any, fn: Callable[[], Any]) -> Any:
        if key in self.running:
            raise TimeoutError("it is still running")
        self.running.add(key)
        result = fn()
        self.running.discard(key)
        return result


@pytest.mark.untraceable
@pytest.mark.parametrize("kind", [ByHand, Leaves, Notes])
def test_the_sweeps_find_leaks_in_broken_versions(kind: Make) -> None:
    """These are the controls."""
    assert interrupts(partial(Subject, kind), calling, Subject.broken).leaks


@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own_calls() -> None:
    """A call of another thread does not go on there; a call of the forking thread does."""
    from locks.test_lock_fork import in_child, in_thread

    flight: SingleFlight[str, Any] = SingleFlight(LIMIT)
    slow = Slow("parent's")

    def check() -> None:
        in_thread(lambda: flight.do("a", lambda: "child's") == "child's")
        assert flight.do("a", lambda: "child's") == "child's"

    def check_itself() -> str:
        in_child(refuse)
        return "parent's"

    def refuse() -> None:
        with pytest.raises(DeadlockError):
            flight.do("a", lambda: "never")
        assert flight.do("b", lambda: "child's") == "child's"

    with Actors() as actors:
        leader = actors.start(partial(flight.do, "a", lambda: slow()))
        wait_for(slow.begun)
        in_child(check)
        slow.go.set()
        assert leader.result() == "parent's"
    assert flight.do("a", check_itself) == "parent's"


@pytest.mark.usefixtures("restless")
def test_under_stress_a_call_is_shared_only_while_it_runs() -> None:
    """Many threads, few keys, some errors: no two calls of a key overlap, and each caller shares a current one."""
    flight: SingleFlight[int, tuple[int, int]] = SingleFlight(LIMIT)
    running, made = dict.fromkeys(range(3), 0), dict.fromkeys(range(3), 0)
    problems: list[str] = []

    def fetch(key: int) -> tuple[int, int]:
        running[key] += 1
        if running[key] != 1:
            problems.append("two at once")
        sleep(0)
        made[key] += 1
        number = made[key]
        running[key] -= 1
        if number % 5 == 0:
            raise ValueError(number)
        return key, number

    def work(start: int) -> None:
        for number in range(start, start + 200):
            key = number % 3
            before = made[key]
            try:
                got, call = flight.do(key, partial(fetch, key))
            except ValueError as error:
                got, call = key, error.args[0]
            if got != key or not before <= call:
                problems.append(f"{key} got {got}, {call} after {before}")

    with Actors() as actors:
        for start in range(5):
            actors.start(partial(work, start))
    assert problems == []
    assert len(flight._calls) == 0
