"""A lock that a generator holds, begun in one thread and ended in another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

held, wanted = threading.Lock(), threading.Lock()


def holding() -> Iterator[None]:
    with held:
        yield


begun = threading.Event()
generator = holding()


def begin() -> None:
    next(generator)
    begun.set()
    with wanted:
        pass


def want() -> None:
    with wanted:
        beginner.start()
        begun.wait()
        with held:
            pass


def end() -> None:
    for _ in generator:
        pass


beginner = threading.Thread(target=begin)
wanting = threading.Thread(target=want)
ending = threading.Timer(2.5, end)
ending.start()
wanting.start()
for thread in (wanting, beginner, ending):
    thread.join()
print("done")
