"""A slow program and its recording: with one coarse lock, and with a finer one.

Run it with a directory to write the recordings to: ``python slow_program.py out``. Then open ``out/coarse.html`` and
``out/fine.html`` in a browser, or the ``.json`` files in https://ui.perfetto.dev.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep

from syncprims import TimedLock
from syncprims.diagnostics import Recording, record

WORKERS = 4
ORDERS_EACH = 5

stock = {"apples": 1000}
stock_lock = TimedLock(timeout=10.0, name="stock")


def look_up_price(order: int) -> int:
    """Ask a server, which takes a while."""
    sleep(0.02)
    return 3 + order % 2


def book_coarsely(order: int) -> None:
    """Do everything under the lock: no other thread can book while this one waits for an unrelated server."""
    with stock_lock:
        price = look_up_price(order)
        stock["apples"] -= price


def book_finely(order: int) -> None:
    """Hold the lock only for the booking."""
    price = look_up_price(order)
    with stock_lock:
        stock["apples"] -= price


def run(book: Callable[[int], None]) -> tuple[float, Recording]:
    """Let the workers book their orders; return how long that took, and the recording."""

    def work() -> None:
        for order in range(ORDERS_EACH):
            book(order)

    threads = [Thread(target=work, name=f"worker-{number}") for number in range(1, WORKERS + 1)]
    started = perf_counter()
    with record() as recording:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)
    return perf_counter() - started, recording


def main(directory: Path | None) -> None:
    """Run both ways, show their tables, and save their timelines."""
    for name, book in (("coarse", book_coarsely), ("fine", book_finely)):
        seconds, recording = run(book)
        print(f"{name}: {WORKERS * ORDERS_EACH} orders in {seconds:.2f} s")
        print(recording.table(), end="\n\n")
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            recording.save(directory / f"{name}.html")
            recording.save(directory / f"{name}.json")
    print("In the coarse timeline one thread holds 'stock' at any time, and the others, in stripes, wait for it.")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
