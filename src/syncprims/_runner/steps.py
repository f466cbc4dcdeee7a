"""`StepContext`: what takes a turn of one step in a ``with``, or around each call of a function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, ClassVar, ParamSpec, Protocol, TypeVar

from .._core.deadlocks import own_deadlock
from .._core.interrupts import Leave, LeaveInC, leave_by
from .._core.lazy import check_runs
from .._core.observing import Event, Observable
from .sequence import RAISED, STOPPED, Seat, Sequence, exhaust, go_on
from .turn import Turn

P = ParamSpec("P")
R = TypeVar("R")

Leaving = Generator[int, BaseException | None, None]

# Making the generator that leaves a step takes as long as leaving, so each thread keeps its own for the next time. It
# leaves any step that its thread is in. Between two steps it refers to no more than the thread's seat, which is empty
# then, so that a runner that nobody needs is gone at once.
Kept = tuple[Leaving, Leave]


class Runner(Protocol):
    """What the contexts need of a runner."""

    _sequence: Sequence
    # Each by the ident of the thread that it belongs to.
    _seats: defaultdict[int, Seat]
    _leaves: dict[int, Kept]

    def _next(self, done: Turn | None, /) -> str | None: ...
    def _on_error(self, turn: Turn, exc: Exception, /) -> bool: ...


class StepContext:
    """A turn of one step: ``with runner.step("load") as turn:``, or ``@runner.step("load")`` before a function.

    It may be kept and used again, and by several threads: each ``with``, and each call of a decorated function, waits
    for a turn of its own. It holds no state.

    Example:
        >>> from syncprims import OrderedRunner
        >>> runner = OrderedRunner("greet", rounds=2)
        >>> @runner.step("greet")
        ... def greet(name: str) -> str:
        ...     return f"hello, {name}"
        >>> greet("world"), greet("moon")
        ('hello, world', 'hello, moon')

    **Fairness.** As its runner: where several threads wait for turns of one step, any of them may get the next.

    **Thread safety.** Any number of threads may use it at once. An interrupt never leaves a turn taken: entering either
    completes or leaves the turn untaken, and leaving is a C function, after which the sequence has moved on or is
    broken with the interrupt as its cause.

    **Differences from threading.** `threading` has nothing like it; a `threading.Barrier` lets all go on at once.

    **Subclassing.** Contexts are made by `OrderedRunner.step`, which has no hook to make another kind: override
    `OrderedRunner._next` and `OrderedRunner._on_error`, which `step`, `serve` and `run` all reach.
    """

    __slots__ = ("_runner", "_step", "_timeout")

    def __init__(self, runner: Runner, step: str, timeout: float | None) -> None:
        self._runner = runner
        self._step = step
        self._timeout = timeout

    def __enter__(self) -> Turn:
        """Wait for the step's turn and take it.

        Returns:
            Which turn it is.

        Raises:
            StepTimeoutError: The turn did not come in time; nothing has changed, and the caller may try again.
            BrokenSequenceError: A step failed, or the sequence was aborted or reset; the cause is the original.
            SequenceFinishedError: The sequence is over.
            DeadlockError: This thread is in a step of this runner already, or waiting would close a circle of
                waiting threads.
            ForkedError: The runner was made before a fork, in the parent.
        """
        return self._enter(self._runner._sequence)

    def _enter(self, sequence: Sequence) -> Turn:
        runner, step = self._runner, self._step
        me = get_ident()
        seat = runner._seats[me]
        if seat.sequence is not None:
            raise nested(seat.sequence, f"enter {step!r}")
        if sequence.turn is None:
            sequence.begin(seat, runner._next)
        gate = sequence.gates[step]
        # From C's success on no interrupt is delivered until the thread is in: there is no call on the way.
        (took,) = map(gate.acquire, (False,))
        if not took:
            sequence.take_gate(step, self._timeout)
        if sequence.ends or sequence.stopping:
            try:
                gate.release()
            except RuntimeError:  # without the GIL, the one who ended it may have come in between
                pass
            if not sequence.ends:  # stop() came while the gate was on its way to be opened
                sequence.end("finished", STOPPED, only_if_idle=True)
                return self._enter(sequence)
            raise sequence.over(step)
        seat.sequence = sequence
        seat.context = self
        sequence.owner = me
        return sequence.turn  # type: ignore[return-value]  # there is one where a gate is open

    def _leave(self) -> Leave:
        runner = self._runner
        me = get_ident()
        kept = runner._leaves.get(me)
        if kept is not None and kept[0].gi_suspended:  # type: ignore[attr-defined]  # typeshed does not know it
            return kept[1]
        # There is none, or it was cut off, or it is at work just now and this is in a signal handler.
        generator = _leaving(runner._seats[me])
        leave = leave_by(generator)
        runner._leaves[me] = generator, leave
        return leave

    if TYPE_CHECKING:

        def __exit__(self, *exc_info: object) -> None: ...

    else:
        __exit__ = LeaveInC(_leave)

    def _on_error(self, turn: Turn, exc: Exception, /) -> bool:
        return self._runner._on_error(turn, exc)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return a function that waits for a turn of the step, calls `fn` in it and returns what `fn` returns.

        Args:
            fn: Any function that does its work when it is called.

        Raises:
            TypeError: `fn` can't be called, or is a coroutine or generator function, which would do its work after
                the turn.
        """
        check_runs(fn, f"the function for the step {self._step!r}")

        @wraps(fn)
        def in_turn(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return fn(*args, **kwargs)

        return in_turn

    def __repr__(self) -> str:
        return f"<step {self._step!r} of {self._runner!r}>"

    _observable: ClassVar[Observable] = Observable(
        {"_enter": Event("enters", lambda context, sequence: (sequence, context._step))}
    )


def _leaving(seat: Seat) -> Leaving:
    """Leave one step after another, in the thread whose seat it is."""
    while True:
        left: Sequence | None = None
        try:
            yield 0
            # The type of the exception comes first. Where there is none, the next thread waits for no more than that.
            error = None if (yield 0) is None else (yield 0)
            sequence, context = seat.sequence, seat.context
            if sequence is None or context is None:
                raise RuntimeError("this thread is in no step of this runner: only who has entered a step can leave it")
            gate = sequence.advance(error, context)
            seat.sequence = seat.context = sequence.owner = None
            left = sequence
            if gate is not None:
                try:
                    gate.release()
                except RuntimeError:
                    if not sequence.ends:  # otherwise it has been opened for good in between
                        raise
        except GeneratorExit:  # it is not needed any more
            raise
        except BaseException as failure:
            cut_off = seat.sequence
            if cut_off is not None and seat.context is not None:
                # A hook raised, or an interrupt came: the order can't be kept. No call before the opening: see there.
                seat.sequence = seat.context = cut_off.owner = None
                turn = cut_off.turn
                assert turn is not None
                ends = cut_off.ends
                ends += (("broken", failure, turn.step, RAISED, turn.index),)
                try:
                    exhaust(cut_off.opening)
                except RuntimeError:
                    go_on(cut_off.opening)
            raise
        finally:
            if left is not None and left.stopping:
                left.end("finished", STOPPED, only_if_idle=True)
        if error is None:
            yield 0
        # Between two steps it keeps neither the runner nor an exception of the user's alive.
        del error, context, sequence, left, gate
        yield 0


def begin(runner: Runner, sequence: Sequence) -> None:
    """Find the first step of a sequence and open its gate, unless another thread has been or is at it."""
    sequence.begin(runner._seats[get_ident()], runner._next)


def nested(sequence: Sequence, what: str) -> BaseException:
    """Make the error for a thread that wants something which waits for its own step."""
    if sequence.ends and sequence.ends[0][3] == "forked":
        return sequence.over(None)
    turn = sequence.turn
    place = "its _next()" if turn is None else f"step {turn.step!r}"
    return own_deadlock(sequence.name, f"it is in {place}, which a thread has to leave before it can {what}")
