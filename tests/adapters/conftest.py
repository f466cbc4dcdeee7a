"""The servers for the tests of the adapters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest

from adapters.dask_servers import dask_cluster
from adapters.servers import RedisServer

if TYPE_CHECKING:
    from distributed import Client
    from redis import Redis

_serials = count(1)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for all tests that don't damage it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(shared_server: RedisServer) -> Iterator[Redis]:
    """A client of the shared server."""
    with shared_server.client() as client:
        yield client


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"key-{next(_serials)}"


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Client]:
    """A client of a cluster of two workers, for all tests that don't damage it."""
    with dask_cluster(2) as client:
        yield client
