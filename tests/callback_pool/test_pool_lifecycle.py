"""The life of a pool: arguments, closing, aborting, backpressure, interrupts, forks and being dropped."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from callback_pool import pool_workers
from polling import ended, until, until_exists
from syncprims import CallbackErrors, ForkedError, PoolClosedError, PoolTimeoutError, Task
from syncprims.callback_pool import CallbackPool, PoolStats

LIMIT = 60.0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"executor": "threads"}, ValueError, "'thread', 'process', 'interpreter'"),
        ({"executor": object()}, TypeError, "Executor"),
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_pending": 0}, ValueError, "max_pending must be greater than 0"),
        ({"max_workers": "2"}, TypeError, "integer"),
        ({"on_callback_error": "ignore"}, ValueError, "'raise', 'log'"),
        ({"on_progress": 1}, TypeError, "on_progress must be callable"),
        ({"initializer": 1}, TypeError, "initializer must be callable"),
        ({"dumps": 1}, TypeError, "dumps must be callable"),
        ({"name": 7}, TypeError, "name must be a string"),
        ({"envelope": True}, ValueError, "handed in"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    """The constructor names the wrong argument, before anything starts."""
    with pytest.raises(error, match=words):
        CallbackPool(**arguments)


def test_bad_calls_are_refused_with_the_state_unchanged() -> None:
    """Wrong callbacks, timeouts and chunk sizes raise at once, and no task was submitted."""
    with CallbackPool() as pool:
        with pytest.raises(TypeError, match="callback"):
            pool.apply_async(len, ("a",), callback=3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="error_callback"):
            pool.apply_async(len, ("a",), error_callback=3)  # type: ignore[arg-type]
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                pool.apply_async(len, ("a",), timeout=timeout)
            with pytest.raises(ValueError, match="timeout"):
                pool.join(timeout)
        with pytest.raises(TypeError, match="function"):
            pool.submit(3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="chunksize"):
            pool.map(len, ["a"], chunksize=0)
        with pytest.raises(TypeError):
            pool.map(len, 3)  # type: ignore[arg-type]
        assert pool.stats == PoolStats(0, 0, 0, 0, 0, 0, 0, 0)


def test_closed_pool_refuses_outsiders() -> None:
    """After close, submissions of every kind raise PoolClosedError, which is a RuntimeError; closing again is fine."""
    pool = CallbackPool(name="shut")
    pool.submit(len, "a")
    pool.close(LIMIT)
    pool.close(LIMIT)
    for call in (pool.submit, pool.apply_async, pool.map):
        with pytest.raises(PoolClosedError, match="'shut' was closed"):
            call(len, "a")
    assert issubclass(PoolClosedError, RuntimeError)


def test_close_that_times_out_stays_closed_and_can_be_called_again() -> None:
    """A close that times out says what is pending; a second one goes on waiting."""
    hold = threading.Event()
    pool = CallbackPool(max_workers=1)
    pool.submit(hold.wait, LIMIT)
    queued = pool.submit(len, "abc")
    with pytest.raises(PoolTimeoutError, match=r"2 pending; running: Event\.wait") as caught:
        pool.close(0.02)
    assert caught.value.pending == 2
    assert caught.value.timeout == 0.02
    assert caught.value.waited >= 0.02
    assert "Event.wait" in caught.value.__notes__[0]  # what every thread holds and waits for, and what the pool runs
    with pytest.raises(PoolClosedError):
        pool.submit(len, "a")
    hold.set()
    pool.close(LIMIT)
    assert queued.result(0) == 3


@pytest.mark.parametrize("method", ["abort", "terminate"])
def test_abort_cancels_what_is_queued_and_tells_every_callback(method: str) -> None:
    """All six queued tasks are reported, running ones are returned and end by themselves; the pool takes no more."""
    hold, running = threading.Event(), threading.Event()
    told: list[BaseException] = []
    finished: list[str] = []

    def work() -> str:
        running.set()
        assert hold.wait(LIMIT)
        return "finished"

    pool = CallbackPool(max_workers=1)
    task = pool.apply_async(work, callback=finished.append)
    assert running.wait(LIMIT)
    for _ in range(6):
        pool.apply_async(len, ("a",), error_callback=told.append)
    assert getattr(pool, method)() == [task]
    assert [type(error) for error in told] == [CancelledError] * 6
    with pytest.raises(PoolClosedError, match="aborted"):
        pool.submit(len, "a")
    hold.set()
    pool.close(LIMIT)
    assert finished == ["finished"]
    assert pool.stats.cancelled == 6


def test_shutdown_is_the_executors() -> None:
    """shutdown(cancel_futures=True) cancels queued tasks, waits for the others and raises no group."""
    running, hold = threading.Event(), threading.Event()
    told: list[BaseException] = []

    def work() -> None:
        running.set()
        assert hold.wait(LIMIT)
        raise ValueError("logged, not raised")

    pool = CallbackPool(max_workers=1)
    pool.apply_async(work)
    assert running.wait(LIMIT)
    pool.apply_async(len, ("a",), error_callback=told.append)
    pool.shutdown(wait=False, cancel_futures=True)
    hold.set()
    pool.shutdown()
    assert [type(error) for error in told] == [CancelledError]
    assert repr(pool).startswith("<closed")


def test_shutdown_without_waiting_still_runs_everything() -> None:
    """After shutdown(wait=False) queued tasks and their callbacks run, and then the threads end."""
    hold, done = threading.Event(), threading.Event()
    pool = CallbackPool(max_workers=1, name="unwaited")
    pool.submit(hold.wait, LIMIT)
    last = pool.apply_async(len, ("a",), callback=lambda _: done.set())
    pool.shutdown(wait=False)
    hold.set()
    assert done.wait(LIMIT)
    last.wait_settled(LIMIT)
    for thread in threading.enumerate():
        if thread.name.startswith("unwaited"):
            thread.join(LIMIT)
            assert not thread.is_alive()


def test_max_pending_never_blocks_callbacks_and_tasks() -> None:
    """Submissions from inside exceed the limit, because otherwise they would wait for themselves."""
    seen: list[int] = []

    def task() -> int:
        return pool.submit(len, "abc").result(LIMIT)

    with CallbackPool(max_workers=2, max_pending=1) as pool:
        pool.apply_async(task, callback=lambda n: seen.append(pool.submit(abs, n).result(LIMIT)))
    assert seen == [3]


def test_max_pending_is_never_exceeded_by_many_outsiders() -> None:
    """Eight threads that submit at once never have more than the limit pending."""
    most: list[int] = []
    with CallbackPool(max_workers=2, max_pending=3, on_progress=lambda *_: most.append(pool.stats.pending)) as pool:
        start = threading.Barrier(8)

        def submit() -> None:
            start.wait(LIMIT)
            for _ in range(20):
                pool.submit(len, "a")

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert len(most) == 160
    assert max(most) <= 3


def test_close_lets_blocked_outsiders_go_with_an_error() -> None:
    """A submitter that waits for room gets PoolClosedError when the pool closes."""
    hold, got = threading.Event(), []
    pool = CallbackPool(max_workers=1, max_pending=1)
    pool.submit(hold.wait, LIMIT)

    def submit() -> None:
        try:
            pool.submit(len, "a")
        except PoolClosedError as error:
            got.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    with pytest.raises(PoolTimeoutError):
        pool.close(0.02)
    thread.join(LIMIT)
    assert len(got) == 1
    hold.set()
    pool.close(LIMIT)


def test_context_is_copied_for_thread_tasks() -> None:
    """A task sees the submitter's context variables, unless copy_context is off."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")
    with CallbackPool() as pool, CallbackPool(copy_context=False, max_workers=1) as plain:
        assert pool.submit(variable.get).result(LIMIT) == "mine"
        if not getattr(sys.flags, "thread_inherit_context", False):
            assert plain.submit(variable.get).result(LIMIT) == "unset"


