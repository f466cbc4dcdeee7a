"""A group of tasks: none outlives its block, and the first that fails cancels the others."""

# ruff: noqa: PT012  the block is the subject of the test

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callback_pool import pool_workers
from locks.actors import LIMIT, Actors, eventually, on_signal, stuck_on, wait_for
from polling import until_exists
from syncprims import (
    CallbackErrors,
    CallbackExit,
    CallbackPool,
    Cancellation,
    DeadlockError,
    ForkedError,
    PoolClosedError,
    PoolTimeoutError,
    Task,
    TaskGroup,
    TaskTimeoutError,
    TimedLock,
    TransportError,
)

needs_interpreters = pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreter pools came with 3.14")
KINDS = [
    "thread",
    "process",
    pytest.param("interpreter", marks=needs_interpreters),
    "threads handed in",
    pytest.param("processes handed in", marks=pytest.mark.slow),
]
anywhere = pytest.mark.parametrize("kind", KINDS)
in_threads = pytest.mark.parametrize("kind", ["thread", "threads handed in"])


@contextmanager
def pool_of(kind: str, workers: int = 2, **options: Any) -> Iterator[CallbackPool]:
    """A pool of that kind, which is aborted at the end."""
    with ExitStack() as stack:
        executor: Executor
        if kind == "threads handed in":
            executor = stack.enter_context(ThreadPoolExecutor(workers))
        elif kind == "processes handed in":
            from multiprocessing import get_context

            executor = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
        else:
            executor, options["max_workers"] = kind, workers  # type: ignore[assignment]  # one of the names
        pool = CallbackPool(executor, **options)
        try:
            yield pool
        finally:
            pool.abort()
            with contextlib.suppress(CallbackErrors):
                pool.close(LIMIT)


def kinds_of(failed: BaseExceptionGroup[Any]) -> list[type[BaseException]]:
    """The exceptions in the group."""
    return [type(error) for error in failed.exceptions]


# -- all goes well -----------------------------------------------------------------------------------------------------


@anywhere
def test_leaving_waits_for_all_tasks_and_callbacks(kind: str) -> None:
    """It waits for tasks submitted in all three ways, and for callbacks; then the group takes no more."""
    told: list[object] = []
    with pool_of(kind) as pool:
        with pool.group() as group:
            one = group.submit(pow, 2, 3)
            two = group.apply_async(pow, (2, 4), callback=told.append)
            many = group.map(abs, [-1, -2, -3], chunksize=2)
            assert not group.cancelled.is_set()
        assert one.settled()
        assert two.settled()
        assert (one.result(0), two.result(0), list(many), told) == (8, 16, [1, 2, 3], [16])
        with pytest.raises(PoolClosedError, match="was left and takes no more"):
            group.submit(pow, 2, 3)
        assert not group.cancelled.is_set()
        assert pool.submit(pow, 2, 5).result(LIMIT) == 32  # the pool goes on


def test_an_empty_group_is_left_at_once() -> None:
    """It does not wait, and raises nothing."""
    with pool_of("thread") as pool, pool.group() as group:
        pass
    assert repr(group) == f"<left syncprims.TaskGroup of {pool.name!r}, 0 open>"


@in_threads
def test_tasks_and_callbacks_submit_to_their_group(kind: str) -> None:
    """Leaving waits for the tasks that they submit while it waits, and for those that these submit."""
    done: list[int] = []
    with pool_of(kind) as pool, pool.group() as group:

        def grow(depth: int) -> int:
            if depth:
                group.submit(grow, depth - 1)
                group.apply_async(abs, (depth,), callback=again)
            done.append(depth)
            return depth

        def again(depth: int) -> None:
            if depth == 1:
                group.submit(done.append, 100)

        group.submit(grow, 5)
    assert sorted(done) == [0, 1, 2, 3, 4, 5, 100]


@in_threads
def test_groups_in_groups_and_in_tasks(kind: str) -> None:
    """An inner group is over before the outer one; a task may have a group of its own pool."""
    order: list[str] = []
    with pool_of(kind, workers=3) as pool:

        def family(name: str) -> str:
            with pool.group() as inner:
                for child in range(3):
                    inner.submit(order.append, f"{name}.{child}")
            order.append(name)
            return name

        with pool.group() as outer:
            task = outer.submit(family, "a")
            with pool.group() as middle:
                middle.submit(order.append, "b")
            assert "b" in order
        assert task.result(0) == "a"
    assert sorted(order) == ["a", "a.0", "a.1", "a.2", "b"]
    assert order.index("a") > max(order.index(f"a.{child}") for child in range(3))


