"""The text of a report: its first line, the stacks of the program alone, and every thread on demand."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any
from weakref import ReferenceType, ref

import pytest

from callback_pool.pool_workers import pid, wait_for_file
from locks.actors import LIMIT, Actors, eventually, held_elsewhere, take_and_let_go, wait_for
from syncprims import CallbackPool, Task, TimedLock
from syncprims._core.stacks import FRAMES_ARE_SHARED
from syncprims.diagnostics import attach_report, report, snapshot

PACKAGE = os.path.dirname(sys.modules["syncprims"].__file__ or "")


def block_of(text: str, head: str) -> list[str]:
    """The lines of the one thread or primitive whose line begins like this, with its stack."""
    lines = text.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.lstrip().startswith(head)]
    depth = len(lines[start]) - len(lines[start].lstrip())
    block = [lines[start]]
    for line in lines[start + 1 :]:
        if len(line) - len(line.lstrip()) <= depth:
            break
        block.append(line)
    return block


def test_the_first_line_has_date_process_interpreter_and_how_many_wait() -> None:
    """A report in a log says when and where it was made, and how many threads wait."""
    lock = TimedLock(name="ledger")
    with Actors() as actors, held_elsewhere(lock) as let_go:
        for _ in range(2):
            actors.start(lambda: take_and_let_go(lock, True, LIMIT))
        eventually(lambda: lock.waiting == 2)
        heading = report().splitlines()[0]
        let_go()
    found = re.fullmatch(
        rf"syncprims in process {os.getpid()}: (\d+) (?:is|are) busy, (\d+) threads wait; "
        r"(.+), CPython (\S+)( without the GIL)?",
        heading,
    )
    assert found, heading
    assert int(found[1]) >= 1
    assert int(found[2]) >= 2
    assert abs(datetime.strptime(found[3], "%Y-%m-%d %H:%M:%S %z") - datetime.now(UTC)) < timedelta(minutes=5)
    assert found[4] == sys.version.split()[0]
    assert (found[5] is None) == FRAMES_ARE_SHARED


def test_no_frame_of_the_library_is_printed() -> None:
    """There is none at the end of a stack or in its middle, where the library calls the program."""
    lock, begun, end = TimedLock(name="ledger"), Event(), Event()

    def grind() -> None:
        with lock:
            begun.set()
            wait_for(end)

    def want_the_ledger() -> None:
        with lock:
            pass

    with CallbackPool(max_workers=2, name="mill") as pool:
        pool.submit(grind)
        wait_for(begun)
        pool.submit(want_the_ledger)
        try:
            eventually(lambda: lock.waiting == 1)
            text = report(all_threads=True)
        finally:
            end.set()
    assert " in want_the_ledger\n" in text
    assert (" in grind\n" in text) == FRAMES_ARE_SHARED
    assert PACKAGE not in text


def test_other_threads_are_added_on_demand() -> None:
    """A thread without this library appears with its stack, and so does the thread that makes the report."""
    begun, end = Event(), Event()

    def far_away() -> None:
        begun.set()
        wait_for(end)

    def write_home() -> str:
        return report(all_threads=True)

    with Actors() as actors:
        actors.start(far_away, "stranger")
        wait_for(begun)
        try:
            without, text = report(), actors.start(write_home, "reporter").result()
        finally:
            end.set()
    assert "stranger" not in without
    assert "other threads:" not in without
    if FRAMES_ARE_SHARED:
        block = block_of(text, "Thread 'stranger' (ident ")
        assert block[-1].endswith(" in wait_for")
        assert any(line.endswith(" in far_away") for line in block)
    mine = block_of(text, "Thread 'reporter' (ident ")
    assert ", which writes this, is at test_report.py:" in mine[0]
    assert mine[-1].endswith(" in write_home")
    assert "Thread 'MainThread'" in text


def test_a_thread_is_listed_once() -> None:
    """A thread that holds a lock or waits is listed with that, and not among the other threads."""
    lock = TimedLock(name="ledger")

    def want_the_ledger() -> None:
        with lock:
            pass

    with Actors() as actors, held_elsewhere(lock, "billing") as let_go:
        actors.start(want_the_ledger, "audit")
        eventually(lambda: lock.waiting)
        text = report(all_threads=True)
        let_go()
    assert text.count("Thread 'billing'") == text.count("Thread 'audit'") == 1


def test_an_idle_thread_of_the_library_has_no_stack() -> None:
    """A worker that waits for work runs no code of the program, and the report says so."""
    with CallbackPool(max_workers=1, name="mill") as pool:
        pool.submit(int).result(LIMIT)
        eventually(lambda: len(block_of(report(all_threads=True), "Thread 'mill-worker-1'")) == 1)
        block = block_of(report(all_threads=True), "Thread 'mill-worker-1'")
    if FRAMES_ARE_SHARED:
        assert block[0].endswith(" is in no code of the program that can be seen from here")


def test_a_running_task_has_its_thread_age_and_stack() -> None:
    """The report and the snapshot say where each running task is, and for how long, as for a waiting thread."""
    begun, end = Event(), Event()

    def grind() -> None:
        begun.set()
        wait_for(end)

    with CallbackPool(max_workers=1, name="mill") as pool:
        pool.submit(grind)
        pool.submit(int)
        wait_for(begun)
        try:
            (state,) = [state for state in snapshot() if state.name == "mill"]
            block = block_of(report(), "CallbackPool 'mill'")
        finally:
            end.set()
    assert block[0] == "CallbackPool 'mill': 2 pending, 1 running"
    (work,) = state.work
    assert work.what.endswith("grind")
    assert work.thread == "mill-worker-1"
    assert work.seconds is not None
    assert 0 <= work.seconds < LIMIT
    assert state.running == ((work.what, work.seconds),)
    who = rf"Thread 'mill-worker-1' \(ident {work.ident}\)"
    assert re.fullmatch(rf"  runs \S+grind for \d+\.\d s in {who}, at .+", block[1])
    if FRAMES_ARE_SHARED:
        assert "grind" in [frame.name for frame in work.stack]
        assert any(line.endswith(" in grind") for line in block)


@pytest.mark.parametrize("which", ["callback", "error_callback", "on_progress", "_on_settled"])
def test_the_dispatcher_says_what_it_runs(which: str) -> None:
    """While a callback or a hook blocks the others, the report names it and its task, and shows where it is."""
    begun, end = Event(), Event()

    def hold_up(*args: object) -> None:
        if not begun.is_set():
            begun.set()
            wait_for(end)

    class Hooked(CallbackPool):
        def _on_settled(self, task: Task[Any]) -> None:
            if which == "_on_settled":
                hold_up()

    pool = Hooked(max_workers=1, name="mill", on_progress=hold_up if which == "on_progress" else None)
    with pool:
        pool.apply_async(
            int,
            ("seven" if which == "error_callback" else "7",),
            callback=hold_up if which == "callback" else None,
            error_callback=hold_up if which == "error_callback" else None,
        )
        wait_for(begun)
        try:
            text = report(all_threads=True)
        finally:
            end.set()
    block = block_of(text, f"runs {which} of int for ")
    assert re.search(r" for \d+\.\d s in Thread 'mill-dispatcher' \(ident \d+\), at ", block[0])
    if FRAMES_ARE_SHARED:
        assert any(line.endswith(" in hold_up") for line in block)
    assert text.count("'mill-dispatcher'") == 1
    assert "runs" not in report()


def test_a_task_in_a_process_has_its_pid_and_age(tmp_path: Path) -> None:
    """A task in a worker process has no stack here; the report names the process, and says for how long."""
    end = tmp_path / "end"
    with CallbackPool("process", max_workers=1, name="mill") as pool:
        worker = pool.submit(pid).result(LIMIT)
        task = pool.submit(wait_for_file, str(end))
        try:
            eventually(task.running)
            (state,) = [state for state in snapshot() if state.name == "mill"]
            (line,) = [line for line in report().splitlines() if "runs wait_for_file" in line]
        finally:
            end.touch()
    assert re.fullmatch(rf"  runs wait_for_file for \d+\.\d s in process {worker}", line)
    (work,) = state.work
    assert (work.pid, work.ident, work.thread, work.stack) == (worker, None, "", ())


def test_a_task_in_an_executor_of_the_users_has_its_pid_if_it_has_a_timeout(tmp_path: Path) -> None:
    """Workers of an executor that was passed in record their process together with the start of a task."""
    end = tmp_path / "end"
    with ProcessPoolExecutor(1, get_context("spawn")) as executor, CallbackPool(executor, name="mill") as pool:
        worker = pool.submit(pid).result(LIMIT)
        for timeout, place in ((LIMIT, f"in process {worker}"), (None, "outside this process")):
            task = pool.apply_async(wait_for_file, (str(end),), timeout=timeout)
            try:
                eventually(task.running)
                (line,) = [line for line in report().splitlines() if "runs wait_for_file" in line]
            finally:
                end.touch()
            assert re.fullmatch(rf"  runs wait_for_file(?: for \d+\.\d s)? {place}", line)
            task.result(LIMIT)
            end.unlink()


class Shy(threading.Thread):
    """A thread that does not give its name."""

    @property
    def name(self) -> str:  # type: ignore[override]  # read-only
        """Raise."""
        raise LookupError("no name")


def test_a_name_that_fails_spoils_no_report() -> None:
    """A thread whose name raises is listed nevertheless, and so are the others."""
    lock = TimedLock(name="ledger")

    def want_the_ledger() -> None:
        with lock:
            pass

    waiter = Shy(target=want_the_ledger)
    with lock:
        waiter.start()
        eventually(lambda: lock.waiting)
        text = report(all_threads=True)
    waiter.join(LIMIT)
    assert re.search(r"Thread without a name \(ident \d+\) has waited", text)
    assert "TimedLock 'ledger': held by Thread 'MainThread'" in text


def test_of_very_many_primitives_those_are_shown_that_most_wait_for() -> None:
    """A report of thousands of locks stays short, says how many it leaves out, and has those with most waiters."""
    many = [TimedLock(name=f"many-{number}") for number in range(1000)]
    jammed = TimedLock(name="jammed")
    with Actors() as actors, held_elsewhere(jammed) as let_go, ExitStack() as held:
        for lock in many:
            held.enter_context(lock)
        for _ in range(2):
            actors.start(lambda: take_and_let_go(jammed, True, LIMIT))
        eventually(lambda: jammed.waiting == 2)
        text, states = report(), snapshot()
        let_go()
    lines = text.splitlines()
    assert lines[1].startswith("TimedLock 'jammed': held by")
    shown = [line for line in lines if line.startswith("TimedLock ")]
    assert len(shown) == 100
    busy = int(re.findall(r": (\d+) are busy", lines[0])[0])
    assert f"and {busy - 100} more, that fewer threads wait for; snapshot() has them all" in lines
    assert {lock.name for lock in many} <= {state.name for state in states}
    assert len(re.sub(r"/\S*/", "", text)) < 100_000  # without the paths, which depend on the machine


def test_the_threads_are_listed_once_for_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing the frames stops all threads, so it is not repeated for each holder and waiter."""
    times: list[int] = []
    look = sys._current_frames

    def counted() -> dict[int, FrameType]:
        times.append(1)
        return look()

    with ExitStack() as held:
        for number in range(50):
            held.enter_context(TimedLock(name=f"many-{number}"))
        monkeypatch.setattr(sys, "_current_frames", counted)
        assert len(snapshot()) >= 50
        monkeypatch.undo()
    assert len(times) == 1


def test_a_snapshot_keeps_nothing_of_other_threads_alive() -> None:
    """The frames of other threads are not kept in a cycle that only the collector would find."""

    class Thing:
        pass

    begun, end, refs = Event(), Event(), list[ReferenceType[Thing]]()

    def have_a_thing() -> None:
        thing = Thing()
        refs.append(ref(thing))
        begun.set()
        wait_for(end)

    gc.collect()
    gc.disable()
    try:
        with Actors() as actors, TimedLock():
            actors.start(have_a_thing)
            wait_for(begun)
            snapshot()
            report(all_threads=True)
            end.set()
        assert refs[0]() is None
    finally:
        gc.enable()


def test_a_report_is_attached_to_exceptions_alone() -> None:
    """An exception that refuses notes gets it nevertheless; another object is an error at once."""

    class Frozen(Exception):  # noqa: N818  as its name says
        def add_note(self, note: str) -> None:
            raise TypeError("frozen")

        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("frozen")

    error = Frozen("late")
    attach_report(error)
    assert error.__notes__[0].startswith("syncprims in process")
    with pytest.raises(TypeError, match="attached to an exception, not to 'late'"):
        attach_report("late")  # type: ignore[arg-type]  # on purpose
