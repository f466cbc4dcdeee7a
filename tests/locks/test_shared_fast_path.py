"""On the fast path of a shared lock no interrupt comes between adding a token and checking whether it fits."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable
from threading import Event, get_ident
from types import FunctionType
from typing import Any, Self

import pytest

from locks.actors import LIMIT, Actors, eventually, held_in, wait_for
from syncprims import LockTimeoutError, TimedRWLock, TimedSemaphore

# An interrupt may be delivered, and with the GIL threads may change: after a call, at a jump back, and on entry.
PLACES = ("CALL", "JUMP_BACKWARD", "RESUME", "SEND", "YIELD", "FOR_ITER", "SEND")


def steps(function: FunctionType) -> list[str]:
    """The instructions from each adding in place to the first return after it, and to the removal of the token."""
    found = list(dis.get_instructions(function))
    begins = [at for at, each in enumerate(found) if each.opname == "BINARY_OP" and each.argrepr == "+="]
    assert begins, "the way in adds to a list in place"
    taken = []
    for begin in begins:
        returns = next(at for at, each in enumerate(found) if at > begin and each.opname.startswith("RETURN"))
        removes = next((at for at, each in enumerate(found) if at > begin and each.argval == "remove"), returns)
        taken += [each.opname for each in found[begin:returns] + found[begin:removes]]
    return taken


@pytest.mark.parametrize(
    "function",
    [
        TimedSemaphore.__enter__,
        TimedSemaphore._enter_within,
        TimedSemaphore._go_in,
        TimedRWLock._read_within,
        TimedRWLock._write_within,
        TimedRWLock._go_in,
    ],
)
def test_going_in_and_looking_are_one_step(function: Callable[..., object]) -> None:
    """There is no call and no jump back between adding a token to the holds and checking whether it fits."""
    assert isinstance(function, FunctionType)
    assert [name for name in steps(function) if name.startswith(PLACES)] == []


def test_a_call_on_the_way_is_found() -> None:
    """The control: it shows that the test works."""

    def careless(held: list[int]) -> bool:
        held += (1,)
        return len(held) == 1

    assert isinstance(careless, FunctionType)
    assert [name for name in steps(careless) if name.startswith(PLACES)] != []


def test_the_fast_path_is_taken_without_hooks_and_without_a_line() -> None:
    """A class with a hook for each acquisition takes the slow path."""

    class Told(TimedSemaphore):
        def _on_acquired(self, waited: float, /) -> None:
            self.told = waited

    assert (TimedSemaphore(1)._open, TimedRWLock()._open, Told(1)._open) == (True, True, False)
    with Told(1) as told:
        assert told.told == 0.0


def test_tries_go_the_slow_way() -> None:
    """On the fast path two tries could fail because of each other."""
    assert (TimedSemaphore(1, 0)._open, TimedRWLock(0)._open) == (False, False)


class Slow(list[int]):
    """The tokens of the holders, of which a thread removes one only when it is asked to."""

    ident = 0
    begun, go = Event(), Event()

    def remove(self, token: int) -> None:
        """Remove it."""
        if abs(token) == self.ident:
            self.begun.set()
            wait_for(self.go)
        super().remove(token)


class FastTries(TimedSemaphore):
    """A broken control: its tries take the fast path."""

    def _enter_within(self, timeout: float | None) -> Self:
        me, held = get_ident(), self._held
        held += (me,)
        if not held[self._permits :]:
            return self
        try:
            held.remove(me)
        finally:
            self._ring()
        self._take(me, timeout, True)
        return self


class Between(list[int]):
    """The tokens of the holders; after a thread has added one, and before it checks, something else happens once."""

    def __init__(self, tokens: list[int], happens: Callable[[], object]) -> None:
        super().__init__(tokens)
        self._happens: list[Callable[[], object]] = [happens]

    def __iadd__(self, tokens: Iterable[int]) -> Self:  # type: ignore[misc,override]  # a list's takes other things too
        """Add the token."""
        super().__iadd__(tokens)
        if self._happens:
            self._happens.pop()()
        return self


def replace_tokens(lock: Any, happens: Callable[[], object]) -> None:
    """Let something happen when the next token is added; the releasing functions are made again, for these tokens."""
    lock._held = Between(lock._held, happens)
    lock._releases.clear()
    lock._leaves.clear()


def test_a_thread_that_takes_its_first_token_back_lets_no_third_one_in() -> None:
    """Equal tokens are interchangeable: the first of them is removed, and the places of the others change."""
    semaphore: Any = TimedSemaphore(2)
    mine, theirs = semaphore.hold(0.001), semaphore.hold(0.002)
    with Actors() as actors:
        other, done = Event(), Event()

        def hold_and_ask_for_another() -> None:
            with semaphore.hold(LIMIT):
                other.set()
                wait_for(asks)
                with pytest.raises(LockTimeoutError), theirs:
                    pass
                refused.set()
                wait_for(done)

        asks, refused = Event(), Event()
        actors.start(hold_and_ask_for_another)
        wait_for(other)

        def happens() -> None:
            asks.set()
            wait_for(refused)

        with semaphore.hold(LIMIT):
            replace_tokens(semaphore, happens)
            with pytest.raises(LockTimeoutError), mine:
                pass
            wait_for(refused)
            done.set()


def test_a_writer_that_writes_again_keeps_its_first_place() -> None:
    """A reader that comes then goes in only if the first token is a reader's, so a writer's token must stay first."""
    lock: Any = TimedRWLock()
    with Actors() as actors:
        writes, again, done = Event(), Event(), Event()

        def write_twice() -> None:
            with lock.write(LIMIT):
                writes.set()
                wait_for(again)
                with lock.write(LIMIT):
                    pass
                written.set()
                wait_for(done)

        written = Event()
        actors.start(write_twice)
        wait_for(writes)

        def happens() -> None:
            again.set()
            wait_for(written)

        replace_tokens(lock, happens)
        with pytest.raises(LockTimeoutError), lock.read(0.001):
            pass
        done.set()


@pytest.mark.parametrize("kind", [TimedSemaphore, FastTries])
def test_no_try_fails_because_of_another_one_that_fails(kind: type[TimedSemaphore]) -> None:
    """That could happen if tries took the fast path."""
    fast = kind is FastTries
    semaphore: Any = kind(1)
    held = Slow()
    semaphore._held = held
    held.begun, held.go = Event(), Event()
    entered = semaphore.hold(LIMIT)
    entered.__enter__()

    def try_to_enter() -> None:
        held.ident = get_ident()
        with pytest.raises(LockTimeoutError):
            semaphore.hold(0).__enter__()

    with Actors() as actors:
        try:
            trying = actors.start(try_to_enter)
            if fast:
                wait_for(held.begun)
            else:
                trying.result()
            entered.__exit__(None, None, None)
            if fast:
                with pytest.raises(LockTimeoutError):
                    semaphore.hold(0).__enter__()
                actors.start(lambda: held_in(semaphore.hold(LIMIT), semaphore))
                eventually(lambda: semaphore.waiting == 1)
            else:
                with semaphore.hold(0):
                    pass
        finally:
            held.go.set()


def test_the_fast_path_is_taken_again_when_no_thread_waits_any_more() -> None:
    """A wait closes it, and the next thread that finds no line opens it."""
    lock = TimedRWLock()
    with lock.read(), Actors() as actors:
        assert isinstance(actors.start(lambda: lock.write(0.001).__enter__()).error(), LockTimeoutError)
    assert not lock._open
    with lock.read():
        assert lock._open
