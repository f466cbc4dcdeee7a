"""`ConditionInC`: `threading.Condition` has a ``with`` that an interrupt can leave locked; this one has not.

All versions: `threading.Condition.__exit__` is a Python function, and an interrupt that comes on its entry keeps it
from unlocking. From 3.14 on, an interrupt can also lose what C's ``__enter__`` returns (gh-148874).
"""

from __future__ import annotations

import sys
from _thread import RLock
from collections import deque
from operator import attrgetter
from threading import Condition
from typing import Any


class ConditionInC(Condition):
    """A condition that no interrupt leaves locked: what ``with`` calls are the lock's own C functions.

    It finds them when they are called, where `threading.Condition` collects them all when it is made.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        # Of locks, which `notify_all` releases: those of `wait`, and gates that others put up (see `_core.gates`).
        self._waiters: deque[Any] = deque()

    if sys.version_info >= (3, 14):
        # What C returns to a `with` may be lost on 3.14 (gh-148874), and on 3.15 under a tracer. What Python returns is
        # not, and the outcome of an unpacking is stored before an interrupt can come.
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
        __enter__: Any = property(attrgetter("_lock.__enter__"))
    __exit__: Any = property(attrgetter("_lock.__exit__"))
    acquire: Any = property(attrgetter("_lock.acquire"))
    release: Any = property(attrgetter("_lock.release"))
    _release_save: Any = property(attrgetter("_lock._release_save"))
    _acquire_restore: Any = property(attrgetter("_lock._acquire_restore"))
    _is_owned: Any = property(attrgetter("_lock._is_owned"))
