"""Without memory or stack, entering fails or leaving succeeds: no lock stays acquired, and no code loops."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from operator import call
from typing import Any, Final, Self, cast

import pytest

from syncprims import LockAdapter, OrderedRunner, TimedLock, TimedRLock, TimedRWLock, TimedSemaphore, acquire_all
from syncprims._runner.sequence import go_on

pytestmark = pytest.mark.untraceable

State = Callable[[], object]
Case = tuple[AbstractContextManager[Any], State]


class PythonLock:
    """A lock whose ``acquire`` and ``release`` are Python functions, as for one on a server."""

    def __init__(self) -> None:
        self.inside = threading.Lock()

    def acquire(self, *, timeout: float = -1) -> bool:
        return self.inside.acquire(timeout=timeout)

    def release(self) -> None:
        self.inside.release()

    def locked(self) -> bool:
        return self.inside.locked()


def timed_lock() -> Case:
    lock = TimedLock()
    return lock, lock.locked


def hold() -> Case:
    lock = TimedLock()
    return lock.hold(1.0), lock.locked


def taken_again() -> Case:
    """Acquire a lock that is held already, if the stack is enough.

    There are not two in one ``with``: on 3.14 a body that fails there may keep any lock, even a bare one. Leaving by an
    exception takes a few more bytes of C's stack than entering, and CPython refuses to call even C's ``__exit__``
    without them.
    """
    lock = TimedRLock()
    lock.acquire()

    def is_taken_too_often() -> bool:
        lock.release()
        return lock.locked()

    return lock, is_taken_too_often


def adapter() -> Case:
    lock = LockAdapter(threading.Lock())
    return lock, lambda: lock.locked() or lock.held_by_me()


def adapter_by_hold() -> Case:
    lock = LockAdapter(threading.Lock())
    return lock.hold(1.0), lambda: lock.locked() or lock.held_by_me()


def adapter_in_python() -> Case:
    lock = LockAdapter(PythonLock())
    return lock, lambda: lock.locked() or lock.held_by_me()


def together() -> Case:
    locks: list[TimedLock | LockAdapter] = [TimedLock(), TimedRLock()]
    return acquire_all(*locks), lambda: any(lock.locked() for lock in locks)


def adapters_together() -> Case:
    locks = [LockAdapter(threading.Lock()), LockAdapter(threading.Lock())]
    return acquire_all(*locks), lambda: any(lock.locked() or lock.held_by_me() for lock in locks)


def adapter_in_python_together() -> Case:
    adapters = [LockAdapter(PythonLock()), LockAdapter(threading.Lock())]
    return acquire_all(*adapters), lambda: any(lock.locked() or lock.held_by_me() for lock in adapters)


def permit() -> Case:
    semaphore = TimedSemaphore(1)
    return semaphore, lambda: semaphore.value != 1


def permit_by_hold() -> Case:
    semaphore = TimedSemaphore(1)
    return semaphore.hold(1.0), lambda: semaphore.value != 1


def reading() -> Case:
    board = TimedRWLock()
    return board.read(), lambda: board.holders


def writing() -> Case:
    board = TimedRWLock()
    return board.write(), lambda: board.holders


def step() -> Case:
    runner = OrderedRunner("a", "b", rounds=None)
    return runner.step("a"), lambda: owned(runner)


def next_step() -> Case:
    """Take a step in a thread that has left one: the same `__exit__` leaves both."""
    runner = OrderedRunner("a", "b", rounds=None)
    with runner.step("a"):
        pass
    return runner.step("b"), lambda: owned(runner)


def owned(runner: OrderedRunner) -> object:
    """Report if this thread seems to be in a step, or other threads would wait forever."""
    if runner._sequence.owner is not None or runner._places[threading.get_ident()].seat.sequence is not None:
        return "a thread is in a step still"
    if runner.state == "broken" and not all(gate.acquire(False) for gate in runner._sequence.gates.values()):
        return "a gate is shut after the end"
    return None


CASES: Final = [
    timed_lock,
    hold,
    taken_again,
    adapter,
    adapter_by_hold,
    adapter_in_python,
    together,
    adapters_together,
    adapter_in_python_together,
    step,
    next_step,
]
each_case = pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
# A list of CPython's asks for memory when it becomes shorter; without it, the removed item stays in the list. Only here
# can a request for a smaller block fail.
of_the_stack = pytest.mark.parametrize(
    "make", [*CASES, permit, permit_by_hold, reading, writing], ids=lambda make: make.__name__
)


# -- the stack --------------------------------------------------------------------------------------------------------


def enter(manager: AbstractContextManager[Any]) -> None:
    with manager:
        pass


def down(depth: int, fn: Callable[[], None]) -> None:
    if depth:
        down(depth - 1, fn)
    else:
        fn()


def down_in_c(depth: int, fn: Callable[[], None]) -> None:
    if depth:
        list(map(down_in_c, (depth - 1,), (fn,)))
    else:
        fn()


def at_every_depth(descend: Callable[[int, Callable[[], None]], None], depths: range, make: Callable[[], Case]) -> None:
    """Enter and leave at each depth, and at one to three calls of C more; some must work and some must fail."""
    outcomes = set()
    for depth in depths:
        for deeper in range(4):
            manager, taken = make()
            reach = partial(enter, manager)
            for _ in range(deeper):
                reach = partial(call, reach)
            try:
                descend(depth, reach)
                outcomes.add("left")
            except RecursionError:
                outcomes.add("refused")
            assert not taken(), f"at {depth} and {deeper}"
    assert outcomes == {"left", "refused"}


@of_the_stack
def test_at_every_depth_near_the_recursion_limit_nothing_stays_taken(make: Callable[[], Case]) -> None:
    """A `with` that has too little stack fails before it has acquired anything, or is left properly."""
    limit = sys.getrecursionlimit()
    here = len_of_stack()
    sys.setrecursionlimit(here + 150)
    try:
        at_every_depth(down, range(100, 151), make)
    finally:
        sys.setrecursionlimit(limit)


def len_of_stack() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has one limit for both kinds of calls")
@of_the_stack
def test_at_every_depth_near_the_end_of_c_s_stack_nothing_stays_taken(make: Callable[[], Case]) -> None:
    """The same with calls through C, which has another limit."""
    run_program(f"import {__name__} as tests; tests.in_c(tests.{make.__name__})")


def run_program(program: str) -> None:
    """Run it, and show its errors if it fails."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def in_c(make: Callable[[], Case]) -> None:
    """The program of the test above, because the limit of Python's own calls can't be lowered again near the other."""
    sys.setrecursionlimit(10**7)
    low, high = 10, 400_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            down_in_c(middle, lambda: None)
            low = middle
        except RecursionError:
            high = middle
    at_every_depth(down_in_c, range(low - 30, low + 2), make)


