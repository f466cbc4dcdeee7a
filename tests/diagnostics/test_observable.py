"""Each class declares what can be observed: classes that diagnostics don't know are observed like any other."""

from __future__ import annotations

import subprocess
import sys
import threading
from _thread import allocate_lock
from importlib import import_module
from itertools import permutations
from pkgutil import walk_packages
from typing import ClassVar

import pytest

import syncprims
from locks.actors import LIMIT, Actors, eventually
from syncprims import AtomicCounter, CallbackPool, LockAdapter, LockOrderError, OrderedRunner, TimedLock, TimedRLock
from syncprims._core.observing import Event, Observable, declared
from syncprims._core.registry import register
from syncprims._core.state import State
from syncprims._core.waits import Waiting
from syncprims.diagnostics import check_lock_order, record, report
from syncprims.diagnostics.lock_events import locks
from syncprims.diagnostics.spans import hand_offs


class Latch:
    """A lock of an unknown kind: its author has to write no more than this."""

    def __init__(self, name: str) -> None:
        """Make it, free."""
        self.name = name
        self._inner = allocate_lock()
        self._holder: int | None = None
        self._serial = register(self)

    def shut(self, seconds: float = LIMIT) -> bool:
        """Acquire it."""
        taken = self._inner.acquire(False)
        if not taken and seconds:
            waiting = Waiting(self, takes_part=False)
            try:
                waiting.publish()
                taken = self._inner.acquire(timeout=seconds)
            finally:
                waiting.withdraw()
        if taken:
            self._holder = threading.get_ident()
        return taken

    def free(self) -> None:
        """Release it."""
        self._holder = None
        self._inner.release()

    def _is_mine(self) -> bool:
        """Whether this thread holds it."""
        return self._holder == threading.get_ident()

    def _up_to(self, waiter: int) -> int | None:
        return self._holder

    def _state(self) -> State:
        return State(self, "Latch", self.name, self._holder, is_lock=True)

    @staticmethod
    def _after_fork(latches: object) -> None:
        """These tests don't fork."""

    _observable: ClassVar[Observable] = Observable(
        {"shut": Event("takes", lambda _, seconds=LIMIT: seconds != 0), "free": Event("gives")},
        is_held=_is_mine,
        undo=free,
        is_exclusive=True,
    )


class Bolt(Latch):
    """A subclass, with its own way to acquire it beside the inherited ones."""

    def shoot(self) -> bool:
        """Acquire it at once, or not at all."""
        taken = self._inner.acquire(False)
        self._holder = threading.get_ident() if taken else self._holder
        return taken

    _observable: ClassVar[Observable] = Observable(
        {"shoot": Event("takes", lambda _: False)}, is_held=Latch._is_mine, undo=Latch.free, is_exclusive=True
    )


def shut_both(first: Latch, second: Latch) -> None:
    """Acquire one while holding the other."""
    assert first.shut()
    try:
        assert second.shut()
        second.free()
    finally:
        first.free()


@pytest.mark.parametrize("kind", [Latch, Bolt])
def test_a_new_kind_of_lock_is_recorded(kind: type[Latch]) -> None:
    """Its holds and waits are spans of the same key, a failed wait says so, and hand-offs are found."""
    latch = kind("gate")

    def pass_through() -> None:
        assert latch.shut()
        latch.free()

    with record() as recording, Actors() as actors:
        assert latch.shut()
        passing = actors.start(pass_through, "next")
        eventually(lambda: "'next'" in report())
        assert not actors.start(lambda: latch.shut(0.001), "hasty").result()
        latch.free()
        passing.result()
        spans = [span for span in recording.spans if span.name == "gate"]
    assert sorted((span.kind, span.thread, span.outcome) for span in spans) == [
        ("hold", "MainThread", ""),
        ("hold", "next", ""),
        ("wait", "hasty", "gave up"),
        ("wait", "next", ""),
    ]
    assert {span.key for span in spans} == {("lock", latch._serial)}
    assert [(spans[giver].thread, spans[taker].thread) for giver, taker in hand_offs(spans)] == [("MainThread", "next")]


def test_what_a_subclass_adds_is_recorded_too() -> None:
    """A subclass that declares one more way to acquire the lock is observed in that and the inherited ways."""
    bolt = Bolt("bolt")
    with record() as recording:
        assert bolt.shoot()
        assert not bolt.shoot()
        bolt.free()
        assert bolt.shut()
        bolt.free()
    assert [(span.kind, span.name, span.outcome) for span in recording.spans] == [("hold", "bolt", "")] * 2