def test_initializer_runs_in_each_thread_and_its_failure_fails_the_tasks() -> None:
    """If an initializer raises, queued tasks fail and nothing hangs."""
    local = threading.local()

    def prepare(value: int) -> None:
        local.value = value

    with CallbackPool(max_workers=2, initializer=prepare, initargs=(7,)) as pool:
        assert pool.submit(lambda: local.value).result(LIMIT) == 7

    def refuse() -> None:
        raise SystemExit("no")

    with CallbackPool(max_workers=2, initializer=refuse) as pool:
        for _ in range(2):
            error = pool.submit(len, "a").exception(LIMIT)
            assert "initializer" in str(error)
            assert isinstance(error.__cause__ if error else None, SystemExit)


def test_pool_that_is_dropped_ends_its_threads() -> None:
    """A pool without references ends its threads without being closed."""
    pool = CallbackPool(max_workers=2, name="dropped")
    pool.apply_async(len, ("a",), timeout=3600).wait_settled(LIMIT)
    pool.join(LIMIT)
    gone = weakref.ref(pool)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("dropped")]
    assert len(threads) == 3
    del pool

    def collected() -> bool:
        gc.collect()  # again, because its own thread may have referred to it the first time
        return gone() is None

    until(collected)
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_pool_is_not_picklable() -> None:
    """Pickling a pool says what to do instead."""
    with CallbackPool() as pool, pytest.raises(TypeError, match="Make a pool over there"):
        pickle.dumps(pool)


