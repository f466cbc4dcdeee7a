"""Every live primitive, weakly: its creation serial, its name if it got none, and its repair in a forked child."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from itertools import count
from operator import call, itemgetter
from threading import local
from typing import Any, ClassVar, Protocol
from weakref import ref

from .foreign import type_name
from .greenlets import refuse_greenlets
from .observing import Observable
from .state import Stated

# No mutex guards the registry. Its only writers are single C-level stores, and under the GIL fork() copies it at a
# moment when no other thread is in the middle of one. A primitive that a vanished thread was just creating belongs to
# that thread alone. Without the GIL a set has a mutex, and a thread that vanishes may have it, or have just been
# handed it: there the forking thread lists what is alive before it forks, and the child never touches the old
# set. (What another thread makes between the two is not repaired.)


class Primitive(Stated, Protocol):
    """What the registry needs of what it registers."""

    _observable: ClassVar[Observable]

    @staticmethod
    def _after_fork(primitives: Iterable[Any], /) -> None:
        """Repair all these in a forked child, where the forking thread is the only one left.

        All are of the class whose function this is, or inherit it. There may be a hundred thousand of them, for whose
        sake no fork is to take long.
        """


Repair = Callable[[Iterable[Any]], None]


class _Ref(ref[Primitive]):
    """A weak reference that is compared by identity, whatever the primitive's class makes of equality."""

    __slots__ = ("serial",)
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    serial: int


_serials = count(1)
# A weak dictionary would forget the dead in a Python function: an interrupt in there is printed and lost. What forgets
# them here is a C function.
_live: dict[Repair, set[_Ref]] = {}  # by what repairs them in a forked child


def new_serial() -> int:
    """Return the creation serial of a primitive that is being made.

    Raises:
        PatchedThreadsError: Threads have been replaced by greenlets.
    """
    refuse_greenlets()
    return next(_serials)


def register(primitive: Primitive, serial: int | None = None) -> int:
    """Take a primitive into the registry and return its creation serial, a new one unless it has one.

    From then on other threads may ask it for its state, so the primitive must be complete but for its serial.
    """
    if serial is None:
        serial = next(_serials)
    _enter(primitive, serial)
    return serial


def _enter(primitive: Primitive, serial: int) -> None:
    refs = _live.get(type(primitive)._after_fork)
    if refs is None:
        refs = _live.setdefault(type(primitive)._after_fork, set())
    entry = _Ref(primitive, refs.discard)
    entry.serial = serial
    refs.add(entry)


class InnerName(str):
    """The name of a lock of the library's own, which recordings and lock-order checks leave out.

    Not a kind of lock of its own: the interpreter adapts a lock's code to its class, and everybody's would pay.
    """

    __slots__ = ()


def check_name(name: str | None) -> str | None:
    """Return the name of a primitive as an exact `str`, or raise a TypeError for something that is no name.

    An exact one is compared and printed without running a method of the user's.
    """
    kind = type(name)
    if name is None or kind is str or kind is InnerName:
        return name
    if not isinstance(name, str):
        raise TypeError(f"name must be a string or None, not {type_name(name)}")
    return str.__str__(name)


def default_name(primitive: object, serial: int) -> str:
    """Name an object that got no name, like ``TimedLock-7``."""
    return f"{type(primitive).__name__}-{serial}"


def live() -> list[Primitive]:
    """All live primitives, in the order of their creation."""
    return [primitive for _, primitive in _items()]


def _items() -> list[tuple[int, Primitive]]:
    # From lists made in C: iterating over a set would fail when another thread makes a primitive at the same time.
    found = [(entry.serial, entry()) for refs in list(_live.values()) for entry in list(refs)]
    return sorted(((serial, primitive) for serial, primitive in found if primitive is not None), key=itemgetter(0))


# The repair must be done before any thread starts in the child: the first one may get the ident of a vanished thread,
# and would pass for the holder of what that one held. So it is done at once, for all, and nothing of it is put off.


def _after_fork_in_child() -> None:
    for repair, refs in list(_live.items()):
        try:
            repair(map(call, list(refs)))
        except TypeError:  # as one was just about to go when the process forked: now with care, which takes longer
            repair([primitive for primitive in map(call, list(refs)) if primitive is not None])


_forking = local()


def _before_fork() -> None:
    _forking.items = _items()


def _after_fork_in_parent() -> None:
    _forking.items = []


def _after_fork_in_child_without_gil() -> None:
    global _live
    _live = {}
    items, _forking.items = _forking.items, []
    for serial, primitive in items:
        _enter(primitive, serial)
    _after_fork_in_child()


if hasattr(os, "register_at_fork"):
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        os.register_at_fork(after_in_child=_after_fork_in_child)
    else:
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child_without_gil,
        )
