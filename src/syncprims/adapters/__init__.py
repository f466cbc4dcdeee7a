"""Other libraries' locks with this library's methods: `LockAdapter`, and the methods that it needs (`LockLike`).

`RedisLock`, `RedisSemaphore` and `RedisCounter` work across machines. They need redis-py
(``pip install 'syncprims[redis]'``), which is imported only when one of them is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._locks.lock_adapter import LockAdapter, LockLike

if TYPE_CHECKING:
    from .losses import LeaseExpiredError, LeaseHolder, Lost
    from .redis_counter import RedisCounter
    from .redis_lock import RedisLock
    from .redis_semaphore import RedisSemaphore

__all__ = [
    "LeaseExpiredError",
    "LeaseHolder",
    "LockAdapter",
    "LockLike",
    "Lost",
    "RedisCounter",
    "RedisLock",
    "RedisSemaphore",
]

_LATER = {
    "LeaseExpiredError": "losses",
    "LeaseHolder": "losses",
    "Lost": "losses",
    "RedisCounter": "redis_counter",
    "RedisLock": "redis_lock",
    "RedisSemaphore": "redis_semaphore",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    thing: object = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
