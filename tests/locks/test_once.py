"""`once`: the function runs once, waiting threads get its error, and no thread hangs despite interrupts."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from locks.actors import LIMIT, Actors, eventually, on_signal, wait_for
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
from syncprims import DeadlockError, LockTimeoutError, TimedLock, once
from syncprims._core import foreign
from syncprims.diagnostics import record, report, snapshot
from syncprims.testing import MODES, InterruptReport, Mode, interrupts

each_mode = pytest.mark.parametrize("mode", MODES)
Once = Callable[[Callable[[], Any]], Callable[[], Any]]


# -- what it promises --------------------------------------------------------------------------------------------------


def runs_once_for_all(make: Once) -> None:
    """Threads that come at the same time and threads that come later get the same object."""
    result = object()
    slow = Slow(result)
    call = make(lambda: slow())
    assert all(each is result for each in callers(call, 4, slow))
    assert call() is result
    assert slow.runs == 1


def runs_once_whatever_it_returns(make: Once) -> None:
    """None, false values and values that can't be compared are results too."""
    results: list[Any] = [None, False, [], NotImplemented]
    for result in results:
        runs: list[None] = []
        call = make(partial(noting, runs, result))
        assert call() is result
        assert call() is result
        assert len(runs) == 1


def noting(runs: list[None], result: object) -> object:
    """Note that it runs, and return the result."""
    runs.append(None)
    return result


def shares_an_error_and_tries_again(make: Once) -> None:
    """All waiting threads get the same exception; the next call runs the function again."""
    error = ValueError("not yet")
    slow = Slow(error, "done")
    call = make(lambda: slow())
    assert is_raised_in_all(error, callers(call, 4, slow))
    assert slow.runs == 1
    assert call() == "done"
    assert slow.runs == 2


def keeps_an_interrupt_to_its_thread(make: Once) -> None:
    """An interrupt is raised where it came; one of the waiting threads runs the function again, for all."""
    interrupt = KeyboardInterrupt()
    slow = Slow(interrupt, "done", "twice")
    outcomes = callers(make(lambda: slow()), 4, slow)
    assert outcomes[0] is interrupt
    assert outcomes[1:] == ["done"] * 3
    assert slow.runs == 2


def refuses_itself(make: Once) -> None:
    """A function that calls itself would wait for itself."""

    def load() -> Any:
        return call()

    call = make(load)
    with pytest.raises(DeadlockError, match="do not ask for it inside of its own function"):
        call()
    with pytest.raises(DeadlockError):
        call()


def refuses_a_cycle(make: Once) -> None:
    """Two functions in two threads that wait for each other's result are a deadlock: one of them gets the error."""
    begun = threading.Barrier(2)

    def one() -> Any:
        if not begun.broken:
            begun.wait(LIMIT)
        return call_other()

    def other() -> Any:
        if not begun.broken:
            begun.wait(LIMIT)
        return call_one()

    call_one, call_other = make(one), make(other)
    with Actors() as actors:
        jobs = [actors.start(partial(outcome_of, call)) for call in (call_one, call_other)]
        eventually(lambda: begun.n_waiting == 0 and any(not job.thread.is_alive() for job in jobs))
        begun.abort()
        errors = [job.result() for job in jobs]
    assert {type(each) for each in errors} == {DeadlockError}
    # The error of the one call is the exception of the other function.
    assert is_raised_in_all(errors[0], errors) or is_raised_in_all(errors[1], errors[::-1])
    assert len(errors[0].cycle) == 2


CLAIMS = [
    runs_once_for_all,
    runs_once_whatever_it_returns,
    shares_an_error_and_tries_again,
    keeps_an_interrupt_to_its_thread,
    refuses_itself,
    refuses_a_cycle,
]


@pytest.mark.inverts
@pytest.mark.parametrize("claim", CLAIMS)
def test_it_keeps_its_promises(claim: Callable[[Once], None]) -> None:
    """Every promise above holds."""
    claim(once)


# -- broken versions ---------------------------------------------------------------------------------------------------


