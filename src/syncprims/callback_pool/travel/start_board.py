"""The start board: a small shared file where workers of this machine write when each call began."""

from __future__ import annotations

import struct
from collections import deque
from os import getpid
from typing import TYPE_CHECKING

from ..._core.clock import monotonic
from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock

if TYPE_CHECKING:
    from mmap import mmap

# Why a file? `Future.running()` is true for calls that a process executor has merely fetched in advance, so a timeout
# counted from it would expire innocents. A worker of any same-host executor, ours or not, can open a path. A slot is
# one aligned double, `time.monotonic()` in seconds, which all processes of a machine share; 0.0 is "not begun".

_SLOT = struct.Struct("d")
_FIRST_SIZE = 512 * _SLOT.size


class StartBoard:
    """Slots in a memory-mapped temporary file; the file goes when the board does.

    **Thread safety**: all methods may be called from any thread.
    """

    def __init__(self) -> None:
        from mmap import mmap
        from tempfile import mkstemp
        from weakref import finalize

        self.path: str
        fd, self.path = mkstemp(prefix="syncprims-starts-")
        finalize(self, _remove, self.path, getpid())
        with open(fd, "r+b", closefd=True) as file:
            file.truncate(_FIRST_SIZE)
            self._map: mmap = mmap(file.fileno(), _FIRST_SIZE)
        self._mutex = TimedLock(name=InnerName("start board"))
        self._free: deque[int] = deque(range(_SLOT.size, _FIRST_SIZE, _SLOT.size))  # slot 0 is "none"

    def take(self) -> int:
        """Return a free slot, wiped."""
        while True:
            try:
                slot = self._free.popleft()
                break
            except IndexError:
                self._grow()
        _SLOT.pack_into(self._map, slot, 0.0)
        return slot

    def give_back(self, slot: int) -> None:
        """Let the slot be used again."""
        self._free.append(slot)

    def read(self, slot: int) -> float | None:
        """Return when the call in the slot began, or None if it did not."""
        started: float = _SLOT.unpack_from(self._map, slot)[0]
        return started or None

    def _grow(self) -> None:
        from mmap import mmap

        with self._mutex:
            if self._free:
                return
            size = len(self._map)
            with open(self.path, "r+b") as file:
                file.truncate(2 * size)
                # The old map stays valid for whoever is reading it; both show the same file.
                self._map = mmap(file.fileno(), 2 * size)
            self._free.extend(range(size, 2 * size, _SLOT.size))


def make_board() -> StartBoard | None:
    """Return a start board, or None where no temporary file can be made."""
    try:
        return StartBoard()
    except OSError:
        return None


_maps: dict[str, mmap] = {}  # the worker's side


def stamp(path: str | None, slot: int) -> None:
    """Write "begun now" into the slot, in the worker; does nothing where the board can't be reached."""
    if path is None or not slot:
        return
    try:
        board = _maps.get(path)
        if board is None or len(board) < slot + _SLOT.size:
            from mmap import mmap

            with open(path, "r+b") as file:
                board = _maps[path] = mmap(file.fileno(), 0)
        _SLOT.pack_into(board, slot, monotonic())
    except (OSError, ValueError):  # another machine, or the pool is gone
        pass


def _remove(path: str, owner: int) -> None:
    from os import unlink

    if getpid() == owner:  # a forked child's exit must not take the parent's board
        try:
            unlink(path)
        except OSError:
            pass
