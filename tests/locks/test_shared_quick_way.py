"""The quick way into a shared lock is one step: in it there is no place where CPython changes threads."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import FunctionType

import pytest

from syncprims import TimedRWLock, TimedSemaphore

# With the GIL, a thread changes where an interrupt may be delivered: after a call, at a jump back, and on entry.
PLACES = ("CALL", "JUMP_BACKWARD", "RESUME", "SEND", "YIELD", "FOR_ITER", "SEND")


def steps(function: FunctionType) -> list[str]:
    """The instructions from the look at `_quick` to the first return, in the order in which they are written."""
    found = list(dis.get_instructions(function))
    begin = next(at for at, each in enumerate(found) if each.argval == "_quick")
    end = next(at for at, each in enumerate(found) if at > begin and each.opname.startswith("RETURN"))
    return [each.opname for each in found[begin:end]]


@pytest.mark.parametrize(
    "function",
    [
        TimedSemaphore.__enter__,
        TimedSemaphore._enter_within,
        TimedRWLock._read_within,
        TimedRWLock._write_within,
    ],
)
def test_looking_and_going_in_are_one_step(function: Callable[..., object]) -> None:
    """No call and no jump back is between the look at who is there and the place among them."""
    assert isinstance(function, FunctionType)
    taken = steps(function)
    assert "BINARY_OP" in taken, "the quick way adds to a list in place"
    assert [name for name in taken if name.startswith(PLACES)] == []


def test_a_call_on_the_way_is_found() -> None:
    """The test of the test."""

    def careless(lock: TimedSemaphore, held: list[int]) -> bool:
        if lock._quick and len(held) < 1:
            held += (1,)
            return True
        return False

    assert isinstance(careless, FunctionType)
    assert [name for name in steps(careless) if name.startswith(PLACES)] != []


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="is for builds with the GIL")
def test_the_quick_way_is_taken_with_the_gil_and_without_hooks() -> None:
    """A class that has to be told of each acquisition goes the other way."""

    class Told(TimedSemaphore):
        def _on_acquired(self, waited: float, /) -> None:
            self.told = waited

    assert (TimedSemaphore._quick, TimedRWLock._quick, Told._quick) == (True, True, False)
    with Told(1) as told:
        assert told.told == 0.0
