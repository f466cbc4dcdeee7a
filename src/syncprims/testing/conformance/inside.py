"""`OtherInside`: another thread that is inside a ``with``."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Self

from ..threads import Running
from .trial import finish, limit, start


class OtherInside:
    """Another thread that is inside a ``with``, from the making of this until `leave` or the end of the ``with``."""

    def __init__(self, entering: AbstractContextManager[object]) -> None:
        self._entering = entering
        self._entered, self._leave = threading.Event(), threading.Event()
        self.running: Running[None] = start(self._stay)
        self.thread: threading.Thread = self.running.thread
        if not self._entered.wait(limit()):
            self._leave.set()
            finish(self.running, "another thread's way in")

    def _stay(self) -> None:
        with self._entering:
            self._entered.set()
            self._leave.wait(2 * limit())

    def leave(self) -> None:
        """Have it leave, and wait for its end."""
        self._leave.set()
        finish(self.running, "another thread's way out")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leave.set()
        if exc_info[0] is None:
            self.leave()
