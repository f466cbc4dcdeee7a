"""``python -m benchmarks.servers``: locks on a Redis server beside their peers, in one run.

It starts a `redis-server` of its own on loopback. Each kind of lock runs in turn in each round, so that other work of
the machine disturbs all of them. The output is the median over the rounds, and the longest wait of all rounds. Missing
packages are left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from threading import Thread
from time import monotonic, sleep
from typing import Any

from syncprims.adapters import RedisLock, RedisSemaphore

from .measuring import package
from .server_floors import FLOORS, Bare

LEASE = 30.0
WAIT = 120.0
ROOT = Path(__file__).parents[1]

Lock = AbstractContextManager[Any]


class _PythonRedisLock:
    """A lock of python-redis-lock, with a new one for each hold."""

    def __init__(self, client: Any, name: str) -> None:
        self._make: Callable[[], Any] = partial(package("redis_lock").Lock, client, name, expire=30)

    def __enter__(self) -> None:
        self._lock = self._make()
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


KINDS: dict[str, Callable[[Any, str], Lock]] = {
    "SET NX and DEL, polled each ms": Bare,
    "RedisLock": lambda client, name: RedisLock(client, name, lease=LEASE, timeout=WAIT),
    "RedisLock, renewed": lambda client, name: RedisLock(client, name, lease=LEASE, timeout=WAIT, renew=True),
    "RedisSemaphore of 1": lambda client, name: RedisSemaphore(client, name, 1, lease=LEASE, timeout=WAIT),
    "redis-py's Lock": lambda client, name: client.lock(name, timeout=LEASE),
    "redis-py's Lock, sleep=0.001": lambda client, name: client.lock(name, timeout=LEASE, sleep=0.001),
    "python-redis-lock": _PythonRedisLock,
}
STEPS: dict[str, Callable[[Any, str], Lock]] = {**FLOORS, "+ holders, waits and leases: RedisLock": KINDS["RedisLock"]}


def main() -> int:
    """Measure, print, and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="seconds of each kind in each (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=8, help="that contend (default: %(default)s)")
    parser.add_argument(
        "--waiters",
        type=int,
        nargs="+",
        default=[200],
        help="threads that wait; each takes two descriptors (default: 200)",
    )
    parser.add_argument("--steps", action="store_true", help="what each guarantee costs, one process alone")
    parser.add_argument("--into", type=Path, metavar="FILE", help="where the tables are kept")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, port, name = options.work
        _work(kind, port, name, options.seconds)
        return 0
    with _server() as (port, client):
        lines = _steps(port, options) if options.steps else _whole(port, client, options)
    text = "\n".join(lines)
    print(text)  # noqa: T201  its job
    if options.into:
        options.into.write_text(text, encoding="utf-8")
    return 0


def _steps(port: int, options: argparse.Namespace) -> list[str]:
    """The cost of each guarantee."""
    table = _table(port, options.rounds, options.seconds, 1, STEPS)
    return [_title("One process alone, each step in turn in one run"), *table, ""]


def _whole(port: int, client: Any, options: argparse.Namespace) -> list[str]:
    """All kinds of locks, waiters, and the server's limit."""
    rounds, seconds, processes = options.rounds, options.seconds, options.processes
    return [
        _title(f"{processes} processes on one lock"),
        *_table(port, rounds, seconds, processes),
        "",
        _title("One process alone"),
        *_table(port, rounds, seconds, 1),
        "",
        _title(f"{processes} processes, each with a lock of its own"),
        *_table(port, rounds, seconds, processes, apart=True),
        "",
        *(line for number in options.waiters for line in _waiters(port, client, number)),
        *_at_its_limit(port, client),
        "",
    ]


def _title(text: str) -> str:
    return f"{text}:\n"