def test_many_tasks_leave_nothing_behind() -> None:
    """A group does not keep settled tasks, however many there are."""
    with pool_of("thread") as pool, pool.group() as group:
        for _ in range(8):
            for _ in range(500):
                group.submit(bool)
            pool.join(LIMIT)
        assert len(group._jobs) < 2000


# -- the first failure -------------------------------------------------------------------------------------------------


@anywhere
def test_the_first_failure_cancels_what_is_queued(kind: str, tmp_path: Path) -> None:
    """Running tasks end, queued ones never begin, and leaving raises the error once."""
    go = str(tmp_path / "go")
    told: list[BaseException] = []
    with pool_of(kind, workers=1) as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            group.submit(pool_workers.wait_for_file, go)
            group.submit(pool_workers.fail, "no")
            # More than any executor fetches in advance.
            late = [group.apply_async(abs, (-n,), error_callback=told.append) for n in range(12)]
            Path(go).touch()
        assert kinds_of(caught.value) == [ValueError]
        assert "pool_workers.fail" not in str(caught.value)
        assert "fail('no') raised ValueError: no" in str(caught.value)
        assert group.cancelled.is_set()
        assert late[-1].cancelled()
        assert all(task.settled() for task in late)
        assert len(told) == sum(task.cancelled() for task in late)
        assert all(isinstance(error, CancelledError) for error in told)
        pool.close(LIMIT)  # the error was raised, and is not raised again


@in_threads
def test_what_runs_is_told_to_stop(kind: str) -> None:
    """A task that checks `cancelled` ends early, and its CancelledError is not another failure."""
    looped: list[int] = []
    with pool_of(kind) as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            begun = Event()

            def loop() -> None:
                begun.set()
                while True:
                    looped.append(1)
                    group.cancelled.raise_if_set()
                    group.cancelled.wait(0.01)

            heeds = group.submit(loop)
            waits = group.submit(lambda: begun.wait(LIMIT) and int("seven"))
        assert kinds_of(caught.value) == [ValueError]
        assert isinstance(heeds.exception(0), CancelledError)
        assert isinstance(waits.exception(0), ValueError)
        pool.close(LIMIT)


def test_cancelled_in_all_its_words() -> None:
    """is_set, wait with and without a limit, and raise_if_set work, and it can't be pickled."""
    with pool_of("thread") as pool:
        with pytest.raises(ExceptionGroup), pool.group() as group:
            cancelled = group.cancelled
            assert isinstance(cancelled, Cancellation)
            assert cancelled.wait(0) is False
            assert cancelled.wait(0.001) is False
            cancelled.raise_if_set()
            assert repr(cancelled).endswith("not set>")
            with pytest.raises(ValueError, match="timeout"):
                cancelled.wait(-1)
            with Actors() as actors:
                waiter = actors.start(cancelled.wait)
                group.submit(int, "seven")
                assert waiter.result() is True
        assert cancelled.is_set()
        assert cancelled.wait() is True
        with pytest.raises(CancelledError, match="has failed"):
            cancelled.raise_if_set()
        with pytest.raises(TransportError, match="can't be pickled"):
            pickle.dumps(cancelled)
    with pool_of("process") as pool, pool.group() as group, pytest.raises(TransportError, match="argument 0"):
        group.submit(abs, group.cancelled)  # type: ignore[arg-type]  # it never gets there


@in_threads
def test_a_failed_group_takes_no_more(kind: str) -> None:
    """Submitting is a RuntimeError caused by the failure, which is the only error that is raised."""
    with pool_of(kind) as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            fails = group.submit(int, "seven")
            group.cancelled.wait(LIMIT)
            with pytest.raises(RuntimeError, match="has failed and takes no more") as refused:
                group.submit(abs, 1)
            assert refused.value.__cause__ is fails.exception()
            with pytest.raises(PoolClosedError):
                group.apply_async(abs, (1,))
            with pytest.raises(PoolClosedError):
                group.map(abs, [1])
            group.submit(abs, 1)
        assert kinds_of(caught.value) == [ValueError]


