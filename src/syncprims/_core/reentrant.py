"""`RLock`: the reentrant lock of the standard library; no interrupt leaves its `with` acquired, on 3.14 too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

# A `with` of a C lock calls the lock's own functions, which no interrupt splits. But on 3.14 one may come between the
# return of an `__enter__` in C and the body (gh-148874), so there this is written in Python.

if TYPE_CHECKING:

    class RLockInC:
        """The C type behind `threading.RLock`, with the methods that are used; typeshed calls it final."""

        def __enter__(self) -> object: ...
        def __exit__(self, *exc_info: object) -> None: ...
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def _is_owned(self) -> bool: ...
        def _at_fork_reinit(self) -> None: ...
        def _release_save(self) -> Any: ...
        def _acquire_restore(self, state: Any, /) -> None: ...
else:
    from _thread import RLock as RLockInC

if sys.version_info[:2] == (3, 14):
    _acquire: Final = RLockInC.acquire

    class RLock(RLockInC):
        """A reentrant lock that no interrupt leaves acquired."""

        __slots__ = ()

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
else:
    RLock = RLockInC
