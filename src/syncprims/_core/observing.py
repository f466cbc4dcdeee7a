"""What can be observed: each class says which of its methods mean what, and whoever observes finds them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, Protocol
from weakref import ref

from .state import Named

# Off means free: there is no `if somebody_observes` in any primitive. An observer puts other functions in the place of
# the methods that are declared here (see `diagnostics.exchange`), and puts them back afterwards. So a class that
# declares nothing is not observed. The registry asks every primitive for its `_observable`, so that a type checker
# notices a new one that was forgotten.

Kind = Literal["gives", "lends", "takes", "waits", "enters", "leaves", "makes", "begins", "ends", "calls"]
"""What a call of a method means.

Of a lock:

gives
    The calling thread lets go of it.
lends
    A generator function: its first step lets go of the lock, and its second one takes it back.
takes
    The calling thread takes it; False is for not having taken it. `about` tells whether the wait may be endless, and so
    part of a deadlock, which a try or a timed ``acquire`` may not.

Of the record of a wait:

waits
    It is registered. What withdraws it is stored as its ``withdraw``, a function without arguments.

Of a runner:

enters
    The calling thread waits for a turn, takes it and returns it. `about` returns the sequence and the step's name.
leaves
    A method of the sequence: the turn of the calling thread is over. Its first argument is what was raised, or None.

Of a job of a pool, which has a ``label``, a ``pool_name``, ``running_since()``, and a place for notes as ``noted``:

makes
    The constructor: it was submitted.
begins
    The calling thread begins to run it; False is for a job that is not to be run.
ends
    It has got its outcome; False is for one that had one already.
calls
    A method of the dispatcher, which calls the user's code. Its arguments are the job, which code of it that is, the
    code, and the code's arguments.
"""


class Event:
    """What a call of one method means.

    Args:
        kind: The kind of event.
        about: Called with the arguments of the method before it is; what it returns depends on the kind.
    """

    __slots__ = ("about", "kind")

    def __init__(self, kind: Kind, about: Callable[..., Any] = bool) -> None:
        self.kind: Final = kind
        self.about: Final = about


class Observable:
    """The methods of a class that can be observed; it is to be an attribute of that class, called ``_observable``.

    Subclasses are observed with their class. A subclass that overrides one of the methods and calls the inherited one
    declares nothing; one that has other ways to take or let go has an `Observable` of its own for these.

    Args:
        events: For each method what it means.
        is_held: Of a lock: whether the calling thread holds it.
        undo: Of a lock: lets go of it if it was taken and an observer, or an interrupt, comes in between; raises
            RuntimeError if it was not. None if nothing can be done.
        is_exclusive: Of a lock: whether it is certain that it has one holder at a time.
        is_inner: Of a lock: whether it is one of the library's own, which no user has to do with; None if none is.

    Example:
        >>> class Lamp:
        ...     def switch_off(self) -> None: ...
        ...     _observable = Observable({"switch_off": Event("gives")})
        >>> [(owner.__name__, name) for owner, name, _ in declared("gives") if owner is Lamp]
        [('Lamp', 'switch_off')]
    """

    __slots__ = ("events", "is_exclusive", "is_held", "is_inner", "undo")

    def __init__(
        self,
        events: Mapping[str, Event],
        *,
        is_held: Callable[[Any], bool] = bool,
        undo: Callable[[Any], object] | None = None,
        is_exclusive: bool = False,
        is_inner: Callable[[Any], bool] | None = None,
    ) -> None:
        self.events: Final = events
        self.is_held: Final = is_held
        self.undo: Final = undo
        self.is_exclusive: Final = is_exclusive
        self.is_inner: Final = is_inner

    def __set_name__(self, owner: type, name: str) -> None:
        _declared.append((ref(owner), self))
        # After the store: an observer that begins in between finds the class twice rather than not at all.
        for hear in list(_hearing):
            hear()


class ObservableLock(Named, Protocol):
    """A lock that can be observed. It also has to allow weak references."""

    _serial: int
    _observable: ClassVar[Observable]


_declared: list[tuple[ref[type], Observable]] = []
_hearing: list[Callable[[], object]] = []


def declared(kind: Kind) -> list[tuple[type, str, Observable]]:
    """Return every method that means this, with its class and what that declares, the oldest classes first."""
    return [
        (owner, name, observable)
        for owner, observable in [(found(), observable) for found, observable in list(_declared)]
        if owner is not None
        for name, event in observable.events.items()
        if event.kind == kind
    ]


def hear_of_classes(hear: Callable[[], object]) -> None:
    """Have a function called from now on whenever a class was made that declares something."""
    _hearing.append(hear)


def observable_of(lock: ObservableLock) -> Observable:
    """What the class of a lock declares."""
    return lock._observable


def serial_of(lock: ObservableLock) -> int:
    """The creation serial of a lock."""
    return lock._serial
