"""`OrderedRunner`: threads that do their steps in a predefined order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from operator import attrgetter
from threading import get_ident
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVar
from weakref import ref

from .._core.deadline import Deadline, check_timeout
from .._core.foreign import words
from .._core.integers import integer, shown
from .._core.lazy import check_runs
from .._core.observing import Observable
from .._core.registry import InnerName, check_name, default_name, new_serial, register
from .._core.state import State
from .._core.waits import count_waits
from .._locks.timed_lock import TimedLock
from .places import Places
from .run import run_in_executor, run_in_threads, serve
from .sequence import ABORTED, FORKED, RESET, STOPPED, Sequence, SequenceState, come_through_fork
from .steps import StepContext, nested
from .turn import Turn

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from types import EllipsisType

__all__ = ["OrderedRunner", "StepContext", "Turn"]

_sequence_of = attrgetter("_sequence")


def _sequence_of_any(runner: ref[OrderedRunner]) -> Sequence | None:
    found = runner()
    return None if found is None else found._sequence


R = TypeVar("R")


class OrderedRunner:
    """Threads do their steps in a predefined order: each, when done, lets the next go, the last one the first again.

    It is a relay race: who has the baton runs, then hands it to the next; everyone else stands and waits. Use it where
    several threads have to alternate, where a pipeline must not overtake itself, or where a test needs its threads to
    meet in one certain order. A step that fails drops the baton, and everyone who waits for it is told so.

    Steps may repeat in the order: ``OrderedRunner("zero", "odd", "zero", "even")``.

    Args:
        *steps: The names of the steps in their order, at least one.
        rounds: How often to go through the order, 1 by default; None repeats it for ever.
        timeout: How long a thread waits for its turn, `wait` for the end and `run` for everything, in seconds, unless
            told otherwise there. None, the default, waits for ever, and 0 not at all.
        name: What messages call it; by default its kind and a serial number.

    Raises:
        ValueError: There are no steps, `rounds` is less than 1, or the timeout is negative or NaN.
        TypeError: A step or the name is not a string, or `rounds` not an integer.

    Example:
        >>> from syncprims import OrderedRunner
        >>> runner = OrderedRunner("tick", "tock", rounds=2, timeout=5.0)
        >>> runner.run({"tick": lambda turn: f"tick {turn.round}", "tock": lambda turn: f"tock {turn.round}"})
        ['tick 0', 'tock 0', 'tick 1', 'tock 1']

        In threads that exist already, each enters its step:

        >>> from threading import Thread
        >>> runner = OrderedRunner("first", "second", timeout=5.0)
        >>> def second() -> None:
        ...     with runner.step("second"):
        ...         print("second")
        >>> thread = Thread(target=second)
        >>> thread.start()
        >>> with runner.step("first"):
        ...     print("first")
        first
        >>> thread.join(5.0)
        second

    **Fairness.** The order of the steps is kept always, and one thread wakes at each hand-off. Which of several
    threads that wait for the same step gets its next turn is the system's choice.

    **Thread safety.** All methods may be called from any thread. Of all threads, one at most is in a step. An interrupt
    (Ctrl-C, or any asynchronous exception) that hits a waiting thread leaves its turn untaken; one that hits a step, or
    the way out of it, breaks the sequence, so that no thread waits for what will not come. If every thread that came
    for a step has ended when the step is due, another one may still come, so the waits go on; after five seconds a
    warning to the logger ``syncprims`` names those threads, and so do timeouts and reports. `run` knows its threads and
    fails.

    **Differences from threading.** Nearest is `threading.Barrier`, whose words it takes over: a runner is broken by a
    step that raises or by `abort`, and `reset` makes it new. Where a Barrier lets everyone go at once, this lets one
    go at a time. A thread that would wait for itself, or close a circle of threads that wait for each other's steps
    and locks, gets a `DeadlockError`.

    **Subclassing.** Override `_next` for another order and `_on_error` to go on after a failure. Both are called in the
    thread whose turn it is, with no lock of the library held and before the next thread may go, so they should be
    short. Public methods may be overridden too, but they don't call each other: `serve` and `run` don't reach an
    overridden `step`, and nothing reaches an overridden `abort`, `stop`, `reset` or `wait`.
    """

    def __init__(
        self, *steps: str, rounds: int | None = 1, timeout: float | None = None, name: str | None = None
    ) -> None:
        if not steps:
            raise ValueError("an OrderedRunner needs at least one step")
        for step in steps:
            if not isinstance(step, str):
                raise TypeError(f"each step's name is an argument of its own and a string, not {words(step)}")
        name = check_name(name)
        rounds = None if rounds is None else integer(rounds, "rounds")
        if rounds is not None and rounds < 1:
            raise ValueError(f"rounds must be at least 1, or None to repeat forever, not {shown(rounds)}")
        steps = tuple(map(str.__str__, steps))  # exact ones, past the methods of subclasses
        self._steps = steps
        self._turns = None if rounds is None else rounds * len(steps)
        self._timeout = check_timeout(timeout)
        # Guards the replacing of _sequence: of two threads that reset at once, none may leave waiters behind.
        self._resetting = TimedLock(name=InnerName("resetting"))
        self._places = Places(partial(_sequence_of_any, ref(self)))
        serial = new_serial()
        self._name = default_name(self, serial) if name is None else name
        self._sequence = Sequence(self._name, steps, self._places)
        register(self, serial)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What messages call the runner."""
        return self._name

    @property
    def steps(self) -> tuple[str, ...]:
        """The order of one round."""
        return self._steps

    @property
    def timeout(self) -> float | None:
        """How long waits last that are not told otherwise, in seconds; None is for ever."""
        return self._timeout

    @property
    def state(self) -> SequenceState:
        """Return ``"open"``, ``"finished"`` or ``"broken"``, as it is at this moment."""
        return self._usable().state

    @property
    def current(self) -> str | None:
        """The step whose turn it is, or None: after the end, and where an overridden `_next` was not asked yet."""
        sequence = self._usable()
        if sequence.turn is None and not sequence.ends and type(self)._next is OrderedRunner._next:
            return self._steps[0]
        return sequence.current

    @property
    def rounds_completed(self) -> int:
        """How many full rounds are done; a round has as many turns as the order has steps."""
        return self._usable().completed // len(self._steps)

    @property
    def waiting(self) -> int:
        """How many threads wait for a turn or for the end at this moment: an estimate, for monitoring."""
        return count_waits(self._usable())

    def __repr__(self) -> str:
        kind = type(self)
        module = "syncprims" if kind.__module__ == __name__ else kind.__module__
        sequence = self._sequence
        current = sequence.current
        turn = "" if current is None else f", turn of {current!r}"
        return f"<{module}.{kind.__qualname__} {self._name!r} {sequence.state}{turn} at {id(self):#x}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: its threads belong to one process; to order work in other processes, "
            f"keep the runner here and use run(bodies, executor=...)"
        )

    # -- taking part --------------------------------------------------------------------------------------------

    def step(self, name: str, *, timeout: float | EllipsisType | None = ...) -> StepContext:
        """Return what waits for a turn of a step, in a ``with`` or as a decorator of a function.

        Making it does not block; entering it, or calling the decorated function, blocks until the turn comes. Leaving
        hands the turn on; leaving by an exception breaks the sequence, unless `_on_error` lets it pass, and the
        exception goes on in any case. See `StepContext.__enter__` for what entering raises.

        Args:
            name: The step.
            timeout: How long to wait for the turn, in seconds; None waits for ever and 0 not at all. Left out, the
                constructor's.

        Raises:
            ValueError: There is no such step, or the timeout is negative or NaN.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("load", "store")
            >>> with runner.step("load", timeout=1.0) as turn:
            ...     turn.step, turn.index, turn.round
            ('load', 0, 0)
            >>> runner.current
            'store'
        """
        if type(name) is not str or name not in self._sequence.gates:
            name = self._sequence.check_step(name)
        return StepContext(self, name, self._timeout if timeout is ... else check_timeout(timeout))

    def serve(self, name: str, fn: Callable[[Turn], object]) -> int:
        """Call `fn` in every remaining turn of a step; return when the sequence has finished.

        It blocks between the turns, each time for the constructor's timeout at most.

        Args:
            name: The step.
            fn: What to do in a turn; it gets the `Turn`.

        Returns:
            In how many turns it was called.

        Raises:
            ValueError: There is no such step.
            TypeError: `fn` can't be called, or is a coroutine or generator function, which would do its work later.
            StepTimeoutError: A turn did not come in time; nothing has changed, and the caller may go on serving.
            BrokenSequenceError: Another step failed, or the sequence was aborted or reset.
            DeadlockError: This thread is in a step of this runner already, or waiting would close a circle.
            Exception: What `fn` raised. Where `_on_error` let it pass, the turns go on, and it is raised at the end,
                with any further ones as its notes.

        Example:
            >>> from syncprims import OrderedRunner
            >>> turns = OrderedRunner("beat", rounds=3).serve("beat", lambda turn: print("round", turn.round))
            round 0
            round 1
            round 2
            >>> turns
            3
        """
        name = self._sequence.check_step(name)
        check_runs(fn, "fn")
        return serve(self, self._usable(), name, fn, self._timeout)

    def run(
        self,
        bodies: Mapping[str, Callable[[Turn], R]],
        *,
        timeout: float | EllipsisType | None = ...,
        executor: Executor | None = None,
    ) -> list[R]:
        """Run the rest of the sequence: each step's body at each of its turns; return when all is done.

        Each step gets a thread for the time of the run. With an executor there are none: this thread takes every turn
        and hands its body to the executor, one at a time, the next when the last is done. So it works with processes
        and other machines (where bodies, turns and results have to be picklable), never starves a pool, and leaves the
        executor open.

        Args:
            bodies: For each step, what to do in its turns; it gets the `Turn`.
            timeout: How long everything may take, in seconds; None waits for ever. Left out, the constructor's.
            executor: Where to run the bodies, instead of in threads of the run.

        Returns:
            What the bodies returned, one for each turn, in the order of the turns.

        Raises:
            ValueError: A step has no body, or a body no step, or the timeout is negative or NaN; nothing was started.
            TypeError: A body can't be called, or is a coroutine or generator function, or the executor has no
                ``submit``; nothing was started.
            StepTimeoutError: The time was up. The sequence is aborted; a body that is in progress can't be killed, and
                the error names its thread, which ends with its body. With an executor also, at once, if another
                thread has taken a turn.
            BrokenSequenceError: The sequence was, or got, aborted or reset.
            SequenceFinishedError: It was finished already; `reset` starts it afresh.
            DeadlockError: This thread is in a step of this runner, or holds a lock that a body waits for.
            BaseException: The first failure of a body, after all threads have ended, with further ones as its notes.
                An interrupt aborts the sequence, and comes out when the waiting threads have ended.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("ping", "pong", rounds=2)
            >>> runner.run({"ping": lambda turn: "ping", "pong": lambda turn: "pong"}, timeout=5.0)
            ['ping', 'pong', 'ping', 'pong']
        """
        deadline = Deadline(self._limit(timeout))
        bodies = self._sequence.check_bodies(bodies)
        sequence = self._outside("run it")
        if sequence.ends:
            raise sequence.over(None)
        if executor is None:
            return run_in_threads(self, sequence, bodies, deadline)
        return run_in_executor(self, sequence, bodies, deadline, executor)

    def wait(self, *, rounds: int | None = None, timeout: float | EllipsisType | None = ...) -> None:
        """Block until the sequence has finished, or until so many rounds of it are completed.

        Args:
            rounds: How many rounds, counted from the beginning of the sequence; None waits for its end.
            timeout: How long to wait, in seconds; None waits for ever and 0 not at all. Left out, the constructor's.

        Raises:
            StepTimeoutError: The time was up; nothing has changed. Its ``step`` is None.
            BrokenSequenceError: A step failed, or the sequence was aborted or reset.
            SequenceFinishedError: It finished before that many rounds.
            DeadlockError: This thread is in a step of this runner, or holds a lock that a step waits for.
            ValueError: `rounds` is negative, or the timeout negative or NaN.
            TypeError: `rounds` is not an integer, or the timeout not a number.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("only")
            >>> with runner.step("only"):
            ...     pass
            >>> runner.wait(timeout=1.0)
            >>> runner.state
            'finished'
        """
        rounds = None if rounds is None else integer(rounds, "rounds")
        if rounds is not None and rounds < 0:
            raise ValueError(f"rounds must be None or not negative, not {shown(rounds)}")
        deadline = Deadline(self._limit(timeout))
        self._outside("wait").wait(rounds, deadline)

    # -- steering -----------------------------------------------------------------------------------------------

    def abort(self, cause: BaseException | None = None) -> None:
        """Break the sequence: everyone who waits, or comes later, gets a `BrokenSequenceError`.

        A step in progress goes on to its end and does no harm then. Does nothing to a sequence that is over. Does not
        block.

        Args:
            cause: What the errors name as their cause.

        Raises:
            TypeError: `cause` is not an exception.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("load")
            >>> runner.abort()
            >>> runner.state
            'broken'
        """
        if cause is not None and not isinstance(cause, BaseException):
            raise TypeError(f"cause must be an exception or None, not {words(cause)}")
        self._usable().end("broken", ABORTED, cause)

    def stop(self) -> None:
        """Finish the sequence cleanly after the turn in progress, or now if there is none.

        Everyone who waits for a turn, or comes later, gets a `SequenceFinishedError`; `serve`, `run` and `wait` return.
        Does nothing to a sequence that is over. Does not block.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("beat", rounds=None)
            >>> with runner.step("beat"):
            ...     runner.stop()
            >>> runner.state
            'finished'
        """
        self._usable().end("finished", STOPPED, only_if_idle=True)

    def reset(self) -> None:
        """Start the sequence afresh, from its first step on, whatever its state.

        Threads that wait in the old one get a `BrokenSequenceError`; a step in progress goes on to its end and does no
        harm then. Does not block, but for another `reset` at the same moment.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("load")
            >>> runner.abort()
            >>> runner.reset()
            >>> runner.state
            'open'
        """
        self._usable()
        fresh = Sequence(self._name, self._steps, self._places)
        with self._resetting:
            # In this order: an interrupt in between leaves it broken, which everyone is told.
            self._sequence.end("broken", RESET)
            self._sequence = fresh

    # -- hooks --------------------------------------------------------------------------------------------------

    def _next(self, done: Turn | None, /) -> str | None:
        """Return the step after `done`; for subclasses that want another order.

        It is called once for each turn, in the thread that finishes it, or for the first turn in the thread that comes
        first, with no lock of the library held. If it raises, the sequence breaks, and that thread gets the exception.

        Args:
            done: The turn that was just completed; None for the first step.

        Returns:
            The name of the step, or None to finish.
        """
        index = 0 if done is None else done.index + 1
        if self._turns is not None and index >= self._turns:
            return None
        return self._steps[index % len(self._steps)]

    def _on_error(self, turn: Turn, exc: Exception, /) -> bool:  # noqa: ARG002  for subclasses
        """Return whether to go on to the next step, though this one raised; for subclasses. False, by default.

        It is called in the thread of the step, with no lock of the library held. The exception goes on in that thread,
        whatever this returns. What is no `Exception`, like a `KeyboardInterrupt`, breaks the sequence without asking.

        Args:
            turn: The turn that failed.
            exc: What it raised.
        """
        return False

    # -- inside -------------------------------------------------------------------------------------------------

    def _usable(self) -> Sequence:
        """The present sequence, unless it stayed behind in another process."""
        sequence = self._sequence
        if sequence.ends and sequence.ends[0].manner == FORKED:
            raise sequence.over(None)
        return sequence

    def _outside(self, what: str) -> Sequence:
        """The present sequence, for a thread that must not be in a step of it."""
        inside = self._places[get_ident()].seat.sequence
        if inside is not None:
            raise nested(inside, what)
        return self._usable()

    def _limit(self, timeout: float | EllipsisType | None) -> float | None:
        return self._timeout if timeout is ... else check_timeout(timeout)

    def _state(self) -> State:
        return self._sequence._state(type(self).__name__)

    _observable: ClassVar[Observable] = Observable(
        {}
    )  # its waits, its contexts and its sequences declare what there is

    @staticmethod
    def _after_fork(runners: Collection[OrderedRunner]) -> None:
        come_through_fork(list(map(_sequence_of, runners)))
