"""The start board: shared memory in which workers of this machine record when each call began."""

from __future__ import annotations

import os
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from ..._core.clock import monotonic
from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock
from .shared_file import SharedFile

if TYPE_CHECKING:
    from mmap import mmap

# For process executors of this machine that users passed in. Shared memory is needed because `Future.running()` is also
# true for calls that such an executor has only fetched in advance: a timeout counted from then would expire tasks that
# have not begun. A slot is two aligned doubles. One is `time.monotonic()` in seconds, which all processes of a machine
# share; 0.0 means "did not begin". The other, written first, is the worker's process id, for reports. A worker may be
# unable to write there: "unknown" is never treated as "did not begin".
#
# The first bytes are a token. With it, a worker that opens a path checks that the file is this board (in another
# container, the path may lead to another program's file).


_SLOT = struct.Struct("d")
_PLACE = 2 * _SLOT.size  # the size of one call's slot
_TOKEN = 8
_FIRST = 16


class StartBoard:
    """Slots in shared memory, which is freed together with the board.

    **Thread safety**: all methods may be called from any thread.

    Args:
        slots: The initial number of slots.

    Raises:
        OSError: There is no room for it.
    """

    def __init__(self, slots: int = 512) -> None:
        self._file = SharedFile("syncprims-starts")
        size = _FIRST + slots * _PLACE
        self._map: mmap = self._mapped(size)
        token = os.urandom(_TOKEN)
        self._map[:_TOKEN] = token
        # : The argument by which `stamp` finds the board.
        self.address: str = f"{token.hex()}:{self._file.path}"
        # : Whether workers can reach it: False once a worker was found that can't; None until one has reported.
        self.reached: bool | None = None
        self._mutex = TimedLock(name=InnerName("start board"))
        self._free: deque[int] = deque(range(_FIRST, size, _PLACE))  # 0 means none

    def _mapped(self, size: int) -> mmap:
        from mmap import mmap

        self._file.allocate(size)
        return mmap(self._file.fd, size)

    def take(self) -> int:
        """Return a free slot, cleared; 0 if there is no room for more."""
        while True:
            try:
                slot = self._free.popleft()
                break
            except IndexError:
                try:
                    self._grow()
                except OSError:
                    return 0
        _SLOT.pack_into(self._map, slot, 0.0)
        return slot

    def give_back(self, slot: int) -> None:
        """Let the slot be used again."""
        if slot:
            self._free.append(slot)

    def read(self, slot: int) -> float | None:
        """Return when the call in the slot began, or None if it did not."""
        started: float = _SLOT.unpack_from(self._map, slot)[0]
        return started or None

    def pid(self, slot: int) -> int | None:
        """Return the process id of the worker that runs the call in the slot, or None if it did not begin."""
        return None if self.read(slot) is None else int(_SLOT.unpack_from(self._map, slot + _SLOT.size)[0])

    def _grow(self) -> None:
        with self._mutex:
            if self._free:
                return
            size = len(self._map)
            # The old map stays valid for a thread that is reading it; both show the same memory.
            self._map = self._mapped(2 * size)
            self._free.extend(range(size, 2 * size, _PLACE))


def make_board(slots: int = 512) -> StartBoard | None:
    """Return a start board, or None if there is no room for it."""
    with suppress(OSError):
        return StartBoard(slots)
    return None


# -- the worker's side -------------------------------------------------------------------------------------------------

_maps: dict[str, mmap] = {}


def stamp(address: str | None, slot: int) -> None:
    """Write "begun now" into the slot, if the board can be reached.

    Args:
        address: The address of the board; None if there is none.
        slot: The slot; 0 means none.
    """
    board = _found(address, slot) if slot and address is not None else None
    if board is not None:
        _SLOT.pack_into(board, slot + _SLOT.size, os.getpid())
        _SLOT.pack_into(board, slot, monotonic())


def can_reach(address: str) -> bool:
    """Whether this worker can write on the board."""
    return _found(address, 0) is not None


def _found(address: str, slot: int) -> mmap | None:
    board = _maps.get(address)
    if board is None or len(board) < slot + _PLACE:
        from mmap import mmap

        token, _, path = address.partition(":")
        try:
            with open(path, "r+b") as file:
                board = mmap(file.fileno(), 0)
        except (OSError, ValueError):  # another machine, another user, or the pool is gone
            return None
        if board[:_TOKEN].hex() != token or len(board) < slot + _PLACE:
            return None
        _maps[address] = board
    return board