def test_stats_count_each_end_once() -> None:
    """Each task is counted once, by how it ended."""
    hold = threading.Event()
    pool = CallbackPool(max_workers=1)
    pool.submit(hold.wait, LIMIT)
    failing = pool.submit(int, "x")
    pool.submit(len, "a").cancel()
    assert pool.stats.pending in (2, 3)
    assert pool.stats.running <= 1
    hold.set()
    pool.join(LIMIT)
    assert failing.exception(0) is not None
    assert pool.stats == PoolStats(3, 0, 0, 1, 1, 1, 0, 0)
    assert pickle.loads(pickle.dumps(pool.stats)) == pool.stats
    with pytest.raises(AttributeError, match="frozen"):
        pool.stats.done = 3
    pool.close(LIMIT)


def test_stats_count_a_settled_task_once_while_its_hook_runs() -> None:
    """A thread that waited until a task was settled finds it only among the ended ones."""
    go_on = threading.Event()

    class Hooked(CallbackPool):
        def _on_settled(self, task: Task[Any]) -> None:
            go_on.wait(LIMIT)

    with Hooked() as pool:
        try:
            pool.submit(len, "abc").wait_settled(LIMIT)
            assert (pool.stats.submitted, pool.stats.pending, pool.stats.done) == (1, 0, 1)
        finally:
            go_on.set()


@pytest.mark.parametrize("wait", ["join", "close"])
def test_interrupt_while_waiting_cancels_the_queue_and_comes_out(wait: str) -> None:
    """Ctrl-C in join or close cancels queued tasks, calls every callback and is raised, although a task still runs."""
    hold = threading.Event()
    told: list[BaseException] = []
    pool = CallbackPool(max_workers=1)
    pool.submit(hold.wait, LIMIT)
    for _ in range(5):
        pool.apply_async(len, ("a",), error_callback=told.append)
    waiting = threading.Thread(target=interrupt_when, args=(lambda: bool(pool._open_tasks._idle_gates),))
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        getattr(pool, wait)(LIMIT)
    waiting.join(LIMIT)
    assert [type(error) for error in told] == [CancelledError] * 5
    hold.set()
    pool.close(LIMIT)


