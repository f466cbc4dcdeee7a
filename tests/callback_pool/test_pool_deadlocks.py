"""Waits for a pool that would never end are refused at once, with the cycle and how to avoid it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event, get_ident
from typing import Any, Final

import pytest

from callback_pool import pool_workers
from locks.actors import LIMIT, Actors, eventually, stuck_on, take_and_let_go, wait_for
from syncprims import (
    CallbackPool,
    DeadlockError,
    LockAdapter,
    OrderedRunner,
    PoolTimeoutError,
    Task,
    TimedLock,
    diagnostics,
)
from syncprims._core.waits import SETTLED, innermost_of, waits_of

Make = Callable[..., CallbackPool]
here = pytest.mark.parametrize("kind", ["thread", "handed in"])
needs_interpreters = pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreter pools came with 3.14")
anywhere = pytest.mark.parametrize(
    "kind", ["thread", "handed in", "process", pytest.param("interpreter", marks=needs_interpreters)]
)
ME: Final = "MainThread"


@contextmanager
def pool_of(kind: str, workers: int, **options: Any) -> Iterator[CallbackPool]:
    """A pool called 'jobs' whose tasks run in threads of its own, of an executor, or elsewhere."""
    executor: Executor | None = None
    where: Any = kind
    if kind == "handed in":
        where = executor = ThreadPoolExecutor(workers, thread_name_prefix="theirs")
    else:
        options["max_workers"] = workers
    pool = CallbackPool(where, name="jobs", **options)
    try:
        yield pool
    finally:
        pool.abort()
        pool.close(LIMIT)
        if executor is not None:
            executor.shutdown(wait=True)


def worker(kind: str) -> str:
    """The name of the first worker."""
    return "theirs_0" if kind == "handed in" else "jobs-worker-1"


def has_settled(ident: int) -> bool:
    """Whether a thread waits, and has searched: then it is not the last to wait."""
    wait = innermost_of(ident)
    return wait is not None and wait.serial == SETTLED


def last_line(error: BaseException) -> str:
    """The advice of the error."""
    return str(error).splitlines()[-1]


# -- the result of a running task --------------------------------------------------------------------------------------


WAYS: Final[dict[str, Callable[[Task[Any]], object]]] = {
    "result": lambda task: task.result(),
    "exception": lambda task: task.exception(),
    "get": lambda task: task.get(),
    "wait": lambda task: task.wait(),
}


@here
@pytest.mark.parametrize("way", WAYS)
def test_waiting_for_a_task_with_what_it_needs_in_hand(kind: str, way: str) -> None:
    """The thread that holds the lock gets the error, and when it releases the lock the task ends."""
    stock = TimedLock(name="stock")

    def use() -> int:
        with stock:
            return 1

    use.__qualname__ = "use"
    with pool_of(kind, 2) as pool:
        with stock:
            task = pool.submit(use)
            eventually(lambda: stuck_on(stock))
            with pytest.raises(DeadlockError) as caught:
                WAYS[way](task)
        assert task.result(LIMIT) == 1
    said = f"waits for the result of 'use', which runs in Thread '{worker(kind)}'"
    assert said in str(caught.value).splitlines()[0]
    assert str(caught.value).count(said) == 1
    assert str(caught.value.cycle[0]) == f"Thread '{ME}' {said}"
    assert str(caught.value.cycle[1]) == f"Thread '{worker(kind)}' waits for 'stock' held by '{ME}'"
    assert "hold nothing that the task needs" in last_line(caught.value)
    assert "give it a callback" in last_line(caught.value)


@here
def test_a_task_that_comes_to_need_what_its_waiter_holds(kind: str) -> None:
    """If the task closes the cycle, the task gets the error, and so does the thread that waits for it."""
    stock, go = TimedLock(name="stock"), Event()
    main = get_ident()

    def use() -> int:
        wait_for(go)
        eventually(lambda: has_settled(main))
        with stock:
            return 1

    with pool_of(kind, 2) as pool, stock:
        task = pool.submit(use)
        go.set()
        with pytest.raises(DeadlockError) as caught:
            task.result()
    assert caught.value.cycle[0].thread == worker(kind)
    assert caught.value is task.exception()


@here
def test_a_task_that_waits_for_itself(kind: str) -> None:
    """It gets the error at once."""
    box: list[Task[Any]] = []
    known = Event()

    def wait_for_myself() -> object:
        wait_for(known)
        return box[0].result()

    with pool_of(kind, 2) as pool:
        box.append(pool.submit(wait_for_myself))
        known.set()
        with pytest.raises(DeadlockError, match="which runs in Thread"):
            box[0].result(LIMIT)


@here
def test_two_tasks_that_wait_for_each_other(kind: str) -> None:
    """Exactly one of them gets the error."""
    tasks: list[Task[Any]] = []
    known = Event()

    def wait_for_the_other(number: int) -> object:
        wait_for(known)
        return tasks[1 - number].exception()

    with pool_of(kind, 2) as pool:
        tasks.extend(pool.submit(wait_for_the_other, number) for number in range(2))
        known.set()
        outcomes = [task.exception(LIMIT) for task in tasks]
    assert [isinstance(outcome, DeadlockError) for outcome in outcomes].count(True) == 1


# -- a queued task -----------------------------------------------------------------------------------------------------


@here
def test_waiting_for_a_queued_task_in_the_only_worker(kind: str) -> None:
    """No other worker could run it."""
    with pool_of(kind, 1) as pool:
        outer = pool.submit(lambda: pool.submit(pow, 2, 3).result())
        error = outer.exception(LIMIT)
    assert isinstance(error, DeadlockError)
    said = f"waits for the result of 'pow', which is queued in 'jobs', whose only worker is Thread '{worker(kind)}'"
    assert said in str(error)
    assert "give the pool another worker (max_workers)" in last_line(error)
    assert "callback" in last_line(error)
    assert [wait.holder for wait in error.cycle] == [worker(kind)]


@here
@pytest.mark.parametrize("workers", [2, 5])
def test_every_worker_waits_for_a_queued_task(kind: str, workers: int) -> None:
    """The last one to wait gets the error; then it is free, and runs the task that the others wait for."""
    full = threading.Barrier(workers)

    def outer() -> int:
        full.wait(LIMIT)
        return pool.submit(pow, 2, 3).result()

    with pool_of(kind, workers) as pool:
        tasks = [pool.submit(outer) for _ in range(workers)]
        errors = [task.exception(LIMIT) for task in tasks]
    refused = [error for error in errors if error is not None]
    assert [type(error) for error in refused] == [DeadlockError]
    assert isinstance(refused[0], DeadlockError)
    assert len(refused[0].cycle) == workers


@here
@pytest.mark.parametrize("name", ["map", "map_unordered"])
def test_mapping_over_the_pool_in_each_of_its_workers(kind: str, name: str) -> None:
    """Iterating a map waits for its tasks, which are queued behind the iterating ones."""
    full = threading.Barrier(2)

    def handle(number: int) -> int:
        full.wait(LIMIT)
        return sum(getattr(pool, name)(abs, range(number)))

    with pool_of(kind, 2) as pool:
        errors = [task.exception(LIMIT) for task in [pool.submit(handle, 3), pool.submit(handle, 3)]]
    assert [type(error) for error in errors if error is not None] == [DeadlockError]


@here
def test_a_free_worker_is_no_deadlock(kind: str) -> None:
    """A task may wait for another one as long as a worker is free, or may be started."""
    with pool_of(kind, 2) as pool:
        assert pool.submit(lambda: pool.submit(pow, 2, 3).result()).result(LIMIT) == 8


def test_a_worker_whose_task_has_a_limit_is_no_deadlock() -> None:
    """It is replaced when its time is up, and then the queued task runs."""
    with pool_of("thread", 1) as pool:
        inner: list[Task[int]] = []

        def outer() -> int:
            inner.append(pool.submit(pow, 2, 3))
            return inner[0].result()

        task = pool.apply_async(outer, timeout=0.2, error_callback=lambda error: None)
        # Another worker is started before the task expires, so the queued task may end after all.
        assert not isinstance(task.exception(LIMIT), DeadlockError)
        assert inner[0].result(LIMIT) == 8


def test_a_task_that_has_a_limit_is_no_deadlock() -> None:
    """It ends by itself, so a wait for it is not refused."""
    stock = TimedLock(name="stock")
    with pool_of("thread", 2) as pool, stock:
        task = pool.apply_async(stock.acquire, timeout=0.2, error_callback=lambda error: None)
        eventually(lambda: stuck_on(stock))
        assert isinstance(task.exception(), PoolTimeoutError)


def test_a_worker_of_theirs_that_runs_something_else_is_no_deadlock() -> None:
    """An executor that was passed in has other work; its busy worker can go on to our tasks."""
    busy, go_on = Event(), Event()
    with ThreadPoolExecutor(2) as executor:

        def something_else() -> None:
            busy.set()
            wait_for(go_on)

        executor.submit(something_else)
        wait_for(busy)
        with CallbackPool(executor, name="jobs") as pool:
            outer = pool.submit(lambda: pool.submit(pow, 2, 3).result())
            eventually(lambda: any(waits_of(thread.ident or 0) for thread in threading.enumerate()))
            assert not outer.done()
            go_on.set()
            assert outer.result(LIMIT) == 8


def test_the_workers_of_two_pools_on_one_executor_are_the_same() -> None:
    """Tasks of another pool keep the workers as busy as tasks of this one."""
    with ThreadPoolExecutor(1) as executor:
        one, other = CallbackPool(executor, name="one"), CallbackPool(executor, name="other")
        error = one.submit(lambda: other.submit(pow, 2, 3).result()).exception(LIMIT)
        assert isinstance(error, DeadlockError)
        assert "which is queued in 'other'" in str(error)
        one.close(LIMIT)
        other.close(LIMIT)


# -- the end of all ----------------------------------------------------------------------------------------------------


ENDS: Final[dict[str, Callable[[CallbackPool], object]]] = {
    "join": lambda pool: pool.join(),
    "close": lambda pool: pool.close(),
    "with": lambda pool: pool.__exit__(None, None, None),
    "shutdown": lambda pool: pool.shutdown(),
}


@here
@pytest.mark.parametrize("end", ENDS)
def test_ending_the_pool_with_what_a_task_needs_in_hand(kind: str, end: str) -> None:
    """The task ends when the lock is released."""
    stock = TimedLock(name="stock")

    def use() -> int:
        with stock:
            return 1

    use.__qualname__ = "use"
    with pool_of(kind, 2) as pool:
        with stock:
            task = pool.submit(use)
            eventually(lambda: stuck_on(stock))
            with pytest.raises(DeadlockError) as caught:
                ENDS[end](pool)
        assert task.result(LIMIT) == 1
    assert f"is up to 'use', which runs in Thread '{worker(kind)}'" in str(caught.value)
    assert "while you join or close the pool" in last_line(caught.value)


@anywhere
@pytest.mark.parametrize("end", ENDS)
def test_ending_the_pool_with_what_a_callback_needs_in_hand(kind: str, end: str) -> None:
    """Callbacks run in this process, wherever the tasks run."""
    results, got = TimedLock(name="results"), list[int]()

    def note(result: int) -> None:
        with results:
            got.append(result)

    with pool_of(kind, 1) as pool:
        with results:
            task = pool.apply_async(pow, (2, 3), callback=note)
            eventually(lambda: stuck_on(results))
            with pytest.raises(DeadlockError) as caught:
                ENDS[end](pool)
        task.wait_settled(LIMIT)
    assert got == [8]
    assert "is up to the callback of 'pow', in Thread 'jobs-dispatcher'" in str(caught.value)
    assert "Thread 'jobs-dispatcher' waits for 'results' held by 'MainThread'" in str(caught.value)


@anywhere
def test_waiting_for_a_callback_with_what_it_needs_in_hand(kind: str) -> None:
    """wait_settled is up to the dispatcher, even while it runs the callback of another task."""
    results = TimedLock(name="results")

    def note(result: int) -> None:
        with results:
            pass

    with pool_of(kind, 1) as pool:
        with results:
            first = pool.apply_async(pow, (2, 3), callback=note)
            second = pool.submit(pow, 2, 4)
            eventually(lambda: stuck_on(results))
            for task in (first, second):
                with pytest.raises(DeadlockError, match="after the callback of 'pow', in Thread 'jobs-dispatcher'"):
                    task.wait_settled()
        second.wait_settled(LIMIT)


@here
def test_waiting_for_room_with_what_the_tasks_need_in_hand(kind: str) -> None:
    """With max_pending a submitter from outside waits for the end of any task."""
    stock = TimedLock(name="stock")

    def use() -> int:
        with stock:
            return 1

    with pool_of(kind, 2, max_pending=1) as pool:
        with stock:
            task = pool.submit(use)
            eventually(lambda: stuck_on(stock))
            with pytest.raises(DeadlockError, match="waits for room for a task"):
                pool.submit(use)
        assert task.result(LIMIT) == 1
        pool.join(LIMIT)
        assert pool.stats.submitted == 1


@anywhere
def test_waiting_for_room_with_what_a_callback_needs_in_hand(kind: str) -> None:
    """There is room only when the callback has ended."""
    results = TimedLock(name="results")

    def note(result: int) -> None:
        with results:
            pass

    with pool_of(kind, 2, max_pending=1) as pool:
        with results:
            pool.apply_async(pow, (2, 3), callback=note)
            eventually(lambda: stuck_on(results))
            with pytest.raises(DeadlockError, match=r"\(max_pending\)"):
                pool.submit(pow, 2, 3)
        pool.join(LIMIT)


def test_room_comes_with_any_task() -> None:
    """A stuck task does not matter while another one goes on."""
    stock, go_on = TimedLock(name="stock"), Event()
    with pool_of("thread", 2, max_pending=2) as pool, stock, Actors() as actors:
        pool.submit(stock.acquire)
        pool.submit(go_on.wait, LIMIT)
        eventually(lambda: stuck_on(stock))

        def let_one_end() -> None:
            eventually(lambda: waits_of(main))
            go_on.set()

        main = get_ident()
        actors.start(let_one_end)
        assert pool.submit(pow, 2, 3).result(LIMIT) == 8


# -- what is none ------------------------------------------------------------------------------------------------------


@here
def test_a_wait_with_a_limit_keeps_its_channel(kind: str) -> None:
    """It gives up when its time is up, with a TimeoutError that says why the wait could not have succeeded."""
    stock = TimedLock(name="stock")
    with pool_of(kind, 2) as pool:
        with stock:
            task = pool.apply_async(stock.hold(None).__enter__, callback=lambda lock: None)
            eventually(lambda: stuck_on(stock))
            for wait in (task.result, task.wait_settled, pool.join):
                with pytest.raises(PoolTimeoutError) as caught:
                    wait(0.02)
                assert "It could not have ended: Thread 'MainThread' waits for" in str(caught.value)
                assert "waits for 'stock' held by 'MainThread'" in str(caught.value)
        assert task.result(LIMIT) is stock


def test_a_wait_with_a_limit_is_no_edge() -> None:
    """A wait for a thread that gives up by itself is not refused."""
    stock, waiting = TimedLock(name="stock"), Event()
    with pool_of("thread", 2) as pool:

        def use() -> bool:
            wait_for(waiting)
            eventually(lambda: innermost_of(main))
            with stock:
                return True

        main = get_ident()
        with stock:
            task = pool.submit(use)
            waiting.set()
            with pytest.raises(PoolTimeoutError):
                task.result(0.2)
        assert task.result(LIMIT) is True


def test_a_deadlock_does_not_abort_the_pool() -> None:
    """The queued tasks stay, and run when the lock is released."""
    stock = TimedLock(name="stock")

    def use() -> int:
        with stock:
            return 1

    with pool_of("thread", 1) as pool:
        with stock:
            tasks = [pool.submit(use) for _ in range(3)]
            eventually(lambda: stuck_on(stock))
            with pytest.raises(DeadlockError):
                pool.join()
        assert [task.result(LIMIT) for task in tasks] == [1, 1, 1]


# -- in interpreters ---------------------------------------------------------------------------------------------------

# A task in its own interpreter waits for nothing of this one. But it occupies a known thread, which unpickles its
# result here when the task is over, and that may run code of the program.

ENDLESS: Final[dict[str, tuple[str, Callable[[CallbackPool, Task[Any], Task[Any]], object]]]] = {
    "running": ("the result of 'send_parcel', which runs in Thread 'jobs-worker-1'", lambda _, task, __: task.result()),
    "queued": (
        "the result of 'pow', which is queued in 'jobs', whose only worker is Thread 'jobs-worker-1'",
        lambda _, __, queued: queued.result(),
    ),
    "join": (
        "the end of all tasks, which is up to 'send_parcel', which runs in Thread 'jobs-worker-1'",
        lambda pool, _, __: pool.join(),
    ),
    "settled": (
        "the callback of 'send_parcel', which runs in Thread 'jobs-worker-1'",
        lambda _, task, __: task.wait_settled(),
    ),
}


@needs_interpreters
@pytest.mark.parametrize("way", ENDLESS)
def test_waiting_for_a_task_whose_result_needs_what_is_in_hand(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the thread that holds the lock says where the task runs; after the release, all tasks end."""
    stock = TimedLock(name="stock")

    def take() -> None:
        with stock:
            pass

    monkeypatch.setattr(pool_workers, "AT_UNPICKLING", [take])
    said, wait = ENDLESS[way]
    with pool_of("interpreter", 1) as pool:
        with stock:
            task, queued = pool.submit(pool_workers.send_parcel), pool.submit(pow, 2, 3)
            eventually(lambda: stuck_on(stock))
            with pytest.raises(DeadlockError) as caught:
                wait(pool, task, queued)
        assert isinstance(task.result(LIMIT), pool_workers.Parcel)
        assert queued.result(LIMIT) == 8
    assert str(caught.value.cycle[0]) == f"Thread '{ME}' waits for {said}"
    assert str(caught.value.cycle[-1]) == f"Thread 'jobs-worker-1' waits for 'stock' held by '{ME}'"


