"""The tests of CPython that don't apply to the locks, each with the documented difference that is the reason."""

from __future__ import annotations

from typing import Final

TWICE: Final = "takes the lock twice in one thread, which is a deadlock, and told as one"
LEFT_OUT: Final = {
    "TimedLock": {
        "test_reacquire": TWICE,
        "test_different_thread": "has another thread release the lock, which only the holder may",
    },
    "TimedRLock": {},
    "Condition(TimedLock())": {"test_acquire": TWICE + "; a condition's own lock is re-entrant"},
    "Condition(TimedRLock())": {},
}
