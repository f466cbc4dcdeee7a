"""Locks: `TimedLock`, `TimedRLock`, `LockAdapter` and `acquire_all`."""
