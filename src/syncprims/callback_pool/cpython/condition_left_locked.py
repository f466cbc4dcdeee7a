"""`ConditionInC`: a condition that no interrupt leaves locked, unlike `threading.Condition`.

All versions: `threading.Condition.__exit__` is a Python function, and an interrupt on entry to it keeps it from
unlocking. On 3.14, an interrupt can also come between the return of an ``__enter__`` in C and the body (gh-148874).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Condition
from typing import TYPE_CHECKING, Any, Final

from ..._core.gates import put_up

if TYPE_CHECKING:
    from _thread import LockType

    class _RLock:
        """The C type behind `threading.RLock`; typeshed does not know that it can be subclassed."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *exc_info: object) -> None: ...
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...

else:
    from _thread import RLock as _RLock

_acquire: Final = _RLock.acquire


class ConditionInC(_RLock):
    """A condition that no interrupt leaves locked: ``with`` calls the C functions of the lock that it is.

    It waits and notifies by the functions of `threading.Condition`, but is not derived from it, because that class is
    an object around a lock, and enters and leaves the lock in Python.
    """

    # The locks that `notify_all` releases: those of `wait`, and the gates. A list once there is one; most never have
    # one.
    _waiters: Sequence[Any] = ()

    if sys.version_info[:2] == (3, 14):
        # No interrupt comes between the return of a Python function and the body. A thread that did not hold the lock
        # before can release it if it was acquired, and gets an error from that if it was not.
        def __enter__(self) -> bool:
            if self._is_owned():
                return self._enter_again()
            try:
                return _acquire(self)
            except BaseException:
                try:
                    self.release()
                except RuntimeError:
                    pass
                raise

        def _enter_again(self) -> bool:
            taken = False
            try:
                (taken,) = map(_acquire, (self,))  # the outcome is stored before an interrupt can come
                return taken
            except BaseException:
                if taken:
                    self.release()
                raise

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
