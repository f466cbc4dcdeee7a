"""`SharedLock`: the base of the locks that several threads may hold at once."""

from __future__ import annotations

from _queue import Empty
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import repeat
from operator import call, is_not
from threading import get_ident
from typing import Any, ClassVar, Final, Generic, NoReturn, Self, TypeVar

from .._core.clock import monotonic
from .._core.deadline import check_timeout
from .._core.deadlocks import refuse_deadlock
from .._core.greenlets import refuse_greenlets
from .._core.holders import describe, holder_of
from .._core.interrupts import Leave, leave_at_once
from .._core.mailbox import Mailbox
from .._core.observing import Observable
from .._core.reentrant import RLock
from .._core.registry import check_name
from .._core.state import State
from .._core.waits import UpTo, Waiting
from ..facts import Holder
from .surface import LockSurface

# Holders and waiters
# -------------------
# There are two lists. `_held` has a token for each hold: the ident of the thread, or its negative for a hold of another
# kind. So equal tokens are interchangeable. `_line` has the waiters in the order of arrival, and `_nobody` at its end.
#
# A release is one call of C: it removes a token from `_held`, and only then looks at the first waiter in the line and
# rings its bell; `_nobody` has a bell that does nothing. No interrupt splits this call, and it leaves no work for
# Python code. A waiter joins the line before it looks at `_held`. So at least one of the two sees the other.
#
# Only the first in the line may go in. It adds its token to `_held`, leaves the line, and rings the next waiter, which
# may be able to go in as well: another reader, or the next one after a waiter that has given up. Leaving the line and
# ringing is one call of C, the first in a `finally`. An unnecessary ring costs one look.
#
# Threads leave the line at any moment, without `_guard`. So the call that inserts a waiter counts its place from the
# end of the line. A place counted before the call, from the beginning, may be behind `_nobody` by then, and a waiter
# there is never rung.
#
# A signal handler or a finalizer may run while its thread has `_guard`. If it waits, it goes to the front of the line:
# the others can't go in before it ends.
#
# Without the GIL, CPython locks the list during these operations, so that each is one step: adding in place, `insert`,
# `remove`, an item by its index, a slice, and assigning an item to an empty slice. `in`, `index`, `count` and iteration
# are several steps: they go from one index to the next, and miss an item that moves to a lower index when one before it
# is removed. So they get a copy.
#
# The fast path, which needs no mutex
# -----------------------------------
# `_open` is true while no thread waits. Then a newcomer adds its token to `_held` first, and checks whether it fits
# afterwards. That never lets in one too many: of two newcomers that come at once and don't fit together, at least one
# sees the token of the other. If the token does not fit, the newcomer removes it, rings, and takes the slow path.
# Between adding and checking, no interrupt can be delivered. So no signal handler finds a token of its own thread that
# does not fit.
#
# Another thread may have seen a token that is removed again. If that thread waits, it is rung. If it tries without
# waiting, or its time is up, it fails. That is right, because the newcomer waits from then on. So a try must not take
# the fast path: two tries could fail because of each other. A try checks and goes in under `_guard`, like everything on
# the slow path. (With the GIL no other thread sees such a token, because threads switch only where interrupts are
# delivered. A tracer or a monitoring tool in Python breaks that rule.)
#
# `_open` changes under `_guard` alone. It becomes false when a thread joins the line, and true again when a thread on
# the slow path finds the line empty. If it is false without need, one thread loses a little time.
#
# Rejected: a count of what is free beside a list of holders (two stores, and C can't add); a permit as an object that
# is handed on (an interrupted waiter would have to hand it on itself); waking all waiters.

# Seconds after which a waiter looks again, because a signal that comes just before a wait does not end it.
_SLICE: Final = 0.5

# The end of the line, and the first item of an empty one: a function of C that does nothing and returns None.
_nobody: Final = list[object]().clear

# A message describes this many holders.
_SHOWN: Final = 3


class Queued(partial[None]):
    """One thread in the line; calling it rings its bell, in C.

    For the search for deadlocks it is also the group of threads that have to act before this thread can go on.

    Attributes:
        bell: The gate that the thread waits at.
        lock: The lock that it waits for.
        token: The token that it will add to the holds.
        ident: The thread.
        endless: Whether it never gives up.
        had: How many equal tokens its thread had among the holds when it began to wait.
        one_is_enough: False, because all of the group have to act.
    """

    bell: Mailbox[None]
    lock: SharedLock
    token: int
    ident: int
    endless: bool
    had: int
    one_is_enough: bool

    def __new__(cls, lock: SharedLock, token: int, endless: bool) -> Self:
        """Make one for the calling thread."""
        bell: Mailbox[None] = Mailbox()
        self = super().__new__(cls, bell.putting(None))
        self.bell, self.lock, self.token, self.ident = bell, lock, token, get_ident()
        self.endless, self.one_is_enough = endless, False
        self.had = lock._holds_like(self)
        return self

    def members(self) -> Collection[UpTo]:
        """The threads that have to act."""
        return self.lock._must_act(self)


