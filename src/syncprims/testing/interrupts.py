"""`interrupts`: deliver a real interrupt at every point where CPython can deliver one, and check what it breaks."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Generic, Literal, Self, TypeAlias, TypeVar

from ..facts import Frozen
from ._delivery import FreshCode, Hung, MainThread, RunWatcher, WorkerThread, canary_in, comes_from, quiet
from .threads import patience

__all__ = ["MODES", "InterruptLeakError", "InterruptReport", "Leak", "Mode", "interrupts"]

T = TypeVar("T")

Mode: TypeAlias = Literal["warm", "cold", "storm", "cold storm", "worker"]
MODES: Final[tuple[Mode, ...]] = ("warm", "cold", "storm", "cold storm", "worker")

# The modes whose code never ran before, and those in which every later point raises too.
_COLD: Final[tuple[Mode, ...]] = ("cold", "cold storm", "worker")
_STORM: Final[tuple[Mode, ...]] = ("storm", "cold storm")

_WARM_UP: Final = 16  # runs after which CPython has specialised the code
_MOST_POINTS: Final = 20_000


class Leak(Frozen):
    """One interruption point that leaves something broken.

    Attributes:
        point: Its number within the sweep, from 1.
        where: Where the interrupt was delivered, as ``file:line in function``. In mode ``"worker"``, where it was
            set: it comes at the next delivery point.
        problem: What ``broken`` said.

    Example:
        >>> from syncprims.testing import Leak
        >>> Leak(2, "lock.py:9 in __exit__", "still locked").point
        2
    """

    __slots__ = ("point", "where", "problem")  # noqa: RUF023  the order of the arguments

    point: int
    where: str
    problem: str

    def __init__(self, point: int, where: str, problem: str) -> None:
        self._set(point, where, problem)


class InterruptLeakError(AssertionError):
    """An interrupt at some point leaves something broken, or a sweep reached no point at all.

    Attributes:
        report: The `InterruptReport`.
    """

    def __init__(self, message: str = "", *, report: InterruptReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class InterruptReport(Frozen):
    """The result of a sweep.

    Attributes:
        mode: The sweep's mode.
        points: How many points got an interrupt, one in each run. In mode ``"worker"`` the points are opcodes, and
            several opcodes lead to one delivery.
        leaks: The points that left something broken.

    Example:
        >>> from syncprims.testing import InterruptReport
        >>> InterruptReport("warm", 12, ()).check().points
        12
    """

    __slots__ = ("mode", "points", "leaks")  # noqa: RUF023  the order of the arguments

    mode: Mode
    points: int
    leaks: tuple[Leak, ...]

    def __init__(self, mode: Mode, points: int, leaks: tuple[Leak, ...]) -> None:
        self._set(mode, points, leaks)

    def __str__(self) -> str:
        lines = [f"{self.mode}: {len(self.leaks)} of {self.points} interruption points leave something broken"]
        lines += [f"  point {leak.point}, {leak.where}: {leak.problem}" for leak in self.leaks]
        return "\n".join(lines)

    def check(self) -> Self:
        """Return the report if nothing broke.

        Raises:
            InterruptLeakError: An interrupt left something broken; the message lists the points. Or the sweep reached
                no point, so it proves nothing.
        """
        if not self.points:
            raise InterruptLeakError(f"{self.mode}: the scenario reached no interruption point", report=self)
        if self.leaks:
            raise InterruptLeakError(str(self), report=self)
        return self


def interrupts(
    make: Callable[[], T],
    scenario: Callable[[T], object],
    broken: Callable[[T], str | None],
    *,
    mode: Mode = "warm",
    when_blocked: Callable[[T], bool] | None = None,
    unblock: Callable[[T], object] | None = None,
    timeout: float | None = None,
) -> InterruptReport:
    """Run the scenario again and again, each time with an interrupt at its next delivery point.

    CPython delivers signals and asynchronous exceptions on entry to a Python function, after the call of a C
    function, at a loop's backward jump, and in waits. The sweep delivers a real SIGINT (the signal of Ctrl-C) at the
    first such point of the scenario. In the next run it delivers one at the second point, and so on, until a run ends
    before it reaches the chosen point. The scenario may handle the interrupt or let it propagate.

    The modes:

    - ``"warm"``: one interrupt for each run, in code that CPython has specialised.
    - ``"cold"``: the same in code that has never run: every Python function that the scenario calls gets a fresh
      ``__code__``, and its own one back at the end. (To find them, the sweep undoes ``gc.freeze()``.)
    - ``"storm"``: from the chosen point on, every later point raises too. A run has at most 1000 interrupts, so that a
      scenario that retries without end does end.
    - ``"cold storm"``: a storm in code that has never run. This mode finds the most leaks, because interrupts also
      reach the exception handlers, at points where specialised code does not check for them.
    - ``"worker"``: the scenario runs in a new thread and gets its KeyboardInterrupt from
      ``PyThreadState_SetAsyncExc``. It is set before each opcode in turn and delivered at the next delivery point.
      Tracing finds the opcode and is off when the exception comes, so the exception comes only where CPython delivers
      one, in code that is not specialised. Such an exception does not end a wait in C. (On 3.15 an opcode that was just
      traced checks once more than without tracing, so a bare ``with threading.Lock()`` shows one leak that comes from
      the tracing.)

    With ``when_blocked`` and ``unblock``, the scenario has to block at some point. Another thread calls
    ``when_blocked(subject)`` every millisecond, until it has returned true five times in a row while the scenario
    passed no delivery point. Then a signal wakes the wait, which is one more interruption point, and
    ``unblock(subject)`` lets it end. So the sweep has the points before the wait, in it, and after it. In the modes
    ``"warm"`` and ``"cold"`` a second sweep follows: one interrupt in the wait, and another one at each later point.
    (In a storm every point after an interrupted wait raises anyway.) ``unblock`` is called exactly once for each
    subject, at the latest when the scenario has ended and before ``broken`` is called.

    ``broken`` is called when the exception of the run is gone, together with the frames and generators that it kept
    alive. Freeing those may run code, such as a ``finally``, which acquires or releases something. (An exception that
    is part of a reference cycle is collected first. An exception that the subject keeps stays.)

    Tracing, profiling, `sys.monitoring` and garbage collection are off while ``make`` and the scenario run, because
    their callbacks would be interruption points too. So coverage sees nothing of them.

    Args:
        make: Makes a new subject for each run, in the main thread.
        scenario: A Python function that uses the subject. It ends when it is not interrupted, and does the same each
            time.
        broken: Returns what is wrong with the subject after a run, or None (or ``""``) if nothing is wrong.
        mode: One of `MODES`.
        when_blocked: Returns whether the scenario is blocked. It should read state and not change it.
        unblock: Ends the wait. It runs in another thread, or in the main thread after the scenario.
        timeout: Seconds that one run may take. The default is `patience`. A run that takes longer is ended, counts as a
            leak called "hung", and ends the sweep.

    Returns:
        The report; ``interrupts(...).check()`` fails with the list of leaks.

    Raises:
        RuntimeError: The calling thread is not the main thread, and Python delivers signals only there. Or the scenario
            has too many points to sweep, or this Python has no `ctypes`, which ``"worker"`` needs.
        ValueError: The mode does not exist.
        TypeError: Only one of ``when_blocked`` and ``unblock`` is given.
        NotImplementedError: A wait should be interrupted, and the system has no `signal.pthread_kill`.
        BaseException: An exception that the scenario, ``make``, ``broken`` or the other two functions raised
            themselves, and not because of an interrupt.

    The sweep replaces the handler of SIGINT and restores it at the end. A Ctrl-C between two runs goes to the old one.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.testing import interrupts
        >>> def scenario(lock):
        ...     with lock:
        ...         len("work")
        ...
        >>> def broken(lock):
        ...     return "still locked" if lock.locked() else None
        ...
        >>> interrupts(TimedLock, scenario, broken, mode="storm").check().leaks
        ()
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if (when_blocked is None) != (unblock is None):
        raise TypeError("when_blocked and unblock must be given together: a scenario that blocks has to be let go")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "interrupts() must be called in the main thread, as Python delivers signals only there; "
            f"this is thread {threading.current_thread().name!r}"
        )
    if when_blocked is not None and mode != "worker" and not hasattr(signal, "pthread_kill"):
        raise NotImplementedError('a wait can be interrupted only where there is signal.pthread_kill; "worker" works')
    seconds = patience() if timeout is None else timeout
    sweep = _Sweep(make, scenario, broken, mode, when_blocked, unblock, seconds)
    return sweep.in_worker() if mode == "worker" else sweep.in_main()


