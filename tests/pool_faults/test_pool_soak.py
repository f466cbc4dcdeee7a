"""The soak as a test; SYNCPRIMS_SOAK_SECONDS says for how long, ten minutes by default."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pool_faults.cell_runs import buffered
from pool_faults.soak import PROCESSES, THREADS, Usage, check_growth

SECONDS = float(os.environ.get("SYNCPRIMS_SOAK_SECONDS", "600"))

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run_soak(seconds: float, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pool_faults.soak", str(seconds), str(seed)],
        capture_output=True,
        text=True,
        env=buffered(),
        timeout=seconds * 2 + 200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-10_000:]
    print(done.stdout)


@linux
def test_short_soak() -> None:
    """Three seconds of all faults at once: each task is settled and reported once, and nothing is left over."""
    run_soak(3, 0)


@linux
@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
def test_soak() -> None:
    """The same for long, with a worker killed every second: nothing is lost, and nothing grows."""
    run_soak(SECONDS, 1)


LEAKS = {
    "a thread": lambda n: Usage(THREADS + (n == 20), PROCESSES, 10, 20.0),
    "a process": lambda n: Usage(THREADS, PROCESSES + (n == 20), 10, 20.0),
    "descriptors": lambda n: Usage(THREADS, PROCESSES, 10 + n // 3, 20.0),
    "memory": lambda n: Usage(THREADS, PROCESSES, 10, 20.0 + n),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_growth_is_noticed(leak: str) -> None:
    """If a round leaves something behind, or each round needs a little more, the soak fails with the figures."""
    check_growth([Usage(THREADS, PROCESSES, 10 + n % 2, 20.0 + n % 5) for n in range(30)], "steady")
    with pytest.raises(AssertionError, match="these figures"):
        check_growth([LEAKS[leak](n) for n in range(30)], "these figures")
