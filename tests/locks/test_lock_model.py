"""Random programs of three threads and two locks, against a model of the outcome of each step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from locks.actors import LIMIT, Worker, eventually, stuck_on
from syncprims import DeadlockError, LockTimeoutError, TimedLock, TimedRLock

WORKERS: Final = 3
LOCKS: Final = 2

workers = st.integers(0, WORKERS - 1)
locks = st.integers(0, LOCKS - 1)


class Programs(RuleBasedStateMachine):
    """The model: which threads hold each lock and how often, and which lock each waits for."""

    kind: type[TimedLock] = TimedLock

    def __init__(self) -> None:
        """Begin with free locks and idle workers."""
        super().__init__()
        self.locks = [self.kind(name=f"lock {number}") for number in range(LOCKS)]
        self.workers = [Worker(f"worker {number}") for number in range(WORKERS)]
        self.holder: list[int | None] = [None] * LOCKS
        self.depth = [0] * LOCKS
        self.awaited: dict[int, int] = {}

    @property
    def reentrant(self) -> bool:
        """Whether a holder may enter again."""
        return issubclass(self.kind, TimedRLock)

    def takes(self, worker: int, lock: int) -> bool:
        """Whether the worker gets the lock without waiting; then it has it in the model, too."""
        if self.holder[lock] is None or (self.holder[lock] == worker and self.reentrant):
            self.holder[lock] = worker
            self.depth[lock] += 1
            return True
        return False

    def cycle(self, worker: int, lock: int) -> list[int]:
        """The workers of the cycle that this wait would close; none if it closes none."""
        path = [worker]
        while (holder := self.holder[lock]) is not None:
            if holder == worker:
                return path
            path.append(holder)
            if holder not in self.awaited:
                break
            lock = self.awaited[holder]
        return []

    @rule(worker=workers, lock=locks, timeout=st.sampled_from([None, 0, 0.001]))
    def try_to_acquire(self, worker: int, lock: int, timeout: float | None) -> None:
        """A try, or a wait with a timeout that no thread ends: True or False, never an error."""
        if worker in self.awaited:
            return
        expected = self.takes(worker, lock)
        arguments = (False,) if timeout is None else (True, timeout)
        assert self.workers[worker].do(lambda: self.locks[lock].acquire(*arguments)) is expected

    @rule(worker=workers, lock=locks, timeout=st.sampled_from([0, 0.001]))
    def enter_within(self, worker: int, lock: int, timeout: float) -> None:
        """A `with` and a timeout that no thread ends: the lock, a timeout, or a deadlock."""
        if worker in self.awaited:
            return
        held_by = self.holder[lock]
        cycle = self.cycle(worker, lock)
        taken = self.takes(worker, lock)
        if cycle and timeout:  # reported at once, and on a busy machine only after a short time
            timeout = LIMIT
        outcome = self.workers[worker].do(self.locks[lock].hold(timeout).__enter__)
        if taken:
            assert outcome is self.locks[lock]
        elif held_by == worker or (cycle and timeout):
            self.check_deadlock(outcome, cycle)
        elif cycle:  # a try does not wait, so it closes no cycle
            assert isinstance(outcome, LockTimeoutError)
        else:
            assert isinstance(outcome, LockTimeoutError)
            assert outcome.holder is not None
            assert outcome.holder.name == f"worker {held_by}"

    @rule(worker=workers, lock=locks, way=st.sampled_from(["enter", "hold", "acquire"]))
    def wait(self, worker: int, lock: int, way: str) -> None:
        """A wait without a limit: the lock, a deadlock reported at once, or a thread that blocks."""
        if worker in self.awaited:
            return
        target = self.locks[lock]
        ways: dict[str, Callable[[], Any]] = {
            "enter": target.__enter__,
            "hold": target.hold(LIMIT).__enter__,
            "acquire": target.acquire,
        }
        order = ways[way]
        cycle = self.cycle(worker, lock)
        if self.takes(worker, lock):
            assert self.workers[worker].do(order) in (True, target)
        elif cycle:
            self.check_deadlock(self.workers[worker].do(order), cycle)
        else:
            self.awaited[worker] = lock
            self.workers[worker].begin(order)
            eventually(lambda: stuck_on(target) == self.waiting_for(lock))

    def check_deadlock(self, outcome: object, cycle: list[int]) -> None:
        """The error has exactly the cycle of the model."""
        assert isinstance(outcome, DeadlockError)
        assert [wait.thread for wait in outcome.cycle] == [f"worker {number}" for number in cycle]

    @rule(worker=workers, lock=locks, leaves=st.booleans())
    def let_go(self, worker: int, lock: int, leaves: bool) -> None:
        """A release: the holder's hands the lock to exactly one waiting thread; by others it is an error."""
        if worker in self.awaited:
            return
        target = self.locks[lock]
        outcome = self.workers[worker].do(lambda: target.__exit__(None, None, None) if leaves else target.release())
        if self.holder[lock] != worker:
            assert isinstance(outcome, RuntimeError)
            return
        assert outcome is None
        self.depth[lock] -= 1
        if self.depth[lock] == 0:
            self.holder[lock] = None
            self.hand_over(lock)

    def hand_over(self, lock: int) -> None:
        """Wait until one of the threads that wait for the lock has it."""
        waiting = [worker for worker, awaited in self.awaited.items() if awaited == lock]
        if not waiting:
            return
        got: list[int] = []

        def look() -> bool:
            for worker in waiting:
                try:
                    outcome = self.workers[worker].outcome(timeout=0)
                except Empty:
                    continue
                assert outcome in (True, self.locks[lock])
                got.append(worker)
            return bool(got)

        eventually(look)
        (worker,) = got
        del self.awaited[worker]
        assert self.takes(worker, lock)

    def waiting_for(self, lock: int) -> int:
        """The number of threads that wait for the lock in the model."""
        return sum(awaited == lock for awaited in self.awaited.values())

    @invariant()
    def the_locks_are_as_the_model_says(self) -> None:
        """State, holder and number of waiting threads are right."""
        for number, lock in enumerate(self.locks):
            worker = self.holder[number]
            assert lock.locked() == (worker is not None)
            assert lock.waiting == self.waiting_for(number)
            holder = lock.holder
            assert (holder and holder.name) == (None if worker is None else f"worker {worker}")
            assert not lock.held_by_me()

    def teardown(self) -> None:
        """Release everything; then every waiter must succeed."""
        for _ in range(WORKERS * LOCKS * 100):
            for lock in range(LOCKS):
                worker = self.holder[lock]
                if worker is not None and worker not in self.awaited:
                    self.let_go(worker, lock, leaves=False)
        assert not self.awaited
        assert not any(lock.locked() for lock in self.locks)
        for stopping in self.workers:
            stopping.stop()
        assert not any(thread.name.startswith("worker ") for thread in threading.enumerate())


class ReentrantPrograms(Programs):
    """The same with reentrant locks."""

    kind = TimedRLock


pytestmark = pytest.mark.inverts  # the programs deadlock at random
# Without a database, which would be a folder that the tests leave behind.
few = settings(max_examples=60, stateful_step_count=25, deadline=None, database=None)
TestTimedLock = Programs.TestCase
TestTimedLock.settings = few
TestTimedRLock = ReentrantPrograms.TestCase
TestTimedRLock.settings = few
