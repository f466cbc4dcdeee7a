"""DEADLOCK: a child is forked while another thread holds a lock."""

from __future__ import annotations

import os
import threading

lock = threading.Lock()
held = threading.Event()
done = threading.Event()


def hold() -> None:
    with lock:
        held.set()
        done.wait(60)


threading.Thread(target=hold, name="holder", daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    with lock:
        os._exit(0)
os.waitpid(child, 0)
