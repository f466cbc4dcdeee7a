"""Names with control characters, line ends, lone surrogates or marks of direction reach no terminal, log or file raw.

A name may come from a request, a file or a user. A reader of a report in a terminal must see that name. It must not
clear the screen, and must not forge a line.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, wait_for
from syncprims import (
    AtomicCounter,
    BrokenSequenceError,
    CallbackErrors,
    CallbackPool,
    CounterBoundsError,
    CounterTimeoutError,
    DeadlockError,
    LockAdapter,
    LockOrderError,
    LockTimeoutError,
    OrderedRunner,
    PoolClosedError,
    PoolTimeoutError,
    QueuedLock,
    SequenceFinishedError,
    StepTimeoutError,
    TimedLock,
    TimedRLock,
    TimedRWLock,
    TimedSemaphore,
    acquire_all,
)
from syncprims._core.waits import all_waits
from syncprims.diagnostics import LockOrderWarning, check_lock_order, dump_on_signal, record, report, warn_slow

pytestmark = pytest.mark.untraceable  # signals come in, and a traced recording takes minutes

FORGED = "FORGED: all is well"
# The characters that a terminal or a log obeys and does not show.
OBEYED = (
    "\x00\x07\x08\t\n\v\f\r\x1b\x7f\x85\x9b\xa0\xad\u200b\u200e\u2028\u2029\u202e\u2066\ufeff\ufff9\ud800\udfff"
    "\U000e0001"
)
hostile = st.text(st.one_of(st.sampled_from(OBEYED), st.characters(codec=None)), min_size=1, max_size=12).map(
    lambda text: f"a\x1b[31m{text}\n{FORGED}"
)
few = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(text: object) -> None:
    """Raise unless the text can be printed as it is, without a forged line."""
    said = text if isinstance(text, str) else str(text)
    assert said
    raw = {each for each in said if not each.isprintable()} - {"\n"}
    assert not raw, ascii(said)
    assert not [line for line in said.splitlines() if line.strip().startswith(FORGED)], ascii(said)
    said.encode("utf-8")


def raised(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """Call it, and check the text of its exception, with notes and causes."""
    with pytest.raises(kind) as caught:
        call()
    error: BaseException | None = caught.value
    while error is not None:
        check_error(error)
        error = error.__cause__
    return caught.value


def check_error(error: BaseException) -> None:
    """Check an exception and those in it; the program's own texts in its exceptions are not checked."""
    if not hasattr(error, "theirs"):
        check(error)
    for note in getattr(error, "__notes__", ()):
        check(note)
    for inner in getattr(error, "exceptions", ()):
        check_error(inner)


def enter(thing: Any) -> None:
    """Enter and leave it."""
    with thing:
        pass


def test_the_check_finds_what_is_raw() -> None:
    """The check of these tests refuses each of the characters, and a line that begins like the forged one."""
    for each in OBEYED.replace("\n", ""):
        with pytest.raises((AssertionError, UnicodeEncodeError)):
            check(f"a{each}b")
    with pytest.raises(AssertionError):
        check(f"a\n  {FORGED}")
    check("TimedLock 'a\\n': held\n  by Thread 'ü'")


@few
@given(hostile, hostile)
def test_locks(name: str, thread: str) -> None:
    """All texts of a lock: errors, its ``repr``, and the errors of refused uses."""
    for lock in (TimedLock(name=name), TimedRLock(name=name), LockAdapter(threading.Lock(), name=name)):
        check(repr(lock))
        check(repr(lock.hold(1.0)))
        with held_elsewhere(lock, thread):
            raised(LockTimeoutError, lambda lock=lock: enter(lock.hold(0.001)))  # type: ignore[misc]  # bound now
            raised(RuntimeError, lock.release)
        raised(ValueError, lambda lock=lock: acquire_all(lock, lock))  # type: ignore[misc]  # bound now
        raised(TypeError, lambda lock=lock: pickle.dumps(lock))  # type: ignore[misc]  # bound now
    with TimedLock(name=name) as lock:
        raised(DeadlockError, lock.acquire)


