"""The guarantees for a subclass of the locks: its hooks, and which methods call its overrides."""

from __future__ import annotations

import _thread
import inspect
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

import pytest

import syncprims
from locks.actors import LIMIT, Actors, condition_over, eventually, held_elsewhere, take_and_let_go
from syncprims import (
    DeadlockError,
    Holder,
    LockAdapter,
    LockTimeoutError,
    TimedLock,
    TimedRLock,
    acquire_all,
    adapters,
)
from syncprims._core.speedups import core

both = pytest.mark.parametrize("kind", [TimedLock, TimedRLock])

Enter = Callable[[TimedLock], AbstractContextManager[object]]
WITH: Enter = lambda lock: lock  # noqa: E731  one of several
HOLD: Enter = lambda lock: lock.hold(0.02)  # noqa: E731
ALL: Enter = lambda lock: acquire_all(lock, timeout=0.02)  # noqa: E731
each_with = pytest.mark.parametrize("enter", [WITH, HOLD, ALL], ids=["with", "hold", "acquire_all"])


class Interrupt(BaseException):
    """An exception that no `except Exception` catches."""


def observed(kind: type[TimedLock]) -> tuple[type[TimedLock], list[tuple[Any, ...]]]:
    """A subclass whose hooks record their arguments, their thread, and the state of the lock."""
    calls: list[tuple[Any, ...]] = []

    class Observed(kind):  # type: ignore[misc,valid-type]  # a parameter
        def _on_wait(self, holder: Holder | None) -> None:
            calls.append(("wait", holder and holder.name, self.held_by_me(), threading.current_thread().name))

        def _on_acquired(self, waited: float) -> None:
            calls.append(("acquired", waited, self.held_by_me(), threading.current_thread().name))

        def _on_timeout(self, error: LockTimeoutError) -> None:
            calls.append(("timeout", error, self.held_by_me(), threading.current_thread().name))

    return Observed, calls


# -- hooks --------------------------------------------------------------------------------------------------------


@both
@each_with
def test_an_acquisition_without_a_wait_calls_on_acquired_with_zero(kind: type[TimedLock], enter: Enter) -> None:
    """It is exactly 0.0, in the thread that has the lock, and no other hook is called."""
    observed_kind, calls = observed(kind)
    lock = observed_kind()
    with enter(lock):
        pass
    assert calls == [("acquired", 0.0, True, threading.current_thread().name)]
    lock.acquire(False)
    lock.release()
    lock.acquire(timeout=1.0)
    lock.release()
    assert [call[0] for call in calls] == ["acquired"] * 3


@both
def test_a_wait_calls_on_wait_then_on_acquired(kind: type[TimedLock]) -> None:
    """The first gets the holder, before the thread blocks; the second, with the lock held, gets the waiting time."""
    observed_kind, calls = observed(kind)
    lock = observed_kind()

    def enter() -> None:
        with lock:
            pass

    with Actors() as actors, held_elsewhere(lock, "owner") as let_go:
        calls.clear()
        actors.start(enter, "waiter")
        eventually(lambda: lock.waiting == 1)
        assert calls == [("wait", "owner", False, "waiter")]
        let_go()
    assert [call[0] for call in calls] == ["wait", "acquired"]
    assert 0 < calls[1][1] < LIMIT
    assert calls[1][2:] == (True, "waiter")


@both
@each_with
def test_a_timeout_calls_on_timeout_with_the_error_that_is_raised(kind: type[TimedLock], enter: Enter) -> None:
    """It is the same object, in the thread that gets it, which does not hold the lock."""
    observed_kind, calls = observed(kind)
    lock = observed_kind(timeout=0.02)
    with held_elsewhere(lock, "owner"):
        calls.clear()
        with pytest.raises(LockTimeoutError) as caught, enter(lock):
            pytest.fail("the body ran without the lock")
    me = threading.current_thread().name
    assert calls == [("wait", "owner", False, me), ("timeout", caught.value, False, me)]


@both
def test_acquire_that_fails_calls_no_on_timeout(kind: type[TimedLock]) -> None:
    """It raises no error that the hook could get before; a try does not wait either."""
    observed_kind, calls = observed(kind)
    lock = observed_kind()
    with held_elsewhere(lock):
        calls.clear()
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0)
        assert calls == []
        assert not lock.acquire(timeout=0.01)
    assert [call[0] for call in calls] == ["wait"]


