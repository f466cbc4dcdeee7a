"""The doorbell of a standard process executor, rung once until it is heard."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import _ThreadWakeup

# Each `submit` wakes the executor's own thread through a pipe, busy or not, and before each look at its work that
# thread asks the pipe whether there is more in it, with a new selector each time. Together they are a fifth of what a
# small task costs. Nothing is lost by ringing once: work is put down before the bell, and looked for after `clear`.
#
# The reader must be drained before the flag falls. A bell that rings in between finds the flag up, and its work is
# seen by the look that follows; one that has put the flag up and not written yet is heard a round later.


class _Doorbell(_ThreadWakeup):
    _rung = False

    def wakeup(self) -> None:
        if not self._rung:
            self._rung = True
            super().wakeup()

    def clear(self) -> None:
        try:
            os.read(self._reader.fileno(), 4096)
        except BlockingIOError:  # a result woke the thread
            pass
        self._rung = False


def ring_once(executor: ProcessPoolExecutor) -> None:
    """Spare the executor needless wakeups; to be called before its first task."""
    if os.name == "posix":
        bell = executor._executor_manager_thread_wakeup
        os.set_blocking(bell._reader.fileno(), False)
        bell.__class__ = _Doorbell
