"""The common part of `TimedLock` and `LockAdapter`: their state, and the hooks for subclasses."""

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
    """The signature that `inspect.signature` shows of a class whose ``__new__`` takes the arguments of ``__init__``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._new = owner.__new__

    def __get__(self, instance: object, owner: type) -> Signature | None:
        """Return the signature of the class that is inspected, or None if it has a ``__new__`` of its own."""
        from inspect import signature  # slow to import, and imported already by any caller

        if owner.__new__ is not self._new:
            return None
        found = signature(owner.__init__)  # type: ignore[misc]  # of this very class
        return found.replace(parameters=list(found.parameters.values())[1:])


class Ranked(Protocol):
    """A lock that has a place in the order in which several locks are acquired together."""

    @property
    def _shared_name(self) -> str:
        """The name that it has in several processes, if they share it."""

    @property
    def _serial(self) -> int:
        """Its place in the order of creation."""

    @property
    def _whole(self) -> object:
        """The lock that can't be acquired twice together with others."""


def rank_of(lock: Ranked) -> tuple[bool, str, int, int]:
    """Return the place of a lock in the order in which several are acquired: the order of their creation.

    Creation serials differ between processes, so locks that processes share are ordered by their shared name.
    """
    return (bool(lock._shared_name), lock._shared_name, lock._serial, id(lock))


def whole_of(lock: Ranked) -> object:
    """Return the lock that can't be acquired twice together: this one, or the one that this is a side of."""
    return lock._whole


class LockSurface:
    """The methods that are the same for every lock."""

    __slots__ = ()

    _shared_name: str = ""  # the name that it has in several processes, if they share it

    if TYPE_CHECKING:
        _name: str | None
        _timeout: float | None
        _serial: int

        def _owner(self) -> int | None: ...

    @property
    def name(self) -> str:
        """The lock's name in messages."""
        return default_name(self, self._serial) if self._name is None else self._name

    @property
    def timeout(self) -> float | None:
        """How long ``with`` waits, in seconds; None waits forever."""
        return self._timeout

    @property
    def holder(self) -> Holder | None:
        """The thread that holds the lock right now, or None. A best-effort snapshot; never blocks.

        A `LockAdapter` knows only threads that acquired the lock through it.
        """
        return holder_of(self._owner())

    @property
    def waiting(self) -> int:
        """How many threads are waiting for the lock right now. This is an estimate, for monitoring.

        A `LockAdapter` knows only threads that wait through it.
        """
        return count_waits(self)

    def _state(self) -> State | None:
        return State(self, type(self).__name__, self.name, self._owner(), is_lock=True)

    def _known_holders(self) -> tuple[Holder, ...]:
        """All threads that hold it, if there may be several; otherwise none."""
        return ()

    @property
    def _whole(self) -> object:
        """The lock that can't be acquired twice together: this one, or the one that this is a part of."""
        return self

    def _somebody(self) -> str:
        """Say which thread holds the lock if `holder` is not known."""
        return describe(None)

    def _late(self, limit: float | None, waited: float, why: str | None = None) -> LockTimeoutError:
        """Make the error for a wait that failed, and pass it to the hook."""
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
            holder: The thread that holds the lock, as far as is known.
        """

    def _on_acquired(self, waited: float, /) -> None:
        """Called when a thread has acquired the lock, in that thread; for subclasses.

        Args:
            waited: How long it had to wait, in seconds; 0.0 if it did not wait.
        """

    def _on_timeout(self, error: LockTimeoutError, /) -> None:
        """Called just before a `LockTimeoutError` is raised, in the thread that gets it; for subclasses.

        Args:
            error: The error. You may add notes to it.
        """
