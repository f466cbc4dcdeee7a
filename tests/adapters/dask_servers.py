"""A real Dask cluster on loopback, with worker processes, started and ended by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def dask_cluster(workers: int) -> Iterator[Client]:
    """Start a scheduler and so many workers of one thread, and connect; skip the test where Dask is missing."""
    pytest.importorskip("distributed", reason="needs Dask: pip install 'syncprims[dask]'")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster, timeout=30) as client,
    ):
        yield client
