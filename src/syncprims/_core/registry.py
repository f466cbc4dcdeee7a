"""Weak references to every live primitive: its creation serial, its default name, and its repair in a forked child."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection
from itertools import compress, count, repeat
from operator import call, is_not, itemgetter
from threading import local
from typing import Any, ClassVar, Protocol
from weakref import ref

from .foreign import type_name
from .gil import HAS_GIL
from .greenlets import refuse_greenlets
from .observing import Observable
from .state import Stated

# No mutex guards the registry. Its only writers are single stores in C, and under the GIL fork() copies it at a moment
# when no other thread is in the middle of one. If a vanished thread was just creating a primitive, no other thread
# knows that primitive. Without the GIL a set has a mutex, and a thread that vanishes may hold it. There the forking
# thread lists all live primitives before it forks, and the child never touches the old set. (If another thread makes a
# primitive between the listing and the fork, that primitive is not repaired.)


class Primitive(Stated, Protocol):
    """The methods of a registered object that the registry calls."""

    _observable: ClassVar[Observable]

    @staticmethod
    def _after_fork(primitives: Collection[Any], /) -> None:
        """Repair all these in a forked child, in which the forking thread is the only one left.

        Each primitive's class has this function, its own or inherited. There may be a hundred thousand primitives, and
        they should not slow down a fork. It may be called twice, if it is interrupted.
        """


Repair = Callable[[Collection[Any]], None]


class _Ref(ref[Primitive]):
    """A weak reference that is compared by identity, even if the primitive's class defines equality."""

    __slots__ = ("serial",)
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    serial: int


_serials = count(1)
# A weak dictionary would remove dead references in a Python function, and CPython prints and drops an interrupt that
# comes in there. Here a C function removes them: the `discard` of the set that they are in. All references of a set
# share one bound method, because a forked child copies every page that it touches, and without a method for each the
# references lie on half as many pages.
_live: dict[Repair, tuple[set[_Ref], Callable[[_Ref], None]]] = {}  # by their repair in a forked child


def new_serial() -> int:
    """Return the creation serial of a primitive that is being made.

    Raises:
        PatchedThreadsError: Threads have been replaced by greenlets.
    """
    refuse_greenlets()
    return next(_serials)


def register(primitive: Primitive, serial: int | None = None) -> int:
    """Add a primitive to the registry and return its creation serial, a new one unless it has one.

    From then on other threads may ask it for its state, so the primitive must be complete except for its serial.
    """
    if serial is None:
        serial = next(_serials)
    _enter(primitive, serial)
    return serial


def _enter(primitive: Primitive, serial: int) -> None:
    kind = _live.get(type(primitive)._after_fork)
    if kind is None:
        fresh = set[_Ref]()
        kind = _live.setdefault(type(primitive)._after_fork, (fresh, fresh.discard))
    refs, forget = kind
    entry = _Ref(primitive, forget)
    entry.serial = serial
    refs.add(entry)


class InnerName(str):
    """The name of an inner lock of the library, which recordings and lock-order checks leave out.

    Inner locks have no class of their own: the interpreter specialises a lock's code for its class, so a second class
    would make all locks slower.
    """

    __slots__ = ()


def check_name(name: str | None) -> str | None:
    """Return the name of a primitive as an exact `str`, or raise a TypeError if it is not a string.

    An exact string is compared and printed without running a method of the user's object.
    """
    kind = type(name)
    if name is None or kind is str or kind is InnerName:
        return name
    if not isinstance(name, str):
        raise TypeError(f"name must be a string or None, not {type_name(name)}")
    return str.__str__(name)


def default_name(primitive: object, serial: int) -> str:
    """Return a default name like ``TimedLock-7``."""
    return f"{type(primitive).__name__}-{serial}"


def live() -> list[Primitive]:
    """All live primitives, in the order of their creation."""
    return [primitive for _, primitive in _items()]


def _items() -> list[tuple[int, Primitive]]:
    # Lists made in C: iteration over a set fails if another thread makes a primitive at the same time.
    found = [(entry.serial, entry()) for refs, _ in list(_live.values()) for entry in list(refs)]
    return sorted(((serial, primitive) for serial, primitive in found if primitive is not None), key=itemgetter(0))


# These functions repair all primitives of a kind at once, from their weak references. They don't touch the primitives
# that need no repair: the child copies every page that it writes to, and a new reference to an object writes to it.
_by_reference: dict[Repair, Callable[[Collection[_Ref]], object]] = {}


def repair_by_reference(repair: Repair, function: Callable[[Collection[_Ref]], object]) -> None:
    """Call `repair` with weak references, instead of the kind's own function with the primitives.

    It runs no Python code, so no primitive goes away while it runs; some may be gone already.
    """
    _by_reference[repair] = function


# The repair must be done before any thread starts in the child: a new thread may get the ident of a vanished one, and
# would look like the holder of its locks. So all primitives are repaired at once, and nothing is postponed.
#
# The garbage collector is off during the repair, and all primitives are kept alive until the end of it. Otherwise a
# primitive could go away in the middle, and finalizers would run, which may start threads or use primitives that are
# not repaired yet.
#
# CPython prints an interrupt that comes here, and goes on. So the repair is registered twice: if the first run was
# interrupted, the second one does it all again.

_repaired_in: int | None = None


def _after_fork_in_child() -> None:
    global _repaired_in
    if _repaired_in == os.getpid():
        return
    collects = gc.isenabled()
    gc.disable()
    alive: list[list[Primitive | None]] = []
    try:
        for repair, (refs, _) in _live.items():
            if (by_reference := _by_reference.get(repair)) is not None:
                by_reference(refs)
                continue
            primitives = list(map(call, refs))
            alive.append(primitives)
            try:
                repair(primitives)
            except Exception:  # noqa: BLE001  a primitive was about to go away when the process forked, and is not found any more
                repair(list(compress(primitives, map(is_not, primitives, repeat(None)))))
        _repaired_in = os.getpid()
    finally:
        if collects:
            gc.enable()


class _Forking(local):
    """The list of live primitives that a thread makes before it forks."""

    items: list[tuple[int, Primitive]] | None = None


_forking = _Forking()


def _before_fork() -> None:
    if _forking.items is None:
        _forking.items = _items()


def _after_fork_in_parent() -> None:
    _forking.items = None


def _after_fork_in_child_without_gil() -> None:
    global _live
    if (items := _forking.items) is not None:
        _live = {}
        for serial, primitive in items:
            _enter(primitive, serial)
    _after_fork_in_child()
    _forking.items = None


if hasattr(os, "register_at_fork"):
    for _ in range(2):
        if HAS_GIL:
            os.register_at_fork(after_in_child=_after_fork_in_child)
        else:
            os.register_at_fork(
                before=_before_fork,
                after_in_parent=_after_fork_in_parent,
                after_in_child=_after_fork_in_child_without_gil,
            )
