"""The tools of clauses: expectations that say what happened, and threads with a limit for every wait."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from select import select
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from ..._core.clock import monotonic, sleep
from ..._core.stacks import FILE_OF_THREADING
from ..interrupts import Mode, interrupts
from ..threads import Running, patience

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class BrokenError(Exception):
    """A clause does not hold; the message says what happened."""


class NotHereError(Exception):
    """A clause can't be tried here; the message says why."""


def limit() -> float:
    """Seconds to wait for an event that should happen."""
    return patience(4.0)


def moment() -> float:
    """Seconds to watch for an event that should not happen; also the length of timeouts that should run out."""
    return patience(0.03)


# -- expectations -----------------------------------------------------------------------------------------------------


def expect(what: str, got: object, wanted: object) -> None:
    """Break the clause unless the two are equal."""
    if got is not wanted and got != wanted:
        raise BrokenError(f"{what} gave {got!r}, not {wanted!r}")


def expect_that(condition: object, happened: str) -> None:
    """Break the clause, and say what happened, unless the condition is true."""
    if not condition:
        raise BrokenError(happened)


def raises(
    kind: type[E] | tuple[type[E], ...], what: str, fn: Callable[..., object], *args: object, **kwargs: object
) -> E:
    """Break the clause unless the call, which may be a wrong one, raises an exception of the kind; return that."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(one.__name__ for one in kinds)
    try:
        got = fn(*args, **kwargs)
    except kinds as error:
        return error
    except (BrokenError, NotHereError):
        raise
    except BaseException as error:
        raise BrokenError(f"{what} raised {told(error)}, and no {names}") from error
    raise BrokenError(f"{what} gave {got!r} and raised no {names}")


def told(error: BaseException) -> str:
    """Describe an exception: its type, its text and its place."""
    if isinstance(error, BrokenError):
        return str(error)
    text = "".join(str(error).strip().splitlines()[-1:])
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    inner = ""
    if isinstance(error, BaseExceptionGroup):
        inner = " of " + ", ".join(told(one) for one in error.exceptions)
    return f"{type(error).__name__}{f': {text}' if text else ''}{inner}{where}"


# -- threads ----------------------------------------------------------------------------------------------------------


def start(fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Running[R]:
    """Start the call in its own thread."""
    return Running(lambda: fn(*args, **kwargs), f"another thread, in {getattr(fn, '__name__', 'a call')}")


def finish(running: Running[R], what: str = "the other thread") -> R:
    """Wait for the thread's end; return what its function returned, or raise what it raised."""
    running.thread.join(limit())
    if not running.done():
        raise BrokenError(f"{what} did not end within {limit():g} s; {standing(running.thread)}")
    return running.result(0)


def aside(fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Make the call in another thread, and wait for it."""
    return finish(start(fn, *args, **kwargs), getattr(fn, "__name__", "the call"))


def still(running: Running[object], what: str) -> None:
    """Break the clause if the thread has ended or ends within a moment: it should wait."""
    running.thread.join(moment())
    if running.done():
        error = running.exception(0)
        how = f"gave {running.result(0)!r}" if error is None else f"raised {told(error)}"
        raise BrokenError(f"{what} did not wait, but {how}")


def until(what: str, condition: Callable[[], object], seconds: float | None = None) -> None:
    """Wait for the condition; break the clause if it does not come true."""
    seconds = limit() if seconds is None else seconds
    if not settled(condition, seconds):
        raise BrokenError(f"{what}, which did not come true within {seconds:g} s")


def settled(condition: Callable[[], object], seconds: float | None = None) -> bool:
    """Wait for the condition, for a moment or so many seconds; return whether it became true."""
    ends = monotonic() + (moment() if seconds is None else seconds)
    while not condition():
        if monotonic() > ends:
            return False
        sleep(0.001)
    return True


def wait(event: threading.Event, what: str) -> None:
    """Wait for the event; break the clause if it does not come."""
    if not event.wait(limit()):
        raise BrokenError(f"{what} did not come within {limit():g} s")


def standing(thread: threading.Thread) -> str:
    """The place of a thread, as text: the innermost frame that is not merely a wait of `threading`."""
    frame: FrameType | None = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename == FILE_OF_THREADING:
        frame = frame.f_back
    if frame is None:
        return f"{thread.name} has just ended"
    return f"it is at {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"


# -- processes and interrupts -----------------------------------------------------------------------------------------


def in_child(fn: Callable[[], object]) -> None:
    """Call the function in a forked child; break the clause if it raises or hangs there."""
    if not hasattr(os, "fork"):
        raise NotHereError("this system has no os.fork")
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns that a child of a process with threads may hang. The clause is that it does not.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _tell_and_exit(fn, writer)
    os.close(writer)
    try:
        if not select([reader], [], [], limit())[0]:
            os.kill(child, signal.SIGKILL)
            raise BrokenError(f"the forked child hung for {limit():g} s")
        problem = os.read(reader, 1 << 16).decode(errors="replace")
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    expect_that(problem == "kept", f"in the forked child, {problem or 'Python died'}")


def _tell_and_exit(fn: Callable[[], object], writer: int) -> NoReturn:
    try:
        fn()
        problem = "kept"
    except BaseException as error:  # noqa: BLE001  the parent hears of it
        problem = told(error)
    finally:
        os.write(writer, problem.encode())
        os._exit(0)


def sweep(
    make: Callable[[], T],
    scenario: Callable[[T], object],
    broken: Callable[[T], str | None],
    *modes: Mode,
    when_blocked: Callable[[T], bool] | None = None,
    unblock: Callable[[T], object] | None = None,
) -> None:
    """Deliver interrupts at every point of the scenario, in each mode; break the clause if a point leaves a leak."""
    if (when_blocked is not None) and not hasattr(signal, "pthread_kill"):
        raise NotHereError("this system has no signal.pthread_kill, so no wait can be interrupted")
    for mode in modes:
        report = interrupts(
            make, scenario, broken, mode=mode, when_blocked=when_blocked, unblock=unblock, timeout=limit()
        )
        if report.leaks:
            first = report.leaks[0]
            raise BrokenError(
                f"{len(report.leaks)} of {report.points} interruption points ({mode}) leave something broken, the "
                f"first at {os.path.basename(first.where)}: {first.problem}"
            )
