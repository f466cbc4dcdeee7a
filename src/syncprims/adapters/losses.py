"""Facts about leases: the holder of one (`LeaseHolder`), and its loss (`Lost`, `LeaseExpiredError`)."""

from __future__ import annotations

from _thread import LockType
from collections import deque
from logging import ERROR
from typing import Protocol

from .._core.clock import monotonic
from .._core.deadline import Deadline
from .._core.foreign import is_interrupt, log, shortened
from .._core.gates import open_all, pass_through, put_up
from .._core.state import Stated
from .._core.waits import wait_visibly
from ..errors import SyncError
from ..facts import Frozen

_SLICE = 1.0  # seconds after which a wait checks the clock, because the lease may have been renewed


class LeaseExpiredError(SyncError, RuntimeError):
    """A lock on a server was lost before its holder was done: other clients may have held it at the same time.

    Attributes:
        lock_name: The lock's name.
        lease: How long it could be held, in seconds.
        held: How long the holder believed that it held the lock, in seconds.
    """

    def __init__(self, message: str = "", *, lock_name: str = "", lease: float = 0.0, held: float = 0.0) -> None:
        super().__init__(message)
        self.lock_name = lock_name
        self.lease = lease
        self.held = held


class LeaseHolder(Frozen):
    """The holder of a lease on a server: a thread of any process on any machine.

    Attributes:
        host: The name of its machine, or ``""`` if its client does not report it.
        pid: Its process there; 0 if that is not known.
        thread: The name of its thread.
        lease_left: The seconds after which the lease ends, if it is not renewed; None if it never ends.
    """

    __slots__ = ("host", "pid", "thread", "lease_left")  # noqa: RUF023  the order of the arguments

    host: str
    pid: int
    thread: str
    lease_left: float | None

    def __init__(self, host: str, pid: int, thread: str, lease_left: float | None) -> None:
        self._set(host, pid, thread, lease_left)

    def __str__(self) -> str:
        name = f"Thread {self.thread!r}" if self.thread else "a thread without a name"
        known = f"{name} of process {self.pid} on {self.host!r}"
        who = known if self.pid else "a client that is not known"
        left = self.lease_left
        return f"{who}; " + ("it has no lease, so it never ends" if left is None else f"its lease ends in {left:.1f} s")


class Lost:
    """Whether a lease was lost while its holder worked. You can check it and wait for it. The locks make it.

    It is set as soon as the lease may be lost: when the server reports that the lock is gone or that another client has
    it, or when the lease was not renewed and its time is up by this machine's clock.

    **Thread safety**: all methods may be called from any thread.
    """

    def __init__(self, of: Stated | None, ends: float) -> None:
        self._of = of
        self._ends = ends
        # At most one entry: whether the lease was lost, once that is decided.
        self._outcome: dict[str, list[bool]] = {}
        self._gates: deque[LockType] = deque()

    def is_set(self) -> bool:
        """Return whether the lease was lost, as far as is known; asks no server."""
        outcome = self._outcome.get("lost")
        return monotonic() >= self._ends if outcome is None else outcome[0]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the lease is lost, and return True; False if the time is up or its holder has released it.

        Args:
            timeout: How long to wait, in seconds; None, the default, means as long as it is held.

        Raises:
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
        """
        deadline = Deadline(timeout)
        if self._of is None:
            return self._wait(deadline)
        return wait_visibly(self._of, "the loss of its lease", deadline.timeout, self._wait, deadline)

    def _wait(self, deadline: Deadline) -> bool:
        while not self._outcome and not self.is_set() and deadline.remaining() != 0:
            gate = put_up(self._gates)
            if self._outcome:  # decided before the thread that decided could see the gate
                break
            left, lasts = deadline.remaining(), max(0.0, self._ends - monotonic())
            pass_through(gate, Deadline(min(lasts, _SLICE) if left is None else min(lasts, _SLICE, left)))
            try:
                self._gates.remove(gate)
            except ValueError:
                pass
        return self.is_set()

    def lasts_until(self, ends: float) -> None:
        """Note when the lease ends, by the library's clock."""
        self._ends = ends

    def decide(self, lost: bool) -> bool:
        """Decide whether the lease was lost, unless it is decided; return whether this call decided it, as lost."""
        mine = [lost]
        first = self._outcome.setdefault("lost", mine) is mine
        open_all(self._gates)
        return first and lost

    def __repr__(self) -> str:
        return f"<{'lost' if self.is_set() else 'not lost'}>"


class Surface(Stated, Protocol):
    """The object of the user that holds leases."""

    def _on_lost(self, error: LeaseExpiredError, /) -> None:
        """Act on a loss, with the error that describes it."""


def tell_of_loss(surface: Surface, error: LeaseExpiredError) -> None:
    """Call the user's hook, and log its exceptions."""
    try:
        surface._on_lost(error)
    except BaseException as failure:
        if is_interrupt(failure):
            raise
        log(ERROR, f"_on_lost of {error.lock_name!r} failed", failure)


def holder_of_token(token: object, lease_left: int) -> LeaseHolder:
    """Return the holder with this token, whose lease has so many milliseconds left."""
    if not isinstance(token, (bytes, str)):
        raise ValueError("it has something in place of a token")
    host, _, rest = shortened(text_of_part(token)).partition("/")
    pid, _, rest = rest.partition("/")
    thread = rest.rpartition("/")[0]
    left = lease_left / 1000 if lease_left >= 0 else None
    return LeaseHolder(host, int(pid), thread, left) if pid.isdecimal() else LeaseHolder("", 0, "", left)


def text_of_part(part: object) -> str:
    """Return a part of an answer as text, in whatever type the client returns it; "" if it is not text."""
    if isinstance(part, bytes):
        return part.decode(errors="replace")
    return part if isinstance(part, str) else ""