def test_entering_again_calls_on_acquired_where_the_lock_is_reentrant() -> None:
    """Each acquisition counts, including the repeated ones."""
    observed_kind, calls = observed(TimedRLock)
    lock = observed_kind()
    with lock, lock.hold(1.0):
        lock.acquire()
        lock.release()
    assert [call[:3] for call in calls] == [("acquired", 0.0, True)] * 3


@both
@pytest.mark.parametrize("hook", ["_on_wait", "_on_acquired", "_on_timeout"])
@pytest.mark.parametrize("error", [ValueError, Interrupt])
@pytest.mark.parametrize("enter", [WITH, HOLD, ALL], ids=["with", "hold", "acquire_all"])
def test_a_hook_that_raises_leaves_the_lock_untaken(
    kind: type[TimedLock], hook: str, error: type[BaseException], enter: Enter
) -> None:
    """The caller gets its exception, no thread keeps waiting, and the lock works as before."""

    def fail(self: TimedLock, *arguments: object) -> None:
        raise error

    failing = type("Failing", (kind,), {hook: fail})
    lock = failing(timeout=0.02)
    if hook == "_on_acquired":
        with pytest.raises(error), enter(lock):
            pytest.fail("the body ran")
        with pytest.raises(error):
            lock.acquire()
        with pytest.raises(error):
            lock.acquire(False)
        assert not lock.locked()
    else:
        with held_elsewhere(lock):
            with pytest.raises(error), enter(lock):
                pytest.fail("the body ran")
            assert not lock.held_by_me()
            assert lock.waiting == 0
        with enter(lock):
            assert lock.held_by_me()
    assert not lock.locked()


def test_on_acquired_that_raises_undoes_only_its_own_acquisition() -> None:
    """A reentrant lock stays held as often as before."""

    class Twice(TimedRLock):
        def _on_acquired(self, waited: float) -> None:
            if self.held == 2:
                raise ValueError
            self.held += 1

        held = 0

    lock = Twice()
    with lock, lock:
        for attempt in (lock.__enter__, lock.acquire, lock.hold(1.0).__enter__):
            with pytest.raises(ValueError, match=r"^$"):
                attempt()
            assert lock.held_by_me()
    assert not lock.locked()


@both
def test_hooks_of_a_mixin_count(kind: type[TimedLock]) -> None:
    """They may come from any base, also an indirect one."""
    waits: list[float] = []

    class Mixin:
        def _on_acquired(self, waited: float) -> None:
            waits.append(waited)

    class Mixed(Mixin, kind):  # type: ignore[misc,valid-type]  # a parameter
        pass

    class Further(Mixed):
        pass

    with Further():
        assert waits == [0.0]


@both
def test_a_hook_may_use_other_locks_and_the_public_surface(kind: type[TimedLock]) -> None:
    """None of the library's locks is held while a hook runs."""
    other = TimedLock()
    seen: list[object] = []

    class Curious(kind):  # type: ignore[misc,valid-type]  # a parameter
        def _on_acquired(self, waited: float) -> None:
            with other, kind():
                seen.append((repr(self).startswith("<locked"), self.holder, self.waiting, self.name))

    with Curious():
        pass
    assert len(seen) == 1


# -- free unless overridden ---------------------------------------------------------------------------------------


@both
@pytest.mark.skipif("SYNCPRIMS_LOCK_ORDER" in os.environ, reason="a check exchanges what is compared here")
def test_what_is_not_overridden_costs_nothing(kind: type[TimedLock]) -> None:
    """The first try of a lock without hooks is C's acquire itself, and leaving is C's too."""
    c_lock: Any = _thread.RLock if core is None else core.Lock

    class Plain(kind):  # type: ignore[misc,valid-type]  # a parameter
        pass

    class OtherHooks(kind):  # type: ignore[misc,valid-type]  # a parameter
        def _on_wait(self, holder: Holder | None) -> None: ...

        def _on_timeout(self, error: LockTimeoutError) -> None: ...

    for free in (kind, Plain, OtherHooks):
        assert free._try is c_lock.acquire
        assert type(free.release) is type(c_lock.release)
        assert type(free.__exit__) is type(c_lock.__exit__)
    observed_kind, _ = observed(kind)
    assert observed_kind._try is not c_lock.acquire
    assert type(observed_kind.release) is type(c_lock.release)
    assert not kind._overrides_on_wait
    assert observed_kind._overrides_on_wait


@both
def test_a_lock_has_no_dictionary(kind: type[TimedLock]) -> None:
    """Its own class has slots; a subclass may have attributes."""
    with pytest.raises(AttributeError):
        kind().anything = 1  # type: ignore[attr-defined]  # the point of the test

    class Open(kind):  # type: ignore[misc,valid-type]  # a parameter
        pass

    lock = Open()
    lock.anything = 1
    assert lock.anything == 1


