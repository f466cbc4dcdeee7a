"""Locks: `TimedLock`, `TimedRLock`, `LockAdapter`, `acquire_all` and the locks that build on them."""