class _Sweep(Generic[T]):
    """One call of `interrupts`."""

    def __init__(
        self,
        make: Callable[[], T],
        scenario: Callable[[T], object],
        broken: Callable[[T], str | None],
        mode: Mode,
        when_blocked: Callable[[T], bool] | None,
        unblock: Callable[[T], object] | None,
        timeout: float,
    ) -> None:
        self._make, self._scenario, self._broken, self._mode = make, scenario, broken, mode
        self._when_blocked, self._unblock, self._timeout = when_blocked, unblock, timeout
        self._fresh = FreshCode()
        self._points = 0
        self._leaks: list[Leak] = []

    def in_main(self) -> InterruptReport:
        with MainThread(self._scenario, storm=self._mode in _STORM) as engine:
            return self._sweep(engine)

    def in_worker(self) -> InterruptReport:
        return self._sweep(WorkerThread(self._scenario, self._timeout))

    def _sweep(self, engine: MainThread[T] | WorkerThread[T]) -> InterruptReport:
        twice = self._when_blocked is not None and self._mode in ("warm", "cold")
        try:
            for _ in range(1 if self._mode in _COLD else _WARM_UP):
                self._one(engine, 0)
            # A run says whether another one makes sense; the chosen points are numbered from 1 in both sweeps.
            for after_wait in (False, True) if twice else (False,):
                chosen = 1
                while self._one(engine, chosen, after_wait):
                    chosen += 1
        except _EndOfSweepError:
            pass
        finally:
            self._fresh.restore()
        return InterruptReport(self._mode, self._points, tuple(self._leaks))

    def _one(self, engine: MainThread[T] | WorkerThread[T], chosen: int, after_wait: bool = False) -> bool:
        """Make one run, and return whether its chosen point was reached."""
        unspecialised = self._mode in _COLD
        if unspecialised:
            self._fresh.refresh()
        trace = sys.gettrace()
        # Here and not in `quiet`: a tracer that counts calls and returns must miss both events of a pair or neither.
        sys.settrace(None)
        try:
            with quiet():  # pragma: no cover  as tracing is off
                subject = self._make()
                let_go = _Once(self._unblock, subject)
                watcher = self._watcher(engine, subject, let_go)
                try:
                    outcome = engine.run(subject, chosen, watcher, after_wait=after_wait)
                finally:
                    let_go()
        finally:
            sys.settrace(trace)
        if unspecialised:  # in the other modes nothing is refreshed, and the search visits the whole heap
            self._fresh.learn(engine.codes)
        if outcome is not None and not comes_from(outcome, (KeyboardInterrupt, Hung) if chosen else (Hung,)):
            outcome.add_note(f"in a run with an interrupt at {engine.where or 'no point'} ({self._mode})")
            raise outcome
        if outcome is not None:
            alive = canary_in(outcome)
            outcome = None
            if alive() is not None:  # a reference cycle, or the subject, keeps it
                gc.collect(0)
        if engine.delivered:
            self._points += 1
        where = engine.where if engine.delivered or engine.hung else "no interrupt"
        if after_wait:
            where += ", after an interrupt in the wait"
        if engine.hung:
            self._leaks.append(Leak(self._points, where, f"hung: not at its end after {self._timeout:g} s"))
            raise _EndOfSweepError
        if problem := self._broken(subject):
            self._leaks.append(Leak(self._points, where, problem))
            if not chosen:
                raise _EndOfSweepError  # the remaining points would have the same result
        if not chosen and watcher.steps:
            raise ValueError("the scenario ended and never blocked: when_blocked(subject) did not stay true for 5 ms")
        if self._points > _MOST_POINTS:
            raise RuntimeError(f"the scenario has more than {_MOST_POINTS} interruption points: make it shorter")
        return engine.delivered

    def _watcher(self, engine: MainThread[T] | WorkerThread[T], subject: T, let_go: _Once[T]) -> RunWatcher:
        steps: tuple[Callable[[], object], ...] = ()
        blocked: Callable[[], bool] = bool
        if self._when_blocked is not None:
            blocked = partial(self._when_blocked, subject)
            steps = (let_go,) if isinstance(engine, WorkerThread) else (engine.kick, let_go)
        return RunWatcher(blocked, steps, lambda: engine.count, engine.hang, self._timeout)


class _EndOfSweepError(Exception):
    """No further run makes sense."""


class _Once(Generic[T]):
    """Calls a function with the subject, the first time only."""

    def __init__(self, function: Callable[[T], object] | None, subject: T) -> None:
        self._function, self._subject = function, subject

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function(self._subject)
