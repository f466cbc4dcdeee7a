"""Every live primitive, weakly: its creation serial, its name if it got none, and its repair in a forked child."""

from __future__ import annotations

import os
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

# No mutex guards the registry. Its only writers are single C-level stores, and fork() copies it at a moment when no
# other thread is in the middle of one: under the GIL because the forking thread has it, without the GIL because
# CPython stops the world. A primitive that a vanished thread was just creating belongs to that thread alone.


class Primitive(Protocol):
    """What the registry needs of what it registers."""

    def _after_fork(self) -> None:
        """Repair the object in a forked child, where the forking thread is the only one left."""


_serials = count(1)
_live: WeakValueDictionary[tuple[int, int], Primitive] = WeakValueDictionary()


def register(primitive: Primitive) -> int:
    """Take the primitive into the registry and return its creation serial."""
    serial = next(_serials)
    # Free-threaded 3.13 may hand out a serial twice; the address keeps the keys apart.
    _live[serial, id(primitive)] = primitive
    return serial


def default_name(primitive: object, serial: int) -> str:
    """Name an object that got no name, like ``TimedLock-7``."""
    return f"{type(primitive).__name__}-{serial}"


def live() -> list[Primitive]:
    """All live primitives, in the order of their creation."""
    return [primitive for _, primitive in sorted(_live.items(), key=lambda item: item[0])]


def _after_fork_in_child() -> None:
    for primitive in live():
        primitive._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