def test_the_errors_of_the_block_come_first() -> None:
    """As in asyncio, one group has them and those of the tasks; a task's error that the block raises counts once."""
    with pool_of("thread") as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            group.submit(int, "seven")
            group.cancelled.wait(LIMIT)
            raise LookupError("mine")
        assert kinds_of(caught.value) == [LookupError, ValueError]
        assert str(caught.value).startswith("2 errors in a group of")
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            group.submit(int, "seven").result()
        assert kinds_of(caught.value) == [ValueError]
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            waits = group.submit(group.cancelled.wait)
            eventually(waits.running)
            raise LookupError("mine")
        assert kinds_of(caught.value) == [LookupError]
        assert waits.result(0) is True


def test_cancelled_tasks_are_no_failure() -> None:
    """Neither a cancelled task is one, nor a task or block that looks at its result; as in asyncio."""
    with pool_of("thread", workers=2) as pool:
        go, begun = Event(), Event()
        with pool.group() as group:
            for _ in range(2):
                group.submit(lambda: [begun.set(), go.wait(LIMIT)])  # type: ignore[func-returns-value]
            wait_for(begun)
            queued = group.submit(abs, 1)
            assert queued.cancel()
            looks = group.submit(queued.result)
            go.set()
        assert isinstance(looks.exception(0), CancelledError)
        with pytest.raises(CancelledError), pool.group() as group:
            waits = group.submit(group.cancelled.wait)
            eventually(waits.running)
            queued.result()
        assert waits.result(0) is True
        pool.close(LIMIT)


def test_what_is_no_exception_comes_wrapped() -> None:
    """A SystemExit of a task does not end the program; the block's own propagates, with the others as notes."""
    with pool_of("thread") as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            group.submit(sys.exit, 3)
        assert kinds_of(caught.value) == [CallbackExit]
        assert isinstance(caught.value.exceptions[0].__cause__, SystemExit)
        with pytest.raises(SystemExit) as left, pool.group() as group:
            group.submit(int, "seven")
            group.cancelled.wait(LIMIT)
            sys.exit(4)
        assert left.value.code == 4
        assert "int('seven') raised ValueError" in left.value.__notes__[0]
        pool.close(LIMIT)


def test_an_error_of_a_callback_is_the_pools() -> None:
    """It does not make the group fail; but a task's error does, even if the task has an error_callback."""
    heard: list[BaseException] = []
    with pool_of("thread") as pool:
        with pool.group() as group:
            group.apply_async(abs, (1,), callback=lambda _: int("callback"))
        with pytest.raises(CallbackErrors, match="callback"):
            pool.join(LIMIT)
        with pytest.raises(ExceptionGroup), pool.group() as group:
            group.apply_async(int, ("seven",), error_callback=heard.append)
        assert [type(error) for error in heard] == [ValueError]


def test_a_group_in_a_task_fails_the_outer_one() -> None:
    """The inner ExceptionGroup is the exception of the task."""
    with pool_of("thread") as pool:

        def inner() -> None:
            with pool.group() as group:
                group.submit(int, "seven")

        with pytest.raises(ExceptionGroup) as caught, pool.group() as outer:
            outer.submit(inner)
        assert kinds_of(caught.value) == [ExceptionGroup]
        assert caught.value.subgroup(ValueError) is not None


class RefusingError(Exception):
    """An exception that refuses words, questions and notes."""

    def __str__(self) -> str:
        raise SystemExit("no words")

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise SystemExit("no truth")

    def __eq__(self, other: object) -> bool:
        raise SystemExit("no equality")

    __hash__ = None  # type: ignore[assignment]  # nor this

    def __setattr__(self, name: str, value: object) -> None:
        raise SystemExit("no attributes")


def test_hostile_errors_come_out_as_they_are() -> None:
    """An exception that refuses everything is in the group itself, from a task and from the block."""
    mine = RefusingError()

    def fail() -> None:
        raise mine

    with pool_of("thread") as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            group.submit(fail)
        assert caught.value.exceptions[0] is mine
        with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
            fail()
        assert caught.value.exceptions[0] is mine
        pool.close(LIMIT)


def expire(group: TaskGroup) -> None:
    """End the group's time now: on a machine under load, short limits pass too early."""
    assert group._expiry is not None
    group._expiry.expire()


# -- the limit ---------------------------------------------------------------------------------------------------------


