"""What `TimedLock` and `LockAdapter` have in common: what they tell of themselves, and the hooks for subclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .._core.holders import describe, holder_of
from .._core.registry import default_name
from .._core.state import State
from .._core.waits import count_waits
from ..errors import LockTimeoutError
from ..facts import Holder

if TYPE_CHECKING:
    from inspect import Signature


class SignatureOfInit:
    """What `inspect.signature` shows of a class whose ``__new__`` takes whatever its ``__init__`` does."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._new = owner.__new__

    def __get__(self, instance: object, owner: type) -> Signature | None:
        """Return the signature of the class that is asked, or None if it has a ``__new__`` of its own."""
        from inspect import signature  # slow to import, and imported already when anything asks

        if owner.__new__ is not self._new:
            return None
        found = signature(owner.__init__)  # type: ignore[misc]  # of this very class
        return found.replace(parameters=list(found.parameters.values())[1:])


class Ranked(Protocol):
    """What can be put in order, to be taken together with others."""

    @property
    def _shared_name(self) -> str:
        """By which several processes know it, if they do."""

    @property
    def _serial(self) -> int:
        """That of its creation."""

    @property
    def _whole(self) -> object:
        """What can't be taken twice together."""


def rank_of(lock: Ranked) -> tuple[bool, str, int, int]:
    """Return the place of a lock in the order in which several are taken: that of their creation.

    Creation serials differ between processes: what several of them share is ordered by its name there.
    """
    return (bool(lock._shared_name), lock._shared_name, lock._serial, id(lock))


def whole_of(lock: Ranked) -> object:
    """Return what can't be taken twice together: the lock, or the one that this is a side of."""
    return lock._whole


class LockSurface:
    """The part of a lock's surface that is the same whatever the lock inside is."""

    __slots__ = ()

    _shared_name: str = ""  # by which several processes know the lock, if they do

    if TYPE_CHECKING:
        _name: str | None
        _timeout: float | None
        _serial: int

        def _owner(self) -> int | None: ...

    @property
    def name(self) -> str:
        """What messages call the lock."""
        return default_name(self, self._serial) if self._name is None else self._name

    @property
    def timeout(self) -> float | None:
        """How long ``with`` waits, in seconds; None is for ever."""
        return self._timeout

    @property
    def holder(self) -> Holder | None:
        """Who holds the lock at this moment, or None. A snapshot, best effort; never blocks.

        A `LockAdapter` knows only those who took the lock through it.
        """
        return holder_of(self._owner())

    @property
    def waiting(self) -> int:
        """How many threads wait for the lock at this moment: an estimate, for monitoring.

        A `LockAdapter` knows only those who wait through it.
        """
        return count_waits(self)

    def _state(self) -> State | None:
        return State(self, type(self).__name__, self.name, self._owner(), is_lock=True)

    def _known_holders(self) -> tuple[Holder, ...]:
        """All who hold it, if that may be several; else nothing."""
        return ()

    @property
    def _whole(self) -> object:
        """What can't be taken twice together: the lock itself, or the one that this is a part of."""
        return self

    def _somebody(self) -> str:
        """Say who holds the lock, where `holder` can't."""
        return describe(None)

    def _late(self, limit: float | None, waited: float, why: str | None = None) -> LockTimeoutError:
        """Make the error for a wait that failed, and show it to the hook."""
        holder = self.holder
        error = LockTimeoutError(
            f"waited {waited:.1f} s for {self.name!r}, "
            f"{why or f'held by {describe(holder, self) if holder else self._somebody()}'}",
            lock_name=self.name,
            holder=holder,
            holders=self._known_holders(),
            timeout=limit,
            waited=waited,
        )
        self._on_timeout(error)
        return error

    # -- hooks --------------------------------------------------------------------------------------------------

    def _on_wait(self, holder: Holder | None, /) -> None:
        """Called just before a thread blocks, in that thread; for subclasses.

        Args:
            holder: Who has the lock, as far as can be told.
        """

    def _on_acquired(self, waited: float, /) -> None:
        """Called when a thread has taken the lock, in that thread, which holds it; for subclasses.

        Args:
            waited: For how long it had to wait, in seconds; 0.0 where it had not.
        """

    def _on_timeout(self, error: LockTimeoutError, /) -> None:
        """Called just before a `LockTimeoutError` is raised, in the thread that gets it; for subclasses.

        Args:
            error: The error, which may be given notes.
        """
