"""An interrupt at any point of submitting, cancelling, waiting and ending loses no task, callback or thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial, partialmethod
from typing import Any

import pytest

from syncprims import CallbackPool, PoolTimeoutError, SyncError, Task
from syncprims._core.deadline import Deadline
from syncprims._core.waits import all_waits, subject
from syncprims.diagnostics import snapshot
from syncprims.testing import MODES, Mode, assert_blocks, interrupts, patience

pytestmark = [
    pytest.mark.untraceable,
    # An interrupt in the callback of a weak reference, of which threading has some, can only be printed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

each_mode = pytest.mark.parametrize(
    "mode", [mode if mode == "warm" else pytest.param(mode, marks=pytest.mark.slow) for mode in MODES]
)


class Case:
    """A pool of one thread, which a first task may keep busy, and the arguments of the callbacks."""

    def __init__(self, *, warm: bool = True, queued: int = 0, max_pending: int | None = None) -> None:
        self.pool = CallbackPool(max_workers=1, max_pending=max_pending)
        self.hold = threading.Event()
        self.told: list[list[object]] = []
        self.tasks: list[Task[Any]] = []
        if warm:
            self.send(bool).wait_settled(patience())
        if queued:
            begun = threading.Event()

            def occupy() -> bool:
                begun.set()
                return self.hold.wait(patience())

            self.send(occupy)
            assert begun.wait(patience())
        for _ in range(queued - 1):
            self.send(bool)

    def send(self, fn: Callable[[], object]) -> Task[Any]:
        heard: list[object] = []
        self.told.append(heard)
        task = self.pool.apply_async(fn, callback=heard.append, error_callback=heard.append)
        self.tasks.append(task)
        return task


def broken(case: Case) -> str | None:
    """Let everything go on, close the pool, and return the tasks that did not end."""
    case.hold.set()
    pool = case.pool
    try:
        pool.close(patience())
    except PoolTimeoutError as error:
        return str(error)
    except SyncError as error:
        return f"close raised {error!r}"
    if any(state.name == pool.name and state.waiters for state in snapshot()):
        return "a thread still seems to wait for it"
    stats = pool.stats
    if stats.pending or stats.submitted != stats.done + stats.failed + stats.cancelled:
        return f"the accounts are not even: {stats}"
    for heard in case.told:
        if len(heard) > 1:
            return f"a callback ran twice: {heard}"
    # The task of an interrupted submission may have run or not; any other is settled, and was reported.
    for task in case.tasks:
        if not task.settled():
            return f"{task} is not settled"
    lost = sum(not heard for heard in case.told)
    if lost > len(case.told) - len(case.tasks):
        return f"{lost} callbacks are lost"
    for thread in threading.enumerate():
        if thread.name.startswith(f"{pool.name}-"):
            try:
                thread.join(patience())
            except RuntimeError:  # an interrupted start leaves an entry for a thread that does not exist
                continue
            if thread.is_alive():
                return f"{thread.name} lives on"
    return None


def submit(case: Case) -> None:
    case.send(bool)


def plain_submit(case: Case) -> None:
    case.told.append([None])
    case.tasks.append(case.pool.submit(bool))


def timed(case: Case) -> None:
    heard: list[object] = []
    case.told.append(heard)
    case.tasks.append(case.pool.apply_async(bool, callback=heard.append, error_callback=heard.append, timeout=60.0))


def cancel(case: Case) -> None:
    case.tasks[-1].cancel()


def join(case: Case) -> None:
    case.pool.join(patience())


def close(case: Case) -> None:
    case.pool.close(patience())


def abort(case: Case) -> None:
    case.pool.abort()


def shutdown(case: Case) -> None:
    case.pool.shutdown(cancel_futures=True)


def block(case: Case) -> None:
    with case.pool:
        case.send(bool)


def group(case: Case) -> None:
    with case.pool.group() as tasks:
        case.tasks += [tasks.submit(bool), tasks.submit(bool)]
        case.told += [[None], [None]]
    assert all(task.settled() for task in case.tasks)


def group_that_waits(case: Case) -> None:
    with case.pool.group() as tasks:
        tasks.submit(bool)


def map_all(case: Case) -> None:
    for _ in case.pool.map(bool, range(2)):
        pass


COLD = (lambda: Case(warm=False),)  # its threads start in the scenario


@each_mode
@pytest.mark.parametrize(
    ("scenario", "make"),
    [
        pytest.param(submit, Case, id="apply_async"),
        pytest.param(plain_submit, Case, id="submit"),
        pytest.param(submit, COLD[0], id="first submission"),
        pytest.param(submit, lambda: Case(max_pending=4), id="apply_async with max_pending"),
        pytest.param(timed, COLD[0], id="timed"),
        pytest.param(cancel, lambda: Case(queued=3), id="cancel"),
        pytest.param(close, Case, id="close"),
        pytest.param(abort, lambda: Case(queued=3), id="abort"),
        pytest.param(block, Case, id="with"),
        pytest.param(group, Case, id="group"),
        pytest.param(map_all, Case, id="map", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(300)
def test_nothing_is_lost(scenario: Callable[[Case], object], make: Callable[[], Case], mode: Mode) -> None:
    """Wherever it comes, every task is settled, each callback runs at most once, and close ends everything."""
    if make in COLD and (mode == "worker" or sys.version_info >= (3, 14)):
        # From 3.14 on even a signal can leave threading's own global lock acquired there (gh-148874).
        pytest.skip("threading's own Thread.start does not survive this interrupt")
    interrupts(make, scenario, broken, mode=mode).check()


@each_mode
@pytest.mark.parametrize("scenario", [join, close, block, shutdown])
@pytest.mark.timeout(300)
def test_nothing_is_lost_while_waiting(scenario: Callable[[Case], object], mode: Mode) -> None:
    """This holds also while tasks are pending and a thread waits for them."""
    interrupts(
        lambda: Case(queued=3),
        scenario,
        broken,
        mode=mode,
        when_blocked=lambda case: bool(case.pool._open_tasks._idle_gates),
        unblock=lambda case: case.hold.set(),
    ).check()


@each_mode
@pytest.mark.timeout(300)
def test_nothing_is_lost_while_waiting_for_a_group(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds also in leaving a group, which then cancels its tasks and gives running ones a moment."""
    monkeypatch.setattr("syncprims.callback_pool.group._MOMENT", 0.01)
    interrupts(
        lambda: Case(queued=2),
        group_that_waits,
        broken,
        mode=mode,
        when_blocked=lambda case: any("of a group" in subject(each)[1] for each in all_waits()),
        unblock=lambda case: case.hold.set(),
    ).check()


