"""The ends of threads: calling a function when a thread ends, and knowing whether one has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any
from weakref import ref

from .sites import thread_of

# A thread-local object goes away with its thread, and then its weak reference calls a function, in the ending thread.
# `threading` has already forgotten the thread by then. If the function called `threading.current_thread()`, which
# logging uses too, that would make another object for the thread, which would never go away. So the function must not
# log.


class _Life:
    __slots__ = ("__weakref__",)


class _Own(threading.local):
    def __init__(self) -> None:
        self.life = _Life()


_own = _Own()

End = ref[Any]


def at_end_of_this_thread(do: Callable[[object], object]) -> End:
    """Return an object; if it is kept until this thread ends, its end calls the function with it, as the last call.

    The function must not log. A thread that Python did not start may enter Python several times, with an end each time.
    (No function is made here: without memory for one, CPython 3.12 and 3.13 crash.)
    """
    return ref(_own.life, do)


def this_thread() -> threading.Thread | None:
    """This thread's object if `threading` notices its end: if `threading` started it, or it is the first thread."""
    thread = thread_of(get_ident())
    return None if isinstance(thread, threading._DummyThread) else thread


def has_ended(thread: threading.Thread) -> bool:
    """Whether a thread has ended, or is about to and has no more code of the program to run."""
    return thread.ident is None or thread_of(thread.ident) is not thread
