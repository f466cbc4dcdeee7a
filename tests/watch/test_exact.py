"""The exact locks report every acquisition and every release, in every way a program does it."""

from __future__ import annotations

import threading
from _thread import RLock
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncprims.testing import interrupts
from syncprims.watch.exact import Exact, exact_classes, silence
from syncprims.watch.observed import ObservedLock, factory_of

LIMIT = 30.0
ME = threading.get_ident


class Ledger:
    """An observer that keeps its events, and adds up which thread has which lock."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.holders: dict[int, int] = {}

    def asks(self, lock: Exact, endless: bool) -> None:
        self.told.append("asks for as long as it takes" if endless else "asks")

    def taken(self, lock: Exact, at: int) -> None:
        self.told.append("taken")
        assert self.holders.setdefault(id(lock), ME()) == ME()

    def refused(self, lock: Exact, error: BaseException | None) -> None:
        self.told.append("refused" if error is None else type(error).__name__)
        self.holders.pop(id(lock), None) if error is not None else None

    def released(self, lock: Exact, at: int, by: int) -> None:
        self.told.append("released" if by == ME() else "released by another thread")
        assert self.holders.pop(id(lock)) == by


Made = tuple[Callable[[], Any], Callable[[], Any], Ledger]


@pytest.fixture
def made() -> Made:
    ledger = Ledger()
    kind, again = exact_classes([ledger])
    return factory_of(kind), again, ledger


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_every_way_of_taking_and_releasing_is_told(made: Made) -> None:
    """By `with`, by calls, by tries and with a limit; a lock that is acquired again is one hold."""
    make, make_again, ledger = made
    for lock in (make(), make_again()):
        with lock:
            in_thread(lambda: lock.acquire(False))  # noqa: B023  joined at once
            in_thread(lambda: lock.acquire(timeout=0.01))  # noqa: B023  the same
        lock.acquire()
        lock.release()
        assert ledger.told == [
            *("asks for as long as it takes", "taken", "asks", "refused", "asks", "refused", "released"),
            *("asks for as long as it takes", "taken", "released"),
        ]
        ledger.told.clear()
    with lock, lock:
        lock.acquire()
        lock.release()
    assert ledger.told == ["asks for as long as it takes", "taken", "released"]
    assert ledger.holders == {}


def test_another_thread_may_release_it(made: Made) -> None:
    """The observer gets the thread whose hold has ended, for a call and for a `with` that another thread leaves."""
    make, _, ledger = made
    lock = make()
    lock.acquire()
    in_thread(lock.release)

    def holding() -> Iterator[None]:
        with lock:
            yield

    generator = holding()
    next(generator)
    in_thread(lambda: list(generator))
    assert ledger.told == ["asks for as long as it takes", "taken", "released by another thread"] * 2


def test_what_fails_as_before_is_no_release(made: Made) -> None:
    """A failed try to release a lock that is free, or another thread's, is not a release."""
    make, make_again, ledger = made
    lock, again = make(), make_again()
    again.acquire()

    def try_to() -> None:
        for each in (lock, again):
            with pytest.raises(RuntimeError):
                each.release()

    in_thread(try_to)
    assert ledger.told == ["asks for as long as it takes", "taken"]
    again.release()


def test_a_condition_gives_its_lock_away_while_it_waits(made: Made) -> None:
    """Over either kind, it is released while the condition waits, and acquired afterwards, however often."""
    make, make_again, ledger = made
    for lock in (make(), make_again()):
        condition = threading.Condition(lock)
        with condition:
            assert not condition.wait(0.01)
        held = [each for each in ledger.told if each in ("taken", "released")]
        assert held[0] == "taken"
        assert held[1:] == ["released", "taken"] * (len(held) // 2 - 1) + ["released"]
        assert ledger.holders == {}
        ledger.told.clear()


def test_a_renewed_lock_is_free(made: Made) -> None:
    """`_at_fork_reinit` ends a hold: otherwise a forked child would have it forever, and seem to invert orders."""
    for lock in (made[0](), made[1]()):
        lock.acquire()
        lock._at_fork_reinit()
        assert made[2].holders == {}


def test_an_observers_error_leaves_the_lock_free(made: Made) -> None:
    """The observer's exception is raised, and the lock is not acquired."""

    class Refusing(Ledger):
        def taken(self, lock: Exact, at: int) -> None:
            super().taken(lock, at)
            raise MemoryError

    ledger = Refusing()
    for kind in exact_classes([ledger]):
        lock: Any = factory_of(kind)() if issubclass(kind, ObservedLock) else kind()
        with pytest.raises(MemoryError), lock:
            pass
        assert not lock._is_owned() if hasattr(lock, "_is_owned") else not lock.locked()
    assert ledger.holders == {}


def test_silenced_locks_stay_usable(made: Made) -> None:
    """After the watch nothing is reported, and nothing else changes."""
    make, make_again, ledger = made
    locks = make(), make_again()
    silence(tuple(type(lock) for lock in locks))
    for lock in locks:
        with lock:
            pass
    assert ledger.told == []


def _enter(lock: Any) -> None:
    with lock:
        pass


def _taken(lock: Any) -> str | None:
    answers: list[bool] = []
    in_thread(lambda: answers.append(lock.acquire(False)))
    return None if answers == [True] else "left taken"


class Silent:
    """An observer in Python that does nothing."""

    def asks(self, lock: Exact, endless: bool) -> None: ...
    def taken(self, lock: Exact, at: int) -> None: ...
    def refused(self, lock: Exact, error: BaseException | None) -> None: ...
    def released(self, lock: Exact, at: int, by: int) -> None: ...


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", ["warm", "worker"])
@pytest.mark.parametrize("index", [0, 1], ids=["Lock", "RLock"])
def test_an_interrupt_of_the_taking_leaves_no_lock_taken(index: int, mode: Any) -> None:
    """This holds also while observers are notified."""
    kind: Any = exact_classes([Silent()])[index]
    # Left in C, because the acquisition is the subject of the test.
    kind.__exit__ = ObservedLock.__exit__ if kind.__name__ == "lock" else RLock.__exit__
    interrupts(kind if index else factory_of(kind), _enter, _taken, mode=mode).check()
