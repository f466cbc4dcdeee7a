"""A program whose clock does not move: how does each wait with a limit end?

``python frozen_clock.py HOW`` prints a line for each wait. HOW is ``before`` or ``after``: the functions of `time` that
return the time are replaced, in every module that has them, before or after this library is imported. Or it is
``freezegun``, which replaces them after.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Lock, Thread

LIMIT = 0.1
TOO_LONG = 60.0

_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
# freezegun does not replace the functions in these modules, because the interpreter's own waits use the clock there.
_SPARED = ("threading", "queue", "selectors", "multiprocessing")


@contextmanager
def standing_still() -> Iterator[None]:
    """Replace the clocks, compared by identity, in every module that has them."""
    instead = {id(getattr(time, name)): (lambda value: lambda: value)(getattr(time, name)()) for name in _CLOCKS}
    replaced = [
        (module, name, value)
        for module in list(sys.modules.values())
        if module.__name__.partition(".")[0] not in _SPARED
        for name, value in list(vars(module).items())
        if id(value) in instead
    ]
    for module, name, value in replaced:
        setattr(module, name, instead[id(value)])
    assert time.monotonic() == time.monotonic()
    yield


def waits() -> dict[str, Callable[[], object]]:
    """Every wait with a limit, by its name; each waits for an event that never comes."""
    from syncprims import AtomicCounter, CallbackPool, LockAdapter, OrderedRunner, TimedLock, acquire_all
    from syncprims.testing import Threads, assert_blocks

    held, plain, never = TimedLock(LIMIT, name="held"), Lock(), Event()
    counter, runner, taken = AtomicCounter(), OrderedRunner("a", "b", timeout=LIMIT), Event()
    adapter = LockAdapter(plain, LIMIT)
    plain.acquire()

    def hold() -> None:
        with held:
            taken.set()
            never.wait(TOO_LONG)

    def keep_changing() -> None:
        while not never.wait(LIMIT / 10):
            counter.increment()

    def own_lock_again() -> bool:
        lock = TimedLock()
        lock.acquire()
        return lock.acquire(timeout=LIMIT)

    def through_changes() -> int:
        Thread(target=keep_changing, daemon=True).start()
        return counter.wait_for(lambda value: value < 0, LIMIT)

    def over(wait: Callable[[CallbackPool], object]) -> Callable[[], object]:
        def within() -> object:
            pool = CallbackPool("thread", max_workers=1)
            pool.apply_async(never.wait, (TOO_LONG,))
            try:
                return wait(pool)
            finally:
                pool.abort()

        return within

    def task_with_a_limit(pool: CallbackPool) -> object:
        errors: list[BaseException] = []
        CallbackPool("thread", max_workers=1).apply_async(
            never.wait, (TOO_LONG,), error_callback=errors.append, timeout=LIMIT
        ).wait_settled(TOO_LONG)
        raise errors[0]

    def process_with_a_limit() -> object:
        with CallbackPool("process", max_workers=1) as pool:
            return pool.apply_async(time.sleep, (TOO_LONG,), timeout=LIMIT).result(TOO_LONG)

    def in_threads() -> object:
        with Threads(timeout=LIMIT) as threads:
            return threads.start(never.wait, TOO_LONG)

    Thread(target=hold, daemon=True).start()
    assert taken.wait(TOO_LONG)
    found: dict[str, Callable[[], object]] = {
        "with": held.__enter__,
        "hold": held.hold(LIMIT).__enter__,
        "acquire": lambda: held.acquire(timeout=LIMIT),
        "own lock again": own_lock_again,
        "acquire_all": acquire_all(TimedLock(), held, timeout=LIMIT).__enter__,
        "adapter": adapter.__enter__,
        "adapter's acquire": lambda: adapter.acquire(timeout=LIMIT),
        "wait_until": lambda: counter.wait_until(1, LIMIT),
        "wait_for": lambda: counter.wait_for(lambda value: value < 0, LIMIT),
        "wait_for, while it changes": through_changes,
        "step": runner.step("b").__enter__,
        "serve": lambda: runner.serve("b", print),
        "wait": runner.wait,
        "run": lambda: runner.run({"a": lambda _: never.wait(1.0), "b": bool}),
        "result": over(lambda pool: pool.submit(len, "").result(LIMIT)),
        "join": over(lambda pool: pool.join(LIMIT)),
        "close": over(lambda pool: pool.close(LIMIT)),
        "map": over(lambda pool: list(pool.map(len, [""], timeout=LIMIT))),
        "map_unordered": over(lambda pool: list(pool.map_unordered(len, [""], timeout=LIMIT))),
        "wait_settled": over(lambda pool: pool.submit(len, "").wait_settled(LIMIT)),
        "task": over(task_with_a_limit),
        "process": process_with_a_limit,
        "threads": in_threads,
        "assert_blocks": lambda: assert_blocks(
            lambda: held.acquire(timeout=20 * LIMIT)
        ).result(),  # code must look at it first
    }
    return found


def main(how: str) -> None:
    """Print how each wait ended."""
    faulthandler.dump_traceback_later(TOO_LONG / 2, exit=True)
    frozen: AbstractContextManager[object] = standing_still()
    if how == "freezegun":
        import freezegun

        frozen = freezegun.freeze_time("2024-01-01")
    if how == "before":
        frozen.__enter__()
    wait_by_name = waits()
    if how != "before":
        frozen.__enter__()
    for name, wait in wait_by_name.items():
        print(f"{name}: ", end="", flush=True)
        try:
            print(wait(), flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
    os._exit(0)  # threads still wait for events that never come


if __name__ == "__main__":
    main(sys.argv[1])
