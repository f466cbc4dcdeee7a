"""One pass through a runner's order, from its start or `reset()` on: the present turn, the gates, and the end."""

from __future__ import annotations

from _thread import LockType, allocate_lock
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import chain, compress, repeat
from math import inf
from operator import attrgetter, call, ne
from threading import get_ident
from typing import ClassVar, Final, Literal, Protocol, TypeVar

from .._core.clock import monotonic
from .._core.deadline import Deadline, lock_seconds
from .._core.deadlocks import refuse_deadlock
from .._core.foreign import error_words, words
from .._core.holders import describe, holder_of
from .._core.interrupts import attempt, exhaust
from .._core.lazy import check_runs
from .._core.observing import Event, Observable
from .._core.state import State
from .._core.waits import Waiting
from ..errors import BrokenSequenceError, ForkedError, SequenceFinishedError, StepTimeoutError, SyncError
from .turn import Turn, new_tuple

# Each step has a gate: a plain lock, locked at first. A thread enters its step by acquiring the gate. After the step it
# opens (releases) the gate of the next step. So at any time at most one gate is open, or one thread is in a step. Only
# that thread moves the sequence on, so no mutex guards anything here.
#
# 1. The first thread to come acquires the start gate, which is open at first and never opened again. It asks for the
#    first step and opens that step's gate.
# 2. The end is final. It is the first entry in `ends` (several threads may try to end the sequence). After that every
#    gate is opened permanently: a thread that acquires one sees the end, and opens the gate again for the next thread.
# 3. stop() sets `stopping` and tries to acquire the gate whose turn it is. If it succeeds, no thread is in a step, and
#    the sequence ends. A thread that opens a gate checks `stopping` afterwards and tries the same. So either stop()
#    finds the gate open, or the opener finds `stopping` set. A thread that acquires a gate before the opener has
#    checked finds it set too, so no turn begins after stop() has returned.
# 4. Interrupts (see `_core.interrupts`). When a gate is acquired, `attempt` stores the outcome. One `exhaust` announces
#    the end and opens all gates. For the thread in a step, this call is prepared when the sequence is made, because it
#    may be needed when there is no memory and little stack.
#
# Rejected: Condition.notify_all() (wakes every thread at each turn: ten times slower with 32 threads), and a mutex
# around everything (one more wait at each hand-off).

SequenceState = Literal["open", "finished", "broken"]
T = TypeVar("T")

Next = Callable[[Turn | None], "str | None"]

RAISED: Final = "raised"
ABORTED: Final = "aborted"
RESET: Final = "reset"
STOPPED: Final = "stopped"
FORKED: Final = "forked"
LOST: Final = "lost"

_acquire_of_gate = attrgetter("gate.acquire")
_ends_of = attrgetter("ends")
_owner_of = attrgetter("owner")
_wake_of = attrgetter("wake")


class End:
    """The end of a sequence.

    Attributes:
        state: The state since then.
        manner: One of the constants above.
        cause: The exception that broke it, if there was one.
        step: The step whose turn it was.
        completed: How many turns were completed.
    """

    __slots__ = ("cause", "completed", "manner", "state", "step")

    def __init__(self, state: SequenceState, manner: str, cause: BaseException | None = None) -> None:
        self.state: SequenceState = state
        self.manner: str = manner
        self.cause: BaseException | None = cause
        self.step: str | None = None
        self.completed: int = 0


class Watch:
    """A thread in `wait`: how many completed turns it waits for, and the lock that wakes it."""

    __slots__ = ("target", "wake")

    def __init__(self, target: float, wake: Callable[[], object]) -> None:
        self.target: float = target
        self.wake: Callable[[], object] = wake


class Orders(Protocol):
    """The methods of a runner that its sequence calls."""

    def _next(self, done: Turn | None, /) -> str | None: ...


class Step(Protocol):
    """The methods of a step's context that a sequence calls when the step ends."""

    @property
    def _runner(self) -> Orders: ...

    def _on_error(self, turn: Turn, exc: Exception, /) -> bool: ...


