"""`ConditionInC`: a condition that no interrupt leaves locked, unlike `threading.Condition`.

All versions: `threading.Condition.__exit__` is a Python function, and an interrupt on entry to it keeps it from
unlocking. From 3.14 on, an interrupt can also lose the value that C's ``__enter__`` returns (gh-148874).
"""

from __future__ import annotations

import sys
from _thread import RLock
from collections.abc import Callable
from operator import attrgetter
from threading import Condition
from typing import TYPE_CHECKING, Any

from ..._core.gates import put_up

if TYPE_CHECKING:
    from _thread import LockType


class ConditionInC:
    """A condition that no interrupt leaves locked: ``with`` calls the lock's own C functions.

    It looks them up when they are called; `threading.Condition` fetches them all when it is made. It waits and notifies
    by the functions of `threading.Condition`, but is not derived from it, because its objects would be twice as large.
    """

    __slots__ = ("_lock", "_waiters")

    def __init__(self) -> None:
        self._lock = RLock()
        # A deque of locks, which `notify_all` releases: those of `wait`, and the gates.
        self._waiters: list[Any] = []

    if sys.version_info >= (3, 14):
        # A value that C returns to a `with` may be lost on 3.14 (gh-148874), and on 3.15 under a tracer. A value that
        # Python returns is not lost, and the outcome of an unpacking is stored before an interrupt can come.
        def __enter__(self) -> bool:
            taken = False
            try:
                (taken,) = map(self._lock.acquire, (True,))
                return taken
            except BaseException:
                if taken:
                    self._lock.release()
                raise

    else:
        __enter__: property = property(attrgetter("_lock.__enter__"))
    __exit__: property = property(attrgetter("_lock.__exit__"))
    acquire: property = property(attrgetter("_lock.acquire"))
    release: property = property(attrgetter("_lock.release"))
    _release_save: property = property(attrgetter("_lock._release_save"))
    _acquire_restore: property = property(attrgetter("_lock._acquire_restore"))
    _is_owned: property = property(attrgetter("_lock._is_owned"))

    wait: Callable[..., bool] = Condition.wait
    wait_for: Callable[..., Any] = Condition.wait_for
    notify: Callable[..., None] = Condition.notify

    def put_up(self) -> LockType:
        """Add a closed gate, which `notify_all` opens. The caller then checks again, and passes through."""
        return put_up(self._waiters)

    def notify_all(self) -> None:
        """Wake all waiters. A thread that begins to wait later finds its condition true."""
        if self._waiters:
            self.notify(len(self._waiters))
