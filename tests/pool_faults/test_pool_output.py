"""The order of output, to any target: the parent's earlier lines, the child's, and then its callback's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pool_faults.cell_runs import AT_A_TIME, buffered
from pool_faults.fault_places import OWN, missing
from pool_faults.program_faults import check_order

LIMIT = 30.0
RUNS = int(os.environ.get("SYNCPRIMS_OUTPUT_RUNS", "100"))


def to_pipe(command: list[str], folder: Path) -> list[str]:
    """Run the program with a pipe for both streams; return the output."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=buffered(),
        timeout=LIMIT,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def to_file(command: list[str], folder: Path) -> list[str]:
    """Run the program with a file for both streams."""
    path = folder / "output"
    # In append mode, like a shell's >>: several processes share one offset.
    with path.open("ab") as file:
        subprocess.run(command, stdout=file, stderr=file, env=buffered(), timeout=LIMIT, check=True)
    return path.read_text().splitlines()


def to_terminal(command: list[str], folder: Path) -> list[str]:
    """Run the program with a terminal for both streams."""
    import pty

    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read_all, ours)
        try:
            subprocess.run(command, stdout=theirs, stderr=theirs, env=buffered(), timeout=LIMIT, check=True)
        finally:
            os.close(theirs)  # the reader's end comes when the last writer has closed
        return reading.result(LIMIT).decode().splitlines()


def read_all(descriptor: int) -> bytes:
    """Read until no process can write any more, which is an error on Linux's terminals."""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return b"".join(parts)


WAYS = [
    to_pipe,
    to_file,
    pytest.param(to_terminal, marks=pytest.mark.skipif(sys.platform == "win32", reason="terminals are POSIX's")),
]


def run_once(way: Callable[[list[str], Path], list[str]], place: str, folder: Path) -> None:
    folder.mkdir()
    lines = way([sys.executable, "-m", "pool_faults.program_faults", "suffer_order", place], folder)
    aside = [line for line in lines if line.endswith(" aside")]
    check_order([line for line in lines if line not in aside], aside)


@pytest.mark.parametrize("way", WAYS)
def test_lines_come_in_the_order_of_events(way: Callable[[list[str], Path], list[str]], tmp_path: Path) -> None:
    """The parent's lines from before the submission come first, then the child's, then its callback's."""
    for n in range(2):
        run_once(way, "forkserver", tmp_path / str(n))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", OWN)
def test_lines_come_in_the_order_of_events_every_time(
    way: Callable[[list[str], Path], list[str]], place: str, tmp_path: Path
) -> None:
    """The same, 100 times (or SYNCPRIMS_OUTPUT_RUNS), for each executor that the pool makes."""
    if why := missing(place):
        pytest.skip(why)
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        runs = [threads.submit(run_once, way, place, tmp_path / str(n)) for n in range(RUNS)]
        for run in runs:
            run.result()
