"""ALL ASLEEP: the program can't end, because a thread that is not a daemon waits."""

from __future__ import annotations

import threading

stopping = threading.Event()
threading.Thread(target=stopping.wait, name="listener").start()
