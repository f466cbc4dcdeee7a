"""The servers that the tests of the adapters talk to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest

from adapters.servers import RedisServer

if TYPE_CHECKING:
    from redis import Redis

_serials = count(1)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for all tests that do it no harm."""
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
