"""The one place where the tests poll: for what happens in another process, for which there is no event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 20.0
_PAUSE = 0.005


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Look again and again until it is true: a process has ended, a port answers, a file is there.

    Processes that share nothing with the test but the system can't set its events. So it looks every few milliseconds,
    which decides only when it goes on, never what it sees; and it gives up with an error, so that nothing hangs.

    Raises:
        TimeoutError: It did not come true within so many seconds.
    """
    ends = time.monotonic() + limit
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"{getattr(condition, '__qualname__', condition)} did not come true in {limit} s")
        time.sleep(_PAUSE)


def until_exists(path: str | os.PathLike[str], limit: float = LIMIT) -> None:
    """Wait for a file, in which another process leaves a message, or by which it lets this one go."""
    until(lambda: os.path.exists(path), limit)


def ended(pid: int, limit: float = LIMIT) -> bool:
    """Wait until there is no such process; False if it lives on. One that was not reaped counts as ended."""
    try:
        until(lambda: _has_ended(pid), limit)
    except TimeoutError:
        return False
    return True


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Its files are closed when its last thread has ended, and not when the first has.
        threads = len(os.listdir(f"/proc/{pid}/task"))
        return threads == 1 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # it ended just now, which the next look finds; or there are no such files here
        return False
