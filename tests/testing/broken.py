"""Deliberately broken subclasses, each with one common fault, which the conformance kit has to name."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import sleep
from typing import Any, Self, TypeVar

from syncprims import (
    AtomicCounter,
    CallbackErrors,
    CallbackPool,
    CounterBoundsError,
    CounterTimeoutError,
    DeadlockError,
    Holder,
    LockTimeoutError,
    OrderedRunner,
    Task,
    TimedLock,
    TimedRLock,
    Turn,
)

T = TypeVar("T")

# -- locks ------------------------------------------------------------------------------------------------------------


class KeepsOnError(TimedLock):
    """Forgets to release when the body raises."""

    def __exit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            super().__exit__(*exc_info)


class SwallowsException(TimedLock):
    """Releases, and swallows the exception."""

    def __exit__(self, *exc_info: object) -> bool:  # type: ignore[override]  # this is its fault
        super().__exit__(*exc_info)
        return True


class LeaksOnInterrupt(TimedLock):
    """Has an ``__exit__`` in Python, where an interrupt can come before the release."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)


class WaitsNaively(TimedLock):
    """Does something between the acquisition and the body."""

    def __enter__(self) -> Self:
        super().__enter__()
        len("logged")
        return self


class IgnoresTimeout(TimedLock):
    """Waits as long as it takes."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        return super().acquire() if blocking and timeout != 0 else super().acquire(False)


class GivesUpEarly(TimedLock):
    """Takes seconds for milliseconds."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        return super().acquire(blocking, timeout / 1000 if timeout and timeout > 0 else timeout)


class RaisesInAcquire(TimedLock):
    """Reports failures in its own way."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        if not super().acquire(blocking, timeout):
            raise LockTimeoutError("not in time")
        return True


class StrangersRelease(TimedLock):
    """Lets any thread release it."""

    def release(self) -> None:
        self._at_fork_reinit()


class ForgivesRelease(TimedLock):
    """Accepts a release of a free lock."""

    def release(self) -> None:
        try:
            super().release()
        except RuntimeError:
            pass


class WakesTwo(TimedLock):
    """Wakes two waiters at each release, and neither checks again."""

    def __init__(self) -> None:
        super().__init__()
        self._awake = threading.Semaphore(0)

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        if super().acquire(False):
            return True
        return blocking and self._awake.acquire(timeout=None if timeout == -1 else timeout)

    def release(self) -> None:
        if self.held_by_me():
            super().release()
        self._awake.release(2)


class LosesWakeup(TimedLock):
    """Never hands the lock to a thread that already waits."""

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        if super().acquire(False) or not blocking:
            return self.held_by_me()
        threading.Event().wait(None if timeout == -1 else timeout)
        return False


class HoldsNothing(TimedLock):
    """Its ``hold`` does not acquire."""

    def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
        super().hold(timeout)
        return nullcontext(self)


class ForgetsHolder(TimedLock):
    """Can't say which thread holds it."""

    @property
    def holder(self) -> Holder | None:
        return None


class BlocksInRepr(TimedLock):
    """Acquires itself to describe itself."""

    def __repr__(self) -> str:
        with self.hold(1.0):
            return f"<unlocked {self.name}>"


class FalseDeadlock(TimedLock):
    """Takes a queue for a deadlock."""

    def _on_wait(self, holder: Holder | None) -> None:
        if self.waiting:
            raise DeadlockError("a thread waits already")


class BlindToDeadlock(TimedLock):
    """Waits by trying again and again, so that no report sees its wait."""

    @contextmanager
    def hold(self, timeout: float | None) -> Generator[Self]:
        if not self.acquire(timeout=timeout):
            raise LockTimeoutError("not in time", lock_name=self.name, timeout=timeout)
        try:
            yield self
        finally:
            self.release()


class ReentersSilently(TimedRLock):
    """Lets its holder in again, although it should not."""


class ReleasesTwice(TimedRLock):
    """Releases the outer hold together with the inner one."""

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        if self.held_by_me():
            super().__exit__(*exc_info)


# -- counters ---------------------------------------------------------------------------------------------------------


class LosesUpdate(AtomicCounter):
    """Reads, then writes."""

    def increment(self, n: int = 1) -> int:
        value = self.value
        sleep(0)
        self.set(value + n)
        return value + n


class ReturnsOld(AtomicCounter):
    """Returns the old value from a method that should return the new one."""

    def add(self, n: int) -> int:
        return self.get_and_add(n)


class ClampsAtBounds(AtomicCounter):
    """Goes up to the bound, and reports no error."""

    def decrement(self, n: int = 1) -> int:
        try:
            return super().decrement(n)
        except CounterBoundsError:
            self.set(self.minimum or 0)
            return self.value


