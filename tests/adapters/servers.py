"""A real Redis server on loopback: started, killed, stalled and ended by the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import pytest

from polling import until

if TYPE_CHECKING:
    from redis import Redis

START: Final = 15.0  # seconds; it takes 0.1 s


def free_port() -> int:
    """Find a port of this machine on which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A server of our own that stores nothing on disk."""

    def __init__(self, *options: str, sentinel: Path | None = None, port: int | None = None) -> None:
        """Start it; skip the test if that is impossible, and say how it could be made possible.

        Args:
            *options: More of the server's options.
            sentinel: The configuration of a Sentinel, to start that instead.
            port: Its port; by default a free one.
        """
        pytest.importorskip("redis", reason="needs redis-py: pip install 'syncprims[redis]'")
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("needs a Redis server: apt-get install redis-server")
        self.port = free_port() if port is None else port
        # A replica writes the data of its master.
        self._folder = tempfile.TemporaryDirectory()
        address = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        ours = [str(sentinel), "--sentinel"] if sentinel else [*address, "--save", "", "--appendonly", "no", *options]
        self._command = [program, *ours]
        self.start()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(self._answers, START)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "redis-server ended at once"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False

    def client(self, *, socket_timeout: float = 5.0, decode_responses: bool = False) -> Redis:
        """Make a client whose waits for the server have a limit."""
        from redis import Redis

        return Redis("127.0.0.1", self.port, socket_timeout=socket_timeout, decode_responses=decode_responses)

    def kill(self) -> None:
        """End it at once, without a message to its clients."""
        self._process.kill()
        self._process.wait(START)

    def stall(self) -> None:
        """Let it answer no client any more, although it still accepts connections."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Undo `stall`."""
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()