# -- memory -----------------------------------------------------------------------------------------------------------


# Each runs as its own program: an allocation fails in whichever thread asks for it, and a test runner has threads.


@pytest.mark.parametrize("failing", [1, 2, 5])
@pytest.mark.parametrize("when", ["leave", "enter"])
def test_without_memory_nothing_stays_taken(when: str, failing: int) -> None:
    """Whichever allocations fail, it is entered or nothing was acquired; and it can always be left."""
    module = pytest.importorskip("_testcapi", reason="this Python came without its tests' modules")
    if not hasattr(module, "set_nomemory"):
        pytest.skip("this Python can't let allocations fail")
    run_program(f"import {__name__} as tests; tests.without_memory_to_{when}({failing})")


def without_memory_to_leave(failing: int) -> None:
    """The program of the test above: let so many allocations in a row fail, from the end of the block on."""
    testcapi = import_module("_testcapi")
    for make in CASES:
        failed = 0
        for first in range(40):
            manager, taken = make()
            try:
                with manager:
                    testcapi.set_nomemory(first, first + failing)
            except MemoryError:
                failed += 1
            finally:
                testcapi.remove_mem_hooks()
            assert not taken(), f"{make.__name__}: allocations {first} to {first + failing}"
        # On 3.15 leaving allocates nothing; on the others, leaving a lock with C's own `__exit__` does not.
        assert failed or sys.version_info >= (3, 15) or make in (timed_lock, hold, taken_again), make.__name__


def without_memory_to_enter(failing: int) -> None:
    """The same, from before the block on."""
    testcapi = import_module("_testcapi")
    for make in CASES:
        for first in range(60):
            manager, taken = make()
            try:
                testcapi.set_nomemory(first, first + failing)
                with manager:
                    testcapi.remove_mem_hooks()
            except MemoryError:
                pass
            finally:
                testcapi.remove_mem_hooks()
            assert not taken(), f"{make.__name__}: allocations {first} to {first + failing}"


def test_a_step_that_is_dropped_breaks_the_sequence() -> None:
    """A fault replaces the lack of memory: others get the error, and its cause is not a GeneratorExit."""
    runner = OrderedRunner("a", "b", name="order")
    context = runner.step("a")
    leave = context.__exit__
    context.__enter__()
    del leave
    assert runner.state == "broken"
    assert not owned(runner)
    with pytest.raises(
        RuntimeError, match="'order' was broken in the turn of 'a', which its thread could not leave"
    ) as error:
        runner.step("b").__enter__()
    assert error.value.__cause__ is None


def test_a_recursion_error_does_not_open_gates_forever() -> None:
    """It is a RuntimeError, like the error for an open gate, but would come again and again."""

    class Deep:
        def __iter__(self) -> Self:
            return self

        def __next__(self) -> object:
            self.tries += 1
            assert self.tries < 100
            raise RecursionError

        tries = 0

    with pytest.raises(RecursionError):
        go_on(Deep())


def test_a_nested_step_that_is_refused_leaves_the_outer_one() -> None:
    """An `__exit__` that was looked up inside a step, and is dropped because entering fails, breaks nothing."""
    runner = OrderedRunner("a", "b")
    with runner.step("a"):
        with pytest.raises(RuntimeError), runner.step("b"):
            pytest.fail("a step in a step")
        assert runner.state == "open"
    assert runner.current == "b"


def test_a_condition_gives_its_lock_back_at_every_depth() -> None:
    """Its wait ends with the lock acquired, or did not begin."""
    limit = sys.getrecursionlimit()
    unheld = []

    def wait(lock: TimedLock) -> None:
        condition = threading.Condition(cast(threading.Lock, lock))  # typeshed wants one of threading's own
        with lock:
            try:
                condition.wait(0)
            finally:
                unheld.append(not lock._is_owned())

    sys.setrecursionlimit(len_of_stack() + 150)
    try:
        for depth in range(100, 151):
            lock = TimedLock()
            try:
                down(depth, partial(wait, lock))
            except RecursionError:
                pass
            assert not lock.locked(), depth
    finally:
        sys.setrecursionlimit(limit)
    assert unheld
    assert not any(unheld)