class Single(QueuedLock):
    """Lets in one thread at a time."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds


@few
@given(hostile, hostile)
def test_locks_with_several_holders(name: str, thread: str) -> None:
    """The same for a semaphore, both sides of a reader-writer lock, and a lock of the user's own."""
    permits, board, single = TimedSemaphore(1, name=name), TimedRWLock(name=name), Single(name=name)
    for lock, holding, entering in (
        (permits, permits, permits.hold(0.001)),
        (board, board.write(), board.read(0.001)),
        (board, board.read(), board.write(0.001)),
        (single, single, single.of(3, 0.001)),
    ):
        check(repr(lock))
        check(repr(entering))
        with inside(holding, thread):
            check(repr(lock))
            check(report())
            raised(LockTimeoutError, lambda entering=entering: enter(entering))  # type: ignore[misc]  # bound now
        raised(ValueError, lambda each=holding: acquire_all(each, each))  # type: ignore[misc]  # bound now
        raised(TypeError, lambda lock=lock: pickle.dumps(lock))  # type: ignore[misc]  # bound now
    raised(ValueError, permits.release)
    raised(RuntimeError, single.release)
    with board.read():
        raised(DeadlockError, board.write().__enter__)
    with single:
        raised(DeadlockError, single.acquire)


@contextmanager
def inside(holding: Any, thread: str) -> Iterator[None]:
    """Let another thread enter, and stay."""
    entered, leave = Event(), Event()

    def stay() -> None:
        with holding:
            entered.set()
            wait_for(leave)

    with Actors() as actors:
        actors.start(stay, thread)
        wait_for(entered)
        try:
            yield
        finally:
            leave.set()


@few
@given(hostile, hostile)
def test_deadlocks(name: str, thread: str) -> None:
    """The error of a deadlock of two threads names both of them and both locks."""
    locks, both = [TimedLock(name=f"{name}{number}") for number in (1, 2)], Barrier(2)

    def cross(first: TimedLock, second: TimedLock) -> None:
        with first:
            both.wait(LIMIT)
            enter(second)

    with Actors() as actors:
        jobs = [actors.start(lambda order=order: cross(*locks[::order]), f"{thread}{order}") for order in (1, -1)]  # type: ignore[misc]  # bound now
        (error,) = [error for job in jobs if (error := job.error()) is not None]
    assert isinstance(error, DeadlockError)
    check_error(error)


