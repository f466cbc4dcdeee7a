"""`ConditionInC`: a condition that no interrupt leaves locked, unlike `threading.Condition`.

All versions: `threading.Condition.__exit__` is a Python function, and an interrupt on entry to it keeps it from
unlocking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition
from typing import TYPE_CHECKING, Any

from ..._core.gates import put_up
from ..._core.reentrant import RLock

if TYPE_CHECKING:
    from _thread import LockType


class ConditionInC(RLock):
    """A condition that no interrupt leaves locked: ``with`` calls the C functions of the lock that it is.

    It waits and notifies by the functions of `threading.Condition`, but is not derived from it, because that class is
    an object around a lock, and enters and leaves the lock in Python.
    """

    # The locks that `notify_all` releases: those of `wait`, and the gates. A list once there is one; most never have
    # one.
    _waiters: Sequence[Any] = ()

    wait_for: Callable[..., Any] = Condition.wait_for
    notify: Callable[..., None] = Condition.notify

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, and acquire it again; False if the time is up."""
        self._listed()
        return Condition.wait(self, timeout)  # type: ignore[arg-type]  # it has all that this function needs

    def put_up(self) -> LockType:
        """Add a closed gate, which `notify_all` opens. The caller then checks again, and passes through."""
        return put_up(self._listed())

    def _listed(self) -> list[Any]:
        waiters: list[Any] = self.__dict__.setdefault("_waiters", [])
        return waiters

    def notify_all(self) -> None:
        """Wake all waiters. A thread that begins to wait later finds its condition true."""
        if self._waiters:
            self.notify(len(self._waiters))
