"""Off means free: the classes have the observed methods only while an observer is on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import Parameter, signature
from typing import Any, Self, get_args

import pytest

from locks.actors import LIMIT, Actors
from programs import environment
from syncprims import CallbackPool, LockAdapter, TimedLock, TimedRLock, acquire_all, compiled
from syncprims._core.observing import Kind, declared
from syncprims._core.waits import Waiting
from syncprims._runner.sequence import Sequence
from syncprims._runner.steps import StepContext
from syncprims.callback_pool.dispatcher import Dispatcher
from syncprims.callback_pool.job import Job
from syncprims.diagnostics import check_lock_order, record
from syncprims.diagnostics.exchange import Unseen

Observe = Callable[[], AbstractContextManager[Any]]

EXCHANGED = (TimedLock, TimedRLock, LockAdapter, Waiting, Sequence, StepContext, Job, Dispatcher)


def everything() -> list[dict[str, object]]:
    """All attributes of the classes and modules."""
    return [{**vars(place)} for place in EXCHANGED]


def same(one: list[dict[str, object]], other: list[dict[str, object]]) -> bool:
    """Whether both are the very same objects under the same names."""
    return all(a.keys() == b.keys() and all(a[name] is b[name] for name in a) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("observe", [record, check_lock_order, lambda: check_lock_order("warn")])
def test_the_same_functions_are_there_before_and_after(observe: Observe) -> None:
    """While observed the lock has other methods, and afterwards the same function objects as before."""
    before = everything()
    with observe():
        assert not same(before, everything())
        assert "release" in vars(TimedLock)
    assert same(before, everything())
    assert ("release" in vars(TimedLock)) == compiled
    assert ("__exit__" in vars(TimedLock)) == compiled


def arguments_of(method: Callable[..., object]) -> tuple[list[str], dict[str, str]]:
    """Arguments for a call that gives everything by name that can be given by name, except what has to be there."""
    try:
        parameters = signature(method).parameters.values()
    except ValueError:  # a method in C, whose arguments have no names
        return [], {}
    positional = [each.name for each in parameters if each.default is Parameter.empty and each.kind in BY_POSITION]
    named = [each.name for each in parameters if each.kind in BY_NAME and each.name not in positional]
    return positional, dict(zip(named, named, strict=True))


BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def test_observed_methods_take_the_arguments_that_the_methods_take() -> None:
    """An argument that the library gives by name, such as the time at which a job begins, is not refused."""
    methods = {(owner, name) for kind in get_args(Kind) for owner, name, _ in declared(kind)}
    calls = {(owner, name): arguments_of(getattr(owner, name)) for owner, name in methods}
    assert "now" in calls[Job, "begin"][1]
    with record(), check_lock_order():
        for (owner, name), (positional, named) in calls.items():
            if positional:
                signature(getattr(owner, name)).bind(*positional, **named)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_tasks_of_a_pool_end_while_they_are_recorded(executor: Any) -> None:
    """The observed methods of a job are called as the workers call them."""
    with record() as recording, CallbackPool(executor, max_workers=1, name="pool") as pool:
        assert pool.submit(abs, -5).result(LIMIT) == 5
        assert isinstance(pool.submit(divmod, 1, 0).exception(LIMIT), ZeroDivisionError)
    assert [span.name for span in recording.spans if span.kind == "task"] == ["pool: abs", "pool: divmod"]


def test_a_token_that_was_used_before_is_observed_too() -> None:
    """The result of `hold` is observed while an observer is on, and bypasses the methods again afterwards."""
    lock = TimedLock(name="kept")
    token = lock.hold(1.0)
    for _ in range(3):
        with token:
            pass
    with record() as recording:
        with token:
            pass
        with token, record() as second:
            assert not second.spans
    with token:
        pass
    assert [(span.kind, span.name) for span in recording.spans] == [("hold", "kept")] * 2


def test_a_class_that_is_made_while_somebody_observes_keeps_pythons_way_in() -> None:
    """A subclass that enters by the inherited `__enter__` gets Python's, even if it is the first one."""
    program = """
import sys
from syncprims import TimedLock, diagnostics
before = vars(TimedLock)["__enter__"]
with diagnostics.record():
    class Above(TimedLock):
        def __enter__(self):
            self.inner = super().__enter__
            return self.inner()
with Above() as lock:
    print(type(lock.inner.__func__).__name__)
with TimedLock():
    print(type(before).__name__, type(vars(TimedLock)["__enter__"]).__name__)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    entered_in_c = compiled and sys.version_info[:2] != (3, 14)
    expected = "function\nmethod_descriptor Entrance\n" if entered_in_c else "function\nfunction function\n"
    assert (ran.stdout, ran.stderr) == (expected, "")


def test_they_are_put_back_after_an_error() -> None:
    """They are put back even after an exception in the observed block."""
    before = everything()
    with pytest.raises(ZeroDivisionError), record():
        raise ZeroDivisionError
    assert same(before, everything())


@pytest.mark.parametrize("first_out", [0, 1, 2])
def test_observations_overlap_and_end_in_any_order(first_out: int) -> None:
    """Each of two recordings and a check sees the events while it is on; the last one puts everything back."""
    before = everything()
    lock = TimedLock(name="watched")
    observations: list[Any] = [record(), check_lock_order(), record()]
    for observation in observations:
        observation.__enter__()
    with lock:
        pass
    first = observations.pop(first_out)
    first.__exit__(None, None, None)
    assert not same(before, everything())
    with lock:
        pass
    for observation in observations:
        observation.__exit__(None, None, None)
    assert same(before, everything())
    for recording in [first, *observations]:
        if hasattr(recording, "spans"):
            assert len(recording.spans) == (1 if recording is first else 2)


def test_ending_twice_does_no_harm() -> None:
    """A second end of an observation changes nothing, even if another is on."""
    check, before = check_lock_order(), everything()
    check.__enter__()
    check.__exit__(None, None, None)
    with record():
        check.__exit__(None, None, None)
        assert not same(before, everything())
    assert same(before, everything())


def test_a_block_may_outlive_the_observation_and_begin_before_it() -> None:
    """A with that began while observed ends well afterwards, and one that began before ends well while observed."""
    early, late = TimedLock(), TimedLock()
    recording = record()
    early.__enter__()
    recording.__enter__()
    leave = late.__exit__
    late.__enter__()
    early.__exit__(None, None, None)
    recording.__exit__(None, None, None)
    leave(None, None, None)
    assert not early.locked()
    assert not late.locked()
    assert [span.outcome for span in recording.spans] == ["not over"]


def test_a_condition_made_while_observed_works_on() -> None:
    """A threading.Condition keeps the methods that it found; they go on working when no observer is on."""
    with record():
        condition = threading.Condition(TimedLock(name="mailbox"))  # type: ignore[arg-type]  # any lock works
    assert condition.acquire()
    condition.release()
    mail: list[str] = []

    def take() -> str:
        with condition:
            assert condition.wait_for(lambda: mail, timeout=20.0)
            return mail.pop()

    with Actors() as actors:
        taking = actors.start(take)
        with condition:
            mail.append("letter")
            condition.notify()
        assert taking.result() == "letter"


class Counted(TimedLock):
    """A subclass that overrides everything that it can."""

    def __init__(self) -> None:
        super().__init__(name="counted")
        self.calls: list[str] = []

    def __enter__(self) -> Self:
        self.calls.append("enter")
        return super().__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self.calls.append("exit")
        super().__exit__(*exc_info)

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        self.calls.append("acquire")
        return super().acquire(blocking, timeout)

    def release(self) -> None:
        self.calls.append("release")
        super().release()

    def _on_acquired(self, waited: float) -> None:
        self.calls.append("acquired")


def test_what_a_subclass_overrides_is_called_all_the_same() -> None:
    """Overridden methods and hooks of a subclass are called as usual while observed, and each hold is seen once."""

    def use(lock: Counted) -> list[str]:
        with lock:
            pass
        assert lock.acquire()
        lock.release()
        with lock.hold(1.0), pytest.raises(RuntimeError, match="with the lock"):
            raise RuntimeError("with the lock")
        with acquire_all(lock):
            pass
        return lock.calls

    unobserved = use(Counted())
    lock = Counted()
    with record() as recording, check_lock_order():
        assert use(lock) == unobserved
    assert [(span.kind, span.outcome) for span in recording.spans] == [("hold", "")] * 4
    assert not lock.locked()


def test_errors_of_the_lock_are_the_same_while_observed() -> None:
    """A lock refuses the same things while observed, and its state does not change."""
    lock, again = TimedLock(name="strict"), TimedRLock()
    with record() as recording, check_lock_order():
        with pytest.raises(RuntimeError):
            lock.release()
        with pytest.raises(ValueError, match="non-blocking"):
            lock.acquire(False, 1)
        with lock:
            assert not lock.acquire(blocking=False)
            with pytest.raises(RuntimeError, match="already held"):
                lock.acquire()
            assert lock.held_by_me()
        assert not lock.locked()
        with again:
            with again:
                assert again.held_by_me()
            assert again.held_by_me()
        assert not again.locked()
    assert [span.name for span in recording.spans if span.kind == "hold"] == ["strict", again.name]


def test_our_own_mutex_is_never_observed() -> None:
    """The lock that guards the diagnostics keeps its methods, or the observer would observe itself."""
    lock = Unseen(name="own")
    with record() as recording, lock:
        assert lock.held_by_me()
    assert recording.spans == []
