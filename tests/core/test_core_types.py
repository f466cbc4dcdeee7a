"""The core's classes behave like Python's: in help, copies, weak references, frozen garbage and interpreters."""

from __future__ import annotations

import copy
import gc
import inspect
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from both_forms import needs_the_core, outcome, pure
from programs import environment
from syncprims import AtomicCounter, TimedLock, TimedRLock
from syncprims._locks.hold import Hold

pytestmark = needs_the_core

KINDS: dict[str, Callable[[Any], Any]] = {
    "counter": lambda form: form.AtomicCounter(3, name="it"),
    "lock": lambda form: form.TimedLock(1.0, name="it"),
    "rlock": lambda form: form.TimedRLock(1.0, name="it"),
    "token": lambda form: form.TimedLock(name="it").hold(1.0),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def both(kind: str) -> tuple[Any, Any]:
    """An object of the core, and one of Python alone; a token of Python is for a lock that is found by its name."""
    ours = KINDS[kind](sys.modules["syncprims"])
    return ours, Hold(TimedLock(name="it"), 1.0) if kind == "token" else KINDS[kind](pure())


def words(text: object) -> str:
    """A text without addresses and without the names of the two forms of one class."""
    without = "".join(part.partition(">")[2] if index else part for index, part in enumerate(str(text).split(" at 0x")))
    return without.replace("LockHold", "Hold")


@each_kind
def test_help_is_the_same(kind: str) -> None:
    """Docstrings, names, parameters with their defaults, and the ``repr`` are those of the Python class."""
    ours, theirs = both(kind)
    assert words(repr(ours)) == words(repr(theirs))
    if kind != "token":  # its two classes have two names
        assert inspect.getdoc(type(ours)) == inspect.getdoc(type(theirs))
        assert str(inspect.signature(type(ours))) == str(inspect.signature(type(theirs)))
    names = [name for name in dir(type(theirs)) if not name.startswith("_")]
    assert names == [name for name in dir(type(ours)) if not name.startswith("_")]
    for name in [*names, "__enter__"] if kind != "counter" else names:
        one, other = (inspect.getattr_static(type(each), name) for each in (ours, theirs))
        if name == ("timeout" if kind == "token" else "release"):
            continue  # a slot in Python and a member in C; or, in Python alone, CPython's own method
        found = [inspect.getdoc(getattr(type(each), name)) for each in (ours, theirs)]
        assert found[0] == found[1], name
        if callable(other):
            shapes = [
                [(each.name, each.default) for each in inspect.signature(getattr(type(of), name)).parameters.values()]
                for of in (ours, theirs)
            ]
            assert shapes[0] == shapes[1], name
            assert inspect.isroutine(one)
            assert getattr(type(ours), name).__name__ == name


@pytest.mark.parametrize("kind", ["lock", "rlock", "token"])
def test_leaving_has_a_signature(kind: str) -> None:
    """In the class and bound; CPython's own lock has one since 3.13."""
    ours = KINDS[kind](sys.modules["syncprims"])
    assert str(inspect.signature(type(ours).__exit__)) == "(self, /, *exc_info)"
    assert str(inspect.signature(ours.__exit__)) == "(*exc_info)"
    assert inspect.getdoc(type(ours).__exit__) == "Release the lock."


def test_what_is_found_in_the_class_can_be_called() -> None:
    """So a mock that is made after the class's own `__enter__` can be called, too."""
    entering = TimedLock.__dict__["__enter__"]
    lock = TimedLock()
    assert entering(lock) is lock
    assert lock.locked()
    lock.release()
    with mock.patch.object(TimedLock, "__enter__", autospec=True) as replaced:
        TimedLock().__enter__()
    assert replaced.call_count == 1
    assert TimedLock.__dict__["__enter__"] is entering


@each_kind
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_refused_in_the_same_words(kind: str, protocol: int) -> None:
    """No state of the core gets into a pickle or a copy."""
    came = [words(outcome(pickle.dumps, each, protocol)) for each in both(kind)]
    assert came[0] == came[1]
    assert came[0].startswith("('TypeError', ")
    came = [words(outcome(copy.deepcopy, each)) for each in both(kind)]
    assert came[0] == came[1]


def test_a_copied_token_is_another_one_of_the_same_lock() -> None:
    """A token of Python alone behaves the same."""
    lock = TimedLock()
    again = copy.copy(lock.hold(1.0))
    assert again is not lock.hold(1.0)
    with again as entered:
        assert entered is lock


@each_kind
def test_weak_references_and_attributes_are_as_in_python(kind: str) -> None:
    """A weak reference's callback is called when it goes; it has no attributes of its own, but a subclass has."""
    ours, theirs = both(kind)
    assert [outcome(setattr, each, "anything", 1)[0] for each in (ours, theirs)] == ["AttributeError"] * 2
    can = [outcome(weakref.ref, each)[0] for each in (ours, theirs)]
    assert (can[0] == "TypeError") == (can[1] == "TypeError")
    if can[0] != "TypeError":

        class Mine(type(ours)):  # type: ignore[misc]  # the base is known only at run time
            pass

        gone: list[object] = []
        mine = Mine()
        mine.anything = mine
        reference = weakref.ref(mine, gone.append)
        del mine
        gc.collect()
        assert gone == [reference]


def test_frozen_garbage_is_left_alone_and_used() -> None:
    """Objects of the core that `gc.freeze` hides from the collector work, and go away after `gc.unfreeze`."""
    lock, again, counter = TimedLock(), TimedRLock(), AtomicCounter()
    tokens = [lock.hold(1.0), again.hold(1.0)]
    gone: list[weakref.ref[Any]] = [weakref.ref(lock), weakref.ref(again), weakref.ref(counter)]
    gc.collect()
    gc.freeze()
    try:
        for token in tokens:
            with token:
                counter.increment()
        assert counter.value == 2
        assert lock.hold(1.0) is tokens[0]
        del lock, again, counter, tokens, token
        gc.collect()
    finally:
        gc.unfreeze()
    gc.collect()
    assert [each() for each in gone] == [None] * 3


IN_ANOTHER = """
import sys, threading
sys.path[:0] = PATH
from syncprims import AtomicCounter, TimedLock, TimedRLock, compiled
from syncprims._core.speedups import core
from syncprims.watch.observed import ObservedLock, factory_of

assert compiled
lock, again, counter, observed = TimedLock(), TimedRLock(), AtomicCounter(2**61 - 3), factory_of(ObservedLock)()
class Above(TimedLock):
    def __enter__(self):
        return super().__enter__()
above = Above()

def work():
    for _ in range(200):
        with lock, observed, again.hold(30.0), again, above:
            counter.increment()

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert counter.value == 2**61 - 3 + 600, counter.value
assert not lock.locked() and not observed.locked()
try:
    lock.release()
except RuntimeError:
    pass
else:
    raise AssertionError
"""

INTERPRETERS = """
import sys, threading
import syncprims
from syncprims import AtomicCounter, TimedLock

script = sys.stdin.read()
try:
    import _interpreters as interpreters
    makes = [("isolated",), ("legacy",)]
    def make(kind):
        return interpreters.create(kind)
    def run(number):
        failed = interpreters.exec(number, script)
        assert failed is None, failed.formatted if hasattr(failed, "formatted") else failed
except ImportError:
    import _xxsubinterpreters as interpreters
    makes = [(True,), (False,)]
    def make(isolated):
        return interpreters.create(isolated=isolated)
    def run(number):
        interpreters.run_string(number, script)

lock, counter = TimedLock(), AtomicCounter()
for turn in range(2):
    made = [make(*kind) for kind in makes]
    if sys.version_info < (3, 12):
        made = made[1:]  # an isolated one has no threads there
    failures = []
    def go(number):
        try:
            run(number)
        except BaseException as error:
            failures.append(repr(error))
    if sys.version_info < (3, 13):
        # Their end waits forever there, with Python alone as well, if another thread has run them.
        for number in made:
            go(number)
        threads = []
    else:
        threads = [threading.Thread(target=go, args=(number,)) for number in made]
    for thread in threads:
        thread.start()
    with lock.hold(1.0):
        counter.increment()
    for thread in threads:
        thread.join(120)
    assert not failures, failures
    for number in made:
        interpreters.destroy(number)
    with lock:
        counter.increment()
assert counter.value == 4
print("done")
"""


@pytest.mark.untraceable
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it has no such interpreters")
def test_each_interpreter_has_a_core_of_its_own() -> None:
    """Subinterpreters, from 3.12 on even with a GIL of their own, use the core at the same time, and end."""
    env = environment()
    script = IN_ANOTHER.replace("PATH", repr(env["PYTHONPATH"].split(os.pathsep)))
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETERS],
        input=script,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr
