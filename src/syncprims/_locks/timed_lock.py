"""`TimedLock` and `TimedRLock`: locks with a timeout that name their holder and detect deadlocks."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager
from itertools import filterfalse
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self

from .._core.clock import monotonic, sleep
from .._core.deadline import check_acquire, check_timeout
from .._core.deadlocks import own_deadlock, refuse_deadlock
from .._core.greenlets import refuse_greenlets
from .._core.holders import describe
from .._core.observing import Event, Observable, hear_of_exchanges
from .._core.registry import InnerName, check_name, register, repair_by_reference
from .._core.speedups import core, own, put
from .._core.waits import Waiting
from .hold import LockHold
from .surface import LockSurface, SignatureOfInit

if TYPE_CHECKING or core is None:
    from .._core.reentrant import RLockInC as _CLock
else:
    _CLock = core.Lock

# Why the lock *is* a C lock, and one that knows its owner
# ---------------------------------------------------------
# An interrupt (a KeyboardInterrupt, or any asynchronous exception) is delivered on entry to a Python function, after
# the call of a C function, and on a loop's jump back; nowhere else. If a lock's `__exit__` is a Python function, an
# interrupt on entry can end it, and the lock stays locked forever. Therefore `release` and `__exit__` are C's,
# inherited unchanged.
#
# An acquisition may be in Python: nothing is delivered between its `return` and the caller's next instruction. Inside
# it, an interrupt may come after C has acquired the lock and before Python knows it. So the handler's *first* call is
# C's release, which knows whether there is anything to undo: it raises RuntimeError if this thread does not hold the
# lock. That is conclusive, because the thread did not hold the lock when it entered a `try` below.
#
# The C lock behind `threading.RLock` is the only one that can be subclassed and knows its owner. It is reentrant. To
# make a lock that is not reentrant, we first check whether the caller holds it already.
#
# With the compiled core, the C lock is the core's, in the same place and used in the same way: see `_speedups.c`. The
# core's lock and its tokens also enter, as long as the lock is free and no hook is overridden. Not on 3.14: there an
# interrupt may come between the return of an `__enter__` in C and the body (gh-148874, fixed in 3.15).
#
# The uncontended path records nothing: no holder, no time. The C lock's repr has all that a waiter needs to know.
#
# Rejected:
# - A lock inside a Python object. Its `__exit__` leaks. If the object has the inner lock's `__exit__`, a `with` costs a
#   tenth less, but keeps only the inner lock alive: locks in a weak dictionary would no longer exclude each other.
# - `@contextmanager`, which leaks and costs nine times as much.
# - A holder that is stored on acquisition: an interrupt may come before that second store, and it costs every
#   acquisition.

# The default of `timeout`. It is compared by identity, which is fast and calls no method of the caller's object.
_ENDLESS: Final[float] = -1

# The ways in which the core may acquire the lock; the core has the same numbers.
_BY_WITH: Final = 1
_BY_HOLD: Final = 2

_c_try: Callable[[_CLock, bool], bool] = _CLock.acquire
_c_acquire = _CLock.acquire
_c_release = _CLock.release
_c_repr = _CLock.__repr__
_c_release_save = _CLock._release_save
_c_acquire_restore = _CLock._acquire_restore


class TimedLock(LockSurface, _CLock):
    """A lock like `threading.Lock` with a timeout. It names its holder when a wait fails, and refuses to deadlock.

    Use it in place of a `threading.Lock` if you prefer an error to a hang. Think of the only key to a reading room: a
    reader who waits too long for the key learns who has it and at which desk they sit. If two readers each have one key
    and wait for the other's, one of them learns that at once.

    Args:
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        name: The lock's name in messages. The default is like ``TimedLock-7``.

    Raises:
        ValueError: The timeout is negative or NaN.
        OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        TypeError: The timeout is not a number, or the name is not a string.

    Example:
        >>> from syncprims import TimedLock
        >>> accounts = TimedLock(timeout=2.0, name="accounts")
        >>> with accounts:
        ...     accounts.held_by_me()
        True

    **Fairness.** None, as with `threading.Lock`: a thread that arrives at the right moment may overtake threads that
    are waiting.

    **Thread safety.** All methods may be called from any thread, and from signal handlers and finalizers. The body of a
    ``with`` never runs without the lock, and an interrupt (Ctrl-C, or any asynchronous exception) never leaves the lock
    acquired.

    **Differences from threading.** Only the thread that acquired the lock may release it, as with `threading.RLock`;
    any other thread gets a `RuntimeError`. A thread gets a `DeadlockError` at once if it waits for a lock that it holds
    itself, or if its wait would complete a cycle. An `acquire` with a finite timeout never raises that error; it
    returns False when the time is up, as in `threading`. A thread that ends while it holds the lock leaves it locked.
    The system may give its ident to a new thread, which then looks like the holder. Use ``with``, which avoids this.

    **Subclassing.** Override any of three hooks: `_on_wait`, `_on_acquired` and `_on_timeout`. A hook runs in the
    thread that waits or acquires, while the thread holds none of the library's internal locks. It must be short, and
    costs nothing unless overridden. If a hook raises, the lock is not acquired, and the caller gets the exception. You
    may override public methods too, but they don't call each other. ``with`` calls `__enter__` and `__exit__`, but not
    `acquire` and `release`. `hold` calls only `__exit__`, and `acquire_all` none of them. A `threading.Condition` calls
    all four, except in its ``wait``. If you write `__exit__` or `release` in Python, an interrupt on entry to it leaves
    the lock acquired.
    """

    # With the core, `_token` is a field in C.
    __slots__ = ("_name", "_serial", "_timeout", *(("_token",) if core is None else ()))

    # The fast path tries this first. If hooks are overridden, it is a C function that always returns False. Then every
    # acquisition takes the slow path, which calls the hooks.
    _try: ClassVar[Callable[[TimedLock, bool], bool]] = _c_try
    _overrides_on_wait: ClassVar[bool] = False
    # The ways in which the core may acquire the lock: those that bypass no overridden method.
    _in_c: ClassVar[int] = _BY_WITH | _BY_HOLD

    __signature__: ClassVar[SignatureOfInit] = SignatureOfInit()

    def __new__(cls, *args: object, **kwargs: object) -> Self:  # noqa: ARG004  they are for __init__
        """Make the C lock, which takes no arguments; `__init__` takes them, here and in subclasses."""
        return super().__new__(cls)

    def __init__(self, timeout: float | None = None, *, name: str | None = None) -> None:
        self._timeout = check_timeout(timeout)
        self._name = check_name(name)
        self._token: LockHold[Self] | None = None
        if core is not None:
            self._ways = self._in_c
        if type(self._name) is not InnerName:  # the library makes inner locks at import too, which must never raise
            refuse_greenlets()
        self._serial = register(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls._on_acquired is not TimedLock._on_acquired:
            cls._try = staticmethod(bool)  # type: ignore[assignment]  # in C, and bool(False) is False
        cls._overrides_on_wait = cls._on_wait is not TimedLock._on_wait
        if core is not None:
            _find_ways(cls)

    # `acquire_all` releases with this C function, even if a subclass overrides `release`.
    _release = _CLock.release
    _in_python: ClassVar[bool] = False

    if core is not None:

        def release(self) -> None:
            """Release the lock.

            Raises:
                RuntimeError: The calling thread does not hold it.
            """
            # The core releases the lock, and calls this only if this thread does not hold it. CPython's lock can't name
            # the holder.
            holder = self.holder
            why = (
                f"it is held by {describe(holder, self)}, and only its holder may release it"
                if holder
                else "it is free"
            )
            raise RuntimeError(f"cannot release un-acquired lock {self.name!r}: {why}")

    # -- what it is ---------------------------------------------------------------------------------------------

    def locked(self) -> bool:
        """Return whether any thread holds the lock right now; never blocks."""
        return _c_repr(self).startswith("<locked")

    def held_by_me(self) -> bool:
        """Return whether the calling thread holds the lock; never blocks.

        Example:
            >>> from syncprims import TimedLock
            >>> TimedLock().held_by_me()
            False
        """
        return self._is_owned()

    def _owner(self) -> int | None:
        return int(_c_repr(self).rpartition(" owner=")[2].partition(" ")[0]) or None

    def _up_to(self, waiter: int) -> int | None:
        owner = self._owner()
        return None if owner == waiter else owner  # the waiter has just acquired it

    _is_mine = _CLock._is_owned

    def __repr__(self) -> str:
        kind = type(self)
        module = "syncprims" if kind.__module__ == __name__ else kind.__module__
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} {module}.{kind.__qualname__} object {self.name!r} at {id(self):#x}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: a lock belongs to one process; make one where it is needed, or share "
            f"a multiprocessing.Lock through syncprims.LockAdapter"
        )

    # -- acquiring it ------------------------------------------------------------------------------------------- The
    # three ways to acquire repeat a few lines, because a call costs as much as the lock itself.

    def __enter__(self) -> Self:
        """Acquire the lock; wait at most the constructor's timeout.

        Returns:
            The lock.

        Raises:
            LockTimeoutError: It was not free in time. The error names the holder.
            DeadlockError: This thread holds it already, or the wait would complete a cycle.
        """
        if self._is_owned():
            return self._enter_again()
        try:
            if self._try(False):
                return self
            self._wait(self._timeout, True)
            return self
        except BaseException:
            try:
                _c_release(self)
            except RuntimeError:
                pass
            raise

    def _enter_within(self, timeout: float | None) -> Self:
        if self._is_owned():
            return self._enter_again()
        try:
            if self._try(False):
                return self
            self._wait(timeout, True)
            return self
        except BaseException:
            try:
                _c_release(self)
            except RuntimeError:
                pass
            raise

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Acquire the lock like `threading.Lock.acquire`; the constructor's timeout is not used.

        Args:
            blocking: False tries once and does not wait.
            timeout: How long to wait, in seconds. -1, the default, and None wait forever.

        Returns:
            Whether the lock was acquired. False means that the attempt failed or the time was up.

        Raises:
            DeadlockError: The wait has no limit, and this thread holds the lock already or the wait would complete a
                cycle. A wait with a limit never raises it.
            TypeError: ``blocking`` is neither a `bool` nor 0 or 1. (In `threading`, ``acquire(5)`` waits forever.)
            ValueError: A timeout was given with ``blocking=False``, or it is NaN or a negative number other than -1.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.

        Example:
            >>> from syncprims import TimedLock
            >>> lock = TimedLock()
            >>> if lock.acquire(timeout=0.5):
            ...     try:
            ...         print("working")
            ...     finally:
            ...         lock.release()
            working
        """
        limit = None if blocking is True and timeout is _ENDLESS else check_acquire(blocking, timeout)
        if self._is_owned():
            return self._acquire_again(limit)
        try:
            return self._try(False) or self._wait(limit, False)
        except BaseException:
            try:
                _c_release(self)
            except RuntimeError:
                pass
            raise

    def hold(self, timeout: float | None) -> AbstractContextManager[Self]:
        """Return a context manager that acquires the lock with this timeout instead of the constructor's.

        You may keep the context manager and reuse it, even in several threads. The lock caches the last one that it
        made.

        Args:
            timeout: How long ``with`` waits, in seconds. None waits forever; 0 does not wait.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.

        Example:
            >>> from syncprims import TimedLock
            >>> lock = TimedLock(name="ledger")
            >>> with lock.hold(0.5):
            ...     print("at most half a second")
            at most half a second
        """
        token = self._token
        if token is None or (token.timeout is not timeout and token.timeout != (timeout := check_timeout(timeout))):
            token = self._token = LockHold(self, check_timeout(timeout))
        return token

    def _wait(self, limit: float | None, raises: bool) -> bool:
        """Acquire the lock by the slow path, with the hooks and a wait. If it raises, the caller releases the lock."""
        waited = 0.0
        if not _c_try(self, False):
            if limit == 0:
                return self._give_up(limit, 0.0, raises)
            started = monotonic()
            deadline_at = None if limit is None else started + limit
            if self._overrides_on_wait:
                self._on_wait(self.holder)
            waiting = Waiting(self, deadline_at, takes_part=raises or limit is None)
            try:
                waiting.publish()
                refuse_deadlock(waiting)
                if deadline_at is None:
                    taken = _c_acquire(self)
                else:
                    taken = _c_acquire(self, True, max(0.0, deadline_at - monotonic()))
            finally:
                waiting.withdraw()
            waited = monotonic() - started
            if not taken:
                return self._give_up(limit, waited, raises)
        self._on_acquired(waited)
        return True

    def _give_up(self, limit: float | None, waited: float, raises: bool) -> bool:
        if raises:
            raise self._late(limit, waited)
        return False

    def _enter_again(self) -> Self:
        """Enter a lock that the thread holds."""
        refuse_greenlets()
        raise own_deadlock(self.name, "release it first, or use a TimedRLock", self)

    def _acquire_again(self, limit: float | None) -> bool:
        """Acquire a lock that the thread holds."""
        refuse_greenlets()
        if limit is None:
            raise own_deadlock(self.name, "release it first, or use a TimedRLock", self)
        if limit:
            waiting = Waiting(self, monotonic() + limit, takes_part=False)
            try:
                waiting.publish()
                sleep(limit)
            finally:
                waiting.withdraw()
        return False

    # -- threading.Condition, fork ------------------------------------------------------------------------------ A
    # condition calls _release_save() to release the lock, and passes its result to _acquire_restore() to acquire it
    # again. The second call must succeed whatever comes, and be visible in the wait-for graph. So the result is a
    # generator that is suspended inside its own `try`, and _acquire_restore is the C function that resumes it.

    def _release_save(self) -> Generator[None, None, None]:
        again = self._taking_back()
        try:
            next(again)
            return again
        except BaseException:
            # If the interrupt came after the generator's step, the lock is released already. The block must have it
            # again now, and not only when the exception, and with it the generator, has gone away.
            again.close()
            raise

    _acquire_restore = staticmethod(next)

    def _taking_back(self) -> Generator[None, None, None]:
        waiting = Waiting(self, victim=False)
        state: Any = None
        try:
            # In this form no interrupt comes between C's success and the store; after a plain call one could.
            (state,) = map(_c_release_save, (self,))
            yield
            waiting.publish()
            refuse_deadlock(waiting)
        finally:
            try:
                if state is not None:
                    _c_acquire_restore(self, state)
            finally:
                waiting.withdraw()
        yield

    @staticmethod
    def _after_fork(locks: Collection[TimedLock]) -> None:
        deque(map(_CLock._at_fork_reinit, filterfalse(_CLock._is_owned, locks)), 0)

    _observable: ClassVar[Observable] = Observable(
        {
            "__enter__": Event("takes", lambda lock: lock._timeout != 0),
            "_enter_within": Event("takes", lambda _, timeout: timeout != 0),
            "acquire": Event(
                "takes", lambda _, blocking=True, timeout=-1: blocking and (timeout is None or timeout == -1)
            ),
            "release": Event("gives"),
            "_release": Event("gives"),
            "__exit__": Event("gives"),
            "_taking_back": Event("lends"),
        },
        is_held=_CLock._is_owned,
        undo=_c_release,
        is_exclusive=True,
        is_inner=lambda lock: type(lock._name) is InnerName,
    )


