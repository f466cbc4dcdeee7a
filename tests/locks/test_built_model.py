"""Random programs of three threads at a `Guarded`, a `SingleFlight` and functions under `once`, against models."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from threading import Event
from typing import Any, ClassVar, Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from locks.actors import LIMIT, Worker, eventually, wait_for
from locks.shared_calls import is_raised_in_all, waiting
from syncprims import DeadlockError, Guarded, LockTimeoutError, SingleFlight, once
from syncprims._core import foreign

WORKERS: Final = 3
KEYS: Final = 2

workers = st.integers(0, WORKERS - 1)
keys = st.integers(0, KEYS - 1)
numbers = st.integers(-5, 5)


class Values(RuleBasedStateMachine):
    """The model of a guarded value: the value, its holder, and the waiting updates."""

    def __init__(self) -> None:
        """Begin with 0, free."""
        super().__init__()
        self.guarded = Guarded(0)
        self.workers = [Worker(f"caller {number}") for number in range(WORKERS)]
        self.value = 0
        self.holder: int | None = None
        self.updates: dict[int, int] = {}  # by worker

    @rule(worker=workers, number=numbers)
    def update(self, worker: int, number: int) -> None:
        """It happens at once if the value is free; it is a deadlock if this thread holds it, and waits otherwise."""
        if worker in self.updates:
            return
        if self.holder is None:
            self.value += number
            assert self.workers[worker].do(lambda: self.guarded.update(lambda value: value + number)) == self.value
        elif self.holder == worker:
            assert isinstance(self.workers[worker].do(lambda: self.guarded.update(abs)), DeadlockError)
        else:
            self.updates[worker] = number
            self.workers[worker].begin(lambda: self.guarded.update(lambda value: value + number))
            eventually(lambda: self.guarded.waiting == len(self.updates))

    @rule(worker=workers)
    def fail_to_update(self, worker: int) -> None:
        """The function's exception is raised, and the value does not change."""
        if worker not in self.updates and self.holder is None:
            assert isinstance(self.workers[worker].do(lambda: self.guarded.update(lambda _: 1 // 0)), ZeroDivisionError)

    @rule(worker=workers, timeout=st.sampled_from([0, 0.001]))
    def enter(self, worker: int, timeout: float) -> None:
        """The value is returned if it is free."""
        if worker in self.updates:
            return
        outcome = self.workers[worker].do(self.guarded.hold(timeout).__enter__)
        if self.holder is None:
            self.holder = worker  # before the check: the end of the test leaves it also if that fails
            assert outcome == self.value
        else:
            assert isinstance(outcome, DeadlockError if self.holder == worker else LockTimeoutError)

    @rule(worker=workers, number=numbers)
    def replace(self, worker: int, number: int) -> None:
        """Only the thread that holds the value can set or get it."""
        if worker in self.updates:
            return
        outcome = self.workers[worker].do(lambda: self.set_and_get(number))
        if self.holder == worker:
            assert outcome == number
            self.value = number
        else:
            assert isinstance(outcome, RuntimeError)

    def set_and_get(self, number: int) -> int:
        """Set the value, and get it."""
        self.guarded.value = number
        return self.guarded.value

    @rule(worker=workers)
    def leave(self, worker: int) -> None:
        """The waiting updates happen, one after the other in any order."""
        if worker in self.updates:
            return
        outcome = self.workers[worker].do(lambda: self.guarded.__exit__(None, None, None))
        if self.holder != worker:
            assert isinstance(outcome, RuntimeError)
            return
        assert not outcome
        self.holder = None
        found = {each: self.workers[each].outcome() for each in self.updates}
        assert any(self.results(order) == found for order in permutations(self.updates))
        self.value += sum(self.updates.values())
        self.updates = {}

    def results(self, order: tuple[int, ...]) -> dict[int, int]:
        """The results of the updates in this order."""
        value = self.value
        return {worker: (value := value + self.updates[worker]) for worker in order}

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        """The holder and the number of waiting threads are right."""
        holder = self.guarded.holder
        assert (holder and holder.name) == (None if self.holder is None else f"caller {self.holder}")
        assert self.guarded.waiting == len(self.updates)

    def teardown(self) -> None:
        """Leave, so that all updates happen."""
        if self.holder is not None:
            self.leave(self.holder)
        with self.guarded.hold(LIMIT) as value:
            assert value == self.value
        for worker in self.workers:
            worker.stop()


class Run:
    """A run of a shared function, which ends when it is told to."""

    def __init__(self) -> None:
        """Begin."""
        self.begun, self.go = Event(), Event()
        self.outcome: object = None

    def __call__(self) -> object:
        """Wait until it may end."""
        assert not self.begun.is_set(), "two threads run it"
        self.begun.set()
        wait_for(self.go)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Calls(RuleBasedStateMachine):
    """The model of shared calls: which thread runs the function of a key, and which threads wait for it."""

    keeps: ClassVar[bool]  # whether a result is kept

    def __init__(self) -> None:
        """Begin with idle workers."""
        super().__init__()
        self.workers = [Worker(f"caller {number}") for number in range(WORKERS)]
        self.callers: dict[int, list[int]] = {key: [] for key in range(KEYS)}  # the first one runs it
        self.runs: dict[int, Run] = {}
        self.results: dict[int, object] = {}

    def call(self, key: int) -> Any:
        """The call of a thread."""
        raise NotImplementedError

    @rule(worker=workers, key=keys)
    def ask(self, worker: int, key: int) -> None:
        """Get the kept result, wait for the run, or be the thread that runs the function."""
        if any(worker in callers for callers in self.callers.values()):
            return
        if key in self.results:
            assert self.workers[worker].do(lambda: self.call(key)) is self.results[key]
            return
        if not self.callers[key]:
            self.runs[key] = Run()
        self.callers[key].append(worker)
        self.workers[worker].begin(lambda: self.call(key))
        wait_for(self.runs[key].begun)
        eventually(lambda: waiting() == self.waiters())

    @rule(key=keys, fails=st.booleans())
    def end(self, key: int, fails: bool) -> None:
        """All callers get the outcome; only a result may be kept."""
        callers, self.callers[key] = self.callers[key], []
        if not callers:
            return
        run = self.runs.pop(key)
        run.outcome = LookupError() if fails else object()
        run.go.set()
        outcomes = [self.workers[worker].outcome() for worker in callers]
        if isinstance(run.outcome, BaseException):
            assert is_raised_in_all(run.outcome, outcomes)  # the first caller ran the function
        else:
            assert all(outcome is run.outcome for outcome in outcomes)
        if self.keeps and not fails:
            self.results[key] = run.outcome

    def waiters(self) -> int:
        """How many threads wait for others to run something."""
        return sum(max(0, len(callers) - 1) for callers in self.callers.values())

    @invariant()
    def all_others_wait(self) -> None:
        """In each run, all callers but one wait."""
        assert waiting() == self.waiters()

    def teardown(self) -> None:
        """End all runs."""
        for key in range(KEYS):
            self.end(key, False)
        for worker in self.workers:
            worker.stop()


class Flights(Calls):
    """It keeps no result."""

    keeps = False

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.flight: SingleFlight[int, object] = SingleFlight()

    def call(self, key: int) -> Any:
        """Ask for it."""
        return self.flight.do(key, self.runs[key])


class Onces(Calls):
    """Functions under `once` keep their results."""

    keeps = True

    def __init__(self) -> None:
        """Make one for each key."""
        super().__init__()
        self.functions = [once(partial(self.run, key)) for key in range(KEYS)]

    def run(self, key: int) -> object:
        """Run the function of a key."""
        return self.runs[key]()

    def call(self, key: int) -> Any:
        """Call it."""
        return self.functions[key]()


some = settings(max_examples=12, stateful_step_count=30, deadline=None, database=None)
many = settings(some, max_examples=200, stateful_step_count=60)
each_machine = pytest.mark.parametrize("machine", [Values, Flights, Onces])


@each_machine
def test_random_programs_agree_with_the_model(machine: type[RuleBasedStateMachine]) -> None:
    """Each step of each program has the outcome of the model."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=some)


@pytest.mark.parametrize("machine", [Flights, Onces])
def test_they_agree_too_if_each_thread_needs_its_own_exception(
    machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.13 needs that without the GIL."""
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setattr(foreign, "SEVERAL_MAY_RAISE", False)
    run_state_machine_as_test(machine, settings=some)


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_machine
def test_many_random_programs_agree_with_the_model(machine: type[RuleBasedStateMachine]) -> None:
    """The same, many times."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=many)


class LosesUpdates(Guarded[int]):
    """A broken control: it returns the new value, and keeps the old one."""

    def update(self, fn: Any) -> int:
        """Replace the value."""
        with self as value:
            new: int = fn(value)
        return new


class RunsAgain(SingleFlight[int, object]):
    """A broken control: each caller runs the function."""

    def do(self, key: int, fn: Any) -> Any:
        """Run it."""
        return fn()


@pytest.mark.parametrize("machine", [Values, Flights])
def test_broken_versions_do_not_agree(machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """These are the controls."""
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setitem(globals(), "Guarded", LosesUpdates)
    monkeypatch.setitem(globals(), "SingleFlight", RunsAgain)
    if machine is Flights:
        monkeypatch.setattr("locks.actors.LIMIT", 0.5)  # the awaited event never comes
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:  # a group if there are several
        run_state_machine_as_test(machine, settings=settings(some, max_examples=50, phases=[Phase.generate]))
    assert {type(each) for each in getattr(caught.value, "exceptions", [caught.value])} == {AssertionError}
