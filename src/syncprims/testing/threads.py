"""`Threads` and `assert_blocks`: run functions in threads without hanging and without losing an exception."""

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
    """Return the seconds times the environment variable ``SYNCPRIMS_TEST_DELAY_FACTOR``, for slow machines.

    Args:
        seconds: The time for a fast machine.

    Raises:
        ValueError: The variable is not a number.

    Example:
        >>> from syncprims.testing import patience
        >>> patience(2.0) >= 0
        True
    """
    return seconds * float(os.environ.get("SYNCPRIMS_TEST_DELAY_FACTOR") or 1)


class WedgeError(AssertionError):
    """Threads did not end in time. The message shows the stack trace of every thread of the process.

    Attributes:
        threads: The names of the threads that did not end.
        stacks: Every thread's stack, as text.
    """

    def __init__(self, message: str = "", *, threads: tuple[str, ...] = (), stacks: str = "") -> None:
        super().__init__(message)
        self.threads = threads
        self.stacks = stacks


def _wedge(what: str, seconds: float | None, names: tuple[str, ...]) -> WedgeError:
    known = {thread.ident: f"Thread {thread.name!r}" for thread in threading.enumerate() if thread.name}
    formatted = without_collection(
        lambda: {ident: traceback.format_stack(frame) for ident, frame in sys._current_frames().items()}
    )
    stacks = "\n".join(
        f"{known.get(ident, 'A thread without a name')} (ident {ident}):\n{''.join(lines).rstrip()}"
        for ident, lines in formatted.items()
    )
    waited = "ever" if seconds is None else f"{seconds:g} s"
    message = (
        f"{stacks}\n{what} did not end within {waited}: {', '.join(map(repr, names))}; the stacks above show where"
    )
    return WedgeError(message, threads=names, stacks=stacks)


class Running(Generic[R_co]):
    """A function that runs in its own thread. `Threads.start` and `assert_blocks` return this.

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
        """Wait for the end, and return the exception that the function raised, or None. `Threads` won't raise it again.

        Args:
            timeout: Seconds to wait. The default is `patience`, and ``None`` waits forever.

        Raises:
            WedgeError: The function did not end in time.
        """
        seconds = patience() if isinstance(timeout, EllipsisType) else check_timeout(timeout)
        self.thread.join(seconds)
        if self.thread.is_alive():
            raise _wedge("the thread", seconds, (self.thread.name,))
        self._seen = True
        return self._error

    def result(self, timeout: float | EllipsisType | None = ...) -> R_co:
        """Wait for the end, and return the result of the function.

        Args:
            timeout: Seconds to wait. The default is `patience`, and ``None`` waits forever.

        Raises:
            WedgeError: The function did not end in time.
            BaseException: The exception that the function raised. `Threads` won't raise it again.
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
    """Runs functions in threads, waits for all of them, and raises their exceptions as one group.

    Use it in tests. If an assertion fails in a thread, the test fails. If a thread hangs, the test fails with the stack
    traces of all threads, and the test run goes on. The threads are daemons.

    Example:
        >>> from threading import Barrier
        >>> from syncprims.testing import Threads
        >>> meet = Barrier(2)
        >>> with Threads() as threads:
        ...     one = threads.start(meet.wait, 5)
        ...     two = threads.start(meet.wait, 5)
        ...
        >>> sorted([one.result(), two.result()])
        [0, 1]

    **Fairness**: threads start in the order of the calls. After that the operating system decides which one runs.

    **Thread safety**: `start` may be called from any thread, including those that it started.

    **Differences from threading**: `threading.Thread` prints an exception and drops it, and `join` does not say whether
    the thread ended, or how. `concurrent.futures.ThreadPoolExecutor` limits the number of threads, which can deadlock a
    test, and waits forever for a thread that hangs.

    **Subclassing**: `start` and `join` may be overridden. Leaving the ``with`` block calls `join`, unless the block
    raised an exception.

    Args:
        timeout: Seconds that all threads together may take to end when the block is left. The default is `patience`,
            and ``None`` waits forever.
    """

    def __init__(self, timeout: float | EllipsisType | None = ...) -> None:
        self.timeout: float | None = patience() if isinstance(timeout, EllipsisType) else check_timeout(timeout)
        self._name = f"Threads-{next(_serials)}"
        self._running: list[Running[object]] = []

    def start(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Running[R]:
        """Run ``fn(*args, **kwargs)`` in a new thread. Return the handle to its result without waiting."""
        name = f"{self._name}.{len(self._running)} {getattr(fn, '__qualname__', type(fn).__qualname__)}"
        running = Running(lambda: fn(*args, **kwargs), name)
        self._running.append(running)
        return running

    def join(self, timeout: float | EllipsisType | None = ...) -> None:
        """Wait until every thread has ended, and raise their exceptions.

        Args:
            timeout: Seconds to wait for all of them. The default is the constructor's, and ``None`` waits forever.

        Raises:
            WedgeError: Some threads did not end in time. The exceptions of the others are its cause.
            BaseExceptionGroup: The exceptions of the functions, in the order in which these were started. It is an
                `ExceptionGroup` if all of them are `Exception`. It leaves out an exception that `Running.result` has
                already raised or `Running.exception` has already returned, and each exception is raised once.
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
        for running in self._running:  # the list grows if a thread starts another, and the loop sees that
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
        # The block's own exception is probably the reason why threads hang. So they get one more second to end, and
        # notes on the exception describe them.
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
    """Assert that ``fn()`` blocks, and return a handle to its result.

    The function runs in its own thread. No test can prove that a function would block forever. With ``until``
    (``lambda: lock.waiting == 1``), the assertion is as good as that function, and takes no longer than needed. Without
    it, the function must not end for ``look`` seconds, so a function that is only slow passes too.

    Args:
        fn: The function; use `functools.partial` or a lambda to pass arguments.
        until: Returns whether the function is blocked. It is called every millisecond until it returns true, for at
            most `patience`.
        look: Seconds to watch. The default is ``patience(0.05)``. Not used with ``until``.

    Returns:
        The handle. Let the function go on, then call `Running.result`.

    Raises:
        AssertionError: The function ended: its result is in the message, or its exception is the cause. Or ``until``
            did not become true.

    Example:
        >>> from threading import Lock
        >>> from syncprims.testing import assert_blocks
        >>> lock = Lock()
        >>> with lock:
        ...     blocked = assert_blocks(lock.acquire)
        ...
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
