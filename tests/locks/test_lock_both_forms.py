"""A compiled lock and one in Python alone do the same for all calls of two threads: outcomes, errors and texts."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from both_forms import examples, needs_the_core, outcome, pure
from programs import environment
from syncprims import TimedLock, TimedRLock
from syncprims._core.speedups import core
from syncprims.testing import Threads, patience

pytestmark = needs_the_core

# The calls, with right and wrong arguments. Every wait has a limit, because a thread keeps the locks that it acquires.
SHORT = 0.001
arguments = st.sampled_from([True, False, 0, 1, -1, None, SHORT, 5, "1", 1e300, -2, float("nan"), 0.0])
calls: st.SearchStrategy[tuple[str, tuple[Any, ...], dict[str, Any]]] = st.one_of(
    st.sampled_from(
        [
            ("acquire", (False,), {}),
            ("acquire", (True, SHORT), {}),
            ("acquire", (), {"timeout": SHORT}),
            ("acquire", (), {"blocking": False}),
            ("release", (), {}),
            ("release", (), {}),
            ("__enter__", (), {}),
            ("__exit__", (None, None, None), {}),
            ("locked", (), {}),
            ("held_by_me", (), {}),
            ("enter hold", (SHORT,), {}),
            ("enter hold", (0,), {}),
            ("exit hold", (SHORT,), {}),
            ("keep hold", (SHORT,), {}),
            ("keep hold", (0,), {}),
            ("enter kept", (), {}),
            ("exit kept", (), {}),
            ("_release_save", (), {}),
            ("release", (5,), {}),
            ("__enter__", (5,), {}),
        ]
    ),
    st.tuples(st.just("hold"), st.lists(arguments, max_size=2).map(tuple), st.just({})),
    st.tuples(st.just("acquire"), st.tuples(st.just(False), arguments), st.just({})),
)


def kinds(module: Any) -> dict[str, Any]:
    """The classes to compare."""

    class Hooked(module.TimedLock):  # type: ignore[misc]
        def _on_acquired(self, waited: float) -> None:
            self.told = getattr(self, "told", 0) + 1
            if self.told % 4 == 0:
                raise ArithmeticError("from the hook")

    class Above(module.TimedRLock):  # type: ignore[misc]
        def __enter__(self) -> Any:
            super().__enter__()
            return "mine"

        def __exit__(self, *exc_info: object) -> None:
            super().__exit__(*exc_info)

        def release(self) -> None:
            super().release()

    class Leaving(module.TimedLock):  # type: ignore[misc]
        def __exit__(self, *exc_info: object) -> None:
            self.left = getattr(self, "left", 0) + 1
            super().__exit__(*exc_info)
            if self.left % 3 == 0:
                raise ArithmeticError(f"left {self.left} times")

    class Within(module.TimedLock):  # type: ignore[misc]
        def _enter_within(self, timeout: float | None) -> Any:
            super()._enter_within(timeout)
            return f"within {timeout}"

    return {
        "lock": module.TimedLock,
        "rlock": module.TimedRLock,
        "hooked": Hooked,
        "above": Above,
        "leaving": Leaving,
        "within": Within,
    }


COMPILED, PURE = kinds(sys.modules["syncprims"]), kinds(pure())


@pytest.fixture(scope="module")
def other() -> Iterator[ThreadPoolExecutor]:
    """Another thread."""
    with ThreadPoolExecutor(1, "other") as executor:
        yield executor


def known(lock: Any, entered: object) -> object:
    """The result of entering, in words that are the same for both forms."""
    return "itself" if entered is lock else entered


kept: dict[int, Any] = {}  # a token of each lock


def do(lock: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Make one call, and put its outcome into words without times, places and numbers."""
    if name == "enter hold":
        came = outcome(lambda: known(lock, lock.hold(*args).__enter__()))
    elif name == "keep hold":
        kept[id(lock)] = lock.hold(*args)
        came = outcome(repr, kept[id(lock)])
    elif name == "enter kept":
        came = outcome(lambda: known(lock, kept.get(id(lock), lock).__enter__()))
    elif name == "exit kept":
        came = outcome(lambda: kept.get(id(lock), lock).__exit__(None, None, None))
    elif name == "exit hold":
        came = outcome(lambda: lock.hold(*args).__exit__(None, None, None))
    elif name == "__enter__":
        came = outcome(lambda: known(lock, lock.__enter__(*args)))
    elif name == "_release_save":  # as `threading.Condition` calls it
        came = outcome(lambda: lock._acquire_restore(lock._release_save()))
    elif name == "hold":
        came = outcome(lambda: repr(lock.hold(*args)))
    else:
        came = outcome(getattr(lock, name), *args, **kwargs)
    text = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "#", repr(came))
    # The core also names the holder.
    text = re.sub(r"(['\"])(cannot release un-acquired lock).*?\1", r"'\2'", text)
    return re.sub(r"TimedLock\.|_thread\.RLock\.|Lock\.|RLock\.", "", text)


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(sorted(COMPILED)), st.lists(st.tuples(st.booleans(), calls), max_size=10))
def test_both_forms_do_the_same(
    other: ThreadPoolExecutor, kind: str, steps: list[tuple[bool, tuple[str, tuple[Any, ...], dict[str, Any]]]]
) -> None:
    """Two threads make any calls in turn: the outcomes, errors, their texts and the states are the same."""
    ours, theirs = (form[kind](timeout=SHORT, name="it") for form in (COMPILED, PURE))
    kept.clear()
    for elsewhere, (name, args, kwargs) in steps:
        if name == "_release_save" and (elsewhere or not ours.held_by_me()):
            continue  # any thread may release some of CPython's locks
        came = [
            other.submit(do, lock, name, args, kwargs).result(patience()) if elsewhere else do(lock, name, args, kwargs)
            for lock in (ours, theirs)
        ]
        if args == (5,) and name in ("release", "__enter__"):
            came = [str(each).partition(",")[0] for each in came]  # a TypeError, in the words of CPython or of the core
        assert came[0] == came[1], (name, args, kwargs)
        assert ours.locked() == theirs.locked()
        assert ours.held_by_me() == theirs.held_by_me()
        assert [ours.holder and ours.holder.ident] == [theirs.holder and theirs.holder.ident]
        assert re.sub("0x.*", "", repr(ours)) == re.sub("0x.*", "", repr(theirs))


@pytest.mark.parametrize("kind", [TimedLock, TimedRLock])
def test_who_releases_what_another_has_is_told_who(kind: type[TimedLock]) -> None:
    """The core's `release` names the thread that holds the lock, and where it is."""
    lock = kind(name="ledger")
    with pytest.raises(RuntimeError, match=r"^cannot release un-acquired lock 'ledger': it is free$"):
        lock.release()
    with lock, ThreadPoolExecutor(1) as elsewhere:
        error = elsewhere.submit(lock.release).exception(patience())
    assert isinstance(error, RuntimeError)
    assert re.match(
        r"cannot release un-acquired lock 'ledger': it is held by Thread 'MainThread' \(ident \d+, alive\)", str(error)
    )


def test_a_waiter_is_not_overtaken_for_ever() -> None:
    """A thread that acquires the lock again right after its release lets a waiting thread have its turn."""
    lock, over = TimedLock(), threading.Event()

    def hog() -> None:
        while not over.is_set():
            with lock:
                for _ in range(20_000):
                    pass

    with Threads() as threads:
        threads.start(hog)
        try:
            for _ in range(20):
                with lock.hold(60):
                    pass
        finally:
            over.set()


def test_a_lock_that_is_acquired_again_at_once_goes_to_a_waiter() -> None:
    """The releasing thread keeps the GIL, but does not get a lock that it has handed over."""
    lock, had = TimedLock(), threading.Event()

    def wait() -> None:
        with lock:
            had.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # so that it keeps the GIL from its release to its next try
    try:
        with Threads() as threads, lock:
            threads.start(wait)
            for _ in range(300):  # up to 40 were observed: it may be the next to pass the gate
                if had.wait(0.01):
                    break
                lock.release()
                lock.acquire()
            assert had.is_set()
    finally:
        sys.setswitchinterval(interval)


def test_a_lock_goes_with_all_that_it_has() -> None:
    """Locks that were waited for leave nothing behind, however the wait ended."""

    def use() -> weakref.ref[TimedLock]:
        lock = TimedLock(timeout=30)
        with Threads() as threads:
            with lock:
                late = [threads.start(lock.acquire, True, 0.01) for _ in range(3)]
                assert [each.result() for each in late] == [False] * 3
            for _ in range(3):
                threads.start(lambda: lock.__enter__().release())
        assert not lock.locked()
        return weakref.ref(lock)

    gone = [use() for _ in range(10)]
    gc.collect()
    assert [each() for each in gone] == [None] * 10


