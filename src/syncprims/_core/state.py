"""`State`: what a primitive reports about itself; snapshots and reports are built on it."""

from __future__ import annotations

from typing import Protocol

from ..facts import Frozen
from .foreign import guarded


class Named(Protocol):
    """An object with a name for messages."""

    @property
    def name(self) -> str:
        """Its name in messages."""


def name_of(thing: Named) -> str:
    """Return the name of a primitive, or of a part of one, even if a subclass has broken its `name`."""
    name = guarded(None, getattr, thing, "name")
    return name if isinstance(name, str) else "a name that can't be read"


class Stated(Named, Protocol):
    """A primitive, or a part of one, that waits refer to."""

    def _state(self) -> State | None:
        """Return the state that a snapshot shows, without blocking; None if no snapshot shows it."""


def state_of(thing: Stated) -> State | None:
    """Return the state of a primitive; only its kind and name if a method of a subclass fails."""
    unknown: State | None = State(thing, type(thing).__name__, name_of(thing))
    return guarded(unknown, thing._state)


class RunningCall(Frozen):
    """Something that a pool runs right now: a task, or a callback or hook.

    Attributes:
        what: Its name in messages.
        is_task: Whether it is a task.
        since: When it began, by the library's clock, or None if that is not known.
        ident: The thread that runs it, or None if it runs in another process.
        pid: The id of that process, if it is known.
    """

    __slots__ = ("what", "is_task", "since", "ident", "pid")  # noqa: RUF023  the order of the arguments

    what: str
    is_task: bool
    since: float | None
    ident: int | None
    pid: int | None

    def __init__(
        self, what: str, is_task: bool, since: float | None, ident: int | None, pid: int | None = None
    ) -> None:
        self._set(what, is_task, since, ident, pid)


class State(Frozen):
    """The state of a primitive right now, as far as it is known without blocking.

    Attributes:
        waited_for: The node of the waits for it: the primitive itself, or the part of it that threads wait for.
        kind: The name of its class.
        name: Its own name.
        owner: The ident of the holder of a lock, or of the thread in a runner's step; or None.
        step: The step whose turn it is, in a runner that is under way.
        pending: How many tasks of a pool are not settled; None if it is not a pool.
        running: What a pool runs.
        value: A counter's value; None if it is not a counter, or if the value is on a server.
        is_lock: Whether it can be held, so that a report must mention an unknown holder.
        lost: A text that says that all threads that came for the step have ended; ``""`` if that is not so.
        too: The idents of the other threads that hold it, if it is a lock that several may hold at once.
    """

    __slots__ = ("waited_for", "kind", "name", "owner", "step", "pending", "running", "value", "is_lock", "lost", "too")  # noqa: RUF023  the order of the arguments

    waited_for: object
    kind: str
    name: str
    owner: int | None
    step: str | None
    pending: int | None
    running: tuple[RunningCall, ...]
    value: int | None
    is_lock: bool
    lost: str
    too: tuple[int, ...]

    def __init__(
        self,
        waited_for: object,
        kind: str,
        name: str,
        owner: int | None = None,
        step: str | None = None,
        pending: int | None = None,
        running: tuple[RunningCall, ...] = (),
        value: int | None = None,
        is_lock: bool = False,
        lost: str = "",
        too: tuple[int, ...] = (),
    ) -> None:
        self._set(waited_for, kind, name, owner, step, pending, running, value, is_lock, lost, too)

    @property
    def busy(self) -> bool:
        """Whether it is worth showing even if no thread waits for it."""
        return self.owner is not None or self.step is not None or bool(self.pending)
