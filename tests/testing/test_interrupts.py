"""`interrupts` finds every gap that exists, and no others."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, Self, cast

import pytest

from syncprims.testing import (
    MODES,
    InterruptLeakError,
    InterruptReport,
    Leak,
    Mode,
    Threads,
    interrupts,
)

MAIN_MODES: tuple[Mode, ...] = ("warm", "cold", "storm", "cold storm")
each_mode = pytest.mark.parametrize("mode", MODES)


class NaiveLock:
    """The lock that most people write first: Python functions around a C lock."""

    def __init__(self) -> None:
        self.inner = threading.Lock()
        self.waiting = 0

    def __enter__(self) -> Self:
        self.waiting += 1
        self.inner.acquire()
        self.waiting -= 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.inner.release()


class InheritingLock(type(threading.RLock())):  # type: ignore[misc]  # typeshed calls the C type a function's result
    """Enters in Python, with an undoing handler, and leaves in C."""

    def __enter__(self) -> Self:
        try:
            self.acquire()
            return self
        except BaseException:
            try:
                self.release()  # the first call in the handler: a `suppress` before it would be one more gap
            except RuntimeError:
                pass
            raise


def use(lock: NaiveLock | threading.Lock | InheritingLock) -> None:
    with lock:
        len("work")


def naive_broken(lock: NaiveLock) -> str | None:
    return "still locked" if lock.inner.locked() else None


def bare_broken(lock: threading.Lock) -> str | None:
    return "still locked" if lock.locked() else None


def inheriting_broken(lock: InheritingLock) -> str | None:
    return "still locked" if repr(lock).startswith("<locked") else None


def taken_naive_lock() -> NaiveLock:
    lock = NaiveLock()
    lock.inner.acquire()
    return lock


@each_mode
def test_naive_lock_leaks(mode: Mode) -> None:
    """A wrapper in Python leaks on its way in and on its way out, in every mode."""
    report = interrupts(NaiveLock, use, naive_broken, mode=mode)
    where = " ".join(leak.where for leak in report.leaks)
    assert "NaiveLock.__enter__" in where
    assert "NaiveLock.__exit__" in where or mode == "worker"  # there the exception is set one opcode earlier
    assert 2 <= len(report.leaks) < report.points
    assert {leak.problem for leak in report.leaks} == {"still locked"}


@each_mode
def test_bare_lock_does_not_leak(mode: Mode) -> None:
    """A bare C lock leaks nowhere, except on 3.14 by CPython's own bug, and on 3.15 at one point made by tracing."""
    report = interrupts(threading.Lock, use, bare_broken, mode=mode)
    assert report.points >= 2
    if sys.version_info < (3, 14) or (sys.version_info >= (3, 15) and mode != "worker"):
        assert report.check() is report


@each_mode
def test_c_exit_does_not_leak(mode: Mode) -> None:
    """A class that undoes its `__enter__` and leaves in C passes, in every mode and version."""
    assert interrupts(InheritingLock, use, inheriting_broken, mode=mode).check().points >= 4


@each_mode
def test_naive_lock_leaks_after_a_wait(mode: Mode) -> None:
    """With a wait in the middle, the sweep covers the points before, in and after it."""
    alone = interrupts(NaiveLock, use, naive_broken, mode=mode)
    points = alone.points + (mode != "worker")  # an asynchronous exception does not end a wait
    for _ in range(3):  # a thread that the system stops just before its wait looks as if it waited
        report = interrupts(
            taken_naive_lock,
            use,
            naive_broken,
            mode=mode,
            when_blocked=lambda lock: lock.waiting == 1,
            unblock=lambda lock: lock.inner.release(),
        )
        if report.points == points:
            break
    assert report.points == points
    assert report.leaks


