"""The waits on the page of limits are not refused as deadlocks, and a report shows them as the page says."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event, Lock, Semaphore

import pytest

from callback_pool.pool_workers import wait_for_file
from locks.actors import LIMIT, Actors, eventually, on_signal, take_and_let_go, wait_for
from programs import environment
from syncprims import AtomicCounter, CallbackPool, DeadlockError, LockAdapter, OrderedRunner, TaskGroup, TimedLock
from syncprims._core.stacks import FRAMES_ARE_SHARED
from syncprims.diagnostics import find_deadlocks, report, snapshot

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "limits.rst"

Case = Callable[[Path], None]
CASES: dict[str, Case] = {}


def row(name: str) -> Callable[[Case], Case]:
    """Enter a function that makes the hang of a row of the page, checks it, and ends it."""

    def enter(case: Case) -> Case:
        CASES[name] = case
        return case

    return enter


def waits(name: str) -> bool:
    """Whether a thread of that name waits for a primitive."""
    return any(waiter.name == name for state in snapshot() for waiter in state.waiters)


def unfound(*, all_threads: bool = False) -> str:
    """The report of a hang that the search does not find."""
    text = report(all_threads=all_threads)
    assert find_deadlocks() == ()
    assert "DEADLOCK" not in text
    return text


def shows(text: str, *lines: str) -> None:
    """Check that the report has these lines, and that the names in angle brackets are threads that wait for it."""
    for line in lines:
        pattern = re.escape(line)
        pattern = re.sub(r"<(\w+)>", r"  Thread '\1' \\(ident \\d+\\) has waited \\d+\\.\\d s for", pattern)
        assert re.search(f"^{pattern}", text, re.MULTILINE), f"{line}\n\n{text}"


@row("a counter's value")
def _(_: Path) -> None:
    arrived, gate = AtomicCounter(name="arrived"), TimedLock(name="gate")

    def keep_the_gate() -> None:
        with gate:
            arrived.wait_until(1, LIMIT)

    def arrive() -> None:
        with gate:
            arrived.increment()

    with Actors() as actors:
        actors.start(keep_the_gate, "keeper")
        eventually(lambda: waits("keeper"))
        actors.start(arrive, "guest")
        eventually(lambda: waits("guest"))
        text = unfound()
        arrived.increment()
    shows(text, "AtomicCounter 'arrived': at 0\n<keeper> it", "TimedLock 'gate': held by Thread 'keeper'", "<guest> it")


@row("a turn for which no thread has come")
def _(_: Path) -> None:
    runner = OrderedRunner("load", "store", name="etl")

    def store() -> None:
        with runner.step("store"):
            pass

    with Actors() as actors:
        actors.start(store, "storing")
        eventually(lambda: waits("storing"))
        text = unfound()
        with runner.step("load"):
            pass
    shows(text, "OrderedRunner 'etl': turn of 'load'\n<storing> it")


@row("a turn of a step whose threads have ended")
def _(_: Path) -> None:
    runner = OrderedRunner("load", "store", rounds=2, name="etl")

    def take(step: str) -> None:
        with runner.step(step):
            pass

    with Actors() as actors:
        actors.start(partial(take, "load"), "loader").result()
    with Actors() as actors:
        take("store")
        actors.start(partial(take, "store"), "storing")
        eventually(lambda: waits("storing"))
        eventually(lambda: "the only thread" in report())  # the thread ends a moment after its function
        text = unfound()
        take("load")
    lost = "Thread 'loader', the only thread that has come for it, has ended"
    shows(text, f"OrderedRunner 'etl': turn of 'load'; {lost}\n<storing> it")


@row("another library's lock or semaphore")
def _(_: Path) -> None:
    for theirs in (Lock(), Semaphore(1)):
        theirs.acquire()
        adapter = LockAdapter(theirs, name="theirs")
        with Actors() as actors:
            actors.start(partial(take_and_let_go, adapter), "guest")
            eventually(lambda: waits("guest"))
            text = unfound()
            theirs.release()
        shows(text, "LockAdapter 'theirs': held by no known thread\n<guest> it")


@row("adapted locks in both orders")
def _(_: Path) -> None:
    first, second = (LockAdapter(Lock(), name=name) for name in ("first", "second"))
    text = in_both_orders(first, second, -1, report)
    shows(text, "LockAdapter 'first': held by Thread 'MainThread'", "LockAdapter 'second': held by Thread 'other'")
    shows(text, "<other> it", "<MainThread> it")
    shows(text, "DEADLOCK: ")  # as far as an adapter can know: no wait is refused for it


@row("a wait with a limit")
def _(_: Path) -> None:
    first, second = (TimedLock(name=name) for name in ("first", "second"))
    text = in_both_orders(first, second, LIMIT, unfound)
    shows(text, "TimedLock 'first': held by Thread 'MainThread'", "TimedLock 'second': held by Thread 'other'")
    shows(text, "<other> it", "<MainThread> it")


class Enough(Exception):  # noqa: N818  it is no error
    """Ends a test that has seen enough."""


def in_both_orders(
    first: TimedLock | LockAdapter, second: TimedLock | LockAdapter, timeout: float, look: Callable[[], str]
) -> str:
    """Let this thread and another one acquire two locks in both orders, and return the report of the hang."""
    texts: list[str] = []
    has_second = Event()

    def other_order() -> None:
        with second:
            has_second.set()
            assert take_and_let_go(first, True, timeout)

    def leave() -> None:
        raise Enough

    with Actors() as actors, first, on_signal(leave) as send:

        def look_and_send() -> None:
            try:
                eventually(lambda: waits("other") and waits("MainThread"))
                texts.append(look())
            finally:
                send()

        actors.start(other_order, "other")
        wait_for(has_second)
        actors.start(look_and_send)
        with pytest.raises(Enough):
            second.acquire(timeout=timeout)
    return texts[0]


@row("a lock of another process")
def _(_: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    theirs = spawn.Lock()
    taker = spawn.Process(target=theirs.__enter__)  # and then the process ends
    taker.start()
    taker.join(LIMIT)
    adapter = LockAdapter(theirs, name="theirs")
    with Actors() as actors:
        actors.start(partial(take_and_let_go, adapter), "guest")
        eventually(lambda: waits("guest"))
        text = unfound()
        theirs.release()
    shows(text, "LockAdapter 'theirs': held by no known thread\n<guest> it")


FORKED_BY_C = """
import ctypes, os, signal, threading
from syncprims import LockTimeoutError, TimedLock
from syncprims.diagnostics import find_deadlocks, report

