"""Metrics: every wait and hold is counted once, and `prometheus_client`'s own locks are locks like any other."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncprims.watch import Watching, install
from watch.watching import run

prometheus_client = pytest.importorskip("prometheus_client")
LIMIT = 30.0


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = install(after=20.0, asleep=None, metrics=True)
    yield watching
    watching.uninstall()


WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
from syncprims.watch.command import main
raise SystemExit(main(["--metrics", "-m", "this"]))
"""


def value(name: str, of: str, **labels: str) -> float:
    """A sample of the default registry: the sum of those whose name has these words."""
    return sum(
        float(sample.value)
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and of in sample.labels["name"] and labels.items() <= sample.labels.items()
    )


def in_threads(count: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads)


def test_no_wait_and_no_hold_is_lost(watching: Watching) -> None:
    """Several threads acquire several locks of both kinds: there are as many counts as acquisitions."""
    locks: list[Any] = [threading.Lock() for _ in range(2)]
    locks.append(threading.RLock())
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(LIMIT)
        for _ in range(200):
            for lock in locks:
                with lock:
                    pass

    in_threads(4, work)
    for name in ("lock_wait_seconds_count", "lock_held_seconds_count"):
        assert value(name, "locks[…]") == 1600
        assert value(name, "the RLock made at test_metrics.py") == 800
    assert value("lock_wait_seconds_bucket", "locks[…]", le="+Inf") == 1600
    assert 0 < value("lock_held_seconds_sum", "locks[…]") < LIMIT * 4


def test_a_wait_is_in_the_bucket_of_its_length(watching: Watching) -> None:
    """One wait was given up after 60 ms, and one hold lasted as long."""
    slow = threading.Lock()
    with slow:
        in_threads(1, lambda: slow.acquire(timeout=0.06))
    for name in ("lock_wait_seconds_bucket", "lock_held_seconds_bucket"):
        assert value(name, "slow", le="0.05") == (1 if "wait" in name else 0)  # acquiring the free lock took no time
        assert value(name, "slow", le="+Inf") == (2 if "wait" in name else 1)
    assert value("lock_wait_seconds_sum", "slow") >= 0.06


def test_the_librarys_own_locks_are_counted_and_call_nothing(watching: Watching) -> None:
    """Its metrics have observed locks under watch; a scrape while threads use them neither recurses nor hangs."""
    counter = prometheus_client.Counter("watched_total", "of this test", ["who"], registry=None)
    registry = prometheus_client.CollectorRegistry()
    registry.register(counter)
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            prometheus_client.generate_latest(prometheus_client.REGISTRY)
            prometheus_client.generate_latest(registry)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        in_threads(3, lambda: [counter.labels(str(number % 3)).inc() for number in range(200)])
    finally:
        over.set()
        scraper.join(LIMIT)
    assert not scraper.is_alive()
    assert value("lock_held_seconds_count", "(metrics.py:") + value("lock_held_seconds_count", "(values.py:") > 600
    samples = [sample.value for sample in counter.collect()[0].samples if sample.name == "watched_total"]
    assert samples == [201.0, 201.0, 198.0]


def test_they_go_with_the_watch() -> None:
    """After `uninstall` the registry has none, so that the next watch can add them again."""
    for _ in range(2):
        watching = install(after=20.0, asleep=None, metrics=True)
        assert "lock_wait_seconds" in prometheus_client.generate_latest().decode()
        watching.uninstall()
        assert "lock_wait_seconds" not in prometheus_client.generate_latest().decode()


def test_without_the_package_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which package to install, and nothing is replaced."""
    before = threading.Lock
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match=r"pip install 'syncprims\[metrics\]'"):
        install(metrics=True)
    assert threading.Lock is before
    found = run("-c", WITHOUT)
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install 'syncprims[metrics]'" in found.stderr


@pytest.mark.parametrize(
    ("metrics", "error"), [(0, ValueError), (70_000, ValueError), ("9000", TypeError), (None, TypeError)]
)
def test_what_is_no_port_is_refused(metrics: Any, error: type[Exception]) -> None:
    """This happens before anything is replaced."""
    before = threading.Lock
    with pytest.raises(error, match="metrics must be"):
        install(metrics=metrics)
    assert threading.Lock is before


@pytest.mark.parametrize("port", ["", "x", "0"])
def test_the_command_line_refuses_what_is_no_port(port: str) -> None:
    """It ends with the exit code of a wrong argument."""
    found = run("-m", "syncprims.watch", f"--metrics={port}", "-m", "this")
    assert (found.returncode, found.stdout) == (2, "")
    assert "port" in found.stderr


PROGRAM = """
import os, threading, urllib.request, prometheus_client
served = threading.Lock()

def counts(text):
    return [line.rpartition(" ")[2] for line in text.splitlines() if "held_seconds_count" in line and "served" in line]

for _ in range(2):
    with served:
        pass
with urllib.request.urlopen("http://127.0.0.1:PORT/metrics", timeout=30) as answer:
    os.write(1, f"{counts(answer.read().decode())}\\n".encode())
if hasattr(os, "fork"):
    pid = os.fork()
    with served:
        pass
    if pid == 0:
        os.write(1, f"{counts(prometheus_client.generate_latest().decode())}\\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_a_program_is_served_and_a_fork_begins_again() -> None:
    """If a port was given, it is one of this machine; a forked child has its own counts."""
    port = free_port()
    found = run(
        "-W", "ignore::DeprecationWarning", "-m", "syncprims.watch", f"--metrics={port}", "-",
        stdin=PROGRAM.replace("PORT", str(port)),
    )  # fmt: skip
    assert found.stderr == ""
    assert found.stdout.splitlines() == ["['2.0']", *(["['1.0']"] if hasattr(os, "fork") else [])]


def test_a_port_that_is_taken_is_said() -> None:
    """Then nothing runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = run("-m", "syncprims.watch", f"--metrics={taken.getsockname()[1]}", "-m", "this")
    assert (found.returncode, found.stdout) == (2, "")
    assert "in use" in found.stderr.lower()
