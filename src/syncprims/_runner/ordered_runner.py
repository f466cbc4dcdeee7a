"""`OrderedRunner`: threads run their steps in a predefined order."""

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
    """Threads run their steps in a predefined order: each releases the next, and the last releases the first.

    Use it if threads have to alternate, if the stages of a pipeline must run in order, or if a test needs its threads
    to run in a certain order. Think of a relay race: the runner with the baton runs and hands it to the next one, and
    all others wait. A step that fails drops the baton, and all threads that wait for it get an error.

    Steps may repeat in the order: ``OrderedRunner("zero", "odd", "zero", "even")``.

    Args:
        *steps: The names of the steps in their order, at least one.
        rounds: How many times to go through the order, 1 by default; None repeats it forever.
        timeout: The default timeout, in seconds, of a thread that waits for its turn, of `wait`, and of `run` as a
            whole. None, the default, waits forever; 0 does not wait.
        name: The runner's name in messages. The default is like ``OrderedRunner-7``.

    Raises:
        ValueError: There are no steps, `rounds` is less than 1, or the timeout is negative or NaN.
        TypeError: A step or the name is not a string, or `rounds` is not an integer.

    Example:
        >>> from syncprims import OrderedRunner
        >>> runner = OrderedRunner("tick", "tock", rounds=2, timeout=5.0)
        >>> runner.run({"tick": lambda turn: f"tick {turn.round}", "tock": lambda turn: f"tock {turn.round}"})
        ['tick 0', 'tock 0', 'tick 1', 'tock 1']

        Threads that exist already can enter the steps:

        >>> from threading import Thread
        >>> runner = OrderedRunner("first", "second", timeout=5.0)
        >>> def second() -> None:
        ...     with runner.step("second"):
        ...         print("second")
        ...
        >>> thread = Thread(target=second)
        >>> thread.start()
        >>> with runner.step("first"):
        ...     print("first")
        first
        >>> thread.join(5.0)
        second

    **Fairness.** The order of the steps is always kept, and one thread wakes at each hand-off. If several threads wait
    for the same step, the system chooses which of them gets the next turn.

    **Thread safety.** All methods may be called from any thread. At most one thread is in a step. A waiting thread that
    gets an interrupt (Ctrl-C, or any asynchronous exception) takes no turn. An interrupt in a step, or at the end of
    one, breaks the sequence, so that no thread waits for a turn that will not come. If a step is due and all of its
    threads have ended, the other threads go on waiting, because a new thread may still come. After five seconds, a
    warning to the logger ``syncprims`` names the ended threads. Timeout errors and reports name them too. `run` knows
    that no thread will come, and fails.

    **Differences from threading.** The closest relative is `threading.Barrier`. As with a barrier, an error or `abort`
    breaks a runner, and `reset` makes it usable again. But a barrier releases all threads at once, and a runner one at
    a time. A thread gets a `DeadlockError` if it would wait for itself, or if its wait would complete a cycle of
    threads that wait for each other's steps and locks.

    **Subclassing.** Override `_next` for another order and `_on_error` to go on after a failure. Both are called in the
    thread whose turn it is, with no lock of the library held, and before the next thread is released, so they should be
    short. You may override public methods too, but they don't call each other: `serve` and `run` don't call `step`, and
    the library never calls `abort`, `stop`, `reset` or `wait`.
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
        steps = tuple(map(str.__str__, steps))  # exact strings, without the methods of subclasses
        self._steps = steps
        self._turns = None if rounds is None else rounds * len(steps)
        self._timeout = check_timeout(timeout)
        # Guards the replacement of _sequence: if two threads reset at once, neither may leave waiters behind.
        self._resetting = TimedLock(name=InnerName("resetting"))
        self._places = Places(partial(_sequence_of_any, ref(self)))
        serial = new_serial()
        self._name = default_name(self, serial) if name is None else name
        self._sequence = Sequence(self._name, steps, self._places)
        register(self, serial)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The runner's name in messages."""
        return self._name

    @property
    def steps(self) -> tuple[str, ...]:
        """The order of one round."""
        return self._steps

    @property
    def timeout(self) -> float | None:
        """The default timeout, in seconds; None waits forever."""
        return self._timeout

    @property
    def state(self) -> SequenceState:
        """The current state: ``"open"``, ``"finished"`` or ``"broken"``."""
        return self._usable().state

    @property
    def current(self) -> str | None:
        """The step whose turn it is; None after the end, and as long as an overridden `_next` has not been called."""
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
        """How many threads are waiting for a turn or for the end right now. This is an estimate, for monitoring."""
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
        """Return an object that waits for a turn of a step; use it as a context manager or as a decorator.

        This call does not block. Entering the context manager, or calling the decorated function, blocks until the turn
        comes. Leaving passes the turn to the next step. An exception in the step propagates, and breaks the sequence
        unless `_on_error` lets it pass. `StepContext.__enter__` lists the errors of entering.

        Args:
            name: The step.
            timeout: How long to wait for the turn, in seconds; by default the constructor's timeout. None waits
                forever; 0 does not wait.

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

        It blocks between the turns, each time at most for the constructor's timeout.

        Args:
            name: The step.
            fn: Called in each turn, with the `Turn`.

        Returns:
            How many turns there were.

        Raises:
            ValueError: There is no such step.
            TypeError: `fn` can't be called, or is a coroutine or generator function, whose code would run later.
            StepTimeoutError: A turn did not come in time; nothing has changed, and the caller may go on serving.
            BrokenSequenceError: Another step failed, or the sequence was aborted or reset.
            DeadlockError: This thread is in a step of this runner already, or the wait would complete a cycle.
            Exception: `fn` raised it. If `_on_error` let it pass, the turns went on, and it is raised at the end, with
                later ones as its notes.

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
        """Run the rest of the sequence: call each step's body in each of its turns; return when all turns are done.

        The runner starts a thread for each step. With an executor it starts none: the calling thread takes every turn
        and submits the body of the step to the executor, one at a time. So the bodies can run in processes and on other
        machines (bodies, turns and results must then be picklable), and a single worker is enough. The executor stays
        open.

        Args:
            bodies: A function for each step. In each turn of the step it is called with the `Turn`.
            timeout: How long the whole run may take, in seconds; by default the constructor's timeout. None means no
                limit.
            executor: Where to run the bodies, instead of in threads that the runner starts.

        Returns:
            The results of the bodies, one for each turn, in the order of the turns.

        Raises:
            ValueError: A step has no body, a body has no step, or the timeout is negative or NaN; nothing was started.
            TypeError: A body can't be called, or is a coroutine or generator function, or the executor has no
                ``submit``; nothing was started.
            StepTimeoutError: The time was up. The sequence is aborted. A body in progress can't be killed; the error
                names its thread, which ends when its body ends. With an executor, this is also raised at once if
                another thread has taken a turn.
            BrokenSequenceError: The sequence was aborted or reset, before or during the run.
            SequenceFinishedError: The sequence had already finished; `reset` starts it again.
            DeadlockError: This thread is in a step of this runner, or holds a lock that a body waits for.
            BaseException: A body raised it. It is raised when all threads have ended, with later ones as its notes. An
                interrupt aborts the sequence, and is raised when the waiting threads have ended.

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
        """Block until the sequence has finished, or until this many rounds are completed.

        Args:
            rounds: How many rounds, counted from the beginning of the sequence; None waits for its end.
            timeout: How long to wait, in seconds; by default the constructor's timeout. None waits forever; 0 does not
                wait.

        Raises:
            StepTimeoutError: The time was up; nothing has changed. Its ``step`` is None.
            BrokenSequenceError: A step failed, or the sequence was aborted or reset.
            SequenceFinishedError: It finished after fewer rounds.
            DeadlockError: This thread is in a step of this runner, or holds a lock that a step waits for.
            ValueError: `rounds` is negative, or the timeout is negative or NaN.
            TypeError: `rounds` is not an integer, or the timeout is not a number.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("only")
            >>> with runner.step("only"):
            ...     pass
            ...
            >>> runner.wait(timeout=1.0)
            >>> runner.state
            'finished'
        """
        rounds = None if rounds is None else integer(rounds, "rounds")
        if rounds is not None and rounds < 0:
            raise ValueError(f"rounds must be None or not negative, not {shown(rounds)}")
        deadline = Deadline(self._limit(timeout))
        self._outside("wait").wait(rounds, deadline)

    # -- controlling --------------------------------------------------------------------------------------------

    def abort(self, cause: BaseException | None = None) -> None:
        """Break the sequence: all threads that wait or come later get a `BrokenSequenceError`.

        A step in progress goes on to its end, without effect on the sequence. If the sequence is over, nothing happens.
        It does not block.

        Args:
            cause: The cause of the errors.

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

        Threads that wait for a turn, or come later, get a `SequenceFinishedError`; `serve`, `run` and `wait` return. If
        the sequence is over, nothing happens. It does not block.

        Example:
            >>> from syncprims import OrderedRunner
            >>> runner = OrderedRunner("beat", rounds=None)
            >>> with runner.step("beat"):
            ...     runner.stop()
            ...
            >>> runner.state
            'finished'
        """
        self._usable().end("finished", STOPPED, only_if_idle=True)

    def reset(self) -> None:
        """Start the sequence again from its first step, whatever its state.

        Threads that wait in the old sequence get a `BrokenSequenceError`. A step in progress goes on to its end,
        without effect on the new sequence. It blocks only for another `reset` at the same time.

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
            # In this order: an interrupt in between leaves the sequence broken, and all threads get the error.
            self._sequence.end("broken", RESET)
            self._sequence = fresh

    # -- hooks --------------------------------------------------------------------------------------------------

    def _next(self, done: Turn | None, /) -> str | None:
        """Return the step after `done`; for subclasses with another order.

        It is called once after each turn, in the thread that has finished the turn, and before the first turn in the
        thread that comes first. No lock of the library is held. If it raises, the sequence breaks, and that thread gets
        the exception.

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
        """Return whether to go on to the next step although this one raised; for subclasses. False by default.

        It is called in the thread of the step, with no lock of the library held. The exception propagates in that
        thread even if this returns True. If the exception is not an `Exception`, for example a `KeyboardInterrupt`,
        this is not called, and the sequence breaks.

        Args:
            turn: The turn that failed.
            exc: The exception.
        """
        return False

    # -- inside -------------------------------------------------------------------------------------------------

    def _usable(self) -> Sequence:
        """The present sequence; raise if it belongs to the parent process."""
        sequence = self._sequence
        if sequence.ends and sequence.ends[0].manner == FORKED:
            raise sequence.over(None)
        return sequence

    def _outside(self, what: str) -> Sequence:
        """The present sequence; raise if the calling thread is in a step of it."""
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
    )  # its waits, contexts and sequences declare the observable methods

    @staticmethod
    def _after_fork(runners: Collection[OrderedRunner]) -> None:
        come_through_fork(list(map(_sequence_of, runners)))
