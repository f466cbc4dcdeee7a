"""Two counters, one of which a thread has to wait for, once."""

import sys
import threading


class Counter:
    """A counter that several threads use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def increment(self) -> None:
        with self._lock:
            self.value += 1


busy, idle = Counter(), Counter()
thread = threading.Thread(target=busy.increment)
busy.increment()
idle.increment()
with busy._lock:
    thread.start()
    thread.join(0.3)
thread.join()
print("2 counters")
sys.exit(3)
