"""The one place where the tests poll: for changes in another process, for which there is no event.

It also sends signals to a program that is about to wait, because one of them may not be enough.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

LIMIT = 60.0
_PAUSE = 0.005
_AGAIN = 10.0  # seconds until a signal is sent once more


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Poll until the condition is true: a process has ended, a port answers, a file exists.

    A process that shares only the system with the test can't set its events. So this looks every few milliseconds. The
    interval decides only when the test goes on, not its result; and after a limit it raises, so that nothing hangs.

    Raises:
        TimeoutError: The condition did not become true within so many seconds.
    """
    ends = time.monotonic() + limit
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"{getattr(condition, '__qualname__', condition)} did not come true in {limit} s")
        time.sleep(_PAUSE)


def until_exists(path: str | os.PathLike[str], limit: float = LIMIT) -> None:
    """Wait for a file, in which another process leaves a message, or by which it lets this one go on."""
    until(lambda: os.path.exists(path), limit)


@contextmanager
def sending(send: Callable[..., object], *signal: int) -> Iterator[None]:
    """Send a signal repeatedly as long as the block runs, which waits for its effect.

    If a signal comes after Python has checked for one and before the system's wait begins, CPython handles it only when
    that wait is over: the wait for a bare lock has this gap too. A program that says "I'm ready" and then waits is just
    there. So one signal in thousands has no effect, like one Ctrl-C; the next one comes during the wait.
    """
    over = Event()

    def go_on() -> None:
        while not over.wait(_AGAIN):
            send(*signal)

    again = Thread(target=go_on, name="sends again", daemon=True)
    send(*signal)
    again.start()
    try:
        yield
    finally:
        over.set()
        again.join(LIMIT)


def ended(pid: int, limit: float = LIMIT) -> bool:
    """Wait until the process has ended; False if it lives on. One that was not reaped counts as ended."""
    try:
        until(lambda: _has_ended(pid), limit)
    except TimeoutError:
        return False
    return True


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Its files are closed when its last thread has ended, not when its first has.
        threads = len(os.listdir(f"/proc/{pid}/task"))
        return threads == 1 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # it ended just now, which the next look finds; or this system has no such files
        return False
