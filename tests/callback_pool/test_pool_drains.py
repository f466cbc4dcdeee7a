"""Standard threads that were passed in: few calls of their executor run many tasks; otherwise nothing differs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from syncprims import CallbackPool, Task
from syncprims._core.clock import monotonic
from syncprims.callback_pool.cpython.condition_left_locked import ConditionInC
from syncprims.callback_pool.workers.drains import Drained
from syncprims.testing import MODES, Mode, Threads, interrupts, patience

LIMIT = 30.0
MANY = 1000  # no-op tasks, which take several turns


def quick() -> None:
    """Do nothing."""


def long() -> None:
    """Take longer than a turn."""
    until = monotonic() + 0.002
    while monotonic() < until:
        pass


@contextmanager
def busy(executor: ThreadPoolExecutor, workers: int = 1) -> Iterator[Callable[[], None]]:
    """Keep an executor busy with calls of another user, until the block ends, or the yielded function is called."""
    begun, let_go = threading.Barrier(workers + 1), threading.Event()

    def occupy() -> None:
        begun.wait(LIMIT)
        let_go.wait(LIMIT)

    for _ in range(workers):
        executor.submit(occupy)
    begun.wait(LIMIT)
    try:
        yield let_go.set
    finally:
        let_go.set()


def learn(pool: CallbackPool, fn: Callable[[], None]) -> None:
    """Let the pool learn how long its tasks take."""
    for _ in range(MANY if fn is quick else 2):
        pool.submit(fn)
    pool.join(LIMIT)


@contextmanager
def busy_and_quick(pool: CallbackPool, executor: ThreadPoolExecutor, workers: int = 1) -> Iterator[None]:
    """Do the same after the pool has learnt that its tasks are short."""
    assert isinstance(pool._backend, Drained)
    for _ in range(1000):
        learn(pool, quick)
        with busy(executor, workers):
            if not pool._backend._one_each:  # a thread that the system stops takes a short task for a long one
                yield
                return
    pytest.fail("it never knows")


def queued(executor: ThreadPoolExecutor) -> int:
    """The number of calls that wait in the executor."""
    return executor._work_queue.qsize()


each_kind = pytest.mark.parametrize("kind", [quick, long])


@pytest.mark.parametrize("workers", [1, 3])
def test_quick_tasks_share_few_calls(workers: int) -> None:
    """For any number of queued short tasks, the executor has one call more than it has threads."""
    with ThreadPoolExecutor(workers) as executor, CallbackPool(executor) as pool:
        with busy_and_quick(pool, executor, workers):
            tasks = [pool.submit(quick) for _ in range(100)]
            assert queued(executor) == workers + 1
        pool.join(LIMIT)
        assert all(task.settled() for task in tasks)


def test_long_tasks_keep_their_place() -> None:
    """Each task that takes longer than a turn has its own call, and comes before later ones."""
    order: list[int] = []

    def note(number: int) -> None:
        long()
        order.append(number)

    with ThreadPoolExecutor(1) as executor, CallbackPool(executor) as pool:
        learn(pool, quick)
        learn(pool, long)
        with busy(executor):
            for number in range(20):
                pool.submit(note, number)
            assert queued(executor) == 20
            executor.submit(order.append, -1)
            pool.submit(note, 20)
        pool.join(LIMIT)
    assert order == [*range(20), -1, 20]


def test_other_users_wait_for_a_turn_only() -> None:
    """A call of another user runs before very many short tasks that were submitted earlier."""
    ran: list[int] = []
    with ThreadPoolExecutor(1) as executor, CallbackPool(executor) as pool:
        with busy_and_quick(pool, executor):
            for _ in range(10 * MANY):
                pool.submit(quick)
            other = executor.submit(lambda: ran.append(pool.stats.pending))
        other.result(LIMIT)
    assert ran[0] > 0


@each_kind
@pytest.mark.parametrize("number", [1, 2, 50])
def test_executor_that_cancels_what_is_queued(kind: Callable[[], None], number: int) -> None:
    """shutdown(cancel_futures=True) of the executor cancels every queued task, and each callback is called."""
    told: list[BaseException] = []
    with ThreadPoolExecutor(1) as executor, CallbackPool(executor) as pool:
        learn(pool, kind)
        with busy(executor):
            tasks = [pool.apply_async(kind, error_callback=told.append) for _ in range(number)]
            executor.shutdown(wait=False, cancel_futures=True)
            pool.join(LIMIT)
            assert all(task.cancelled() for task in tasks)
    assert [type(error) for error in told] == [CancelledError] * number


@each_kind
def test_cancelling_while_they_run(kind: Callable[[], None]) -> None:
    """If the executor cancels while tasks run and others come in, each of them is reported once."""
    for _ in range(6):
        told: list[list[object]] = []
        begun = threading.Event()
        with ThreadPoolExecutor(2) as executor, CallbackPool(executor) as pool, Threads() as threads:

            def submit(pool: CallbackPool = pool, told: list[list[object]] = told, begun: Any = begun) -> None:
                for number in range(300):
                    heard: list[object] = []
                    try:
                        pool.apply_async(kind, callback=heard.append, error_callback=heard.append)
                    except RuntimeError:
                        return
                    finally:
                        if number == 20:
                            begun.set()
                    told.append(heard)

            threads.start(submit)
            threads.start(submit)
            assert begun.wait(LIMIT)
            executor.shutdown(wait=False, cancel_futures=True)
            threads.join(LIMIT)
            pool.close(LIMIT)
        assert all(len(heard) == 1 for heard in told)


@each_kind
def test_executor_that_is_shut_down(kind: Callable[[], None]) -> None:
    """An executor that is shut down runs all queued tasks; a submission raises the executor's error."""
    with ThreadPoolExecutor(2) as executor, CallbackPool(executor) as pool:
        learn(pool, kind)
        with busy(executor, 2):
            tasks = [pool.submit(kind) for _ in range(MANY if kind is quick else 20)]
            executor.shutdown(wait=False)
            with pytest.raises(RuntimeError, match="after shutdown"):
                pool.submit(kind)
            assert pool.stats.pending == len(tasks)
        pool.join(LIMIT)
        assert all(task.done() and not task.cancelled() for task in tasks)


