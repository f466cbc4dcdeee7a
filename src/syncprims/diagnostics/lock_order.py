"""`check_lock_order`: reports two locks that are acquired in both orders, before they deadlock."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from traceback import FrameSummary
from types import TracebackType
from typing import Literal, Self
from weakref import ref

from .._core.foreign import guarded, printable, words
from .._core.observing import ObservableLock, observable_of, serial_of
from .._core.registry import InnerName
from .._core.stacks import say_frame, whereabouts
from .._core.state import name_of
from ..errors import LockOrderError
from .call_sites import own_stack
from .exchange import Unseen
from .lock_events import locks
from .order_graph import OrderGraph

# The graph has an edge from A to B if some thread took B, or was about to, while it held A. A new edge that closes a
# cycle is an inversion: threads that run through all of its edges at once can deadlock.
#
# An edge can be harmless for two reasons. A wait may end by itself, like a try: then it makes no edge. Or a third lock,
# the guard, was held at two of the edges: it keeps their threads apart. Each edge therefore remembers which locks were
# held every time it was seen.
#
# Looking for a cycle and adding the edge is one step, under a mutex: of two threads that come with the two halves of an
# inversion at once, the second sees the first's half. An edge that is known already is looked up without the mutex.
#
# Locks are identified by their creation serials.
#
# Rejected: an order by name or class of locks (Linux's lockdep): it reports two accounts that are locked in the order
# of their numbers.

Action = Literal["raise", "warn"]
Key = tuple[int, int]

ENVIRONMENT = "SYNCPRIMS_LOCK_ORDER"


class LockOrderWarning(RuntimeWarning):
    """Two locks were acquired in both orders. The warning of `check_lock_order("warn")`.

    Example:
        >>> import warnings
        >>> from syncprims.diagnostics import LockOrderWarning
        >>> warnings.simplefilter("error", LockOrderWarning)
    """


class _Edge:
    """One lock was taken while another was held.

    Attributes:
        text: The two locks, and the places in the program.
        stack: The stack where it was seen first.
        guards: The other locks that were held each time.
        reported: Whether it is an inversion that has been reported.
    """

    __slots__ = ("guards", "reported", "stack", "text")

    def __init__(self, text: str, stack: tuple[FrameSummary, ...], guards: frozenset[Key]) -> None:
        self.text = text
        self.stack = stack
        self.guards = guards
        self.reported = False


class _Held:
    __slots__ = ("key", "lock")

    def __init__(self, lock: ObservableLock) -> None:
        self.key = _key(lock)
        self.lock = ref(lock)


def _key(lock: ObservableLock) -> Key:
    return serial_of(lock), id(lock)  # free-threaded 3.13 may hand out a serial twice


class LockOrderCheck:
    """The context manager that `check_lock_order` returns. It checks inside its ``with``.

    Attributes:
        action: ``"raise"`` or ``"warn"``: what it does when it finds an inversion.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import check_lock_order
        >>> a, b = TimedLock(name="a"), TimedLock(name="b")
        >>> with check_lock_order() as check:
        ...     with a, b:
        ...         pass
        ...
        >>> check.inversions
        ()
    """

    def __init__(self, action: Action) -> None:
        if action not in ("raise", "warn"):
            raise ValueError(f'a lock-order check can "raise" or "warn", not {action!r}')
        self.action: Action = action
        # The locks that each thread holds, latest last; written by that thread alone.
        self._held: dict[int, list[_Held]] = {}
        self._mutex = Unseen(name=InnerName("diagnostics"))
        # Guarded by _mutex:
        self._graph: OrderGraph[Key, _Edge] = OrderGraph()
        self._inversions: list[LockOrderError] = []

    @property
    def inversions(self) -> tuple[LockOrderError, ...]:
        """The inversions that it has found so far, each once, as errors. They may not have been raised."""
        return tuple(self._inversions)

    def __enter__(self) -> Self:
        locks.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        locks.remove(self)

    # -- events of locks ------------------------------------------------------------------------------------------

    def asks(self, lock: ObservableLock, endless: bool) -> None:
        """Note the order in which the thread acquires its locks, and report an inversion."""
        holding = self._held.get(get_ident())
        if not holding or not endless or _ignoring:
            return
        # A lock may have been released without notice, by a function that was looked up before the check began.
        held = [
            (each, holder)
            for each in list(holding)
            if (holder := each.lock()) is not None and observable_of(holder).is_held(holder)
        ]
        key = _key(lock)
        guards = frozenset(each.key for each, holder in held if observable_of(holder).is_exclusive)
        for each, holder in held:
            edge = self._graph.edge(each.key, key)
            if edge is None or edge.reported or not edge.guards <= guards:
                self._see(holder, lock, guards - {each.key, key})

    def taken(self, lock: ObservableLock, at: int) -> None:  # noqa: ARG002  when does not matter here
        """Note that the thread has the lock."""
        self._held.setdefault(get_ident(), []).append(_Held(lock))

    def taken_again(self, lock: ObservableLock) -> None:
        """Do nothing: a lock that the thread holds already makes no order."""

    def refused(self, lock: ObservableLock, error: BaseException | None) -> None:
        """Do nothing: a lock that the thread did not get makes no order."""

    def released(self, lock: ObservableLock, at: int) -> None:  # noqa: ARG002  the same
        """Note that the thread does not hold the lock any more."""
        me, key = get_ident(), _key(lock)
        left = [each for each in self._held.get(me, ()) if each.key != key]
        if left:
            self._held[me] = left
        else:
            self._held.pop(me, None)

    # -- the graph ------------------------------------------------------------------------------------------------

    def _see(self, held: ObservableLock, lock: ObservableLock, guards: frozenset[Key]) -> None:
        stack = own_stack()
        with self._mutex:
            error, fresh = self._add(held, lock, guards, stack)
        if error is not None and self.action == "raise":
            raise error
        if error is not None and fresh:
            place = stack[-1] if stack else FrameSummary("<unknown>", 1, "")
            warnings.warn_explicit(str(error), LockOrderWarning, place.filename, place.lineno or 1)

    def _add(
        self, held: ObservableLock, lock: ObservableLock, guards: frozenset[Key], stack: tuple[FrameSummary, ...]
    ) -> tuple[LockOrderError | None, bool]:
        """Add an edge; return the error if it is an inversion, and whether it is a new one."""
        graph = self._graph
        graph.forget_gone()
        first, second = _key(held), _key(lock)
        edge = graph.edge(first, second)
        if edge is None:
            edge = _Edge(f"{words(name_of(lock))} while it held {words(name_of(held))}", stack, guards)
        else:
            edge.guards &= guards
        # A reported edge is kept so that it is known, but a path through it must not make each later edge an inversion.
        path = graph.path(second, first, edge.guards, through_reported=False)
        error = None if path is None else _inversion(edge, stack, path)
        fresh = error is not None and not edge.reported
        if error is None or fresh:
            edge.reported = fresh  # it may have been reported before, through a lock that is gone
            graph.add(first, second, edge)
            graph.watch(first, held)
            graph.watch(second, lock)
        if error is not None and fresh:
            self._inversions.append(error)
        return error, fresh


def _tell(stack: tuple[FrameSummary, ...]) -> str:
    lines = []
    for frame in stack:
        lines.append(f"  {say_frame(frame)}\n")
        if source := guarded("", lambda: frame.line or ""):  # noqa: B023  called at once
            lines.append(f"    {printable(source)}\n")
    return "".join(lines)


def _inversion(edge: _Edge, stack: tuple[FrameSummary, ...], path: list[_Edge]) -> LockOrderError:
    now = _tell(stack)
    first_seen = "\n".join(_tell(each.stack) for each in path)
    order = ", ".join(f"{each.text} {whereabouts(each.stack)}" for each in path)
    before = "a thread took" if len(path) == 1 else "threads took"
    return LockOrderError(
        f"lock order inverted: before, {before} {order}\n{first_seen}"
        f"now this thread takes {edge.text} {whereabouts(stack)}\n{now}"
        f"this thread takes {edge.text} {whereabouts(stack)}, but before, {before} {order}; done at the same time, "
        f"that is a deadlock: take the locks in one order everywhere, or together with acquire_all()",
        first_seen=first_seen,
        now=now,
    )


def check_lock_order(action: Action = "raise") -> LockOrderCheck:
    """Check, inside a ``with``, in which order all threads acquire locks, and report an inversion.

    A deadlock needs two threads at the wrong moment. The two orders that make it possible appear in every run that
    takes both paths, one after the other, even in one thread. The check reports them before the second lock is
    acquired. It checks `TimedLock`, `TimedRLock`, `LockAdapter` and the locks inside `acquire_all` (which always uses
    one order). It also finds cycles of more than two locks.

    It reports nothing that can't deadlock: an ``acquire`` that doesn't wait or has a timeout, a lock that a thread
    acquires again, and two orders that can't meet because both threads hold a third lock. It forgets locks that are
    gone.

    While it is on, every acquisition takes some microseconds longer, and an interrupt may leak a lock. It doesn't know
    which locks were held before it began. Checks may be nested and combined with `record`.

    Setting the environment variable ``SYNCPRIMS_LOCK_ORDER`` to ``raise`` or ``warn`` turns a check on for a whole
    program. Use `ignore_lock_order` in a test that inverts an order on purpose. To check a whole test suite, put this
    into its ``conftest.py``::

        @pytest.fixture(autouse=True, scope="session")
        def lock_order():
            with syncprims.diagnostics.check_lock_order() as check:
                yield
            assert not check.inversions  # also those in other threads, which failed no test

    Args:
        action: ``"raise"``, the default, raises a `LockOrderError` in the thread that uses the second order, each time.
            The thread does not acquire the lock. ``"warn"`` issues a `LockOrderWarning` the first time.

    Raises:
        ValueError: The action is something else.

    Example:
        >>> from syncprims import LockOrderError, TimedLock
        >>> from syncprims.diagnostics import check_lock_order
        >>> a, b = TimedLock(name="a"), TimedLock(name="b")
        >>> with check_lock_order():
        ...     with a, b:
        ...         pass
        ...     try:
        ...         with b, a:
        ...             pass
        ...     except LockOrderError as error:
        ...         print(str(error).splitlines()[-1])
        this thread takes 'a' while it held 'b' at ..., but before, a thread took 'b' while it held 'a' at ...
    """
    return LockOrderCheck(action)


# One entry for each `ignore_lock_order` that is active.
_ignoring: list[None] = []


@contextmanager
def ignore_lock_order() -> Iterator[None]:
    """Turn off all checks of lock orders while the ``with`` is active, in all threads.

    Use it in a test that inverts an order on purpose, for example to test a deadlock, if the test suite runs with
    `check_lock_order`. It is a context manager and a decorator. It does nothing if no check is on, and it may be
    nested. The checks still note which locks are acquired inside of it, so that they know them afterwards.

    Example:
        >>> from syncprims import TimedLock
        >>> from syncprims.diagnostics import check_lock_order, ignore_lock_order
        >>> a, b = TimedLock(name="a"), TimedLock(name="b")
        >>> with check_lock_order() as check:
        ...     with a, b:
        ...         pass
        ...     with ignore_lock_order(), b, a:
        ...         pass
        ...
        >>> check.inversions
        ()
    """
    _ignoring.append(None)
    try:
        yield
    finally:
        _ignoring.pop()


_for_program: LockOrderCheck | None = None


def check_as_environment_says() -> None:
    """Turn a check on for the rest of the program if ``SYNCPRIMS_LOCK_ORDER`` says so.

    An unknown value causes a `RuntimeWarning`, because it must not keep a program from starting.
    """
    global _for_program
    action = os.environ.get(ENVIRONMENT, "").strip().lower()
    if action in ("raise", "warn"):
        if _for_program is None:
            _for_program = LockOrderCheck("raise" if action == "raise" else "warn").__enter__()
    elif action:
        warnings.warn(
            f"{ENVIRONMENT}={action!r} means nothing, so lock orders are not checked; set it to 'raise' or 'warn'",
            RuntimeWarning,
            stacklevel=2,
        )
