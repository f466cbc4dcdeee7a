"""A real Dask cluster on loopback, with worker processes, started and ended by the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pytest

from adapters.servers import free_port

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def dask_cluster(workers: int) -> Iterator[Client]:
    """Start a scheduler and so many workers of one thread, and connect; skip the test without Dask."""
    pytest.importorskip("distributed", reason="needs Dask: pip install 'syncprims[dask]'")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster, timeout=30) as client,
    ):
        yield client


class Scheduler:
    """A scheduler and a worker of one thread in processes of their own, so that either can be killed."""

    def __init__(self, folder: Path) -> None:
        """Start both, with the folder to write to."""
        pytest.importorskip("distributed", reason="needs Dask: pip install 'syncprims[dask]'")
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self._folder = folder
        self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        self._worker = self._start("worker", self.address, "--nthreads", "1", "--no-nanny")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        # The worker imports the modules that the tests send it.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
            env=environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Kill the scheduler."""
        self._scheduler.kill()
        self._scheduler.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for process in (self._worker, self._scheduler):
            process.kill()
            process.wait(30)