class ForgetfulQueue:
    """Withdraws a waiter in two steps in Python, so that a second interrupt can come in between."""

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.waiting = 0

    def wait(self) -> None:
        self.waiting += 1
        try:
            self.gate.acquire()
        finally:
            self._withdraw()

    def _withdraw(self) -> None:
        self.waiting -= 1


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_second_interrupt_reaches_the_withdrawal(mode: Mode) -> None:
    """After an interrupt in the wait, another one comes at each later point, including the way out."""
    report = interrupts(
        ForgetfulQueue,
        ForgetfulQueue.wait,
        lambda queue: f"{queue.waiting} still waiting" if queue.waiting else None,
        mode=mode,
        when_blocked=lambda queue: queue.waiting == 1,
        unblock=lambda queue: queue.gate.release(),
    )
    assert [leak for leak in report.leaks if "_withdraw, after an interrupt in the wait" in leak.where]


def test_scenario_that_swallows_interrupts_is_swept() -> None:
    """A scenario that handles its interrupt is swept to the end nevertheless."""

    def stubborn(lock: threading.Lock) -> None:
        try:
            lock.acquire()
        except KeyboardInterrupt:
            pass
        try:
            enter_python()
        except KeyboardInterrupt:
            pass

    for mode in MAIN_MODES:
        report = interrupts(threading.Lock, stubborn, lambda lock: None if lock.locked() else "not taken", mode=mode)
        assert report.points == 3
        assert [leak.point for leak in report.leaks] == [1]  # on entry to it


def enter_python() -> None:
    """Do nothing; its entry is a delivery point, even if calls of C functions are specialised."""


@each_mode
def test_each_run_gets_a_fresh_subject_in_the_main_thread(mode: Mode) -> None:
    """`make` and `broken` are called once for each run, in the main thread, with tracing off and on."""
    made: list[object] = []
    judged: list[object] = []

    def make() -> object:
        assert threading.current_thread() is threading.main_thread()
        made.append(object())
        return made[-1]

    interrupts(make, lambda subject: len("work"), lambda subject: judged.append(subject), mode=mode)
    assert made == judged
    assert len(made) > 2


@each_mode
def test_everything_is_put_back(mode: Mode) -> None:
    """The handler of SIGINT, the trace function and every replaced code object are the old ones afterwards."""
    before = signal.getsignal(signal.SIGINT), sys.gettrace(), sys.getprofile(), use.__code__
    interrupts(NaiveLock, use, naive_broken, mode=mode)
    after = signal.getsignal(signal.SIGINT), sys.gettrace(), sys.getprofile(), use.__code__
    assert all(one is other or one == other for one, other in zip(before, after, strict=True))
    assert use.__code__ is before[-1]


def test_tracer_misses_calls_and_returns_in_pairs() -> None:
    """A tracer that keeps a stack, like coverage, finds it balanced after a sweep."""
    depth = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal depth
        depth += (event == "call") - (event == "return")
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        interrupts(NaiveLock, use, naive_broken)
    finally:
        sys.settrace(old)
    assert depth == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_monitoring_is_silent_and_comes_back() -> None:
    """A monitoring tool, which coverage may be, gets no events of the scenario, and all events afterwards."""
    if sys.version_info >= (3, 12):
        heard: list[str] = []
        monitoring = sys.monitoring
        tool = next(tool for tool in range(6) if monitoring.get_tool(tool) is None)
        monitoring.use_tool_id(tool, "test")
        try:
            monitoring.register_callback(
                tool, monitoring.events.PY_START, lambda code, offset: heard.append(code.co_name)
            )
            monitoring.set_events(tool, monitoring.events.PY_START)
            interrupts(NaiveLock, use, naive_broken)
            assert "use" not in heard
            assert "naive_broken" in heard
            use(threading.Lock())
            assert "use" in heard
        finally:
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)