def test_the_order_of_a_new_kind_of_lock_is_checked() -> None:
    """Two of them that are acquired in both orders are reported, and so are one of them and a TimedLock."""
    first, second, known = Latch("first"), Latch("second"), TimedLock(name="known")
    with check_lock_order():
        shut_both(first, second)
        with pytest.raises(LockOrderError, match="'first' while it held 'second'"):
            shut_both(second, first)
        assert not first._inner.locked()
        with known:
            shut_both(first, second)
        assert second.shut()
        with pytest.raises(LockOrderError, match="'known' while it held 'second'"):
            known.acquire()
        second.free()


def test_a_guard_of_a_new_kind_keeps_two_orders_apart() -> None:
    """A lock that has one holder at a time is a guard, whatever its kind."""
    guard, first, second = Latch("guard"), Latch("first"), Latch("second")
    with check_lock_order() as check:
        for pair in permutations([first, second]):
            assert guard.shut()
            shut_both(*pair)
            guard.free()
    assert check.inversions == ()


def test_a_class_that_is_made_while_observed_is_observed_at_once() -> None:
    """It makes no difference whether the class or the observation came first; afterwards the class is unchanged."""
    with record() as recording:

        class Late(Latch):
            _observable: ClassVar[Observable] = Observable(
                {"shut": Event("takes", lambda _: True)}, is_held=Latch._is_mine
            )

            def shut(self, seconds: float = LIMIT) -> bool:
                return self._inner.acquire(timeout=seconds)

        made = Late.shut
        late = Late("late")
        assert late.shut()
        late._holder = threading.get_ident()
        late.free()
    assert [(span.kind, span.name) for span in recording.spans] == [("hold", "late")]
    assert Late.shut is not made
    assert Late.shut.__qualname__.endswith("Late.shut")


def test_a_lock_that_an_observer_refuses_is_let_go_of() -> None:
    """If an observer raises, the acquisition is undone as the class declares."""

    class Grumpy:
        def asks(self, lock: object, endless: bool) -> None: ...
        def taken_again(self, lock: object) -> None: ...
        def refused(self, lock: object, error: BaseException | None) -> None: ...
        def released(self, lock: object, at: int) -> None: ...
        def taken(self, lock: object, at: int) -> None:
            raise LookupError("no")

    latch, grumpy = Latch("mine"), Grumpy()
    locks.add(grumpy)
    try:
        with pytest.raises(LookupError):
            latch.shut()
    finally:
        locks.remove(grumpy)
    assert not latch._inner.locked()


def test_no_primitive_of_the_library_was_forgotten() -> None:
    """Each registered class declares what can be observed; a lock has ways to acquire and release it."""
    modules = [import_module(found.name) for found in walk_packages(syncprims.__path__, "syncprims.")]
    classes = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    # On some versions a thread has an _after_fork too.
    primitives = {kind for kind in classes if hasattr(kind, "_after_fork") and hasattr(kind, "_state")}
    primitives -= {kind for kind in primitives if getattr(kind, "_is_protocol", False)}
    assert {TimedLock, TimedRLock, LockAdapter, AtomicCounter, OrderedRunner, CallbackPool} <= primitives
    assert {kind for kind in primitives if not isinstance(getattr(kind, "_observable", None), Observable)} == set()
    for event in ("takes", "gives"):
        owners = {owner for owner, _, _ in declared(event)}
        assert {kind for kind in primitives if hasattr(kind, "acquire") and not owners & {*kind.__mro__}} == set()


def test_the_locks_inside_of_primitives_are_not_recorded() -> None:
    """A changing counter is not a held lock, on any version, and makes no order of locks."""
    counter, outer = AtomicCounter(), TimedLock(name="outer")
    with record() as recording, check_lock_order():
        with outer:
            counter.set(5)
        counter.update(lambda value: value + (outer.acquire() and 1))
        outer.release()
    assert [(span.kind, span.name) for span in recording.spans] == [("hold", "outer")] * 2


def test_a_pool_that_is_imported_while_a_recording_is_on_is_recorded() -> None:
    """A recording imports no pools; the tasks of a later one are recorded like any."""
    program = (
        "import sys, syncprims\n"
        "from syncprims.diagnostics import record\n"
        "with record() as recording:\n"
        "    assert 'syncprims.callback_pool' not in sys.modules\n"
        "    with syncprims.CallbackPool(max_workers=1, name='mill') as pool:\n"
        "        pool.apply_async(int, callback=int)\n"
        "print(sorted(span.name for span in recording.spans if span.kind in ('task', 'callback')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.stdout, done.stderr) == ("['mill: callback of int', 'mill: int']\n", "")