@few
@given(hostile, hostile)
def test_lock_orders(one: str, other: str) -> None:
    """The same holds for the error and the warning of two locks that were acquired in both orders."""
    first, second = TimedLock(name=one), TimedLock(name=other)
    call = code_of(one, other)

    def both_ways() -> None:
        for outer, inner in ((first, second), (second, first)):
            call(outer, lambda inner=inner: call(inner, list))

    with check_lock_order():
        raised(LockOrderError, both_ways)
    with check_lock_order("warn"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        both_ways()
    (warning,) = [each for each in caught if issubclass(each.category, LockOrderWarning)]
    check(warning.message)


@few
@given(hostile, hostile)
def test_runners(name: str, step: str) -> None:
    """All texts of a runner and its steps."""
    runner = OrderedRunner(step, "next", name=name)
    check(repr(runner))
    check(repr(runner.step(step)))
    raised(StepTimeoutError, lambda: enter(runner.step("next", timeout=0.001)))
    raised(ValueError, lambda: runner.step(name + step))
    raised(TypeError, lambda: pickle.dumps(runner))

    def nest() -> None:
        with runner.step(step):
            enter(runner.step("next"))

    raised(DeadlockError, nest)
    raised(BrokenSequenceError, lambda: enter(runner.step("next")))
    runner.reset()
    runner.abort()
    raised(BrokenSequenceError, lambda: enter(runner.step(step)))
    once = OrderedRunner(step, rounds=1, name=name)
    enter(once.step(step))
    raised(SequenceFinishedError, lambda: enter(once.step(step)))
    raised(ValueError, lambda: OrderedRunner(step, step, name=name).step("neither"))


@few
@given(hostile)
def test_counters(name: str) -> None:
    """All texts of a counter."""
    counter = AtomicCounter(minimum=0, name=name)
    check(repr(counter))
    raised(CounterBoundsError, counter.decrement)
    raised(CounterTimeoutError, lambda: counter.wait_until(1, timeout=0.001))
    raised(RuntimeError, lambda: counter.update(lambda value: counter.increment()))
    raised(TypeError, lambda: pickle.dumps(counter))


def named(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """A function of this name."""

    def call(*args: object) -> object:
        return function(*args)

    call.__name__ = call.__qualname__ = name
    return call


def failing(name: str) -> Callable[..., object]:
    """A function with this name; its error's class has the name too, and so does its text."""

    def fail(*args: object) -> object:
        raise type(
            name.replace("\x00", "").encode("utf-8", "backslashreplace").decode(), (Exception,), {"theirs": True}
        )(name)

    return named(name, fail)


@few
@given(hostile, hostile)
def test_pools(name: str, function: str) -> None:
    """All texts of a pool, its tasks, and the exceptions of these and their callbacks."""
    end = Event()
    texts: list[str] = []
    pool = CallbackPool(max_workers=1, name=name)
    try:
        with log_kept() as logged:
            task = pool.submit(named(function, wait_for), end)
            texts += [repr(pool), repr(task)]
            raised(PoolTimeoutError, lambda: task.result(0.001))
            raised(PoolTimeoutError, lambda: pool.join(0.001))
            late = pool.apply_async(named(function, wait_for), (end,), timeout=0.001)
            end.set()
            late.wait(LIMIT)
            pool.apply_async(failing(function), callback=failing(function))
            pool.apply_async(int, callback=failing(function))
            raised(CallbackErrors, lambda: pool.close(LIMIT))
            texts += [repr(pool)]
            raised(PoolClosedError, lambda: pool.submit(int))
            raised(TypeError, lambda: pickle.dumps(pool))
    finally:
        end.set()
        pool.terminate()
    for text in [*texts, *logged]:
        check(text)


class Unnamed(TimedLock):
    """A lock whose name raises."""

    @property
    def name(self) -> str:
        """Refuse."""
        raise LookupError("no name")


class Anonymous(threading.Thread):
    """A thread whose name raises."""

    unwilling = False

    @property
    def name(self) -> str:  # type: ignore[override]  # a variable there
        """Refuse, once the thread is started."""
        if self.unwilling:
            raise LookupError("no name")
        return "so far"


def test_what_does_not_tell_its_name_is_observed_all_the_same() -> None:
    """A name that raises breaks neither the recording and the check of the lock, nor their results."""
    one, other, end = Unnamed(), Unnamed(), Event()

    def both_ways() -> None:
        for outer, inner in ((one, other), (other, one)):
            with outer:
                enter(inner)

    def hold() -> None:
        with one:
            wait_for(end)

    thread = Anonymous(target=hold)
    thread.unwilling = True
    with record() as recording, check_lock_order() as checked:
        raised(LockOrderError, both_ways)
        thread.start()
        try:
            eventually(one.locked)
            assert not one.acquire(timeout=0.001)
            check(report(all_threads=True))
        finally:
            end.set()
            thread.join(LIMIT)
    assert checked is not None
    assert "a name that can't be read" in recording.table()
    assert {span.holder for span in recording.spans if span.kind == "wait"} == {f"ident {thread.ident}"}


# -- what diagnostics show ---------------------------------------------------------------------------------------------


@contextmanager
def log_kept() -> Iterator[list[str]]:
    """The library's log output, with tracebacks, as a handler writes it."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("syncprims")
    texts: list[str] = []
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)
        texts += [stream.getvalue()] if stream.getvalue() else []


def code_of(name: str, step: str) -> Callable[..., None]:
    """A function with a hostile name in such a file, which enters its first argument and calls its second."""

    def call(thing: Any, then: Callable[[], object]) -> None:
        with thing:
            then()

    call.__code__ = call.__code__.replace(co_name=step, co_filename=f"/tmp/{name}.py")
    return call


@contextmanager
def a_busy_program(name: str, thread: str, function: str) -> Iterator[None]:
    """A program with a holder, a waiter, a step, a counter and a pool at work, all with hostile names."""
    end = Event()
    kind = type(name.replace("\x00", "").encode("utf-8", "backslashreplace").decode(), (TimedLock,), {})
    lock, runner, counter = kind(name=name), OrderedRunner(function, "next", name=name), AtomicCounter(name=name)
    call = code_of(name, function)
    with Actors() as actors, CallbackPool(max_workers=1, name=name) as pool:
        try:
            actors.start(lambda: call(lock, lambda: wait_for(end)), thread)
            eventually(lock.locked)
            actors.start(lambda: call(lock, list), thread)
            actors.start(lambda: call(runner.step(function), lambda: wait_for(end)), thread)
            eventually(lambda: runner.current == function and lock.waiting)
            actors.start(lambda: enter(runner.step("next")), thread)
            actors.start(lambda: counter.wait_until(1), thread)
            task = pool.submit(named(function, wait_for), end)
            actors.start(lambda: task.result(LIMIT), thread)
            pool.submit(named(function, len), ())
            eventually(lambda: len(all_waits()) >= 4 and task.running())
            yield
        finally:
            end.set()
            counter.increment()


@few
@given(hostile, hostile, hostile)
def test_reports(name: str, thread: str, function: str) -> None:
    """The report, also of all threads, and the one that a signal writes."""
    with a_busy_program(name, thread, function):
        check(report())
        check(report(all_threads=True))
        error = TimeoutError("late")
        if hasattr(signal, "SIGUSR1"):
            stream = io.StringIO()
            with dump_on_signal(file=stream):
                signal.raise_signal(signal.SIGUSR1)
            check(stream.getvalue())
        from syncprims.diagnostics import attach_report

        attach_report(error)
        check_error(error)


@few
@given(hostile, hostile, hostile)
def test_warnings_of_slow_waits(name: str, thread: str, function: str) -> None:
    """The log lines of jams."""
    with log_kept() as logged, a_busy_program(name, thread, function), warn_slow(after=3600.0) as watching:
        for waiting in all_waits():
            waiting.since -= 7200.0
        watching._look()
    assert logged
    for text in logged:
        check(text)


@few
@given(hostile, hostile, hostile)
def test_recordings(tmp_path: Path, name: str, thread: str, function: str) -> None:
    """The table, the page and the trace of a recording."""
    with record(capacity=500) as recording:
        with a_busy_program(name, thread, function):
            pass
        with TimedLock(name=name) as lock, pytest.raises(DeadlockError):
            lock.acquire()
        with CallbackPool(max_workers=1, name=name, on_callback_error="log") as pool:
            pool.apply_async(failing(function), error_callback=failing(function))
    check(recording.table())
    for kind in ("html", "json"):
        recording.save(tmp_path / f"recording.{kind}")
        text = (tmp_path / f"recording.{kind}").read_text("utf-8")
        check(text)
        found = text if kind == "json" else text[text.index('{"note"') : text.index(";\n", text.index('{"note"'))]
        for said in strings_of(json.loads(found)):
            check(said or "-")


def strings_of(value: object) -> Iterator[str]:
    """Every text in the JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings_of(key)
            yield from strings_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_of(inner)