def test_initializer_that_fails() -> None:
    """If the executor's initializer raises, queued tasks fail with the executor's error; later ones are refused."""
    go_on = threading.Event()

    def fail() -> None:
        go_on.wait(LIMIT)
        raise ValueError("no")

    errors: list[BaseException] = []
    with ThreadPoolExecutor(2, initializer=fail) as executor, CallbackPool(executor) as pool:
        for _ in range(50):
            pool.apply_async(quick, error_callback=errors.append)
        go_on.set()
        pool.join(LIMIT)
        with pytest.raises(BrokenExecutor):
            pool.submit(quick)
    assert len(errors) == 50
    assert all(isinstance(error, BrokenExecutor) for error in errors)


class Seeing(ThreadPoolExecutor):
    """An executor that records each call."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.seen = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.seen += 1
        return super().submit(fn, *args, **kwargs)


def test_executor_with_its_own_submit_sees_each_task() -> None:
    """A subclass that overrides `submit`, or an object that replaces it, gets one call for each task."""
    with Seeing(1) as executor, CallbackPool(executor) as pool:
        learn(pool, quick)
        assert executor.seen == MANY
    with ThreadPoolExecutor(1) as plain, CallbackPool(plain) as before:
        calls: list[object] = []
        submit = plain.submit

        def see(fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
            calls.append(fn)
            return submit(fn, *args)

        plain.submit = see  # type: ignore[method-assign,assignment]  # programs that trace calls do so
        learn(before, quick)
        with CallbackPool(plain) as pool:
            calls.clear()
            learn(pool, quick)
            assert len(calls) == MANY


def test_states_of_queued_and_running_tasks() -> None:
    """A queued task is not running and can be cancelled; a running one reports that, and can't be."""
    with ThreadPoolExecutor(1) as executor, CallbackPool(executor) as pool:
        learn(pool, quick)
        begun, let_go = threading.Event(), threading.Event()

        def run() -> None:
            begun.set()
            let_go.wait(LIMIT)

        running, waiting, kept = pool.submit(run), pool.submit(quick), pool.submit(quick)
        assert begun.wait(LIMIT)
        assert running.running()
        assert not running.cancel()
        assert not waiting.running()
        assert waiting.cancel()
        assert pool.stats.running == 1
        let_go.set()
        kept.result(LIMIT)
        pool.join(LIMIT)
        assert (pool.stats.done, pool.stats.cancelled) == (MANY + 2, 1)


