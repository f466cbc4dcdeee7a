"""Threads for the tests of the locks: their errors are not lost, and every wait for them has a limit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue
from threading import Condition, Event, Lock, Thread
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from syncprims import LockAdapter, TimedLock
from syncprims._core.waits import SETTLED, all_waits, subject

T = TypeVar("T")

LIMIT: Final = 60.0  # seconds; whatever takes longer here hangs


class Job(Generic[T]):
    """A function that runs in its own thread, and its outcome."""

    def __init__(self, body: Callable[[], T], name: str | None = None) -> None:
        """Start the thread."""
        self._body = body
        self._values: list[T] = []
        self._error: BaseException | None = None
        self.seen = False
        self.thread = Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._values.append(self._body())
        except BaseException as error:
            self._error = error

    def error(self) -> BaseException | None:
        """The exception that the function raised, or None; waits for its end."""
        self.thread.join(LIMIT)
        assert not self.thread.is_alive(), f"{self.thread.name} hangs"
        self.seen = True
        return self._error

    def result(self) -> T:
        """The result of the function; waits for its end and raises the function's exception."""
        error = self.error()
        if error is not None:
            raise error
        return self._values[0]


class Actors:
    """Jobs that have all ended when the ``with`` ends; an error that no code looked at is raised then."""

    def __init__(self) -> None:
        """Begin with no job."""
        self._jobs: list[Job[object]] = []

    def start(self, body: Callable[[], T], name: str | None = None) -> Job[T]:
        """Run the function in a thread."""
        job = Job(body, name)
        self._jobs.append(job)  # type: ignore[arg-type]  # a list of any jobs, which are only read
        return job

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unseen = [job.error() for job in self._jobs if not job.seen]
        errors = [unseen_error for unseen_error in unseen if unseen_error is not None]
        if error is None and errors:
            raise BaseExceptionGroup("errors of threads", errors)


def wait_for(event: Event) -> None:
    """Wait for an event that has to come."""
    assert event.wait(LIMIT), "the event did not come"


def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition without an event, such as a thread that blocks."""
    end = monotonic() + LIMIT
    pause = Event()
    while not condition():
        assert monotonic() < end, "it did not come to be"
        pause.wait(0.0005)


def stuck_on(lock: object) -> int:
    """How many threads wait for the lock and have found no deadlock; a later wait that completes one gets the error.

    The ``waiting`` of the lock also counts a thread that is still looking, and then that thread may get the error.
    """
    return sum(wait.serial == SETTLED for wait in all_waits() if subject(wait)[0] is lock)


def take_and_let_go(lock: TimedLock | LockAdapter, *arguments: Any) -> bool:
    """Acquire the lock, release it if that succeeded, and return whether it did."""
    taken = lock.acquire(*arguments)
    if taken:
        lock.release()
    return taken


def condition_over(lock: TimedLock | LockAdapter) -> Condition:
    """A Condition with this lock."""
    return Condition(lock)  # type: ignore[arg-type]  # typeshed names the classes that it takes


@contextmanager
def held_elsewhere(lock: TimedLock | LockAdapter, name: str = "holder") -> Iterator[Callable[[], None]]:
    """Another thread holds the lock; the yielded function makes it release the lock, and so does leaving."""
    entered, leave = Event(), Event()

    def charge() -> None:
        with lock.hold(LIMIT):
            entered.set()
            wait_for(leave)

    with Actors() as actors:
        actors.start(charge, name)
        wait_for(entered)
        try:
            yield leave.set
        finally:
            leave.set()


def gets_it_in_the_end(lock: TimedLock | LockAdapter, take: Callable[[], T]) -> T:
    """Let a thread acquire the lock while another one holds it, which releases it then; return the result."""
    with Actors() as actors, held_elsewhere(lock) as let_go:
        waiter = actors.start(take)
        eventually(lambda: lock.waiting == 1)
        let_go()
        return waiter.result()


def held_in(entering: AbstractContextManager[object], lock: TimedLock | LockAdapter) -> bool:
    """Enter, and return whether this thread holds the lock then."""
    with entering:
        return lock.held_by_me()


@contextmanager
def on_signal(handle: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Let the main thread call the function, wherever it is; the yielded function sends signals until that begins."""
    begun = over = False
    mutex = Lock()

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        if not begun:
            begun = True
            handle()

    def send() -> None:
        # Repeatedly: a signal that comes just before a wait begins does not end the wait.
        def begins() -> bool:
            with mutex:
                if not over:  # afterwards it would end the process
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            return begun or over

        eventually(begins)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield send
    finally:
        with mutex:
            over = True
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # drops one that is on its way
            signal.signal(signal.SIGUSR1, before)


class Worker:
    """A thread that does one thing at a time when asked, and reports the outcome."""

    def __init__(self, name: str) -> None:
        """Start it."""
        self._orders: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Any] = SimpleQueue()
        self.thread = Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                outcome = order()
            except Exception as error:
                outcome = error
            self._outcomes.put(outcome)

    def begin(self, order: Callable[[], Any]) -> None:
        """Let it begin something that may take long."""
        self._orders.put(order)

    def outcome(self, timeout: float = LIMIT) -> Any:
        """The outcome of that: the result, or the exception."""
        return self._outcomes.get(timeout=timeout)

    def do(self, order: Callable[[], Any]) -> Any:
        """Let it do something that ends at once, and return the outcome."""
        self.begin(order)
        return self.outcome()

    def stop(self) -> None:
        """End it."""
        self._orders.put(None)
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
