"""Frozen facts: `Holder` and `Wait`, which errors and snapshots carry, `PoolStats`, and their common base."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from traceback import FrameSummary

# A frozen, slotted `dataclass` would do, but `dataclasses` imports `inspect`, and importing these two takes longer than
# importing all of this library.


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
    """A thread that holds a lock: a snapshot, taken when the caller asked for it.

    Attributes:
        name: The name of the thread, or ``""`` if no live thread has the ident.
        ident: Its `threading.get_ident`.
        alive: False if no live thread has this ident: the holder ended without releasing. This can be wrong, because
            the operating system may give the ident of an ended thread to a new one.
        stack: The stack trace of the thread when the snapshot was taken, outermost frame first, as
            `traceback.FrameSummary` objects. Empty if it is not known.

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


def nameless(ident: int) -> str:
    """Make the name that facts have for a thread without one."""
    return f"ident {ident}"


def say_thread(name: str) -> str:
    """Put the name of a thread into words, even if `nameless` made the name."""
    word, _, number = name.partition(" ")
    return (
        f"a thread without a name ({name})" if word == "ident" and number.strip("-").isdecimal() else f"Thread {name!r}"
    )


class Wait(Frozen):
    """One wait of a deadlock: a thread, what it waits for, and a thread that has to act before the wait can end.

    Its ``str`` is a sentence.

    Attributes:
        thread: The name of the thread that waits, or ``"ident 1402"`` (with its `threading.get_ident`) if it has none.
        lock_name: The name of the lock that it waits for, or a description of something else, like
            ``"the result of 'use'"``.
        holder: The name of the thread that holds the lock, or that has to do something else, like running a task; or
            ``"ident 1402"`` if it has no name.
        words: What the thread does and why it needs the other thread, in words that follow the name of the thread;
            ``""`` for a lock.

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
        return f"{say_thread(self.thread)} {self.words or f'waits for {self.lock_name!r} held by {self._say_holder()}'}"

    def _say_holder(self) -> str:
        return say_thread(self.holder).removeprefix("Thread ")


class PoolStats(Frozen):
    """How many tasks a pool has finished and how many are left: a frozen snapshot.

    Attributes:
        submitted: Tasks that were submitted since the pool was made.
        pending: Tasks that are not settled: queued, running, or waiting for their callback to end.
        running: Pending tasks whose call runs now, if the executor reports that.
        done: Settled tasks that returned a result.
        failed: Settled tasks that raised an exception, timed out or lost their worker.
        cancelled: Settled tasks that were cancelled.
        abandoned: Tasks that timed out and still occupy a worker.
        callback_errors: Exceptions that callbacks and hooks have raised so far.

    Example:
        >>> from syncprims import CallbackPool
        >>> with CallbackPool() as pool:
        ...     task = pool.submit(len, "abc")
        ...
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
