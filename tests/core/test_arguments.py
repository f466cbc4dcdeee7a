"""Arguments: bad ones are refused at once, and only the method that converts an argument is called."""

from __future__ import annotations

import asyncio
import enum
import math
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hostile import HostileFloat, HostileInt, HostileObject, HostileStr
from syncprims import (
    AtomicCounter,
    CounterBoundsError,
    CounterTimeoutError,
    LockAdapter,
    LockTimeoutError,
    OrderedRunner,
    TimedLock,
    TimedRLock,
    acquire_all,
)
from syncprims._core.deadline import check_timeout
from syncprims._core.lazy import check_runs, refuse_lazy
from syncprims._core.registry import check_name
from syncprims.testing import Threads


def type_name(given: object) -> str:
    """The name for a hostile object in pytest, which would otherwise call its methods."""
    return type(given).__name__


KINDS = [TimedLock, TimedRLock, lambda **options: LockAdapter(threading.Lock(), **options)]


# -- timeouts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [HostileFloat(0.0), HostileInt(0)], ids=type_name)
@pytest.mark.parametrize("kind", KINDS, ids=["TimedLock", "TimedRLock", "LockAdapter"])
def test_a_timeout_is_taken_as_a_plain_number(kind: Callable[..., TimedLock], given: Any) -> None:
    """No method of a subclass of a number is called: not at the call, in the wait, or for a message."""
    lock = kind(timeout=given)
    assert type(lock.timeout) in (int, float)
    with Threads() as threads:
        taken, done = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                taken.set()
                done.wait(20)

        threads.start(hold)
        assert taken.wait(20)
        for wait in (lock, lock.hold(given), acquire_all(lock, timeout=given)):
            with pytest.raises(LockTimeoutError) as caught, wait:
                pass
            assert type(caught.value.timeout) in (int, float)
            assert repr(wait)
        assert lock.acquire(timeout=given) is False
        done.set()


@pytest.mark.parametrize("given", [HostileFloat(0.0), HostileInt(0)], ids=type_name)
def test_counters_and_runners_take_plain_timeouts_too(given: Any) -> None:
    """Counters and runners don't call a method of a subclass either."""
    with pytest.raises(CounterTimeoutError):
        AtomicCounter().wait_until(1, given)
    with pytest.raises(TimeoutError):
        OrderedRunner("a", timeout=given).wait()
    with pytest.raises(TimeoutError):
        OrderedRunner("a").wait(timeout=given)


def test_a_numpy_like_number_is_a_timeout() -> None:
    """Any object with `__index__` counts as seconds, and so does a subclass of float."""

    class Seconds:
        def __index__(self) -> int:
            return 3

    class Limit(enum.IntEnum):
        SHORT = 2

    assert check_timeout(Seconds()) == 3
    assert check_timeout(Limit.SHORT) == 2
    assert type(check_timeout(True)) is int


@pytest.mark.parametrize("bad", [-1, -0.5, math.nan, -math.inf, HostileFloat(-1.0), HostileInt(-7)], ids=type_name)
def test_a_timeout_that_no_wait_can_have_is_a_value_error(bad: Any) -> None:
    """Every such number is refused, in any form."""
    with pytest.raises(ValueError, match="timeout must be None, 0 or a positive number"):
        check_timeout(bad)


@pytest.mark.parametrize("bad", [math.inf, 10**30, 10**5000, HostileFloat(math.inf)], ids=type_name)
def test_a_timeout_that_is_too_large_is_an_overflow_error(bad: Any) -> None:
    """The same holds for an integer with so many digits that Python refuses to print it."""
    with pytest.raises(OverflowError, match="timeout must be at most"):
        check_timeout(bad)


@pytest.mark.parametrize("bad", ["1", b"1", [1], 1j, HostileObject(), object], ids=type_name)
def test_a_timeout_that_is_no_number_is_a_type_error(bad: Any) -> None:
    """The message is right even if the object's `__repr__` raises."""
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not "):
        check_timeout(bad)


# -- acquire(5) ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=["TimedLock", "TimedRLock", "LockAdapter"])
@pytest.mark.parametrize(
    ("blocking", "advice"),
    [
        (5, "acquire(timeout=5)"),
        (0.5, "acquire(timeout=0.5)"),
        (1.0, "acquire(timeout=1.0)"),
        (-1, "acquire(timeout=-1)"),
        (None, "acquire(timeout=5)"),
        ("yes", "acquire(timeout=5)"),
        (HostileInt(1), "acquire(timeout=5)"),
        (HostileObject(), "acquire(timeout=5)"),
    ],
    ids=type_name,
)
def test_a_timeout_in_the_place_of_blocking_is_refused(
    kind: Callable[..., TimedLock], blocking: Any, advice: str
) -> None:
    """`acquire(5)` would wait endlessly: the error says what to write, and the lock stays free."""
    lock = kind()
    with pytest.raises(TypeError, match=re.escape(advice)):
        lock.acquire(blocking)
    with pytest.raises(TypeError, match=re.escape(advice)):
        lock.acquire(blocking=blocking, timeout=1)
    assert not lock.locked()


