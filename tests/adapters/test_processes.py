"""Locks of `multiprocessing` in an adapter, between processes, and an order that is kept across worker processes."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Lock, RLock
from typing import Any, Final

import pytest

from syncprims import BrokenSequenceError, LockAdapter, LockTimeoutError, OrderedRunner, TimedLock, Turn, acquire_all
from syncprims.testing import Threads, check_lock, check_rlock, patience
from testing.rejections import ENTERED_TWICE, NOT_OF_FOREIGN_LOCKS, NOT_OF_FOREIGN_REENTRANT_LOCKS

SPAWN: Final = multiprocessing.get_context("spawn")
THREADS: Final = 8
TIMES: Final = 200


# The clauses that a lock without a known owner can't keep. And release() is in Python, so that an interrupt right at
# its call leaves the lock acquired; a `with` has no such point.
def test_a_lock_of_multiprocessing_keeps_the_contract_but_for_the_clauses_listed() -> None:
    """The conformance kit passes it."""
    assert check_lock(lambda: LockAdapter(SPAWN.Lock()), without=(*NOT_OF_FOREIGN_LOCKS, ENTERED_TWICE)).broken == ()


def test_a_reentrant_lock_of_multiprocessing_keeps_the_contract_but_for_the_clauses_listed() -> None:
    """The conformance kit passes it as well."""
    assert (
        check_rlock(
            lambda: LockAdapter(SPAWN.RLock()), without=(*NOT_OF_FOREIGN_LOCKS, *NOT_OF_FOREIGN_REENTRANT_LOCKS)
        ).broken
        == ()
    )


def _hammer(inside: Lock | RLock, count: Any) -> None:
    lock = LockAdapter(inside, timeout=patience(60.0))

    def work() -> None:
        for _ in range(TIMES):
            with lock:
                count.value += 1

    with Threads(patience(60.0)) as threads:
        for _ in range(THREADS):
            threads.start(work)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_processes_that_share_a_lock_lose_nothing(kind: str) -> None:
    """Two processes of eight threads count in two steps under it, each with its own adapter."""
    inside: Any = getattr(SPAWN, kind)()
    count = SPAWN.RawValue("i", 0)
    crowd = [SPAWN.Process(target=_hammer, args=(inside, count), daemon=True) for _ in range(2)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(patience(60.0))
    assert [process.exitcode for process in crowd] == [0, 0]
    assert count.value == 2 * THREADS * TIMES


def _hold_until_told(inside: Lock, held: Any, go: Any) -> None:
    with LockAdapter(inside):
        held.set()
        go.wait(patience(30.0))


def test_a_holder_in_another_process_is_not_known_and_the_error_says_so() -> None:
    """The wait has its limit nevertheless, alone and in acquire_all."""
    inside, held, go = SPAWN.Lock(), SPAWN.Event(), SPAWN.Event()
    holder = SPAWN.Process(target=_hold_until_told, args=(inside, held, go), daemon=True)
    holder.start()
    assert held.wait(patience(30.0))
    lock, here = LockAdapter(inside, timeout=0.05, name="shared"), TimedLock()
    with pytest.raises(LockTimeoutError, match="a thread that did not acquire it through this adapter") as caught, lock:
        pytest.fail("the body ran without the lock")
    assert caught.value.holder is None
    with pytest.raises(LockTimeoutError), acquire_all(lock, here, timeout=0.05):
        pytest.fail("the body ran without the locks")
    assert not here.locked()
    go.set()
    with acquire_all(lock, here, timeout=patience()):
        assert lock.held_by_me()
    holder.join(patience())


# -- an order across processes ----------------------------------------------------------------------------------------


def take_turn(turn: Turn) -> tuple[int, str, int]:
    """Return which turn this is, and which process takes it."""
    return turn.index, turn.step, os.getpid()


def fail_in_turn(turn: Turn) -> None:
    """Fail."""
    raise LookupError(turn.step)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_order_is_kept_across_processes_and_starves_no_pool(workers: int) -> None:
    """There are five steps on one or two workers: every turn in its place, and none in this process."""
    steps = [f"step-{number}" for number in range(5)]
    with ProcessPoolExecutor(workers, mp_context=SPAWN) as executor:
        turns = OrderedRunner(*steps, rounds=3).run(
            dict.fromkeys(steps, take_turn), executor=executor, timeout=patience(40.0)
        )
    assert [(index, step) for index, step, _ in turns] == list(enumerate(3 * steps))
    assert os.getpid() not in {process for _, _, process in turns}


def test_a_step_that_fails_in_a_worker_breaks_the_order_here() -> None:
    """run() raises the error, and no further step is submitted."""
    runner = OrderedRunner("good", "bad", "never")
    bodies: dict[str, Any] = {"good": take_turn, "bad": fail_in_turn, "never": take_turn}
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor, pytest.raises(LookupError, match="bad"):
        runner.run(bodies, executor=executor, timeout=patience(40.0))
    assert runner.state == "broken"
    with pytest.raises(BrokenSequenceError):
        runner.wait(timeout=0)
