"""A tracer runs between any two lines, and another thread may come in there. No lock lets in too many by that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest

import syncprims._locks as folder
from locks.actors import LIMIT, Actors
from syncprims import LockTimeoutError, TimedRWLock, TimedSemaphore

Way = Callable[[Any], AbstractContextManager[object]]

# A short time, not none: tries run under a mutex, where no rival comes in between.
MOMENT = 0.001
permit: Way = lambda semaphore: semaphore.hold(MOMENT)  # noqa: E731  these differ by their names
reading: Way = lambda lock: lock.read(MOMENT)  # noqa: E731
writing: Way = lambda lock: lock.write(MOMENT)  # noqa: E731


class Rival:
    """Tries to get in, in its own thread, whenever it is asked to, and stays until it is asked to leave."""

    def __init__(self, actors: Actors, thing: object, way: Way) -> None:
        self._thing, self._way = thing, way
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()
        actors.start(self._act)

    def _act(self) -> None:
        while self._asked.get(timeout=LIMIT):
            try:
                with self._way(self._thing):
                    self._answers.put(True)
                    self._asked.get(timeout=LIMIT)
            except LockTimeoutError:
                self._answers.put(False)

    def comes_in(self) -> bool:
        self._asked.put(True)
        return self._answers.get(timeout=LIMIT)

    def leaves(self) -> None:
        self._asked.put(False)


def enter_while_a_rival_does(thing: object, mine: Way, rival: Rival, line: int) -> tuple[bool, bool, bool]:
    """Enter, and let the rival try before a line of the library; return which got in, and if there was such a line."""
    seen, rival_is_in = 0, False

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal seen, rival_is_in
        if not frame.f_code.co_filename.startswith(folder.__path__[0]):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                sys.settrace(None)
                rival_is_in = rival.comes_in()
                return None
        return trace

    context, before = mine(thing), sys.gettrace()
    sys.settrace(trace)
    try:
        context.__enter__()
    except LockTimeoutError:
        got_in = False
    else:
        got_in = True
    finally:
        sys.settrace(before)
    if got_in:
        context.__exit__(None, None, None)
    return got_in, rival_is_in, seen >= line


@pytest.mark.untraceable
@pytest.mark.parametrize(
    ("make", "mine", "theirs"),
    [
        pytest.param(lambda: TimedSemaphore(1), permit, permit, id="permit"),
        pytest.param(TimedRWLock, writing, writing, id="two writers"),
        pytest.param(TimedRWLock, reading, writing, id="a reader and a writer"),
        pytest.param(TimedRWLock, writing, reading, id="a writer and a reader"),
    ],
)
def test_a_thread_that_comes_between_two_lines_keeps_the_other_out(
    make: Callable[[], Any], mine: Way, theirs: Way
) -> None:
    """At any line, at most one of the two is in."""
    outcomes = set()
    line = 0
    reached = True
    while reached:
        line += 1
        thing = make()
        with Actors() as actors:
            rival = Rival(actors, thing, theirs)
            got_in, rival_is_in, reached = enter_while_a_rival_does(thing, mine, rival, line)
            rival.leaves()
            if rival_is_in:
                rival.leaves()
        assert not (got_in and rival_is_in), f"both are in after line {line}"
        assert (thing.holders, thing.waiting) == ((), 0)
        outcomes.add((got_in, rival_is_in))
    assert outcomes == {(True, False), (False, True)}


def test_readers_that_come_between_two_lines_are_in_together() -> None:
    """There is room for both."""
    thing = TimedRWLock()
    with Actors() as actors:
        rival = Rival(actors, thing, reading)
        assert enter_while_a_rival_does(thing, reading, rival, 3) == (True, True, True)
        rival.leaves()
        rival.leaves()
    assert thing.holders == ()
