"""The records of where each lock was acquired, and by which thread, if recording is on (`diagnostics.record_sites`)."""

from __future__ import annotations

import os
import threading
from functools import partial
from threading import get_ident
from types import CodeType
from weakref import ref

from .foreign import guarded, printable, words
from .observing import ObservableLock, observable_of

# The thread that has just acquired the lock writes an entry, and the thread that releases it deletes the entry, each
# with one C call. So no mutex guards the dictionary. Locks are compared by identity, even if their classes define
# equality, and an entry goes away with its lock. A lock that several threads may hold has an entry for each of them.

# A code object and a line: cheap to note, and turned into text only if the text is needed.
Site = tuple[CodeType, int]


class Taking:
    """The acquisition of a lock: by which thread, and where in the program.

    Attributes:
        ident: The `threading.get_ident` of the thread.
        thread: Its `threading.Thread`, or None if `threading` does not know it.
        site: The place in the program, or None if that was in no code of the program.
    """

    __slots__ = ("_lock", "ident", "site", "thread")

    def __init__(self, lock: object, site: Site | None, key: tuple[int, int | None]) -> None:
        self._lock = ref(lock, partial(_takings.pop, key))
        self.ident = get_ident()
        self.thread = thread_of(self.ident)
        self.site = site

    def has_ended(self) -> bool:
        """Whether the thread has ended; another thread may have its ident now."""
        return self.thread is not None and thread_of(self.ident) is not self.thread

    def who(self) -> str:
        """Describe the thread."""
        name = guarded(None, getattr, self.thread, "name")
        return f"Thread {words(name)}" if isinstance(name, str) else f"a thread without a name (ident {self.ident})"

    def where(self) -> str:
        """Describe the place, like ``billing.py:41 in charge``."""
        return say_site(self.site)


# The key is the lock's identity, with the thread's ident if the lock may have several holders.
_takings: dict[tuple[int, int | None], Taking] = {}


def thread_of(ident: int) -> threading.Thread | None:
    """The thread object with this ident, or None if `threading` knows none."""
    # threading.current_thread() would make an object, and threading.enumerate() acquires a lock.
    active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    return active.get(ident)


def say_site(site: Site | None) -> str:
    """Describe a place, like ``billing.py:41 in charge``."""
    if site is None:
        return "a thread of the library"
    code, line = site
    return printable(f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}")


def note_taking(lock: ObservableLock, site: Site | None) -> None:
    """Note that the calling thread has acquired the lock."""
    key = _key(lock)
    _takings[key] = Taking(lock, site, key)


def forget_taking(lock: ObservableLock) -> None:
    """Note that it has released the lock."""
    _takings.pop(_key(lock), None)


def _key(lock: ObservableLock) -> tuple[int, int | None]:
    return id(lock), None if observable_of(lock).is_exclusive else get_ident()


def forget_all() -> None:
    """Forget all notes: they are not kept up to date any more."""
    _takings.clear()


def taking_of(thing: object, ident: int | None) -> Taking | None:
    """How a thread, or one that had its ident, acquired the lock that it seems to hold; None if not recorded."""
    taking = _takings.get((id(thing), None)) or _takings.get((id(thing), ident))
    return taking if taking is not None and taking.ident == ident else None