def cached(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Like `functools.cache`: two threads at once both run it."""
    return functools.cache(fn)


def by_truth(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Takes a false result for no result."""
    lock = TimedLock()
    kept: list[Any] = [None]

    def call() -> Any:
        with lock:
            kept[0] = kept[0] or fn()
            return kept[0]

    return call


def one_after_the_other(fn: Callable[[], Any]) -> Callable[[], Any]:
    """A lock and a flag, as people write it: after an error each waiting thread tries again."""
    lock = TimedLock()
    kept: list[Any] = []

    def call() -> Any:
        with lock:
            if not kept:
                kept.append(fn())
            return kept[0]

    return call


def keeps_errors(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Takes an exception of any kind for the outcome."""
    lock = TimedLock()
    kept: list[Any] = []

    def call() -> Any:
        with lock:
            if not kept:
                kept.append(outcome_of(fn))
        if isinstance(kept[0], BaseException):
            raise kept[0]
        return kept[0]

    return call


def runs_again_inside(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Has no lock at all: calls within calls until the stack is full."""
    kept: list[Any] = []

    def call() -> Any:
        if not kept:
            kept.append(fn())
        return kept[-1]

    return call


def copies_errors(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Gives each thread its own exception."""
    call = once(fn)

    def copying() -> Any:
        try:
            return call()
        except Exception as error:
            raise type(error)(*error.args) from None

    return copying


def without_none(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Takes None for no result."""
    lock = TimedLock()
    kept: list[Any] = []

    def call() -> Any:
        with lock:
            if not kept or kept[0] is None:
                kept[:] = [fn()]
            return kept[0]

    return call


def by_comparison(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Compares the result to find out whether there is one."""
    lock = TimedLock()
    kept: list[Any] = [[]]

    def call() -> Any:
        with lock:
            if kept[0] == []:
                kept[0] = fn()
            return kept[0]

    return call


def gives_all_the_interrupt(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Raises an interrupt in every waiting thread."""
    call = once(partial(outcome_of, fn))

    def raising() -> Any:
        outcome = call()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return raising


def with_a_limit(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Has a limit instead of a check for deadlocks."""
    lock = threading.RLock()
    kept: list[Any] = []

    def call() -> Any:
        if not lock.acquire(timeout=0.05):
            raise LockTimeoutError("too late")
        try:
            if not kept:
                kept.append(fn())
            return kept[0]
        finally:
            lock.release()

    return call


BROKEN = [
    (cached, runs_once_for_all),
    (runs_again_inside, runs_once_for_all),
    (with_a_limit, runs_once_for_all),
    (copies_errors, shares_an_error_and_tries_again),
    (by_truth, runs_once_whatever_it_returns),
    (without_none, runs_once_whatever_it_returns),
    (by_comparison, runs_once_whatever_it_returns),
    (one_after_the_other, shares_an_error_and_tries_again),
    (keeps_errors, shares_an_error_and_tries_again),
    (keeps_errors, keeps_an_interrupt_to_its_thread),
    (gives_all_the_interrupt, keeps_an_interrupt_to_its_thread),
    (cached, keeps_an_interrupt_to_its_thread),
    (with_a_limit, refuses_a_cycle),
    (cached, refuses_a_cycle),
    (runs_again_inside, refuses_a_cycle),
    (by_truth, shares_an_error_and_tries_again),
    (runs_again_inside, refuses_itself),
    (cached, refuses_itself),
    (keeps_errors, refuses_itself),
]


@pytest.mark.inverts
@pytest.mark.parametrize(("make", "claim"), BROKEN)
def test_broken_versions_are_caught(make: Once, claim: Callable[[Once], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of each claim detects the fault that breaks it."""
    monkeypatch.setattr("locks.actors.LIMIT", 0.2)  # some never reach the event that is awaited
    with pytest.raises((AssertionError, IndexError, RecursionError, DeadlockError, ValueError, LockTimeoutError)):
        claim(make)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_wait_that_is_too_long_names_the_thread_that_runs_it() -> None:
    """The run goes on, and the others get its result."""
    slow = Slow("done")
    gc.collect()  # otherwise locks of other tests that are garbage and still held would fill the report

    @once(timeout=0.01)
    def load() -> Any:
        return slow()

    with Actors() as actors:
        leader = actors.start(load, "loader")
        wait_for(slow.begun)
        with pytest.raises(
            LockTimeoutError, match=r"load', which runs in Thread 'loader' .* which is .* in "
        ) as caught:
            load()
        assert caught.value.timeout == 0.01
        assert caught.value.holder is not None
        assert caught.value.holder.name == "loader"
        assert ("once", caught.value.lock_name) in [(state.kind, state.name) for state in snapshot()]
        assert "once " in report()
        slow.go.set()
        assert leader.result() == "done"
    assert load() == "done"
    assert slow.runs == 1


def test_its_own_run_has_no_limit() -> None:
    """A timeout of 0 is only for the wait."""
    call = once(lambda: "done", timeout=0)
    assert call() == "done"


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_gil", [foreign.SEVERAL_MAY_RAISE, False])
def test_the_traceback_of_a_shared_error_does_not_grow(with_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for any number of threads that raise it; nor do they give it a context of their own."""
    monkeypatch.setattr(foreign, "SEVERAL_MAY_RAISE", with_gil)
    error, original = ValueError("shared"), KeyError("original")
    slow = Slow("raise")

    @once
    def load() -> Any:
        try:
            raise original
        except KeyError:
            slow()
            raise error  # noqa: B904  its context is what this is about

    def call() -> Any:
        try:
            raise LookupError("what this thread is about")
        except LookupError:
            return load()

    outcomes = callers(call, 8, slow)
    assert is_raised_in_all(error, outcomes)
    assert all(depth(each) < 20 for each in outcomes)
    assert all(each.__context__ is original for each in outcomes)


@pytest.mark.usefixtures("small_heap")
def test_nothing_keeps_an_error_alive() -> None:
    """This needs no garbage collector."""

    class OwnError(Exception):
        pass

    @once
    def load() -> Any:
        raise OwnError

    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            try:
                load()
            except OwnError as error:
                known = weakref.ref(error)
            assert known() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("with_gil", [foreign.SEVERAL_MAY_RAISE, False])
def test_exceptions_that_refuse_any_touch_are_shared(with_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their class may refuse attributes, truth and comparison; so may their copies, which Python 3.13t needs."""
    monkeypatch.setattr(foreign, "SEVERAL_MAY_RAISE", with_gil)

    class Refusing(Exception):  # noqa: N818  it is about the refusal
        def __setattr__(self, name: str, value: object) -> None:
            raise AssertionError("touched")

        def __bool__(self) -> bool:
            raise AssertionError("touched")

        def __eq__(self, other: object) -> bool:
            raise AssertionError("touched")

        __hash__ = None  # type: ignore[assignment]

        def with_traceback(self, tb: object) -> Any:
            raise AssertionError("touched")

    error = Refusing()
    slow = Slow(error)
    call = once(lambda: slow())
    assert is_raised_in_all(error, callers(call, 3, slow))


# -- what is decorated -------------------------------------------------------------------------------------------------


@once
def load_table() -> list[int]:
    """Load the table."""
    return [1, 2, 3]


def test_it_keeps_what_functools_wraps_keeps() -> None:
    """It keeps the name, docstring, module, and the function itself, so it can be pickled by its name."""
    assert load_table.__name__ == "load_table"
    assert load_table.__doc__ == "Load the table."
    assert load_table.__module__ == __name__
    assert load_table.__wrapped__() == [1, 2, 3]  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(load_table)) is load_table
    assert load_table() is load_table()


def test_both_forms_of_the_decorator_work() -> None:
    """It works bare, with a timeout, with empty parentheses, and on functions that turn out to take no argument."""

    @once()
    def one() -> int:
        return 1

    @once(timeout=None)
    def two() -> int:
        return 2

    @once
    @functools.wraps(load_table)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return load_table(*args, **kwargs)

    assert (one(), two(), wrapper()) == (1, 2, [1, 2, 3])
    assert once(partial(int, "7"))() == 7
    assert once(partial(dict, a=1))() == {"a": 1}
    assert once(dict)() == {}


def test_static_methods_work() -> None:
    """It works under `staticmethod`; the result is the class's."""

    class Shop:
        @staticmethod
        @once
        def prices() -> dict[str, int]:
            return {"soup": 3}

    assert Shop.prices() is Shop().prices()


class Account:
    """A class with methods."""

    def load(self) -> None:
        """Take an argument, self."""

    @staticmethod
    @functools.wraps(load)
    def wrapped(*args: Any) -> None:
        """Take the same arguments as the wrapped function."""


async def later() -> None:
    """Run only if awaited."""


def with_default(path: str = "table") -> str:
    """Take an optional argument."""
    return path


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (Account.load, r"takes a function without arguments, and 'Account.load' takes self.*cached_property"),
        (lambda path: path, "takes path"),
        (lambda *, path: path, "takes path"),
        (with_default, "'with_default' takes path"),
        (Account.wrapped, "takes self"),
        (partial(lambda a, b: a, 1), "takes b"),
        (later, "coroutine function"),
        (5, "must be callable"),
        (classmethod(lambda cls: cls), "must be callable"),
    ],
)
def test_what_takes_arguments_is_refused_at_once(fn: Any, words: str) -> None:
    """The error says which argument, and what to use instead."""
    with pytest.raises(TypeError, match=words):
        once(fn)
    with pytest.raises(TypeError, match=words):
        once(timeout=1.0)(fn)


def test_a_bad_timeout_is_refused_at_once() -> None:
    """This happens before there is a function."""
    with pytest.raises(ValueError, match="timeout"):
        once(timeout=-1)
    with pytest.raises(TypeError, match="timeout"):
        once(timeout="1")  # type: ignore[call-overload]


# -- interrupts, signals, fork -----------------------------------------------------------------------------------------


class Subject:
    """A function to be run once, and how often it ran to its end."""

    def __init__(self) -> None:
        self.ended = 0
        self.call = once(self.load)

    def load(self) -> str:
        self.ended += 1
        return "done"

    def broken(self) -> str | None:
        if waiting():
            return "still waiting"
        outcome = outcome_of(self.call)
        if outcome != "done":
            return f"the next call gets {outcome!r}"
        return None if self.ended <= 2 else f"it ran {self.ended} times"


class InC(Subject):
    """The function is in C, and has ended when an interrupt comes: its result must not be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.left = ["once more", "done"]
        self.call = once(self.left.pop)


def calling(subject: Subject) -> None:
    subject.call()


@pytest.mark.untraceable
@each_mode
def test_an_interrupt_leaks_nothing(mode: Mode) -> None:
    """The next thread gets a result, and at most one run was interrupted."""
    interrupts(Subject, calling, Subject.broken, mode=mode).check()


class FailingFirst(Subject):
    """The first run fails, and a later call must not get that error."""

    def load(self) -> str:
        self.ended += 1
        if self.ended == 1:
            raise ValueError
        return "done"

    def broken(self) -> str | None:
        old = self.ended
        if isinstance(outcome_of(self.call), ValueError) and old:
            return "a later call gets the old error"
        return super().broken()


def failing(subject: Subject) -> None:
    try:
        subject.call()
    except ValueError:
        pass


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
def test_an_interrupt_leaves_no_error(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the interrupt comes, no later caller gets the error of a run."""
    # Each signal is asked for its handler, which would be most of the points.
    monkeypatch.setattr(signal, "valid_signals", lambda: {signal.SIGINT})
    interrupts(FailingFirst, failing, FailingFirst.broken, mode=mode).check()


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
def test_what_has_returned_is_never_run_again(mode: Mode) -> None:
    """Its result is stored before an interrupt comes."""
    interrupts(InC, calling, InC.broken, mode=mode).check()


class FollowedOnce(Followed, Subject):
    """The run is interrupted while another thread waits for it."""

    def __init__(self, make: Once = once) -> None:
        super().__init__()
        self.call = make(self.load)  # type: ignore[method-assign]  # the test calls this
        self.start_follower()

    def load(self) -> str:
        self.hold_up()
        return super().load()

    def broken(self) -> str | None:
        return self.what_the_follower_lacks() or super().broken()


def followed(mode: Mode, make: Once = once) -> InterruptReport:
    """Interrupt a run that another thread waits for."""
    return interrupted_in_a_wait(partial(FollowedOnce, make), calling, FollowedOnce.broken, mode)


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
def test_those_who_wait_go_on_if_the_run_is_interrupted(mode: Mode) -> None:
    """They get a result, wherever the interrupt comes."""
    followed(mode).check()


class FollowingOnce(Following, Subject):
    """Another thread runs the function, until it is asked to end."""

    def __init__(self) -> None:
        super().__init__()
        self.call = once(self.load)
        self.start_leader(self.call, Slow("done", "done"))

    def load(self) -> str:
        self.ended += 1
        return str(self.slow())


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
def test_an_interrupted_wait_disturbs_nobody(mode: Mode) -> None:
    """The run goes on, and later callers get its result."""
    interrupted_in_a_wait(FollowingOnce, calling, FollowingOnce.broken, mode).check()


def by_hand(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Acquires and releases a lock by hand, as people write it: an interrupt in between leaves it acquired."""
    lock = TimedLock()
    kept: list[Any] = []

    def call() -> Any:
        if not kept:
            if not lock.acquire(timeout=0.01):
                raise TimeoutError
            kept.append(fn())
            lock.release()
        return kept[0]

    return call


@pytest.mark.untraceable
def test_the_sweeps_find_leaks_in_broken_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are the controls."""
    monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", "0.5")  # one of them hangs

    class Bare(Subject):
        def __init__(self) -> None:
            super().__init__()
            self.call = by_hand(self.load)

    class TwiceInC(InC):
        def __init__(self) -> None:
            super().__init__()
            self.call = one_after_the_other(lambda: str(self.left.pop()))

    assert interrupts(Bare, calling, Bare.broken).leaks
    assert interrupts(TwiceInC, calling, TwiceInC.broken).leaks
    assert followed("warm", keeps_errors).leaks


@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system has no pthread_kill")
def test_a_signal_handler_may_call_it_while_the_thread_waits() -> None:
    """The handler's call waits on top of the thread's own, and both get the result."""
    slow = Slow("done")
    got: list[object] = []

    @once
    def load() -> Any:
        return slow()

    def end_when_the_handler_waits() -> None:
        eventually(lambda: waiting() == 2)
        slow.go.set()

    with Actors() as actors, on_signal(lambda: got.append(load())) as send:
        actors.start(load)
        wait_for(slow.begun)
        actors.start(end_when_the_handler_waits)

        def interrupt() -> None:
            eventually(lambda: waiting() == 1)
            send()

        actors.start(interrupt)
        assert load() == "done"
    assert got == ["done"]


def test_an_exception_of_a_signal_handler_is_not_shared() -> None:
    """It is not an error of the function, although it is an `Exception`."""
    slow = Slow("cut off", "done")

    class AlarmError(Exception):
        pass

    def ring() -> None:
        raise AlarmError

    @once
    def load() -> Any:
        return slow()

    def follow() -> Any:
        wait_for(slow.begun)
        return load()

    with Actors() as actors, on_signal(ring) as send:
        follower = actors.start(follow)

        def interrupt() -> None:
            wait_for(slow.begun)
            eventually(lambda: waiting() == 1)
            send()

        actors.start(interrupt)
        with pytest.raises(AlarmError):
            load()
        slow.go.set()
        assert follower.result() == "done"


@pytest.mark.untraceable
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_runs_what_another_thread_ran() -> None:
    """The other thread does not exist there; results are kept, and a run of the forking thread goes on."""
    from locks.test_lock_fork import in_child, in_thread

    slow = Slow("parent's", "child's")
    known = once(lambda: object())
    before = known()

    @once
    def load() -> Any:
        if slow.runs:
            slow.go.set()
        return slow()

    def check() -> None:
        assert known() is before
        in_thread(lambda: load() == "child's")
        assert load() == "child's"

    @once
    def forking() -> str:
        in_child(check_itself)
        return "parent's"

    def check_itself() -> None:
        with pytest.raises(DeadlockError):
            forking()

    with Actors() as actors:
        leader = actors.start(load)
        wait_for(slow.begun)
        in_child(check)
        slow.go.set()
        assert leader.result() == "parent's"
    assert load() == "parent's"
    assert forking() == "parent's"


def test_recordings_show_who_waited() -> None:
    """A run is a hold, and the waits of the others are waits."""
    slow = Slow("done")

    @once
    def load() -> Any:
        return slow()

    with record() as recording:
        callers(load, 3, slow)
    names = {span.name for span in recording.spans}
    assert any("load" in name for name in names)


@pytest.mark.usefixtures("restless")
def test_many_threads_run_many_functions_once() -> None:
    """Under stress, with some failures at first, each runs to a result exactly once."""
    runs = [0] * 50
    fails = [number % 3 == 0 for number in range(50)]

    def make(number: int) -> Callable[[], int]:
        def load() -> int:
            if fails[number]:
                fails[number] = False
                raise ValueError(number)
            runs[number] += 1
            return number

        return once(load)

    calls = [make(number) for number in range(50)]
    start = threading.Barrier(6)

    def work() -> None:
        start.wait(LIMIT)
        for number, call in enumerate(calls):
            while isinstance(outcome := outcome_of(call), ValueError):
                pass
            assert outcome == number

    with Actors() as actors:
        for _ in range(6):
            actors.start(work)
    assert runs == [1] * 50
