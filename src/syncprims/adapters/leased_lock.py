"""`LeasedLock`: what `RedisLock` and `RedisSemaphore` have in common, the surface of a lease."""

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
        """After how many seconds the server takes back what is held, if it is not renewed."""
        return self._lease.seconds

    @property
    def token(self) -> int:
        """The fencing token of the calling thread's hold: a number that is greater than that of every hold before.

        It is drawn on the server in the same step in which the lock is taken. Give it along with what you write, and
        let what you write to refuse a number that is less than the greatest it has seen. The numbers grow from one
        hold to the next by more than one, and have up to 53 bits.

        Raises:
            RuntimeError: The calling thread holds nothing.
        """
        if not self.held_by_me():
            raise RuntimeError(f"{self.name!r} has no token for this thread, which does not hold it")
        return self._held().number

    @property
    def lost(self) -> Lost:
        """Whether the hold of the calling thread was lost: ask it by ``is_set()``, or wait for it by ``wait(timeout)``.

        For a thread that has none, it is that of the hold which was taken last through this object, by any thread: so
        a helper thread may watch. Keep it in a variable if the lock is to be taken again in the meantime.

        Raises:
            RuntimeError: Nothing has ever been taken through this object.
        """
        return self._held().lost

    def _held(self) -> LeaseHold:
        hold = self._lease.current()
        if hold is None:
            raise RuntimeError(f"{self.name!r} has not been taken through this object: there is nothing to lose")
        return hold

    def renew(self) -> None:
        """Begin the lease again, now; takes one round trip.

        For work in steps of which each, but not all, is shorter than the lease, and to make sure of the lock before
        what can't be undone.

        Raises:
            RuntimeError: The calling thread does not hold it.
            LeaseExpiredError: It is lost; others may have it. Leaving the block will say so too.
            redis.RedisError: The server did not answer; whether the lease was renewed is not known.
        """
        if not self.held_by_me():
            raise RuntimeError(f"cannot renew the lease of {self.name!r}: this thread does not hold it")
        self._lease.renew()

    def _on_lost(self, error: LeaseExpiredError, /) -> None:
        """Called once for a hold that was lost, as soon as that is known; for subclasses.

        If ``renew=True``, it is called in a thread of its own; otherwise in the holder's, when that renews or releases.
        What it raises is logged.

        Args:
            error: What leaving the block will raise.
        """

    def _take(self, limit: float | None, *, raises: bool) -> bool:
        mine, started = self._lease.mine, monotonic()
        # The first try, which does not wait, then leaves a failure to the wait that follows.
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
    """In a forked child: hold nothing of the parent's."""
    forget_holders(locks)
    for lock in locks:
        assert isinstance(lock, LeasedLock)
        lock._lease.forget()