def interrupt_when(ready: Any) -> None:
    """Send this process Ctrl-C once the main thread waits."""
    while not ready():
        threading.Event().wait(0.001)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    ("fork", "leave"),
    [("os.fork()", "raise SystemExit(7)"), ("ctypes.PyDLL(None).fork()", "os._exit(7)")],
    ids=["by Python", "by C, as uWSGI does"],
)
def test_forked_child_gets_an_error_from_every_method(fork: str, leave: str) -> None:
    """In a forked child each method raises ForkedError at once, and exit does not hang.

    C code may fork without Python's hooks. Then Python believes that the other threads are alive, and its own exit may
    hang.
    """
    code = f"""
import ctypes, os, signal, threading, warnings
warnings.simplefilter("ignore")
from syncprims import ForkedError
from syncprims.callback_pool import CallbackPool
hold = threading.Event()
pool = CallbackPool(max_workers=1)
task = pool.submit(hold.wait, 10)
child = {fork}
if child == 0:
    signal.alarm(30)  # ends it if it hangs
    calls = [lambda: pool.submit(len, "a"), lambda: pool.apply_async(len, "a"), lambda: pool.map(len, ["a"]),
             lambda: pool.map_unordered(len, ["a"]), pool.join, pool.close, pool.abort, pool.terminate, pool.shutdown,
             lambda: pool.stats, task.result, task.exception, task.wait_settled, task.get, task.wait, pool.__enter__]
    for number, call in enumerate(calls):
        try:
            call()
        except ForkedError:
            continue
        raise SystemExit(100 + number)
    {leave}
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
hold.set()
pool.close(10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_handed_in_executor_is_used_and_left_open() -> None:
    """A ThreadPoolExecutor that is passed in runs the tasks, even lambdas, and survives the pool."""
    with ThreadPoolExecutor(1) as executor:
        seen: list[int] = []
        with CallbackPool(executor) as pool:
            pool.apply_async(lambda: 5, callback=seen.append)
            with pytest.raises(CallbackErrors):  # noqa: PT012
                pool.apply_async(int, ("x",))
                pool.join(LIMIT)
        assert seen == [5]
        assert executor.submit(len, "abc").result(LIMIT) == 3
    with CallbackPool(executor) as pool:
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(len, "a")
        assert pool.stats.pending == 0
    assert issubclass(ForkedError, RuntimeError)


# -- ends that end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancel", [False, True])
def test_shutdown_ends_though_a_task_submits_itself_again(cancel: bool) -> None:
    """As with every executor, a pool that was shut down takes no tasks from its own tasks either."""
    running, refused = threading.Event(), threading.Event()

    def again() -> None:
        running.set()
        try:
            pool.submit(again)
        except PoolClosedError:
            refused.set()

    pool = CallbackPool(max_workers=1)
    pool.submit(again)
    assert running.wait(LIMIT)
    ending = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": cancel}, daemon=True)
    ending.start()
    ending.join(LIMIT)
    assert not ending.is_alive()
    assert refused.is_set() or cancel
    assert pool.stats.pending == 0


def test_shutdown_runs_what_it_has_and_tells_every_callback() -> None:
    """No task that was submitted before is lost."""
    go = threading.Event()
    told: list[int] = []
    pool = CallbackPool(max_workers=1)
    pool.submit(go.wait, LIMIT)
    for number in range(5):
        pool.apply_async(abs, (number,), callback=told.append)
    pool.shutdown(wait=False)
    go.set()
    pool.shutdown()
    assert told == list(range(5))


@pytest.mark.parametrize("way_out", ["shutdown", "abort", "terminate"])
def test_close_has_a_way_out_though_a_task_submits_itself_again(way_out: str) -> None:
    """A close that would never end ends by a limit, or when another thread shuts the pool down or aborts it."""

    def again() -> None:
        with contextlib.suppress(PoolClosedError):
            pool.submit(again)

    pool = CallbackPool(max_workers=1)
    pool.submit(again)
    with pytest.raises(PoolTimeoutError):
        pool.close(0.05)
    closing = threading.Thread(target=pool.close, daemon=True)
    closing.start()
    if way_out == "shutdown":
        pool.shutdown(wait=False)
    else:
        getattr(pool, way_out)()
    closing.join(LIMIT)
    assert not closing.is_alive()


def test_terminate_kills_what_runs_in_processes(tmp_path: Path) -> None:
    """The processes are soon dead, error callbacks get a CancelledError, and join returns."""
    told: list[BaseException] = []
    pool = CallbackPool("process", max_workers=1)
    path = tmp_path / "pid"
    running = pool.apply_async(pool_workers.announce_then_hang, (str(path),), error_callback=told.append)
    queued = pool.apply_async(pool_workers.add, (1,), error_callback=told.append)
    until_exists(path)
    assert pool.terminate() == []
    pool.join(LIMIT)
    assert running.cancelled()
    assert queued.cancelled()
    assert [type(error) for error in told] == [CancelledError, CancelledError]
    pool.close(LIMIT)
    assert ended(int(path.read_text()))


def test_abort_kills_nothing(tmp_path: Path) -> None:
    """A task that runs in a process when the pool is aborted ends, and its callback is called."""
    told: list[str] = []
    pool = CallbackPool("process", max_workers=1)
    path, begun = tmp_path / "go", pool.submit(pool_workers.add, 1)
    assert begun.result(LIMIT) == 1
    task = pool.apply_async(pool_workers.wait_for_file, (str(path),), callback=told.append, timeout=LIMIT)
    until(task.running)
    assert pool.abort() == [task]
    path.touch()
    pool.join(LIMIT)
    assert told == [str(path)]


def test_terminate_returns_what_runs_in_threads() -> None:
    """A thread can't be killed: its task is returned, and its callback is called later."""
    begun, go = threading.Event(), threading.Event()
    told: list[bool] = []

    def work() -> bool:
        begun.set()
        return go.wait(LIMIT)

    pool = CallbackPool(max_workers=1)
    task = pool.apply_async(work, callback=told.append)
    assert begun.wait(LIMIT)
    assert pool.terminate() == [task]
    go.set()
    pool.join(LIMIT)
    assert told == [True]
