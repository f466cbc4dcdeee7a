"""Random programs of four threads and a lock that several may hold at once, against a model of its line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty
from typing import Any, ClassVar, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from locks.actors import Worker, eventually
from syncprims import DeadlockError, LockTimeoutError, QueuedLock, TimedRWLock, TimedSemaphore

WORKERS: Final = 4
PERMITS: Final = 2

workers = st.integers(0, WORKERS - 1)


class Lines(RuleBasedStateMachine):
    """The model: the holds, and the waits in the order of arrival."""

    kinds: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        """Begin with a free lock and idle workers."""
        super().__init__()
        self.thing: Any = self.make()
        self.workers = [Worker(f"worker {number}") for number in range(WORKERS)]
        self.held: list[tuple[int, str]] = []
        self.line: list[tuple[int, str]] = []

    def make(self) -> Any:
        """Make the lock."""
        raise NotImplementedError

    def entering(self, kind: str, timeout: float | None) -> Any:
        """The object to enter."""
        raise NotImplementedError

    def fits(self, worker: int, kind: str) -> bool:
        """Whether one more hold fits, even if threads wait."""
        raise NotImplementedError

    def overtakes(self, worker: int) -> bool:
        """Whether the worker goes in even if others wait."""
        raise NotImplementedError

    def refused(self, worker: int, kind: str) -> bool:
        """Whether a wait of the worker would be a deadlock."""
        raise NotImplementedError

    def is_waiting(self, worker: int) -> bool:
        """Whether the worker waits in the model."""
        return any(each == worker for each, _ in self.line)

    def goes_in(self, worker: int, kind: str) -> bool:
        """Whether the worker goes in at once; then it does in the model too."""
        if self.overtakes(worker) or (not self.line and self.fits(worker, kind)):
            self.held.append((worker, kind))
            return True
        return False

    @rule(worker=workers, data=st.data(), timeout=st.sampled_from([0, 0.001]))
    def try_to_enter(self, worker: int, data: st.DataObject, timeout: float) -> None:
        """A try, or a wait with a limit that no thread ends: in, late, or a deadlock."""
        kind = data.draw(st.sampled_from(self.kinds))
        if self.is_waiting(worker):
            return
        refused = self.refused(worker, kind)
        expected = self.goes_in(worker, kind)
        outcome = self.workers[worker].do(self.entering(kind, timeout).__enter__)
        if expected:
            assert outcome is self.thing
        elif refused:
            assert isinstance(outcome, (DeadlockError, LockTimeoutError))
        else:
            assert isinstance(outcome, LockTimeoutError)
            assert {holder.name for holder in outcome.holders} == {f"worker {each}" for each, _ in self.held}

    @rule(worker=workers, data=st.data())
    def enter(self, worker: int, data: st.DataObject) -> None:
        """A wait without a limit: in, a deadlock at once, or a place in the line."""
        kind = data.draw(st.sampled_from(self.kinds))
        if self.is_waiting(worker):
            return
        order = self.entering(kind, None).__enter__
        refused = self.refused(worker, kind)
        if self.goes_in(worker, kind):
            assert self.workers[worker].do(order) is self.thing
        elif refused:
            assert isinstance(self.workers[worker].do(order), DeadlockError)
        else:
            self.line.append((worker, kind))
            self.workers[worker].begin(order)
            eventually(lambda: self.thing.waiting == len(self.line))

    @rule(worker=workers, data=st.data())
    def leave(self, worker: int, data: st.DataObject) -> None:
        """Leave a hold, which lets in those at the front of the line that fit; or an error."""
        kind = data.draw(st.sampled_from(self.kinds))
        if not self.is_waiting(worker):
            self.let_go(worker, kind)

    def let_go(self, worker: int, kind: str) -> None:
        """Leave in the model and in fact."""
        token = self.entering(kind, 0)
        outcome = self.workers[worker].do(lambda: token.__exit__(None, None, None))
        if (worker, kind) not in self.held:
            assert isinstance(outcome, (ValueError, RuntimeError))
            return
        assert not outcome
        self.held.remove((worker, kind))
        while self.line and self.fits(*self.line[0]):
            first, what = self.line.pop(0)
            assert self.outcome_of(first) is self.thing
            self.held.append((first, what))

    def outcome_of(self, worker: int) -> object:
        """The outcome of its wait."""
        found: list[object] = []

        def look() -> bool:
            try:
                found.append(self.workers[worker].outcome(timeout=0))
            except Empty:
                return False
            return True

        eventually(look)
        return found[0]

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        """The holders and the number of waiting threads are right."""
        assert {holder.name for holder in self.thing.holders} == {f"worker {each}" for each, _ in self.held}
        assert self.thing.waiting == len(self.line)

    def teardown(self) -> None:
        """Release everything; then all waiting threads must succeed."""
        while self.held:
            worker, kind = next(each for each in self.held if not self.is_waiting(each[0]))
            self.let_go(worker, kind)
        assert not self.line
        for stopping in self.workers:
            stopping.stop()
        assert not any(thread.name.startswith("worker ") for thread in threading.enumerate())


class Permits(Lines):
    """A semaphore with two permits."""

    kinds = ("permit",)

    def make(self) -> Any:
        """Make the semaphore."""
        return TimedSemaphore(PERMITS)

    def entering(self, kind: str, timeout: float | None) -> Any:
        """The object to enter."""
        return self.thing.hold(timeout)

    def fits(self, worker: int, kind: str) -> bool:
        """Whether a permit is free."""
        return len(self.held) < PERMITS

    def overtakes(self, worker: int) -> bool:
        """No thread does."""
        return False

    def refused(self, worker: int, kind: str) -> bool:
        """All permits belong to waiting threads, or to this one."""
        return len(self.held) == PERMITS and all(each == worker or self.is_waiting(each) for each, _ in self.held)

    @invariant()
    def permits_are_counted(self) -> None:
        """The rest is free."""
        assert self.thing.value == PERMITS - len(self.held)


class Boards(Lines):
    """A reader-writer lock."""

    kinds = ("read", "write")

    def make(self) -> Any:
        """Make the lock."""
        return TimedRWLock()

    def entering(self, kind: str, timeout: float | None) -> Any:
        """The object to enter."""
        method: Callable[[float | None], Any] = getattr(self.thing, kind)
        return method(timeout)

    def mine(self, worker: int) -> set[str]:
        """The side that it holds."""
        return {kind for each, kind in self.held if each == worker}

    def fits(self, worker: int, kind: str) -> bool:
        """Whether it fits beside the others."""
        others = {what for each, what in self.held if each != worker}
        return "write" not in others if kind == "read" else not others

    def goes_in(self, worker: int, kind: str) -> bool:
        """As in the base class; but a reader does not become a writer."""
        return not self.refused(worker, kind) and super().goes_in(worker, kind)

    def overtakes(self, worker: int) -> bool:
        """A thread that is in may enter again."""
        return bool(self.mine(worker))

    def refused(self, worker: int, kind: str) -> bool:
        """A reader wants to write."""
        return kind == "write" and self.mine(worker) == {"read"}

    @invariant()
    def sides_are_told(self) -> None:
        """The two properties say whether any thread reads or writes."""
        kinds = [kind for _, kind in self.held]
        assert (self.thing.read_locked(), self.thing.write_locked()) == ("read" in kinds, "write" in kinds)


class Rooms(QueuedLock):
    """Lets in threads of one kind together."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return all(each == kind for each in kinds)


