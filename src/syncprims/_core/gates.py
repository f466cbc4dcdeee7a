"""Gates: single-use locks that waiters wait on, so that an interrupted waiter leaves nothing behind."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING

from .deadline import Deadline

if TYPE_CHECKING:
    from _thread import LockType

# If a signal comes after the interpreter's last check and before the system call of a wait, it does not end that wait,
# on any version. So a wait without a limit is cut into slices: Ctrl-C is late by at most one slice, and never lost.

_SLICE = 0.5


def put_up(gates: deque[LockType] | list[LockType]) -> LockType:
    """Add a closed gate. The caller then checks its condition once more, and calls `pass_through`."""
    gate = allocate_lock()
    gate.acquire()
    gates.append(gate)
    return gate


def pass_through(gate: LockType, deadline: Deadline) -> bool:
    """Wait until the gate opens; False if the time is up."""
    while True:
        left = deadline.remaining()
        if gate.acquire(timeout=_SLICE if left is None else min(left, _SLICE)):
            return True
        if left is not None and left <= _SLICE:
            return False


def pass_in_time(gate: LockType, deadline: Deadline | None) -> None:
    """Wait until the gate opens; raise `TimeoutError` if the time is up."""
    if deadline is None:
        while not gate.acquire(True, _SLICE):
            pass
    elif not pass_through(gate, deadline):
        raise TimeoutError


def open_all(gates: deque[LockType]) -> None:
    """Let all waiters through."""
    try:
        while gates:
            gates.popleft().release()
    except IndexError:  # another thread took the last one
        pass