@in_threads
def test_the_limit_fails_the_group(kind: str) -> None:
    """Queued tasks are cancelled, running ones notified, and the group that is raised has a PoolTimeoutError."""
    with pool_of(kind, workers=1) as pool:
        with pytest.raises(ExceptionGroup) as caught, pool.group(timeout=LIMIT) as group:
            runs = group.submit(group.cancelled.wait)
            eventually(runs.running)
            queued = group.submit(abs, 1)
            expire(group)
        assert kinds_of(caught.value) == [PoolTimeoutError]
        (late,) = caught.value.exceptions
        assert isinstance(late, PoolTimeoutError)
        assert (late.timeout, late.pending) == (LIMIT, 2)
        assert "running: Cancellation.wait" in str(late)
        assert runs.result(0) is True
        assert queued.cancelled()


def test_the_limit_counts_in_the_block() -> None:
    """A block that submits no more gets the error as well, and its group takes no more."""
    with pool_of("thread") as pool, pytest.raises(ExceptionGroup) as caught, pool.group(0.01) as group:
        assert group.cancelled.wait(LIMIT)
        group.submit(abs, 1)
    assert kinds_of(caught.value) == [PoolTimeoutError]


def test_a_task_that_does_not_heed_the_limit_is_left_behind() -> None:
    """After the pool's grace it fails as expired: no block with a limit hangs."""
    go = Event()
    try:
        with pool_of("thread", workers=1, grace=0.05) as pool:
            with pytest.raises(ExceptionGroup) as caught, pool.group(LIMIT) as group:
                endless = group.submit(go.wait)
                eventually(endless.running)
                expire(group)
            assert kinds_of(caught.value) == [PoolTimeoutError, TaskTimeoutError]
            assert isinstance(endless.exception(0), TaskTimeoutError)
            assert pool.stats.abandoned == 1
            assert pool.submit(abs, -1).result(LIMIT) == 1  # another thread has taken its place
    finally:
        go.set()


def test_a_group_that_is_done_in_time_does_not_expire() -> None:
    """The timer finds that it was left."""
    with pool_of("thread") as pool:
        with pool.group(LIMIT) as group:
            group.submit(abs, 1)
        assert group._expiry is not None
        assert group._expiry.done()
        assert not group.cancelled.is_set()


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_bad_limit_is_refused(timeout: float) -> None:
    """It is refused at once, as everywhere."""
    with pool_of("thread") as pool, pytest.raises(ValueError, match="timeout"):
        pool.group(timeout)


# -- where it can't be used --------------------------------------------------------------------------------------------


def test_a_group_is_entered_once_and_before_it_is_used() -> None:
    """Each misuse is a RuntimeError that says what to write."""
    with pool_of("thread") as pool:
        group = pool.group()
        with pytest.raises(PoolClosedError, match=r"with pool\.group"):
            group.submit(abs, 1)
        with group, pytest.raises(PoolClosedError, match="entered once"), group:
            pass
        with pytest.raises(PoolClosedError, match="entered once"), group:
            pass
        pool.close(LIMIT)
        with pytest.raises(PoolClosedError), pool.group():
            pass


def test_a_callback_has_no_group_of_its_own_pool() -> None:
    """Leaving would wait for callbacks that come after it."""
    refused: list[BaseException] = []

    def enter(_: int) -> None:
        try:
            with pool.group():
                pass
        except DeadlockError as error:
            refused.append(error)

    with pool_of("thread") as pool:
        pool.apply_async(abs, (1,), callback=enter).wait_settled(LIMIT)
    assert "entered by a callback" in str(refused[0])


def test_a_wait_for_a_group_is_an_edge() -> None:
    """Leaving with a lock that a task needs is refused at once, with the cycle; the task then gets the lock."""
    stock = TimedLock(name="stock")

    def use() -> int:
        with stock:
            return 1

    with pool_of("thread") as pool:
        group = pool.group()
        with pytest.raises(DeadlockError, match="waits for the end of the tasks of a group") as caught, stock, group:
            task = group.submit(use)
            eventually(lambda: stuck_on(stock))
        assert "when you leave a group" in str(caught.value).splitlines()[-1]
        assert task.result(LIMIT) == 1


def test_groups_that_starve_each_other_are_refused() -> None:
    """Two tasks on two workers leave groups whose tasks have no worker: one gets the error, the other goes on."""
    both = threading.Barrier(2)
    with pool_of("thread", workers=2) as pool:

        def family() -> int:
            with pool.group() as inner:
                both.wait(LIMIT)
                child = inner.submit(abs, -1)
            return child.result()

        with pytest.raises(ExceptionGroup) as caught, pool.group() as outer:
            for _ in range(2):
                outer.submit(family)
        assert caught.value.subgroup(DeadlockError) is not None


def test_a_group_with_a_limit_is_no_edge() -> None:
    """It ends by itself, and so do its tasks: neither leaving it nor waiting for one of its tasks is refused."""
    stock = TimedLock(name="stock")

    def use() -> int:
        with stock:
            return 1

    with pool_of("thread", grace=0.05) as pool:
        with pytest.raises(ExceptionGroup) as caught, stock, pool.group(LIMIT) as group:
            task = group.submit(use)
            eventually(lambda: stock.waiting > 0)
            expire(group)
            with pytest.raises(TaskTimeoutError):
                task.result()  # without its own limit
        assert TaskTimeoutError in kinds_of(caught.value) or PoolTimeoutError in kinds_of(caught.value)


def test_in_a_forked_child_leaving_is_refused() -> None:
    """The tasks belong to the parent."""
    import os

    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    code = (
        "import os, sys, threading\n"
        "from syncprims import CallbackPool, ForkedError\n"
        "pool = CallbackPool(max_workers=1)\n"
        "go = threading.Event()\n"
        "pid = 0\n"
        "try:\n"
        "    with pool.group() as group:\n"
        "        group.submit(go.wait)\n"
        "        pid = os.fork()\n"
        "        if pid:\n"
        "            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "            go.set()\n"
        "except ForkedError:\n"
        "    os._exit(7 if pid == 0 else 1)\n"
    )
    import subprocess

    from programs import environment

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment(tests=True),
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr
    assert issubclass(ForkedError, RuntimeError)


# -- interrupts --------------------------------------------------------------------------------------------------------


def test_an_interrupt_of_the_wait_comes_out_promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued tasks are cancelled, running ones notified, and the interrupt is raised even if one does not end."""
    monkeypatch.setattr("syncprims.callback_pool.group._MOMENT", 0.1)
    go = Event()
    with pool_of("thread", workers=2) as pool:
        group = pool.group()

        def interrupt() -> None:
            raise KeyboardInterrupt

        with on_signal(interrupt) as send, Actors() as actors:

            def when_it_waits() -> None:
                eventually(lambda: any("the end of the tasks" in str(each) for each in waits_for(pool)))
                send()

            with pytest.raises(KeyboardInterrupt), group:
                heeds = group.submit(group.cancelled.wait)
                eventually(heeds.running)
                endless = group.submit(go.wait, LIMIT)
                queued = group.submit(abs, 1)
                eventually(endless.running)
                actors.start(when_it_waits)
        assert heeds.result(0) is True
        assert queued.cancelled()
        assert not endless.done()
        go.set()
        assert endless.result(LIMIT) is True


@pytest.mark.parametrize("kind", ["process", "threads handed in"])
def test_an_interrupt_of_the_wait_ends_what_runs_elsewhere(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C kills tasks in processes of the pool's own, and leaves other tasks behind."""
    monkeypatch.setattr("syncprims.callback_pool.group._MOMENT", 0.1)
    go, begun = tmp_path / "go", tmp_path / "begun"
    with pool_of(kind, workers=1) as pool:

        def interrupt() -> None:
            raise KeyboardInterrupt

        with on_signal(interrupt) as send, Actors() as actors:

            def when_it_waits() -> None:
                eventually(lambda: any("the end of the tasks" in str(each) for each in waits_for(pool)))
                send()

            with pytest.raises(KeyboardInterrupt), pool.group() as group:
                runs = group.submit(pool_workers.touch_and_wait, str(begun), str(go))
                until_exists(begun)
                queued = group.submit(abs, 1)
                actors.start(when_it_waits)
        assert queued.cancelled()
        assert runs.cancelled() == (kind == "process")
        go.touch()
        assert pool.submit(abs, -1).result(LIMIT) == 1


def waits_for(pool: CallbackPool) -> list[str]:
    """The targets of the waits for the pool."""
    from syncprims._core.waits import all_waits, subject

    return [subject(each)[1] for each in all_waits() if subject(each)[0].name == pool.name]


