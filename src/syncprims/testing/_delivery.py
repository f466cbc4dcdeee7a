"""Deliver an interrupt at one chosen delivery point of a scenario: the engines below `interrupts`."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, Generic, TypeVar, cast
from weakref import ref

from .._core.clock import monotonic

T = TypeVar("T")

# How an interrupt gets to every point in turn
#
# CPython looks for pending signals only on entry to a Python function, after a call of a C function, at a loop's
# backward jump, and where C code waits and is woken. In the engine of the main thread, the last act of the signal
# handler is to make itself pending again. So CPython calls it at each of those places in turn, and it raises at the
# chosen one. That last act must not be a call, or the handler would be called inside itself. A unary minus on an object
# whose type's `__neg__` is a C function makes no check.
#
# A worker gets its interrupt by PyThreadState_SetAsyncExc, which calls no handler. There a trace function counts the
# thread's opcodes. Before the chosen one it switches tracing off and then sets the exception, again by a unary minus.
# So the exception comes at the next true delivery point, and not in the trace function, and the places are as true as
# the main thread's. But the counts are of opcodes, and several opcodes lead to one delivery. Tracing is removed from
# the code of all frames, too. 3.15 recognizes a call that enters a `with` by the opcode in front, and delivers nothing
# after it; code whose opcodes are traced has another opcode there.
#
# Coverage sees none of the code marked "no cover" here, because tracing is off there; the tests run all of it.
#
# Rejected: raising from a trace function (it raises where CPython never would), and timers (they find the holes only
# now and then). PyThreadState_SetAsyncExc(id, NULL) would cancel an exception that was not delivered. But on 3.11 it
# leaves the eval breaker set forever, and then the traced RESUME loops. So the exception is delivered and caught
# instead.

STORM: Final = 1000  # interrupts of one storm: enough for any withdrawal, and an end for a scenario that always retries
POLL: Final = 0.001
STILL: Final = 5  # polls in a row in which a thread must look blocked


class Hung(BaseException):
    """Raised in a scenario that did not end."""


class _Rearm:
    __neg__ = staticmethod(interrupt_main)


@contextmanager
def quiet() -> Iterator[None]:  # pragma: no cover
    """Switch off everything except this thread's tracing that calls Python code between two instructions.

    This includes the tracing of threads that start in the meantime: on 3.11 such a thread spins as long as an exception
    is pending in another one.
    """
    profile, collecting = sys.getprofile(), gc.isenabled()
    threads_trace, threads_profile = threading.gettrace(), threading.getprofile()
    if callable(profile):  # cProfile's is not callable: it is not Python code, and can't be put back
        sys.setprofile(None)
    threading.settrace(cast(Any, None))
    threading.setprofile(None)
    gc.disable()
    callbacks = _silence_monitoring()
    try:
        yield
    finally:
        for put_back in callbacks:
            put_back()
        if collecting:
            gc.enable()
        threading.setprofile(threads_profile)
        threading.settrace(cast(Any, threads_trace))
        if callable(profile):
            sys.setprofile(profile)


def _silence_monitoring() -> list[Callable[[], object]]:  # pragma: no cover
    """Remove every tool's callbacks, and return functions that restore them. The tools' events stay as they are."""
    put_back: list[Callable[[], object]] = []
    if sys.version_info >= (3, 12):
        for tool in filter(sys.monitoring.get_tool, range(6)):
            for event in (1 << bit for bit in range(20)):
                with suppress(ValueError):  # this Python has no such event
                    if callback := sys.monitoring.register_callback(tool, event, None):
                        put_back.append(partial(sys.monitoring.register_callback, tool, event, callback))
    return put_back


def place(frame: FrameType) -> str:  # pragma: no cover
    """The place of a frame, as text."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def comes_from(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether the exception, or one behind it or in it, is of one of the kinds."""
    return any(isinstance(one, kinds) for one in _all_of(error))