def test_handler_is_put_back_after_an_error() -> None:
    """The scenario's own exception is raised, with a note, and the handler is restored."""
    before = signal.getsignal(signal.SIGINT)

    def scenario(lock: object) -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own") as caught:
        interrupts(object, scenario, lambda lock: None)
    assert caught.value.__notes__ == ["in a run with an interrupt at no point (warm)"]
    assert signal.getsignal(signal.SIGINT) is before


def test_error_that_an_interrupt_causes_is_an_outcome() -> None:
    """An exception with the interrupt behind it does not end the sweep."""

    def scenario(lock: object) -> None:
        try:
            len("work")
        except KeyboardInterrupt as error:
            raise RuntimeError("translated") from error

    assert interrupts(object, scenario, lambda lock: None).check().points >= 1


def test_ctrl_c_between_runs_goes_to_the_old_handler() -> None:
    """A signal that is not the sweep's own is not lost."""
    heard: list[int] = []

    def hear(signum: int, frame: FrameType | None) -> None:
        heard.append(signum)

    def broken(lock: threading.Lock) -> None:
        if not heard:
            signal.raise_signal(signal.SIGINT)

    old = signal.signal(signal.SIGINT, hear)
    try:
        interrupts(threading.Lock, use, broken).check()
    finally:
        signal.signal(signal.SIGINT, old)
    assert heard == [signal.SIGINT]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_code_is_fresh_where_it_says_so(mode: Mode, frozen: bool) -> None:
    """Cold and worker runs use code that never ran, also in functions of a frozen heap; and it is put back."""
    codes: list[CodeType] = []

    def scenario(_: object) -> None:
        codes.append(sys._getframe().f_code)

    own = scenario.__code__
    if frozen:
        gc.freeze()
    try:
        points = interrupts(object, scenario, lambda _: None, mode=mode).check().points
    finally:
        gc.unfreeze()
    assert points > 1
    assert scenario.__code__ is own
    fresh = [code for code in codes if code is not own]
    assert len(set(map(id, fresh))) == len(fresh)
    assert len(fresh) == (
        len(codes) - 1 if mode in ("cold", "cold storm", "worker") else 0
    )  # the first run finds the functions