class Doors(Lines):
    """A lock of the user's own."""

    kinds = ("0", "1")

    def make(self) -> Any:
        """Make the lock."""
        return Rooms()

    def entering(self, kind: str, timeout: float | None) -> Any:
        """The object to enter."""
        return self.thing.of(int(kind), timeout)

    def fits(self, worker: int, kind: str) -> bool:
        """Whether only holds of its kind are in."""
        return all(what == kind for _, what in self.held)

    def goes_in(self, worker: int, kind: str) -> bool:
        """As in the base class; but only once."""
        return not self.refused(worker, kind) and super().goes_in(worker, kind)

    def overtakes(self, worker: int) -> bool:
        """No thread does."""
        return False

    def refused(self, worker: int, kind: str) -> bool:
        """The worker is in."""
        return any(each == worker for each, _ in self.held)

    def let_go(self, worker: int, kind: str) -> None:
        """A thread leaves the room that it is in, by any door."""
        super().let_go(worker, next((what for each, what in self.held if each == worker), kind))

    @invariant()
    def it_is_locked_if_any_thread_is_in(self) -> None:
        """Otherwise it is free."""
        assert self.thing.locked() is bool(self.held)


pytestmark = pytest.mark.inverts  # the programs deadlock at random
some = settings(max_examples=12, stateful_step_count=30, deadline=None, database=None)
many = settings(some, max_examples=200, stateful_step_count=60)


@pytest.mark.parametrize("machine", [Permits, Boards, Doors])
def test_random_programs_agree_with_the_model(machine: type[Lines]) -> None:
    """Each step of each program has the outcome of the model."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=some)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [Permits, Boards, Doors])
def test_many_random_programs_agree_with_the_model(machine: type[Lines]) -> None:
    """The same, many times."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=many)
