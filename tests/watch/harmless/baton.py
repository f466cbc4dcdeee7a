"""A lock as a signal: one thread acquires it twice, another one releases it later."""

from __future__ import annotations

import threading

baton = threading.Lock()
timer = threading.Timer(2.0, baton.release)
timer.start()
baton.acquire()
baton.acquire()
print("done")
