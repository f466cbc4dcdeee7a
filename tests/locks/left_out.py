"""The tests of CPython that don't apply to the locks, each with the documented difference that is the reason."""

from __future__ import annotations

from typing import Final

TWICE: Final = "takes the lock twice in one thread, which is a deadlock, and told as one"
ARGUMENTS: Final = "passes arguments to the constructor, which has to refuse them; ours takes a timeout and a name"
LEFT_OUT: Final = {
    "TimedLock": {
        "test_reacquire": TWICE,
        "test_different_thread": "has another thread release the lock, which only the holder may",
        "test_constructor_noargs": ARGUMENTS,
    },
    "TimedRLock": {
        "test_constructor_noargs": ARGUMENTS,
        "test_repr_count": "looks for the words of the standard lock's repr",
    },
    "Condition(TimedLock())": {"test_acquire": TWICE + "; a condition's own lock is re-entrant"},
    "Condition(TimedRLock())": {},
}