class SharedLock(LockSurface):
    """A lock that several threads may hold at once, as far as a subclass has room for them.

    A subclass defines three methods. `_go_in` checks whether another hold fits, `_inside` returns the tokens that do,
    and `_must_act` returns the threads that a waiter waits for. It acquires by `_take` and by a fast path that it has
    to write in place, and releases by `_releases` and `_leaves`. It registers itself when it is made.
    """

    __slots__ = (
        "__weakref__",
        "_fast",
        "_guard",
        "_held",
        "_leaves",
        "_line",
        "_name",
        "_open",
        "_releases",
        "_ring",
        "_serial",
        "_timeout",
    )

    # Whether there is a fast path: there is none if a hook has to be called.
    _has_fast_path: ClassVar[bool] = True
    _overrides_on_wait: ClassVar[bool] = False

    def __init__(self, timeout: float | None, name: str | None) -> None:
        refuse_greenlets()
        self._timeout = check_timeout(timeout)
        self._name = check_name(name)
        # The comment above says which operations change these, and how:
        self._held: list[int] = []
        self._line: list[Callable[[], None]] = [_nobody]
        self._guard = RLock()
        self._fast: Final = self._has_fast_path and self._timeout != 0
        self._open = self._fast
        self._ring: Callable[[], None] = partial(next, self._ringing())
        # For each token the functions that release one such hold: without arguments, and as an `__exit__`. They are
        # made once, and before anything is acquired, so that a release allocates nothing.
        self._releases: dict[int, Callable[[], object]] = {}
        self._leaves: dict[int, Leave] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._has_fast_path = cls._on_acquired is SharedLock._on_acquired
        cls._overrides_on_wait = cls._on_wait is not SharedLock._on_wait

    # -- for subclasses -----------------------------------------------------------------------------------------

    def _go_in(self, token: int, /) -> bool:
        """Add a hold with this token if it fits beside the present ones, and return whether it did.

        It is called under `_guard`. It must call nothing between adding the token and checking whether the token fits.
        """
        raise NotImplementedError

    def _inside(self) -> list[int]:
        """The tokens of the holders, without a token that is about to be removed because it does not fit."""
        raise NotImplementedError

    def _overtakes(self, token: int, /) -> list[Queued]:  # noqa: ARG002  for those in which some go first
        """The waiters at the end of the line that a new one goes ahead of. It is called under `_guard`."""
        return []

    def _must_act(self, queued: Queued, /) -> Collection[UpTo]:
        """The threads that have to act before this waiter can go in; none if it can."""
        raise NotImplementedError

    def _ahead_of(self, queued: Queued) -> list[Queued]:
        """The waiters that are before this one in the line."""
        waiting = self._waiters()
        return waiting[: waiting.index(queued)] if queued in waiting else []

    def _behind(self, queued: Queued) -> list[Queued]:
        """The waiters that are behind this one in the line."""
        waiting = self._waiters()
        return waiting[waiting.index(queued) + 1 :]

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The threads that hold it right now, each once, the longest hold first. A snapshot; never blocks."""
        return tuple(holder for ident in self._owners() if (holder := holder_of(ident)) is not None)

    @property
    def holder(self) -> Holder | None:
        """The thread that has held it for the longest time, or None. A snapshot, best effort; never blocks."""
        return holder_of(self._owner())

    @property
    def waiting(self) -> int:
        """How many threads wait for it right now."""
        return len(self._waiters())

    def _owners(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(map(abs, self._inside())))

    def _owner(self) -> int | None:
        return next(iter(self._owners()), None)

    def _waiters(self) -> list[Queued]:
        return [each for each in self._line[:] if isinstance(each, Queued)]

    def _up_to(self, waiter: int) -> UpTo:
        queued = next((each for each in reversed(self._waiters()) if each.ident == waiter), None)
        # A waiter that has gone in is in the line for another moment, but no longer waits.
        return None if queued is None or self._holds_like(queued) > queued.had else queued

    def _holds_like(self, queued: Queued) -> int:
        """How many holds of the kind that it waits for the thread has."""
        return self._inside().count(queued.token)

    def _is_mine(self) -> bool:
        me = get_ident()
        return me in map(abs, self._held[:]) or any(each.ident == me for each in self._waiters())

    def _state(self) -> State | None:
        owner, *others = self._owners() or (None,)
        return State(self, type(self).__name__, self.name, owner, is_lock=True, too=tuple(filter(None, others)))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: it belongs to the threads of one process; make one where it is needed"
        )

    # -- acquiring it -------------------------------------------------------------------------------------------

    def _take(self, token: int, limit: float | None, raises: bool) -> bool:
        """Acquire the lock by the slow path, with the hooks and a wait.

        Args:
            token: The token to add to the holds.
            limit: How many seconds to wait.
            raises: Whether to raise if the lock was not free in time; otherwise the result is False.
        """
        refuse_greenlets()
        line, release = self._line, self._release_of(token)
        taken = False
        waited = 0.0
        try:
            with self._guard:
                if not line[1:]:
                    self._open = self._fast
                    taken = self._go_in(token)
            if not taken and limit != 0:
                started = monotonic()
                deadline_at = None if limit is None else started + limit
                if self._overrides_on_wait:
                    self._on_wait(self.holder)
                waiting = Waiting(self, deadline_at, takes_part=raises or limit is None)
                queued = Queued(self, token, limit is None)
                leave_line = self._removing(line, repeat(queued))
                queues = False
                try:
                    waiting.publish()
                    is_handler = self._guard._is_owned()
                    with self._guard:
                        self._open = False
                        queues = True
                        if is_handler:
                            line.insert(0, queued)
                        else:
                            self._join_line(queued, leave_line)
                    refuse_deadlock(waiting)
                    while True:
                        left = _SLICE if deadline_at is None else deadline_at - monotonic()
                        # Other threads must see the last look and leaving the line as one step. Otherwise one of them
                        # could give up, or fail to get in, because of this waiter, which has given up.
                        with self._guard:
                            if line[0] is queued:
                                taken = self._go_in(token)
                            if left <= 0 and not taken:
                                queues = False
                                leave_line()
                        if taken or left <= 0:
                            break
                        try:
                            queued.bell.get(min(left, _SLICE))
                        except Empty:
                            pass
                finally:
                    try:
                        if queues:
                            leave_line()
                    except ValueError:
                        pass  # the waiter never got into the line
                    finally:
                        waiting.withdraw()
                waited = monotonic() - started
            if taken:
                self._on_acquired(waited)
                return True
        except BaseException:
            if taken:
                release()
            raise
        if raises:
            raise self._late(limit, waited, self._say_holders(self.holders, token))
        return False

    def _join_line(self, queued: Queued, leave_line: Callable[[], object]) -> None:
        """Put a waiter into its place in the line. It is called under `_guard`."""
        while True:
            overtakes = self._overtakes(queued.token)
            self._line.insert(-1 - len(overtakes), queued)
            if not overtakes or {*self._behind(queued)} <= {*overtakes}:
                return
            # A waiter that it should follow has just left the line, so its place is too far ahead.
            leave_line()

    def _release_of(self, token: int) -> Callable[[], object]:
        """Return a C function that releases one hold with this token, and raises ValueError if there is none."""
        release = self._releases.get(token)
        if release is None:
            release = self._releases.setdefault(token, self._removing(self._held, repeat(token)))
        return release

    def _leave_of(self, token: int) -> Leave:
        """Return the same as an ``__exit__``."""
        return self._leaves.setdefault(token, leave_at_once(self._release_of(token)))

    def _removing(self, items: list[Any], which: Iterator[object]) -> Callable[[], object]:
        """Make a C function that removes the next of `which` from the list, and then rings; it may be used again.

        If the list does not have that item, it raises ValueError and rings no bell.
        """
        # One call of C iterates over both, in this order. Both return None, so this returns False.
        return map(is_not, map(items.remove, which), self._ringing()).__next__

    def _ringing(self) -> Iterator[None]:
        """Make an iterator that rings the bell of the first in the line with each `next`."""
        first: Iterator[Callable[[], None]] = map(self._line.__getitem__, repeat(0))
        return map(call, first)

    # -- what it reports ----------------------------------------------------------------------------------------

    def _known_holders(self) -> tuple[Holder, ...]:
        return self.holders

    def _say_holders(self, holders: tuple[Holder, ...], token: int) -> str:  # noqa: ARG002  for those with tokens of two kinds
        """Say why a waiter with this token was not let in."""
        shown = [describe(holder, self) for holder in holders[:_SHOWN]]
        if len(holders) > _SHOWN:
            shown.append(f"{len(holders) - _SHOWN} more threads, which are all in .holders")
        return f"held by {' and by '.join(shown)}" if shown else "which others wait for too"

    _observable: ClassVar[Observable] = Observable({})  # each subclass has its own

    @staticmethod
    def _after_fork(locks: Collection[SharedLock]) -> None:
        me = get_ident()
        for lock in locks:
            if lock._held:
                lock._held[:] = [token for token in lock._held if abs(token) == me]
            if lock._line[1:]:
                lock._line[:] = [*(each for each in lock._waiters() if each.ident == me), _nobody]
            if not lock._guard._is_owned():
                lock._guard._at_fork_reinit()


_L_co = TypeVar("_L_co", bound=SharedLock, covariant=True)


class SharedHold(Generic[_L_co]):
    """A ``with`` on a shared lock by a hold of one kind; a subclass defines how it enters and leaves.

    It is as safe as the lock, because its ``__exit__`` is in C.
    """

    __slots__ = ("_lock", "timeout")

    # What `acquire_all` needs of a lock:
    _shared_name: ClassVar[str] = ""
    _in_python: ClassVar[bool] = False

    def __init__(self, lock: _L_co, timeout: float | None) -> None:
        self._lock = lock
        self.timeout: float | None = timeout

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._lock.name

    @property
    def _serial(self) -> int:
        return self._lock._serial

    @property
    def _whole(self) -> _L_co:
        return self._lock
