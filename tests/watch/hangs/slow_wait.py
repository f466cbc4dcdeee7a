"""SLOW: a thread waits for a lock whose holder reads from a pipe."""

from __future__ import annotations

import os
import threading

report = threading.Lock()
printing = threading.Event()
pipe, _ = os.pipe()


def print_report() -> None:
    with report:
        printing.set()
        os.read(pipe, 1)


threading.Thread(target=print_report, name="printer").start()
printing.wait()
with report:
    pass
