"""Faults of the whole program: Ctrl-C, exit with a pool open, sudden death, and the order of output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from callback_pool.pool_workers import add, announce_then_hang
from polling import ended, sending, until, until_exists

from . import work
from .fault_places import OWN, OWN_PROCESSES, open_pool
from .rows import WORKS, row
from .task_faults import hang_here
from .witness import LIMIT, Witness

# Each row here starts one more program, in which the fault happens: ``python -m pool_faults.program_faults NAME …``


def start(name: str, place: str, *arguments: str, module: str = __name__) -> subprocess.Popen[str]:
    """Start the program in which the fault happens."""
    return subprocess.Popen(
        [sys.executable, "-m", module, name, place, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(program: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Wait for its end; return status, lines and errors."""
    try:
        out, errors = program.communicate(timeout=LIMIT + 5)
    finally:
        program.kill()
        program.wait(LIMIT)
    return program.returncode, out.splitlines(), errors


def await_ready(program: subprocess.Popen[str]) -> None:
    assert program.stdout is not None
    line = program.stdout.readline()
    if line != "ready\n":
        raise AssertionError(f"{line!r} {end(program)}")


@row("Ctrl-C inside with")
def ctrl_c(place: str) -> str:
    """The queue is cancelled and reported, and running tasks are not waited for."""
    release = os.path.join(tempfile.mkdtemp(), "release")
    program = start("suffer_ctrl_c", place, release)
    await_ready(program)
    before = time.monotonic()
    assert program.stdout is not None
    with sending(program.send_signal, signal.SIGINT):
        assert program.stdout.readline() == "out, all told\n"
    print(f"out after {time.monotonic() - before:.2f} s")
    Path(release).touch()
    status, lines, errors = end(program)
    assert (status, lines) == (0, []), (status, lines, errors)
    return "told"


def suffer_ctrl_c(place: str, release: str) -> None:
    pool = open_pool(place, workers=1)
    witness = Witness(pool)
    try:
        with pool:
            running = witness.send(hang_here, release, release + ".mark")
            queued = [witness.send(add, n) for n in range(40)]
            until_exists(release + ".mark")
            until(running.running)
            print("ready", flush=True)
            pool.join(LIMIT)
    except KeyboardInterrupt:
        cancelled = [task for task in queued if task.cancelled()]
        assert not running.done()
        # An executor that fetches in advance may not be able to cancel a few; they run, and are notified.
        assert len(cancelled) >= 36, len(cancelled)
        assert all(task.settled() for task in cancelled)
        assert sum(map(len, witness.told)) == len(cancelled)
        print("out, all told", flush=True)


@row("exit without close, six tasks")
def exit_without_close(place: str) -> str:
    """All six run, and so do their callbacks and the tasks that these submit."""
    status, lines, errors = end(start("suffer_exit", place))
    assert (status, errors) == (0, ""), (status, lines, errors)
    assert sorted(map(int, lines)) == [*range(6), *range(100, 106)], lines
    return "6/6"


def suffer_exit(place: str) -> None:
    pool = open_pool(place)

    def again(n: int) -> None:
        print(n, flush=True)
        if n < 100:
            pool.apply_async(add, (n, 100), callback=again)

    for n in range(6):
        pool.apply_async(add, (n,), callback=again)


@row("exit with an abandoned endless task", (*OWN, "pebble"))
def exit_with_endless_task(place: str) -> str:
    """The program ends by itself, and no process of it lives on."""
    mark = os.path.join(tempfile.mkdtemp(), "mark")
    status, lines, errors = end(start("suffer_endless", place, mark))
    assert (status, lines, errors) == (0, ["TaskTimeoutError"], "")
    if place in (*OWN_PROCESSES, "pebble"):
        assert ended(int(Path(mark).read_text()))
    return WORKS


def suffer_endless(place: str, mark: str) -> None:
    pool = open_pool(place)
    task = pool.apply_async(
        announce_then_hang, (mark,), error_callback=lambda error: print(type(error).__name__, flush=True), timeout=1.5
    )
    task.wait_settled(LIMIT)
    until_exists(mark)


@row("parent dies by os._exit or SIGKILL: orphan workers", OWN_PROCESSES)
def parent_dies(place: str) -> str:
    """No busy and no idle worker outlives it."""
    for way in ("exit", "kill"):
        folder = tempfile.mkdtemp()
        program = start("suffer_death", place, way, folder)
        await_ready(program)
        pids = [int(name) for name in os.listdir(folder) if name.isdigit()]
        pids.append(int(Path(folder, "busy").read_text()))
        if way == "kill":
            program.kill()
        end(program)
        assert len(pids) >= 2
        assert all(map(ended, pids)), (way, pids)
    return "none"


def suffer_death(place: str, way: str, folder: str) -> NoReturn:
    pool = open_pool(place, workers=2)
    busy = os.path.join(folder, "busy")
    pool.submit(announce_then_hang, busy)
    until_exists(busy)
    pool.submit(work.note_pid, folder).result(LIMIT)
    print("ready", flush=True)
    if way == "exit":
        os._exit(1)
    threading.Event().wait(2 * LIMIT)
    sys.exit("was not killed")


@row("child's lines before its callback's, stdout a pipe")
def output_order(place: str) -> str:
    """The parent's buffered output first, then each child's lines, then its callback's."""
    status, lines, errors = end(start("suffer_order", place))
    assert status == 0, errors
    check_order(lines, errors.splitlines())
    return "always"


def check_order(lines: list[str], aside: list[str]) -> None:
    """Check the order of the output of `suffer_order`: twice, with starting workers and with running ones."""
    for batch in ("cold", "warm"):
        for n in range(4):
            wanted = (f"parent {batch}", f"{batch}{n} first", f"{batch}{n} second", f"{batch}{n} callback")
            assert [lines.count(line) for line in wanted] == [1] * 4, lines
            places = [lines.index(line) for line in wanted]
            assert places == sorted(places), lines
            assert f"{batch}{n} aside" in aside
    assert len(lines) == 2 * (1 + 4 * 3), lines


def report(name: str) -> None:
    sys.stdout.write(f"{name} callback\n")  # one write; print makes two, and another thread may come between


def suffer_order(place: str) -> None:
    with open_pool(place) as pool:
        for batch in ("cold", "warm"):
            print("parent", batch)
            for n in range(4):
                pool.apply_async(work.say_lines, (f"{batch}{n}",), callback=report)
            pool.join(LIMIT)


SUFFERERS: dict[str, Callable[..., None]] = {
    sufferer.__name__: sufferer for sufferer in (suffer_ctrl_c, suffer_exit, suffer_endless, suffer_death, suffer_order)
}

if __name__ == "__main__":
    SUFFERERS[sys.argv[1]](*sys.argv[2:])