@contextmanager
def _server() -> Iterator[tuple[int, Any]]:
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("needs a Redis server: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            client = package("redis").Redis("127.0.0.1", port, socket_timeout=30.0)
            client.ping()
            yield port, client
        finally:
            server.kill()


def _work(kind: str, port: str, name: str, seconds: float) -> None:
    """In its own process: acquire the lock repeatedly, and print how long each wait was."""
    client = package("redis").Redis("127.0.0.1", int(port), socket_timeout=30.0)
    lock = (KINDS | STEPS)[kind](client, name)
    with lock:
        pass
    print("ready", flush=True)  # noqa: T201  as above
    sys.stdin.readline()
    waits: list[float] = []
    ends = monotonic() + seconds
    while (began := monotonic()) < ends:
        with lock:
            waits.append(monotonic() - began)
    print(json.dumps(waits))  # noqa: T201  as above


def _table(
    port: int,
    rounds: int,
    seconds: float,
    processes: int,
    kinds: dict[str, Callable[[Any, str], Lock]] = KINDS,
    *,
    apart: bool = False,
) -> list[str]:
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    for number in range(rounds):
        for kind in [*kinds][:: -1 if number % 2 else 1]:
            try:
                found = _contend(kind, port, seconds, processes, apart)
            except ImportError:
                continue
            rates.setdefault(kind, []).append(len(found) / seconds)
            waits.setdefault(kind, []).extend(found)
    lines = ["======================================  ===========  ============  ============  =============="]
    lines += [
        "lock                                     holds a s    median wait    99 % below    longest wait ",
        lines[0],
    ]
    for kind in kinds:
        if kind in rates:
            each = sorted(waits[kind])
            lines.append(
                f"{kind:38}  {median(rates[kind]):>11,.0f}  {median(each) * 1000:>9.2f} ms  "
                f"{each[int(len(each) * 0.99)] * 1000:>9.1f} ms  {each[-1]:>12.2f} s"
            )
    return [*lines, lines[0]]


def _contend(kind: str, port: int, seconds: float, processes: int, apart: bool) -> list[float]:
    crowd = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.servers", "--seconds", str(seconds)),
                *("--work", kind, str(port), f"bench {number if apart else 0}"),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in crowd:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            for each in crowd:
                each.kill()
                each.communicate()
            raise ImportError(kind)
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [wait for process in crowd for wait in json.loads(process.communicate()[0])]


def _waiters(port: int, client: Any, number: int) -> list[str]:
    """A server's work for waiting threads, its memory for each, and the time until all have had their turn."""
    look = 5.0
    lock = RedisLock(package("redis").Redis("127.0.0.1", port, socket_timeout=30.0), "waited for", lease=WAIT)

    def wait() -> None:
        with lock.hold(WAIT):
            pass

    with lock:
        threads = [Thread(target=wait, daemon=True) for _ in range(number)]
        before = client.info("memory")["used_memory"]
        for thread in threads:
            thread.start()
        while client.zcard("{waited for}:queue") < number:
            sleep(0.05)
        sleep(1.0)
        memory = client.info("memory")["used_memory"] - before
        commands, cpu = _spent(client)
        sleep(look)
        more, later = _spent(client)
        began = monotonic()
    for thread in threads:
        thread.join(WAIT)
    each = (monotonic() - began) / number
    looks, used = (more - commands) / look, (later - cpu) / look
    return [
        f"{number:,} threads that wait for one lock look at the server {looks:,.0f} times a second. They cost it "
        f"{used:.1%} of a processor, and {memory / number / 1024:.0f} KB each. When the lock is released, they get it "
        f"one after the other, each {each * 1000:.1f} ms after the one before."
    ]


def _at_its_limit(port: int, client: Any) -> list[str]:
    """A server's limit: a client in C sends one command of a lock until the server is fully busy.

    Each acquisition gets its own lock. The locks to release, and the one to wait for with its queue, are created
    before. The acquisitions and releases are counted, because a command without anything to do is faster.
    """
    program = shutil.which("redis-benchmark")
    if program is None:
        return []
    lock = RedisLock(client, "free", lease=LEASE)
    with lock:
        pass
    lease, many, queue = lock._lease, 400_000, 10_000

    def measured(script: Any, member: str, how: str, name: str, number: int) -> tuple[float, float]:
        """How many commands a second, and how much of a processor the server used."""
        keys = [key.decode().replace("free", name) for key in lease.server._key_arguments[1:]]
        options = ["-p", str(port), "-n", str(number), "-c", "50", "-r", str(10**9 if how == "try" else many), "--csv"]
        command = ["EVALSHA", script.sha.decode(), str(len(keys)), *keys, "token", "30000", member, how]
        cpu, began = _spent(client)[1], monotonic()
        done = subprocess.run([program, *options, *command], capture_output=True, text=True, check=True)
        used = (_spent(client)[1] - cpu) / (monotonic() - began)
        return float(done.stdout.splitlines()[-1].split('","')[1]), used

    def held() -> int:
        return int(client.dbsize())

    acquired, released, looked = [], [], []
    for _ in range(5):
        client.flushall()
        acquired.append(measured(lease._take, "", "try", "free:__rand_int__", many // 10))
        if held() < many // 5 * 0.99:  # the lock, and its last token
            raise SystemExit("redis-benchmark did not acquire locks")
        client.flushall()
        client.eval(_HELD, 0, many)
        released.append(measured(lease._let_go, "", "", "free:__rand_int__", many // 10))
        if held() > many - many // 10 * 0.9:
            raise SystemExit("redis-benchmark did not release locks")
        client.flushall()
        client.eval(_QUEUED, 1, "{free}:queue", queue)
        client.set("free", "another")
        looked.append(measured(lease._take, "inbox 30000 token/__rand_int__", "wait", "free", many // 10))
        if not client.zcard("{free}:queue") > queue:
            raise SystemExit("redis-benchmark did not wait")
    takes, releases, looks = (median(rate for rate, _ in rates) for rates in (acquired, released, looked))
    used = median(used for rates in (acquired, released, looked) for _, used in rates)
    return [
        f"When redis-benchmark sends one kind of command from fifty connections, the server acquires {takes:,.0f} free "
        f"locks a second, or releases {releases:,.0f} that are held, or does the checks of {looks:,.0f} waiters for a "
        f"lock that {queue:,} or more wait for; it uses {used:.0%} of a processor. So it can do "
        f"{1 / (1 / takes + 1 / releases):,.0f} holds a second."
    ]


_HELD = "for i = 0, ARGV[1] - 1 do redis.call('SET', string.format('free:%012d', i), 'token', 'PX', 600000) end"
_QUEUED = "for i = 1, ARGV[1] do redis.call('ZADD', KEYS[1], i, 'inbox 30000 other/' .. i) end"


def _spent(client: Any) -> tuple[int, float]:
    said = client.info()
    looks = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    return looks, said["used_cpu_sys"] + said["used_cpu_user"]


if __name__ == "__main__":
    sys.exit(main())
