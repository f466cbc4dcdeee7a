"""All primitives together: legal use is never refused, and each deadlock has exactly one victim, every time."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier, Event, get_ident
from time import monotonic
from typing import Any, Final

import pytest

from locks.actors import eventually
from syncprims import (
    AtomicCounter,
    CallbackPool,
    CounterTimeoutError,
    DeadlockError,
    OrderedRunner,
    PoolTimeoutError,
    Task,
    TimedLock,
    TimedRLock,
)
from syncprims._core.waits import SETTLED, Waiting, innermost_of
from syncprims.testing import Threads, patience

Note = Callable[[str, object], None]
LONG: Final = float(os.environ.get("SYNCPRIMS_EVIDENCE_SECONDS", "600"))
a_while = pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(LONG + 180)])
AT_LEAST: Final = 3  # rounds of each thread, however busy the machine is
often = pytest.mark.parametrize("rounds", [5, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])


@pytest.fixture(autouse=True)
def hasty_switching() -> Iterator[None]:
    """Threads take turns every ten microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


# -- legal use ---------------------------------------------------------------------------------------------------------


class Town:
    """Locks, counters, runners and pools, and a rule by which no use of them can deadlock.

    Threads acquire outer locks in their order. While they hold those they may wait for tasks of the front pool. Its
    tasks acquire front locks in their order and may wait for tasks of the back pool, which acquire only back locks.
    Callbacks acquire only the ledger. No thread waits for an earlier entry of this list while it holds a later one.
    """

    def __init__(self, front: Any, back: Any) -> None:
        """Make it."""
        self.outer = [TimedLock() if number % 2 else TimedRLock() for number in range(6)]
        self.in_front = [TimedLock() for _ in range(4)]
        self.in_back = [TimedLock(patience()) for _ in range(4)]
        self.ledger = TimedLock(name="ledger")
        self.front = CallbackPool(front, name="front", max_pending=12, **workers(front))
        self.back = CallbackPool(back, name="back", **workers(back))
        self.visits = AtomicCounter()
        self.written = AtomicCounter()

    def some(self, locks: list[Any], choice: random.Random, stack: ExitStack) -> None:
        """Acquire some of the locks in their order."""
        for number in sorted(choice.sample(range(len(locks)), choice.randint(0, 3))):
            stack.enter_context(locks[number] if choice.random() < 0.5 else locks[number].hold(patience()))

    def work_in_back(self, seed: int) -> int:
        """A task of the back pool."""
        with ExitStack() as stack:
            self.some(self.in_back, random.Random(seed), stack)
            return seed

    def work_in_front(self, seed: int) -> int:
        """A task of the front pool."""
        choice = random.Random(seed)
        with ExitStack() as stack:
            self.some(self.in_front, choice, stack)
            self.visits.increment()
            if choice.random() < 0.5:
                return self.back.submit(self.work_in_back, seed).result()
            if choice.random() < 0.3:
                return max(self.back.map(self.work_in_back, [seed, seed]))
            return seed

    def write(self, result: object) -> None:
        """A callback."""
        with self.ledger:
            self.written.increment()

    def live(self, seed: int, end: float) -> int:
        """A thread that uses everything until the time is up, and a few times at least; return how often it waited."""
        choice = random.Random(seed)
        rounds = 0
        while rounds < AT_LEAST or monotonic() < end:
            rounds += 1
            with ExitStack() as stack:
                self.some(self.outer, choice, stack)
                WAYS[choice.randrange(len(WAYS))](self, choice)
        return rounds


def workers(where: Any) -> dict[str, Any]:
    """How many, if that is the pool's business."""
    return {"max_workers": 3} if isinstance(where, str) else {}


def by_result(town: Town, choice: random.Random) -> None:
    """Wait for the result of a task."""
    town.front.submit(town.work_in_front, choice.randrange(1000)).result()


def by_several(town: Town, choice: random.Random) -> None:
    """Wait for the results of some tasks, the last one first."""
    for task in reversed([town.front.submit(town.work_in_front, number) for number in range(3)]):
        assert task.exception() is None


def by_settled(town: Town, choice: random.Random) -> None:
    """Wait for a callback."""
    town.front.apply_async(town.work_in_front, (choice.randrange(1000),), callback=town.write).wait_settled()


