"""`LockAdapter`: the methods of a `TimedLock` for a lock that the program already has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import compress, islice, repeat
from operator import attrgetter, call, itemgetter, methodcaller
from threading import Lock, get_ident
from types import BuiltinMethodType
from typing import ClassVar, NoReturn, Protocol, Self

from .._core.clock import monotonic
from .._core.deadline import check_acquire, check_timeout
from .._core.deadlocks import own_deadlock
from .._core.foreign import error_words, note, type_name, words
from .._core.greenlets import refuse_greenlets
from .._core.holders import describe, holder_of
from .._core.interrupts import Entered, Leave, LeaveInC, attempt, exhaust, leave_by, leaving
from .._core.lazy import check_runs
from .._core.observing import Event, Observable
from .._core.registry import check_name, new_serial, register
from .._core.waits import Waiting
from .hold import Hold
from .surface import LockSurface


class LockLike(Protocol):
    """The methods that a lock needs for a `LockAdapter`: ``acquire``, with and without a timeout, and ``release``.

    The locks of `threading` and `multiprocessing` have these, and so have Dask's ``Lock`` and ``Semaphore``.

    Example:
        >>> import threading
        >>> from syncprims.adapters import LockLike
        >>> lock: LockLike = threading.Lock()
    """

    def acquire(self, *, timeout: float = ...) -> bool:
        """Acquire the lock, without a limit or within ``timeout`` seconds; return whether it was acquired."""

    def release(self) -> object:
        """Release the lock."""


_try: Callable[[object], object] = methodcaller("acquire", timeout=0)
_holds_of = attrgetter("_holds")


class LockAdapter(LockSurface):
    """A context manager with a timeout for a lock that you already have: it gives any lock the methods of `TimedLock`.

    Use it for a lock that you can't replace: another library's `threading.Lock`, a `multiprocessing.Lock`, a lock on a
    server. For your own locks a `TimedLock` is better.

    Args:
        lock: Anything with ``acquire()``, ``acquire(timeout=seconds)`` and ``release()``.
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        name: The lock's name in messages. The default is like ``LockAdapter-7``.

    Raises:
        TypeError: The lock has no such methods, the timeout is not a number, or the name is not a string.
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.

    Example:
        >>> import threading
        >>> from syncprims import LockAdapter
        >>> lock = LockAdapter(threading.Lock(), timeout=2.0, name="theirs")
        >>> with lock:
        ...     lock.locked()
        True

    Some things depend on the wrapped lock:

    - The adapter knows the holder only if the holder acquired the lock through this adapter. Otherwise
      `LockTimeoutError` says that the holder is not known.
    - Deadlocks are not detected, because the lock can't say which thread holds it. There is one exception: a thread
      gets a `DeadlockError` if it waits, without a limit or in a ``with``, for a `threading.Lock` that it has acquired
      through this adapter itself.
    - If the lock's ``acquire`` or ``release`` is written in Python, an interrupt inside may leave the lock acquired. If
      they are C functions, as in `threading` and `multiprocessing`, ``with``, `hold` and `acquire_all` leak nothing.
      But the adapter's own `release` is written in Python, so an interrupt on entry to it leaves the lock acquired.
    - After a fork, the adapter has the state of the wrapped lock.

    If the ``release`` of the wrapped lock raises an error, for example because a server does not answer, the ``with``
    raises it too. If the block itself raised an exception, the ``with`` raises that one, with a note about the error.
    Either way the adapter regards the lock as released.

    **Fairness.** That of the wrapped lock.

    **Thread safety.** All methods may be called from any thread.

    You can make a `threading.Condition` with an adapter. Its ``wait`` releases the lock as many times as the thread has
    acquired it, and later acquires it as many times again, unless the wrapped lock raises an error.

    **Differences from threading.** Only a thread that acquired the lock through this adapter may release it through
    this adapter; any other gets a `RuntimeError`. Whether a thread may acquire it twice depends on the wrapped lock.

    **Subclassing.** The hooks are those of `TimedLock`: `_on_wait`, `_on_acquired` and `_on_timeout`. You may override
    `acquire` and `release`, but ``with`` and `hold` don't call them.
    """

    def __init__(self, lock: LockLike, timeout: float | None = None, *, name: str | None = None) -> None:
        if not (callable(getattr(lock, "acquire", None)) and callable(getattr(lock, "release", None))):
            raise TypeError(f"LockAdapter needs an object with acquire(timeout=...) and release(), not {words(lock)}")
        for method in ("acquire", "release"):
            check_runs(getattr(lock, method), f"the {method}() of a lock for threads")
        self._lock = lock
        self._timeout = check_timeout(timeout)
        self._name = check_name(name)
        # By thread, one entry for each time that it has acquired the lock through this adapter.
        self._holds: dict[int, Entered] = {}
        # Whether the lock's release runs Python code, which needs more of the stack.
        self._in_python = type(getattr(lock, "release", None)) is not BuiltinMethodType
        # The advice for a thread that would wait for itself; None if it may acquire the lock twice, or that is not
        # known.
        self._own_wait = "release it first, or wrap a threading.RLock" if type(lock) is type(Lock()) else None
        self._serial = register(self, new_serial())

    def locked(self) -> bool:
        """Return whether the lock is acquired (through this adapter, if the wrapped lock has no ``locked()``)."""
        locked = getattr(self._lock, "locked", None)
        return bool(locked()) if callable(locked) else self._owner() is not None

    def held_by_me(self) -> bool:
        """Return whether the calling thread acquired the lock through this adapter."""
        return bool(self._holds.get(get_ident()))

    def _owner(self) -> int | None:
        return next((ident for ident, holds in list(self._holds.items()) if holds), None)

    def _up_to(self, waiter: int) -> int | None:  # noqa: ARG002  a thread can really wait for itself here
        return self._owner()

    def _is_mine(self) -> bool:
        return self.held_by_me()

    def __repr__(self) -> str:
        state = "unlocked" if self._owner() is None else "locked"
        return f"<{state} syncprims.{type(self).__name__} object {self.name!r} over {words(self._lock)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: it counts the threads of one process; send the lock inside, where that "
            f"can be sent, and wrap it on the other side"
        )

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Acquire the lock like `threading.Lock.acquire`; the constructor's timeout is not used.

        Args:
            blocking: False tries once and does not wait.
            timeout: How long to wait, in seconds. -1, the default, and None wait forever.

        Returns:
            Whether the lock was acquired.

        Raises:
            DeadlockError: The wait has no limit, and this thread has acquired this `threading.Lock` already.
            TypeError: ``blocking`` is neither a `bool` nor 0 or 1.
            ValueError: A timeout was given with ``blocking=False``, or it is NaN or a negative number other than -1.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        """
        return self._take(check_acquire(blocking, timeout), raises=False)

    def release(self) -> None:
        """Release the lock.

        Raises:
            RuntimeError: The calling thread has not acquired it through this adapter. Nothing is changed.
        """
        if not self.held_by_me():
            raise self._not_entered()
        self._release()

    def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
        """Return a context manager that acquires the lock with this timeout instead of the constructor's.

        Args:
            timeout: How long ``with`` waits, in seconds. None waits forever; 0 does not wait.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        """
        return Hold(self, check_timeout(timeout))

    def __enter__(self) -> Self:
        """Acquire the lock; wait at most the constructor's timeout.

        Raises:
            LockTimeoutError: It was not free in time.
            DeadlockError: This thread has acquired this `threading.Lock` already.
        """
        return self._enter_within(self._timeout)

    def _enter_within(self, timeout: float | None) -> Self:
        self._take(timeout, raises=True)
        return self

    def _leave(self) -> Leave:
        try:
            mine = self._holds[get_ident()]
        except KeyError:
            mine = self._mine()
        token = mine.expected = object()
        letting_go = leaving(self, mine, token, map(call, (mine.pop, self._lock.release)))
        return leave_by(letting_go, in_python=True) if self._in_python else leave_by(letting_go)

    __exit__: LeaveInC = LeaveInC(_leave)

    @LeaveInC
    def _release(self) -> Callable[[], object]:
        """The C function that releases the lock."""
        return partial(exhaust, map(call, (self._mine().pop, self._lock.release)))

    def _letting_go(self) -> Iterator[object]:
        """Return an iterator that removes the thread from the holders and then releases the lock, all in C."""
        mine = self._mine()
        if not mine:
            raise self._not_entered()
        return map(call, (mine.pop, self._lock.release))

    def _mine(self) -> Entered:
        """The holds of this thread."""
        me = get_ident()
        mine = self._holds.get(me)
        return self._holds.setdefault(me, Entered()) if mine is None else mine

    def _not_entered(self) -> RuntimeError:
        owner = self._owner()
        holder = "" if owner is None else f"; it is held by {describe(holder_of(owner), self)}"
        return RuntimeError(
            f"cannot release {self.name!r}: this thread has not acquired it through this adapter{holder}"
        )

    def _note(self, error: BaseException, failure: BaseException) -> None:
        """Note a failed release on the exception that is being raised, without replacing that exception."""
        note(error, f"then the release of {self.name!r} failed too: {error_words(failure)}")

    def _take(self, limit: float | None, *, raises: bool) -> bool:
        refuse_greenlets()
        started = monotonic()
        try:
            mine = self._holds[get_ident()]
        except KeyError:
            mine = self._mine()
        held = len(mine)
        token = None
        if raises:  # it may be a `with`, which has just looked up its `__exit__`
            token, mine.expected = mine.expected, None
        taken: bool | None = False  # None if the wrapped lock's answer has to be judged
        try:
            (answer,) = map(_try, (self._lock,))  # `attempt`
            taken = True if answer is True else False if answer is False else None
            if taken is None:
                taken = self._judge(answer)
            if not taken and limit != 0:
                if self._own_wait is not None and mine and (raises or limit is None):
                    raise own_deadlock(self.name, self._own_wait, self)
                self._on_wait(self.holder)
                # Reports show a `with` as endless, with or without a limit, as they do for a TimedLock.
                waiting = Waiting(self, None if limit is None or raises else started + limit, takes_part=False)
                acquire: Callable[..., object] = self._lock.acquire
                try:
                    waiting.publish()
                    if limit is None:
                        answer = attempt(acquire)
                    else:
                        left = max(0.0, started + limit - monotonic())
                        answer = attempt(partial(acquire, timeout=left))
                    taken = True if answer is True else False if answer is False else None
                finally:
                    waiting.withdraw()
                if taken is None:
                    taken = self._judge(answer)
                waited = monotonic() - started
            else:
                waited = 0.0
            if taken:
                mine.append(token)
                self._on_acquired(waited)
                return True
        except BaseException as error:
            if taken is not False:
                try:
                    self._lock.release()
                except Exception as failure:  # noqa: BLE001  a foreign lock may raise anything
                    self._note(error, failure)
                finally:
                    try:
                        del mine[held]  # not a call: another interrupt can come only after it
                    except IndexError:
                        pass
            raise
        if raises:
            raise self._late(limit, waited)
        return False

    def _judge(self, answer: object) -> bool:
        """Return whether the wrapped lock's answer means that it was acquired: its truth, as in `threading`."""
        try:
            return bool(answer)
        except Exception as error:
            raise TypeError(
                f"the acquire() of {words(self._lock)} returned a {type_name(answer)} that is neither true nor false; "
                f"the lock has been released, in case it was taken"
            ) from error

    # -- threading.Condition, fork ------------------------------------------------------------------------------ As in
    # TimedLock, _release_save() returns a generator that is suspended in its own `try`, and _acquire_restore is the C
    # function that resumes it. The wrapped lock is released as many times as this thread has acquired it through this
    # adapter, and then acquired as many times. An iterator in C does that; it goes on after an interrupt has ended one
    # of its waits.

    def _is_owned(self) -> bool:
        return self.held_by_me()

    def _release_save(self) -> Generator[None, None, None]:
        again = self._taking_back()
        try:
            next(again)
            return again
        except BaseException:
            again.close()  # at once: otherwise this happens only when the exception is dropped
            raise

    _acquire_restore = staticmethod(next)

    def _taking_back(self) -> Generator[None, None, None]:
        mine = self._mine()
        if not mine:
            raise self._not_entered()
        held, lock = tuple(mine), self._lock
        giving = map(call, (mine.pop, lock.release) * len(held))
        taken = zip(map(call, repeat(lock.acquire)), held, strict=False)
        taking = map(itemgetter(1), islice(taken, len(held)))
        waiting = Waiting(self, victim=False, takes_part=False)
        try:
            exhaust(giving)
            yield
            waiting.publish()
        finally:
            try:
                exhaust(giving)  # release those again whose release failed because the wrapped lock raised
            finally:
                try:
                    mine.extend(taking)
                finally:
                    try:
                        mine.extend(taking)
                    finally:
                        waiting.withdraw()
        yield

    def _somebody(self) -> str:
        return "a thread that did not acquire it through this adapter"

    @staticmethod
    def _after_fork(adapters: Collection[LockAdapter]) -> None:
        me = get_ident()
        for adapter in compress(adapters, map(_holds_of, adapters)):
            for ident in list(adapter._holds):
                if ident != me:
                    del adapter._holds[ident]

    _observable: ClassVar[Observable] = Observable(
        {
            "_take": Event("takes", lambda _, limit, *, raises: limit is None or (raises and limit != 0)),
            "_release": Event("gives"),
            "__exit__": Event("gives"),
        },
        is_held=held_by_me,
    )


def forget_holders(adapters: Collection[LockAdapter]) -> None:
    """In a forked child, count no thread as a holder, not even the forking one: the parent has the locks."""
    for adapter in adapters:
        adapter._holds = {}
