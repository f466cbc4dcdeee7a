"""A fork server for one pool, which starts the pool's workers in the surroundings in which the pool was made."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from multiprocessing import connection, forkserver, popen_forkserver, resource_tracker, spawn, util
from multiprocessing.context import ForkServerProcess, set_spawning_popen
from multiprocessing.forkserver import ForkServer, read_signed
from multiprocessing.reduction import dump
from typing import Any

from ..travel.arrival import work
from ..travel.surroundings import Surroundings
from . import executable

# multiprocessing has one fork server for the whole program. It starts with the first process pool, and every later
# pool's workers get the same surroundings (environment, working directory, umask, standard streams). In a forked child
# of the program it is missing, but multiprocessing does not know that. And when it dies, all pools fail. So each pool
# has its own, made of the same parts, which ends with the pool. It imports the modules that all workers need
# beforehand, so they start faster than from the common one.
#
# Only the start of the server is new here, because multiprocessing would start it in the present surroundings. The
# server's processes inherit the signals that the calling thread blocks and the program ignores, with two exceptions:
#
# - SIGCHLD is unblocked: otherwise the server does not notice the end of its processes. uWSGI's threads block it.
# - SIGINT is blocked until the server has a handler; otherwise Ctrl-C in the first milliseconds would end it. The
#   handler does nothing. The server itself will ignore the signal, but its processes get the former setting. So only if
#   the program itself ignores SIGINT do its workers ignore it.

_ENDING = 0.5  # seconds from closing its pipes until the system reports that it has ended
_LONGEST = 92  # bytes of a socket's path that all systems accept
_PRELOAD = [__name__, work.__module__, "multiprocessing.spawn"]


def _free_address() -> str:
    """An address for a socket, in the folder for temporary files, or under ``/tmp`` if its path there is too long.

    `multiprocessing` does the same from 3.14 on.
    """
    address: str = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]  # typeshed lacks it
    if len(os.fsencode(address)) <= _LONGEST:
        return address
    folder = tempfile.mkdtemp(prefix="pymp-", dir="/tmp")
    util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-100)  # as `multiprocessing` does with its own
    return os.path.join(folder, os.path.basename(address))


class OwnForkServer(ForkServer):
    """A fork server that belongs to one pool.

    **Thread safety**: `stop` and `has_died` may be called from any thread; the rest belongs to the thread that starts
    processes.
    """

    def __init__(self, around: Surroundings) -> None:
        super().__init__()
        self._around = around
        self._server: subprocess.Popen[bytes] | None = None

    def ensure_running(self) -> None:
        """Start the server, once. One that has died is not replaced: the pool makes another."""
        resource_tracker.ensure_running()
        if self._server is None:
            with socket.socket(socket.AF_UNIX) as listener:
                address = _free_address()
                listener.bind(address)
                if not util.is_abstract_socket_namespace(address):
                    os.chmod(address, 0o600)
                listener.listen()
                self._start(listener.fileno())
                self._forkserver_address = address

    def _start(self, listener: int) -> None:
        alive_r, alive_w = os.pipe()
        passed, given = [listener, alive_r], ""
        key = self._new_key()
        if key is not None:
            passed.append(key)
            given = f", authkey_r={key}"
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            command = "; ".join(
                [
                    f"import sys; sys.path[:] = {_path()}",
                    f"import signal; ignored = signal.getsignal({signal.SIGINT:d}) == signal.SIG_IGN",
                    f"ignored or signal.signal({signal.SIGINT:d}, lambda *_: None)",
                    f"signal.pthread_sigmask(signal.SIG_SETMASK, {sorted(map(int, mask - {signal.SIGCHLD}))})",
                    f"from multiprocessing.forkserver import main; main({listener}, {alive_r}, {_PRELOAD}{given})",
                ]
            )
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # typeshed lacks it
            server: subprocess.Popen[bytes] = subprocess.Popen(
                [executable.path(), *flags, "-c", command],
                pass_fds=passed,
                **self._around.for_popen(),
            )
        except BaseException:
            os.close(alive_w)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for fd in passed[1:]:
                os.close(fd)
        self._server = server
        self._forkserver_alive_fd = alive_w
        self._forkserver_pid = server.pid

    def _new_key(self) -> int | None:
        """Make the key that server and client prove to each other from 3.14 on; the server gets it by a pipe."""
        if not hasattr(self, "_forkserver_authkey"):
            return None
        key_r, key_w = os.pipe()
        self._forkserver_authkey = os.urandom(32)
        os.write(key_w, self._forkserver_authkey)
        os.close(key_w)
        return key_r

    def stop(self) -> None:
        """Kill the server; its processes go on, but no one can wait for them any more."""
        server, alive = self._server, self._forkserver_alive_fd
        if server is not None and alive is not None:
            self._forkserver_alive_fd = None  # type: ignore[assignment]  # as in its constructor
            os.close(alive)
            server.kill()
            server.wait()
            address = self._forkserver_address
            if address and not util.is_abstract_socket_namespace(address):
                with suppress(OSError):
                    os.unlink(address)

    def has_died(self) -> bool:
        """Whether it was started and has ended; wait a moment for a server that is just ending."""
        if self._server is None:
            return False
        try:
            self._server.wait(_ENDING)
        except subprocess.TimeoutExpired:
            return False
        return True

    def described_end(self) -> str:
        """Say how it ended."""
        code = None if self._server is None else self._server.returncode
        if code is None or code >= 0:
            return f"ended with status {code}"
        return f"was killed by signal {-code}"

    def forget(self) -> None:
        """In a forked child: the server belongs to the parent, and this process must neither end nor reap it."""
        if self._server is not None:
            self._server.returncode = 0
        if self._forkserver_alive_fd is not None:
            os.close(self._forkserver_alive_fd)
            self._forkserver_alive_fd = None  # type: ignore[assignment]  # as in its constructor


def start_common_server() -> None:
    """Start multiprocessing's own server, unless it runs, so that it notices the end of its processes."""
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _path() -> list[str]:
    return [
        os.fspath(each) for each in spawn.get_preparation_data("")["sys_path"] if isinstance(each, (str, os.PathLike))
    ]


class WorkerOfServer(ForkServerProcess):
    """A worker of one pool's fork server."""

    server: OwnForkServer | None = None

    def _Popen(self, process: Any) -> _Popen:  # type: ignore[override]  # noqa: N802  there it needs no `self`
        assert self.server is not None
        return _Popen(self.server, process)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "server"}


class _Popen(popen_forkserver.Popen):
    _fds: list[int]

    def __init__(self, server: OwnForkServer, process: Any) -> None:
        self._server = server
        super().__init__(process)

    def _launch(self, process: Any) -> None:
        data = spawn.get_preparation_data(process.name)
        # The server is in the right directory, and the luggage brings the main module: see arrival.py.
        for key in ("dir", "init_main_from_name", "init_main_from_path"):
            data.pop(key, None)
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            dump(data, buffer)
            dump(process, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, to_child = self._server.connect_to_new_process(self._fds)
        parent_w = os.dup(to_child)  # the child uses it to notice the end of its parent
        self.finalizer = util.Finalize(self, _close_fds, (parent_w, self.sentinel))
        with open(to_child, "wb") as pipe:
            pipe.write(buffer.getbuffer())
        self.pid = read_signed(self.sentinel)


def _close_fds(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
