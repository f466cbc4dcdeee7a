"""A counter that publishes to a metrics client: a subclass of `AtomicCounter` that overrides one hook.

The hook runs after the change, in the thread that made it, and with no lock held, so a slow client delays only that
thread. Hooks of several threads may run out of order. So a gauge of the present value reads the value itself, and a sum
of the changes uses the hook's arguments: both end up right.

Run it: ``python published_counter.py``.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Protocol

from syncprims import AtomicCounter
from syncprims.testing import check_counter


class Metrics(Protocol):
    """The methods of a metrics client, like those of StatsD or Prometheus."""

    def add(self, name: str, step: int) -> None:
        """Add to a metric."""


class PublishedCounter(AtomicCounter):
    """An `AtomicCounter` that reports each change to a metrics client.

    Args:
        value: As for `AtomicCounter`.
        client: The metrics client; None for none.
        **kwargs: Other arguments of `AtomicCounter`.
    """

    def __init__(self, value: int = 0, *, client: Metrics | None = None, **kwargs: Any) -> None:
        self._client = client
        super().__init__(value, **kwargs)

    def _on_change(self, old: int, new: int) -> None:
        if self._client is not None:
            self._client.add(self.name, new - old)


class PrintingMetrics:
    """A client for this example: it adds up the changes, under its own lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sums: Counter[str] = Counter()
        self.calls = 0

    def add(self, name: str, step: int) -> None:
        """Add to a metric."""
        with self._lock:
            self.sums[name] += step
            self.calls += 1


def main() -> None:
    """Serve requests in four threads, look at the metrics, and run the conformance kit."""
    metrics = PrintingMetrics()
    served = PublishedCounter(name="requests.served", client=metrics)
    free = PublishedCounter(8, minimum=0, maximum=8, name="connections.free", client=metrics)

    def serve() -> None:
        for _ in range(100):
            free.decrement()
            served.increment()
            free.increment()

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    served.wait_until(400, timeout=30.0)
    for thread in threads:
        thread.join(30.0)

    print(f"served {served}, reported {metrics.sums['requests.served']} in {metrics.calls} calls")
    print(f"connections are back where they were: {metrics.sums['connections.free'] == 0}")
    print(check_counter(PublishedCounter))


if __name__ == "__main__":
    main()