@pytest.mark.parametrize("kind", KINDS, ids=["TimedLock", "TimedRLock", "LockAdapter"])
def test_blocking_is_a_bool_or_0_or_1(kind: Callable[..., TimedLock]) -> None:
    """Programs written for `threading` pass these values."""
    lock = kind()
    for arguments in ((True,), (1,), (False,), (0,), (True, -1), (True, None), (1, 2.5), (True, HostileFloat(-1.0))):
        assert lock.acquire(*arguments)
        lock.release()
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(0, 1)  # type: ignore[arg-type]  # 0 for False


# -- names ---------------------------------------------------------------------------------------------------------


def test_a_name_is_taken_as_a_plain_string() -> None:
    """No method of a subclass of `str` is called, at the call or at any later use of the name."""
    name = HostileStr("mail")
    lock, runner, counter = TimedLock(name=name), OrderedRunner("a", name=name), AtomicCounter(1, maximum=1, name=name)
    for each in (lock, runner, counter):
        assert type(each.name) is str
        assert each.name == "mail"
        assert "'mail'" in repr(each)
    with pytest.raises(CounterBoundsError, match="'mail' can't become 2"):
        counter.increment()


@pytest.mark.parametrize("bad", [b"mail", 7, HostileObject(), ["a"]], ids=type_name)
def test_a_name_that_is_no_string_is_a_type_error(bad: Any) -> None:
    """Every other type is refused."""
    with pytest.raises(TypeError, match="name must be a string or None, not "):
        check_name(bad)


def test_a_runners_steps_are_plain_strings() -> None:
    """The steps in calls, in bodies and from `_next` are too, and all of them are equal."""

    class Step(enum.StrEnum):
        LOAD = "load"

    class Odd(OrderedRunner):
        def _next(self, done: object) -> str | None:
            return HostileStr("load") if done is None else None

    runner = Odd(HostileStr("load"), "store")
    assert [type(step) for step in runner.steps] == [str, str]
    with runner.step(HostileStr("load"), timeout=20) as turn:
        assert type(turn.step) is str
    assert runner.state == "finished"
    ran = OrderedRunner("load").run({Step.LOAD: repr}, timeout=20)
    assert ran == ["Turn(step='load', index=0, round=0)"]


@pytest.mark.parametrize("bad", ["save", 7, None, ["load"], HostileObject(), HostileStr("save")], ids=type_name)
def test_a_step_that_there_is_not_is_named_with_those_that_there_are(bad: Any) -> None:
    """The message appears for any argument, even one that can't be hashed or printed."""
    runner = OrderedRunner("load", name="jobs")
    for call in (partial(runner.step, bad), partial(runner.serve, bad, print)):
        with pytest.raises(ValueError, match=r"'jobs' has no step .*; it has 'load'"):
            call()


# -- numbers -------------------------------------------------------------------------------------------------------


def test_a_counter_takes_plain_integers() -> None:
    """No method of a subclass of `int` is called."""
    counter = AtomicCounter(HostileInt(3), minimum=HostileInt(0), maximum=HostileInt(9))
    assert counter.increment(HostileInt(2)) == 5
    assert counter.compare_and_set(HostileInt(5), HostileInt(6))
    assert counter.update(lambda _: HostileInt(7)) == 7
    assert counter.wait_until(HostileInt(7), 20) == 7
    for value in (counter.value, counter.minimum, counter.maximum):
        assert type(value) is int
    with pytest.raises(CounterBoundsError, match="can't become 10"):
        counter.add(HostileInt(3))


def test_integers_that_python_refuses_to_print_are_counted() -> None:
    """Messages give the size of an integer with too many digits."""
    huge = 10**5000
    counter = AtomicCounter(huge, maximum=huge, name="huge")
    assert repr(counter) == f"<syncprims.AtomicCounter object 'huge' at <an integer of {huge.bit_length()} bits>>"
    with pytest.raises(CounterBoundsError, match="'huge' can't become <an integer of 16610 bits>, more than its"):
        counter.increment()
    with pytest.raises(CounterTimeoutError, match="to be <an integer of 16610 bits> or more, and it is <an integer"):
        counter.wait_until(huge + 1, 0)
    with pytest.raises(ValueError, match="is greater than maximum"):
        AtomicCounter(minimum=huge, maximum=0)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        OrderedRunner("a", rounds=-huge)


