"""`Threads` and `assert_blocks`: run functions in threads, and never hang or lose an exception."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from itertools import count
from types import EllipsisType, TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

from .._core.deadline import Deadline, check_timeout
from .._core.stacks import without_collection

__all__ = ["Running", "Threads", "WedgeError", "assert_blocks", "patience"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_serials = count(1)


def patience(seconds: float = 10.0) -> float:
    """Return the seconds times the environment's ``SYNCPRIMS_TEST_DELAY_FACTOR``, so that slow machines get more.

    Args:
        seconds: What a fast machine gets.

    Raises:
        ValueError: The variable is not a number.

    Example:
        >>> from syncprims.testing import patience
        >>> patience(2.0) >= 0
        True
    """
    return seconds * float(os.environ.get("SYNCPRIMS_TEST_DELAY_FACTOR") or 1)


class WedgeError(AssertionError):
    """Threads did not come to an end in time. The message shows where every thread of the process stands.

    Attributes:
        threads: The names of the threads that did not end.
        stacks: Every thread's stack, as text.
    """

    def __init__(self, message: str = "", *, threads: tuple[str, ...] = (), stacks: str = "") -> None:
        super().__init__(message)
        self.threads = threads
        self.stacks = stacks


def _wedge(what: str, seconds: float | None, names: tuple[str, ...]) -> WedgeError:
    known = {thread.ident: thread.name for thread in threading.enumerate()}
    formatted = without_collection(
        lambda: {ident: traceback.format_stack(frame) for ident, frame in sys._current_frames().items()}
    )
    stacks = "\n".join(
        f"Thread {known.get(ident, 'unknown')!r} (ident {ident}):\n{''.join(lines).rstrip()}"
        for ident, lines in formatted.items()
    )
    waited = "ever" if seconds is None else f"{seconds:g} s"
    message = (
        f"{stacks}\n{what} did not end within {waited}: {', '.join(map(repr, names))}; the stacks above show where"
    )
    return WedgeError(message, threads=names, stacks=stacks)


class Running(Generic[R_co]):
    """A function that runs in a thread of its own: what `Threads.start` and `assert_blocks` return.

    Thread safety: every method may be called from any thread.

    Attributes:
        thread: The `threading.Thread`, a daemon.
    """

    def __init__(self, fn: Callable[[], R_co], name: str) -> None:
        self._fn = fn
        self._value: R_co
        self._error: BaseException | None = None
        self._seen = False
        self.thread: threading.Thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._fn()
        except BaseException as error:  # noqa: BLE001  `result` and `Threads` raise it
            self._error = error

    def done(self) -> bool:
        """Whether the function has returned or raised, and its thread has ended. Does not block."""
        return not self.thread.is_alive()

    def exception(self, timeout: float | EllipsisType | None = ...) -> BaseException | None:
        """Wait for the end, and return what the function raised, or None. `Threads` does not raise it again.

        Args:
            timeout: Seconds to wait; left out, `patience`; ``None`` waits for ever.

        Raises:
            WedgeError: It did not end in time.
        """
        seconds = patience() if isinstance(timeout, EllipsisType) else check_timeout(timeout)
        self.thread.join(seconds)
        if self.thread.is_alive():
            raise _wedge("the thread", seconds, (self.thread.name,))
        self._seen = True
        return self._error

    def result(self, timeout: float | EllipsisType | None = ...) -> R_co:
        """Wait for the end, and return what the function returned.

        Args:
            timeout: Seconds to wait; left out, `patience`; ``None`` waits for ever.

        Raises:
            WedgeError: It did not end in time.
            BaseException: What the function raised. `Threads` does not raise it again.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def _unseen(self) -> BaseException | None:
        error, self._seen = (None if self._seen else self._error), True
        return error

    def __repr__(self) -> str:
        state = "running" if not self.done() else "returned" if self._error is None else f"raised {self._error!r}"
        return f"<{type(self).__name__} {self.thread.name!r}: {state}>"