class Dropped:
    """A resource that a generator gives up, and takes back if the generator is dropped too early."""

    def __init__(self) -> None:
        self.over = self.taken = False

    def giving_up(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.taken = not self.over


def give_up(subject: Dropped) -> None:
    given_up = subject.giving_up()
    next(given_up)
    enter_python()
    subject.over = True


def give_up_and_keep_the_error(subject: Dropped) -> None:
    try:
        give_up(subject)
    except KeyboardInterrupt as error:
        kept = error  # in a frame that it keeps: a reference cycle
        raise kept from None


@pytest.mark.parametrize("scenario", [give_up, give_up_and_keep_the_error])
@each_mode
def test_subject_is_judged_when_the_exception_has_gone(scenario: Callable[[Dropped], None], mode: Mode) -> None:
    """Effects of the release of the exception's frames and generators count, with or without reference cycles."""
    assert interrupts(Dropped, scenario, lambda dropped: "taken back" if dropped.taken else None, mode=mode).leaks


def test_an_exception_that_the_subject_keeps_stays() -> None:
    """An error that is part of the subject still exists when the subject is judged."""
    kept: list[BaseException] = []

    def scenario(subject: object) -> None:
        try:
            enter_python()
        except KeyboardInterrupt as error:
            kept.append(error)
            raise

    seen: list[int] = []
    interrupts(object, scenario, lambda subject: seen.append(len(kept)))
    assert seen[-1] == len(kept) == 1
    assert isinstance(kept[0], KeyboardInterrupt)
    assert kept[0].__traceback__ is not None


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_hanging_scenario_is_a_leak(mode: Mode) -> None:
    """A run that does not end is ended, and is reported as a leak."""

    def once_bitten(lock: threading.Lock) -> None:
        try:
            enter_python()
            return
        except KeyboardInterrupt:
            pass
        lock.acquire()
        lock.acquire()

    report = interrupts(threading.Lock, once_bitten, lambda lock: None, mode=mode, timeout=0.2)
    assert [(leak.point, leak.problem) for leak in report.leaks] == [(2, "hung: not at its end after 0.2 s")]


def test_hanging_worker_is_a_leak() -> None:
    """A worker's thread is left behind, and the report says where it hangs."""
    let_go = threading.Event()

    def once_bitten(subject: object) -> None:
        try:
            enter_python()
            return
        except KeyboardInterrupt:
            pass
        let_go.wait(30)

    report = interrupts(object, once_bitten, lambda subject: None, mode="worker", timeout=0.2)
    let_go.set()
    assert [leak.problem for leak in report.leaks] == ["hung: not at its end after 0.2 s"]


def test_fault_without_an_interrupt_ends_the_sweep() -> None:
    """If the subject is broken without any interrupt, one leak says so."""
    report = interrupts(threading.Lock, lambda lock: lock.acquire(), bare_broken)
    assert report.leaks == (Leak(0, "no interrupt", "still locked"),)
    with pytest.raises(InterruptLeakError, match="no interruption point"):
        report.check()


def test_check_lists_the_leaks() -> None:
    """The error's message names every leak, and carries the report."""
    report = InterruptReport("storm", 3, (Leak(2, "lock.py:9 in __exit__", "still locked"),))
    with pytest.raises(AssertionError, match=r"1 of 3 .*\n  point 2, lock\.py:9 in __exit__: still locked") as caught:
        report.check()
    assert isinstance(caught.value, InterruptLeakError)
    assert caught.value.report is report


def test_scenario_that_never_waits_is_refused() -> None:
    """A sweep of a wait that does not happen would prove nothing."""
    with pytest.raises(ValueError, match="never blocked"):
        interrupts(NaiveLock, use, naive_broken, when_blocked=lambda lock: False, unblock=lambda lock: None)


def test_error_in_when_blocked_comes_out() -> None:
    """If a function raises in the watching thread, the caller gets the exception."""

    def when_blocked(lock: NaiveLock) -> bool:
        if lock.waiting:
            lock.inner.release()
            raise LookupError("mine")
        return False

    with pytest.raises(LookupError, match="mine"):
        interrupts(taken_naive_lock, use, naive_broken, when_blocked=when_blocked, unblock=lambda lock: None)


def test_unblock_is_called_once_for_each_subject() -> None:
    """Whether the run reached its wait or not, its subject is unblocked once."""
    calls: dict[int, int] = {}
    kept: list[NaiveLock] = []

    def make() -> NaiveLock:
        kept.append(taken_naive_lock())
        return kept[-1]

    def unblock(lock: NaiveLock) -> None:
        calls[id(lock)] = calls.get(id(lock), 0) + 1
        lock.inner.release()

    interrupts(make, use, naive_broken, when_blocked=lambda lock: lock.waiting == 1, unblock=unblock)
    assert calls == {id(lock): 1 for lock in kept}


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: interrupts(NaiveLock, use, naive_broken, mode=cast(Mode, "hot")),
            ValueError,
            "warm, cold, storm, cold storm, worker",
        ),
        (lambda: interrupts(NaiveLock, use, naive_broken, unblock=bool), TypeError, "together"),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    """Arguments that make no sense are an error at once."""
    with pytest.raises(kind, match=message):
        call()


def test_other_threads_are_refused() -> None:
    """Only the main thread gets signals, and the error says which thread this is."""
    with Threads() as threads:
        error = threads.start(interrupts, NaiveLock, use, naive_broken).exception()
    assert isinstance(error, RuntimeError)
    assert "main thread" in str(error)
    assert "Threads-" in str(error)


def test_sweeps_are_quick() -> None:
    """A hundred runs take far less than a second."""
    started = time.monotonic()
    interrupts(NaiveLock, use, naive_broken, mode="worker")
    assert time.monotonic() - started < 5
