"""Frozen facts: `Holder` and `Wait`, which errors and snapshots carry, `PoolStats`, and their common base."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from traceback import FrameSummary

# A frozen, slotted `dataclass` would do, but `dataclasses` imports `inspect`, and together they
# cost more time than all of this library does.


class Frozen:
    """Base of small immutable records: their fields are their ``__slots__``, set once by `_set`."""

    __slots__: ClassVar[tuple[str, ...]] = ()

    def _set(self, *values: object) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in zip(self.__slots__, self._values(), strict=True))
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), self._values()


class Holder(Frozen):
    """Who holds a lock: a snapshot of a thread, taken when somebody asked.

    Attributes:
        name: The thread's name, or ``""`` where no live thread has the ident.
        ident: Its `threading.get_ident`.
        alive: False where no live thread has this ident: the holder ended without releasing. Best effort,
            as the system may give an ident to a later thread.
        stack: Where the thread stood when the snapshot was taken, outermost frame first, as
            `traceback.FrameSummary` objects; empty where that is unknown.

    Example:
        >>> from syncprims import TimedLock
        >>> lock = TimedLock()
        >>> with lock:
        ...     lock.holder.name
        'MainThread'
    """

    __slots__ = ("name", "ident", "alive", "stack")  # noqa: RUF023  the order of the arguments

    name: str
    ident: int
    alive: bool
    stack: tuple[FrameSummary, ...]

    def __init__(self, name: str, ident: int, alive: bool, stack: tuple[FrameSummary, ...] = ()) -> None:
        self._set(name, ident, alive, stack)


class Wait(Frozen):
    """One wait of a deadlock: a thread, what it waits for, and a thread that has to act before that wait can end.

    Its ``str`` says so in words.

    Attributes:
        thread: The name of the thread that waits.
        lock_name: The name of the lock that it waits for, or what else it waits for: ``"the result of 'use'"``.
        holder: The name of the thread that holds the lock, or has to act otherwise: that runs the task.
        words: What it does and why that is up to the other thread, in words that follow the thread's name; ``""`` for a
            lock.

    Example:
        >>> from syncprims import Wait
        >>> print(Wait("billing", "accounts", "audit"))
        Thread 'billing' waits for 'accounts' held by 'audit'
    """

    __slots__ = ("thread", "lock_name", "holder", "words")  # noqa: RUF023  the order of the arguments

    thread: str
    lock_name: str
    holder: str
    words: str

    def __init__(self, thread: str, lock_name: str, holder: str, words: str = "") -> None:
        self._set(thread, lock_name, holder, words)

    def __str__(self) -> str:
        return f"Thread {self.thread!r} {self.words or f'waits for {self.lock_name!r} held by {self.holder!r}'}"


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