def test_the_outcome_of_a_process_needs_what_its_waiter_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor's own thread unpickles it here, and may run code of the program."""
    stock = TimedLock(name="stock")

    def take() -> None:
        with stock:
            pass

    monkeypatch.setattr(pool_workers, "AT_UNPICKLING", [take])
    with pool_of("process", 1) as pool:
        with stock:
            task = pool.submit(pool_workers.send_parcel)
            eventually(lambda: stuck_on(stock))
            with pytest.raises(DeadlockError, match=r"result of 'send_parcel', whose outcome is unpickled in Thread '"):
                task.result()
        assert isinstance(task.result(LIMIT), pool_workers.Parcel)


@needs_interpreters
def test_a_task_in_an_interpreter_goes_on_by_itself() -> None:
    """A control: its state there is not known here, so a wait for it closes no cycle, with a lock or not."""
    stock = TimedLock(name="stock")
    with pool_of("interpreter", 1) as pool, Actors() as actors:
        with stock:
            waiting = actors.start(partial(take_and_let_go, stock))
            eventually(lambda: stuck_on(stock))
            tasks = [pool.submit(pow, 2, 3) for _ in range(20)]
            assert [task.result() for task in tasks] == [8] * 20
            pool.join()
        waiting.result()


# -- with others -------------------------------------------------------------------------------------------------------


