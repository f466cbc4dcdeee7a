"""Exchanging methods of the primitives for observed ones while an observer is on; and a lock that is never observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core.observing import Kind, Observable, declared, hear_of_classes, tell_of_exchange
from .._core.registry import InnerName
from .._core.state import State
from .._locks.timed_lock import TimedRLock

# Observing costs nothing while it is off: there is no `if observed` in any primitive. Observing exchanges the functions
# in the class itself. Afterwards the same function objects are put back (or the attributes deleted, if the class had
# none).
#
# An observed function may outlive the observation: a `with` has looked up `__exit__` before its body runs, and a
# `threading.Condition` keeps bound methods. So each of them behaves like the original when no observer is on.


class Unseen(TimedRLock):
    """The lock that guards the diagnostics themselves: it keeps the original methods, and no report shows it.

    It is reentrant, because a signal handler may acquire observed locks while we take notes.
    """

    __slots__ = ()

    def _state(self) -> State | None:
        return None

    if not TYPE_CHECKING:  # a type checker has these from the base
        __enter__ = TimedRLock.__enter__
        __exit__ = TimedRLock.__exit__


_MISSING: Any = object()
_O = TypeVar("_O")


class Exchange(Generic[_O]):
    """A set of changes that are made while there is at least one observer.

    Args:
        replace: For each kind of event, in the order in which the changes are made, a factory for the function that
            takes the place of such a method. It gets the method, the `about` of its event, and the class's
            `Observable`. The changes are undone in reverse order.
    """

    def __init__(
        self, replace: Mapping[Kind, Callable[[Callable[..., Any], Callable[..., Any], Observable], object]]
    ) -> None:
        self._replace = replace
        self._mutex = Unseen(name=InnerName("diagnostics"))
        # Read by the observed functions without the mutex; replaced with one store.
        self.observers: tuple[_O, ...] = ()
        # Guarded by _mutex:
        self._originals: dict[tuple[Any, str], object] = {}
        hear_of_classes(self._go_on)

    def add(self, observer: _O) -> None:
        """Let the observer see all events from now on."""
        with self._mutex:
            try:
                self.observers = (*self.observers, observer)
                self._make()
            except BaseException:  # an interrupt during the exchange
                self._let_go(observer)
                raise

    def remove(self, observer: _O) -> None:
        """Remove the observer. After the last one everything is as before. An unknown observer is ignored."""
        with self._mutex:
            self._let_go(observer)

    def _go_on(self) -> None:
        """Observe the methods of classes that were made since the beginning, too."""
        with self._mutex:
            if self.observers:
                self._make()

    def _let_go(self, observer: _O) -> None:
        self.observers = tuple(each for each in self.observers if each is not observer)
        if not self.observers:
            self._undo()

    def _make(self) -> None:
        for kind, replace in self._replace.items():
            for owner, name, observable in declared(kind):
                if (owner, name) not in self._originals:
                    self._change(owner, name, replace(getattr(owner, name), observable.events[name].about, observable))
        tell_of_exchange()

    def _change(self, owner: Any, name: str, instead: object) -> None:
        self._originals[owner, name] = vars(owner).get(name, _MISSING)
        setattr(owner, name, instead)

    def _undo(self) -> None:
        while self._originals:
            owner, name = next(reversed(self._originals))
            original = self._originals[owner, name]
            if original is not _MISSING:
                setattr(owner, name, original)
            elif name in vars(owner):
                delattr(owner, name)
            del self._originals[owner, name]
        tell_of_exchange()
