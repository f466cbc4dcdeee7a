"""`LeasedLock`: the base of `RedisLock` and `RedisSemaphore`, with the methods of a lease."""

from __future__ import annotations

from collections.abc import Collection

from .._core.clock import monotonic
from .._core.foreign import text_of
from .._locks.lock_adapter import LockAdapter, forget_holders
from .lease_holds import LeaseHold
from .leases import Leased
from .losses import LeaseExpiredError, Lost


class LeasedLock(LockAdapter):
    """A `LockAdapter` over a lease."""

    def __init__(self, lease: Leased, timeout: float | None, *, name: str) -> None:
        super().__init__(lease, timeout, name=name)
        self._lease = lease
        self._shared_name = name

    @property
    def lease(self) -> float:
        """The seconds after which the server takes the lock back, if the lease is not renewed."""
        return self._lease.seconds

    @property
    def token(self) -> int:
        """The fencing token of the calling thread's hold: a number that is greater than that of every hold before.

        The server draws it in the same step that acquires the lock. Send it along with each write, and let the storage
        refuse a number that is less than the greatest it has seen. The numbers have up to 53 bits, and grow by more
        than one from one hold to the next.

        Raises:
            RuntimeError: The calling thread holds nothing.
        """
        if not self.held_by_me():
            raise RuntimeError(f"{self.name!r} has no token for this thread, which does not hold it")
        return self._held().number

    @property
    def lost(self) -> Lost:
        """Whether the hold of the calling thread was lost: check ``is_set()``, or wait by ``wait(timeout)``.

        In a thread that does not hold the lock, this is about the last hold of any thread through this object, so that
        a helper thread can watch it. Keep it in a variable if the lock may be acquired again.

        Raises:
            RuntimeError: The lock was never acquired through this object.
        """
        return self._held().lost

    def _held(self) -> LeaseHold:
        hold = self._lease.current()
        if hold is None:
            raise RuntimeError(f"{self.name!r} has not been taken through this object: there is nothing to lose")
        return hold

    def renew(self) -> None:
        """Begin the lease again, now; takes one round trip.

        Use it between two steps of the work if each step is shorter than the lease, and before a step that can't be
        undone.

        Raises:
            RuntimeError: The calling thread does not hold it.
            LeaseExpiredError: It is lost, and another client may have it. The end of the block will raise this too.
            redis.RedisError: The server did not answer. It is not known whether the lease was renewed.
        """
        if not self.held_by_me():
            raise RuntimeError(f"cannot renew the lease of {self.name!r}: this thread does not hold it")
        self._lease.renew()

    def _on_lost(self, error: LeaseExpiredError, /) -> None:
        """Called once for a hold that was lost, as soon as that is known; for subclasses.

        With ``renew=True`` it is called in a separate thread, otherwise in the holder's thread when that thread renews
        or releases. Its exceptions are logged.

        Args:
            error: The error that the end of the block will raise.
        """

    def _take(self, limit: float | None, *, raises: bool) -> bool:
        mine, started = self._lease.mine, monotonic()
        # If the first try, which does not wait, fails, the wait that follows may still succeed.
        mine.patient = bool(limit)
        mine.waits = limit != 0
        try:
            return super()._take(limit, raises=raises)
        except Exception as failure:
            if limit is None or not raises or failure is not mine.failure or monotonic() - started < limit:
                raise
            waited = monotonic() - started
            raise self._late(limit, waited, f"and its Redis server did not answer: {text_of(failure)}") from failure
        finally:
            mine.failure = None
            if mine.lined_up is not None:  # a hook has prevented the wait
                self._lease.leave_queue()

    def _somebody(self) -> str:
        return self._lease.rivals()


def forget_leases(locks: Collection[LockAdapter]) -> None:
    """In a forked child: hold no lease of the parent's."""
    forget_holders(locks)
    for lock in locks:
        assert isinstance(lock, LeasedLock)
        lock._lease.forget()
