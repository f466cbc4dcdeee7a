"""Observing calls: each class declares the meaning of its methods, and observers find the declarations here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, Protocol
from weakref import ref

from .state import Named

# Observing costs nothing while it is off: there is no `if observed` in any primitive. An observer replaces the methods
# that are declared here by other functions (see `diagnostics.exchange`), and puts the methods back afterwards. So a
# class that declares nothing is not observed. The registry requires `_observable` of every primitive, so that a type
# checker notices a new one without it. The other function takes the same arguments, by position or by name.

Kind = Literal["gives", "lends", "takes", "waits", "enters", "leaves", "makes", "begins", "ends", "calls"]
"""What a call of a method means.

Of a lock:

gives
    The calling thread releases it.
lends
    A generator function: its first step releases the lock, and its second one acquires it again.
takes
    The calling thread acquires it; False means that it did not. `about` returns whether the wait may be endless, and so
    part of a deadlock; that of a try or a timed ``acquire`` may not.

Of the record of a wait:

waits
    It is registered. Its ``withdraw`` is a function without arguments that withdraws it.

Of a runner:

enters
    The calling thread waits for a turn, takes it and returns it. `about` returns the sequence and the step's name.
leaves
    A method of the sequence: the turn of the calling thread is over. Its first argument is the exception, or None.

Of a job of a pool, which has a ``label``, a ``pool_name``, ``running_since()``, and a place for notes as ``noted``:

makes
    The constructor: it was submitted.
begins
    The calling thread begins to run it; False means that the job must not be run.
ends
    It has got its outcome; False means that it had one already.
calls
    A method of the dispatcher, which calls the user's code. Its arguments are the job, the kind of code, the code, and
    the code's arguments.
"""


class Event:
    """The meaning of a call of one method.

    Args:
        kind: The kind of event.
        about: Called before the method, with its arguments; its result depends on the kind.
    """

    __slots__ = ("about", "kind")

    def __init__(self, kind: Kind, about: Callable[..., Any] = bool) -> None:
        self.kind: Final = kind
        self.about: Final = about


class Observable:
    """The methods of a class that can be observed; an attribute of that class with the name ``_observable``.

    Subclasses are observed with their class. A subclass that overrides one of the methods and calls the inherited one
    declares nothing; one with other ways to acquire or release has its own `Observable` for these.

    Args:
        events: The meaning of each method.
        is_held: Of a lock: whether the calling thread holds it.
        undo: Of a lock: releases it if it was acquired and an observer, or an interrupt, comes in between; raises
            RuntimeError if it was not acquired. None if nothing can be done.
        is_exclusive: Of a lock: whether it certainly has one holder at a time.
        is_inner: Of a lock: whether it is an inner lock of the library, which users never see; None if none is.

    Example:
        >>> class Lamp:
        ...     def switch_off(self) -> None: ...
        ...     _observable = Observable({"switch_off": Event("gives")})
        ...
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
        # After the store: an observer that begins in between finds the class twice, which is better than not at all.
        for hear in list(_hearing):
            hear()


class ObservableLock(Named, Protocol):
    """A lock that can be observed. It also has to allow weak references."""

    _serial: int
    _observable: ClassVar[Observable]


_declared: list[tuple[ref[type], Observable]] = []
_hearing: list[Callable[[], object]] = []
_hearing_of_exchanges: list[Callable[[], object]] = []


def declared(kind: Kind) -> list[tuple[type, str, Observable]]:
    """Return every method with this meaning, with its class and that class's declaration, oldest classes first."""
    return [
        (owner, name, observable)
        for owner, observable in [(found(), observable) for found, observable in list(_declared)]
        if owner is not None
        for name, event in observable.events.items()
        if event.kind == kind
    ]


def hear_of_classes(hear: Callable[[], object]) -> None:
    """Call a function from now on whenever a class with a declaration is made."""
    _hearing.append(hear)


def hear_of_exchanges(hear: Callable[[], object]) -> None:
    """Call a function from now on whenever an observer has exchanged methods, or put them back."""
    _hearing_of_exchanges.append(hear)


def tell_of_exchange() -> None:
    """Call the functions that wait to hear of exchanges."""
    for hear in list(_hearing_of_exchanges):
        hear()


def observable_of(lock: ObservableLock) -> Observable:
    """The declaration of a lock's class."""
    return lock._observable


def serial_of(lock: ObservableLock) -> int:
    """The creation serial of a lock."""
    return lock._serial