class Comers(Protocol):
    """The questions that a sequence asks about the threads that come to its runner."""

    def why_nobody(self, step: str, /) -> str:
        """Say that all threads that came for the step have ended, if they have; else ``""``."""

    def mind(self) -> None:
        """Prepare the warning if that is so for the step whose turn it is."""


class Seat:
    """A thread's place at a runner: the sequence in whose step it is, if any, and how it got there.

    Only its own thread reads and writes it, so a hand-off changes no shared data but the sequence itself.
    """

    __slots__ = ("context", "leave", "sequence")

    def __init__(self) -> None:
        # The `__exit__` of the step, if it was looked up before the step was entered, as `with` does.
        self.leave: object = None
        self.sequence: Sequence | None = None
        # None outside a step. While the first step is being determined there is a sequence, but no context.
        self.context: Step | None = None


class Sequence:
    """One pass: a node of the wait-for graph, owned by the thread whose step is active."""

    __slots__ = (
        "breaking",
        "comers",
        "ends",
        "gate",
        "gates",
        "name",
        "opening",
        "owner",
        "round_length",
        "start",
        "stopping",
        "tries",
        "turn",
        "watchers",
    )

    def __init__(self, name: str, steps: tuple[str, ...], comers: Comers) -> None:
        self.name: str = name
        self.comers: Comers = comers
        self.round_length: int = len(steps)
        self.gates: dict[str, LockType] = {step: _locked() for step in steps}
        # An iterator for each gate: each `next` tries to acquire the gate, and returns whether the gate was open.
        self.tries: dict[str, Iterator[bool]] = {
            step: map(gate.acquire, repeat(False)) for step, gate in self.gates.items()
        }
        self.start: LockType = allocate_lock()
        self.stopping: bool = False  # set by stop(), which any thread may call, and never cleared
        self.ends: list[End] = []
        self.watchers: list[Watch | None] = []  # for a moment also None, at the beginning
        # Written only by the thread that is in a step (or starts the sequence):
        self.turn: Turn | None = None
        self.gate: LockType = self.start  # of the present turn
        self.owner: int | None = None
        # For an interrupt while that thread leaves its step: the end, and the iterator that announces the end.
        self.breaking: End = End("broken", RAISED)
        self.opening: Iterator[object] = self.prepare_opening(self.breaking)

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> SequenceState:
        """Whether it goes on; if not, how it ended."""
        return self.ends[0].state if self.ends else "open"

    @property
    def current(self) -> str | None:
        """The step whose turn it is; None before the start and after the end."""
        turn = self.turn
        return None if turn is None or self.ends else turn.step

    @property
    def completed(self) -> int:
        """How many turns are completed."""
        turn = self.turn  # read before `ends`: if an end is stored in between, its number counts
        return self.ends[0].completed if self.ends else 0 if turn is None else turn.index

    def _owner(self) -> int | None:
        # After the end no thread has to wait for a step that is still in progress: the gates are open.
        return None if self.ends else self.owner

    def _up_to(self, waiter: int) -> int | None:
        owner = self._owner()
        return None if owner == waiter else owner  # it has just entered its step

    def _is_mine(self) -> bool:
        return self.owner == get_ident()

    def _state(self, kind: str = "OrderedRunner") -> State:
        owner, current = self._owner(), self.current
        lost = "" if current is None or owner is not None else self.comers.why_nobody(current)
        return State(self, kind, self.name, owner, current, lost=lost)

    # -- moving on, by the thread whose turn it is ----------------------------------------------------------------

    def begin(self, seat: Seat, find_next: Next) -> None:
        """Find the first step and open its gate, unless another thread has done so or is doing so."""
        if self.ends and self.ends[0].manner == FORKED:
            raise self.over(None)
        took = opened = False
        try:
            took = attempt(self.start.acquire, False)
            if not took or self.ends:
                return
            seat.sequence = self
            self.owner = get_ident()
            gate = self._move_to(find_next(None), 0)
            self.owner = None
            opened = True
            if gate is not None:
                try:
                    gate.release()
                except RuntimeError:
                    if not self.ends:  # otherwise the end has opened the gate in between
                        raise
        except BaseException as error:
            if took and not opened:
                self.owner = None
                self.breaking.cause = error
                try:
                    exhaust(self.opening)
                except RuntimeError:
                    go_on(self.opening)
            raise
        finally:
            if took:
                seat.sequence = None
                if self.stopping:
                    self.end("finished", STOPPED, only_if_idle=True)

    def advance(self, error: BaseException | None, context: Step) -> LockType | None:
        """End the turn in progress and return the gate to open, or None if the sequence is over."""
        turn = self.turn
        assert turn is not None
        if self.ends:
            return None
        if error is not None and not (isinstance(error, Exception) and context._on_error(turn, error)):
            self.end("broken", RAISED, error)
            return None
        step = None if self.stopping else context._runner._next(turn)
        if type(step) is not str or step not in self.gates or self.watchers:
            return self._move_to(step, turn.index + 1)
        # The same as _move_to(), but without the call, because the next thread waits.
        index = turn.index + 1
        self.turn = new_tuple(Turn, (step, index, index // self.round_length))
        self.gate = gate = self.gates[step]
        return gate

    def _move_to(self, step: str | None, index: int) -> LockType | None:
        if step is None:
            self.end("finished", STOPPED, completed=index)
            return None
        if type(step) is not str or step not in self.gates:
            step = self.exact(step, f"_next() of {self.name!r} returned {words(step)}, which is none of its steps:")
        self.turn = new_tuple(Turn, (step, index, index // self.round_length))
        self.gate = gate = self.gates[step]
        if self.watchers:
            self._wake_watchers(index)
        return gate

    def _wake_watchers(self, completed: int) -> None:
        for watch in self.watchers.copy():
            if watch is not None and completed >= watch.target:
                try:
                    watch.wake()
                except RuntimeError:  # it is awake already
                    pass

    # -- ending, by any thread ------------------------------------------------------------------------------------

    def prepare_opening(self, end: End | None = None) -> Iterator[object]:
        """Return an iterator that announces the end, if one is given, opens every gate and wakes every watcher.

        `exhaust` runs it in C. That may raise a RuntimeError; then `go_on` has to open the other gates.
        """
        # A gate is acquired if it is open, and then released, because releasing an open gate is an error. The error can
        # still happen. Without the GIL another thread may come between the two. And up to 3.13 a thread may have just
        # acquired the gate, but not the GIL, which it needs to mark the gate as locked; it will open the gate again
        # when it sees the end. The watchers are fetched only when they are woken, so that none that came before the
        # announcement is left out.
        gates, watchers = self.gates.values(), self.watchers
        return chain(
            map(call, () if end is None else (partial(self.ends.append, end),)),
            zip(
                map(call, [gate.acquire for gate in gates], repeat(False)),
                map(call, [gate.release for gate in gates]),
                strict=False,
            ),
            map(call, (partial(watchers.insert, 0, None),)),
            map(call, map(_wake_of, iter(watchers.pop, None))),
        )

    def end(
        self,
        state: SequenceState,
        manner: str,
        cause: BaseException | None = None,
        *,
        completed: int | None = None,
        only_if_idle: bool = False,
    ) -> None:
        """End the sequence, unless it has ended already, and open every gate permanently.

        With `only_if_idle` it ends now if no thread is in a step, otherwise after the turn in progress.
        """
        end = End(state, manner, cause)
        opening, taking = self.prepare_opening(end), map(call, map(_acquire_of_gate, (self,)), (False,))
        if only_if_idle:
            self.stopping = True
            (took,) = taking  # `attempt`, prepared: no interrupt comes between setting `stopping` and the try
            if not took:
                return
        turn = self.turn
        if turn is not None:
            end.step, end.completed = turn.step, turn.index
        if completed is not None:
            end.completed = completed
        try:
            exhaust(opening)
        except RuntimeError:
            go_on(opening)

    # -- waiting --------------------------------------------------------------------------------------------------

    def take_gate(self, step: str, timeout: float | None) -> None:
        """Wait for the gate and acquire it; if this raises, the gate is not acquired."""
        if self.ends:
            raise self.over(step)
        gate = self.gates[step]
        started = monotonic()
        took = False
        try:
            if timeout != 0:
                waiting = Waiting(self, None if timeout is None else started + timeout)
                try:
                    waiting.publish()
                    refuse_deadlock(waiting)
                    self.comers.mind()
                    # `attempt`, inlined: the search for deadlocks checks whether this function is the one that waits.
                    (took,) = map(gate.acquire, (True,), (-1 if timeout is None else timeout,))
                finally:
                    waiting.withdraw()
            if not took:
                if self.ends:  # another thread that saw the end has the gate for a moment
                    raise self.over(step)
                deadline = Deadline(timeout)
                deadline.started = started
                raise self.timeout_error(f"the turn of {step!r} in {self.name!r}", deadline, step)
        except BaseException:
            if took:
                try:
                    gate.release()
                except RuntimeError:
                    if not self.ends:  # otherwise the end has opened the gate in between
                        raise
                finally:
                    if self.stopping:
                        self.end("finished", STOPPED, only_if_idle=True)
            raise

    def watch(self, target: float, deadline: Deadline) -> bool:
        """Wait until this many turns are completed or the sequence has ended; return False if the time was up."""
        lock = _locked()
        # When this thread has been woken, another thread may be in a step.
        waiting = Waiting(self, deadline.at, over=lambda: self.completed >= target)
        watch = Watch(target, lock.release)
        try:
            self.watchers.append(watch)
            if self.completed >= target or self.ends:
                return True
            if deadline.timeout == 0:
                return False
            waiting.publish()
            refuse_deadlock(waiting)
            self.comers.mind()
            return lock.acquire(True, lock_seconds(deadline.remaining()))
        finally:
            try:
                self.watchers.remove(watch)
            except ValueError:  # the end has removed it, and woken this thread
                pass
            finally:
                waiting.withdraw()

    def wait(self, rounds: int | None, deadline: Deadline) -> None:
        """Wait until this many rounds are completed, or for the end; raise if that does not happen, or not in time."""
        target = inf if rounds is None else rounds * self.round_length
        in_time = self.watch(target, deadline)
        if self.completed >= target or (rounds is None and self.state == "finished"):
            return
        if self.ends:
            raise self.over(None)
        if not in_time:
            sought = "finish" if rounds is None else f"complete {rounds} rounds"
            raise self.timeout_error(f"{self.name!r} to {sought}", deadline)

    _observable: ClassVar[Observable] = Observable({"advance": Event("leaves")})

    # -- checking -------------------------------------------------------------------------------------------------

    def check_step(self, step: str) -> str:
        """Return the step's name as an exact `str`, or raise if it is not one of the steps."""
        return self.exact(step, f"{self.name!r} has no step {words(step)}; it has")

    def exact(self, step: object, refusal: str) -> str:
        """Return the step's name as an exact `str`, without the methods of a subclass, or raise with this message."""
        name = str.__str__(step) if isinstance(step, str) else None
        if name is None or name not in self.gates:
            raise ValueError(f"{refusal} {self.known()}")
        return name

    def check_bodies(self, bodies: Mapping[str, T]) -> dict[str, T]:
        """Return the body of each step; raise unless each step has a callable body and there are no others."""
        found = dict(bodies)
        missing = [step for step in self.gates if step not in found]
        if missing:
            raise ValueError(f"run() needs a body for every step; missing: {', '.join(map(repr, missing))}")
        checked = {self.check_step(step): body for step, body in found.items()}
        for step, body in checked.items():
            check_runs(body, f"the body of {step!r}")
        return checked

    # -- reporting ------------------------------------------------------------------------------------------------

    def known(self) -> str:
        """The names of the steps, for a message."""
        return ", ".join(map(repr, self.gates))

    def over(self, step: str | None) -> SyncError:
        """Make the error for a thread that wants `step` (or waits for the whole sequence) after the end."""
        end = self.ends[0]
        rounds = end.completed // self.round_length
        sought = "the rounds waited for" if step is None else f"further turns of {step!r}"
        if end.manner == FORKED:
            return ForkedError(
                f"{self.name!r} was made before this process was forked, and its threads are not here: make a new one"
            )
        if end.manner == STOPPED:
            full = f"{rounds} full round{'' if rounds == 1 else 's'}"
            return SequenceFinishedError(
                f"{self.name!r} finished after {end.completed} turns ({full}), so {sought} will not come; reset() "
                f"starts it afresh"
            )
        where = "before its first turn" if end.step is None else f"in the turn of {end.step!r}"
        what = f"by {error_words(end.cause)}" if end.cause is not None else "with no cause given"
        said = {
            RAISED: f"{self.name!r} was broken {where} {what}; no further turn will come until reset()",
            ABORTED: f"{self.name!r} was aborted {where} {what}; no further turn will come until reset()",
            RESET: f"{self.name!r} was reset {where}, and this thread belonged to the one before; it may begin again",
            LOST: f"{self.name!r} was broken {where}, which its thread could not leave, as memory had run out; "
            f"no further turn will come until reset()",
        }[end.manner]
        error = BrokenSequenceError(said, step=end.step)
        error.__cause__ = end.cause
        return error

    def timeout_error(self, sought: str, deadline: Deadline, step: str | None = None) -> StepTimeoutError:
        """Make the error for a thread whose wait reached its timeout."""
        waited, current, holder, turn = deadline.waited(), self.current, holder_of(self.owner), self.turn
        if holder is not None and turn is not None:
            current = turn.step  # valid after the end too: a step in progress then still goes on to its own end
            whose = f"it is the turn of {current!r}, held by {describe(holder)}"
        elif current is not None:
            lost = self.comers.why_nobody(current)
            why = f"and {lost}: let another one" if lost else "which no thread has come for: let one"
            whose = f"it is the turn of {current!r}, {why} enter it, or call abort()"
        else:
            whose = "it is nobody's turn"
        error = StepTimeoutError(
            f"waited {waited:.1f} s for {sought}: {whose}",
            step=step,
            current=current,
            holder=holder,
            timeout=deadline.timeout,
            waited=waited,
        )
        if step is None:  # any thread may keep the whole sequence from ending
            from .._core.report import attach_report  # here, because it is not needed before a wait has failed

            attach_report(error)
        return error


_set_turn: Callable[[Sequence, None], None] = vars(Sequence)["turn"].__set__


def go_on(opening: Iterator[object]) -> None:
    """Open the remaining gates, after another thread opened one at the same time."""
    while True:
        try:
            exhaust(opening)
        except RecursionError:  # it is a RuntimeError too, and would come again
            raise
        except RuntimeError:
            continue
        return


def come_through_fork(sequences: Collection[Sequence]) -> None:
    """Break all these in the child, which does not have the threads of their steps."""
    # In C, and with one end for all, because there may be very many sequences.
    exhaust(map(list.insert, map(_ends_of, sequences), repeat(0), repeat(End("broken", FORKED))))
    # The gates are as the vanished threads left them. A thread that comes now calls begin(), and touches no gate.
    elsewhere = map(ne, map(_owner_of, sequences), repeat(get_ident()))
    exhaust(map(_set_turn, compress(sequences, elsewhere), repeat(None)))


def _locked() -> LockType:
    lock = allocate_lock()
    lock.acquire()
    return lock
