"""`Contract`: clauses by name, and the engine that tries all of them and reports the broken ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Generic, TypeVar

from ..._core.clock import monotonic
from ..threads import Running, patience
from .trial import BrokenError, NotHereError, standing, told
from .verdict import BrokenClause, ClauseNotRun, ConformanceError, ConformanceReport

# Every clause runs in its own thread, except those that need the main thread for its signals. A clause that is not over
# after a moment goes on beside the next ones, and is judged at the very end, when its time is up. So an object that
# hangs in every clause costs a moment for each, and a slow machine is not mistaken for a broken object.

_MOMENT = 0.2  # seconds after which the next clause begins, unless a contract sets another time
_TIME = 9.0  # seconds that a clause gets; its own waits are shorter

F = TypeVar("F")
Body = Callable[[F], object]


class Clause(Generic[F]):
    """One sentence of a contract, and a function that tests whether it is true."""

    __slots__ = ("body", "done", "main_thread", "moment", "name")

    def __init__(self, name: str, done: str, body: Body[F], moment: float, main_thread: bool) -> None:
        self.name: str = name
        self.done: str = done
        self.body: Body[F] = body
        self.moment: float = moment
        self.main_thread: bool = main_thread


class Contract(Generic[F]):
    """The clauses of one kind of primitive.

    A clause is a function that gets the factory, makes the objects that it needs, and raises if it finds a fault.

    Args:
        moment: Seconds after which a clause that is not over goes on beside the next ones.
    """

    def __init__(self, moment: float = _MOMENT) -> None:
        self._moment = moment
        self.clauses: list[Clause[F]] = []

    def clause(self, name: str, done: str, *, main_thread: bool = False) -> Callable[[Body[F]], Body[F]]:
        """Return a decorator that adds a clause.

        Args:
            name: The clause as a sentence that should be true.
            done: What the function does to test it.
            main_thread: Whether it delivers signals, and so has to run in the main thread.
        """

        def add(body: Body[F]) -> Body[F]:
            self.clauses.append(Clause(name, done, body, self._moment, main_thread))
            return body

        return add


class Call(Generic[F]):
    """The plainest call of a factory. It has to succeed before any clause is tried.

    Args:
        make: Makes an object by this call, and ends it again if necessary.
        written: The call, as messages show it.
        example: The call to use for a class that takes other arguments.
    """

    __slots__ = ("example", "make", "written")

    def __init__(self, make: Callable[[F], object], written: str, example: str) -> None:
        self.make: Callable[[F], object] = make
        self.written: str = written
        self.example: str = example


def check(
    name: str,
    factory: F,
    contracts: Iterable[Contract[F]],
    without: Collection[str],
    plainest: Call[F] | None = None,
) -> ConformanceReport:
    """Try every clause of the contracts on the factory, except those left out; return or raise the report.

    If not even the plainest call of the factory makes an object, only that is reported.
    """
    if not callable(factory):
        raise TypeError(f"{name} needs a factory, a function that makes the objects to check, not {factory!r}")
    if isinstance(without, str):
        raise TypeError(f"without must be a collection of clauses, not one string: write without=({without!r},)")
    clauses = [clause for contract in contracts for clause in contract.clauses]
    known = [clause.name for clause in clauses]
    if unknown := [one for one in without if one not in known]:
        raise ValueError(
            f"{name} has no clause {', '.join(map(repr, unknown))}; its clauses are:\n  " + "\n  ".join(known)
        )
    subject = getattr(factory, "__qualname__", None) or repr(factory)
    if plainest is not None:
        _check_factory(name, subject, factory, plainest, [one for one in known if one not in without], without)
    trials = [Trial(clause, factory) for clause in clauses if clause.name not in without]
    for trial in trials:
        trial.begin()
    report = ConformanceReport(
        name,
        subject,
        tuple(trial.clause.name for trial in trials if trial.verdict() is None),
        tuple(one for one in known if one in without),
        tuple(verdict for trial in trials if isinstance(verdict := trial.verdict(), ClauseNotRun)),
        tuple(verdict for trial in trials if isinstance(verdict := trial.verdict(), BrokenClause)),
    )
    if report.broken:
        raise ConformanceError(str(report), report=report)
    return report


def _check_factory(
    name: str, subject: str, factory: F, call: Call[F], tried: list[str], without: Collection[str]
) -> None:
    what = f"the factory makes an object by {call.written}"
    clause = Clause[F](what, f"called {call.written}", call.make, _TIME, False)
    trial = Trial(clause, factory)
    trial.begin()
    verdict = trial.verdict()
    if not isinstance(verdict, BrokenClause):
        return
    advice = f"{verdict.happened}. If its class takes other arguments, give a function that knows them: {call.example}"
    report = ConformanceReport(
        name,
        subject,
        (),
        tuple(without),
        tuple(ClauseNotRun(one, "there is nothing to try it on") for one in tried),
        (BrokenClause(verdict.clause, verdict.done, advice),),
    )
    raise ConformanceError(f"{name}: {subject} made nothing by {call.written}: {advice}", report=report)


class Trial(Generic[F]):
    """One clause tried on one factory."""

    def __init__(self, clause: Clause[F], factory: F) -> None:
        self.clause = clause
        self._body = partial(clause.body, factory)
        self._started = 0.0
        self._running: Running[object] | None = None
        self._judged = False
        self._verdict: BrokenClause | ClauseNotRun | None = None

    def begin(self) -> None:
        """Try the clause; return when it is over, or goes on beside the next ones."""
        self._started = monotonic()
        if not self.clause.main_thread:
            self._running = Running(self._body, f"clause: {self.clause.name}")
            self._running.thread.join(patience(self.clause.moment))
        elif threading.current_thread() is not threading.main_thread():
            self._judge(NotHereError("it delivers signals, which Python does in the main thread only: check there"))
        else:
            try:
                self._body()
            except Exception as error:  # noqa: BLE001  whatever comes is a verdict
                self._judge(error)
            else:
                self._judge(None)

    def verdict(self) -> BrokenClause | ClauseNotRun | None:
        """Return the problem, or None if the clause holds. Wait until the clause is over or its time is up."""
        if not self._judged:
            running = self._running
            assert running is not None
            running.thread.join(max(0.0, self._started + patience(_TIME) - monotonic()))
            if running.done():
                self._judge(running.exception(0))
            else:
                hung = f"it was not over within {patience(_TIME):g} s; {standing(running.thread)}"
                self._judge(BrokenError(hung))
        return self._verdict

    def _judge(self, error: BaseException | None) -> None:
        self._judged = True
        if isinstance(error, NotHereError):
            self._verdict = ClauseNotRun(self.clause.name, str(error))
        elif error is not None:
            happened = str(error) if isinstance(error, BrokenError) else f"it raised {told(error)}"
            self._verdict = BrokenClause(self.clause.name, self.clause.done, happened)