def test_a_runner_whose_bodies_run_in_a_pool() -> None:
    """A body that wants a step of the runner that waits for it gets the error."""
    runner = OrderedRunner("load", "store", name="etl")

    def load(turn: object) -> None:
        with runner.step("store"):
            pass

    with pool_of("thread", 2) as pool, pytest.raises(DeadlockError):
        runner.run({"load": load, "store": lambda turn: None}, executor=pool)


def test_what_cannot_be_refused_is_found_by_looking() -> None:
    """A lock of another kind can't refuse; the report and `find_deadlocks` say the same as the error would."""
    inside = threading.Semaphore(1)
    theirs = LockAdapter(inside, name="theirs")

    def use() -> None:
        with theirs:
            pass

    use.__qualname__ = "use"

    def hold_and_wait() -> None:
        with theirs:
            task = pool.submit(use)
            started.set()
            task.result()

    started = Event()
    with pool_of("thread", 1) as pool, Actors() as actors:
        actors.start(hold_and_wait, "holder")
        wait_for(started)
        try:
            eventually(diagnostics.find_deadlocks)
            found, text = diagnostics.find_deadlocks(), diagnostics.report()
        finally:
            inside.release()
    said = "waits for the result of 'use', which runs in Thread 'jobs-worker-1'"
    assert len(found) == 1
    assert f"Thread 'holder' {said}" in {str(wait) for wait in found[0]}
    assert said in str(found)
    assert said in text
