"""The soak: all faults at random, a worker killed every second: ``python -m pool_faults.soak SECONDS [SEED]``.

Pools of threads and of processes come and go in rounds; each ends by close or by abort. Every task must be settled once
and every callback run once; threads, processes, descriptors and memory must not grow.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from statistics import median
from typing import Any, NamedTuple

import polling
from callback_pool import pool_workers
from callback_pool.pool_workers import Refusing, add, identity
from syncprims import CallbackPool, PoolTimeoutError, Task, TransportError

from . import work
from .witness import check_accounts

PATIENCE = 60.0
_MEGABYTE = 2**20

# Without any pool there are: the main thread and the killing one, the server of processes and their tracker.
THREADS = 2
PROCESSES = 1  # multiprocessing's own, for its semaphores


class Usage(NamedTuple):
    """The resources of the program while no pool exists, as the system counts them."""

    threads: int
    processes: int  # its children, theirs, and so on, including those that were not reaped
    descriptors: int
    megabytes: float

    @classmethod
    def now(cls) -> Usage:
        """Return the present usage."""
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        return cls(
            len(os.listdir("/proc/self/task")),
            _descendants(),
            len(os.listdir("/proc/self/fd")),
            pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE,
        )


def _descendants() -> int:
    """Count the processes below this one: the pool's workers are the children of a server."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(name)}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (ValueError, OSError):  # not a process, or one that has just ended
            continue
        children.setdefault(parent, []).append(int(name))
    found = [os.getpid()]
    for process in found:  # it grows during the loop
        found += children.get(process, [])
    return len(found) - 1