# -- what hits a thread of the executor, or a submitter ----------------------------------------------------------------


# The executor's own parts do not survive every interrupt. These replace them, so that only our code is tested.


class Sturdy(Future[None]):
    """A future whose condition no interrupt leaves locked."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = ConditionInC()  # type: ignore[assignment]  # it has all that a future needs


class Idle:
    """Replaces the semaphore: a thread is always idle."""

    def acquire(self, timeout: float) -> bool:
        """Return True."""
        return True

    def release(self) -> None:
        """Do nothing."""


class Case:
    """A pool whose executor's only thread is busy, with queued tasks."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.executor.submit(quick).result(LIMIT)
        self.executor._idle_semaphore = Idle()  # type: ignore[assignment]  # it has all that the executor needs
        self.pool = CallbackPool(self.executor)
        self.busy = busy(self.executor)
        self.let_go = self.busy.__enter__()
        self.told: list[list[object]] = []
        self.tasks: list[Task[None]] = []
        for _ in range(3):
            self.submit()

    def submit(self) -> None:
        """Submit one more."""
        heard: list[object] = []
        self.told.append(heard)
        self.tasks.append(self.pool.apply_async(quick, callback=heard.append, error_callback=heard.append))

    def drain(self) -> None:
        """Do the next work of the executor's thread here."""
        call = self.executor._work_queue.get_nowait()
        call.run()

    def broken(self) -> str | None:
        """Let it go on, and return the tasks that have not ended."""
        self.let_go()
        try:
            self.pool.close(patience())
        except TimeoutError as error:
            return str(error)
        self.executor.shutdown()
        if not all(task.settled() for task in self.tasks):
            return "a task is forgotten"
        if any(len(heard) > 1 for heard in self.told):
            return "a task was told of twice"
        if sum(not heard for heard in self.told) > len(self.told) - len(self.tasks):
            return "a task was not told of"
        return None


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="an interrupt may leave the executor's own lock locked there")
@pytest.mark.untraceable
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("scenario", "mode"),
    [
        pytest.param(scenario, mode, marks=[] if mode == "warm" else pytest.mark.slow)
        for scenario in (Case.submit, Case.drain)
        for mode in MODES
        if scenario is Case.submit
        or "storm" not in mode  # a storm would interrupt the thread while it settles an interrupted task
    ],
)
def test_interrupt_loses_no_task(scenario: Callable[[Case], None], mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a submitter, or in a thread of the executor between two tasks, does not stop the tasks."""
    monkeypatch.setattr("concurrent.futures._base.Future", Sturdy)
    interrupts(Case, scenario, Case.broken, mode=mode).check()


def test_expired_task_is_abandoned_until_it_ends() -> None:
    """A task that expires occupies its thread until it ends, as the pool's numbers show; other tasks go on."""
    with ThreadPoolExecutor(2) as executor, CallbackPool(executor) as pool:
        let_go = threading.Event()
        late = pool.apply_async(let_go.wait, (LIMIT,), timeout=0.01)
        late.exception(LIMIT)
        assert pool.stats.abandoned == 1
        pool.submit(quick).result(LIMIT)
        let_go.set()
        executor.shutdown()
        assert pool.stats.abandoned == 0
