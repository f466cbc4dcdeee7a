"""A lock that logs slow holders: a subclass of `TimedLock` that overrides three hooks.

If a thread has to wait long for a lock, this logs how long, and which thread held it. `_on_wait` and `_on_timeout` cost
nothing until a thread has to wait. `_on_acquired` is called at every acquisition, which costs time; a subclass that
need not know how long a wait took can leave it out.

Run it: ``python slow_holder_lock.py``.
"""

from __future__ import annotations

import logging
import sys
import threading

from syncprims import Holder, LockTimeoutError, TimedLock
from syncprims.testing import check_lock

logger = logging.getLogger("slow_holders")


class SlowHolderLock(TimedLock):
    """A `TimedLock` that logs its holder if a thread has to wait too long.

    Args:
        timeout: As for `TimedLock`.
        name: As for `TimedLock`.
        patience: How long a wait may take before it is logged, in seconds.
    """

    def __init__(self, timeout: float | None = None, *, name: str | None = None, patience: float = 1.0) -> None:
        super().__init__(timeout, name=name)
        self._patience = patience
        # Each waiting thread remembers its own holder.
        self._seen = threading.local()

    def _on_wait(self, holder: Holder | None) -> None:
        self._seen.holder = holder

    def _on_acquired(self, waited: float) -> None:
        if waited > self._patience:
            logger.warning("waited %.2f s for %r, which %s had", waited, self.name, self._who(self._seen.holder))

    def _on_timeout(self, error: LockTimeoutError) -> None:
        logger.warning("gave up %r after %.2f s, which %s has", self.name, error.waited, self._who(error.holder))

    @staticmethod
    def _who(holder: Holder | None) -> str:
        return "an unknown thread" if holder is None else f"thread {holder.name!r}"


def main() -> None:
    """Let one thread hold a lock for too long, and another wait for it; then run the conformance kit."""
    logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")
    accounts = SlowHolderLock(name="accounts", patience=0.01)
    held, go = threading.Event(), threading.Event()

    def month_end() -> None:
        with accounts:
            held.set()
            go.wait(5.0)

    slow = threading.Thread(target=month_end, name="month-end report")
    slow.start()
    held.wait(5.0)

    try:
        with accounts.hold(0.05):
            print("the accounts are free")
    except LockTimeoutError as error:
        print(f"no luck: {error.lock_name} is held by {error.holder.name if error.holder else 'no known thread'}")

    threading.Timer(0.05, go.set).start()
    with accounts.hold(5.0):
        print("the accounts are ours at last")
    slow.join(5.0)

    logging.disable()  # the kit makes threads wait and time out on purpose
    print(check_lock(SlowHolderLock))


if __name__ == "__main__":
    main()
