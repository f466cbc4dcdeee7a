"""What an observed lock of `syncprims.watch` costs beside a bare one: ``python -m benchmarks.observed``.

Both are measured in turn, in small pieces, and the best piece of each counts, so that a busy machine disturbs little.
"""

from __future__ import annotations

import _thread
import sys
import sysconfig
from collections.abc import Callable
from itertools import repeat, starmap
from threading import Thread
from time import perf_counter, process_time
from typing import Any

from syncprims.watch.contention import WatchRecording
from syncprims.watch.exact import exact_classes
from syncprims.watch.observed import ObservedLock, ObservedRLock, factory_of

PIECE, PIECES = 1000, 400


def with_block(lock: Any) -> Callable[[int], None]:
    """Return a loop of `with`."""

    def loop(times: int) -> None:
        for _ in range(times):
            with lock:
                pass

    return loop


def acquire_and_release(lock: Any) -> Callable[[int], None]:
    """Return a loop of the two calls."""

    def loop(times: int) -> None:
        for _ in range(times):
            lock.acquire()
            lock.release()

    return loop


def ratio(bare: Callable[[int], None], observed: Callable[[int], None]) -> float:
    """How many times as long the second takes."""
    best = [float("inf"), float("inf")]
    for _ in range(PIECES):
        for index, loop in enumerate((bare, observed)):
            begun = perf_counter()
            loop(PIECE)
            best[index] = min(best[index], perf_counter() - begun)
    return best[1] / best[0]


class KeepsNoLock:
    """What a `with` costs if its end is that of the lock in C: the block would keep only that alive."""

    __slots__ = ("__exit__", "_taker", "_tries")

    def __init__(self) -> None:
        inner = _thread.allocate_lock()
        self._tries = starmap(inner.acquire, repeat((False,)))
        self._taker = 0
        self.__exit__ = inner.__exit__

    def __enter__(self) -> bool:
        me = _thread.get_ident()
        for taken in self._tries:
            if taken:
                self._taker = me
                return True
            break
        return False


def recorded() -> Any:
    """Return a lock that is recorded."""
    recording = WatchRecording()
    recording.__enter__()
    return factory_of(exact_classes([recording.recorder()])[0])()


def contended(lock: Any) -> Callable[[int], None]:
    """Return a loop of `with` in four threads."""

    def loop(times: int) -> None:
        threads = [Thread(target=with_block(lock), args=(times,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return loop


def cpu_ratio(bare: Callable[[int], None], observed: Callable[[int], None]) -> float:
    """How many times the CPU time the second takes, in turn."""
    used = [0.0, 0.0]
    for _ in range(20):
        for index, loop in enumerate((bare, observed)):
            begun = process_time()
            loop(2000)
            used[index] += process_time() - begun
    return used[1] / used[0]


def main() -> None:
    """Print a row of a table."""
    make = factory_of(ObservedLock)
    figures = [
        ratio(with_block(_thread.allocate_lock()), with_block(make())),
        ratio(acquire_and_release(_thread.allocate_lock()), acquire_and_release(make())),
        ratio(with_block(_thread.RLock()), with_block(ObservedRLock())),
        ratio(acquire_and_release(_thread.RLock()), acquire_and_release(ObservedRLock())),
        ratio(with_block(_thread.allocate_lock()), with_block(KeepsNoLock())),
        ratio(with_block(_thread.allocate_lock()), with_block(recorded())),
        cpu_ratio(contended(_thread.allocate_lock()), contended(make())),
    ]
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}{free}"
    sys.stdout.write(f"{version:6}" + "".join(f"{figure:6.2f}" for figure in figures) + "\n")


if __name__ == "__main__":
    main()
