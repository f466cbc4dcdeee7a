"""`PoolStats`: a pool's numbers at one moment."""

from __future__ import annotations

from ..facts import Frozen


class PoolStats(Frozen):
    """What a pool has done and has still to do: a snapshot, frozen.

    Attributes:
        submitted: Tasks taken in since the pool was made.
        pending: Tasks not settled yet: queued, running, or done with their callback still to end.
        running: Those of them whose call runs now, as far as the executor lets us know.
        done: Settled tasks that returned normally.
        failed: Settled tasks that raised, expired or lost their worker.
        cancelled: Settled tasks that were cancelled.
        abandoned: Expired tasks that still occupy a worker.
        callback_errors: What callbacks and hooks have raised so far.

    Example:
        >>> from syncprims import CallbackPool
        >>> with CallbackPool() as pool:
        ...     task = pool.submit(len, "abc")
        >>> pool.stats.done
        1
    """

    __slots__ = ("submitted", "pending", "running", "done", "failed", "cancelled", "abandoned", "callback_errors")  # noqa: RUF023  the order of the arguments

    submitted: int
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int
    abandoned: int
    callback_errors: int

    def __init__(
        self,
        submitted: int,
        pending: int,
        running: int,
        done: int,
        failed: int,
        cancelled: int,
        abandoned: int,
        callback_errors: int,
    ) -> None:
        self._set(submitted, pending, running, done, failed, cancelled, abandoned, callback_errors)
