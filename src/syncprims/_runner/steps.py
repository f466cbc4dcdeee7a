"""`StepContext`: takes a turn of one step in a ``with``, or around each call of a function."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, TypeVar
from weakref import ref

from .._core.deadlocks import own_deadlock
from .._core.interrupts import ONE_DEEP, OTHER_DEEP, Leave, LeaveInC, exhaust, leave_by
from .._core.lazy import check_runs
from .._core.observing import Event, Observable
from .places import Place, Places
from .sequence import FORKED, LOST, RAISED, STOPPED, Seat, Sequence, go_on
from .turn import Turn

P = ParamSpec("P")
R = TypeVar("R")

Leaving = Generator[int, Any, None]


class Runner(Protocol):
    """The part of a runner that its contexts use."""

    _sequence: Sequence
    # By the ident of the thread.
    _places: Places

    def _next(self, done: Turn | None, /) -> str | None: ...
    def _on_error(self, turn: Turn, exc: Exception, /) -> bool: ...


class StepContext:
    """A turn of one step: ``with runner.step("load") as turn:``, or ``@runner.step("load")`` before a function.

    You may keep it and use it again, even in several threads: each ``with``, and each call of a decorated function,
    waits for its own turn. It holds no state.

    Example:
        >>> from syncprims import OrderedRunner
        >>> runner = OrderedRunner("greet", rounds=2)
        >>> @runner.step("greet")
        ... def greet(name: str) -> str:
        ...     return f"hello, {name}"
        ...
        >>> greet("world"), greet("moon")
        ('hello, world', 'hello, moon')

    **Fairness.** Like its runner: if several threads wait for turns of one step, any of them may get the next.

    **Thread safety.** Any number of threads may use it at once. An interrupt never leaves a turn taken: entering either
    completes or does not take the turn, and leaving is a C function, after which the sequence has moved on or is broken
    with the interrupt as its cause.

    **Differences from threading.** `threading` has nothing like it; a `threading.Barrier` lets all go on at once.

    **Subclassing.** Contexts are made by `OrderedRunner.step`, which has no hook to make another kind: override
    `OrderedRunner._next` and `OrderedRunner._on_error`, which `step`, `serve` and `run` all reach.
    """

    __slots__ = ("_runner", "_sequence", "_step", "_timeout")

    def __init__(self, runner: Runner, step: str, timeout: float | None, sequence: Sequence | None = None) -> None:
        self._runner = runner
        self._step = step
        self._timeout = timeout
        # The sequence whose turns it takes; None means the present one of the runner.
        self._sequence = sequence

    def __enter__(self) -> Turn:
        """Wait for the step's turn and take it.

        Returns:
            The turn.

        Raises:
            StepTimeoutError: The turn did not come in time; nothing has changed, and the caller may try again.
            BrokenSequenceError: A step failed, or the sequence was aborted or reset; the cause is the original.
            SequenceFinishedError: The sequence is over.
            DeadlockError: This thread is in a step of this runner already, or the wait would complete a cycle.
            ForkedError: The runner was made before a fork, in the parent.
        """
        runner, step, sequence = self._runner, self._step, self._sequence
        if sequence is None:
            sequence = runner._sequence
        me = get_ident()
        seat = runner._places[me].seat
        if seat.sequence is not None:
            raise nested(seat.sequence, f"enter {step!r}")
        while True:
            if sequence.turn is None:
                sequence.begin(seat, runner._next)
            # `attempt`, prepared: after C's success there is no call, and so no interrupt, until the thread is in the
            # step.
            for took in sequence.tries[step]:  # noqa: B007  `attempt`, prepared; used below
                break
            if not took:
                sequence.take_gate(step, self._timeout)
            if not (sequence.ends or sequence.stopping):
                break
            try:
                sequence.gates[step].release()
            except RuntimeError:  # without the GIL, the thread that ended the sequence may have come in between
                pass
            if sequence.ends:
                raise sequence.over(step)
            # stop() was called while the gate was about to be opened.
            sequence.end("finished", STOPPED, only_if_idle=True)
        seat.sequence = sequence
        seat.context = self
        sequence.owner = me
        return sequence.turn  # type: ignore[return-value]  # if a gate is open there is a turn

    def _leave(self) -> Leave:
        place = self._runner._places[get_ident()]
        if place.last is not self._step:
            place.come_for(self._step)
        leave, seat = place.leave, place.seat
        if leave is None:  # or an interrupt ended it, or it is running and this is a signal handler
            generator = _leaving(seat, ref(place))
            leave = leave_by(generator)
            place.own = ref(leave)
            generator.send(place.own)
        else:
            _ = ONE_DEEP == OTHER_DEEP
            place.leave = None
        if seat.context is None:
            seat.leave = place.own
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
            fn: Any function whose code runs when it is called.

        Raises:
            TypeError: `fn` can't be called, or is a coroutine or generator function, whose code would run after the
                turn.
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
        {"__enter__": Event("enters", lambda self: (self._sequence or self._runner._sequence, self._step))}
    )


def _leaving(seat: Seat, home: ref[Place]) -> Leaving:
    """Leave one step after another, in the thread that has the seat."""
    own: ref[Leave] = yield 0
    place: Place | None = None
    leave: Leave | None = None
    left: Sequence | None = None
    manner, unneeded = RAISED, False
    while True:
        if place is not None:  # put it back; no call comes before the `yield`, so no interrupt either
            place.own, place.leave = own, leave
            place = leave = None
        try:
            try:
                yield 0
            except GeneratorExit:  # the `with` dropped it
                manner, unneeded = LOST, seat.leave is not own
                raise
            # The type of the exception comes first. Without one, leave at once, because the next thread waits.
            error = None if (yield 0) is None else (yield 0)
            sequence, context = seat.sequence, seat.context
            if sequence is None or context is None:
                raise RuntimeError("this thread is in no step of this runner: only a thread in a step can leave it")
            gate = sequence.advance(error, context)
            seat.sequence = seat.context = seat.leave = sequence.owner = None
            left = sequence
            if gate is not None:
                try:
                    gate.release()
                except RuntimeError:
                    if not sequence.ends:  # otherwise the end has opened the gate in between
                        raise
        except BaseException as failure:
            cut_off = seat.sequence
            if cut_off is not None and seat.context is not None and not unneeded:
                # A hook raised, or an interrupt came: the order can't be kept. Nothing is called before the `exhaust`,
                # and nothing is allocated, because there may be no memory.
                seat.sequence = seat.context = seat.leave = cut_off.owner = None
                turn, breaking = cut_off.turn, cut_off.breaking
                assert turn is not None
                breaking.step, breaking.completed, breaking.manner = turn.step, turn.index, manner
                breaking.cause = failure if manner is RAISED else None
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
        error = context = sequence = left = gate = None
        yield 0
        place, leave = home(), own()


def begin(runner: Runner, sequence: Sequence) -> None:
    """Find the first step of a sequence and open its gate, unless another thread has done so or is doing so."""
    sequence.begin(runner._places[get_ident()].seat, runner._next)


def nested(sequence: Sequence, what: str) -> BaseException:
    """Make the error for a thread that would wait for its own step."""
    if sequence.ends and sequence.ends[0].manner == FORKED:
        return sequence.over(None)
    turn = sequence.turn
    place = "its _next()" if turn is None else f"step {turn.step!r}"
    return own_deadlock(sequence.name, f"it is in {place} and has to leave it before it can {what}")
