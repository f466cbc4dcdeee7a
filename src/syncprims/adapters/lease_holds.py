"""`LeaseHold`: one lease of one thread, from the first try to its end, with its renewal and reports."""

from __future__ import annotations

import os
from functools import partial
from math import inf
from secrets import token_hex
from socket import gethostname
from threading import Thread, current_thread
from typing import Protocol
from weakref import ref

from .._core.clock import monotonic
from .._core.foreign import guarded, text_of
from . import renewing
from .losses import LeaseExpiredError, Lost, Surface, tell_of_loss
from .redis_server import ScriptCall, Server


class Source(Protocol):
    """The lock or semaphore that a hold belongs to."""

    seconds: float
    milliseconds: int
    server: Server

    def surface(self) -> Surface | None:
        """Return the user's object for it, as long as that is alive."""

    def extending(self, hold: LeaseHold) -> ScriptCall[bool]:
        """Return the call that renews the lease of a hold; its answer is False if the lease is lost."""


_processes: dict[int, str] = {}


def _process() -> str:
    """Name this process and its machine."""
    pid = os.getpid()
    found = _processes.get(pid)
    return _processes.setdefault(pid, f"{gethostname()}/{pid}") if found is None else found


class LeaseHold:
    """One hold of one thread, or its attempt to get one.

    Attributes:
        token: Its name on the server.
        number: Its fencing number.
        inbox: The address at which it is notified of its turn, as long as it may be in the queue.
        since: When it was acquired; before that, when it was last tried.
        lease_from: A time at which its lease had not ended for certain: it began then, or a little later.
        leaving: Whether it is being released.
        due: When the renewer must handle it.
        ends: When it ends unless it is renewed, by the library's clock.
    """

    def __init__(self, of: Source, mine: object) -> None:
        thread = current_thread()
        name: object = guarded(None, getattr, thread, "name")
        token = f"{_process()}/{str.__str__(name) if isinstance(name, str) else ''}/{token_hex(8)}"
        self.token: str = token.encode("ascii", "backslashreplace").decode()  # the same in any encoding of the client
        self.number: int = 0
        self.inbox: str = ""
        self.since: float = monotonic()
        self.lease_from: float = self.since
        self.ends: float = inf
        self.leaving: bool = False
        self.due: float = inf
        self.surface: Surface | None = of.surface()
        self._of = of
        self._thread = thread
        self._mine = ref(mine)
        # Whether the hold was lost, once that is decided; and the object that shows it, if any code has asked for one.
        self._outcome: bool | None = None
        self._asked: list[Lost] = []

    @property
    def lost(self) -> Lost:
        """Whether it was lost."""
        if not self._asked:
            self._asked.append(Lost(self.surface, self.ends))
        lost = self._asked[0]
        lost.lasts_until(self.ends)
        if self._outcome is not None:  # decided before any code had asked for the object
            lost.decide(self._outcome)
        return lost

    def is_over(self, lost: bool) -> None:
        """Note, in the thread that held it, that it has ended."""
        self._outcome = lost
        if self._asked:
            self._asked[0].decide(lost)

    @property
    def seconds(self) -> float:
        """How long the lease is."""
        return self._of.seconds

    @property
    def server(self) -> object:
        """The server that renews it."""
        return self._of.server.pool

    @property
    def member(self) -> str:
        """Its name in the queue; "" if it has never been there."""
        return f"{self.inbox} {self._of.milliseconds} {self.token}" if self.inbox else ""

    def leased(self, since: float) -> None:
        """Note that the lease began at that time, or a little later."""
        self.lease_from = since
        self.ends = ends = since + self._of.seconds
        if self._asked:
            self._asked[0].lasts_until(ends)

    def attend(self) -> ScriptCall[bool] | None:
        """Return the call that renews the lease; None if it needs none, or the thread that holds it has ended."""
        now, ends = monotonic(), self.ends
        if self.leaving:
            self.due = inf
        elif self._mine() is None or not guarded(True, self._thread.is_alive):
            self.due = ends
            if now >= ends:
                self._report("its thread ended without releasing it, and nothing renews it")
        else:
            self.due = min(max(now + self.seconds / 10, now + 0.01), max(ends, now))  # unless it is renewed now
            return self._of.extending(self)
        return None

    def settle(self, asked: float, outcome: bool | Exception) -> None:
        """Note the result of the call that was sent at that time: the answer, or the client's exception."""
        if isinstance(outcome, Exception):
            if monotonic() >= self.ends:
                self._report(f"its server could not be asked to renew it in time: {text_of(outcome)}")
        elif outcome:
            self.leased(asked)
            self.due = asked + self.seconds / 3
        elif not self.leaving:
            self._report(None)

    def _report(self, why: str | None) -> None:
        """Report that it was lost, in a separate thread: the hook must not block the renewer."""
        self.due = inf
        error = self.expired(why)
        renewing.renewer.drop(self)
        if self.lost.decide(True) and self.surface is not None:
            tell = partial(tell_of_loss, self.surface, error)
            try:
                Thread(target=tell, name="syncprims-lost", daemon=True).start()
            except Exception:  # noqa: BLE001  no more threads, so it has to be this one
                tell()

    def report_here(self) -> LeaseExpiredError:
        """Report to the holder's own thread that it was lost, and return the error."""
        error = self.expired()
        first = self.lost.decide(True)
        self._outcome = True
        if first and self.surface is not None:
            tell_of_loss(self.surface, error)
        return error

    def expired(self, why: str | None = None) -> LeaseExpiredError:
        """Make the error for a lost lease."""
        now, key = monotonic(), self._of.server.key
        if why is None and now - self.lease_from >= self.seconds:
            why = f"its lease of {self.seconds:g} s ran out"
        return LeaseExpiredError(
            f"{key!r} was lost in the {now - self.since:.1f} s since it was taken: "
            f"{why or 'the server lost it, or another client removed it'}, and others may have "
            f"held it meanwhile; check what was done under it, and hold it for less or give it a longer lease",
            lock_name=key,
            lease=self.seconds,
            held=now - self.since,
        )
