"""`Renewer`: the one thread of a process that renews all its leases in time."""

from __future__ import annotations

import os
from _queue import Empty
from _thread import allocate_lock
from collections.abc import Sequence
from logging import ERROR
from math import inf
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from .._core.clock import monotonic
from .._core.foreign import log
from .._core.mailbox import Mailbox
from .redis_connection import unanswered
from .redis_server import run_together

if TYPE_CHECKING:
    from .redis_server import ScriptCall

# The thread runs while there are leases, and a little longer. So a program that forks, or counts its threads, has none
# that it does not need. The thread claims its role itself. So if two are started at once, or one is about to end while
# another starts, exactly one works: a thread that adds a lease stores it before it checks whether the renewer runs, and
# the renewer announces its end before it looks for leases once more.
#
# The leases of one server that are due at the same time are renewed in one exchange. So many leases take little longer
# than one, however far away the server is. The leases that become due during an exchange make up the next one.
#
# A server that does not answer must not cost the leases of other servers. So an exchange may take a third of the
# shortest lease at most; a server that has failed is not asked again in the same round; and a lease that is due after a
# third of its time can be late by another third.

_IDLE = 2.0  # seconds without a lease after which the thread ends
_LONGEST = 3600.0
_LEAST = 0.05  # seconds that an exchange may take even if leases are shorter
_TOGETHER = 100  # leases in one exchange, at most: no lease waits for the answers about too many others


class Lease(Protocol):
    """A lease that can be renewed."""

    due: float
    """When it must be handled, by the library's clock; `inf` for never."""

    @property
    def seconds(self) -> float:
        """How long it is."""

    @property
    def server(self) -> object:
        """The server that renews it."""

    def attend(self) -> ScriptCall[bool] | None:
        """Set `due` again, and return the call that renews it; None if it is not to be renewed."""

    def settle(self, asked: float, outcome: bool | Exception) -> None:
        """Note the result of that call, which was sent at that time."""


class Renewer:
    """Renews the leases that are added to it.

    **Thread safety**: all methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._leases: dict[Lease, None] = {}
        self._inbox: Mailbox[None] = Mailbox()
        self._role = allocate_lock()
        self._running = False
        self._next_look = inf

    def add(self, lease: Lease) -> None:
        """Renew a lease from now on.

        Raises:
            RuntimeError: No thread can be started.
        """
        self._leases[lease] = None
        if not self._running:
            try:
                Thread(target=self._serve, name="syncprims-renewer", daemon=True).start()
            except BaseException:
                self.drop(lease)
                raise

    def look(self, lease: Lease) -> None:
        """Note that the lease must be handled earlier than was known."""
        if lease.due < self._next_look:
            self._inbox.put(None)

    def drop(self, lease: Lease) -> None:
        """Forget a lease."""
        self._leases.pop(lease, None)

    def _serve(self) -> None:
        while self._role.acquire(blocking=False):
            try:
                self._running = True
                while self._round():
                    pass
            except BaseException as error:  # noqa: BLE001  others rely on this thread
                log(ERROR, "the thread that renews leases met an error, and goes on", error)
            finally:
                self._running = False
                self._role.release()
            if not self._leases:
                return

    def _round(self) -> bool:
        """Handle the leases that are due, and sleep until one is; return False if no lease is left."""
        now = monotonic()
        leases = list(self._leases)
        within = max(_LEAST, min((lease.seconds for lease in leases), default=0.0) / 3)
        due: dict[int, list[Lease]] = {}
        for lease in sorted((lease for lease in leases if lease.due <= now), key=_when):
            due.setdefault(id(lease.server), []).append(lease)
        for of_a_server in due.values():
            for start in range(0, len(of_a_server), _TOGETHER):
                if not self._renew(of_a_server[start : start + _TOGETHER], within):
                    break  # the others are still due, and come first in the next round
        # From here on a thread that changes a `due` sends a message; the code below sees earlier changes. A hold that
        # ends before the next look sends none, because a message would cost more than the hold.
        self._next_look = inf
        soonest = min([lease.due for lease in list(self._leases)], default=inf)
        now = monotonic()
        self._next_look = when = now + _IDLE if soonest == inf else min(max(soonest, now + 0.001), now + _LONGEST)
        try:
            self._inbox.get(when - now)
            while True:
                self._inbox.get_nowait()
        except Empty:
            pass
        return bool(self._leases)

    def _renew(self, leases: Sequence[Lease], within: float) -> bool:
        """Renew leases of one server in one exchange; return False if the server did not answer."""
        calls: dict[Lease, ScriptCall[bool]] = {}
        for lease in leases:
            with _Survived(lease):
                call = lease.attend()
                if call is not None:
                    calls[lease] = call
        outcomes: list[bool | Exception] = []
        asked = monotonic()
        with _Survived(*calls):
            outcomes = run_together([*calls.values()], within)
        for lease, outcome in zip(calls, outcomes, strict=False):
            with _Survived(lease):
                lease.settle(asked, outcome)
        silence = unanswered()
        return not any(isinstance(outcome, silence) for outcome in outcomes)


class _Survived:
    """A ``with`` that logs whatever exception its body raises, and tries these leases again soon."""

    def __init__(self, *leases: Lease) -> None:
        self._leases = leases

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is not None:
            log(ERROR, "renewing a lease failed in a way that was not foreseen; it is tried again", error)
            for lease in self._leases:
                lease.due = monotonic() + _LEAST
        return True


def _when(lease: Lease) -> float:
    return lease.due


renewer: Renewer = Renewer()


def _start_afresh() -> None:
    global renewer
    renewer = Renewer()


if hasattr(os, "register_at_fork"):
    # The child has none of its parent's threads and leases.
    os.register_at_fork(after_in_child=_start_afresh)
