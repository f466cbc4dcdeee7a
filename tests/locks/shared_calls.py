"""Tools for the tests of shared calls, `once` and `SingleFlight`: slow functions, and threads that wait."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from locks.actors import Actors, eventually, wait_for
from syncprims._core import foreign
from syncprims._core.waits import all_waits
from syncprims.testing import patience

MODES_OF_A_WAIT: Final = ["warm", "cold", "storm", "cold storm", pytest.param("worker", marks=pytest.mark.slow)]


class Slow:
    """A function that begins, waits until it may go on, and counts its runs."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.begun, self.go = threading.Event(), threading.Event()
        self.runs = 0

    def __call__(self) -> Any:
        self.runs += 1
        outcome = self.outcomes.pop(0)
        self.begun.set()
        wait_for(self.go)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def waiting() -> int:
    """How many threads wait for a call of another thread; the waits of other tests don't count."""
    return sum(type(wait.node).__name__ == "_SharedCall" for wait in all_waits())


def callers(call: Callable[[], Any], number: int, slow: Slow, then: Callable[[], object] | None = None) -> list[Any]:
    """Call in one thread, and while it runs in others, which wait; let it go on; return the outcomes."""
    with Actors() as actors:
        jobs = [actors.start(partial(outcome_of, call))]
        wait_for(slow.begun)
        jobs += [actors.start(partial(outcome_of, call)) for _ in range(number - 1)]
        eventually(lambda: waiting() == number - 1)
        if then is not None:
            then()
        slow.go.set()
        return [job.result() for job in jobs]


def outcome_of(call: Callable[[], Any]) -> Any:
    """The result of the call, or the exception that it raises."""
    try:
        return call()
    except BaseException as error:
        return error


def is_raised_in_all(error: BaseException, outcomes: list[Any]) -> bool:
    """Whether the threads, the first of which ran the function, got this exception, or copies if they must."""
    if foreign.SEVERAL_MAY_RAISE:
        return all(each is error for each in outcomes)
    first, *others = outcomes
    apart = len({id(each) for each in outcomes}) == len(outcomes)
    return first is error and apart and all(is_copy(each, error) for each in others)


def is_copy(copied: BaseException, error: BaseException) -> bool:
    """Whether another exception has the same class, arguments, attributes and cause."""
    same = [type(copied) is type(error), list(map(id, copied.args)) == list(map(id, error.args))]
    same += [vars(copied) == vars(error), copied.__cause__ is error.__cause__, copied.__context__ is error.__context__]
    return copied is not error and all(same)


def depth(error: BaseException) -> int:
    """The number of frames in its traceback."""
    return len(traceback.extract_tb(error.__traceback__))


class Followed:
    """A subject of sweeps: its call is interrupted while another thread waits for it."""

    def __init__(self) -> None:
        """Begin without the other thread."""
        super().__init__()
        self.inside = False
        # Not an event: an interrupt would leave its lock acquired.
        self.gate = threading.Lock()
        self.gate.acquire()

    def call(self) -> Any:
        """Ask for the shared call."""
        raise NotImplementedError

    def start_follower(self) -> None:
        """Start the other thread, which calls once the function runs."""
        self.follower = Actors().start(self._follow)

    def _follow(self) -> object:
        eventually(lambda: self.inside)
        return self.call()

    def hold_up(self) -> None:
        """Wait in the function, the first time, until the other thread waits."""
        if not self.inside:
            self.inside = True
            self.gate.acquire()

    def somebody_waits(self) -> bool:
        """Whether the other thread waits."""
        return self.inside and waiting() == 1

    def let_go(self) -> None:
        """End the wait in the function."""
        self.gate.release()

    def what_the_follower_lacks(self) -> str | None:
        """The fault in the outcome of the other thread."""
        self.inside = True  # an interrupt may have ended the call before
        outcome = self.follower.error() or self.follower.result()
        return None if outcome == "done" else f"the follower gets {outcome!r}"


class Following:
    """A subject of sweeps: another thread runs the function, until it is asked to end."""

    slow: Slow
    leader: threading.Thread

    def start_leader(self, call: Callable[[], object], slow: Slow) -> None:
        """Start the other thread, and wait until the function runs."""
        self.slow = slow
        self.leader = threading.Thread(target=call, daemon=True)
        self.leader.start()
        assert slow.begun.wait(patience())

    def somebody_waits(self) -> bool:
        """Whether a thread waits for the call."""
        return waiting() == 1

    def let_go(self) -> None:
        """End the call."""
        self.slow.go.set()
        self.leader.join(patience())
