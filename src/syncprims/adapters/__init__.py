"""Other people's locks with this library's surface: `LockAdapter`, and what it asks of a lock (`LockLike`)."""

from __future__ import annotations

from .lock_adapter import LockAdapter, LockLike

__all__ = ["LockAdapter", "LockLike"]
