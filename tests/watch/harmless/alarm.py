"""The only thread waits for an event that a signal sets."""

from __future__ import annotations

import signal
import threading

rung = threading.Event()
signal.signal(signal.SIGALRM, lambda *_: rung.set())
signal.setitimer(signal.ITIMER_REAL, 2.5)
rung.wait()
print("done")
