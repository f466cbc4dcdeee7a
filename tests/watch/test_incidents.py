"""The incidents that the search finds among threads and tasks of this process, which are freed again.

`test_hangs` shows each kind of hang in its own program, which is killed. Here no process is killed, so that coverage
sees the search: a thread that does not hold the locks releases them once the report is there.
"""

from __future__ import annotations

import _thread
import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from polling import until
from syncprims import TimedLock, TimedSemaphore
from syncprims._core.stacks import FRAMES_ARE_SHARED, codes_of_threads
from syncprims._core.waits import innermost_of
from syncprims.watch import Incident, Watching, install
from syncprims.watch.blocked import Blocked
from syncprims.watch.incidents import Search
from syncprims.watch.parts import Notification
from syncprims.watch.wording import as_object, as_text, error_of

LIMIT = 30.0


class Never:
    """No lock is an instance of it, so that no lock says where it was entered."""


class Reports:
    """The incidents that a watch finds, which are not written."""

    def __init__(self, watching: Watching) -> None:
        self.watching = watching
        self.found: list[Incident] = []
        watching.watcher.on_incident.append(self._note)

    def _note(self, incident: Incident, text: str) -> bool:
        self.found.append(incident)
        return True

    def first(self, heading: str, of: str = "") -> Incident:
        """Look until there is a report with this heading, of a wait of that thread if it is named."""

        def fitting() -> list[Incident]:
            return [each for each in self.found if each.heading == heading and of in ("", each.threads[0].thread)]

        def is_there() -> bool:
            self.watching.look()
            return bool(fitting())

        until(is_there, LIMIT)
        return fitting()[0]


@contextmanager
def watch(**options: Any) -> Iterator[Reports]:
    """Turn the watch on, and look only if a test does."""
    watching = install(after=60.0, asleep=None, **options)
    watching.watcher.stop()
    try:
        yield Reports(watching)
    finally:
        watching.uninstall()


