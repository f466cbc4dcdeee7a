"""The recipe for tasks that outlive the program, with real workers of RQ on a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from adapters.servers import RedisServer, free_port
from programs import environment

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "outliving_tasks.py"
PAGES: Final = ["imprint", "index", "news"]


def run(folder: Path, url: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that finds the example and the server."""
    paths = [str(EXAMPLE.parent), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, *command],
        env=environment() | {"REDIS_URL": url, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_what_callbacks_hand_over_is_done_after_the_program(shared_server: RedisServer, tmp_path: Path) -> None:
    """A worker that starts after the pool has ended handles each page once."""
    pytest.importorskip("rq", reason="needs RQ: pip install rq")
    url = f"redis://127.0.0.1:{shared_server.port}"
    program = run(tmp_path, url, str(EXAMPLE))
    assert program.returncode == 0, program.stderr
    assert program.stdout == "3 pages wait to be published\n"
    assert not (tmp_path / "site.txt").exists()
    worker = run(tmp_path, url, "-m", "rq.cli", "worker", "--burst", "publishing", "--url", url)
    assert worker.returncode == 0, worker.stderr
    assert (tmp_path / "site.txt").read_text().split() == [str(tmp_path / f"{page}.html") for page in PAGES]


def test_a_broker_that_is_gone_is_an_error_of_the_pool(tmp_path: Path) -> None:
    """Pages that could not be submitted are reported: the program fails, and names them."""
    pytest.importorskip("rq", reason="needs RQ: pip install rq")
    program = run(tmp_path, f"redis://127.0.0.1:{free_port()}", str(EXAMPLE))
    assert program.returncode == 1
    assert "CallbackErrors" in program.stderr
    for page in PAGES:
        assert f"render('{page}')" in program.stderr
    assert "Connection refused" in program.stderr
