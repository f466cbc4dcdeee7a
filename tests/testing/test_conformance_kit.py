"""The engine under the checks: it reports every clause, never hangs, and leaves out clauses on request."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from time import monotonic

import pytest

from syncprims import (
    AtomicCounter,
    CallbackPool,
    OrderedRunner,
    TimedLock,
    TimedRLock,
    TimedRWLock,
    TimedSemaphore,
)
from syncprims.testing import (
    BrokenClause,
    ClauseNotRun,
    ConformanceError,
    ConformanceReport,
    Threads,
    check_counter,
    check_lock,
    check_pool,
    check_rlock,
    check_runner,
    check_rwlock,
    check_semaphore,
)
from syncprims.testing.conformance.contract import Contract, check
from syncprims.testing.conformance.trial import NotHereError, expect, in_child, raises

STRANGER = "release() by a thread that does not hold it raises RuntimeError"

small = Contract[type]()


@small.clause("the number is one", "made an object and looked at its number")
def _one(make: type) -> None:
    expect("number", make().number, 1)


@small.clause("the object can wait", "called wait()")
def _wait(make: type) -> None:
    make().wait()


@small.clause("signals are harmless", "sent one", main_thread=True)
def _main(make: type) -> None:
    make().signal()


@small.clause("the object is here", "looked")
def _here(make: type) -> None:
    make().look()


class Good:
    """Keeps all four clauses."""

    number = 1

    def wait(self) -> None:
        pass

    def signal(self) -> None:
        pass

    def look(self) -> None:
        pass


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", "0.1")


def test_good_object_gets_a_frozen_report() -> None:
    """An object that keeps all clauses is reported clause by clause, in an immutable record."""
    report = check("check_it", Good, (small,), ())
    names = ("the number is one", "the object can wait", "signals are harmless", "the object is here")
    assert report == ConformanceReport("check_it", "Good", names, (), (), ())
    with pytest.raises(AttributeError):
        report.kept = ()
    assert str(report) == "check_it: Good keeps 4 of 4 clauses"


def test_all_broken_clauses_are_reported_together() -> None:
    """Each broken clause is named, with the action and the outcome, and the last line names them all."""

    class Bad(Good):
        number = 2

        def look(self) -> None:
            raise LookupError("nowhere")

    with pytest.raises(ConformanceError) as caught:
        check("check_it", Bad, (small,), ())
    report = caught.value.report
    assert report is not None
    assert report.kept == ("the object can wait", "signals are harmless")
    first, second = report.broken
    assert first == BrokenClause("the number is one", "made an object and looked at its number", "number gave 2, not 1")
    assert second.happened.startswith("it raised LookupError: nowhere at test_conformance_kit.py:")
    lines = str(caught.value).splitlines()
    assert lines[:3] == [
        "broken: the number is one",
        "  done: made an object and looked at its number",
        "  happened: number gave 2, not 1",
    ]
    assert lines[-1].endswith("Bad breaks 2 of 4 clauses: the number is one; the object is here")


@pytest.mark.usefixtures("hurry")
def test_hanging_clause_is_broken_and_others_still_run() -> None:
    """An object that hangs breaks the clause, with the place where it hangs; the later clauses run nevertheless."""
    go = threading.Event()

    class Hangs(Good):
        def wait(self) -> None:
            go.wait(20.0)

    started = monotonic()
    try:
        with pytest.raises(ConformanceError) as caught:
            check("check_it", Hangs, (small,), ())
    finally:
        go.set()
    assert monotonic() - started < 10.0
    report = caught.value.report
    assert report is not None
    assert report.kept == ("the number is one", "signals are harmless", "the object is here")
    (broken,) = report.broken
    assert broken.clause == "the object can wait"
    assert broken.happened.startswith("it was not over within 0.9 s; it is at test_conformance_kit.py:")
    assert broken.happened.endswith("in wait")


def test_clause_left_out_is_listed_as_not_kept() -> None:
    """A clause that is left out is not tried, and the report says that it is not kept."""

    class Bad(Good):
        number = 2

    report = check("check_it", Bad, (small,), ["the number is one"])
    assert report.not_kept == ("the number is one",)
    assert "the number is one" not in report.kept
    assert str(report).splitlines()[0] == "not kept, as said: the number is one"


def test_unknown_clause_is_refused_with_a_list() -> None:
    """An unknown clause can't be left out; the error lists the existing ones."""
    with pytest.raises(ValueError, match=r"no clause 'the number is two'[^$]*\n  the number is one\n"):
        check("check_it", Good, (small,), ["the number is two"])


def test_wrong_arguments_are_refused() -> None:
    """A factory that can't be called is a TypeError, and so is one string for the clauses to leave out."""
    with pytest.raises(TypeError, match="check_lock needs a factory"):
        check_lock(TimedLock())  # type: ignore[arg-type]  # this is the fault
    with pytest.raises(TypeError, match="one string"):
        check_lock(TimedLock, without=STRANGER)


def test_signals_are_left_to_the_main_thread() -> None:
    """In another thread the clauses that deliver signals do not run, and the report says why."""
    with Threads() as threads:
        report = threads.start(check, "check_it", Good, (small,), ()).result()
    (not_run,) = report.not_run
    assert not_run.clause == "signals are harmless"
    assert "main thread" in not_run.reason
    assert "not run: signals are harmless" in str(report)


def test_clause_that_is_not_for_this_system_is_not_run() -> None:
    """A clause that can't be tried here is listed with the reason, and breaks nothing."""

    class Elsewhere(Good):
        def look(self) -> None:
            raise NotHereError("there is no look on this system")

    report = check("check_it", Elsewhere, (small,), ())
    assert report.not_run == (ClauseNotRun("the object is here", "there is no look on this system"),)