def _all_of(error: BaseException) -> list[BaseException]:
    """The exception, and those that are behind it or in it."""
    found: dict[int, BaseException] = {}
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in found:
            found[id(one)] = one
            todo += [one.__context__, one.__cause__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
    return list(found.values())


class _Canary:
    __slots__ = ("__weakref__",)


def canary_in(error: BaseException) -> ref[_Canary]:
    """Return a weak reference to an object that lives as long as the exception, or as one behind it or in it."""
    canary = _Canary()
    for one in _all_of(error):
        object.__setattr__(
            one, "_canary", canary
        )  # exceptions have no weak references; the class may override `__setattr__`
    return ref(canary)


class FreshCode:
    """Gives functions a fresh ``__code__``, as if they had never run, and finally their own code back."""

    def __init__(self) -> None:
        self._known: set[CodeType] = set()  # compared by value, so that a fresh copy counts as known
        self._originals: dict[FunctionType, CodeType] = {}

    def learn(self, codes: set[CodeType]) -> None:
        """Find the functions with these codes, which a run has executed."""
        if new := codes - self._known:
            self._known |= new
            gc.unfreeze()  # the search does not visit frozen objects
            for function in gc.get_referrers(*new):
                # The functions of this module are the harness, not the scenario.
                if isinstance(function, FunctionType) and function.__globals__ is not globals():
                    self._originals.setdefault(function, function.__code__)

    def refresh(self) -> None:
        """Replace the code of each function, and of the functions in it, by a copy without specialised opcodes."""
        for function, code in self._originals.items():
            function.__code__ = _fresh(code)

    def restore(self) -> None:
        """Give every function its own code back."""
        for function, code in self._originals.items():
            function.__code__ = code


def _fresh(code: CodeType) -> CodeType:
    return code.replace(co_consts=tuple(_fresh(c) if isinstance(c, CodeType) else c for c in code.co_consts))


class RunWatcher(threading.Thread):  # pragma: no cover
    """Watches one run from outside: takes the next steps when the scenario is blocked, and ends a run that hangs."""

    def __init__(
        self,
        blocked: Callable[[], bool],
        steps: tuple[Callable[[], object], ...],
        moves: Callable[[], int],
        hang: Callable[[], object],
        limit: float,
    ) -> None:
        super().__init__(name="interrupts-watcher", daemon=True)
        self._blocked, self._moves, self._hang, self._limit = blocked, moves, hang, limit
        self.steps = list(steps)  # the steps that are left
        self._over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Watch until `finish`."""
        ends, still, moves = monotonic() + self._limit, 0, -1
        try:
            while self.steps:
                if self._over.wait(POLL):
                    return
                if monotonic() > ends:
                    break
                seen, moves = moves, self._moves()
                still = still + 1 if moves == seen and self._blocked() else 0
                if still == STILL:
                    self.steps.pop(0)()
                    still = 0
        except BaseException as error:  # noqa: BLE001  the main thread raises it again
            self.error = error
        while not self._over.wait(max(POLL, ends - monotonic())):
            self._hang()
            ends = monotonic() + 0.1  # again, in case the exception was caught

    def finish(self) -> None:
        """End the watch, and raise the exception that a function of the caller raised in it."""
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error


class MainThread(Generic[T]):  # pragma: no cover
    """Runs a scenario in the main thread, with a SIGINT at the chosen delivery point."""

    def __init__(self, scenario: Callable[[T], object], *, storm: bool) -> None:
        self._scenario, self._storm = scenario, storm
        self._rearm = _Rearm()
        self._previous: Any = None
        self._armed = self._draining = False
        self._reset(0, after_wait=False)

    def _reset(self, chosen: int, *, after_wait: bool) -> None:
        self._chosen, self._after_wait = chosen, after_wait
        self.count = self._raised = 0
        self._base: int | None = None if after_wait else 0
        self.in_wait = self._hanging = self.hung = False
        self.where = ""
        self.codes: set[CodeType] = set()

    def __enter__(self) -> MainThread[T]:
        self._previous = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler if self._previous is None else self._previous)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if not self._armed or frame is None:
            if not self._draining:
                self._forward(signum, frame)
            return
        if self._hanging:
            self._hanging, self.hung, self.where = False, True, place(frame)
            raise Hung
        if frame.f_code is _RUN:  # the scenario is over
            return
        self.count += 1
        self.codes.add(frame.f_code)
        if self._fires():
            self._raised += 1
            if self._raised == 1 or self._base:
                self.where = place(frame)
            _ = -self._rearm  # no call from here on, or this handler would be called inside itself
            # The exception must not be in a variable of this frame, which its traceback keeps: in that reference cycle
            # it would outlive its handling.
            raise KeyboardInterrupt
        _ = -self._rearm

    def _fires(self) -> bool:
        """Decide whether this delivery is the one that raises."""
        if self._base is None:  # nothing is raised before the wait
            if self.in_wait:
                self._base = self.count
            return self.in_wait
        at = self.count - self._base
        return 0 < self._chosen <= at < self._chosen + (STORM if self._storm else 1)

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        """Pass on a Ctrl-C of the user's own that comes between two runs."""
        if callable(self._previous):
            self._previous(signum, frame)
        elif self._previous is not signal.SIG_IGN:
            raise KeyboardInterrupt

    def kick(self) -> None:
        """Interrupt the wait of the main thread, so that it calls the handler."""
        self.in_wait = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def hang(self) -> None:
        """End the run by an exception."""
        self._hanging = True
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            interrupt_main()

    def run(self, subject: T, chosen: int, watcher: RunWatcher, *, after_wait: bool) -> BaseException | None:
        """Run the scenario with an interrupt at the chosen point (0 for none), and return the exception that it raised.

        ``after_wait``: one interrupt comes in the wait, and the points are counted from there.
        """
        self._reset(chosen, after_wait=after_wait)
        watcher.start()
        try:
            return self._run(subject)  # not stored in a variable of this frame, which the traceback keeps: see _handle
        finally:
            self._draining = True
            _nothing()  # the handler's last call of this run comes here
            watcher.finish()
            _nothing()  # a signal that the watcher sent too late comes here
            self._draining = False

    def _run(self, subject: T) -> BaseException | None:
        # Between the two stores of `_armed` an interrupt belongs to the scenario. No interrupt is delivered between the
        # scenario's end and the second store.
        self._armed = True
        try:
            _ = -self._rearm
            self._scenario(subject)
        except BaseException as error:  # noqa: BLE001  `interrupts` judges it
            self._armed = False
            return error
        self._armed = False
        return None

    @property
    def delivered(self) -> bool:
        """Whether the chosen point was reached."""
        return self._raised > (1 if self._after_wait else 0)


_RUN: Final = MainThread._run.__code__


def _nothing() -> None:  # pragma: no cover
    """Do nothing; the entry to this function is a delivery point."""


class WorkerThread(Generic[T]):  # pragma: no cover
    """Runs a scenario in a worker thread, with an asynchronous exception set before the chosen opcode."""

    def __init__(self, scenario: Callable[[T], object], timeout: float) -> None:
        try:
            from ctypes import PYFUNCTYPE, c_int, c_ulong, py_object, pythonapi
        except ImportError as error:
            raise RuntimeError('interrupts(mode="worker") needs ctypes, which this Python lacks') from error
        self._set = PYFUNCTYPE(c_int, c_ulong, py_object)(("PyThreadState_SetAsyncExc", pythonapi))
        self._scenario, self._timeout = scenario, timeout
        self._reset(0)

    def _reset(self, chosen: int) -> None:
        self._chosen = chosen
        self.count = 0
        self.delivered = self.hung = False
        self.where = ""
        self.codes: set[CodeType] = set()
        self._outcome: BaseException | None = None
        self._arm: Any = None

    def hang(self) -> None:
        """Do nothing, because nothing ends a wait in that thread."""

    def run(self, subject: T, chosen: int, watcher: RunWatcher, *, after_wait: bool) -> BaseException | None:  # noqa: ARG002
        """Run the scenario with the exception set before the chosen opcode (0 for none), and return what it raised."""
        self._reset(chosen)
        thread = threading.Thread(target=self._body, args=(subject,), name="interrupts-worker", daemon=True)
        watcher.start()
        try:
            thread.start()
            thread.join(self._timeout)
        finally:
            watcher.finish()
        if thread.is_alive() and thread.ident is not None:
            self.hung = True
            frame = sys._current_frames().get(thread.ident)
            self.where = place(frame) if frame else ""
        outcome, self._outcome = self._outcome, None
        return outcome

    def _body(self, subject: T) -> None:
        set_here = partial(self._set, threading.get_ident(), KeyboardInterrupt)
        self._arm = type("Arm", (), {"__neg__": staticmethod(set_here)})()
        sys._getframe().f_trace_opcodes = True  # when tracing starts, 3.12 checks whether any frame wants opcodes
        sys.settrace(self._trace)
        try:
            self._scenario(subject)
        except BaseException as error:  # noqa: BLE001  `interrupts` judges it
            self._outcome = error
        try:
            sys.settrace(None)
            _nothing()  # if the scenario ended too early, the exception comes here
        except KeyboardInterrupt:
            pass

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:  # noqa: ARG002  the signature is given
        if event == "call":
            self.codes.add(frame.f_code)
            frame.f_trace = self._trace  # 3.13 wants this set before the opcodes are
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            self.count += 1
            if self.count == self._chosen:
                self.delivered = True
                self.where = place(frame)
                sys.settrace(None)
                traced: FrameType | None = frame
                while traced is not None:
                    traced.f_trace_opcodes = False
                    traced = traced.f_back
                _ = -self._arm  # no call from here on, or the exception would come in this function
                return None
        return self._trace
