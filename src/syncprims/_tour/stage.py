"""The stage of the scenes: their output, and the results of their checks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO


class Stage:
    """Prints the output of the scenes, counts their checks, and survives a reader that has gone.

    Any thread may call its methods. They raise nothing if the stream fails: `lost` is set, and later output is dropped,
    so that a scene with several threads ends in order.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.checks = 0
        self.failures: list[str] = []
        self.lost: OSError | None = None
        self._stream = stream

    def scene(self, title: str, *lines: str) -> None:
        """Announce a scene and what it will show."""
        self.say("", title, "-" * len(title), *lines)

    def say(self, *lines: str) -> None:
        """Show lines, unless the tour is quiet."""
        if not self.quiet:
            self.insist(*lines)

    def check(self, passed: bool, what: str) -> None:
        """Count a check, and show its result."""
        self.checks += 1
        if passed:
            self.say(f"  ok: {what}")
        else:
            self.failures.append(what)
            self.insist(f"  FAILED: {what}")

    def insist(self, *lines: str) -> None:
        """Show lines even if the tour is quiet."""
        if self.lost is not None:
            return
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except OSError as error:
            self.lost = error
            self._abandon_stream()

    def _abandon_stream(self) -> None:
        # The rest of its buffer would raise once more at interpreter exit, with a traceback.
        with suppress(OSError, ValueError):
            stream = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


def together(*functions: Callable[[], object], names: Sequence[str] = (), limit: float = 30) -> list[Exception | None]:
    """Run each function in its own thread and return the exception of each, or None.

    Raises:
        TimeoutError: A thread was still running after ``limit`` seconds.
    """
    raised: list[Exception | None] = [None] * len(functions)

    def play(index: int) -> None:
        try:
            functions[index]()
        except Exception as error:  # noqa: BLE001  the caller gets it
            raised[index] = error

    threads = [
        threading.Thread(target=play, args=(index,), name=names[index] if names else None, daemon=True)
        for index in range(len(functions))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit)
        if thread.is_alive():
            raise TimeoutError(f"thread {thread.name!r} was still running after {limit} s")
    return raised