if core is not None:
    # A lock that the forking thread holds also has to forget the threads that waited for it.
    repair_by_reference(TimedLock._after_fork, core.locks_in_child)

    put(TimedLock, "release", "hold", *(() if sys.version_info[:2] == (3, 14) else ("__enter__",)))
    own(TimedLock, "__exit__", "_is_owned")
    _ways_past = {name: vars(TimedLock)[name] for name in ("_enter_within", "__exit__")}
    _c_enter: Final = None if sys.version_info[:2] == (3, 14) else vars(TimedLock)["__enter__"]
    _must_part: list[type[TimedLock]] = []

    def _find_ways(cls: type[TimedLock]) -> None:
        """Find out in which ways the core may acquire the locks of a subclass."""
        hooks = cls._on_acquired is not TimedLock._on_acquired
        by_with = not hooks and cls.__enter__ is TimedLock.__enter__
        by_hold = not hooks and all(getattr(cls, name) is getattr(TimedLock, name) for name in _ways_past)
        cls._in_c = (_BY_WITH if by_with else 0) | (_BY_HOLD if by_hold else 0)
        if not by_with and not _must_part:
            _must_part.append(cls)
            _settle()

    def _settle() -> None:
        """Keep the core from bypassing an observed method, and give Python's `__enter__` to subclasses that need it.

        An interrupt may come after a call of C, and not after a call of Python. If a subclass overrides `__enter__` and
        calls the inherited one, it must get Python's; otherwise an interrupt could end it with the lock acquired. The
        core's `Entrance` distinguishes the two cases. It is slower from 3.15 on, so it is installed only when it is
        needed.
        """
        if _must_part and _c_enter is not None and vars(TimedLock)["__enter__"] is _c_enter:
            TimedLock.__enter__ = core.entrance()  # type: ignore[method-assign]  # replaces another one in C
        core.let_tokens_pass(all(vars(TimedLock)[name] is method for name, method in _ways_past.items()))

    hear_of_exchanges(_settle)
    _settle()