def by_limit(town: Town, choice: random.Random) -> None:
    """Wait for a short time, and give up."""
    task = town.front.submit(town.work_in_front, choice.randrange(1000))
    try:
        task.result(choice.choice([0, 1e-5, 1e-3]))
    except PoolTimeoutError:
        pass


def by_expiry(town: Town, choice: random.Random) -> None:
    """Start a task that has its own limit, and wait for it."""
    task = town.front.apply_async(
        town.work_in_front, (choice.randrange(1000),), error_callback=town.write, timeout=choice.choice([0.001, 1.0])
    )
    task.wait()


def by_map(town: Town, choice: random.Random) -> None:
    """Iterate over a map."""
    for _ in (town.front.map if choice.random() < 0.5 else town.front.map_unordered)(town.work_in_front, range(4)):
        pass


def by_join(town: Town, choice: random.Random) -> None:
    """Wait for all tasks and callbacks of all threads, but with a limit, because others go on submitting."""
    try:
        town.back.join(0.01) if choice.random() < 0.5 else town.front.join(0.01)
    except PoolTimeoutError:
        pass


def by_counter(town: Town, choice: random.Random) -> None:
    """Wait for a counter, if it moves."""
    try:
        town.visits.wait_until(town.visits.value + 1, timeout=0.002)
    except CounterTimeoutError:
        pass


def by_runner(town: Town, choice: random.Random) -> None:
    """Run a short sequence, in threads or in the pool."""
    runner = OrderedRunner("ping", "pong", rounds=2)

    def body(turn: object) -> int:
        with town.in_back[choice.randrange(4)]:
            return 1

    executor = town.back if choice.random() < 0.5 else None
    assert runner.run({"ping": body, "pong": body}, executor=executor) == [1] * 4


WAYS: Final = (by_result, by_several, by_settled, by_limit, by_expiry, by_map, by_join, by_counter, by_runner)