class Accounts:
    """The outcome of each task; callbacks come on the dispatchers of two pools, so there is a mutex."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        # Guarded by mutex:
        self.open: set[int] = set()
        self.told: Counter[str] = Counter()
        self.twice = 0
        self.serial = 0
        self.raised = 0
        self.kept = 0

    def enter(self) -> Callable[[Any], None]:
        """Open an account for a task; return the functions for its callbacks."""
        with self.mutex:
            self.serial += 1
            serial = self.serial
            self.open.add(serial)

        def tell(outcome: Any) -> None:
            with self.mutex:
                self.twice += serial not in self.open
                self.open.discard(serial)
                self.told[type(outcome).__name__] += 1
                self.raised += serial % 7 == 0 or serial % 97 == 0
            if serial % 7 == 0:
                raise LookupError("this callback always raises")
            if serial % 97 == 0:
                sys.exit("and this one exits")

        tell.serial = serial  # type: ignore[attr-defined]  # for `forget`
        return tell

    def forget(self, tell: Any) -> None:
        """Close the account of a task that submit refused."""
        with self.mutex:
            self.open.discard(tell.serial)


def linger(seconds: float) -> str:
    """Take longer than the timeout, and end nevertheless."""
    threading.Event().wait(seconds)
    return "late"


Call = tuple[Callable[..., Any], tuple[Any, ...], float | None]
ANYWHERE: list[Call] = [
    *[(add, (n,), None) for n in range(12)],
    (pool_workers.fail, ("on purpose",), None),
    (pool_workers.leave, (3,), None),
    (pool_workers.lock_result, (), None),
    (pool_workers.refusing_result, (), None),
    (pool_workers.raise_two_argument_error, (), None),
    (pool_workers.raise_lock_error, (), None),
    (identity, (Refusing(),), None),
    (add, (1,), 5.0),
]
RARE: list[Call] = [(linger, (0.05,), 0.01), (identity, (threading.Lock(),), None)]
DEADLY: list[Call] = [
    (pool_workers.kill_self, (), None),
    (pool_workers.die, (), None),
    (work.segfault, (), None),
    (linger, (3600.0,), 0.2),
]


class Round:
    """A pool, a thread that submits faulty tasks to it, and its end."""

    def __init__(self, kind: Any, accounts: Accounts, random: Random) -> None:
        self.deadly = kind == "process"
        self.accounts = accounts
        self.random = random
        self.errors = 0
        self.pool = CallbackPool(kind, max_workers=2, max_pending=100, on_callback_error=self._count, name=f"{kind}s")

    def _count(self, task: Task[Any], error: BaseException) -> None:
        self.errors += 1

    def feed(self, until: float) -> None:
        """Submit until the time is up, then end the pool one way or another."""
        random = self.random
        while time.monotonic() < until:
            tasks = [self._submit() for _ in range(50)]
            for task in random.sample(tasks, 5):
                if task is not None:
                    task.cancel()
        if random.random() < 0.3:
            self.pool.abort()
        try:
            self.pool.close(PATIENCE)
        except PoolTimeoutError:
            left = [(vars(task), vars(job)) for task, job in self.pool._open_tasks.jobs.items()]
            print(vars(self.pool._backend), left, file=sys.stderr)
            faulthandler.dump_traceback()
            raise
        check_accounts(self.pool)
        with self.accounts.mutex:
            self.accounts.kept += self.errors

    def _submit(self) -> Task[Any] | None:
        draw = self.random.random()
        if draw < 0.002 and self.deadly:
            call = self.random.choice(DEADLY)
        else:
            call = self.random.choice(RARE if draw < 0.01 else ANYWHERE)
        fn, args, timeout = call
        tell = self.accounts.enter()
        try:
            return self.pool.apply_async(fn, args, callback=tell, error_callback=tell, timeout=timeout)
        except TransportError:
            self.accounts.forget(tell)
            return None


def kill_now_and_then(stop: threading.Event, random: Random, kills: Counter[str]) -> None:
    """Kill some worker every second."""
    while not stop.wait(1.0):
        if workers := multiprocessing.active_children():
            random.choice(workers).kill()
            kills["workers"] += 1


def soak(seconds: float, seed: int) -> str:
    """Run the soak; return its figures, or raise."""
    random = Random(seed)
    accounts, kills, stop = Accounts(), Counter[str](), threading.Event()
    killer = threading.Thread(target=kill_now_and_then, args=(stop, Random(seed), kills), daemon=True)
    killer.start()
    usages: list[Usage] = []
    begun = time.monotonic()
    length = min(max(seconds / 40, 1.0), 10.0)
    while time.monotonic() < begun + seconds:
        until = time.monotonic() + length
        rounds = [Round(kind, accounts, Random(random.random())) for kind in ("thread", "process")]
        failures: list[BaseException] = []
        threads = [threading.Thread(target=_guarded, args=(one.feed, until, failures), daemon=True) for one in rounds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(length + 2 * PATIENCE)
            assert not thread.is_alive(), "a round hangs"
        if failures:
            raise failures[0]
        del rounds, threads
        usages.append(_settled_usage())
    stop.set()
    killer.join(5)
    assert not accounts.open, f"{len(accounts.open)} tasks were never told"
    assert not accounts.twice, f"{accounts.twice} tasks were told twice"
    assert accounts.kept == accounts.raised, f"{accounts.raised} callbacks raised, {accounts.kept} errors were heard of"
    looks = {"first": usages[0], "middle": usages[len(usages) // 2], "last": usages[-1]}
    lines = [
        f"{time.monotonic() - begun:.0f} s, {len(usages)} rounds, {sum(accounts.told.values())} tasks told once each, "
        f"{accounts.raised} callbacks raised, {kills['workers']} workers killed",
        str(dict(accounts.told)),
        *(f"{when}: {usage}" for when, usage in looks.items()),
    ]
    report = "\n".join(lines)
    check_growth(usages, report)
    return report


def _guarded(feed: Callable[[float], None], until: float, failures: list[BaseException]) -> None:
    try:
        feed(until)
    except BaseException as error:
        failures.append(error)


def _settled_usage() -> Usage:
    """Wait for threads and processes that are about to end, then return the usage."""

    def is_settled() -> bool:
        usage = Usage.now()
        return usage.threads <= THREADS and usage.processes <= PROCESSES

    try:
        polling.until(is_settled, PATIENCE)
    except TimeoutError:
        pass  # the figures show what is left
    return Usage.now()


def check_growth(usages: list[Usage], report: str) -> None:
    """Check that nothing was left behind after any round, and that late rounds need no more than early ones."""
    assert {(usage.threads, usage.processes) for usage in usages} == {(THREADS, PROCESSES)}, report
    third = max(len(usages) // 3, 1)
    early, late = usages[:third], usages[-third:]
    assert median(u.descriptors for u in late) <= median(u.descriptors for u in early) + 2, report
    if len(usages) >= 12:  # the first rounds grow: modules, caches and the allocator's own
        assert median(u.megabytes for u in late) <= median(u.megabytes for u in early) + 10, report


if __name__ == "__main__":
    print(soak(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
