"""Programs under watch: started, read until the report is complete, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from programs import environment

HERE: Final = Path(__file__).parent
LIMIT: Final = 60.0
BEGINNING, END = "==== syncprims.watch: ", "==== what to do: "
QUICK: Final = ("--after", "0.3", "--asleep", "0.9")


def variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program under watch: this process's, without variables that turn other things on."""
    return {**environment(without=("SYNCPRIMS_WATCH", "SYNCPRIMS_LOCK_ORDER", "PYTHONWARNINGS")), **(more or {})}


def block_of(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run ``python ARGUMENTS`` until its standard error has the first report, end it, and return the report."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=variables(env),
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    timer = threading.Timer(LIMIT, _end, [process])
    timer.start()
    try:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            if lines or line.startswith(BEGINNING):  # warnings of the program's own may come before it
                lines.append(line)
            if line.startswith(END):
                break
        return "".join(lines)
    finally:
        timer.cancel()
        _end(process)
        process.wait(LIMIT)
        if process.stderr is not None:
            process.stderr.close()


def _end(process: subprocess.Popen[str]) -> None:
    # Together with the children that it has forked.
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass


def watch(program: str | Path, *arguments: str, options: Sequence[str] = QUICK) -> str:
    """Return the first report about a program of this folder."""
    return block_of("-m", "syncprims.watch", *options, os.fspath(HERE / program), *arguments)


def run(
    *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        input=stdin,
        env=variables(env),
        cwd=cwd,
        timeout=LIMIT,
        check=False,
    )
