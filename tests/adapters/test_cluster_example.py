"""The hashing job on one machine and on a cluster: the same program, except a few lines."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from adapters.servers import RedisServer
from programs import environment
from syncprims.adapters import RedisCounter

if TYPE_CHECKING:
    from distributed import Client

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
LOCAL, CLUSTER = EXAMPLES / "local_hashing.py", EXAMPLES / "cluster_hashing.py"
MOST_LINES: Final = 10


def test_the_cluster_takes_at_most_ten_changed_lines() -> None:
    """A program that outgrows one machine adds at most so many lines, and removes as many at most."""
    lines = list(difflib.ndiff(LOCAL.read_text().splitlines(), CLUSTER.read_text().splitlines()))
    written = [line for line in lines if line.startswith("+ ") and line[2:].strip()]
    taken_out = [line for line in lines if line.startswith("- ") and line[2:].strip()]
    assert 0 < len(written) <= MOST_LINES, "\n".join(written)
    assert len(taken_out) <= MOST_LINES


@pytest.mark.filterwarnings("ignore")  # Dask's own, on some versions of Python
def test_the_job_runs_on_a_cluster(dask_client: Client, shared_server: RedisServer, tmp_path: Path) -> None:
    """Its manifest is right, and its counter in Redis has counted every file."""
    with shared_server.client() as client:
        before = RedisCounter(client, "hashed").value
        urls = {
            "DASK_URL": dask_client.scheduler_info()["address"],
            "REDIS_URL": f"redis://127.0.0.1:{shared_server.port}",
        }
        done = subprocess.run(
            [sys.executable, str(CLUSTER)],
            env=environment() | urls,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        lines = (tmp_path / "manifest.sha256").read_text().splitlines()
        assert RedisCounter(client, "hashed").value - before == len(lines) > 1
    assert all(Path(json.__file__).parent.name in line for line in lines)
    assert f"{len(lines)} files under" in done.stdout
