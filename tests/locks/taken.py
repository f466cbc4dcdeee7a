"""Subjects of sweeps that another thread holds: it releases them when it is asked to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from syncprims.testing import InterruptReport, Mode, interrupts, patience


class Waited(Protocol):
    """An object that threads wait for."""

    @property
    def waiting(self) -> int:
        """The number of waiting threads."""


class Taken:
    """One thread is inside, and a second one may wait behind the thread that is interrupted."""

    def be_taken(self, lock: Waited, entering: AbstractContextManager[object]) -> None:
        """Let a thread enter the lock, and stay."""
        self._lock = lock
        self._taken, self._go = threading.Event(), threading.Event()
        self._next: threading.Thread | None = None
        self._holder = threading.Thread(target=self._hold, args=(entering,), daemon=True)
        self._holder.start()
        assert self._taken.wait(patience())

    def _hold(self, entering: AbstractContextManager[object]) -> None:
        with entering:
            self._taken.set()
            self._go.wait(patience())

    def somebody_waits(self) -> bool:
        """Whether a thread waits."""
        return self._lock.waiting == 1

    def let_go(self) -> None:
        """Let the thread leave."""
        self._go.set()
        self._holder.join(patience())

    def both_wait(self, entering: AbstractContextManager[object]) -> bool:
        """Start a second waiter, once there is a first one; return whether both wait."""
        if self._next is None and self.somebody_waits():
            self._next = threading.Thread(target=_pass, args=(entering,), daemon=True)
            self._next.start()
        return self._lock.waiting == 2

    def next_was_let_in(self) -> bool:
        """Whether the second waiter, if there is one, has been inside."""
        if self._next is not None:
            self._next.join(patience())
        return self._next is None or not self._next.is_alive()


def _pass(entering: AbstractContextManager[object]) -> None:
    with entering:
        pass


class InTheWay(Protocol):
    """A subject with a thread that another one waits for, until it is released."""

    def somebody_waits(self) -> bool:
        """Whether a thread waits."""

    def let_go(self) -> object:
        """End the wait."""


S = TypeVar("S", bound=InTheWay)


def interrupted_in_a_wait(
    make: Callable[[], S], scenario: Callable[[S], None], broken: Callable[[S], str | None], mode: Mode
) -> InterruptReport:
    """Interrupt a scenario before, in and after a wait for another thread's hold; or its own hold while one waits."""
    return interrupts(
        make,
        scenario,
        broken,
        mode=mode,
        when_blocked=lambda subject: subject.somebody_waits(),
        unblock=lambda subject: subject.let_go(),
    )
