"""Imports: threads that wait for a module that another thread is importing."""

from __future__ import annotations

import sys
from typing import Any
from weakref import ref

from .._core.foreign import guarded, words
from .._core.waits import Waiting
from .blocked import Awaitable, Blocked

# The locks of modules belong to importlib, which is frozen, and they are made in C. But to find deadlocks among imports
# alone, importlib keeps a table of the threads that wait for them, and this table can be read.


class ModuleImport:
    """The end of an import by another thread."""

    __slots__ = ("lock", "name")

    def __init__(self, lock: Any) -> None:
        self.lock: ref[Any] = ref(lock)
        self.name: str = f"the import of the module {words(guarded('?', getattr, lock, 'name'))}"

    def up_to(self, waiter: int) -> int | None:
        """The thread that imports the module."""
        owner = guarded(None, getattr, self.lock(), "owner")
        return owner if isinstance(owner, int) and owner != waiter else None


_waits: dict[tuple[int, int], Blocked] = {}


def import_waits() -> dict[int, Waiting]:
    """The wait of each thread that waits for an import: the same object as long as the wait lasts."""
    none: dict[Any, Any] = {}
    table = guarded(none, _table)
    found: dict[int, Waiting] = {}
    keep: dict[tuple[int, int], Blocked] = {}
    for ident, entry in table.items():
        lock = guarded(None, _innermost, entry)
        if lock is None or not isinstance(ident, int):
            continue
        key = ident, id(lock)
        wait = _waits.get(key)
        if wait is None or not _is_of(wait.target, lock):
            wait = Blocked(ModuleImport(lock), is_endless=True, answers=False)
            wait.note_of(ident)
        keep[key] = wait
        found[ident] = wait
    _waits.clear()
    _waits.update(keep)
    return found


def _table() -> dict[Any, Any]:
    # A dictionary in 3.11; from 3.12 on an object with a dictionary of weak references.
    found = vars(sys.modules["_frozen_importlib"])["_blocking_on"]
    return dict(getattr(found, "data", found))


def _innermost(entry: Any) -> Any:
    if isinstance(entry, ref):
        entry = entry()
    return entry if hasattr(entry, "owner") else list(entry)[-1]


def _is_of(target: Awaitable, lock: object) -> bool:
    return isinstance(target, ModuleImport) and target.lock() is lock
