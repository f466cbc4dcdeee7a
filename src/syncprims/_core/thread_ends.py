"""What is to be done when a thread ends, and how to tell that one has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any
from weakref import ref

from .sites import thread_of

# A thread-local object goes with its thread, and a weak reference to it calls a function then: in the ending thread,
# when `threading` has forgotten it already. There `threading.current_thread()`, which logging asks for too, would make
# another object for it, which would never go. So what is done there must not log.


class _Life:
    __slots__ = ("__weakref__",)


class _Own(threading.local):
    def __init__(self) -> None:
        self.life = _Life()


_own = _Own()

End = ref[Any]


def at_end_of_this_thread(do: Callable[[object], object]) -> End:
    """Have a function called in this thread as the last of all, if what this returns is kept until then.

    It gets what this returned, and must not log. A thread that Python has not started may come to Python several times,
    with an end for each. (No function is made here: without memory for one, CPython 3.12 and 3.13 crash.)
    """
    return ref(_own.life, do)


def this_thread() -> threading.Thread | None:
    """The object of this thread, if `threading` will know when it ends: if it was started by that, or is the first."""
    thread = thread_of(get_ident())
    return None if isinstance(thread, threading._DummyThread) else thread


def has_ended(thread: threading.Thread) -> bool:
    """Whether a thread has ended, or is just about to, with nothing of the program left to run in it."""
    return thread.ident is None or thread_of(thread.ident) is not thread
