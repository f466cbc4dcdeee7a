"""Exchanging methods of the primitives for observed ones while somebody observes, and locks that nobody observes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core.state import State
from .._locks.timed_lock import TimedRLock

# Off means free: there is no `if somebody_observes` in any primitive. Observing exchanges the functions in the class
# itself, and afterwards the very same function objects are put back (or what was not there is deleted again).
#
# An observed function may outlive the observation: a `with` has looked up `__exit__` before its body runs, and a
# `threading.Condition` keeps bound methods. So each of them, when nobody observes, does what the original does.


class Unseen(TimedRLock):
    """The lock that guards the diagnostics themselves: it keeps the original methods, and no report shows it.

    Re-entrant, since a signal handler may take observed locks in the midst of our taking notes.
    """

    __slots__ = ()

    def _state(self) -> State | None:
        return None

    if not TYPE_CHECKING:  # which know these from the base
        __enter__ = TimedRLock.__enter__
        __exit__ = TimedRLock.__exit__


_MISSING: Any = object()
_O = TypeVar("_O")

# What is to be exchanged: the class or module, the attribute, and what takes its place.
Change = tuple[Any, str, object]


class Exchange(Generic[_O]):
    """A set of changes that are made while there is at least one observer.

    Args:
        changes: In the order in which they are made; they are undone in reverse.
    """

    def __init__(self, changes: Iterable[Change]) -> None:
        self._changes = tuple(changes)
        self._mutex = Unseen()
        # Read by the observed functions without the mutex; replaced with one store.
        self.observers: tuple[_O, ...] = ()
        # Guarded by _mutex:
        self._originals: list[tuple[Any, str, object]] = []

    def add(self, observer: _O) -> None:
        """Let the observer see what happens from now on."""
        with self._mutex:
            try:
                self.observers = (*self.observers, observer)
                self._make()
            except BaseException:  # an interrupt in the midst of it
                self._let_go(observer)
                raise

    def remove(self, observer: _O) -> None:
        """Let the observer go; after the last one everything is as it was. Does nothing to one that is not there."""
        with self._mutex:
            self._let_go(observer)

    def _let_go(self, observer: _O) -> None:
        self.observers = tuple(each for each in self.observers if each is not observer)
        if not self.observers:
            self._undo()

    def _make(self) -> None:
        if not self._originals:
            for owner, name, replacement in self._changes:
                self._originals.append((owner, name, vars(owner).get(name, _MISSING)))
                setattr(owner, name, replacement)

    def _undo(self) -> None:
        while self._originals:
            owner, name, original = self._originals[-1]
            if original is not _MISSING:
                setattr(owner, name, original)
            elif name in vars(owner):
                delattr(owner, name)
            self._originals.pop()
