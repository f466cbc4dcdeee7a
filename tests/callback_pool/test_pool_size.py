"""Memory: very many tasks, and endless ones, within bounds."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from callback_pool.pool_workers import add
from programs import environment
from syncprims import CallbackPool

LIMIT = 60.0

PROGRAM = """
import os, sys
from callback_pool.pool_workers import add
from syncprims import CallbackPool

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

if __name__ == "__main__":
    kind, way, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    count = 0

    def tell(n):
        global count
        count += 1

    with CallbackPool(kind, max_workers=2, max_pending=1000) as pool:
        for n in range(2000):  # all that is made once is there
            pool.apply_async(add, (n,), callback=tell)
        pool.join(60)
        before = peak()
        if way == "submit":
            for n in range(tasks):
                pool.apply_async(add, (n,), callback=tell)
            pool.join(200)
            assert count == 2000 + tasks, count
        else:
            assert sum(1 for _ in pool.map(add, range(tasks))) == tasks
    print(peak() - before)
"""


def extra_megabytes(kind: str, way: str, tasks: int) -> float:
    """Run so many tasks in a separate program; return by how much its peak of memory has grown."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, way, str(tasks)],
        capture_output=True,
        text=True,
        env=environment(tests=True),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    extra = float(done.stdout)
    print(f"{kind} {way} {tasks}: {extra:.1f} MB")
    return extra


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
@pytest.mark.parametrize("way", ["submit", "map"])
def test_many_tasks_stay_small(way: str) -> None:
    """Ten thousand tasks with max_pending need almost no extra memory, and all callbacks run."""
    assert extra_megabytes("thread", way, 10_000) < 10


@linux
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["submit", "map"])
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_very_many_tasks_stay_small(kind: str, way: str) -> None:
    """A hundred thousand tasks with max_pending=1000 stay within 30 MB of extra memory."""
    assert extra_megabytes(kind, way, 100_000) < 30


@pytest.mark.parametrize(("max_pending", "buffersize"), [(3, None), (None, 3)])
def test_map_over_an_endless_iterator(max_pending: int | None, buffersize: int | None) -> None:
    """With max_pending or buffersize map takes from an endless iterator only as far ahead as that."""
    numbers = itertools.count()
    with CallbackPool(max_workers=2, max_pending=max_pending) as pool:
        results = pool.map(add, numbers, buffersize=buffersize)
        assert next(numbers) == 3
        assert list(itertools.islice(results, 1000)) == [0, 1, 2, *range(4, 1001)]
        assert next(numbers) <= 1005
        results.close()  # type: ignore[attr-defined]  # it is a generator
        pool.join(LIMIT)