@each_mode
@pytest.mark.timeout(300)
def test_nothing_is_lost_while_waiting_for_room(mode: Mode) -> None:
    """This holds also in a submission that waits because of max_pending."""
    interrupts(
        lambda: Case(queued=2, max_pending=2),
        submit,
        broken,
        mode=mode,
        when_blocked=lambda case: bool(case.pool._open_tasks._room_gates),
        unblock=lambda case: case.hold.set(),
    ).check()


def test_lost_task_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep's own check finds a task that was never withdrawn, and a callback that ran twice."""
    case = Case()
    case.told[0].append("again")
    assert "ran twice" in str(broken(case))
    monkeypatch.setattr(f"{__name__}.patience", lambda: 0.2)
    case = Case()
    lost = case.pool._intake.make(case.pool, None, bool, (), {})
    case.pool._open_tasks.take_in(lost.task, lost)
    assert "1 pending" in str(broken(case))
    lost.cancel()
    case.pool.close(10)


# -- the announcement of a task's end ----------------------------------------------------------------------------------


class Idle(Executor):
    """Runs no call."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that no thread will ever complete."""
        return Future()


class Heard:
    """A task that no worker runs, and those that wait for its end: each in C, so no interrupt comes in their midst."""

    def __init__(self) -> None:
        self.pool = CallbackPool(Idle(), envelope=False)
        self.callbacks: list[list[object]] = [[], [], []]
        self.task = self.pool.apply_async(bool, callback=self.count, error_callback=self.count)
        self.settled: list[object] = []
        self.gate = self.task._course.put_up()
        for heard in self.callbacks:
            self.task.add_done_callback(heard.append)
        self.job = self.pool._open_tasks.jobs[self.task]

    def count(self, outcome: object) -> None:
        """Be its callback."""
        self.settled.append(outcome)


