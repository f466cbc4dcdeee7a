"""Under watch, asyncio's locks and loops look unchanged to all code that uses them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polling import until
from syncprims._core.waits import innermost_of
from syncprims.testing import interrupts
from syncprims.watch import Incident, Watching, install
from syncprims.watch.blocked import Blocked
from syncprims.watch.event_loops import lock_waits, number_of_task, running_loops, task_lock_of
from watch.watching import QUICK, block_of, run, variables

LIMIT = 30.0


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = install(after=20.0, asleep=None)
    yield watching
    watching.uninstall()


def test_asyncio_is_restored() -> None:
    """`uninstall` puts everything back."""
    before = dict(vars(asyncio.Lock)), dict(vars(asyncio.BaseEventLoop)), asyncio.run_coroutine_threadsafe
    watching = install(after=20.0, asleep=None)
    try:
        assert vars(asyncio.Lock)["acquire"] is not before[0]["acquire"]
        assert asyncio.run_coroutine_threadsafe is not before[2]
    finally:
        watching.uninstall()
    assert (dict(vars(asyncio.Lock)), dict(vars(asyncio.BaseEventLoop)), asyncio.run_coroutine_threadsafe) == before


def test_asyncio_is_not_imported_and_seen_once_it_is(tmp_path: Path) -> None:
    """A program without asyncio does not get it; after a late import, nothing is left of the finder."""
    (tmp_path / "program.py").write_text(
        "import sys\nprint('asyncio' in sys.modules)\nimport asyncio.events, importlib.util\n"
        "print(type(asyncio.__loader__) is type(asyncio.events.__loader__))\n"
        "print(asyncio.__spec__.loader is asyncio.__loader__)\n"
        "print(asyncio.Lock.acquire.__code__.co_filename.endswith('event_loops.py'))\n"
    )
    found = run("-m", "syncprims.watch", "program.py", cwd=tmp_path)
    assert (found.stdout, found.stderr) == ("False\nTrue\nTrue\nTrue\n", "")


def test_a_lock_looks_as_before(watching: Watching) -> None:
    """Signatures, kinds of functions, texts and attributes are asyncio's."""
    assert inspect.iscoroutinefunction(asyncio.Lock.acquire)
    assert str(inspect.signature(asyncio.Lock.acquire)) == "(self)"
    assert asyncio.Lock.release.__doc__ is not None
    lock = asyncio.Lock()
    assert set(vars(lock)) == {"_waiters", "_locked"}
    assert "unlocked" in repr(lock)
    with pytest.raises(RuntimeError, match="not acquired"):
        lock.release()

    class Mine(asyncio.Lock):
        def __init__(self) -> None:
            super().__init__()
            self.mine = True

    async def use() -> bool:
        async with Mine() as nothing:
            return nothing is None

    assert asyncio.run(use())


def test_nothing_is_kept_of_locks_and_tasks(watching: Watching) -> None:
    """The notes about a lock end with it, a wait with its end, and a loop is noted while it runs."""

    async def use() -> weakref.ref[asyncio.Lock]:
        lock = asyncio.Lock()

        async def take() -> None:
            async with lock:
                await asyncio.sleep(0)

        assert list(running_loops().values()) == [asyncio.get_running_loop()]
        await asyncio.gather(take(), take())
        found = task_lock_of(lock)
        assert found is not None
        assert found.holder is None
        return weakref.ref(lock)

    lock = asyncio.run(use())
    gc.collect()
    assert lock() is None
    assert running_loops() == {}
    watching.look()
    assert lock_waits == {}


def test_the_holder_is_known(watching: Watching) -> None:
    """The holder is known from `acquire` to `release`, until another task has released such a lock."""

    async def use() -> None:
        lock = asyncio.Lock()
        found = task_lock_of(lock)
        assert found is not None
        assert found.up_to(0) is None
        await lock.acquire()
        assert found.up_to(0) == number_of_task(asyncio.current_task()) < 0
        await asyncio.create_task(_release(lock))
        assert found.holder is None
        await lock.acquire()
        assert found.up_to(0) is None

    asyncio.run(use())


async def _release(lock: asyncio.Lock) -> None:
    lock.release()


@pytest.mark.untraceable
def test_an_interrupt_leaves_no_lock_taken(watching: Watching) -> None:
    """If `acquire` of a free lock is interrupted, the lock stays free, as without the watch."""

    def acquire(lock: Any) -> None:
        coroutine = lock.acquire()
        try:
            coroutine.send(None)
        except StopIteration:
            lock._locked = False

    report = interrupts(asyncio.Lock, acquire, lambda lock: "left taken" if lock.locked() else None, mode="warm")
    assert report.points > 5
    assert [leak for leak in report.leaks if "acquire_observed" in leak.where or "Lock.acquire" in leak.where] == []


def test_a_loop_that_began_before_the_watch_is_seen() -> None:
    """`install` in a coroutine sees the loop that runs it."""

    async def begin() -> bool:
        watching = install(after=20.0, asleep=None)
        try:
            return asyncio.get_running_loop() in running_loops().values()
        finally:
            watching.uninstall()

    assert asyncio.run(begin())


def test_a_forked_child_runs_no_loop(tmp_path: Path) -> None:
    """A process that a coroutine forks may wait: no event loop runs there."""
    if sys.platform == "win32":
        pytest.skip("there is no fork")
    (tmp_path / "program.py").write_text(
        "import asyncio, os, threading\n"
        "async def main():\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        threading.Event().wait(1.5)\n"
        "        os._exit(0)\n"
        "    await asyncio.to_thread(os.waitpid, child, 0)\n"
        "asyncio.run(main())\nprint('done')\n"
    )
    found = run("-W", "ignore", "-m", "syncprims.watch", *QUICK, "program.py", cwd=tmp_path)
    assert (found.stdout, found.stderr) == ("done\n", "")


def test_a_blocked_loop_is_reported_once_for_each_place(watching: Watching) -> None:
    """A loop that blocks again and again at one line is one report; a short wait is none."""
    found: list[str] = []

    def note(incident: Incident, text: str) -> bool:
        found.append(incident.heading)
        return True

    watching.watcher.on_incident.append(note)

    me = threading.get_ident()

    def waits_for_event() -> bool:
        wait = innermost_of(me)
        return isinstance(wait, Blocked) and "the Event" in wait.target.name

    def look_and_set(let_go: threading.Event) -> None:
        until(waits_for_event, LIMIT)
        watching.look()
        let_go.set()

    async def block() -> None:
        for _ in range(2):
            let_go = threading.Event()
            looking = threading.Thread(target=look_and_set, args=(let_go,))
            looking.start()
            let_go.wait(LIMIT)
            looking.join(LIMIT)

    asyncio.run(block())
    assert found == ["LOOP BLOCKED"]


@pytest.mark.slow
def test_loops_of_uvloop_are_seen(tmp_path: Path) -> None:
    """A loop of uvloop that is blocked is reported like asyncio's, and so are tasks that wait for each other."""
    uvloop = pytest.importorskip("uvloop")
    path = os.pathsep.join((variables()["PYTHONPATH"], str(Path(uvloop.__file__).parents[1])))
    (tmp_path / "blocks.py").write_text(
        "import asyncio, threading, uvloop\n"
        "async def main():\n    threading.Event().wait()\n"
        "with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:\n    runner.run(main())\n"
    )
    block = block_of("-m", "syncprims.watch", *QUICK, str(tmp_path / "blocks.py"), env={"PYTHONPATH": path})
    assert "LOOP BLOCKED" in block
    assert "Task 'Task-1' (main)" in block