class TimedRLock(TimedLock):
    """A reentrant `TimedLock`: its holder may acquire it again, and must release it as many times.

    Use it when a method that holds the lock calls another method that acquires it.

    Example:
        >>> from syncprims import TimedRLock
        >>> lock = TimedRLock(timeout=2.0)
        >>> with lock, lock:
        ...     lock.held_by_me()
        True
        >>> lock.held_by_me()
        False

    **Fairness.** None, as with `threading.RLock`.

    **Thread safety.** Like `TimedLock`. An interrupt never makes the number of acquisitions wrong.

    **Differences from threading.** A thread whose wait would complete a cycle gets a `DeadlockError`; `acquire` with a
    finite timeout never raises it.

    **Subclassing.** Like `TimedLock`; `_on_acquired` is called for each acquisition, including repeated ones.
    """

    __slots__ = ()

    def _enter_again(self) -> Self:
        self._acquire_again(None)
        return self

    def _acquire_again(self, limit: float | None) -> bool:  # noqa: ARG002  it never waits
        refuse_greenlets()
        # Whether this thread holds the lock does not show whether there is something to undo. So the outcome is stored,
        # in a form that lets no interrupt come before the store.
        taken = False
        try:
            (taken,) = map(_c_acquire, (self,))
            self._on_acquired(0.0)
            return True
        except BaseException:
            if taken:
                _c_release(self)
            raise