def finish(heard: Heard) -> None:
    heard.job.finish(True)


def fail(heard: Heard) -> None:
    heard.job.fail(LookupError())


def cancel_the_task(heard: Heard) -> None:
    heard.task.cancel()


def cancel_the_job(heard: Heard) -> None:
    heard.job.cancel()


def cancel_the_running_job(heard: Heard) -> None:
    heard.job.cancel_running()


def unheard(heard: Heard) -> str | None:
    """Return which waiters have not heard of the end of the task, or more than once."""
    if not heard.task.done():  # the interrupt came first
        heard.pool.abort()
    try:
        heard.task.wait_settled(patience())
        heard.pool._dispatcher.catch_up(Deadline(patience()))
    except PoolTimeoutError as error:
        return str(error)
    heard.pool.abort()
    if not heard.gate.acquire(timeout=patience()):
        return "result() waits"
    if [len(calls) for calls in heard.callbacks] != [1, 1, 1]:
        return f"done-callbacks were called {[len(calls) for calls in heard.callbacks]} times"
    return None if len(heard.settled) == 1 else f"the callback was called {len(heard.settled)} times"


@pytest.mark.parametrize("mode", ["warm", "worker", pytest.param("cold", marks=pytest.mark.slow)])
@pytest.mark.parametrize("end", [finish, fail, cancel_the_job, cancel_the_running_job])
@pytest.mark.timeout(300)
def test_each_waiter_hears_of_the_end(end: Callable[[Heard], None], mode: Mode) -> None:
    """Wherever the thread that ends a task is interrupted, `result` returns, and each callback is called once."""
    interrupts(Heard, end, unheard, mode=mode).check()


@pytest.mark.parametrize("end", [finish, fail, cancel_the_task, cancel_the_job])
def test_each_thread_in_wait_hears_of_the_end(end: Callable[[Heard], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the thread that ends a task is interrupted before it has told the first such thread, all return."""
    heard = Heard()
    kind = futures._base._FirstCompletedWaiter
    tells = {name: getattr(kind, name) for name in ("add_result", "add_exception", "add_cancelled")}
    left = [KeyboardInterrupt()]

    def interrupted(waiter: Any, future: Any, tell: Callable[..., None]) -> None:
        if left:
            raise left.pop()
        tell(waiter, future)

    wait = partial(futures.wait, [heard.task], return_when=futures.FIRST_COMPLETED)
    waiting = [assert_blocks(wait) for _ in range(3)]
    for name, tell in tells.items():
        monkeypatch.setattr(kind, name, partialmethod(interrupted, tell=tell))
    with suppress(KeyboardInterrupt):  # a callback of the executor's future raises nothing
        end(heard)
    for each in waiting:
        assert each.result(patience()).done == {heard.task}
    assert left == []
    assert unheard(heard) is None


def test_an_interrupt_in_a_callback_of_a_task_keeps_no_other_from_its_call() -> None:
    """A function given to add_done_callback gets a Ctrl-C in the main thread: the functions after it are called."""
    heard = Heard()

    def interrupted(task: object) -> None:
        raise KeyboardInterrupt

    last: list[object] = []
    heard.task.add_done_callback(interrupted)
    heard.task.add_done_callback(last.append)
    with pytest.raises(KeyboardInterrupt):
        heard.job.finish(True)
    assert unheard(heard) is None
    assert last == [heard.task]
