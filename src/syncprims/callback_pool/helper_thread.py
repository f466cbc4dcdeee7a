"""`HelperThread`: a daemon thread that starts when it is first needed, and once only."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from threading import Thread


class HelperThread:
    """Starts ``target(*args)`` on the first `ensure`, however many threads call it and whatever interrupts them.

    The thread claims its role itself. So an interrupt between starting and remembering it, or two starters at once,
    make a second thread that finds the role taken and ends.
    """

    def __init__(self, name: str, target: Callable[..., object], *args: object) -> None:
        self._name = name
        self._target = target
        self._args = args
        self._role = allocate_lock()
        self.started: bool = False
        self.thread: Thread | None = None

    def ensure(self) -> None:
        """Start the thread unless it is there; `RuntimeError` if the system has no more threads."""
        if not self.started:
            Thread(target=self._run, name=self._name, daemon=True).start()
            self.started = True

    def over(self) -> bool:
        """True once the thread has ended."""
        return self.thread is not None and not self.thread.is_alive()

    def _run(self) -> None:
        if self._role.acquire(blocking=False):
            from threading import current_thread

            self.started = True
            self.thread = current_thread()
            self._target(*self._args)
