"""`snapshot`: which threads hold and wait for each primitive, as frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING

from ..facts import Frozen, Holder
from .clock import monotonic
from .holders import holder_of, stack_of, thread_name
from .registry import live
from .stacks import with_frames
from .state import State, state_of
from .waits import Waiting, all_waits, subject

if TYPE_CHECKING:
    from traceback import FrameSummary

# A snapshot acquires no lock and stops no thread: it reads data that is written with single stores. So its parts do not
# belong to one instant, but each was true at some instant while the snapshot was made.


class Waiter(Frozen):
    """A waiting thread: a snapshot.

    Attributes:
        name: The thread's name, or ``""`` if `threading` knows none.
        ident: Its `threading.get_ident`.
        waited: How long it has waited, in seconds.
        stack: Where it waits, outermost frame first, as `traceback.FrameSummary` objects.
        sought: What it waits for, if that is not simply the primitive or its turn, for example ``"the end of all
            tasks"`` of a pool; otherwise ``""``.

    Example:
        >>> from syncprims.diagnostics import Waiter
        >>> Waiter("billing", 1, 2.5, ()).waited
        2.5
    """

    __slots__ = ("name", "ident", "waited", "stack", "sought")  # noqa: RUF023  the order of the arguments

    name: str
    ident: int
    waited: float
    stack: tuple[FrameSummary, ...]
    sought: str

    def __init__(self, name: str, ident: int, waited: float, stack: tuple[FrameSummary, ...], sought: str = "") -> None:
        self._set(name, ident, waited, stack, sought)


class Work(Frozen):
    """Something that a pool runs right now: a task, or on its dispatcher's thread a callback or hook.

    Attributes:
        what: The task's function, or ``"callback of"`` it, ``"on_progress of"`` it and so on.
        seconds: How long it has run, or None if that is not known.
        thread: The name of the thread that runs it, or ``""`` if it runs in another process.
        ident: The ident of that thread, or None if it runs in another process.
        stack: Where it is now, outermost frame first; empty if it runs in another process.
        pid: The id of that other process, if it is known. It is known for workers that the pool started, and for a task
            with a timeout in an executor of this machine that you passed to the pool.

    Example:
        >>> from syncprims.diagnostics import Work
        >>> Work("grind", 2.5, "mill-worker-1", 1, ()).thread
        'mill-worker-1'
    """

    __slots__ = ("what", "seconds", "thread", "ident", "stack", "pid")  # noqa: RUF023  the order of the arguments

    what: str
    seconds: float | None
    thread: str
    ident: int | None
    stack: tuple[FrameSummary, ...]
    pid: int | None

    def __init__(
        self,
        what: str,
        seconds: float | None,
        thread: str,
        ident: int | None,
        stack: tuple[FrameSummary, ...] = (),
        pid: int | None = None,
    ) -> None:
        self._set(what, seconds, thread, ident, stack, pid)


class PrimitiveState(Frozen):
    """A lock, runner, counter or pool that threads hold, wait for or keep busy.

    Attributes:
        kind: The name of its class.
        name: Its own name.
        holder: The holder of a lock, or the thread in a runner's step; None if there is none.
        waiters: The threads that wait for it, the longest wait first.
        step: The step whose turn it is, in a runner that is under way.
        pending: How many tasks of a pool are not settled; None if it is not a pool.
        running: The functions of a pool's running tasks, each with the seconds that it has run, if that is known.
        value: A counter's value; None if it is not a counter, or if the value is on a server.
        work: What a pool runs, tasks and callbacks, each with its thread, age and stack.
        lost: A sentence if all threads that came for a runner's step have ended; otherwise ``""``.
        others: The other threads that hold it, if several threads can hold it: readers, or holders of permits.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import snapshot
        >>> with TimedLock(name="accounts"):
        ...     [(state.kind, state.name, state.holder.name) for state in snapshot() if state.name == "accounts"]
        [('TimedLock', 'accounts', 'MainThread')]
    """

    __slots__ = ("kind", "name", "holder", "waiters", "step", "pending", "running", "value", "work", "lost", "others")  # noqa: RUF023  the same

    kind: str
    name: str
    holder: Holder | None
    waiters: tuple[Waiter, ...]
    step: str | None
    pending: int | None
    running: tuple[tuple[str, float | None], ...]
    value: int | None
    work: tuple[Work, ...]
    lost: str
    others: tuple[Holder, ...]

    def __init__(
        self,
        kind: str,
        name: str,
        holder: Holder | None = None,
        waiters: tuple[Waiter, ...] = (),
        step: str | None = None,
        pending: int | None = None,
        running: tuple[tuple[str, float | None], ...] = (),
        value: int | None = None,
        work: tuple[Work, ...] = (),
        lost: str = "",
        others: tuple[Holder, ...] = (),
    ) -> None:
        self._set(kind, name, holder, waiters, step, pending, running, value, work, lost, others)


def snapshot() -> tuple[PrimitiveState, ...]:
    """Return every live primitive that a thread holds or waits for, and every pool with pending tasks.

    It blocks no thread, acquires no lock, and may be called at any time and from any thread, also from signal handlers.
    Its parts are read one after the other, while the program runs on.

    Returns:
        The states in the order in which the primitives were made.

    Example:
        >>> from syncprims import OrderedRunner
        >>> from syncprims.diagnostics import snapshot
        >>> runner = OrderedRunner("load", "store", name="etl")
        >>> with runner.step("load"):
        ...     [(state.name, state.step) for state in snapshot() if state.name == "etl"]
        [('etl', 'load')]
    """
    return look_at(busy())


def busy() -> list[tuple[State, list[Waiting]]]:
    """The states worth showing, each with the waits for it."""
    waits: dict[int, list[Waiting]] = {}
    for waiting in all_waits():
        waits.setdefault(id(subject(waiting)[0]), []).append(waiting)
    found = [state_of(primitive) for primitive in live()]
    shown = [(state, waits.pop(id(state.waited_for), [])) for state in found if state is not None]
    # The remaining waits are for things that belong to no primitive any more, such as the former sequence of a runner
    # that was reset, or that are in no registry, such as a counter on a server.
    for waiters in waits.values():
        state = state_of(subject(waiters[0])[0])
        if state is not None:
            shown.append((state, waiters))
    return [(state, waiters) for state, waiters in shown if waiters or state.busy]


def look_at(found: Iterable[tuple[State, list[Waiting]]]) -> tuple[PrimitiveState, ...]:
    """The parts of a snapshot: the busy states, each with the waits for it."""
    return with_frames(lambda frames: tuple(_look_at(state, waits, frames) for state, waits in found))


def _look_at(state: State, waits: list[Waiting], frames: Mapping[int, FrameType]) -> PrimitiveState:
    holder, waiters, now = holder_of(state.owner, frames), _waiters(waits, frames), monotonic()
    seconds = [None if each.since is None else now - each.since for each in state.running]
    running = tuple((each.what, age) for each, age in zip(state.running, seconds, strict=True) if each.is_task)
    work = tuple(
        Work(each.what, age, "", None, pid=each.pid)
        if each.ident is None
        else Work(each.what, age, thread_name(each.ident), each.ident, stack_of(each.ident, frames))
        for each, age in zip(state.running, seconds, strict=True)
    )
    others = tuple(each for ident in state.too if (each := holder_of(ident, frames)) is not None)
    return PrimitiveState(
        state.kind,
        state.name,
        holder,
        waiters,
        state.step,
        state.pending,
        running,
        state.value,
        work,
        state.lost,
        others,
    )


def _waiters(waits: list[Waiting], frames: Mapping[int, FrameType]) -> tuple[Waiter, ...]:
    now = monotonic()
    return tuple(
        Waiter(
            thread_name(each.ident),
            each.ident,
            now - each.since,
            stack_of(each.ident, frames),
            subject(each)[1],
        )
        for each in sorted(waits, key=lambda waiting: waiting.since)
    )