def test_failing_clause_in_the_main_thread_is_reported() -> None:
    """A clause that runs in the main thread fails like any other."""

    class Bad(Good):
        def signal(self) -> None:
            raise OSError("no signal")

    with pytest.raises(ConformanceError, match="signals are harmless"):
        check("check_it", Bad, (small,), ())


def test_errors_and_reports_survive_pickling() -> None:
    """A report and an error can be sent to another process, as test runners do."""
    report = ConformanceReport("check_it", "Bad", (), (), (), (BrokenClause("a", "b", "c"),))
    error = pickle.loads(pickle.dumps(ConformanceError(str(report), report=report)))
    assert isinstance(error, ConformanceError)
    assert error.report == report
    assert str(error) == str(report)


def test_expectation_tells_what_came_instead() -> None:
    """If an expected exception does not come, the report says what came in its place."""

    def wrong() -> None:
        raise LookupError("nowhere")

    with pytest.raises(Exception, match=r"it raised LookupError: nowhere at .* and no ValueError"):
        raises(ValueError, "it", wrong)
    with pytest.raises(Exception, match=r"it gave 1 and raised no ValueError"):
        raises(ValueError, "it", lambda: 1)


def test_forked_child_tells_what_it_found() -> None:
    """A fault in a forked child breaks the clause in the parent; a child without a fault does not."""

    def fail() -> None:
        expect("the child", "broken", "kept")

    in_child(lambda: None)
    with pytest.raises(Exception, match="in the forked child, the child gave 'broken', not 'kept'"):
        in_child(fail)


@pytest.mark.usefixtures("hurry")
def test_forked_child_that_hangs_is_ended() -> None:
    """A forked child that hangs is killed and breaks the clause."""
    with pytest.raises(Exception, match="the forked child hung"):
        in_child(lambda: threading.Event().wait(30.0))


class Ward(TimedLock):
    """A lock that can't be made without an argument of its own."""

    def __init__(self, place: str) -> None:
        super().__init__(name=place)


class Relay(OrderedRunner):
    """A runner with another first argument."""

    def __init__(self, team: int, steps: list[str]) -> None:
        super().__init__(*steps, name=str(team))


class Stock(AtomicCounter):
    """A counter that wants two arguments."""

    def __init__(self, item: str, value: int) -> None:
        super().__init__(value, name=item)


class Cloakroom(TimedSemaphore):
    """A semaphore that wants two arguments."""

    def __init__(self, place: str, hooks: int) -> None:
        super().__init__(hooks, name=place)


class Team(CallbackPool):
    """A pool with a name first and no options."""

    def __init__(self, colour: str) -> None:
        super().__init__(name=colour)


@pytest.mark.parametrize(
    ("check_it", "cls", "call"),
    [
        (check_lock, Ward, "factory()"),
        (check_rlock, Ward, "factory()"),
        (check_runner, Relay, "factory('a', 'b', rounds=1)"),
        (check_counter, Stock, "factory(0)"),
        (check_pool, Team, "factory(max_workers=2)"),
        (check_semaphore, Cloakroom, "factory(2)"),
    ],
)
def test_a_factory_that_makes_nothing_is_all_that_is_reported(
    check_it: Callable[..., ConformanceReport], cls: type, call: str
) -> None:
    """One cause is one broken clause; the message says what to write, and no other clause is tried."""
    with pytest.raises(ConformanceError) as caught:
        check_it(cls)
    report = caught.value.report
    assert report is not None
    (broken,) = report.broken
    assert broken.clause == f"the factory makes an object by {call}"
    assert "TypeError" in broken.happened
    assert report.kept == ()
    assert len(report.not_run) >= 26
    message = str(caught.value)
    assert message.startswith(f"{check_it.__name__}: {cls.__name__} made nothing by {call}: it raised TypeError")
    assert f"give a function that knows them: {check_it.__name__.replace('rlock', 'lock')}(lambda" in message
    assert "\n" not in message


def test_a_factory_that_knows_the_arguments_is_checked_as_any() -> None:
    """The advice of the message works."""
    assert check_lock(lambda: Ward("north")).broken == ()


@pytest.mark.usefixtures("hurry")
def test_a_factory_that_hangs_is_reported_too() -> None:
    """It gets the time of a clause, and the report says where it hangs."""

    def hang() -> TimedLock:
        threading.Event().wait(60)
        return TimedLock()

    with pytest.raises(ConformanceError, match=r"made nothing by factory\(\): it was not over within"):
        check_lock(hang)


@pytest.mark.parametrize(
    ("check_it", "cls", "clauses"),
    [
        (check_lock, TimedLock, 42),
        (check_rlock, TimedRLock, 43),
        (check_runner, OrderedRunner, 32),
        (check_counter, AtomicCounter, 32),
        (check_pool, CallbackPool, 34),
        (check_rwlock, TimedRWLock, 27),
        (check_semaphore, TimedSemaphore, 26),
    ],
)
def test_library_keeps_its_own_contract(check_it: object, cls: type, clauses: int) -> None:
    """Every primitive keeps every clause of its contract, and every clause is tried in the main thread."""
    assert callable(check_it)
    report = check_it(cls)
    assert report.subject == cls.__qualname__
    assert (report.not_kept, report.not_run) == ((), ())
    assert len(report.kept) >= clauses
    assert len(set(report.kept)) == len(report.kept), "two clauses have the same name"