# -- functions that don't run when they are called -------------------------------------------------------------------


async def coroutine(*_: object) -> int:
    return 1


def generator(*_: object) -> Iterator[int]:
    yield 1


async def async_generator(*_: object) -> AsyncIterator[int]:
    yield 1


class Called:
    """All forms of async functions."""

    async def __call__(self, *_: object) -> int:
        return 1

    async def method(self, *_: object) -> int:
        return 1


LAZY = [
    (coroutine, "coroutine is a coroutine function"),
    (generator, "generator is a generator function"),
    (async_generator, "async_generator is an async generator function"),
    (partial(partial(coroutine, 1), 2), "a coroutine function"),
    (Called(), "a coroutine function"),
    (Called().method, "a coroutine function"),
    (partial(Called().method), "a coroutine function"),
]


@pytest.mark.parametrize(("fn", "kind"), LAZY, ids=type_name)
def test_a_function_that_would_not_run_is_refused(fn: Any, kind: str) -> None:
    """This holds for bodies, steps and functions that serve one: a call would run none of their code."""
    kind = kind.partition(" is ")[2] or kind
    runner = OrderedRunner("a")
    for call in (
        lambda: check_runs(fn, "it"),
        lambda: runner.run({"a": fn}),
        lambda: runner.serve("a", fn),
        lambda: runner.step("a")(fn),
    ):
        with pytest.raises(TypeError, match=f"it is {kind}, and a call runs none of its code"):
            call()
    assert runner.state == "open"


@pytest.mark.parametrize(("fn", "kind"), LAZY, ids=type_name)
@pytest.mark.filterwarnings("error")
def test_a_counter_refuses_an_answer_of_which_nothing_has_run(fn: Any, kind: str) -> None:
    """The value stays, the wait ends, and no warning says that the coroutine was never awaited."""
    counter = AtomicCounter(5)
    with pytest.raises(TypeError, match=r"the function of update\(\) returned a .*, which has not run"):
        counter.update(fn)
    with pytest.raises(TypeError, match=r"the predicate returned a .*, which has not run"):
        counter.wait_for(fn, 20)
    assert (counter.value, counter.increment()) == (5, 6)


@pytest.mark.parametrize("fn", [len, print, int, Called, lambda: 1, partial(len, ""), "".join])
def test_a_function_that_runs_is_taken(fn: Any) -> None:
    """This holds for functions in Python and C, classes, methods and partials."""
    check_runs(fn, "it")


def test_generator_functions_are_taken_where_the_generator_is_wanted() -> None:
    """Coroutine functions are refused there."""
    check_runs(generator, "it", generators=True)
    with pytest.raises(TypeError, match=r"which may call asyncio.run\(\)"):
        check_runs(coroutine, "it", generators=True)


def test_an_object_that_can_be_called_but_not_looked_at_is_taken() -> None:
    """It is not known whether a call runs its code, so the call itself has to show that."""

    class Opaque:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

        def __call__(self) -> int:
            return 1

    check_runs(Opaque(), "it")
    with pytest.raises(TypeError, match="it must be callable, not "):
        check_runs(HostileObject(), "it")


def test_a_future_is_no_answer() -> None:
    """An object that must be awaited has not run yet."""
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(TypeError, match="returned a "):
            refuse_lazy(loop.create_future(), "the predicate")
    finally:
        loop.close()
    refuse_lazy(HostileObject(), "the predicate")


# -- locks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [HostileObject(), asyncio.Lock(), asyncio.Semaphore(), None, "lock"], ids=type_name)
def test_only_locks_for_threads_are_adapted(bad: Any) -> None:
    """If `acquire` is a coroutine function, the lock would seem to be acquired, and is not."""
    with pytest.raises(TypeError, match=r"LockAdapter needs an object|a call runs none of its code"):
        LockAdapter(bad)


@pytest.mark.parametrize("bad", [HostileObject(), threading.Lock(), [TimedLock()]], ids=type_name)
def test_acquire_all_takes_locks_of_this_library(bad: Any) -> None:
    """The message appears whatever the argument is."""
    with pytest.raises(TypeError, match="acquire_all takes locks of this library, not "):
        acquire_all(TimedLock(), bad)