def test_a_lock_that_was_not_made_whole_is_no_hazard() -> None:
    """Without its constructor a lock of the core works or raises like one of Python alone, and does not crash."""
    for kind in ("TimedLock", "TimedRLock"):
        ours, theirs = (cls.__new__(cls) for cls in (COMPILED[kind.lower()[5:]], PURE[kind.lower()[5:]]))
        for name in ("locked", "__enter__", "release", "held_by_me"):
            assert do(ours, name, (), {}) == do(theirs, name, (), {})
    with pytest.raises(AttributeError):
        del TimedLock()._ways
    wrongs: list[Any] = [5, pure().TimedLock()]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            core.Lock.release(wrong)
        with pytest.raises(TypeError):
            TimedLock.release(wrong)


@pytest.mark.parametrize("take", ["with", "hold", "acquire"])
@pytest.mark.usefixtures("restless")
def test_under_load_one_thread_has_the_lock_and_none_is_forgotten(take: str) -> None:
    """Many threads that wait with and without limits, and give up, exclude each other and all end."""
    lock, counts, rounds = TimedLock(), [0], 150
    gave_up = [0] * 6

    def change() -> None:
        before = counts[0]
        threading.Event().is_set()
        counts[0] = before + 1

    def work(number: int) -> None:
        for turn in range(rounds):
            if take == "acquire" and not lock.acquire(timeout=0.0001 if (turn + number) % 3 else 60):
                gave_up[number] += 1
                continue
            if take == "acquire":
                change()
                lock.release()
            elif take == "with":
                with lock:
                    change()
            else:
                with lock.hold(60):
                    change()

    with Threads() as threads:
        for number in range(6):
            threads.start(work, number)
    assert counts[0] == 6 * rounds - sum(gave_up)
    assert not lock.locked()
    assert "count=0" in core.Lock.__repr__(lock)


def test_the_token_of_an_equal_timeout_is_the_same() -> None:
    """Any timeout equal to that of the last token gets that token, in C and in the Python method."""
    lock = TimedLock()
    first = lock.hold(1.0)
    assert lock.hold(1.0) is lock.hold(float("1.0")) is lock.hold(1) is first
    assert lock.hold(2) is not first
    assert lock.hold(2) is lock.hold(2.0)
    assert lock.hold(None) is lock.hold(None)
    with pytest.raises(ValueError, match="nan"):
        lock.hold(float("nan"))
    with pytest.raises(TypeError):
        core.Hold(lock)
    with pytest.raises(TypeError):
        core.Hold(pure().TimedLock(), 1.0)
    with pytest.raises(TypeError):
        lock._token = "no token"  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        del lock._ways


def test_a_lock_and_its_token_go_together() -> None:
    """A lock and its token are in a reference cycle, which the garbage collector finds whichever was kept."""

    def use() -> list[weakref.ref[TimedLock]]:
        locks = [TimedLock(), TimedRLock()]
        for lock in locks:
            with lock.hold(1.0):
                pass
        return [weakref.ref(lock) for lock in locks]

    token = TimedLock().hold(1.0)
    gone = use()
    gc.collect()
    assert [each() for each in gone] == [None, None]
    with token as lock:
        assert lock.held_by_me()


SWEEPS = """
import sys
from syncprims import TimedLock, TimedRLock, compiled
from syncprims.testing import interrupts

assert compiled

def by_with(lock):
    with lock:
        pass

def by_hold(lock):
    with lock.hold(1.0):
        pass

def left(lock):
    return "left taken" if lock.locked() else None

def sweep():
    for kind in (TimedLock, TimedRLock):
        for scenario in (by_with, by_hold):
            for mode in ("warm", "cold storm", "worker"):
                interrupts(kind, scenario, left, mode=mode).check()

if len(sys.argv) > 1:
    class Hooked(TimedLock):
        def _on_acquired(self, waited):
            pass
sweep()
print(type(vars(TimedLock)["__enter__"]).__name__)
"""


@pytest.mark.untraceable
@pytest.mark.parametrize("subclassed", [False, True])
def test_an_interrupt_leaves_nothing_taken_by_either_way_in(subclassed: bool) -> None:
    """Before and after a subclass needs Python's `__enter__`, no point of a `with` or a `hold` leaves it acquired."""
    ran = subprocess.run(
        [sys.executable, "-c", SWEEPS, *["subclassed"] * subclassed],
        env=environment(without=["SYNCPRIMS_PURE"]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    way = "function" if sys.version_info[:2] == (3, 14) else "Entrance" if subclassed else "method_descriptor"
    assert (ran.stdout, ran.stderr) == (f"{way}\n", "")
