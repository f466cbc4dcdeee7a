"""`InUse`: an object for each key, made on request, and dropped when no thread uses it."""

from __future__ import annotations

from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]  # the `weakref` module is built on it
from abc import ABC, abstractmethod
from collections import deque
from itertools import repeat
from operator import call
from typing import Generic, TypeVar
from weakref import ref

from .._core.foreign import is_interrupt

# A weak dictionary that differs from `weakref.WeakValueDictionary` in three ways.
# 1. Two threads that ask for the same key at once get the same object: one call of C inserts the object, or returns the
#    one that another thread inserted first.
# 2. When an object goes away, only C code runs, and it notes the dead reference. The key is dropped later, when the
#    next object is made or the keys are counted, because the key's `__hash__` may be Python code that fails or is
#    interrupted. C drops the key, and only if its reference is dead.
# 3. No lock guards it: the keys' methods are the user's code, and would run under that lock.

K = TypeVar("K")
V = TypeVar("V")


class _KeyedRef(ref[V]):
    """A weak reference to the object of a key."""

    __slots__ = ("failed", "key")

    key: object
    failed: bool  # whether the key's methods failed, or were interrupted, when the key was to be dropped


class InUse(ABC, Generic[K, V]):
    """An object for each key: the same one as long as any code refers to it."""

    __slots__ = ("__weakref__", "_gone", "_refs")

    def __init__(self) -> None:
        self._refs: dict[K, _KeyedRef[V]] = {}
        self._gone: deque[_KeyedRef[V]] = deque()

    @abstractmethod
    def _make(self, key: K) -> V:
        """Make the object of a key. It must allow weak references, and is dropped if another thread was first."""

    def __getitem__(self, key: K) -> V:
        found = self._refs.get(key)
        thing = None if found is None else found()
        return self._add(key) if thing is None else thing

    def _add(self, key: K) -> V:
        self._forget_gone()
        made = self._make(key)
        mine = _KeyedRef(made, self._gone.append)
        mine.key = key
        mine.failed = False
        while True:
            thing = self._refs.setdefault(key, mine)()
            if thing is not None:
                return thing
            _remove_dead_weakref(self._refs, key)

    def __len__(self) -> int:
        self._forget_gone()
        return sum(each() is not None for each in list(self._refs.values()))

    def _forget_gone(self) -> None:
        try:
            # No interrupt comes between the pop and the `try`.
            for dead in map(call, repeat(self._gone.popleft)):
                try:
                    _remove_dead_weakref(self._refs, dead.key)
                except BaseException as error:
                    # An interrupt came, or the key's methods failed. After a second failure the key stays until a
                    # thread asks for it.
                    failed, dead.failed = dead.failed, True
                    if not failed:
                        self._gone.append(dead)
                    if is_interrupt(error) or not (failed or isinstance(error, Exception)):
                        raise
        except IndexError:  # no reference is left
            pass