lock, taken, done = TimedLock(name="stock"), threading.Event(), threading.Event()

def hold():
    with lock:
        taken.set()
        done.wait(30)

threading.Thread(target=hold, name="holder").start()
taken.wait(30)
child = ctypes.PyDLL(None).fork()
if not child:  # before 3.14 CPython may hang if it starts a thread here
    signal.alarm(30)  # ends it if it hangs all the same
    try:
        with lock.hold(0.1):
            pass
    except LockTimeoutError as error:
        assert find_deadlocks() == ()
        os.write(1, f"{error}\\n{report()}".encode())
        os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
done.set()
"""


@row("a lock held at a fork that C code made")
def _(_: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("in such a child CPython waits for threads that ran at the fork, whenever it stops all threads")
    done = subprocess.run(
        [sys.executable, "-c", FORKED_BY_C],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DEADLOCK" not in done.stdout
    assert "TimedLock 'stock': held by Thread 'holder'" in done.stdout
    assert "waited 0.1 s for 'stock', held by Thread 'holder'" in done.stdout


@row("a task in a process")
def _(folder: Path) -> None:
    end = folder / "end"
    with CallbackPool("process", max_workers=1, name="mill") as pool, Actors() as actors:
        task = pool.submit(wait_for_file, str(end))
        actors.start(task.result, "guest")
        try:
            eventually(lambda: waits("guest") and task.running())
            text = unfound()
        finally:
            end.touch()
    shows(text, "CallbackPool 'mill': 1 pending, 1 running", "<guest> the result of 'wait_for_file'")
    assert re.search(r"^  runs wait_for_file for \d+\.\d s in process \d+$", text, re.MULTILINE)


@row("the failure of a group of tasks")
def _(_: Path) -> None:
    gate, waited, text = TimedLock(name="gate"), Event(), ""
    group: TaskGroup | None = None

    def keep_the_gate() -> None:
        assert group is not None
        with gate:
            group.cancelled.wait(LIMIT)
        waited.set()

    def leave(pool: CallbackPool, actors: Actors) -> None:
        nonlocal group, text
        with pool.group() as group:
            actors.start(keep_the_gate, "keeper")
            eventually(lambda: waits("keeper"))
            actors.start(partial(take_and_let_go, gate), "guest")
            eventually(lambda: waits("guest"))
            text = unfound()
            raise ValueError("which cancels the group")

    with CallbackPool(max_workers=1, name="mill") as pool, Actors() as actors:
        with pytest.raises(ExceptionGroup):
            leave(pool, actors)
        wait_for(waited)
    shows(text, "TimedLock 'gate': held by Thread 'keeper'", "<guest> it")
    assert re.search(r"Thread 'keeper' \(ident \d+\) has waited \d+\.\d s for the cancellation of a group", text)


@row("a queued task in an executor that was handed in")
def _(_: Path) -> None:
    end = Event()
    with ThreadPoolExecutor(1) as executor, CallbackPool(executor, name="mill") as pool, Actors() as actors:
        executor.submit(wait_for, end)  # it has its own work
        actors.start(pool.submit(int).result, "guest")
        try:
            eventually(lambda: waits("guest"))
            text = unfound()
        finally:
            end.set()
    shows(text, "CallbackPool 'mill': 1 pending, 0 running\n<guest> the result of 'int'")


@row("a lock whose holder has ended")
def _(_: Path) -> None:
    lock = TimedLock(name="orders")
    texts: list[str] = []

    def leave() -> None:
        raise Enough

    with Actors() as actors:
        actors.start(lock.acquire, "clerk").result()
        # The main thread waits: a new one might get the ident of the ended one, and look like the holder.
        with on_signal(leave) as send:

            def look_and_send() -> None:
                try:
                    eventually(lambda: waits("MainThread"))
                    texts.append(unfound())
                finally:
                    send()

            actors.start(look_and_send)
            with pytest.raises(Enough):
                lock.acquire(timeout=LIMIT)
    shows(texts[0], "TimedLock 'orders': held by ", "<MainThread> it")


@row("a thread in C code")
def _(_: Path) -> None:
    reading, writing = os.pipe()
    line = TimedLock(name="line")

    def ask_the_driver() -> None:
        with line:
            os.read(reading, 1)

    with ExitStack() as ends, Actors() as actors:
        ends.callback(os.close, reading)
        actors.start(ask_the_driver, "driver")
        eventually(line.locked)
        actors.start(partial(take_and_let_go, line), "guest")
        eventually(lambda: waits("guest"))
        text = unfound()
        os.close(writing)  # the end of the file
    shows(text, "TimedLock 'line': held by Thread 'driver'", "<guest> it")
    assert re.search(r"'driver' \(ident \d+, alive\) which is at test_limits\.py:\d+ in ask_the_driver\n", text)


@row("events, conditions and queues of the standard library")
def _(_: Path) -> None:
    begun, end = Event(), Event()
    lock = TimedLock(name="orders")

    def expect_news() -> None:
        with lock:
            begun.set()
            wait_for(end)

    with Actors() as actors:
        actors.start(expect_news, "reader")
        wait_for(begun)
        actors.start(partial(take_and_let_go, lock), "guest")
        eventually(lambda: waits("guest"))
        text = unfound()
        end.set()
    shows(text, "TimedLock 'orders': held by Thread 'reader'", "<guest> it")
    if FRAMES_ARE_SHARED:
        assert re.search(r"test_limits\.py:\d+ in expect_news\n(      .*\n)*  Thread 'guest'", text)


@row("a coroutine")
def _(_: Path) -> None:
    idle, end = Event(), Event()

    async def serve(pool: CallbackPool) -> None:
        task = pool.submit(wait_for, end)
        asyncio.get_running_loop().call_soon(idle.set)  # when this coroutine awaits
        await task

    with CallbackPool(max_workers=1, name="mill") as pool, Actors() as actors:
        actors.start(lambda: asyncio.run(serve(pool)), "loop")
        try:
            wait_for(idle)
            eventually(lambda: "runs wait_for" in report())
            text = unfound(all_threads=True)
        finally:
            end.set()
    shows(text, "CallbackPool 'mill': 1 pending, 1 running\n  runs wait_for for ")
    assert re.search(r"^  Thread 'loop' \(ident \d+\) is at ", text, re.MULTILINE)
    assert " in serve\n" not in text  # a coroutine that awaits is on no thread's stack


@pytest.mark.inverts
@pytest.mark.parametrize("name", sorted(CASES))
def test_it_is_not_refused_and_it_is_visible(name: str, tmp_path: Path) -> None:
    """No thread gets an error, and the report has the waits, and all that is known of the rest."""
    CASES[name](tmp_path)


@pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not there: only the tests were copied")
def test_the_page_lists_what_is_tested() -> None:
    """Each row of the page's table has its test here, and each test its row."""
    table = PAGE.read_text(encoding="utf-8").partition(".. list-table::")[2].partition("\n\nIn ")[0]
    rows = re.findall(r"^   \* - (.*)\n", table, re.MULTILINE)[1:]
    assert sorted(rows) == sorted(CASES)


def test_a_deadlock_that_a_third_thread_could_end_is_reported_all_the_same() -> None:
    """The search does not know that a free thread may abort the runner in which the two others are stuck."""
    runner, lock = OrderedRunner("load", "store", name="etl"), TimedLock(name="orders")
    may_abort = Event()

    def store() -> None:
        with lock, runner.step("store"):
            pass

    def load() -> None:
        with runner.step("load"):
            eventually(lambda: waits("storing"))
            with lock:
                pass

    def abort_some_time() -> None:
        wait_for(may_abort)
        runner.abort()

    with Actors() as actors:
        storing = actors.start(store, "storing")
        loading = actors.start(load, "loading")
        actors.start(abort_some_time, "supervisor")
        errors = [storing.error(), loading.error()]
        may_abort.set()
    assert [type(error) for error in errors].count(DeadlockError) == 1
