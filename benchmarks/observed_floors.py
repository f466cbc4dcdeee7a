"""The cost of each guarantee of an observed lock in Python alone: locks that give up one of them, or all.

None of these is in the library. Each is the observed lock of `syncprims.watch` without one of its guarantees, so that
the figures show the cost of that guarantee, and the cost without any.
"""

from __future__ import annotations

import operator
from _thread import allocate_lock, get_ident
from functools import lru_cache
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any, Final

_TRIES: Final = repeat((False,))
_ENDLESS: Final[float] = -1
_call: Any = operator.call


class Observed:
    """Like the observed lock of the watch in Python alone, but without a way to wait."""

    __slots__ = ("__call__", "__weakref__", "_acquirer", "_release", "_take", "_taker", "_tries")

    def __init__(self) -> None:
        inner = allocate_lock()
        self._take, self._release = inner.acquire, inner.release
        self.__call__ = inner.__exit__
        self._tries = starmap(inner.acquire, _TRIES)
        self._taker = self._acquirer = 0

    def __enter__(self) -> bool:
        me = get_ident()
        for taken in self._tries:
            if taken:
                self._taker = me
                return True
            break
        return False

    if TYPE_CHECKING:

        def __exit__(self, *exc_info: object) -> None: ...
    else:
        __exit__ = lru_cache(maxsize=0)(_call)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it, and note the thread, and that this was not a `with`."""
        me = get_ident()
        if blocking is True and timeout is _ENDLESS:
            for taken in self._tries:
                if taken:
                    self._taker = self._acquirer = me
                    return True
                break
        return False

    def release(self) -> None:
        """Release it, and check whether another thread has acquired it."""
        if self._taker != get_ident():
            self._note_foreign()
        self._taker = self._acquirer = 0
        self._release()

    def _note_foreign(self) -> None: ...


# -- of a `with` -------------------------------------------------------------------------------------------------------


class KeepsNoLock(Observed):
    """Its block keeps only the C lock behind it alive."""

    __slots__ = ("__exit__",)

    def __init__(self) -> None:
        super().__init__()
        self.__exit__ = self.__call__  # type: ignore[method-assign,assignment]  # a slot here


class NotesNoTaker(Observed):
    """It does not note the thread that acquired it."""

    __slots__ = ()

    def __enter__(self) -> bool:
        for taken in self._tries:
            return taken
        return False


class MayLeak(Observed):
    """An interrupt after the acquiring call leaves it acquired."""

    __slots__ = ()

    def __enter__(self) -> bool:
        me = get_ident()
        if self._take(False):
            self._taker = me
            return True
        return False


class OnlyTakes(KeepsNoLock):
    """A Python function that only acquires; the end of the block is the lock's own."""

    __slots__ = ()

    def __enter__(self) -> bool:
        return self._take()


# -- of `acquire` and `release` ----------------------------------------------------------------------------------------


class SeesNoForeignRelease(Observed):
    """It does not check which thread releases."""

    __slots__ = ()

    def release(self) -> None:
        """Release it."""
        self._taker = self._acquirer = 0
        self._release()


class TellsNoWith(Observed):
    """It does not note whether a `with` acquired it."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it, and note the thread."""
        me = get_ident()
        if blocking is True and timeout is _ENDLESS:
            for taken in self._tries:
                if taken:
                    self._taker = me
                    return True
                break
        return False

    def release(self) -> None:
        """Release it, and check whether another thread has acquired it."""
        if self._taker != get_ident():
            self._note_foreign()
        self._taker = 0
        self._release()


class KnowsNoTaker(Observed):
    """It notes nothing, so that neither is known."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        if blocking is True and timeout is _ENDLESS:
            for taken in self._tries:
                return taken
        return False

    def release(self) -> None:
        """Release it."""
        self._release()


class AcquireMayLeak(Observed):
    """An interrupt after the acquiring call leaves it acquired, and the program does not know."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it, and note the thread, and that this was not a `with`."""
        me = get_ident()
        if blocking is True and timeout is _ENDLESS and self._take(False):
            self._taker = self._acquirer = me
            return True
        return False


class OnlyCalls(Observed):
    """Two Python functions that only call the lock's own."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: ARG002  the arguments of a lock
        """Take it."""
        return self._take()

    def release(self) -> None:
        """Release it."""
        self._release()


WITH: Final[dict[str, type[Observed]]] = {
    "as it is": Observed,
    "the block does not keep the lock alive": KeepsNoLock,
    "it is not noted who took it": NotesNoTaker,
    "an interrupt may leave it taken": MayLeak,
    "none of these: a Python function that takes": OnlyTakes,
}
CALLS: Final[dict[str, type[Observed]]] = {
    "as it is": Observed,
    "a release by another thread is not seen": SeesNoForeignRelease,
    "it is not noted whether a ``with`` took it": TellsNoWith,
    "nothing is noted": KnowsNoTaker,
    "an interrupt may leave it taken": AcquireMayLeak,
    "none of these: two Python functions that call": OnlyCalls,
}
