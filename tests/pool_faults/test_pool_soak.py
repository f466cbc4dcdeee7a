"""The soak as a test; SYNCPRIMS_SOAK_SECONDS says for how long, ten minutes by default."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pool_faults.running import environment

SECONDS = float(os.environ.get("SYNCPRIMS_SOAK_SECONDS", "600"))

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run_soak(seconds: float, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pool_faults.soak", str(seconds), str(seed)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=seconds * 2 + 200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-10_000:]
    print(done.stdout)


@linux
def test_short_soak() -> None:
    """Three seconds of all faults at once: each task is settled and told of once, and nothing is left over."""
    run_soak(3, 0)


@linux
@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
def test_soak() -> None:
    """The same for long, with a worker killed every second: nothing is lost, and nothing grows."""
    run_soak(SECONDS, 1)