class UpdatesTwice(AtomicCounter):
    """Calls the function of an update once more to see whether it works."""

    def update(self, fn: Callable[[int], int]) -> int:
        fn(self.value)
        return super().update(fn)


class UpdatesOutside(AtomicCounter):
    """Calls the function of an update without the lock."""

    def update(self, fn: Callable[[int], int]) -> int:
        new = fn(self.value)
        self.set(new)
        return new


class WakesNobody(AtomicCounter):
    """Changes the value without notifying the waiting threads."""

    def set(self, new: int) -> None:
        self._value = new


class WaitsForNothing(AtomicCounter):
    """Returns when the time is up, as if the value had come."""

    def wait_until(self, value: int, timeout: float | None = None) -> int:
        try:
            return super().wait_until(value, timeout)
        except CounterTimeoutError as error:
            return error.value


# -- runners ----------------------------------------------------------------------------------------------------------


class ReordersSteps(OrderedRunner):
    """Goes through the steps in the reverse order."""

    def _next(self, done: Turn | None) -> str | None:
        step = super()._next(done)
        return None if step is None else self.steps[-1 - self.steps.index(step)]


class NeverFinishes(OrderedRunner):
    """Begins again after the last round."""

    def _next(self, done: Turn | None) -> str | None:
        return super()._next(done) or self.steps[0]


class GoesOnAfterError(OrderedRunner):
    """Lets the next step go on although one has failed."""

    def _on_error(self, turn: Turn, exc: Exception) -> bool:
        return True


class DeafToAbort(OrderedRunner):
    """Does not break."""

    def abort(self, cause: BaseException | None = None) -> None:
        pass


class ForgetsCause(OrderedRunner):
    """Breaks, and does not give the cause."""

    def abort(self, cause: BaseException | None = None) -> None:
        super().abort()


class ServesOnce(OrderedRunner):
    """Serves only one of the remaining turns."""

    def serve(self, name: str, fn: Callable[[Turn], object]) -> int:
        with self.step(name) as turn:
            fn(turn)
        return 1


# -- pools ------------------------------------------------------------------------------------------------------------


class WrapsCallback(CallbackPool):
    """Base of pools with a fault in their callbacks."""

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> Task[T]:
        return super().apply_async(
            func, args, kwds, self.wrap(callback), self.wrap_error(error_callback), timeout=timeout
        )

    def wrap(self, callback: Callable[[T], object] | None) -> Callable[[T], object] | None:
        return callback

    def wrap_error(
        self, callback: Callable[[BaseException], object] | None
    ) -> Callable[[BaseException], object] | None:
        return callback


class CallsBackTwice(WrapsCallback):
    """Calls the callback twice."""

    def wrap(self, callback: Callable[[T], object] | None) -> Callable[[T], object] | None:
        if not callable(callback):
            return callback

        def twice(result: T) -> None:
            callback(result)
            callback(result)

        return twice


class ForgetsErrorCallback(WrapsCallback):
    """Reports only successes."""

    def wrap_error(
        self, callback: Callable[[BaseException], object] | None
    ) -> Callable[[BaseException], object] | None:
        return None


class CallsBackInThreads(WrapsCallback):
    """Gives each callback its own thread."""

    def wrap(self, callback: Callable[[T], object] | None) -> Callable[[T], object] | None:
        if not callable(callback):
            return callback

        def elsewhere(result: T) -> None:
            errors: list[BaseException] = []

            def call() -> None:
                try:
                    callback(result)
                except BaseException as error:
                    errors.append(error)

            thread = threading.Thread(target=call, name="callback", daemon=True)
            thread.start()
            thread.join()
            if errors:
                raise errors[0]

        return elsewhere


class DropsErrors(CallbackPool):
    """Joins without raising errors."""

    def join(self, timeout: float | None = None) -> None:
        try:
            super().join(timeout)
        except CallbackErrors:
            pass


class ForgetsMaps(CallbackPool):
    """Reads a map's first result itself, and hides its error."""

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **kwargs: Any) -> Iterator[T]:
        results = super().map(fn, *iterables, **kwargs)
        try:
            return itertools.chain([next(results)], results)
        except ValueError:
            return iter(())


class ShutsDownLater(CallbackPool):
    """Shuts down as it closes: only when nothing is pending any more."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.close()


class LeavesEarly(CallbackPool):
    """Leaves without waiting for any thread."""

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown(wait=False)


class IgnoresLimit(CallbackPool):
    """Accepts any number of tasks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "max_pending": None})


class AbortsNothing(CallbackPool):
    """Lets the queue go on running."""

    def abort(self) -> list[Task[Any]]:
        self.shutdown(wait=False)
        return []


class MapsBackwards(CallbackPool):
    """Gives the results of a map in the reverse order."""

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **kwargs: Any) -> Iterator[T]:
        return reversed(list(super().map(fn, *iterables, **kwargs)))
