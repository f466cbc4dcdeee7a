"""The recipes for other locks, with the real thing: PostgreSQL, filelock, and all kinds together."""

from __future__ import annotations

import glob
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.servers import free_port
from polling import until
from programs import environment
from syncprims import LockAdapter, LockTimeoutError, TimedLock, acquire_all
from syncprims.adapters import RedisLock, RedisSemaphore
from syncprims.testing import Threads, assert_blocks, check_lock, check_rlock, patience
from testing.rejections import (
    ENTERED_TWICE,
    NOT_OF_FOREIGN_LOCKS,
    NOT_OF_FOREIGN_REENTRANT_LOCKS,
    NOT_OF_LOCKS_IN_PYTHON,
)

if TYPE_CHECKING:
    from redis import Redis

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SPAWN: Final = multiprocessing.get_context("spawn")
WITHOUT: Final = (*NOT_OF_FOREIGN_LOCKS, *NOT_OF_LOCKS_IN_PYTHON, ENTERED_TWICE)


def example(name: str) -> ModuleType:
    """Import an example."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


def programs_of_postgres() -> str:
    """The folder of the server's programs; on Debian it is not on the PATH."""
    found = shutil.which("initdb")
    folders = [os.path.dirname(found)] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not folders:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    return folders[-1]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A server of our own, whose data lives as long as these tests run."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
    programs = programs_of_postgres()
    options: dict[str, Any] = {}
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # the server refuses to run as root
        import pwd

        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("needs a user 'postgres', as the server refuses to be run by root")
        options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    folder = tempfile.mkdtemp(prefix="syncprims-postgres-")
    try:
        if options:
            os.chown(folder, options["user"], options["group"])
        options |= {"cwd": folder, "stdin": subprocess.DEVNULL}
        subprocess.run(
            [
                f"{programs}/initdb",
                "-D",
                f"{folder}/data",
                "-A",
                "trust",
                "-U",
                "ours",
                "-N",
                "-E",
                "UTF8",
                "--locale=C",
            ],
            check=True,
            capture_output=True,
            **options,
        )
        port = free_port()
        settings = ("fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "log_min_messages=panic")
        arguments = [argument for setting in settings for argument in ("-c", setting)]
        with subprocess.Popen(
            [f"{programs}/postgres", "-D", f"{folder}/data", "-p", str(port), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **options,
        ) as server:
            try:
                url = f"postgresql://ours@127.0.0.1:{port}/postgres?connect_timeout=10"
                until(lambda: answers(url, server), patience(30.0))
                yield url
            finally:
                server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Whether the server takes connections."""
    import psycopg

    assert server.poll() is None, "the server ended at once"
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def ask(url: str, query: str) -> Any:
    """Query the database."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


WAITING: Final = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def _hold(url: str, pipe: Connection) -> None:
    with example("postgres_lock").postgres_lock(url, "held"):
        pipe.send("held")
        pipe.recv()


def test_an_advisory_lock_of_postgresql(database: str, client: Redis, key: str) -> None:
    """It excludes, wakes waiters, is free after its holder was killed, reports its loss, and mixes with others."""
    postgres_lock: Callable[..., LockAdapter] = example("postgres_lock").postgres_lock

    # In one order with locks of all other kinds.
    everything: list[TimedLock | LockAdapter] = [
        postgres_lock(database, f"{key}-p"),
        RedisLock(client, f"{key}-r", lease=30.0),
        RedisSemaphore(client, f"{key}-s", 1, lease=30.0),
        LockAdapter(SPAWN.Lock()),
        TimedLock(),
    ]
    with acquire_all(*everything, timeout=patience(30.0)):
        assert all(lock.held_by_me() for lock in everything)
        with (
            pytest.raises(LockTimeoutError),
            acquire_all(postgres_lock(database, f"{key}-p"), TimedLock(), timeout=0.05),
        ):
            pytest.fail("the body ran without the locks")
    assert not any(lock.held_by_me() for lock in everything)

    # Waiters are notified at once.
    lock, other = (postgres_lock(database, key) for _ in range(2))

    def take() -> bool:
        with other.hold(patience(30.0)):
            return other.held_by_me()

    with lock:
        waiting = assert_blocks(take, until=lambda: ask(database, WAITING) == 1)
    assert waiting.result(patience(30.0)) is True

    # A holder in another process, which is killed.
    here, there = SPAWN.Pipe()
    holder = SPAWN.Process(target=_hold, args=(database, there), daemon=True)
    holder.start()
    assert here.poll(patience(60.0))
    held = postgres_lock(database, "held")
    assert held.acquire(False) is False
    holder.kill()
    holder.join(patience())
    with held.hold(patience(30.0)):
        assert held.held_by_me()

    # The server ends the holder's session: no session has the lock, and the holder gets the loss.
    import psycopg

    with pytest.raises(psycopg.Error), held:  # noqa: PT012  the block is what is tested
        ask(database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        with postgres_lock(database, "held").hold(patience(30.0)):
            pass
    assert not held.held_by_me()

    # The program as shown on the page.
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "postgres_lock.py")],
        env=environment() | {"DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=patience(60.0),
    )
    assert done.stdout.splitlines() == ["kept out: LockTimeoutError", "taken together with a local lock"], done.stderr


@pytest.mark.slow
def test_an_advisory_lock_keeps_the_contract_but_for_the_clauses_listed(
    database: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conformance kit passes it. Each hold is a connection, so this takes long."""
    monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", str(patience(4.0)))
    serials = iter(range(1_000_000))
    postgres_lock: Callable[..., LockAdapter] = example("postgres_lock").postgres_lock
    report = check_lock(lambda: postgres_lock(database, f"{key}-{next(serials)}"), without=WITHOUT)
    assert report.broken == ()


# -- a file -----------------------------------------------------------------------------------------------------------


def _hold_file(path: str, pipe: Connection) -> None:
    with example("file_lock").file_lock(path):
        pipe.send("held")
        pipe.recv()


@pytest.fixture
def file_lock() -> Callable[..., LockAdapter]:
    """The recipe."""
    pytest.importorskip("filelock", reason="needs filelock: pip install filelock")
    make: Callable[..., LockAdapter] = example("file_lock").file_lock
    return make


def test_a_file_lock_keeps_the_contract_but_for_the_clauses_listed(
    file_lock: Callable[..., LockAdapter], tmp_path: Path
) -> None:
    """The conformance kit passes it: a thread may acquire it twice."""
    serials = iter(range(1_000_000))
    without = (*NOT_OF_FOREIGN_LOCKS, *NOT_OF_LOCKS_IN_PYTHON, *NOT_OF_FOREIGN_REENTRANT_LOCKS)
    report = check_rlock(lambda: file_lock(tmp_path / str(next(serials))), without=without)
    assert report.broken == ()


def test_a_file_lock_excludes_processes_and_threads(file_lock: Callable[..., LockAdapter], tmp_path: Path) -> None:
    """If a holder is killed, the lock is free; and it mixes with local locks."""
    path = str(tmp_path / "lock")
    here, there = SPAWN.Pipe()
    holder = SPAWN.Process(target=_hold_file, args=(path, there), daemon=True)
    holder.start()
    assert here.poll(patience(60.0))
    lock, local = file_lock(path, 0.05), TimedLock()
    with pytest.raises(LockTimeoutError, match="for 'lock'"), acquire_all(lock, local, timeout=0.05):
        pytest.fail("the body ran without the locks")
    assert not local.locked()
    holder.kill()
    holder.join(patience())
    with acquire_all(local, lock, timeout=patience(30.0)), Threads() as threads:
        assert threads.start(file_lock(path).acquire, False).result() is False
        assert threads.start(lock.acquire, False).result() is False