# -- random trees ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A task: whether it fails, whether its children have their own group, and the children."""

    fails: bool
    own_group: bool
    children: tuple[Node, ...]

    def size(self) -> int:
        """The number of tasks."""
        return 1 + sum(child.size() for child in self.children)

    def any_fails(self) -> bool:
        """Whether it or one below fails."""
        return self.fails or any(child.any_fails() for child in self.children)


class NodeError(Exception):
    """The failure of a node."""


trees = st.recursive(
    st.builds(Node, st.sampled_from([False, False, False, True]), st.just(value=False), st.just(())),
    lambda below: st.builds(
        Node, st.sampled_from([False, False, False, True]), st.booleans(), st.lists(below, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


class Run:
    """One walk through a tree, by tasks of a pool."""

    def __init__(self, pool: CallbackPool) -> None:
        """Begin without finished tasks."""
        self.pool = pool
        self.begun: list[Node] = []
        self.ended: list[Node] = []
        self.tasks: list[Task[int]] = []

    def submit(self, group: TaskGroup, node: Node) -> None:
        """Add the node's task."""
        self.tasks.append(group.submit(self.walk, group, node))

    def walk(self, group: TaskGroup, node: Node) -> int:
        """The task of the node."""
        self.begun.append(node)
        try:
            if node.own_group:
                with self.pool.group() as own:
                    for child in node.children:
                        self.submit(own, child)
            else:
                for child in node.children:
                    self.submit(group, child)
            if node.fails:
                raise NodeError
            return len(node.children)
        finally:
            self.ended.append(node)


@pytest.fixture(scope="module")
def wide_pool() -> Iterator[CallbackPool]:
    """A pool with a worker for each task that may wait for others."""
    with CallbackPool(max_workers=32) as pool:
        yield pool


@pytest.mark.untraceable
@settings(max_examples=60, deadline=None, database=None)
@given(tree=trees)
def test_random_trees_keep_the_rules(tree: Node, wide_pool: CallbackPool) -> None:
    """None outlives its block; errors are raised exactly if a task fails; otherwise all have run."""
    run = Run(wide_pool)
    caught: ExceptionGroup[Any] | None = None
    try:
        with wide_pool.group() as group:
            run.submit(group, tree)
    except ExceptionGroup as error:
        caught = error
    assert len(run.begun) == len(run.ended)
    assert all(task.settled() for task in run.tasks)
    if not tree.any_fails():
        assert caught is None
        assert len(run.ended) == len(run.tasks) == tree.size()
        return
    assert group.cancelled.is_set() == (caught is not None)
    assert caught is not None
    assert list(leaves(caught)) != []
    assert {type(error) for error in leaves(caught)} == {NodeError}
    assert len(list(leaves(caught))) <= sum(isinstance(task.exception(0), NodeError) for task in done(run.tasks))


def done(tasks: list[Task[int]]) -> list[Task[int]]:
    """The tasks that were not cancelled."""
    return [task for task in tasks if not task.cancelled()]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, and in groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


# Here tasks can't submit: the block makes the groups, and tasks are leaves.


@pytest.fixture(scope="module", params=["process", *KINDS[2:4]])
def narrow_pool(request: pytest.FixtureRequest) -> Iterator[CallbackPool]:
    """A pool of two workers that are not threads of its own."""
    with pool_of(request.param) as pool:
        yield pool


def grow(pool: CallbackPool, node: Node, tasks: list[Task[int]]) -> None:
    """Make a group for the node, with its own task and a group in it for each child."""
    with pool.group() as group:
        tasks.append(group.submit(pool_workers.fail, "no") if node.fails else group.submit(pool_workers.add, 1))
        for child in node.children:
            grow(pool, child, tasks)


@pytest.mark.untraceable
@settings(max_examples=12, deadline=None, database=None)
@given(tree=trees)
def test_random_groups_keep_the_rules_elsewhere(tree: Node, narrow_pool: CallbackPool) -> None:
    """In processes, interpreters and threads passed in: none outlives its block, and errors are raised if one fails."""
    tasks: list[Task[int]] = []
    caught: ExceptionGroup[Any] | None = None
    try:
        grow(narrow_pool, tree, tasks)
    except ExceptionGroup as error:
        caught = error
    assert all(task.settled() for task in tasks)
    assert (caught is not None) == tree.any_fails()
    if caught is None:
        assert [task.result(0) for task in tasks] == [1] * tree.size()
    else:
        assert caught.subgroup(ValueError) is not None
        assert caught.split(ValueError)[1] is None