def run(*functions: Callable[[], object]) -> list[threading.Thread]:
    """Start a thread for each function, in which another thread may have released the function's lock."""

    def call(function: Callable[[], object]) -> None:
        try:
            function()
        except RuntimeError:
            pass

    threads = [threading.Thread(target=call, args=(each,), name=f"t{number}") for number, each in enumerate(functions)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


@pytest.mark.inverts
def test_two_locks_in_both_orders() -> None:
    """It is certain as long as no other thread has released such a lock; afterwards it is not reported."""
    with watch() as reports:
        first = threading.Lock()
        second = threading.Lock()
        both = threading.Barrier(2)

        def work(one: Any, other: Any) -> None:
            with one:
                both.wait(LIMIT)
                with other:
                    pass

        threads = run(lambda: work(first, second), lambda: work(second, first))
        incident = reports.first("DEADLOCK")
        second.release()
        join(threads)
        first_text = as_text(incident)
    assert "for first (test_incidents.py:" in first_text
    assert "taken at test_incidents.py:" in first_text
    found = as_object(incident)
    assert (found["certain"], {each["name"] for each in found["threads"]}) == (True, {"t0", "t1"})
    error = error_of(incident, incident.threads[1].ident)
    assert error.cycle[0].thread == incident.threads[1].thread


@pytest.mark.inverts
@pytest.mark.parametrize(
    # Each makes its lock at its own place: the test releases it in another thread, which the place remembers.
    ("form", "make"),
    [("as it is", lambda: threading.Lock()), ("Python alone", lambda: threading.Lock())],
    ids=["as it is", "Python alone"],
)
def test_a_lock_that_the_standard_library_has_entered(
    form: str, make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of `concurrent.futures` are examined too: so the deadlock is certain, in either form of the watch."""
    if form == "Python alone":
        monkeypatch.setattr("syncprims.watch.with_blocks.Enterable", Never)
    with watch() as reports:
        mine, held = make(), threading.Event()

        class Slow(ThreadPoolExecutor):
            def _adjust_thread_count(self) -> None:
                held.set()
                with mine:
                    super()._adjust_thread_count()

        with Slow(1) as pool:

            def other() -> None:
                with mine:
                    submitting[:] = run(lambda: pool.submit(int))
                    assert held.wait(LIMIT)
                    pool.submit(int)

            submitting: list[threading.Thread] = []
            threads = run(other)
            try:
                incident = reports.first("DEADLOCK")
            finally:
                mine.release()
                join([*threads, *submitting])
    assert as_object(incident)["certain"] is True
    assert "of the ThreadPoolExecutor" in as_text(incident)


@pytest.mark.inverts
def test_a_certain_deadlock_is_broken() -> None:
    """With `breaks` one of two threads that wait for each other's RLocks gets the error."""
    with watch(breaks=True) as reports:
        first, second = threading.RLock(), threading.RLock()
        both = threading.Barrier(2)
        errors: list[BaseException] = []

        def work(one: Any, other: Any) -> None:
            try:
                with one:
                    both.wait(LIMIT)
                    with other:
                        pass
            except Exception as error:
                errors.append(error)

        threads = run(lambda: work(first, second), lambda: work(second, first))
        reports.first("DEADLOCK")
        join(threads)
    assert [type(error).__name__ for error in errors] == ["DeadlockError"]


def test_a_join_under_the_lock_that_the_thread_needs() -> None:
    """The thread that has the lock waits for the end of the other one."""
    with watch() as reports:
        lock = threading.Lock()
        held = threading.Event()

        def need() -> None:
            held.wait(LIMIT)
            with lock:
                pass

        needing = threading.Thread(target=need, name="needing")

        def wait() -> None:
            lock.acquire()
            held.set()
            needing.join()

        needing.start()
        threads = [*run(wait), needing]
        text = as_text(reports.first("DEADLOCK"))
        lock.release()
        join(threads)
    assert "for the end of Thread 'needing'" in text
    assert "release the lock before joining" in text


def test_a_task_of_a_pool_that_waits_for_its_own_pool() -> None:
    """It is likely that it never goes on, because the pool could get another worker."""
    with watch() as reports:
        futures: list[Future[int]] = []
        with ThreadPoolExecutor(1, "jobs") as pool:

            def outer() -> int:
                futures.append(pool.submit(int))
                return futures[0].result()

            ended = pool.submit(outer)
            incident = reports.first("LIKELY DEADLOCK")
            assert futures[0].cancel()
        assert isinstance(ended.exception(LIMIT), CancelledError)
    assert "a task that is queued in the ThreadPoolExecutor 'jobs' of 1 worker(s)" in as_text(incident)


def test_the_start_of_a_thread_is_no_wait_for_another_one() -> None:
    """The system starts it, even if late; so this never means that a loop is blocked, or all threads are asleep."""
    let_go = threading.Event()

    class Late(threading.Thread):
        def _bootstrap(self) -> None:
            let_go.wait(LIMIT)
            super()._bootstrap()  # type: ignore[misc]  # it exists

    with watch():
        late = Late(target=int)
        (starting,) = run(late.start)

        def is_starting() -> bool:
            wait = innermost_of(starting.ident)
            return isinstance(wait, Blocked) and isinstance(wait.target, Notification) and wait.target.is_start

        try:
            until(is_starting, LIMIT)
        finally:
            let_go.set()
        join([starting, late])


@pytest.mark.parametrize("make", [_thread.allocate_lock, _thread.RLock])
def test_a_wait_for_a_condition_whose_lock_is_older_than_the_watch(make: Callable[[], Any]) -> None:
    """Such a lock counts as an instance of an observed one's class, but the place that made it is unknown."""
    with watch(slow=0.05) as reports:
        condition, over = threading.Condition(make()), threading.Event()

        def need() -> None:
            with condition:
                condition.wait_for(over.is_set, LIMIT)

        (thread,) = run(need)
        assert "s for a notification of a Condition\n" in as_text(reports.first("SLOW"))
        with condition:
            over.set()
            condition.notify_all()
        join([thread])


def test_a_slow_wait() -> None:
    """A wait that is longer than the limit is reported once, with the place of its holder."""
    with watch(slow=0.05) as reports:
        lock, let_go, held = threading.Lock(), threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                held.set()
                let_go.wait(LIMIT)

        def need() -> None:
            held.wait(LIMIT)
            with lock:
                pass

        threads = run(hold, need)
        held.wait(LIMIT)
        incident = reports.first("SLOW", of="t1")
        let_go.set()
        join(threads)
    assert incident.notes[0] == "Thread 't0' is here:"
    assert incident.notes[-1].endswith(" in hold") or not FRAMES_ARE_SHARED


def test_a_slow_wait_of_the_holder_itself() -> None:
    """Its stack is shown once, as that of the waiting thread."""
    with watch(slow=0.05) as reports:
        lock = threading.Lock()

        def take_twice() -> None:
            with lock:
                lock.acquire(timeout=LIMIT)

        threads = run(take_twice)
        incident = reports.first("SLOW")
        lock.release()
        join(threads)
    assert "held by itself" in as_text(incident)
    assert as_text(incident).count(" in take_twice\n") == 1
    assert incident.notes == ()


def test_a_thread_that_holds_several_permits() -> None:
    """It is named once among the holders."""
    others = list(codes_of_threads())
    permits, gate = TimedSemaphore(2), TimedLock()

    def hold_both() -> None:
        with permits, permits, gate:
            pass

    def need() -> None:
        with permits:
            pass

    search, found = Search(), list[Incident]()
    with gate:
        first = run(hold_both)
        until(lambda: gate.waiting, LIMIT)
        second = run(need)
        until(lambda: permits.waiting, LIMIT)

        def is_there() -> bool:
            found.extend(search.look(0.0, asleep=0.0, ignored=others))
            return bool(found)

        until(is_there, LIMIT)
    join(first + second)
    (incident,) = found
    assert incident.heading == "ALL ASLEEP"
    (waiter,) = [each for each in incident.threads if each.ident == second[0].ident]
    assert [each.ident for each in waiter.holders] == [first[0].ident]


# -- event loops -------------------------------------------------------------------------------------------------------


class LoopThread:
    """A loop that runs in its own thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks: list[asyncio.Task[None]] = []
        (self.thread,) = run(self._run)

    def _run(self) -> None:
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.loop.close()

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let the loop run a task."""
        self.loop.call_soon_threadsafe(lambda: self.tasks.append(self.loop.create_task(coroutine)))

    def end(self) -> None:
        """Cancel the remaining tasks, and end the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        join([self.thread])


def test_two_tasks_in_both_orders() -> None:
    """Two tasks wait for each other's asyncio locks."""
    with watch() as reports:
        running = LoopThread()

        async def main() -> None:
            one, other = asyncio.Lock(), asyncio.Lock()
            both = asyncio.Barrier(2)

            async def move(first: asyncio.Lock, second: asyncio.Lock) -> None:
                async with first:
                    await both.wait()
                    async with second:
                        pass

            await asyncio.gather(move(one, other), move(other, one), return_exceptions=True)

        running.begin(main())
        text = as_text(reports.first("LIKELY DEADLOCK"))
        running.end()
    assert "unless one of these tasks is cancelled" in text
    assert "the asyncio.Lock o" in text


def test_a_task_that_holds_a_lock_while_a_thread_needs_it() -> None:
    """The task awaits the thread, and has the lock in one of its blocks."""
    with watch() as reports:
        running = LoopThread()
        lock = threading.Lock()

        def need() -> None:
            with lock:
                pass

        async def main() -> None:
            with lock:
                await asyncio.to_thread(need)

        running.begin(main())
        incident = reports.first("LIKELY DEADLOCK")
        lock.release()
        running.end()
    assert {each.task.partition(" ")[0] for each in incident.threads} == {"", "Task"}
    assert "hold no lock of threading over an await" in incident.advice


def test_a_task_that_waits_for_tasks_under_a_lock() -> None:
    """It waits by a group of tasks, by `wait`, and for the task itself."""
    with watch() as reports:
        running = LoopThread()

        async def need(lock: asyncio.Lock) -> None:
            async with lock:
                pass

        async def by_group() -> None:
            lock = asyncio.Lock()
            async with lock, asyncio.TaskGroup() as group:
                group.create_task(need(lock))

        async def by_wait() -> None:
            lock = asyncio.Lock()
            async with lock:
                await asyncio.wait([asyncio.create_task(need(lock))])

        async def by_await() -> None:
            lock = asyncio.Lock()
            async with lock:
                await asyncio.create_task(need(lock))

        for each in (by_group, by_wait, by_await):
            running.begin(each())

        def are_found() -> bool:
            reports.watching.look()
            said = "".join(as_text(each) for each in reports.found)
            return all(
                f"s for {words}" in said
                for words in ("the tasks of a TaskGroup", "the tasks of a wait()", "the end of Task")
            )

        until(are_found, LIMIT)
        running.end()


def test_a_loop_that_waits_for_its_own_coroutine() -> None:
    """This is certain, although this thread can still cancel the future."""
    with watch() as reports:
        running = LoopThread()
        futures: list[Any] = []

        async def nothing() -> None:
            pass

        async def main() -> None:
            futures.append(asyncio.run_coroutine_threadsafe(nothing(), running.loop))
            try:
                futures[0].result()
            except BaseException:
                futures.append("ended")

        running.begin(main())
        text = as_text(reports.first("DEADLOCK"))
        futures[0].cancel()
        until(lambda: len(futures) == 2, LIMIT)
        running.end()
    assert "up to itself, which runs that event loop" in text


def test_a_task_that_needs_what_another_one_holds_over_an_await() -> None:
    """The loop is blocked, and the task that has the lock is named."""
    with watch() as reports:
        running = LoopThread()
        lock = threading.Lock()

        async def need() -> None:
            with lock:
                pass

        async def hold() -> None:
            with lock:
                await asyncio.gather(need(), asyncio.Event().wait())

        running.begin(hold())
        text = as_text(reports.first("DEADLOCK"))
        lock.release()
        running.end()
    assert ", which is suspended" in text
