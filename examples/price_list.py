"""A price list that many threads read and one changes: readers run side by side, and see only complete changes.

Run it: ``python price_list.py``.
"""

from __future__ import annotations

from threading import Event

from syncprims import AtomicCounter, TimedRWLock
from syncprims.testing import Threads


class PriceList:
    """Prices in two currencies, which always agree."""

    def __init__(self, rate: int) -> None:
        self._lock = TimedRWLock(timeout=10.0, name="prices")
        self._rate = rate
        self._cents: dict[str, tuple[int, int]] = {}

    def set(self, item: str, cents: int) -> None:
        """Change a price, in both currencies."""
        with self._lock.write():
            self._cents[item] = cents, cents * self._rate

    def revalue(self, rate: int) -> None:
        """Change the rate, and every price with it; then read the result before any other change."""
        with self._lock.write():
            self._rate = rate
            for item, (cents, _) in self._cents.items():
                self._cents[item] = cents, cents * rate
            with self._lock.read():
                assert self.agree()

    def agree(self) -> bool:
        """Whether all prices agree with each other."""
        with self._lock.read():
            return all(there == here * self._rate for here, there in self._cents.values())


def main() -> None:
    """Let three threads read while a fourth changes all prices again and again."""
    prices = PriceList(rate=2)
    for number, item in enumerate(["apple", "bread", "cheese", "dates"], start=1):
        prices.set(item, 100 * number)
    read, wrong, over = AtomicCounter(name="reads"), AtomicCounter(name="wrong"), Event()

    def look() -> None:
        while not over.is_set():
            read.increment()
            if not prices.agree():
                wrong.increment()

    with Threads() as threads:
        for _ in range(3):
            threads.start(look)
        for rate in range(3, 103):
            prices.revalue(rate)
        read.wait_until(100, timeout=30.0)
        over.set()
    print(f"the rate was changed 100 times, and the list was read at the same time: {read.value >= 100}")
    print(f"reads that saw half of a change: {wrong}")


if __name__ == "__main__":
    main()