@pytest.mark.parametrize("place", ["threads", "handed in"])
@pytest.mark.parametrize("seconds", [1.5, a_while])
def test_legal_use_is_never_refused(
    seconds: float, place: str, record_property: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads use locks, counters, runners and two pools freely, but in order: no report, and no hang."""
    published: list[None] = []
    publish = Waiting.publish

    def count_and_publish(waiting: Waiting) -> None:
        published.append(None)
        publish(waiting)

    monkeypatch.setattr(Waiting, "publish", count_and_publish)
    with ExitStack() as stack:
        executors = [stack.enter_context(ThreadPoolExecutor(3)) for _ in range(2)] if place == "handed in" else None
        town = Town(*(executors or ("thread", "thread")))
        end = monotonic() + seconds / 2  # each place has half of the time
        with Threads(timeout=seconds + patience(60)) as threads:
            living = [threads.start(town.live, seed, end) for seed in range(8)]
        town.front.close(patience(30))
        town.back.close(patience(30))
    assert all(one.result() >= AT_LEAST for one in living)
    assert not any(lock.locked() or lock.waiting for lock in [*town.outer, *town.in_front, *town.in_back, town.ledger])
    record_property("seconds of legal use of all primitives", seconds / 2)
    record_property("waits in legal use of all primitives", len(published))


# -- one victim --------------------------------------------------------------------------------------------------------


def has_settled(ident: int) -> bool:
    """Whether a thread waits, and has searched: then it is not the last to wait."""
    wait = innermost_of(ident)
    return wait is not None and wait.serial == SETTLED


def errors_of(*calls: Callable[[], object]) -> list[DeadlockError]:
    """Call each in its own thread; return the deadlocks that they got, each once."""
    found: dict[int, DeadlockError] = {}

    def call_it(call: Callable[[], object]) -> None:
        try:
            call()
        except DeadlockError as error:
            found[id(error)] = error

    with Threads(timeout=patience(60)) as threads:
        for call in calls:
            threads.start(call_it, call)
    return list(found.values())


@often
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_ring_of_locks_and_tasks_has_one_victim(size: int, rounds: int, record_property: Note) -> None:
    """Each thread holds a lock and waits for a task that needs the next one's; the last one gets the error."""
    with CallbackPool(max_workers=size, name="ring") as pool:
        for _ in range(rounds):
            locks, line = [TimedLock() for _ in range(size)], Barrier(size)

            def use(number: int, locks: list[TimedLock] = locks) -> None:
                with locks[(number + 1) % len(locks)]:
                    pass

            def hold_and_wait(number: int, locks: list[TimedLock] = locks, line: Barrier = line) -> None:
                with locks[number]:
                    line.wait(patience())
                    pool.submit(use, number).result()

            assert len(errors_of(*(partial(hold_and_wait, number) for number in range(size)))) == 1
            pool.join(patience())  # the task of the one that gave way may still hold a lock
            assert not any(lock.locked() for lock in locks)
    record_property("deadlocks over pools with one victim", rounds)


@often
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("place", ["thread", "handed in"])
def test_a_pool_whose_workers_all_wait_for_it_has_one_victim(
    place: str, size: int, rounds: int, record_property: Note
) -> None:
    """Every worker waits for a queued task: one of them gets the error, and then runs the task the others wait for."""
    with ExitStack() as stack:
        where: Any = stack.enter_context(ThreadPoolExecutor(size)) if place == "handed in" else "thread"
        options: dict[str, Any] = {} if place == "handed in" else {"max_workers": size}
        pool = stack.enter_context(CallbackPool(where, name="full", **options))
        for _ in range(rounds):
            line = Barrier(size)

            def wait_for_a_queued_one(line: Barrier = line) -> int:
                line.wait(patience())
                return pool.submit(pow, 2, 3).result()

            tasks: list[Task[int]] = [pool.submit(wait_for_a_queued_one) for _ in range(size)]
            errors = [task.exception(patience()) for task in tasks]
            assert [type(error) for error in errors if error is not None] == [DeadlockError]
    record_property("deadlocks over pools with one victim", rounds)


@often
@pytest.mark.parametrize("way", ["join", "wait_settled", "room"])
def test_a_callback_that_needs_what_its_waiter_holds_has_one_victim(
    way: str, rounds: int, record_property: Note
) -> None:
    """A thread holds the lock that a callback takes, and waits for the pool: the last one gets the error."""
    with CallbackPool(max_workers=2, name="calls", max_pending=1, on_callback_error="log") as pool:
        for _ in range(rounds):
            lock, victims = TimedLock(), list[DeadlockError]()

            def write(result: object, lock: TimedLock = lock, victims: list[DeadlockError] = victims) -> None:
                try:
                    with lock:
                        pass
                except DeadlockError as error:
                    victims.append(error)

            with lock:
                task = pool.apply_async(pow, (2, 3), callback=write)
                try:
                    if way == "join":
                        pool.join()
                    elif way == "room":
                        pool.submit(pow, 2, 3)
                    else:
                        task.wait_settled()
                except DeadlockError as error:
                    victims.append(error)
            pool.join(patience())
            assert len(victims) == 1
    record_property("deadlocks over pools with one victim", rounds)


@often
def test_two_pools_that_wait_for_each_other_have_one_victim(rounds: int, record_property: Note) -> None:
    """The only worker of each waits for a task that is queued in the other."""
    with CallbackPool(max_workers=1, name="one") as one, CallbackPool(max_workers=1, name="other") as other:
        for _ in range(rounds):
            line = Barrier(2)

            def wait_for(pool: CallbackPool, line: Barrier = line) -> int:
                line.wait(patience())
                return pool.submit(pow, 2, 3).result()

            tasks = [one.submit(wait_for, other), other.submit(wait_for, one)]
            errors = [task.exception(patience()) for task in tasks]
            assert [type(error) for error in errors if error is not None] == [DeadlockError]
    record_property("deadlocks over pools with one victim", rounds)


@often
def test_a_step_and_a_task_have_one_victim(rounds: int, record_property: Note) -> None:
    """A thread is in a step and waits for a task that wants the next one."""
    with CallbackPool(max_workers=1, name="steps") as pool:
        for _ in range(rounds):
            runner, main, waiting = OrderedRunner("first", "second"), get_ident(), Event()

            def enter(runner: OrderedRunner = runner, main: int = main, waiting: Event = waiting) -> None:
                waiting.wait(patience())
                eventually(lambda: has_settled(main))
                with runner.step("second"):
                    pass

            with runner.step("first"):
                task = pool.submit(enter)
                waiting.set()
                assert isinstance(task.exception(), DeadlockError)
    record_property("deadlocks over pools with one victim", rounds)