@both
def test_a_subclass_may_have_a_constructor_of_its_own(kind: type[TimedLock]) -> None:
    """It has its own arguments, by position and by name."""

    class Ledger(kind):  # type: ignore[misc,valid-type]  # a parameter
        def __init__(self, owner: str, *, limit: float) -> None:
            super().__init__(limit, name=f"ledger of {owner}")

    lock = Ledger("Ada", limit=2.0)
    assert (lock.name, lock.timeout) == ("ledger of Ada", 2.0)
    with lock:
        pass


# -- overriding public methods ------------------------------------------------------------------------------------


def overriding(kind: type[TimedLock]) -> tuple[TimedLock, list[str]]:
    """A lock that records which of its overridden public methods are called."""
    calls: list[str] = []

    class Overriding(kind):  # type: ignore[misc,valid-type]  # a parameter
        def acquire(self, *arguments: Any, **options: Any) -> bool:
            calls.append("acquire")
            return bool(super().acquire(*arguments, **options))

        def release(self) -> None:
            calls.append("release")
            super().release()

        def __enter__(self) -> Self:
            calls.append("__enter__")
            super().__enter__()
            return self

        def __exit__(self, *exc_info: object) -> None:
            calls.append("__exit__")
            super().__exit__(*exc_info)

        def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
            calls.append("hold")
            return super().hold(timeout)  # type: ignore[no-any-return]  # its base is a parameter

    return Overriding(), calls


@both
def test_overridden_methods_are_reached_as_documented(kind: type[TimedLock]) -> None:
    """They do not call each other: each way to enter calls those that the Subclassing section lists, and no more."""
    lock, calls = overriding(kind)

    def of(action: Callable[[], object]) -> list[str]:
        calls.clear()
        action()
        assert not lock.locked()
        return [*calls]

    def inside(manager: AbstractContextManager[object]) -> Callable[[], None]:
        def enter() -> None:
            with manager:
                assert lock.held_by_me()

        return enter

    assert of(inside(lock)) == ["__enter__", "__exit__"]
    assert of(inside(lock.hold(1.0))) == ["__exit__"]
    assert of(inside(acquire_all(lock))) == []
    assert of(lambda: take_and_let_go(lock)) == ["acquire", "release"]
    condition = condition_over(lock)
    assert of(inside(condition)) == ["__enter__", "__exit__"]

    def acquire() -> None:
        condition.acquire()
        condition.release()

    assert of(acquire) == ["acquire", "release"]

    def wait() -> None:
        with condition:
            condition.wait(0.001)

    assert of(wait) == ["__enter__", "__exit__"]


def test_an_override_may_refuse() -> None:
    """If an `__enter__` raises before it acquired the lock, the lock stays free; it also passes a deadlock error on."""

    class Closed(TimedLock):
        def __enter__(self) -> Self:
            raise PermissionError("closed")

    lock = Closed()
    with pytest.raises(PermissionError), lock:
        pytest.fail("the body ran")
    assert not lock.locked()
    with lock.hold(1.0), pytest.raises(DeadlockError), lock.hold(1.0):
        pass


# -- documentation ------------------------------------------------------------------------------------------------


# Results of the primitives' methods: users don't make these objects, so they don't derive from the classes.
RETURNED = {"Holder", "LeaseHolder", "Lost", "PoolStats", "StepContext", "Task", "Turn", "Wait"}


def primitives() -> list[type]:
    """The public classes that a user makes, and may derive from: neither errors nor protocols."""
    public = [getattr(module, name) for module in (syncprims, adapters) for name in module.__all__]
    return sorted(
        {
            kind
            for kind in public
            if inspect.isclass(kind)
            and kind.__module__.startswith("syncprims")
            and not issubclass(kind, BaseException)
            and not getattr(kind, "_is_protocol", False)
            and kind.__name__ not in RETURNED
        },
        key=lambda kind: kind.__qualname__,
    )


@pytest.mark.parametrize("kind", primitives(), ids=lambda kind: kind.__qualname__)
@pytest.mark.parametrize("section", ["Fairness", "Thread safety", "Differences from", "Subclassing"])
def test_every_public_class_has_its_sections(kind: type, section: str) -> None:
    """A reader finds them at the same place everywhere."""
    assert f"**{section}" in (kind.__doc__ or "")


def test_the_sections_are_looked_for_where_they_are() -> None:
    """The locks are among the classes that the test above checks."""
    assert {TimedLock, TimedRLock, LockAdapter} <= set(primitives())