class Threads:
    """Runs functions in threads, and comes back only when all have ended, with everything that they raised.

    For tests: an assertion that fails in a thread fails the test, and a thread that hangs fails it too, with the
    stacks of all threads, instead of hanging the run. The threads are daemons.

    Example:
        >>> from threading import Barrier
        >>> from syncprims.testing import Threads
        >>> meet = Barrier(2)
        >>> with Threads() as threads:
        ...     one = threads.start(meet.wait, 5)
        ...     two = threads.start(meet.wait, 5)
        >>> sorted([one.result(), two.result()])
        [0, 1]

    **Fairness**: threads start in the order of the calls; after that the system decides.

    **Thread safety**: `start` may be called from any thread, also from those that it started.

    **Differences from threading**: `threading.Thread` prints an exception and forgets it, and `join` tells neither
    whether the thread ended nor how. `concurrent.futures.ThreadPoolExecutor` bounds the number of threads, which
    can itself deadlock a test, and waits for ever for a thread that hangs.

    **Subclassing**: `start` and `join` may be overridden; leaving the ``with`` block calls `join`, unless the block
    itself raised.

    Args:
        timeout: Seconds that all threads together may take to end when the block is left; left out, `patience`.
            ``None`` waits for ever.
    """

    def __init__(self, timeout: float | EllipsisType | None = ...) -> None:
        self.timeout: float | None = patience() if isinstance(timeout, EllipsisType) else check_timeout(timeout)
        self._name = f"Threads-{next(_serials)}"
        self._running: list[Running[object]] = []

    def start(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Running[R]:
        """Run ``fn(*args, **kwargs)`` in a new thread, and return the handle to its result at once."""
        name = f"{self._name}.{len(self._running)} {getattr(fn, '__qualname__', type(fn).__qualname__)}"
        running = Running(lambda: fn(*args, **kwargs), name)
        self._running.append(running)
        return running

    def join(self, timeout: float | EllipsisType | None = ...) -> None:
        """Wait until every thread has ended, and raise what they raised.

        Args:
            timeout: Seconds to wait for all; left out, the constructor's. ``None`` waits for ever.

        Raises:
            WedgeError: Some did not end in time. What the others raised is its cause.
            BaseExceptionGroup: What the functions raised, in the order in which they were started: an
                `ExceptionGroup` where all are `Exception`. An exception that `Running.result` or
                `Running.exception` has shown already is left out, and each is raised once.
        """
        seconds = self.timeout if isinstance(timeout, EllipsisType) else timeout
        wedge = self._wait(seconds)
        group = self._group()
        if wedge is not None:
            raise wedge from group
        if group is not None:
            raise group

    def _wait(self, seconds: float | None) -> WedgeError | None:
        deadline = Deadline(seconds)
        for running in self._running:  # grows where a thread starts another, and the loop sees it
            running.thread.join(deadline.remaining())
        names = tuple(running.thread.name for running in self._running if not running.done())
        return _wedge(f"{len(names)} of {len(self._running)} threads", seconds, names) if names else None

    def _group(self) -> BaseExceptionGroup[BaseException] | None:
        errors = [error for running in self._running if running.done() and (error := running._unseen()) is not None]
        return BaseExceptionGroup(f"{len(errors)} of {len(self._running)} threads failed", errors) if errors else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is None:
            self.join()
            return
        # The block's own exception is what went wrong, and very likely what the threads hang on: they get a second to
        # end, and the rest is told in notes.
        wedge = self._wait(patience(1.0) if self.timeout is None else min(self.timeout, patience(1.0)))
        group = self._group()
        for failure in group.exceptions if group else ():
            error.add_note("A thread failed too:\n" + "".join(traceback.format_exception(failure)).rstrip())
        if wedge is not None:
            error.add_note(str(wedge))

    def __repr__(self) -> str:
        alive = sum(not running.done() for running in self._running)
        return f"<{type(self).__name__} {self._name!r}: {alive} of {len(self._running)} running>"


def assert_blocks(
    fn: Callable[[], R], *, until: Callable[[], bool] | None = None, look: float | None = None
) -> Running[R]:
    """Assert that ``fn()`` blocks, and return the handle to let it finish and to take its result.

    It runs in a thread of its own. Nothing can prove that a function would block for ever: with ``until`` the proof
    is as good as that function (``lambda: lock.waiting == 1``) and takes no longer than needed; without it, this
    looks for ``look`` seconds, and a function that is merely slower than that passes too.

    Args:
        fn: The function; use `functools.partial` or a lambda to pass arguments.
        until: Says whether it is blocked; asked every millisecond until it says yes, for at most `patience`.
        look: Seconds to look; left out, ``patience(0.05)``. Not used with ``until``.

    Returns:
        The handle. Let the function go, then call its `Running.result`.

    Raises:
        AssertionError: The function came to an end, with its result in the message or its exception as the cause;
            or ``until`` did not come true.

    Example:
        >>> from threading import Lock
        >>> from syncprims.testing import assert_blocks
        >>> lock = Lock()
        >>> with lock:
        ...     blocked = assert_blocks(lock.acquire)
        >>> blocked.result()
        True
    """
    name = getattr(fn, "__qualname__", repr(fn))
    running = Running(fn, f"assert_blocks {name}")
    deadline = Deadline((patience(0.05) if look is None else look) if until is None else patience())
    while not running.done():
        if until is not None and until():
            return running
        remaining = deadline.remaining() or 0.0
        if not remaining:
            if until is None:
                return running
            raise AssertionError(f"{name} runs, but until() did not come true in {deadline.timeout:g} s")
        running.thread.join(remaining if until is None else min(remaining, 0.001))
    error = running.exception()
    how = f"returned {running.result()!r}" if error is None else f"raised {error!r}"
    raise AssertionError(f"{name} was expected to block, but it {how} after {deadline.waited():.3f} s") from error
