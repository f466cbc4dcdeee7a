"""One thread that never waits."""

import threading

lock = threading.RLock()
with lock:
    pass
